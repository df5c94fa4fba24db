"""With what is paid: the devices, addresses, cards and e-mails of the simulator, shared and not.

What is shared means little by itself. Homes share an address, a tablet and now and then a card;
offices have an address for all; carriers put hundreds of customers behind one (Richter et al.
2016, IMC, "A multi-perspective analysis of carrier-grade NAT deployment"), and an address lasts
days to months (Padmanabhan et al. 2016, IMC, "Reasons dynamic addresses change"). Browsers that
are cleared look like new devices (Eckersley 2010, PETS, "How unique is your web browser?"). Thieves
reuse what they have over many victims, which links of devices and cards bring out (Van Vlasselaer
et al. 2015, Decision Support Systems 75:38; Xie et al. 2007, SIGCOMM, on rotating addresses).

A code is a number of 64 bits, by whose owner it is: the same owner in the same period has the same
code, so that no table of them is kept.

Axes: N transactions, A accounts, E episodes of thieves.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from app.simulator.accounts import Accounts
from app.simulator.countries import Floats, Ints

# Accounts behind one address of a mobile carrier.
CARRIER_CUSTOMERS = 300
_KIND = 1 << 44
_OWN, _HOUSEHOLD, _CLEARED, _CARRIER, _OFFICE, _PUBLIC, _THIEF = (_KIND * kind for kind in range(7))


class Entities(NamedTuple):
    """Codes of N transactions' devices, addresses, cards and e-mails."""

    device_N: Ints
    address_N: Ints
    card_N: Ints
    email_N: Ints

    def where(self, chosen_N: NDArray[np.bool_], other: Self) -> Self:
        return type(self)(*(np.where(chosen_N, a, b) for a, b in zip(self, other, strict=True)))


def own_entities(
    rng: np.random.Generator, accounts: Accounts, account_N: Ints, second_N: Ints
) -> Entities:
    """What the holder pays with; now and then a household's."""
    day_N = second_N / 86_400
    household_N = accounts.household_A[account_N]
    lives_alone_N = np.bincount(accounts.household_A, minlength=len(accounts))[household_N] < 2

    renewed_N = day_N >= accounts.new_device_on_A[account_N]
    way_N = rng.random(len(account_N))
    shared_N = ~lives_alone_N & (way_N > 0.88)
    cleared = _CLEARED + account_N * 512 + (day_N // 12).astype(np.int64)
    device_N = np.select(
        [way_N < 0.05, shared_N],
        [cleared, _HOUSEHOLD + household_N],
        _OWN + account_N * 2 + renewed_N,
    )

    has_second_N = share_of(account_N, 3) < 0.3
    uses_second_N = has_second_N & (rng.random(len(account_N)) < 0.25)
    leads_card_N = ~lives_alone_N & (share_of(account_N, 5) < 0.4)
    leads_card_N &= rng.random(len(account_N)) < 0.2
    bearer_N = np.where(leads_card_N, household_N, account_N)
    lasts_N = accounts.card_years_A[bearer_N] * 365
    issue_N = np.floor(day_N / lasts_N + share_of(bearer_N, 7)).astype(np.int64)
    card_N = _OWN + bearer_N * 512 + issue_N * 2 + (uses_second_N & ~leads_card_N)

    second_mail_N = (share_of(account_N, 11) < 0.06) & (rng.random(len(account_N)) < 0.3)
    return Entities(
        device_N,
        _own_addresses(rng, accounts, account_N, day_N),
        card_N,
        _OWN + account_N * 2 + second_mail_N,
    )


def _own_addresses(
    rng: np.random.Generator, accounts: Accounts, account_N: Ints, day_N: Floats
) -> Ints:
    """At home more than half of the time, else a carrier's, an office's or a public one."""
    home_N = accounts.home_A[account_N]
    household_N = accounts.household_A[account_N]
    lease_N = 10 + 190 * share_of(household_N, 13)
    at_home_N = _OWN + household_N * 512 + (day_N / lease_N).astype(np.int64)
    office_N = home_N * 10_000 + accounts.office_A[account_N]
    lets_N = 30 + 370 * share_of(office_N, 29)
    at_work_N = _OFFICE + office_N * 512 + (day_N / lets_N).astype(np.int64)
    customers_L = np.bincount(accounts.home_A[: accounts.holders])
    gateways_L = 1 + customers_L // CARRIER_CUSTOMERS
    gateways_L = np.pad(
        gateways_L, (0, max(0, int(accounts.home_A.max()) + 1 - len(gateways_L))), constant_values=1
    )
    gateway_N = (rng.random(len(account_N)) * gateways_L[home_N]).astype(np.int64)
    gateway_N = home_N * 10_000 + gateway_N
    lends_N = 5 + 55 * share_of(gateway_N, 31)
    by_carrier_N = _CARRIER + gateway_N * 512 + (day_N / lends_N).astype(np.int64)
    way_N = rng.random(len(account_N))
    return np.select(
        [way_N < 0.3, (way_N < 0.4) & (accounts.office_A[account_N] >= 0), way_N > 0.95],
        [
            by_carrier_N,
            at_work_N,
            _PUBLIC + home_N * 10_000 + rng.integers(0, 300, len(account_N)),
        ],
        at_home_N,
    )


def thieves_codes(rng: np.random.Generator, count: int) -> Ints:
    """New devices, addresses or cards that nobody had before."""
    return _THIEF + rng.integers(0, _KIND, count)


def shared_codes(rng: np.random.Generator, count: int, users: float) -> Ints:
    """New codes of `count` episodes, `users` of which share one on average."""
    code_X = thieves_codes(rng, max(1, round(count / users)))
    return code_X[rng.integers(0, len(code_X), count)]


def device_ages(accounts: Accounts, account_N: Ints, device_N: Ints, second_N: Ints) -> Floats:
    """Days since the account first used the device, before the file for its first device."""
    pair_N2 = np.stack([account_N, device_N], axis=1)
    order_N = np.lexsort((second_N, device_N, account_N))
    sorted_N2 = pair_N2[order_N]
    begins_N = np.ones(len(order_N), dtype=np.bool_)
    begins_N[1:] = (sorted_N2[1:] != sorted_N2[:-1]).any(axis=1)
    first_N = second_N[order_N][begins_N][np.cumsum(begins_N) - 1]
    since_N = np.empty(len(order_N))
    since_N[order_N] = first_N / 86_400
    is_first_device_N = device_N == _OWN + account_N * 2
    before_N = np.where(is_first_device_N, accounts.device_since_A[account_N], np.inf)
    return second_N / 86_400 - np.minimum(since_N, before_N)


def texts(codes_N: Ints, form: str) -> NDArray[np.str_]:
    """Codes as a device, address, card or e-mail is spelled, by `form`, one of _SPELLINGS."""
    distinct_X, position_N = np.unique(codes_N, return_inverse=True)
    with np.errstate(over="ignore"):
        mixed_X = distinct_X.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    spell = _SPELLINGS[form]
    return np.array([spell(int(code)) for code in mixed_X], dtype=np.str_)[position_N]


_SPELLINGS: dict[str, Callable[[int], str]] = {
    "device": lambda code: f"d{code >> 8:014x}",
    "card": lambda code: f"c{code >> 8:014x}",
    "email": lambda code: f"{code >> 8:014x}@example.com",
    "address": lambda code: (
        f"{1 + (code >> 56) % 223}.{code >> 48 & 255}.{code >> 40 & 255}.{code >> 32 & 255}"
    ),
}


def share_of(owner_N: Ints, salt: int) -> Floats:
    """A number from 0 to 1 that is always the same for an owner."""
    with np.errstate(over="ignore"):
        mixed_N = owner_N.astype(np.uint64) + np.uint64(salt * 7919)
        mixed_N *= np.uint64(0xBF58476D1CE4E5B9)
        mixed_N ^= mixed_N >> np.uint64(31)
        mixed_N *= np.uint64(0x94D049BB133111EB)
    return (mixed_N >> np.uint64(11)) / float(1 << 53)

"""N transactions of the simulator, and what every transaction needs: a moment, an amount, a place.

Axes: N transactions, A accounts, K markets.
"""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.simulator.accounts import Accounts
from app.simulator.countries import Floats, Ints, distances_km_LL
from app.simulator.entities import Entities, own_entities
from app.simulator.merchants import IN_PERSON_K, MARKETS, Merchants

DAY_SECONDS = 86_400
GENUINE = 0
STATUSES = ("authorised", "declined", "reversed", "refunded")
AUTHORISED, DECLINED, REVERSED, REFUNDED = range(4)
MEDIAN_K = np.array([market.median for market in MARKETS])
SIGMA_K = np.array([market.sigma for market in MARKETS])


@dataclass(frozen=True)
class World:
    """Everything that is decided before the first transaction."""

    accounts: Accounts
    merchants: Merchants
    start: datetime
    days: int


@dataclass(frozen=True)
class Events:
    """N transactions. `second_N` counts from the start; `kind_N` is GENUINE or a fraud kind.

    Amounts are in euros. Every transaction has a device and an address, though they are written
    only where there is one.
    """

    account_N: Ints
    second_N: Ints
    merchant_N: Ints
    amount_N: Floats
    distance_km_N: Floats  # NaN where the card was not present.
    device_N: Ints
    address_N: Ints
    card_N: Ints
    email_N: Ints
    kind_N: Ints
    status_N: Ints
    is_refund_N: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.account_N)

    def take(self, rows: Ints | NDArray[np.bool_]) -> Self:
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))

    @classmethod
    def concatenate(cls, parts: list["Events"]) -> "Events":
        names = [part.name for part in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def charges(
    rng: np.random.Generator,
    world: World,
    account_N: Ints,
    second_N: Ints,
    merchant_N: Ints,
    amount_N: Floats,
    kind: int = GENUINE,
    payer_N: Ints | None = None,
    entities: Entities | None = None,
    declined: float | Floats = 0.0,
) -> Events:
    """Transactions within the simulated days, by default with what the holder pays with.

    In person `payer_N` goes where that account would near the home; `declined` is the share that
    is declined.
    """
    payer_N = account_N if payer_N is None else payer_N
    if entities is None:
        entities = own_entities(rng, world.accounts, account_N, second_N)
    declined_N = rng.random(len(account_N)) < declined
    return Events(
        account_N=account_N,
        second_N=second_N,
        merchant_N=merchant_N,
        amount_N=amount_N,
        distance_km_N=distances_from_home(rng, world, account_N, payer_N, merchant_N),
        **entities._asdict(),
        kind_N=np.full(len(account_N), kind),
        status_N=np.where(declined_N, DECLINED, AUTHORISED),
        is_refund_N=np.zeros(len(account_N), dtype=np.bool_),
    ).take((second_N >= 0) & (second_N < world.days * DAY_SECONDS))


def seconds_of_day(rng: np.random.Generator, accounts: Accounts, account_N: Ints) -> Ints:
    """A moment of the day by the hours of each row's account."""
    peak_N = accounts.hour_A2[account_N, (rng.random(len(account_N)) < 0.4).astype(np.int64)]
    angle_N = rng.vonmises(0, accounts.hour_focus_A[account_N])
    hour_N = (peak_N + angle_N * 12 / np.pi) % 24
    return np.minimum((hour_N * 3600).astype(np.int64), DAY_SECONDS - 1)


def ordinary_amounts(
    rng: np.random.Generator, world: World, account_N: Ints, merchant_N: Ints
) -> Floats:
    """What each row's account would usually spend at the row's merchant."""
    market_N = world.merchants.market_M[merchant_N]
    accounts = world.accounts
    spread_N = SIGMA_K[market_N] * accounts.amount_spread_A[account_N]
    price_N = MEDIAN_K[market_N] * world.merchants.price_M[merchant_N]
    return price_N * accounts.amount_level_A[account_N] * rng.lognormal(0, spread_N)


def distances_from_home(
    rng: np.random.Generator, world: World, account_N: Ints, payer_N: Ints, merchant_N: Ints
) -> Floats:
    """From the home of the account to where its card is shown, by whoever pays with it."""
    home_N = world.accounts.home_A[account_N]
    country_N = world.merchants.country_M[merchant_N]
    local_N = world.accounts.radius_km_A[payer_N] * rng.lognormal(0, 1, len(account_N))
    abroad_N = distances_km_LL()[home_N, country_N] * rng.uniform(0.85, 1.15, len(account_N))
    in_person_N = IN_PERSON_K[world.merchants.market_M[merchant_N]]
    return np.where(in_person_N, np.where(home_N == country_N, local_N, abroad_N), np.nan)


def log_uniform(rng: np.random.Generator, low: float, high: float, count: int) -> Floats:
    return np.exp(rng.uniform(np.log(low), np.log(high), count))

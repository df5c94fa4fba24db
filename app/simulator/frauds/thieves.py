"""Whom thieves choose, and with what they pay.

Axes: N transactions, E episodes, A accounts.
"""

import numpy as np

from app.simulator.accounts import GROUPS, Accounts
from app.simulator.countries import CURRENCY_L, Ints
from app.simulator.entities import (
    Entities,
    own_entities,
    share_of,
    shared_codes,
    thieves_codes,
)
from app.simulator.events import Events, World
from app.simulator.merchants import CATEGORY_K, ONLINE_K, pick

KINDS = (
    "genuine",
    "takeover",
    "card_testing",
    "merchant_compromise",
    "large_amount",
    "impossible_travel",
    "burst",
    "enumeration",
    "account_farm",
    "return",
)
(
    TAKEOVER,
    CARD_TESTING,
    MERCHANT_COMPROMISE,
    LARGE_AMOUNT,
    IMPOSSIBLE_TRAVEL,
    BURST,
    ENUMERATION,
    ACCOUNT_FARM,
    RETURN,
) = range(1, len(KINDS))

RESALE_K = np.isin(CATEGORY_K, ("electronics", "gift_card", "jewellery", "travel", "marketplace"))
TESTED_K = np.isin(CATEGORY_K, ("gaming", "digital_goods")) & ONLINE_K
# Of episodes: the thief pays on the holder's own device (malware, remote access).
ON_OWN_DEVICE = 0.4
# Of those on a thief's device: each payment by another address (proxies), or one like the holder's.
BY_MANY_ADDRESSES = 0.25
BY_A_NEAR_ADDRESS = 0.15


def victims(rng: np.random.Generator, world: World, genuine: Events, count: int) -> Ints:
    """Accounts with spending, the more exposed the more they spend, but less than in proportion.

    Beyond that holders differ in how careful they are, and a few have most of the trouble: past
    victims are the likeliest next ones (Farrell & Pease 1993, Home Office Crime Prevention Unit
    paper 46). The square of an exponential is a choice: a tenth of the holders have half of it.
    """
    accounts = world.accounts
    exposure_A = np.sqrt(np.bincount(genuine.account_N, minlength=len(accounts)))
    care_A = share_of(np.arange(len(accounts)), 23)
    return pick(rng, exposure_A * np.log1p(-care_A) ** 2, count)


def thieves_entities(
    rng: np.random.Generator,
    world: World,
    account_N: Ints,
    second_N: Ints,
    episode_N: Ints,
    users: float = 3,
    on_own_device: float = ON_OWN_DEVICE,
) -> Entities:
    """With what each row's thief pays: the account's card, and mostly a device of the thief.

    A device and an address serve `users` episodes on average.
    """
    episodes = int(episode_N.max(initial=-1)) + 1
    own = own_entities(rng, world.accounts, account_N, second_N)
    way_E = rng.random(episodes)
    many_E = way_E < BY_MANY_ADDRESSES
    near_E = ~many_E & (way_E < BY_MANY_ADDRESSES + BY_A_NEAR_ADDRESS)
    address_N = shared_codes(rng, episodes, users)[episode_N]
    address_N = np.where(many_E[episode_N], thieves_codes(rng, len(episode_N)), address_N)
    theirs = Entities(
        device_N=shared_codes(rng, episodes, users)[episode_N],
        address_N=np.where(near_E[episode_N], own.address_N, address_N),
        card_N=own.card_N,
        email_N=own.email_N,
    )
    return own.where((rng.random(episodes) < on_own_device)[episode_N], theirs)


def sizes(
    rng: np.random.Generator, target: int, least: int, most: int, limit: int | None = None
) -> Ints:
    """Sizes of episodes, log-uniform, that come to about `target` rows, and one at least.

    All of them together are not above `limit`.
    """
    total = target if limit is None else min(target, limit)
    size_E = np.exp(rng.uniform(np.log(least), np.log(most + 1), 1 + total // least))
    size_E = size_E.astype(np.int64)
    size_E = size_E[np.cumsum(size_E) <= total]
    rest = total - int(size_E.sum())
    if rest >= least or not len(size_E):
        size_E = np.append(size_E, np.clip(rest, least, most))
    return size_E


def opened_accounts(
    rng: np.random.Generator, accounts: Accounts, size_E: Ints, part: int
) -> tuple[Ints, Ints]:
    """Accounts that thieves open, `size_E` for each episode, and the episode of each.

    Those of an episode are customers of one platform in one country, which are set here: nobody
    else has these accounts. `part` 0 is the first half of them, 1 the second.
    """
    first = accounts.holders + part * opened_limit(accounts)
    episode_A = np.repeat(np.arange(len(size_E)), size_E)
    account_A = first + np.arange(len(episode_A))
    home_E = accounts.home_A[rng.integers(0, accounts.holders, len(size_E))]
    accounts.home_A[account_A] = home_E[episode_A]
    accounts.currency_A[account_A] = CURRENCY_L[home_E][episode_A]
    accounts.group_A[account_A] = rng.integers(0, GROUPS, len(size_E))[episode_A]
    return account_A, episode_A


def opened_limit(accounts: Accounts) -> int:
    """How many accounts can be opened for each of two kinds of fraud."""
    return (len(accounts) - accounts.holders) // 2

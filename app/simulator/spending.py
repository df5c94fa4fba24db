"""What the accounts themselves do: every legitimate transaction of the simulator.

Several habits look like fraud and are not, so that an alarm can be false: holidays, salary days,
a new phone or a cleared browser, a rare large purchase, a house move, and bursts of small game
payments.

Axes: N transactions, A accounts, D days, T trips, B bursts, S subscriptions.
"""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Self

import numpy as np

from app.simulator.accounts import FAVOURITES, Accounts
from app.simulator.merchants import (
    CASH,
    CATEGORY_K,
    IN_PERSON_K,
    MARKETS,
    ONLINE_K,
    SUBSCRIPTION,
    Floats,
    Ints,
    Merchants,
    distances_km_LL,
    pick,
    pick_by_row,
)

FLIGHT_KMH = 700
AIRPORT_HOURS = 3
DAY_SECONDS = 86_400
GENUINE = 0
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
    """N transactions. `second_N` counts from the start; `kind_N` is GENUINE or a fraud kind."""

    account_N: Ints
    second_N: Ints
    merchant_N: Ints
    amount_N: Floats
    distance_km_N: Floats  # NaN where the card was not present.
    device_age_days_N: Floats  # NaN where no device was used.
    kind_N: Ints

    def __len__(self) -> int:
        return len(self.account_N)

    def take(self, rows: Ints | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Self:
        return type(self)(*(getattr(self, part.name)[rows] for part in fields(self)))

    @classmethod
    def concatenate(cls, parts: list["Events"]) -> "Events":
        names = [part.name for part in fields(cls)]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def spend(rng: np.random.Generator, world: World) -> Events:
    """All legitimate transactions, in no particular order."""
    purchases = _follow_trips(rng, world, *_purchases(rng, world))
    account_N, second_N, merchant_N = purchases
    amount_N = _amounts(rng, world, account_N, second_N, merchant_N)
    parts = [(account_N, second_N, merchant_N, amount_N)]
    parts.append(_bursts(rng, world, account_N, second_N, merchant_N))
    parts.append(_subscriptions(rng, world))
    account_N, second_N, merchant_N = (
        np.concatenate([part[i] for part in parts]).astype(np.int64) for i in range(3)
    )
    amount_N = np.concatenate([part[3] for part in parts])
    return Events(
        account_N=account_N,
        second_N=second_N,
        merchant_N=merchant_N,
        amount_N=amount_N,
        distance_km_N=distances_from_home(rng, world, account_N, account_N, merchant_N),
        device_age_days_N=own_device_age(rng, world, account_N, second_N, merchant_N),
        kind_N=np.full(len(account_N), GENUINE),
    ).take(second_N < world.days * DAY_SECONDS)


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


def own_device_age(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> Floats:
    """Days since the holder's device was first seen; now and then it looks new and is not."""
    day_N = second_N / DAY_SECONDS
    renewed_N = world.accounts.new_device_on_A[account_N]
    since_N = np.where(day_N < renewed_N, world.accounts.device_since_A[account_N], renewed_N)
    cleared_N = rng.random(len(account_N)) < 0.06
    age_N = np.where(cleared_N, rng.exponential(3, len(account_N)), day_N - since_N)
    return np.where(ONLINE_K[world.merchants.market_M[merchant_N]], age_N, np.nan)


def _purchases(rng: np.random.Generator, world: World) -> tuple[Ints, Ints, Ints]:
    accounts, merchants = world.accounts, world.merchants
    account_N, day_N = _purchase_days(rng, world)
    second_N = day_N * DAY_SECONDS + seconds_of_day(rng, accounts, account_N)
    moved_N = (day_N >= accounts.moves_on_A[account_N]).astype(np.int64)
    rank_N = pick(rng, 1 / np.arange(1.0, FAVOURITES + 1), len(account_N))
    merchant_N = accounts.favourite_A2F[account_N, moved_N, rank_N]

    explorer_X = np.flatnonzero(rng.random(len(account_N)) < accounts.explore_A[account_N])
    market_X = pick_by_row(rng, accounts.market_share_AK[account_N[explorer_X]])
    country_X = accounts.home_A[account_N[explorer_X]]
    abroad_X = ONLINE_K[market_X] & (
        rng.random(len(explorer_X)) < 3 * accounts.abroad_online_A[account_N[explorer_X]]
    )
    foreign_X = rng.integers(0, merchants.country_M.max() + 1, len(explorer_X))
    country_X = np.where(abroad_X, foreign_X, country_X)
    merchant_N[explorer_X] = merchants.pick(rng, country_X, market_X)
    return account_N, second_N, merchant_N


def _purchase_days(rng: np.random.Generator, world: World) -> tuple[Ints, Ints]:
    accounts = world.accounts
    dates = [world.start + timedelta(days=day) for day in range(world.days)]
    month_day_D = np.array([date.day for date in dates])
    weekend_D = np.array([date.weekday() >= 5 for date in dates])
    rate_AD = accounts.daily_rate_A[:, None] * np.where(weekend_D, accounts.weekend_A[:, None], 1.0)
    since_payday_AD = (month_day_D - accounts.payday_A[:, None]) % 31
    rate_AD *= np.where(since_payday_AD < 3, 1.5, 1.0)
    # Days of an account differ more than a Poisson law allows: purchases come in bouts.
    rate_AD *= rng.gamma(2, 0.5, rate_AD.shape)
    account_N, day_N = np.nonzero(rate_AD >= 0)
    count_N = rng.poisson(rate_AD).ravel()
    return np.repeat(account_N, count_N), np.repeat(day_N, count_N)


def _follow_trips(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> tuple[Ints, Ints, Ints]:
    """Purchases in person happen where the holder is, and not while the holder flies."""
    accounts, merchants = world.accounts, world.merchants
    day_N1 = second_N[:, None] / DAY_SECONDS
    flight_AT = (
        AIRPORT_HOURS
        + distances_km_LL()[accounts.home_A[:, None], accounts.trip_country_AT] / FLIGHT_KMH
    ) / 24
    start_NT, end_NT = accounts.trip_start_AT[account_N], accounts.trip_end_AT[account_N]
    flight_NT = flight_AT[account_N]
    away_NT = (start_NT <= day_N1) & (day_N1 < end_NT)
    flying_N = (
        (away_NT & (day_N1 < start_NT + flight_NT))
        | ((end_NT <= day_N1) & (day_N1 < end_NT + flight_NT))
    ).any(axis=1)
    in_person_N = IN_PERSON_K[merchants.market_M[merchant_N]]
    away_X = np.flatnonzero(away_NT.any(axis=1) & in_person_N)
    trip_X = away_NT[away_X].argmax(axis=1)
    merchant_N = merchant_N.copy()
    merchant_N[away_X] = merchants.pick(
        rng,
        accounts.trip_country_AT[account_N[away_X], trip_X],
        merchants.market_M[merchant_N[away_X]],
    )
    kept_N = ~(flying_N & in_person_N)
    return account_N[kept_N], second_N[kept_N], merchant_N[kept_N]


def _amounts(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> Floats:
    amount_N = ordinary_amounts(rng, world, account_N, merchant_N)
    cash_N = world.merchants.market_M[merchant_N] == CASH
    rare_N = (rng.random(len(account_N)) < 0.003) & ~cash_N
    amount_N[rare_N] *= rng.uniform(4, 15, int(rare_N.sum()))
    amount_N[cash_N] = np.maximum(10, np.round(amount_N[cash_N], -1))
    return amount_N


def _bursts(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> tuple[Ints, Ints, Ints, Floats]:
    category_N = CATEGORY_K[world.merchants.market_M[merchant_N]]
    small_N = np.isin(category_N, ("gaming", "digital_goods"))
    begins_N = small_N & (rng.random(len(account_N)) < world.accounts.burst_share_A[account_N])
    begin_B = np.repeat(np.flatnonzero(begins_N), rng.integers(2, 8, int(begins_N.sum())))
    later_B = rng.integers(20, 1800, len(begin_B))
    amount_B = rng.choice([0.99, 1.99, 2.99, 4.99, 9.99], len(begin_B))
    return account_N[begin_B], second_N[begin_B] + later_B, merchant_N[begin_B], amount_B


def _subscriptions(rng: np.random.Generator, world: World) -> tuple[Ints, Ints, Ints, Floats]:
    accounts = world.accounts
    account_S = np.repeat(np.arange(len(accounts)), rng.binomial(4, 0.4, len(accounts)))
    merchant_S = world.merchants.pick(
        rng, accounts.home_A[account_S], np.full(len(account_S), SUBSCRIPTION)
    )
    amount_S = np.floor(MEDIAN_K[SUBSCRIPTION] * rng.lognormal(0, 0.5, len(account_S))) + 0.99
    first_S = rng.integers(0, 30 * DAY_SECONDS, len(account_S))
    months = np.arange(0, world.days, 30) * DAY_SECONDS
    second_S = (first_S[:, None] + months).ravel()
    row_S = np.repeat(np.arange(len(account_S)), len(months))
    return account_S[row_S], second_S, merchant_S[row_S], amount_S[row_S]

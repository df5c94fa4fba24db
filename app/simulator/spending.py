"""What the accounts themselves buy: the everyday part of the simulator.

Several habits look like fraud and are not, so that an alarm can be false: holidays, salary days,
a new phone or a cleared browser, rare large purchases, a house move, bursts of small game
payments, and what `occasions` adds.

Axes: N transactions, A accounts, D days, T trips, B bursts, S subscriptions.
"""

from datetime import timedelta

import numpy as np

from app.simulator.accounts import FAVOURITES
from app.simulator.countries import Floats, Ints
from app.simulator.events import (
    DAY_SECONDS,
    MEDIAN_K,
    Events,
    World,
    charges,
    log_uniform,
    ordinary_amounts,
    seconds_of_day,
)
from app.simulator.merchants import (
    CASH,
    CATEGORY_K,
    IN_PERSON_K,
    ONLINE_K,
    SUBSCRIPTION,
    pick,
    pick_by_row,
)
from app.simulator.occasions import flights_days, occasions

# Cars, holidays, deposits: log-uniform between these multiples of the usual amount. Sums
# in an economy have long tails (Gabaix 2016, Journal of Economic Perspectives 30:185); the share
# and the ends are choices.
EXCEPTIONAL_SHARE = 0.0003
EXCEPTIONAL = (15, 150)


def spend(rng: np.random.Generator, world: World) -> Events:
    """All that holders buy, in no particular order."""
    purchases = _follow_trips(rng, world, *_purchases(rng, world))
    account_N, second_N, merchant_N = purchases
    amount_N = _amounts(rng, world, account_N, merchant_N)
    parts = [(account_N, second_N, merchant_N, amount_N)]
    parts.append(_bursts(rng, world, account_N, second_N, merchant_N))
    parts.append(_subscriptions(rng, world))
    return Events.concatenate(
        [charges(rng, world, *part) for part in parts]
        + occasions(rng, world, account_N, second_N, merchant_N)
    )


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
    rate_AD[np.arange(world.days) < np.floor(accounts.opens_on_A[:, None])] = 0
    account_N, day_N = np.nonzero(rate_AD >= 0)
    count_N = rng.poisson(rate_AD).ravel()
    return np.repeat(account_N, count_N), np.repeat(day_N, count_N)


def _follow_trips(
    rng: np.random.Generator, world: World, account_N: Ints, second_N: Ints, merchant_N: Ints
) -> tuple[Ints, Ints, Ints]:
    """Purchases in person happen where the holder is, and not while the holder flies."""
    accounts, merchants = world.accounts, world.merchants
    day_N1 = second_N[:, None] / DAY_SECONDS
    flight_AT = flights_days(accounts)
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


def _amounts(rng: np.random.Generator, world: World, account_N: Ints, merchant_N: Ints) -> Floats:
    amount_N = ordinary_amounts(rng, world, account_N, merchant_N)
    cash_N = world.merchants.market_M[merchant_N] == CASH
    rare_N = (rng.random(len(account_N)) < 0.003) & ~cash_N
    amount_N[rare_N] *= rng.uniform(4, 15, int(rare_N.sum()))
    exceptional_N = (rng.random(len(account_N)) < EXCEPTIONAL_SHARE) & ~cash_N
    times_X = log_uniform(rng, *EXCEPTIONAL, int(exceptional_N.sum()))
    amount_N[exceptional_N] = world.accounts.typical_amount_A[account_N[exceptional_N]] * times_X
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
    count_A = rng.binomial(4, 0.4, accounts.holders)
    count_A[accounts.daily_rate_A[: accounts.holders] < 0.03] = 0
    account_S = np.repeat(np.arange(accounts.holders), count_A)
    merchant_S = world.merchants.pick(
        rng, accounts.home_A[account_S], np.full(len(account_S), SUBSCRIPTION)
    )
    amount_S = np.floor(MEDIAN_K[SUBSCRIPTION] * rng.lognormal(0, 0.5, len(account_S))) + 0.99
    first_S = rng.integers(0, 30 * DAY_SECONDS, len(account_S))
    months = np.arange(0, world.days, 30) * DAY_SECONDS
    second_S = (first_S[:, None] + months).ravel()
    row_S = np.repeat(np.arange(len(account_S)), len(months))
    open_S = second_S >= accounts.opens_on_A[account_S[row_S]] * DAY_SECONDS
    row_S, second_S = row_S[open_S], second_S[open_S]
    return account_S[row_S], second_S, merchant_S[row_S], amount_S[row_S]

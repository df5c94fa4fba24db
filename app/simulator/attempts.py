"""What becomes of a transaction: declines and retries, reversals, refunds, checks of a card.

A few in a hundred honest payments are declined, most for want of funds or a mistyped number, and
many are tried again at once, which is no attack. Returns are a usual part of trade (Rogers &
Tibben-Lembke 2001, Journal of Business Logistics 22:129), online more than in shops. A card is
checked with a charge of nothing when it is stored. The shares are choices.

Axes: N transactions, X those chosen.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.simulator.entities import share_of
from app.simulator.events import (
    AUTHORISED,
    DAY_SECONDS,
    DECLINED,
    GENUINE,
    REFUNDED,
    REVERSED,
    Events,
    World,
)
from app.simulator.merchants import CASH, ONLINE_K, SUBSCRIPTION, TRANSFER

TYPES = ("payment", "withdrawal", "refund", "verification", "transfer")
PAYMENT, WITHDRAWAL, REFUND, VERIFICATION, TRANSFERRED = range(5)
NO_FUNDS_SHARE = 0.012
MISTYPED_SHARE = 0.008
# A bank's limit for a payment far above the usual.
OVER_LIMIT_SHARE = 0.3
RETRIED_SHARE = 0.6


def settle(rng: np.random.Generator, world: World, genuine: Events) -> Events:
    """The honest transactions with their declines, the retries and the checks of cards."""
    market_N = world.merchants.market_M[genuine.merchant_N]
    short_N = NO_FUNDS_SHARE * 3 * share_of(genuine.account_N, 17) ** 2
    mistyped_N = np.where(ONLINE_K[market_N], MISTYPED_SHARE, 0)
    large_N = genuine.amount_N > 15 * world.accounts.typical_amount_A[genuine.account_N]
    declined_N = rng.random(len(genuine)) < (
        short_N + mistyped_N + np.where(large_N, OVER_LIMIT_SHARE, 0)
    )
    reversed_N = rng.random(len(genuine)) < 0.004
    status_N = np.select([declined_N, reversed_N], [DECLINED, REVERSED], AUTHORISED)
    genuine = replace(genuine, status_N=status_N)
    parts = [genuine, _checks(rng, genuine, ONLINE_K[market_N])]
    failed = genuine.take(declined_N)
    for _ in range(3):
        failed = failed.take(rng.random(len(failed)) < RETRIED_SHARE)
        again_N = rng.random(len(failed)) < 0.3
        failed = replace(
            failed,
            second_N=failed.second_N + rng.integers(10, 120, len(failed)),
            status_N=np.where(again_N, DECLINED, AUTHORISED),
        )
        parts.append(failed)
        failed = failed.take(again_N)
    return _within(world, Events.concatenate(parts))


def refunds(rng: np.random.Generator, world: World, events: Events) -> tuple[Events, Events]:
    """The events with their last status, and the refunds of some, in full or in part.

    They come hours to weeks later. A merchant that finds a fraud itself gives the money back,
    too. A refund has no device, no address and no distance: the merchant makes it.
    """
    market_N = world.merchants.market_M[events.merchant_N]
    share_N = np.where(ONLINE_K[market_N], 0.025, 0.006)
    share_N[events.kind_N != GENUINE] = 0.06
    share_N[np.isin(market_N, (CASH, TRANSFER, SUBSCRIPTION))] = 0
    returned_N = rng.random(len(events)) < share_N
    returned_N &= (events.status_N == AUTHORISED) & (events.amount_N > 0)
    row_X = np.flatnonzero(returned_N)
    whole_X = rng.random(len(row_X)) < 0.75
    part_X = np.where(whole_X, 1.0, rng.uniform(0.2, 0.8, len(row_X)))
    after_X = 3600 + rng.exponential(5 * DAY_SECONDS, len(row_X))
    bought = events.take(row_X)
    back = replace(
        bought,
        second_N=bought.second_N + after_X.astype(np.int64),
        amount_N=bought.amount_N * part_X,
        distance_km_N=np.full(len(row_X), np.nan),
        kind_N=np.full(len(row_X), GENUINE),
        is_refund_N=np.ones(len(row_X), dtype=np.bool_),
    )
    came_X = back.second_N < world.days * DAY_SECONDS
    status_N = events.status_N.copy()
    status_N[row_X[whole_X & came_X]] = REFUNDED
    return replace(events, status_N=status_N), back.take(came_X)


def types(world: World, events: Events) -> NDArray[np.int64]:
    """What each transaction is, as a position in TYPES."""
    market_N = world.merchants.market_M[events.merchant_N]
    return np.select(
        [events.is_refund_N, events.amount_N == 0, market_N == CASH, market_N == TRANSFER],
        [REFUND, VERIFICATION, WITHDRAWAL, TRANSFERRED],
        PAYMENT,
    )


def _checks(rng: np.random.Generator, genuine: Events, online_N: NDArray[np.bool_]) -> Events:
    """One in a hundred payments online comes after a check of the card."""
    bought = genuine.take(online_N & (rng.random(len(genuine)) < 0.01))
    return replace(
        bought,
        second_N=np.maximum(0, bought.second_N - rng.integers(5, 90, len(bought))),
        amount_N=np.zeros(len(bought)),
        status_N=np.full(len(bought), AUTHORISED),
    )


def _within(world: World, events: Events) -> Events:
    return events.take(events.second_N < world.days * DAY_SECONDS)

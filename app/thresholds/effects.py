"""What thresholds would make of recent scores, by a histogram of them that is kept.

Thresholds are compared at two digits (.012, .013, …), so that one histogram serves all of them.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

from app.db.connection import Connection
from app.learner.decisions import Thresholds
from app.learner.transaction import DAY_US
from app.thresholds import store as threshold_store
from app.thresholds.schemas import Effect, HistogramBin, ScoreHistogram
from app.thresholds.service import LEAST_DAYS, RECENT_DAYS
from app.thresholds.store import DECADES, PER_DECADE
from app.times import now_us, text_of

NAME = "thresholds"
# Scores that are looked at: of more, those of about one second in so many.
SAMPLE = 200_000
# The probabilities that bins begin at, from 1e-8 to .99; what is below the first is in bin 0.
EDGES = [
    float(f"{digits}e{decade - 1}")
    for decade in DECADES
    for digits in range(PER_DECADE // 9, PER_DECADE + PER_DECADE // 9)
]


class Sums(NamedTuple):
    """How many scores reach a threshold, and what those of them that have a label were."""

    transactions: int
    frauds: int
    legitimates: int


async def count_histogram(connection: Connection, tenant: str) -> ScoreHistogram:
    """A tenant's scores of the last 28 days by bins, with the labels that they have by now."""
    until_us = now_us()
    since_us = until_us - RECENT_DAYS * DAY_US
    scores, oldest_us = await threshold_store.count_scores(connection, tenant, since_us, until_us)
    one_in = -(-scores // SAMPLE)
    rows = await threshold_store.histogram(connection, tenant, since_us, until_us, one_in)
    sampled = sum(row.transactions for row in rows)
    # Not `one_in`: of some times more seconds are in the sample than of others.
    scale = scores / sampled if sampled else 0.0
    return ScoreHistogram(
        since=text_of(since_us),
        days=max((until_us - oldest_us) / DAY_US, LEAST_DAYS) if scores else 0.0,
        transactions=scores,
        sampled_one_in=max(one_in, 1),
        bins=[
            HistogramBin.model_validate(
                {
                    "probability": EDGES[row.bin - 1] if row.bin else 0.0,
                    "transactions": round(row.transactions * scale),
                    "frauds": round(row.frauds * scale),
                    "legitimates": round(row.legitimates * scale),
                }
            )
            for row in rows
        ],
    )


def nearest(probability: float) -> float:
    """The probability of two digits that is nearest to a threshold, of those that bins begin at."""
    at = bisect_left(EDGES, probability)
    around = EDGES[max(at - 1, 0) : at + 1]
    return min(around, key=lambda edge: abs(edge - probability))


def effect(histogram: ScoreHistogram, thresholds: Thresholds) -> Effect:
    """What thresholds, rounded to two digits, would have made of a histogram's scores."""
    review, decline = nearest(thresholds.review), nearest(thresholds.decline)
    everything = _reached(histogram.bins, 0.0)
    held, declined = _reached(histogram.bins, review), _reached(histogram.bins, decline)
    labelled = held.frauds + held.legitimates
    days = histogram.days
    return Effect(
        review=review,
        decline=decline,
        reviews_per_day=(held.transactions - declined.transactions) / days if days else None,
        declines_per_day=declined.transactions / days if days else None,
        precision=held.frauds / labelled if labelled else None,
        recall=held.frauds / everything.frauds if everything.frauds else None,
        legitimate_share=(
            held.legitimates / everything.legitimates if everything.legitimates else None
        ),
    )


def _reached(bins: Sequence[HistogramBin], probability: float) -> Sums:
    rows = [bin_ for bin_ in bins if bin_.probability >= probability]
    return Sums(
        sum(bin_.transactions for bin_ in rows),
        sum(bin_.frauds for bin_ in rows),
        sum(bin_.legitimates for bin_ in rows),
    )

"""What charts are drawn from: places on a scale, for the templates, which draw them.

Every chart stands beside a table with its figures, so that nobody has to see it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from app.learner.decisions import log_odds
from app.learner.reasons import Reason
from app.scoring.schemas import StoredTransaction

# Of the width of a waterfall: what is left free at both ends.
MARGIN = 4.0
# Reasons that have a row of their own; the others share one.
MOST_BARS = 6


class Bar(NamedTuple):
    """A row of a waterfall: what it stands for, and its place, from 0 to 100 across the chart.

    `share` is in log-odds; None for where it begins and ends, which have a `probability`.
    """

    name: str
    sentence: str
    share: float | None
    probability: float | None
    left: float
    width: float


class Waterfall(NamedTuple):
    """Bars that lead from what is usual to the score; thresholds at their places, if known."""

    bars: list[Bar]
    review_at: float | None
    decline_at: float | None


class Mark(NamedTuple):
    """A payment on a strip: places in percent, from the left and from the top."""

    payment: StoredTransaction
    left: float
    top: float
    is_this: bool


def waterfall(
    baseline: float,
    total: float,
    probability: float,
    reasons: Sequence[Reason],
    thresholds: tuple[float, float] | None,
    names: tuple[str, str, str],
) -> Waterfall:
    """The way from `baseline` to `total`, in log-odds; the largest shares first.

    `thresholds` are the probabilities of review and decline; `names` are those of the first row, of
    what is left, and of the last.
    """
    ordered = sorted(reasons, key=lambda reason: -abs(reason.share))
    steps = [
        (reason.code.replace("_", " "), reason.sentence, reason.share)
        for reason in ordered[:MOST_BARS]
    ]
    first, others, last = names
    rest = total - baseline - sum(share for _, _, share in steps)
    if len(ordered) > MOST_BARS:
        steps.append((others, "", rest))
    ends, at = [baseline], baseline
    for _, _, share in steps:
        at += share
        ends.append(at)
    marks = [] if thresholds is None else [log_odds(threshold) for threshold in thresholds]
    place = _scale([*ends, total, *marks])

    def bar(name: str, sentence: str, start: float, end: float, share: float | None) -> Bar:
        left, right = sorted((place(start), place(end)))
        return Bar(name, sentence, share, None, left, right - left)

    bars = [
        bar(name, sentence, start, start + share, share)
        for (name, sentence, share), start in zip(steps, ends, strict=False)
    ]
    usual = _probability(baseline)
    bars = [
        Bar(first, "", None, usual, place(baseline), 0),
        *bars,
        Bar(last, "", None, probability, place(total), 0),
    ]
    review_at, decline_at = (place(log_odds_) for log_odds_ in marks) if marks else (None, None)
    return Waterfall(bars, review_at, decline_at)


def strip(payments: Sequence[StoredTransaction], this: str | None) -> list[Mark]:
    """An account's payments, the oldest at the left, the riskiest at the top."""
    ordered = list(reversed(payments))
    step = 100 / max(len(ordered), 1)
    return [
        Mark(
            payment,
            round((n + 0.5) * step, 2),
            round(6 + 0.88 * (100 - payment.score.risk_score), 2),
            payment.transaction_id == this,
        )
        for n, payment in enumerate(ordered)
    ]


class _scale:
    """Places of values, from `MARGIN` to 100 less it."""

    def __init__(self, values: Sequence[float]) -> None:
        self._least, most = min(values), max(values)
        self._span = (most - self._least) or 1.0

    def __call__(self, value: float) -> float:
        return round(MARGIN + (100 - 2 * MARGIN) * (value - self._least) / self._span, 2)


def _probability(at: float) -> float:
    return 1 / (1 + math.exp(-at))

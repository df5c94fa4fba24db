"""What charts are drawn from: places on a scale, for the templates, which draw them.

Every chart stands beside a table with its figures, so that nobody has to see it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from app.figures.schemas import FigureDay
from app.learner.decisions import log_odds
from app.learner.reasons import Reason
from app.models.schemas import ModelComparison, ModelDrift
from app.scoring.schemas import StoredTransaction
from app.thresholds.schemas import HistogramBin

# Of the width of a waterfall: what is left free at both ends.
MARGIN = 4.0
# Of a histogram: columns, and the least probability that has a place of its own.
COLUMNS, LEAST_SHOWN = 60, 1e-6
# Of a population stability index.
LITTLE_DRIFT, MUCH_DRIFT = 0.1, 0.2
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


class Column(NamedTuple):
    """Scores of a histogram from a probability on: how many, and its place and heights, 0 to 100.

    Heights grow with the logarithm: frauds are few, and would not be seen beside all others.
    """

    probability: float
    transactions: int
    frauds: int
    legitimates: int
    left: float
    width: float
    height: float
    fraud_height: float


class Histogram(NamedTuple):
    """Columns of scores, and where the thresholds of review and decline are among them."""

    columns: list[Column]
    review_at: float
    decline_at: float
    ends: tuple[float, float]


def histogram(bins: Sequence[HistogramBin], thresholds: tuple[float, float]) -> Histogram:
    """Scores along their log-odds, from the least to .99 and beyond."""
    probabilities = [bin_.probability for bin_ in bins if bin_.probability >= LEAST_SHOWN]
    least = min([*probabilities, thresholds[0]])
    start, end = log_odds(least), log_odds(0.99)
    span = end - start
    found: dict[int, list[HistogramBin]] = {}
    for bin_ in bins:
        at = (log_odds(max(bin_.probability, least)) - start) / span
        found.setdefault(min(int(at * COLUMNS), COLUMNS - 1), []).append(bin_)
    sums = {
        n: (
            sum(bin_.transactions for bin_ in some),
            sum(bin_.frauds for bin_ in some),
            sum(bin_.legitimates for bin_ in some),
        )
        for n, some in found.items()
    }
    most = math.log1p(max((total for total, _, _ in sums.values()), default=1))
    width = 100 / COLUMNS
    columns = [
        Column(
            min(bin_.probability for bin_ in found[n]),
            *sums[n],
            round(n * width, 2),
            round(0.9 * width, 2),
            round(96 * math.log1p(sums[n][0]) / most, 2),
            round(96 * math.log1p(sums[n][1]) / most, 2),
        )
        for n in sorted(sums)
    ]

    def place(probability: float) -> float:
        return round(min(max(100 * (log_odds(probability) - start) / span, 0), 100), 2)

    review, decline = thresholds
    return Histogram(columns, place(review), place(decline), (start, end))


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


class DayBar(NamedTuple):
    """A day's alerts and frauds, in percent of the chart."""

    left: float
    width: float
    opened: float
    frauds: float


def day_bars(days: Sequence[FigureDay]) -> list[DayBar]:
    """The bars of each day, the oldest at the left."""
    most = max([1, *(day.opened + day.declined for day in days), *(day.frauds for day in days)])
    width = 100 / max(len(days), 1)
    return [
        DayBar(
            round(n * width, 2),
            round(0.8 * width, 2),
            round(96 * (day.opened + day.declined) / most, 2),
            round(96 * day.frauds / most, 2),
        )
        for n, day in enumerate(days)
    ]


class Pair(NamedTuple):
    """A figure of two models, each None where there is nothing to reckon it by."""

    name: str
    active: float | None
    other: float | None


class Row(NamedTuple):
    """A row of a heat map: what has drifted how far in all, and by day; and how much that is."""

    name: str
    psi: float | None
    drifted: bool
    by_day: list[tuple[float | None, str]]


def compared(found: ModelComparison) -> list[Pair]:
    """What two models made of the same labelled payments."""
    names = "average_precision", "precision", "recall"
    return [Pair(name, getattr(found.active, name), getattr(found.shadow, name)) for name in names]


def heat_map(found: ModelDrift) -> list[Row]:
    """The score and each feature, the furthest first, by day."""
    return [
        Row(
            feature.name, feature.psi, feature.drifted, [(psi, heat(psi)) for psi in feature.by_day]
        )
        for feature in (found.score, *found.features)
    ]


def heat(psi: float | None) -> str:
    """How much a population stability index is, by custom."""
    if psi is None:
        return "unknown"
    if psi < LITTLE_DRIFT:
        return "little"
    return "some" if psi < MUCH_DRIFT else "much"


class _scale:
    """Places of values, from `MARGIN` to 100 less it."""

    def __init__(self, values: Sequence[float]) -> None:
        self._least, most = min(values), max(values)
        self._span = (most - self._least) or 1.0

    def __call__(self, value: float) -> float:
        return round(MARGIN + (100 - 2 * MARGIN) * (value - self._least) / self._span, 2)


def _probability(at: float) -> float:
    return 1 / (1 + math.exp(-at))

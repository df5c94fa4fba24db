"""The adapted network beside its base, figure by figure: where adaptation loses.

A group (a fold, a kind of fraud, a number of labels) maps each method to its figures; `adapted`
and `base` are always among the methods.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from app.training.results import ADAPTED, BASE, Metrics

DIGITS = 4
UNKNOWN = "n/a"

Groups = Mapping[str, Metrics]


class Figure(NamedTuple):
    """A figure by its key in the metrics, and what it is called."""

    key: str
    short: str
    name: str
    is_better_higher: bool = True


FIGURES = (
    Figure("average_precision", "AP", "average precision"),
    Figure(
        "card_precision_100", "CP@100", "card precision among the 100 highest accounts of a day"
    ),
    Figure("recall_at_1_percent", "recall", "recall at 1 % false positives"),
    Figure("brier", "Brier", "Brier score", is_better_higher=False),
    Figure("calibration_error", "ECE", "expected calibration error", is_better_higher=False),
)
AVERAGE_PRECISION = FIGURES[0]
RECALL = FIGURES[2]


class Comparison(NamedTuple):
    """A figure of the adapted network beside the base's, with the difference's interval if any."""

    section: str
    group: str
    figure: Figure
    adapted: float
    base: float
    low: float = math.nan
    high: float = math.nan

    @property
    def difference(self) -> float:
        return self.adapted - self.base

    @property
    def is_lost(self) -> bool:
        """Whether adaptation does worse, as far as the digits are shown."""
        gain = self.difference if self.figure.is_better_higher else -self.difference
        return round(gain, DIGITS) < 0

    @property
    def has_interval(self) -> bool:
        return not math.isnan(self.low)

    @property
    def interval(self) -> str:
        """The difference as it is said, with its interval where there is one."""
        return difference({"difference": self.difference, "low": self.low, "high": self.high})


def compared(
    section: str,
    groups: Groups,
    figures: Sequence[Figure],
    differences: Mapping[str, Metrics] | None = None,
) -> Iterator[Comparison]:
    """Every one of the figures that is known of both, by group that has both classes.

    Of one class a Brier score only says who gives higher probabilities, and no method is better.
    `differences` are those in average precision by group and method, as far as there are any.
    """
    for name, group in groups.items():
        if not has_both_classes(group):
            continue
        for figure in figures:
            values = [group[method].get(figure.key, math.nan) for method in (ADAPTED, BASE)]
            known = (differences or {}).get(name, {}).get(BASE)
            bounds = () if known is None else (known["low"], known["high"])
            if figure is not AVERAGE_PRECISION:
                bounds = ()
            if not any(map(math.isnan, values)):
                yield Comparison(section, name, figure, *values, *bounds)


def has_both_classes(group: Metrics) -> bool:
    """Whether there are frauds and legitimate transactions among the tested ones."""
    tested = group[ADAPTED]
    return bool(0 < tested["frauds"] < tested["transactions"])


def losses(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons that adaptation loses, those in average precision first."""
    lost = [one for one in comparisons if one.is_lost]
    return sorted(lost, key=lambda loss: loss.figure is not AVERAGE_PRECISION)


LOSS_HEADER = ("where", "group", "figure", ADAPTED, BASE, "difference (95 % interval)")


def loss_row(loss: Comparison) -> list[str]:
    values = [number(loss.adapted), number(loss.base), loss.interval]
    return [loss.section, loss.group, loss.figure.name, *values]


def legend(figures: Sequence[Figure]) -> str:
    """What the short names in a header mean."""
    return "; ".join(f"{f.short}: {f.name}" for f in figures)


def sizes(transactions: float, frauds: float) -> str:
    return f"{transactions:,.0f} ({frauds:,.0f})"


def number(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.{DIGITS}f}"


def signed(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:+.{DIGITS}f}"


def difference(known: Metrics) -> str:
    """A difference with its interval, as far as there is one."""
    said = signed(known["difference"])
    if math.isnan(known["low"]):
        return said
    return f"{said} ({signed(known['low'])} to {signed(known['high'])})"

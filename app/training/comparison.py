"""Methods side by side: the tables of a report, and where adaptation loses.

A group (a fold, a kind of fraud, a number of labels) maps each method to its figures; `adapted`
and `base` are always among the methods, and a section shows whichever others its groups hold.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from app.training.backtest import Metrics

ADAPTED, BASE = "adapted", "base"
DIGITS = 4
UNKNOWN = "n/a"


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
)
AVERAGE_PRECISION = FIGURES[0]
RECALL = FIGURES[2]


@dataclass(frozen=True)
class Section:
    """Groups that belong in one table. `label` heads the column of their names."""

    title: str
    note: str
    label: str
    groups: Mapping[str, Metrics]

    @property
    def methods(self) -> list[str]:
        keys = (
            key
            for group in self.groups.values()
            for key, value in group.items()
            if isinstance(value, Mapping)
        )
        return list(dict.fromkeys(keys))

    @property
    def figures(self) -> list[Figure]:
        return [
            figure
            for figure in FIGURES
            if any(figure.key in group[ADAPTED] for group in self.groups.values())
        ]

    def header(self, figures: Sequence[Figure]) -> list[str]:
        header = [self.label, *(["trained on (frauds)"] if self._is_trained else [])]
        header.append("tested (frauds)")
        for figure in figures:
            header += [f"{figure.short} {method}" for method in self.methods]
            header += ["AP gain"] if figure is AVERAGE_PRECISION else []
        return header

    def rows(self, figures: Sequence[Figure]) -> Iterator[list[str]]:
        """What stands under `header`, a row a group."""
        for name, group in self.groups.items():
            cells = [name]
            if self._is_trained:
                cells.append(sizes(group["train_transactions"], group["train_frauds"]))
            cells.append(sizes(group[ADAPTED]["transactions"], group[ADAPTED]["frauds"]))
            for figure in figures:
                cells += [number(group.get(m, {}).get(figure.key)) for m in self.methods]
                if figure is AVERAGE_PRECISION:
                    cells.append(signed(group[ADAPTED][figure.key] - group[BASE][figure.key]))
            yield cells

    @property
    def _is_trained(self) -> bool:
        return all("train_transactions" in group for group in self.groups.values())


class Comparison(NamedTuple):
    """A figure of the adapted copies beside the base's."""

    section: str
    group: str
    figure: Figure
    adapted: float
    base: float

    @property
    def difference(self) -> float:
        return self.adapted - self.base

    @property
    def is_lost(self) -> bool:
        """Whether adaptation does worse, as far as the digits are shown."""
        gain = self.difference if self.figure.is_better_higher else -self.difference
        return round(gain, DIGITS) < 0


def comparisons(sections: Sequence[Section]) -> Iterator[Comparison]:
    """Every figure that is known of both."""
    for section in sections:
        for name, group in section.groups.items():
            for figure in section.figures:
                values = group[ADAPTED][figure.key], group[BASE][figure.key]
                if not any(map(math.isnan, values)):
                    yield Comparison(section.title, name, figure, *values)


def losses(sections: Sequence[Section]) -> list[Comparison]:
    """The comparisons that adaptation loses, those in average precision first."""
    lost = [one for one in comparisons(sections) if one.is_lost]
    return sorted(lost, key=lambda loss: loss.figure is not AVERAGE_PRECISION)


LOSS_HEADER = ("where", "group", "figure", ADAPTED, BASE, "difference")


def legend(figures: Sequence[Figure]) -> str:
    """What the short names in a header mean."""
    return "; ".join(f"{f.short}: {f.name}" for f in figures)


def loss_row(loss: Comparison) -> list[str]:
    values = [number(loss.adapted), number(loss.base), signed(loss.difference)]
    return [loss.section, loss.group, loss.figure.name, *values]


def sizes(transactions: float, frauds: float) -> str:
    return f"{transactions:,.0f} ({frauds:,.0f})"


def number(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.{DIGITS}f}"


def signed(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:+.{DIGITS}f}"

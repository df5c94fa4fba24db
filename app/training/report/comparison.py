"""The adapted network compared with its base and the rivals, in numbers and in sentences.

A group (a fold, a kind of fraud, a number of labels) maps each method to its figures; `adapted`
and `base` are always among the methods. Beyond chance means: the 95 % interval excludes 0.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from app.training.differences import LEAST_DEFRAUDED
from app.training.results import ADAPTED, BASE, Metrics

DIGITS = 4
UNKNOWN = "n/a"

Groups = Mapping[str, Metrics]
Titles = Mapping[str, str]


class Figure(NamedTuple):
    """A figure by its key in the metrics, and its names in reports."""

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
AVERAGE_PRECISION, _, RECALL, BRIER, CALIBRATION_ERROR = FIGURES


class Comparison(NamedTuple):
    """A figure of the adapted network and of the base, with the difference's interval if any."""

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
    def interval(self) -> str:
        """The difference as text, with its interval where there is one."""
        return difference({"difference": self.difference, "low": self.low, "high": self.high})


def compared(
    section: str,
    groups: Groups,
    figures: Sequence[Figure],
    differences: Mapping[str, Metrics] | None = None,
) -> Iterator[Comparison]:
    """Each of the figures that both have, by group with both classes.

    In a group of one class a Brier score only shows which probabilities are higher. `differences`
    are those in average precision by group and method, as far as there are any.
    """
    for name, group in groups.items():
        if not has_both_classes(group):
            continue
        for figure in figures:
            values = [group[method].get(figure.key, math.nan) for method in (ADAPTED, BASE)]
            lead = (differences or {}).get(name, {}).get(BASE, {})
            has_interval = lead and figure is AVERAGE_PRECISION
            bounds = (lead["low"], lead["high"]) if has_interval else ()
            if not any(map(math.isnan, values)):
                yield Comparison(section, name, figure, *values, *bounds)


def has_both_classes(group: Metrics) -> bool:
    """Whether there are frauds and legitimate transactions among the tested ones."""
    tested = group[ADAPTED]
    return bool(0 < tested["frauds"] < tested["transactions"])


def losses(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The comparisons that adaptation loses, those in average precision first."""
    lost = [comparison for comparison in comparisons if comparison.is_lost]
    return sorted(lost, key=lambda loss: loss.figure is not AVERAGE_PRECISION)


def against_rivals(where: str, differences: Mapping[str, Metrics], titles: Titles) -> str:
    """A sentence on which rivals are ahead of the adapted network and which behind."""
    rivals = {name: lead for name, lead in differences.items() if name != BASE}
    if not rivals:
        return f"{where}: no rivals were compared."
    ahead = [name for name, lead in rivals.items() if lead["high"] < 0]
    behind = [name for name, lead in rivals.items() if lead["low"] > 0]
    unknown = [name for name, lead in rivals.items() if math.isnan(lead["low"])]
    level = [name for name in rivals if name not in (*ahead, *behind, *unknown)]
    if len(unknown) == len(rivals):
        return (
            f"{where}: no rival could be compared, because fewer than {LEAST_DEFRAUDED} defrauded "
            "accounts were tested."
        )
    parts = [] if ahead else ["no rival is ahead of the adapted network beyond chance"]
    for standing, names in (
        ("ahead of the adapted network beyond chance", ahead),
        ("behind it beyond chance", behind),
        ("no difference beyond chance", level),
        ("too few defrauded accounts to compare", unknown),
    ):
        if names:
            leads = [f"{titles[name]} ({signed(rivals[name]['difference'])})" for name in names]
            parts.append(f"{standing}: {', '.join(leads)}")
    return f"{where}, average precision of the adapted network less a rival's: {'; '.join(parts)}."


def against_base(comparisons: Sequence[Comparison], one_class: Sequence[str]) -> str:
    """Where adaptation loses against its own base, and where it wins beyond chance.

    `one_class` are the groups that cannot be compared.
    """
    if not comparisons:
        return (
            "Nothing could be compared: no tested group has both frauds and legitimate "
            "transactions, so this report does not show whether adaptation helps. Use a file "
            "with labelled transactions of both classes in the tested time."
        )
    if all(comparison.adapted == comparison.base for comparison in comparisons):
        # To the last digit: they are one network.
        return (
            "Nothing could be compared: labels have changed no score, so this report does not "
            "show whether adaptation helps. Use a file with accounts that have labels known "
            "before a tested transaction of theirs."
        )
    sentences = ["Adaptation is behind the base in none of the figures of this report."]
    if lost := losses(comparisons):
        in_precision = sum(loss.figure is AVERAGE_PRECISION for loss in lost)
        sentences = [
            f"Adaptation is behind the base in {len(lost)} of the {len(comparisons)} comparisons "
            f"of this report, {in_precision} of them in average precision."
        ]
    if not all(math.isnan(comparison.low) for comparison in comparisons):
        behind = _named(comparison for comparison in comparisons if comparison.high < 0)
        ahead = _named(comparison for comparison in comparisons if comparison.low > 0)
        sentences.append(
            f"In average precision it is behind beyond chance in: {behind}; "
            f"ahead beyond chance in: {ahead}."
        )
    if one_class:
        groups = "; ".join(one_class)
        sentences.append(f"Not compared, because they have only frauds or none: {groups}.")
    return " ".join(sentences)


def _named(comparisons: Iterable[Comparison]) -> str:
    names = [f"{c.section}, {c.group} {c.interval}" for c in comparisons]
    return "; ".join(names) or "none"


def sizes(transactions: float, frauds: float) -> str:
    return f"{transactions:,.0f} ({frauds:,.0f})"


def number(value: float | None) -> str:
    return UNKNOWN if value is None or math.isnan(value) else f"{value:.{DIGITS}f}"


def signed(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:+.{DIGITS}f}"


def difference(lead: Metrics) -> str:
    """A difference with its interval, as far as there is one."""
    if math.isnan(lead["low"]):
        return signed(lead["difference"])
    return f"{signed(lead['difference'])} ({signed(lead['low'])} to {signed(lead['high'])})"

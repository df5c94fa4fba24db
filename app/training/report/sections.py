"""The sections of a report: a table in which every method has its row, and a note.

Where several figures of one group are shown, the columns are the figures; where one figure of
several groups is, they are the groups.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from app.training.report.comparison import (
    AVERAGE_PRECISION,
    BRIER,
    CALIBRATION_ERROR,
    FIGURES,
    UNKNOWN,
    Comparison,
    Figure,
    Groups,
    Titles,
    compared,
    difference,
    has_both_classes,
    losses,
    number,
    signed,
    sizes,
)
from app.training.report.rendering import Table
from app.training.results import ADAPTED, BASE, NETWORK, Metrics

METHOD = "method"
LEAD = "adapted leads in AP by (95 %)"
GAIN = "adapted less base (95 %)"
OVER_BASE = "more than without labels (95 %)"
TRAINED, TESTED = "trained on (frauds)", "tested (frauds)"
CALIBRATION = (
    "On the straight line, the share of frauds is the probability. Each mark is of half as many "
    "transactions as the mark before it; an open mark is of transactions without fraud."
)


Column = tuple[Metrics, Figure]


@dataclass(frozen=True, kw_only=True)
class Section(Table):
    """A table with its title and a note.

    `best` are the cells that no method shown is better than; `comparisons` are those of the
    adapted network and its base, `one_class` the groups without any, which have frauds alone or
    none.
    """

    title: str
    note: str = ""
    comparisons: Sequence[Comparison] = ()
    one_class: Sequence[str] = ()


def of_figures(
    title: str,
    note: str,
    methods: Metrics,
    titles: Titles,
    differences: Metrics | None = None,
) -> Section:
    """All figures of one group, and the lead of the adapted network over each other method."""
    figures = [figure for figure in FIGURES if figure.key in methods[ADAPTED]]
    header = [METHOD, *(figure.short for figure in figures)]
    columns = [(methods, figure) for figure in figures]
    rows = _rows(columns, titles)
    if differences:
        header.append(LEAD)
        for name, row in rows.items():
            row.append(difference(differences[name]) if name in differences else "")
    return Section(
        title=title,
        note=f"{note} {TESTED.capitalize()}: {_tested(methods)}.",
        header=header,
        rows=list(rows.values()),
        best=_best(columns, rows),
        comparisons=list(compared(title, {"all": methods}, figures, {"all": differences or {}})),
        one_class=() if has_both_classes(methods) else (title,),
    )


def of_groups(
    title: str,
    note: str,
    groups: Groups,
    titles: Titles,
    figure: Figure,
    differences: Mapping[str, Metrics] | None = None,
) -> Section:
    """One figure of several groups, and the gain over the base in each."""
    columns = [(group, figure) for group in groups.values()]
    rows = _rows(columns, titles)
    above = [[TESTED, *map(_tested, groups.values())]]
    if all("train_transactions" in group for group in groups.values()):
        above.insert(0, [TRAINED, *map(_trained, groups.values())])
    gains = []
    if differences:
        leads = [differences.get(name, {}).get(BASE) for name in groups]
        gains.append([GAIN, *(difference(lead) if lead else UNKNOWN for lead in leads)])
    return Section(
        title=title,
        note=f"{figure.name.capitalize()}. {note}",
        header=[METHOD, *groups],
        rows=[*above, *rows.values(), *gains],
        best=_best(columns, rows, len(above)),
        comparisons=list(compared(title, groups, [figure], differences)),
        one_class=[f"{title}, {n}" for n, group in groups.items() if not has_both_classes(group)],
    )


def of_costs(title: str, note: str, costs: Metrics, titles: Titles) -> Section:
    """What an account costs each method, in time and in memory."""
    rows = [
        (
            titles[name],
            _rounded(costs[name]["milliseconds_an_account"], 3),
            _rounded(costs[name]["bytes_an_account"], 0),
        )
        for name in titles
        if name in costs
    ]
    header = METHOD, "ms an account", "bytes an account"
    return Section(title=title, note=note, header=header, rows=rows)


def of_pairs(title: str, note: str, pairs: Metrics, titles: Titles) -> Section:
    """By method the share of pairs in order within accounts, and its lead over the base's."""
    methods = pairs["methods"]
    rows = [
        (titles[name], number(methods[name]["share"]), _lead(name, methods[name]))
        for name in titles
        if name in methods
    ]
    counts = f"{pairs['pairs']:,.0f} pairs of {pairs['accounts']:,.0f} accounts."
    header = METHOD, "pairs in order", OVER_BASE
    return Section(title=title, note=f"{note} {counts}", header=header, rows=rows)


def _lead(name: str, method: Metrics) -> str:
    return "" if name == BASE else difference(method)


def summary(groups: Groups, titles: Titles) -> Section:
    """The average precision in each group, adapted, without labels and of the best rival."""
    rows = []
    for group, methods in groups.items():
        values = {name: figures[AVERAGE_PRECISION.key] for name, figures in methods.items()}
        adapted, base = values[ADAPTED], values[BASE]
        rivals = [name for name in values if name not in NETWORK and not math.isnan(values[name])]
        best = max(rivals, key=values.__getitem__, default=None)
        rival = f"{number(values[best])} ({titles[best]})" if best else UNKNOWN
        rows.append((group, number(adapted), number(base), signed(adapted - base), rival))
    header = AVERAGE_PRECISION.name, "adapted", "without labels", "difference", "best rival"
    return Section(title="Summary", header=header, rows=rows)


def of_losses(comparisons: Sequence[Comparison]) -> Section:
    """The comparisons that adaptation loses, a row each."""
    rows = [
        (c.section, c.group, c.figure.name, number(c.adapted), number(c.base), c.interval)
        for c in losses(comparisons)
    ]
    header = "where", "group", "figure", ADAPTED, BASE, "difference (95 % interval)"
    return Section(title="Where adaptation loses", header=header, rows=rows)


def of_reliability(reliability: Metrics, titles: Titles) -> Section:
    """How well each method's probabilities are calibrated, over all that were tested."""
    figures = BRIER, CALIBRATION_ERROR
    rows = [
        (titles[name], *(number(values[figure.key]) for figure in figures))
        for name, values in reliability.items()
    ]
    header = METHOD, *(figure.short for figure in figures)
    return Section(title="Calibration", note=CALIBRATION, header=header, rows=rows)


def _rows(columns: Sequence[Column], titles: Titles) -> dict[str, list[str]]:
    """The row of each method that any column has."""
    return {
        name: [title, *(number(group.get(name, {}).get(figure.key)) for group, figure in columns)]
        for name, title in titles.items()
        if any(name in group for group, _ in columns)
    }


def _best(
    columns: Sequence[Column], names: Iterable[str], first_row: int = 0
) -> set[tuple[int, int]]:
    """The cells with the best figure of their column; none where all are equal."""
    cells = set()
    for place, (group, figure) in enumerate(columns, start=1):
        values = [group.get(name, {}).get(figure.key, math.nan) for name in names]
        finite = [value for value in values if not math.isnan(value)]
        best = number((max if figure.is_better_higher else min)(finite, default=math.nan))
        found = {(first_row + n, place) for n, value in enumerate(values) if number(value) == best}
        cells |= found if len(found) < len(values) else set()
    return cells


def _tested(group: Metrics) -> str:
    return sizes(group[ADAPTED]["transactions"], group[ADAPTED]["frauds"])


def _trained(group: Metrics) -> str:
    return sizes(group["train_transactions"], group["train_frauds"])


def _rounded(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"

"""The sections of a report: tables in which every method has its row.

Where several figures of one group are shown, the columns are the figures; where one figure of
several groups is, they are the groups.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.training.comparison import (
    FIGURES,
    UNKNOWN,
    Comparison,
    Figure,
    Groups,
    compared,
    difference,
    has_both_classes,
    legend,
    number,
    sizes,
)
from app.training.results import ADAPTED, BASE, Metrics

METHOD = "method"
LEAD = "adapted leads in AP by (95 %)"
GAIN = "adapted less base (95 %)"
TRAINED, TESTED = "trained on (frauds)", "tested (frauds)"

Titles = Mapping[str, str]
Row = tuple[str, ...]
Cells = frozenset[tuple[int, int]]


@dataclass(frozen=True)
class Section:
    """A table and what is said about it.

    `best` are the cells, by row and column, that no method shown is better than;
    `comparisons` is what the table says of the adapted network and its base, `one_class` names
    the groups of which it says nothing, since they have frauds alone or none.
    """

    title: str
    note: str
    header: Row
    rows: tuple[Row, ...]
    legend: str = ""
    best: Cells = frozenset()
    comparisons: tuple[Comparison, ...] = ()
    one_class: tuple[str, ...] = ()


def of_figures(
    title: str,
    note: str,
    methods: Metrics,
    titles: Titles,
    differences: Metrics | None = None,
) -> Section:
    """All figures of one group, and the lead of the adapted network over each other method."""
    figures = [figure for figure in FIGURES if figure.key in methods[ADAPTED]]
    names = [name for name in titles if name in methods]
    columns = [[methods[name].get(figure.key) for name in names] for figure in figures]
    header = [METHOD, *(figure.short for figure in figures), *([LEAD] if differences else [])]
    rows = []
    for n, name in enumerate(names):
        lead = difference(differences[name]) if differences and name in differences else ""
        cells = [titles[name], *(number(column[n]) for column in columns)]
        rows.append((*cells, *([lead] if differences else [])))
    return Section(
        title,
        f"{note} {TESTED.capitalize()}: {_tested(methods)}.",
        tuple(header),
        tuple(rows),
        f"{legend(figures)}.",
        _best(columns, figures),
        tuple(compared(title, {"all": methods}, figures, {"all": differences or {}})),
        () if has_both_classes(methods) else (title,),
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
    names = [name for name in titles if any(name in group for group in groups.values())]
    columns = [[group.get(name, {}).get(figure.key) for name in names] for group in groups.values()]
    above = [(TESTED, *map(_tested, groups.values()))]
    if all("train_transactions" in group for group in groups.values()):
        above.insert(0, (TRAINED, *map(_trained, groups.values())))
    rows = [(titles[name], *(number(c[n]) for c in columns)) for n, name in enumerate(names)]
    gains = []
    if differences:
        known = [differences.get(name, {}).get(BASE) for name in groups]
        gains.append((GAIN, *(difference(one) if one else UNKNOWN for one in known)))
    return Section(
        title,
        note,
        (METHOD, *groups),
        (*above, *rows, *gains),
        f"{figure.short}: {figure.name}." if figure.short != figure.name else "",
        _best(columns, [figure] * len(columns), len(above)),
        tuple(compared(title, groups, [figure], differences)),
        tuple(f"{title}, {name}" for name, one in groups.items() if not has_both_classes(one)),
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
    return Section(title, note, (METHOD, "ms an account", "bytes an account"), tuple(rows))


def _best(
    columns: Sequence[Sequence[float | None]], figures: Sequence[Figure], first_row: int = 0
) -> Cells:
    """The cells that say the best of their column; none where all say the same."""
    cells = set()
    for place, (column, figure) in enumerate(zip(columns, figures, strict=True), start=1):
        known = [value for value in column if value is not None and not math.isnan(value)]
        if known:
            best = number(max(known) if figure.is_better_higher else min(known))
            found = {(first_row + n, place) for n, v in enumerate(column) if number(v) == best}
            cells |= found if len(found) < len(column) else set()
    return frozenset(cells)


def _tested(group: Metrics) -> str:
    return sizes(group[ADAPTED]["transactions"], group[ADAPTED]["frauds"])


def _trained(group: Metrics) -> str:
    return sizes(group["train_transactions"], group["train_frauds"])


def _rounded(value: float, digits: int) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:,.{digits}f}"

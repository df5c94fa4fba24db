"""What the figures come to, in sentences. Beyond chance is what the interval of 95 % says."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

from app.training.comparison import AVERAGE_PRECISION, Comparison, losses, signed
from app.training.differences import LEAST_DEFRAUDED
from app.training.results import BASE, Metrics
from app.training.sections import Titles


def against_rivals(where: str, differences: Mapping[str, Metrics], titles: Titles) -> str:
    """Which rivals are ahead of the adapted network, which behind, and which neither."""
    rivals = {name: one for name, one in differences.items() if name != BASE}
    if not rivals:
        return f"{where}: no rival was asked."
    if all(isnan(one["low"]) for one in rivals.values()):
        return (
            f"{where}: no rival could be compared, for fewer than {LEAST_DEFRAUDED} defrauded "
            "accounts were tested."
        )
    ahead = [name for name, one in rivals.items() if one["high"] < 0]
    behind = [name for name, one in rivals.items() if one["low"] > 0]
    unknown = [name for name, one in rivals.items() if isnan(one["low"])]
    level = [name for name in rivals if name not in (*ahead, *behind, *unknown)]
    parts = [] if ahead else ["no rival is ahead of the adapted network beyond chance"]
    for said, names in (
        ("ahead of the adapted network beyond chance", ahead),
        ("behind it beyond chance", behind),
        ("not to be told apart from it", level),
        ("with too few defrauded accounts to tell", unknown),
    ):
        if names:
            each = [f"{titles[name]} ({signed(rivals[name]['difference'])})" for name in names]
            parts.append(f"{said}: {', '.join(each)}")
    return f"{where}, average precision of adapted less the rival's: {'; '.join(parts)}."


def against_base(comparisons: Sequence[Comparison], one_class: Sequence[str]) -> str:
    """Where adaptation loses against its own base, and where it wins beyond chance.

    `one_class` are the groups that cannot be compared.
    """
    if not comparisons:
        return (
            "Nothing could be compared: no tested group has both frauds and legitimate "
            "transactions, so this report does not say whether adaptation helps. Give it a file "
            "with labelled transactions of both classes in the tested time."
        )
    return _standing(comparisons) + (
        f" Not compared, since they have frauds alone or none: {'; '.join(one_class)}."
        if one_class
        else ""
    )


def _standing(comparisons: Sequence[Comparison]) -> str:
    lost = losses(comparisons)
    said = "Adaptation is behind the base in none of the figures of this report."
    if lost:
        of_these = sum(loss.figure is AVERAGE_PRECISION for loss in lost)
        said = (
            f"Adaptation is behind the base in {len(lost)} of the {len(comparisons)} comparisons "
            f"of this report, {of_these} of them in average precision."
        )
    if not any(one.has_interval for one in comparisons):
        return said
    behind = _named(one for one in comparisons if one.high < 0)
    ahead = _named(one for one in comparisons if one.low > 0)
    return (
        f"{said} In average precision it is behind beyond chance in: {behind}; "
        f"ahead beyond chance in: {ahead}."
    )


def _named(comparisons: Iterable[Comparison]) -> str:
    named = [f"{one.section}, {one.group} {one.interval}" for one in comparisons]
    return "; ".join(named) or "none"

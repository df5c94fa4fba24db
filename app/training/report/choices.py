"""What held-out accounts chose, in a table, and in words where that says little.

A choice is what `app.training.methods.Methods.chosen` has of one training.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from app.training.evaluate import DECIDING_FRAUDS
from app.training.report.comparison import UNKNOWN, Titles
from app.training.report.sections import Section
from app.training.results import ADAPTED, Metrics

NOTE = (
    "Of each training: how many frauds of held-out accounts chose, what they chose of each rival's "
    "settings, and what they chose of the network: the gate's trust and heed (a copy is followed "
    "by sigmoid(trust + heed x evidence)), reach (what a payment gets of a copy's move down where "
    "labels say nothing of it), habit (how much it counts there what the account has used "
    "before) and pardon (how far refusals are not held against that), how many trees stand beside "
    "it, and the step sizes of each adapted layer (near 0: no adaptation)."
)
FROM = "chosen"


def of_choices(title: str, choices: Mapping[str, Metrics], titles: Titles) -> Section:
    """A column for each training (by the fold, or the model's name), a row for each method."""
    every = list(choices.values())
    rows = [
        ["held-out frauds", *(_count(choice["held_out_frauds"]) for choice in every)],
        [f"{titles[ADAPTED]}: gate", *(_settings(choice["gate"]) for choice in every)],
        [f"{titles[ADAPTED]}: trees", *(_count(choice["trees"]) for choice in every)],
        [f"{titles[ADAPTED]}: step sizes", *(_steps(choice["step_sizes"]) for choice in every)],
    ]
    for name in titles:
        if any(name in choice["rivals"] for choice in every):
            chosen = [choice["rivals"].get(name) for choice in every]
            cells = (_settings(choice["setting"]) if choice else UNKNOWN for choice in chosen)
            rows.append([titles[name], *cells])
    return Section(title=title, note=NOTE, header=[FROM, *choices], rows=rows)


def few_frauds(where: str, choices: Mapping[str, Metrics]) -> Iterator[str]:
    """A warning for each training whose settings fewer than DECIDING_FRAUDS frauds chose."""
    for name, choice in choices.items():
        frauds = choice["held_out_frauds"]
        if frauds < DECIDING_FRAUDS:
            plural = "frauds" if frauds != 1 else "fraud"
            yield (
                f"{where}, {name}: {frauds:.0f} {plural} of held-out accounts chose these "
                f"settings, of the network and of every rival. Fewer than {DECIDING_FRAUDS} choose "
                "by luck: another seed may choose others, so read the differences between methods "
                "with care, or use a file with more labelled frauds."
            )


def doubtful(where: str, choices: Mapping[str, Metrics], titles: Titles) -> Iterator[str]:
    """A warning for each rival that was tuned into something that is no model."""
    for name, choice in choices.items():
        for rival, chosen in choice["rivals"].items():
            if chosen["doubts"]:
                yield (
                    f"{where}, {name}: {titles[rival]} was tuned into nonsense: "
                    f"{'; '.join(chosen['doubts'])}. Being ahead of it says nothing."
                )


def finds_nothing(where: str, methods: Metrics, titles: Titles) -> Iterator[str]:
    """A warning for each method that finds no tested fraud at 1 % false positives."""
    for name, figures in methods.items():
        if figures["frauds"] > 0 and figures["recall_at_1_percent"] == 0:
            yield (
                f"{where}: {titles[name]} finds no fraud at 1 % false positives. Look at what was "
                "chosen for it before comparing anything with it."
            )


def _count(frauds: float) -> str:
    return UNKNOWN if frauds != frauds else f"{frauds:,.0f}"


def _settings(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in setting.items())


def _steps(step_sizes: Mapping[str, Any]) -> str:
    """Of each layer without the axes at the end of its name."""
    return "; ".join(
        f"{layer.rpartition('_')[0].replace('_', ' ')} {' '.join(_value(size) for size in sizes)}"
        for layer, sizes in step_sizes.items()
    )


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

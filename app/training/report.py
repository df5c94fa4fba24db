"""A report of figures: `metrics.json` for programs, `report.md` and `report.html` for people.

All three say the same, from one nested dictionary of groups (see `app.training.comparison`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.checkpoint import Checkpoint
from app.training import markdown
from app.training.backtest import Metrics, mean_of
from app.training.comparison import (
    AVERAGE_PRECISION,
    LOSS_HEADER,
    RECALL,
    Section,
    comparisons,
    legend,
    loss_row,
    losses,
)
from app.training.curve import picture
from app.training.page import page

MEAN = "mean"


@dataclass(frozen=True)
class Origin:
    """Where a report comes from: it stands in every form of it."""

    command: str
    data: str
    data_sha256: str
    created_at: str
    version: str


@dataclass(frozen=True)
class Report:
    """Figures with all that is said about them; the last section is by number of labels."""

    title: str
    notes: tuple[str, ...]
    origin: Origin
    metrics: Metrics
    sections: tuple[Section, ...]

    @property
    def curve(self) -> Section:
        return self.sections[-1]

    @property
    def facts(self) -> dict[str, str]:
        return {
            "Command": self.origin.command,
            "Data": self.origin.data,
            "SHA-256 of the data": self.origin.data_sha256,
            "Spec": str(self.metrics["spec"]),
            "Date": self.origin.created_at,
            "Made by": f"quickstudy {self.origin.version}",
        }

    @property
    def verdict(self) -> str:
        """Whether adaptation loses anywhere, in one sentence."""
        compared = list(comparisons(self.sections))
        lost = losses(self.sections)
        if not compared:
            return "There is nothing to compare: no tested group holds both classes."
        if not lost:
            return "Adaptation is behind the base in none of the figures of this report."
        of_these = sum(loss.figure is AVERAGE_PRECISION for loss in lost)
        return (
            f"Adaptation is behind the base in {len(lost)} of the {len(compared)} comparisons of "
            f"this report, {of_these} of them in average precision."
        )

    def write(self, folder: Path) -> None:
        """Write metrics.json, report.md, report.html and labels.svg into a folder that exists."""
        said = json.dumps(finite(self.document), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(f"{said}\n", encoding="utf-8")
        (folder / "report.md").write_text(self.markdown, encoding="utf-8")
        (folder / "report.html").write_text(page(self), encoding="utf-8")
        (folder / "labels.svg").write_text(picture(self.curve.groups, RECALL), encoding="utf-8")

    @property
    def document(self) -> Metrics:
        return {
            "command": self.origin.command,
            "data_sha256": self.origin.data_sha256,
            "created_at": self.origin.created_at,
            "version": self.origin.version,
            **self.metrics,
        }

    @property
    def markdown(self) -> str:
        facts = [f"- {name}: {markdown.code(value)}" for name, value in self.facts.items()]
        parts = [f"# {markdown.escaped(self.title)}", "\n".join(facts), *self.notes]
        parts += ["## Where adaptation loses", self.verdict]
        if lost := losses(self.sections):
            parts.append(markdown.table(LOSS_HEADER, map(loss_row, lost)))
        for section in self.sections:
            parts += [f"## {section.title}", section.note]
            figures = section.figures
            parts.append(markdown.table(section.header(figures), section.rows(figures)))
            parts.append(markdown.escaped(f"{legend(figures)}."))
        return "\n\n".join(part for part in parts if part) + "\n"


def backtest_report(metrics: Metrics, origin: Origin) -> Report:
    """The report of `app.training.backtest.Backtest.run`."""
    folds = metrics["protocol_a"]["folds"]
    by_fold = {fold["test_start"]: fold for fold in folds}
    b = metrics["protocol_b"]
    unseen = "Accounts that were not in training; means over the folds."
    sections = [
        Section(
            "Protocol A",
            "Trained anew for each fold on the days before the label delay; tested without the "
            "accounts already known to be defrauded, so copies learn from legitimate labels alone.",
            "tested from",
            by_fold | {MEAN: mean_of(folds)},
        ),
        Section(
            "Protocol B",
            "The same test days, no account left out, labels as they arrive; means over the folds.",
            "accounts",
            {name: b[name] for name in ("all", "unseen")},
        ),
        Section(
            "Protocol B, by kind of fraud",
            f"{unseen} Frauds of one kind against all legitimate transactions.",
            "kind",
            b.get("by_kind", {}),
        ),
        Section("Protocol B, by support mix", unseen, "labels known", b["by_support"]),
        Section(
            "Protocol B, by number of labels",
            f"{unseen} At most so many labels of an account are used.",
            "labels at most",
            b["by_labels"],
        ),
    ]
    title = f"Back-test on {metrics['spec']}"
    return Report(title, (), origin, metrics, _told(sections))


def evaluation_report(metrics: Metrics, origin: Origin, checkpoint: Checkpoint) -> Report:
    """The report of `app.training.figures.evaluation`."""
    metadata = checkpoint.metadata
    model = {"model": {"name": metadata.name, "digest": checkpoint.digest}}
    sections = [
        Section(
            "All labelled transactions",
            "Each scored with the labels its account had by then.",
            "transactions of",
            {"all accounts": metrics["all"]},
        ),
        Section(
            "By kind of fraud",
            "Frauds of one kind against all legitimate transactions.",
            "kind",
            metrics["by_kind"],
        ),
        Section(
            "By number of labels",
            "At most so many labels of an account are used.",
            "labels at most",
            metrics["by_labels"],
        ),
    ]
    notes = (_ON_TRAINING_DATA,) if metadata.data.sha256 == origin.data_sha256 else ()
    title = f"Evaluation of {metadata.name} on {metrics['spec']}"
    return Report(title, notes, origin, model | metrics, _told(sections))


_ON_TRAINING_DATA = (
    "The model was trained on this very file: these figures flatter it. A back-test does not."
)


def _told(sections: list[Section]) -> tuple[Section, ...]:
    return tuple(section for section in sections if section.groups)


def finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

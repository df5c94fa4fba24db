"""A report of figures: `metrics.json` for programs, `report.md` and `report.html` for people.

All three say the same, from one nested dictionary of figures (see `app.training.backtest`).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.training import markdown
from app.training.comparison import LOSS_HEADER, RECALL, Comparison, loss_row, losses
from app.training.curve import Curve
from app.training.page import page
from app.training.results import Metrics
from app.training.sections import Section, Titles
from app.training.verdict import against_base


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
    """Figures with all that is said about them.

    `notes` warn, `standings` say how the rivals stand and `remarks` how sure that is; `tiles`
    name the groups of figures that sum it all up.
    """

    title: str
    notes: tuple[str, ...]
    origin: Origin
    metrics: Metrics
    sections: tuple[Section, ...]
    standings: tuple[str, ...]
    remarks: tuple[str, ...]
    tiles: tuple[tuple[str, Metrics], ...]
    curve: Curve
    reliability: Metrics

    @property
    def titles(self) -> Titles:
        return titles_of(self.metrics)

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
    def comparisons(self) -> list[Comparison]:
        return [one for section in self.sections for one in section.comparisons]

    @property
    def verdict(self) -> tuple[str, ...]:
        """Who is ahead of whom, a paragraph a question."""
        one_class = [group for section in self.sections for group in section.one_class]
        return (*self.standings, against_base(self.comparisons, one_class), *self.remarks)

    def write(self, folder: Path) -> None:
        """Write metrics.json, report.md, report.html and labels.svg into a folder that exists."""
        said = json.dumps(finite(self.document), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / "metrics.json").write_text(f"{said}\n", encoding="utf-8")
        (folder / "report.md").write_text(self.markdown, encoding="utf-8")
        (folder / "report.html").write_text(page(self), encoding="utf-8")
        (folder / "labels.svg").write_text(self.curve.picture(RECALL), encoding="utf-8")

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
        parts += ["## Where adaptation loses", *map(markdown.escaped, self.verdict)]
        if lost := losses(self.comparisons):
            parts.append(markdown.table(LOSS_HEADER, map(loss_row, lost)))
        for section in self.sections:
            parts += [f"## {section.title}", markdown.escaped(section.note)]
            parts.append(markdown.table(section.header, section.rows, section.best))
            parts.append(markdown.escaped(section.legend))
        return "\n\n".join(part for part in parts if part) + "\n"


def titles_of(metrics: Metrics) -> Titles:
    """What each method is called, in the order of the tables."""
    return {name: method["title"] for name, method in metrics["methods"].items()}


def finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot say."""
    if isinstance(value, Mapping):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

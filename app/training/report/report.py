"""A report of figures: `metrics.json` for programs, `report.md` and `report.html` for people.

All three have the same figures, from one nested dictionary (see `app.training.backtest`).
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.training.report.charts import Curve, diagram, legend
from app.training.report.comparison import (
    AVERAGE_PRECISION,
    FIGURES,
    RECALL,
    Comparison,
    Figure,
    Groups,
    Titles,
    against_base,
)
from app.training.report.rendering import render
from app.training.report.sections import Section, of_losses
from app.training.results import Metrics


@dataclass(frozen=True)
class Origin:
    """Where a report comes from; it is in every form of it."""

    command: str
    data: str
    data_sha256: str
    created_at: str
    version: str


@dataclass(frozen=True)
class Report:
    """Figures and their tables, charts and conclusions.

    `notes` are warnings, `standings` compare the rivals and `remarks` say how certain that is.
    The chart of labels is of `by_labels`, with `bands` around some of its lines.
    """

    title: str
    origin: Origin
    metrics: Metrics
    summary: Section
    sections: Sequence[Section]
    calibration: Section
    reliability: Metrics
    by_labels: Groups
    bands: Mapping[str, Metrics] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    standings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        return {
            "Command": self.origin.command,
            "Data": self.origin.data,
            "SHA-256 of the data": self.origin.data_sha256,
            "Spec": str(self.metrics["spec"]),
            "Date": self.origin.created_at,
            "Created by": f"quickstudy {self.origin.version}",
        }

    @property
    def figures(self) -> list[Figure]:
        """Those that the tables show by their short names."""
        headers = {
            name for section in (*self.sections, self.calibration) for name in section.header
        }
        return [figure for figure in FIGURES if figure.short in headers]

    @property
    def comparisons(self) -> list[Comparison]:
        return [comparison for section in self.sections for comparison in section.comparisons]

    @property
    def losses(self) -> Section:
        return of_losses(self.comparisons)

    @property
    def verdict(self) -> tuple[str, ...]:
        """Which methods are ahead of which, a paragraph a question."""
        one_class = [group for section in self.sections for group in section.one_class]
        return (*self.standings, against_base(self.comparisons, one_class), *self.remarks)

    @property
    def document(self) -> Metrics:
        origin = {key: value for key, value in vars(self.origin).items() if key != "data"}
        return {**origin, **self.metrics}

    def write(self, folder: Path) -> None:
        """Write metrics.json, report.md, report.html and labels.svg into a folder that exists."""
        methods = self.metrics["methods"]
        curve = Curve(self.by_labels, methods, self.bands)
        page = render(
            "page.html",
            report=self,
            legend=legend(methods),
            curves=[curve.inline(figure) for figure in (AVERAGE_PRECISION, RECALL)],
            diagram=diagram(self.reliability, methods),
        )
        document = json.dumps(finite(self.document), indent=2, ensure_ascii=False, allow_nan=False)
        for name, content in {
            "metrics.json": f"{document}\n",
            "report.md": render("report.md", report=self),
            "report.html": page,
            "labels.svg": curve.picture(RECALL),
        }.items():
            (folder / name).write_text(content, encoding="utf-8")


def titles_of(metrics: Metrics) -> Titles:
    """The name of each method for people, in the order of the tables."""
    return {name: method["title"] for name, method in metrics["methods"].items()}


def finite(value: Any) -> Any:
    """The same with None for every number that JSON cannot express."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

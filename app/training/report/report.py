"""A report of figures: `metrics.json` for programs, `report.md` and `report.html` for people.

All three have the same figures, from one nested dictionary (see `app.training.backtest`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_json

from app.training.report.charts import curve, diagram, inline, legend, standalone
from app.training.report.comparison import (
    AVERAGE_PRECISION,
    FIGURES,
    RECALL,
    Comparison,
    Figure,
    Titles,
    against_base,
)
from app.training.report.rendering import render
from app.training.report.sections import Section, of_losses, of_reliability
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
    The charts are of `charted`, the part of the metrics with figures by the number of labels.
    """

    title: str
    origin: Origin
    metrics: Metrics
    summary: Section
    sections: Sequence[Section]
    charted: Metrics
    notes: tuple[str, ...] = ()
    standings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        """Where the figures come from, as the foot of the report has it."""
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
        headers = {name for section in self.sections for name in section.header}
        return [figure for figure in FIGURES if figure.short in headers]

    @property
    def comparisons(self) -> list[Comparison]:
        return [comparison for section in self.sections for comparison in section.comparisons]

    @property
    def calibration(self) -> Section:
        return of_reliability(self.charted["reliability"], titles_of(self.metrics))

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
        methods, bands = self.metrics["methods"], self.charted.get("bands_by_labels", {})
        curves = self.charted["by_labels"], bands, methods
        page = render(
            "page.html",
            report=self,
            has_bands=bool(bands),
            legend=legend(methods),
            curves=[inline(curve(*curves, figure)) for figure in (AVERAGE_PRECISION, RECALL)],
            diagram=inline(diagram(self.charted["reliability"], methods)),
        )
        document = to_json(self.document, indent=2, inf_nan_mode="null").decode()
        for name, content in {
            "metrics.json": f"{document}\n",
            "report.md": render("report.md", report=self),
            "report.html": page,
            "labels.svg": standalone(curve(*curves, RECALL, with_legend=True)),
        }.items():
            (folder / name).write_text(content, encoding="utf-8")


def titles_of(metrics: Metrics) -> Titles:
    """The name of each method for people, in the order of the tables."""
    return {name: method["title"] for name, method in metrics["methods"].items()}

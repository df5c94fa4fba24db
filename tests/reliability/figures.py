"""What the full forms saw, kept in figures.json: `python -m tests.reliability.figures` writes the
table of docs/reliability.md, between its two marker comments."""

import json
from datetime import UTC, datetime
from pathlib import Path

from app.training.report.rendering import markdown_table
from benchmarks.tables import with_figures

FIGURES = Path(__file__).with_name("figures.json")
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
HEAD = ["promise", "database", "what was seen", "test", "on"]


def note(promise: str, database: str, seen: str, test: str) -> None:
    """Keep what a test saw, in place of what it saw before. `test` is its pytest id."""
    figures = _read()
    today = datetime.now(UTC).date().isoformat()
    figures[f"{test} {promise}"] = [promise, NAMES.get(database, database), seen, test, today]
    FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")


def page() -> str:
    """The document with the figures of figures.json."""
    rows = sorted(_read().values(), key=lambda row: row[0].lower())
    return with_figures(DOCUMENT, markdown_table(HEAD, rows))


def _read() -> dict[str, list[str]]:
    figures: dict[str, list[str]] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return figures


if __name__ == "__main__":
    DOCUMENT.write_text(page())

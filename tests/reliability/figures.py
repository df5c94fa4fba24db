"""What the full forms saw, kept in figures.json: `python -m tests.reliability.figures` writes the
table of docs/reliability.md, between its two marker comments."""

import json
from datetime import UTC, datetime
from pathlib import Path

from app.training.report.rendering import markdown_table

FIGURES = Path(__file__).with_name("figures.json")
DOCUMENT = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGINNING, END = "<!-- figures -->", "<!-- end of figures -->"
NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}
HEAD = ["promise", "database", "what was seen", "test", "on"]


def note(promise: str, database: str, seen: str, test: str) -> None:
    """Keep what a test saw, in place of what it saw before. `test` is its pytest id."""
    figures = _read()
    today = datetime.now(UTC).date().isoformat()
    figures[f"{test} {promise}"] = [promise, NAMES.get(database, database), seen, test, today]
    FIGURES.write_text(json.dumps(dict(sorted(figures.items())), indent=1) + "\n")


def main() -> None:
    """Write the table into the document; raises SystemExit where it has no place for it."""
    before, found, rest = DOCUMENT.read_text().partition(BEGINNING)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{DOCUMENT} lacks {BEGINNING} or {END}")
    table = markdown_table(HEAD, sorted(_read().values(), key=lambda row: row[0].lower()))
    DOCUMENT.write_text(f"{before}{BEGINNING}\n\n{table}\n\n{END}{after}")


def _read() -> dict[str, list[str]]:
    figures: dict[str, list[str]] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    return figures


if __name__ == "__main__":
    main()

"""The figures of results.json as tables in docs/benchmarks.md, as `python -m benchmarks.tables`.

What stands between two marker comments is replaced, in that file or in another one that is named.
A run that was never made has no table.
"""

import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from app.training.report.rendering import code, markdown_table
from benchmarks.results import read

DOCUMENT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGINNING, END = "<!-- figures -->", "<!-- end of figures -->"

# By the name in results.json: what it is, and what is wanted of it. These are of each database.
COMPARED = {
    "single.vs_plain_fastapi": ("single payments a second, to plain FastAPI's", "1, better 2"),
    "single.vs_stored": ("… to those of what one would write instead, which stores", "at least 5"),
    "single.vs_mosec": ("… to mosec's", ""),
    "single.vs_litserve": ("… to LitServe's", ""),
    "single.vs_bentoml": ("… to BentoML's", ""),
    "single.vs_ray": ("… to Ray Serve's", ""),
    "single.p99_over_p50": ("their 99th percentile of latency, to the median", "at most 4"),
    "batch.vs_single": ("payments a second in batches of 1,000, to single ones", "at least 10"),
    "batch.vs_alone": ("… to single ones over one connection, as batches come", ""),
    "labels.p99_ratio": (
        "the 99th percentile with 50 posts of labels a second beside, to that without",
        "at most 1.5",
    ),
}
OTHERS = {
    "batch.at_most": ("a payment in a batch of 32, to SQLite's part alone in a batch of 1,000", ""),
    "workers.two_over_one": ("two workers, to one, on PostgreSQL", "at least 1.6"),
    "workers.apart_over_one": ("two services that share no database, likewise", ""),
    "growth.accounts": ("a batch with most accounts, to one with 1,000", "at most 1.3"),
    "growth.rows": ("a batch with most transactions stored, to one with none", "at most 1.3"),
    "growth.rows.single": ("one payment alone, likewise", "at most 1.3"),
    "training.vs_loop": ("a meta step as a loop over 32 accounts, to one batch of them", ""),
}
MEASURED = {
    "plain_fastapi": "plain FastAPI",
    "mosec": "mosec",
    "litserve": "LitServe",
    "bentoml": "BentoML",
    "ray": "Ray Serve, multiplexed",
    "stored": "FastAPI, SQLAlchemy and modules, SQLite",
    "postgresql.stored": "… PostgreSQL",
    "single": "Quickstudy, single, SQLite",
    "labels": "… with labels beside",
    "alone": "… one after another",
    "batch": "… in batches of 1,000",
    "postgresql.single": "Quickstudy, single, PostgreSQL",
    "postgresql.labels": "… with labels beside",
    "postgresql.alone": "… one after another",
    "postgresql.batch": "… in batches of 1,000",
    "workers.one": "one worker, PostgreSQL, all cores",
    "workers.two": "two workers",
    "workers.apart": "two services, a database each",
}
# What the load generator saw, by the head of its column.
SEEN = {
    "a second": ("per_second",),
    "p50, ms": ("milliseconds", "p50"),
    "p99, ms": ("milliseconds", "p99"),
    "labels' p50, ms": ("paced_milliseconds", "p50"),
    "cores: service": ("processor_shares", "server"),
    "PostgreSQL": ("processor_shares", "postgres"),
    "load": ("busy_share",),
    "durable write, ms": ("sync_milliseconds",),
}
# Microseconds of a payment, by the name in results.json.
STORED = {
    "together_us": "a payment of a batch of 32, µs",
    "thousand_us": "of 1,000",
    "sqlite_us": "SQLite's part of it",
    "reads_us": "its reads",
    "writes_us": "its writes",
    "commit_us": "its commit",
}


def main(path: Path) -> None:
    path.write_text(page(path))


def page(path: Path = DOCUMENT) -> str:
    """The page with the figures of results.json."""
    return with_figures(path, rendered(read()))


def with_figures(path: Path, figures: str) -> str:
    """A page with these figures between its marker comments; raises SystemExit without these."""
    before, found, rest = path.read_text().partition(BEGINNING)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"{path} lacks {BEGINNING} or {END}")
    return f"{before}{BEGINNING}\n\n{figures}\n\n{END}{after}"


def rendered(results: dict[str, Any]) -> str:
    """All tables, each under the line that says when and how its figures came about."""
    runs = results.get("runs", {})
    parts = [compared(results), others(results)]
    if run := runs.get("throughput"):
        parts += [origin(run), throughput(run["rounds"])]
    if run := runs.get("profiling"):
        parts += [origin(run), profile(run)]
    if run := runs.get("storing"):
        parts += [origin(run), columns(STORED, [run])]
    if run := runs.get("growth"):
        parts += [origin(run), *growth(run)]
    if run := runs.get("meta_step"):
        parts += [origin(run), training(run["algorithms"])]
    return "\n\n".join(parts)


def origin(run: dict[str, Any]) -> str:
    return f"{run['date']}, {run['machine']}, Python {run['python']}, {code(run['command'])}:"


def compared(results: dict[str, Any]) -> str:
    rows = [
        (what, number(results.get(key)), number(results.get(f"postgresql.{key}")), wanted)
        for key, (what, wanted) in COMPARED.items()
        if key in results
    ]
    return markdown_table(("ratio", "SQLite", "PostgreSQL", "wanted"), rows)


def others(results: dict[str, Any]) -> str:
    rows = [(what, number(results.get(key)), wanted) for key, (what, wanted) in OTHERS.items()]
    return markdown_table(("ratio", "", "wanted"), rows)


def throughput(rounds: Sequence[dict[str, Any]]) -> str:
    """Medians of the rounds."""
    rows = []
    for name, what in MEASURED.items():
        if seen := [figures[name] for figures in rounds if name in figures]:
            rows.append([what, *(median(seen, path) for path in SEEN.values())])
    return markdown_table(("", *SEEN), rows)


def median(seen: Iterable[Any], path: Sequence[str]) -> str:
    """Of the figure at that path, where there is one."""
    for name in path:
        seen = [figures[name] for figures in seen if name in figures]
    found = list(seen)
    return number(statistics.median(found) if found else None)


def profile(run: dict[str, Any]) -> str:
    """The parts of a request, the dearest first."""
    rows = [(part, number(took)) for part, took in run["parts"].items()]
    return markdown_table(("of a request", "µs"), [*rows, ("all of it", number(run["request_us"]))])


def growth(run: dict[str, Any]) -> list[str]:
    sizes = (
        f"A durable write of 4 KiB took {number(run['sync_milliseconds'])} ms. An account takes "
        f"{number(run['accounts'][-1]['account_bytes'])} bytes on disk, a transaction "
        f"{number(run['rows'][-1]['transaction_bytes'])} with its indexes, and an "
        f"adapted copy {number(run['copy_bytes'])} in the bank."
    )
    crowd = {
        "accounts": "accounts",
        "transactions": "transactions stored",
        "single_ms": "one payment, ms",
        "batch_ms": "batch of 32, ms",
    }
    labels = {
        "labels": "labels of the account",
        "missing_ms": "copy to be made, ms",
        "there_ms": "copy there, ms",
    }
    return [
        columns(crowd, run["accounts"]),
        columns(crowd, run["rows"]),
        columns(labels, run["labels"]),
        columns({"batch": "payments in a batch", "us": "a payment, µs"}, run["widths"]),
        sizes,
    ]


def training(algorithms: Sequence[dict[str, Any]]) -> str:
    named = {
        "algorithm": "a meta step over 32 accounts",
        "batched_ms": "one batch, ms",
        "plain_ms": "plain loop, ms",
        "vs_plain": "times as long",
        "thrifty_ms": "thrifty loop, ms",
        "vs_thrifty": "times as long",
    }
    return columns(named, algorithms)


def columns(named: dict[str, str], rows: Iterable[dict[str, Any]]) -> str:
    """A table of some of the figures, by the heads that they get."""
    return markdown_table(
        tuple(named.values()), [[number(row[name]) for name in named] for row in rows]
    )


def number(value: float | str | None) -> str:
    """All of a whole number or a large one, a fraction's first digits."""
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if value >= 10 else 2}f}".removeprefix("0")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else DOCUMENT)

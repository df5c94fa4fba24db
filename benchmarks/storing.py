"""What SQLite alone takes of a batch of 1,000 payments, as `python -m benchmarks.storing`.

Batches of 1,000 payments of 1,000 accounts go through the pipeline, and every statement is written
down with its values. Then the driver alone runs the same statements on a copy of the database as
it was before, prepared text by prepared text: it reads, writes and commits what the service does,
and nothing else is computed. Batches of 32 go through the pipeline too, as single payments over 32
connections share them. No code that stores these rows as durably can make batches more times as
fast as those than `batch.at_most`.
"""

import asyncio
import json
import shutil
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast
from unittest.mock import patch

import torch
from sqlalchemy import make_url

from app.db.sqlite import BEGIN, CACHE_KIB, SQLiteConnection, create_in_place
from benchmarks.growth import BATCH, milliseconds, posted, prepare, started
from benchmarks.results import keep
from benchmarks.serving.driving import sync_milliseconds
from benchmarks.serving.material import (
    AT_ONCE,
    BATCHED_ACCOUNTS,
    BATCHED_PAST_DAYS,
    LEFT_OVER,
)
from benchmarks.serving.traffic import batches, traffic

TURNS = 20


class Statement(NamedTuple):
    """A query with its parameters, or a write with its rows."""

    text: str
    values: Sequence[Any]
    writes: bool


async def main() -> None:
    torch.set_num_threads(1)
    count = round(LEFT_OVER * AT_ONCE * (TURNS + 1))
    simulated = traffic(BATCHED_ACCOUNTS, BATCHED_PAST_DAYS, count, seed=1)
    thousands = [
        [posted(json.dumps(payment)) for payment in json.loads(body)["transactions"]]
        for body in batches(simulated.payments, AT_ONCE)
    ]
    thousands, few = thousands[:TURNS], thousands[TURNS]
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name:
        path, before = Path(name, "served.db"), Path(name, "before.db")
        async with started(path) as service:
            await prepare(service, simulated)
        shutil.copy(path, before)
        statements_of: list[list[Statement]] = []
        took: dict[str, list[float]] = {"together": [], "thousand": []}
        async with started(path) as service:
            for batch in thousands:
                with noted() as statements:
                    took["thousand"].append(await milliseconds(service, batch))
                statements_of.append(statements)
            for first in range(0, AT_ONCE - BATCH, BATCH):
                together = few[first : first + BATCH]
                took["together"].append(await milliseconds(service, together))
        alone = list(replayed(before, statements_of))
        durable_ms = sync_milliseconds(Path(name))
    reads, writes, commits = zip(*alone, strict=True)
    figures = {
        "together_us": microseconds(took["together"], BATCH),
        "thousand_us": microseconds(took["thousand"], AT_ONCE),
        "sqlite_us": microseconds([sum(parts) for parts in alone], AT_ONCE),
        "reads_us": microseconds(reads, AT_ONCE),
        "writes_us": microseconds(writes, AT_ONCE),
        "commit_us": microseconds(commits, AT_ONCE),
    }
    for figure, value in figures.items():
        print(f"{figure}: {value:.1f}")
    most = figures["together_us"] / figures["sqlite_us"]
    print(f"batch.at_most: {most:.3f}")
    keep({"batch.at_most": most}, sync_milliseconds=durable_ms, **figures)


def microseconds(took: Sequence[float], payments: int) -> float:
    """Of a payment, from the milliseconds of batches: the median."""
    return 1e3 * statistics.median(took) / payments


@contextmanager
def noted() -> Iterator[list[Statement]]:
    """The statements that go to SQLite meanwhile."""
    statements: list[Statement] = []
    query, write = SQLiteConnection._query, SQLiteConnection._write

    async def queried(
        self: SQLiteConnection, text: str, parameters: tuple[Any, ...], *how: Any
    ) -> list[Any]:
        statements.append(Statement(text, parameters, False))
        return await query(self, text, parameters, *how)

    async def written(
        self: SQLiteConnection, text: str, rows: Sequence[tuple[Any, ...]], *how: Any
    ) -> None:
        statements.append(Statement(text, rows, True))
        await write(self, text, rows, *how)

    with (
        patch.object(SQLiteConnection, "_query", queried),
        patch.object(SQLiteConnection, "_write", written),
    ):
        yield statements


def replayed(
    path: Path, batches: Sequence[Sequence[Statement]]
) -> Iterator[tuple[float, float, float]]:
    """Milliseconds of the reads, the writes and the commit of each batch."""
    engine = create_in_place(make_url(f"sqlite:///{path}"), 0, CACHE_KIB, begins=False)
    with closing(engine.raw_connection()) as pooled:
        driver = cast(sqlite3.Connection, pooled.driver_connection)
        driver.execute("PRAGMA wal_autocheckpoint=0")
        for statements in batches:
            reads = writes = 0.0
            driver.execute(BEGIN)
            for text, values, is_write in statements:
                begun = time.perf_counter()
                if is_write:
                    driver.executemany(text, values)
                    writes += time.perf_counter() - begun
                else:
                    driver.execute(text, values).fetchall()
                    reads += time.perf_counter() - begun
            begun = time.perf_counter()
            driver.commit()
            yield 1e3 * reads, 1e3 * writes, 1e3 * (time.perf_counter() - begun)


if __name__ == "__main__":
    asyncio.run(main())

"""`quickstudy import` here beside that of another checkout: rows a second, and what they store.

    python -m benchmarks.importing CHECKOUT [--accounts 1500] [--rounds 3] [--sqlite]

CHECKOUT is a folder with another commit, its kernels compiled. Both import the same simulated
payments, all with labels and five kinds of entities, into databases of their own on one PostgreSQL
that stores durably, in turns. What a command takes for ten rows is taken off. The databases must
be the same row by row, but for times of the clock.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from app.db.database import Database
from app.db.migrating import upgrade
from app.db.schema import metadata
from app.simulator.simulate import simulate
from tests.postgres import DURABLE, postgres_server

HERE = Path(__file__).parents[1]
DAYS, SEED, FEW = 60, 3, 10
OF_THE_CLOCK = {"recorded_at_us", "evaluated_at_us", "created_at_us"}
TABLES = (
    *("accounts", "entities", "links", "transactions"),
    *("labels", "label_entities", "label_events"),
)


def seconds(checkout: Path, file: Path, url: str) -> float:
    """How long the command of a checkout takes."""
    upgrade(url)
    command = [sys.executable, "-m", "app.cli.main", "import", str(file), "--spec", "simulated"]
    variables = {
        "PYTHONPATH": str(checkout),
        "QUICKSTUDY_DATABASE_URL": url,
        "QUICKSTUDY_MODEL": str(HERE / "models/default"),
        "QUICKSTUDY_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    started = time.perf_counter()
    subprocess.run(
        command, cwd=checkout, env={**os.environ, **variables}, check=True, capture_output=True
    )
    return time.perf_counter() - started


def differing(urls: list[str]) -> list[str]:
    """The tables that the databases do not have the same rows of."""

    async def rows(url: str) -> dict[str, list[tuple[object, ...]]]:
        database, found = Database(url), {}
        try:
            async with database.read() as connection:
                for name in TABLES:
                    table = metadata.tables[name]
                    columns = [column for column in table.c if column.name not in OF_THE_CLOCK]
                    query = table.select().with_only_columns(*columns)
                    stored = await connection.read(tuple[object, ...], query)
                    found[name] = sorted(stored, key=repr)
        finally:
            await database.close()
        return found

    old, new = [asyncio.run(rows(url)) for url in urls]
    return [name for name in TABLES if old[name] != new[name]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--accounts", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sqlite", action="store_true")
    options = parser.parse_args()
    checkouts = {"old": options.checkout.resolve(), "new": HERE}
    took: dict[str, list[float]] = {name: [] for name in checkouts}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quickstudy-bench-")))
        create: Callable[[str], str]
        if options.sqlite:
            create = lambda name: f"sqlite:///{home / name}.db"  # noqa: E731
        else:
            create = stack.enter_context(postgres_server(DURABLE)).create
        payments = simulate(accounts=options.accounts, days=DAYS, seed=SEED)
        payments.write_parquet(home / "all.parquet")
        payments.sort("occurred_at").head(FEW).write_parquet(home / "few.parquet")
        size, urls = len(payments) - FEW, list[str]()
        for n in range(options.rounds):
            urls = [create(f"all_{name}_{n}") for name in checkouts]
            for (name, checkout), url in zip(checkouts.items(), urls, strict=True):
                few = seconds(checkout, home / "few.parquet", create(f"few_{name}_{n}"))
                whole = seconds(checkout, home / "all.parquet", url)
                took[name].append(whole - few)
                print(f"{name}: {size / (whole - few):,.0f} rows/s", flush=True)
        if different := differing(urls):
            sys.exit(f"the databases differ in {', '.join(different)}")
    ratios = [old / new for old, new in zip(took["old"], took["new"], strict=True)]
    print(f"{len(payments):,} rows: {statistics.median(ratios):.2f} times as many rows a second")


if __name__ == "__main__":
    main()

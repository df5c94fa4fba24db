"""What a score costs as things grow, as `python -m benchmarks.growth [--rows 10000000]`.

SQLite databases in one process, straight through the pipeline, from a parsed payment to its commit.
All come from one that has scored the past of 1,000 simulated accounts: each is filled in bulk with
copies of these accounts and of their newest transactions, and scores the same payments of copies
drawn at random, which have no labels. The databases take turns; the median of the turns is printed.
A million rows unless `--rows` says more: ten million take 15 GB of disk and some minutes.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch

from app.db.migrating import upgrade
from app.http.parts import Service
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.models.service import Models
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.schemas import PostedTransaction
from app.settings import Settings
from app.web.service import running
from benchmarks.filling import NEWEST, Filled, copy_of, fill
from benchmarks.results import keep
from benchmarks.serving.driving import sync_milliseconds
from benchmarks.serving.traffic import Payment, Traffic, traffic

TENANT = "default"
AT_ONCE = 1000
SIMULATED, PAST_DAYS, PAYMENTS = 1000, 20, 30_000
WIDTHS, WIDTH_TURNS = (1, 10, 32, 100, 1000), 20
POPULATIONS = (1, 1000, 100_000, 1_000_000)
LEAST_ROWS, POPULATION_OF_ROWS = 1_000_000, 100_000
BATCH, TURNS = 32, 40
LABELS = (0, 1, 4, 16, 32)
LABELLED, LABELLED_PAST_DAYS, LABELLED_PAYMENTS = 200, 60, 6000

# Of a table: what grows, and what it costs.
Row = dict[str, Any]


class Crowd(NamedTuple):
    """A database of accounts: so many copies of each simulated one, or one account alone."""

    service: Service
    filled: Filled
    copies: int

    def drawn(self, payment: Payment, random: Random) -> Posted:
        """The payment as one of a copy of its account."""
        tenant, transaction = posted(payment.body)
        copy = copy_of(payment.account_id, random.randrange(self.copies))
        return Posted(tenant, transaction._replace(account_id=copy))


async def main(most_rows: int) -> None:
    torch.set_num_threads(1)
    simulated = traffic(SIMULATED, PAST_DAYS, PAYMENTS)
    payments = simulated.payments[WIDTH_TURNS * sum(WIDTHS) :]
    row_counts = sorted({0, LEAST_ROWS, most_rows})
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name:
        template = Path(name) / "template.db"
        async with started(template) as service:
            copy_bytes = service.part(Models).default.copy_bytes
            await prepare(service, simulated)
            widths = await by_width(service, simulated.payments)
        accounts = await by_crowd(template, payments, [(size, 0) for size in POPULATIONS])
        rows = await by_crowd(template, payments, [(POPULATION_OF_ROWS, n) for n in row_counts])
        labels = await by_labels(Path(name) / "labelled.db")
        durable_ms = sync_milliseconds(Path(name))
    ratios = {
        "growth.accounts": ratio(accounts, 1),
        "growth.rows": ratio(rows, 0),
        "growth.rows.single": ratio(rows, 0, "single_ms"),
    }
    for key, value in ratios.items():
        print(f"{key}: {value:.3f}")
    keep(
        ratios,
        sync_milliseconds=durable_ms,
        copy_bytes=copy_bytes,
        accounts=accounts,
        rows=rows,
        labels=labels,
        widths=widths,
    )


def ratio(table: Sequence[Row], n: int, of: str = "batch_ms") -> float:
    """How many times as long a batch takes in the largest database as in the n-th."""
    found: float = table[-1][of] / table[n][of]
    return found


@asynccontextmanager
async def started(path: Path) -> AsyncIterator[Service]:
    settings = Settings(database_url=f"sqlite:///{path}")
    await asyncio.to_thread(upgrade, settings.database_url)
    async with running(settings) as service:
        yield service


async def prepare(service: Service, simulated: Traffic) -> None:
    """Score the past and store its labels."""
    await score_past(service, simulated)
    verdicts = [
        Verdict(label["transaction_id"], label["label"] == "fraud") for label in simulated.labels
    ]
    await service.part(Labelling).store_each(TENANT, verdicts)


async def score_past(service: Service, simulated: Traffic) -> None:
    past = [posted(json.dumps(body)) for body in simulated.past]
    for first in range(0, len(past), AT_ONCE):
        await service.part(Pipeline).score(past[first : first + AT_ONCE])


async def by_width(service: Service, payments: Sequence[Payment]) -> list[Row]:
    """By how many there are in a batch: microseconds a transaction."""
    took, waiting = defaultdict[int, list[float]](list), iter(payments)
    for _ in range(WIDTH_TURNS):
        # Widest first: whatever comes right after a batch of a thousand takes longer for it.
        for width in reversed(WIDTHS):
            batch = [posted(body) for _, body in islice(waiting, width)]
            took[width].append(await milliseconds(service, batch))
    return printed(
        {"batch": width, "us": round(1e3 * statistics.median(took[width]) / width)}
        for width in WIDTHS
    )


async def by_crowd(
    template: Path, payments: Sequence[Payment], sizes: Sequence[tuple[int, int]]
) -> list[Row]:
    """By accounts and transactions: milliseconds of a payment alone, and of a batch."""
    # An account that is alone in a database needs enough payments.
    [(busiest, _)] = Counter(payment.account_id for payment in payments).most_common(1)
    alone = [payment for payment in payments if payment.account_id == busiest][:TURNS]
    others, random = (
        iter([payment for payment in payments if payment.account_id != busiest]),
        Random(0),
    )
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=template.parent)))
        crowds = []
        for accounts, rows in sizes:
            path = Path(shutil.copy(template, folder / f"{accounts}-{rows}.db"))
            copies = max(accounts // SIMULATED, 1)
            times = round(rows / (SIMULATED * copies * NEWEST))
            only = busiest if accounts == 1 else None
            filled = await asyncio.to_thread(fill, path, copies, times, only)
            crowds.append(Crowd(await stack.enter_async_context(started(path)), filled, copies))
        singles: list[list[float]] = [[] for _ in crowds]
        batches: list[list[float]] = [[] for _ in crowds]
        for payment in alone:
            batch = list(islice(others, BATCH))
            for n, crowd in enumerate(crowds):
                drawn = [crowd.drawn(other, random) for other in (payment, *batch)]
                singles[n].append(await milliseconds(crowd.service, drawn[:1]))
                if crowd.filled.accounts > 1:
                    batches[n].append(await milliseconds(crowd.service, drawn[1:]))
    return printed(
        {
            **crowd.filled._asdict(),
            "single_ms": round(statistics.median(singles[n]), 3),
            "batch_ms": round(statistics.median(batches[n]), 3) if batches[n] else None,
        }
        for n, crowd in enumerate(crowds)
    )


async def by_labels(path: Path) -> list[Row]:
    """By an account's labels: milliseconds of a payment whose copy is to be made, and of the next.

    All labels say legitimate: it is not for reasons that the payments take their time.
    """
    simulated = traffic(LABELLED, LABELLED_PAST_DAYS, LABELLED_PAYMENTS)
    past, payments = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for body in simulated.past:
        past[body["account_id"]].append(body["transaction_id"])
    for account_id, text in simulated.payments:
        payments[account_id].append(text)
    able = [key for key in past if len(past[key]) >= LABELS[-1] and len(payments[key]) > 1]
    chosen = dict(zip(able, cycle(LABELS), strict=False))
    verdicts = [
        Verdict(transaction_id, False)
        for key in chosen
        for transaction_id in past[key][len(past[key]) - chosen[key] :]
    ]
    async with started(path) as service:
        await score_past(service, simulated)
        await service.part(Labelling).store_each(TENANT, verdicts)
    missing, there = defaultdict[int, list[float]](list), defaultdict[int, list[float]](list)
    # A service that has just begun has made no copies.
    async with started(path) as service:
        for key, labels in chosen.items():
            first, second = (posted(body) for body in payments[key][:2])
            missing[labels].append(await milliseconds(service, [first]))
            there[labels].append(await milliseconds(service, [second]))
    return printed(
        {
            "labels": labels,
            "missing_ms": round(statistics.median(missing[labels]), 3),
            "there_ms": round(statistics.median(there[labels]), 3),
        }
        for labels in LABELS
    )


async def milliseconds(service: Service, batch: Sequence[Posted]) -> float:
    """How long a batch takes, from its parsed payments to its commit."""
    begun = time.perf_counter()
    await service.part(Pipeline).score(batch)
    return 1e3 * (time.perf_counter() - begun)


def posted(body: str) -> Posted:
    return Posted(TENANT, PostedTransaction.model_validate_json(body).transaction())


def printed(table: Iterable[Row]) -> list[Row]:
    rows = list(table)
    for row in rows:
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--rows", type=int, default=LEAST_ROWS, help="transactions at most")
    asyncio.run(main(parser.parse_args().rows))

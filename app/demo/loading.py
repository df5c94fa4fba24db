"""Loading the demonstration: a history with the labels that came, and last days that wait."""

import gzip
import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from app.db.database import Database
from app.db.patience import Patience
from app.demo.schemas import DemoLoaded
from app.errors import Problem
from app.history.importing import Importer, Past
from app.learner.transaction import DAY_US, SECOND_US
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.records import Scored
from app.scoring.schemas import PostedTransaction
from app.times import now_us, text_of

FILE = Path(__file__).parent / "payments.jsonl.gz"
# Payments of one commit: on SQLite everybody else who writes waits for it.
CHUNK = 100
# Of the last week each payment is scored as it would have been live, so that reviews open.
SCORED_US = 7 * DAY_US


class Demonstration(NamedTuple):
    """Payments that are known, with their labels, and those that are to be scored."""

    end_us: int
    past: list[Past]
    live: list[Past]


def demonstration(end_us: int) -> Demonstration:
    """The payments of the file, moved so that they end then, in the order of time."""
    payments = sorted(_payments(end_us), key=lambda past: past.transaction.occurred_at_us)
    since_us = end_us - SCORED_US
    return Demonstration(
        end_us,
        [past for past in payments if past.transaction.occurred_at_us < since_us],
        [past for past in payments if past.transaction.occurred_at_us >= since_us],
    )


async def load(
    database: Database,
    pipeline: Pipeline,
    tenant: str,
    notify: Callable[[str], None] = lambda _: None,
) -> DemoLoaded:
    """Bring the demonstration into a tenant's data. Raises Problem.

    Where the database is away for a while it waits, and `notify` gets a sentence. What was
    interrupted goes on where it was.
    """
    patience = Patience(notify)
    found = await patience.run(partial(_begun, database, tenant, demonstration(now_us())))
    importer = Importer(database, pipeline, patience)
    for chunk in _chunks(found.past):
        await importer.add(tenant, chunk)
    outcomes = {"review": 0, "decline": 0}
    for chunk in _chunks(found.live):
        for row in await patience.run(partial(_scored, pipeline, tenant, chunk)):
            if row.outcome in outcomes:
                outcomes[row.outcome] += 1
    return DemoLoaded(
        payments=len(found.past) + len(found.live),
        labels=sum(
            past.is_fraud is not None and past.known_at_us <= now_us() for past in found.past
        ),
        reviews=outcomes["review"],
        declines=outcomes["decline"],
    )


async def _begun(database: Database, tenant: str, fresh: Demonstration) -> Demonstration:
    """What an earlier attempt began to bring, which ended at another time; else the fresh one."""
    first = fresh.past[0].transaction
    async with database.read() as connection:
        stored = await transaction_store.scored(connection, tenant, [first.transaction_id])
    if not stored:
        return fresh
    end_us = fresh.end_us + stored[first.transaction_id].occurred_at_us - first.occurred_at_us
    return demonstration(end_us)


async def _scored(pipeline: Pipeline, tenant: str, chunk: list[Past]) -> list[Scored]:
    rows: list[Scored] = []
    for row in await pipeline.score([Posted(tenant, past.transaction) for past in chunk]):
        if isinstance(row, Problem):
            raise row
        rows.append(row)
    return rows


def _payments(end_us: int) -> Iterator[Past]:
    with gzip.open(FILE, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            at_us = end_us - row["before"] * SECOND_US
            body = {**row["payment"], "occurred_at": text_of(at_us)}
            transaction = PostedTransaction.model_validate(body).transaction()
            known_at_us = at_us + int(row.get("days", 0) * DAY_US)
            yield Past(transaction, row.get("fraud"), known_at_us)


def _chunks(payments: list[Past]) -> Iterator[list[Past]]:
    rest = iter(payments)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk

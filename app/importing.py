"""A history brought into the database: transactions, states and labels as if scored live."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.database import Database
from app.errors import Problem, SetupError
from app.forgetting import event_of
from app.labelling import counted
from app.pipeline import Pipeline
from app.rows import StoredLabel
from app.times import now_us
from app.transactions import Transaction

# As many as a batch of the API: one commit for each.
CHUNK = 1000


class Past(NamedTuple):
    """A transaction of a file, its label if it has one, and when that became known."""

    transaction: Transaction
    is_fraud: bool | None
    known_at_us: int


async def import_chunk(
    database: Database, pipeline: Pipeline, tenant: str, chunk: Sequence[Past]
) -> None:
    """Store what is not stored yet of the next transactions in time order, in one commit.

    The base scores them: nobody asked for a decision then. A label is evidence about its
    merchant from when it was known and the spec's delay was over, as in training. What is there
    already stays as it is, labels included, so that an interrupted import continues by starting
    again. Raises SetupError where an id is taken by another transaction.
    """

    async def work(connection: AsyncConnection) -> None:
        transactions = [past.transaction for past in chunk]
        ids = [one.transaction_id for one in transactions]
        await store.lock_accounts(connection, tenant, {one.account_id for one in transactions})
        labelled = await store.labels_of(connection, tenant, ids)
        labels = [
            _label(tenant, past, pipeline.spec.label.delay_us)
            for past in chunk
            if past.is_fraud is not None and past.transaction.transaction_id not in labelled
        ]
        # Before the scores: a label may have become known within the chunk.
        await store.save_labels(connection, labels)
        for answer in await pipeline.score_of(connection, tenant, transactions, adapted=False):
            if isinstance(answer, Problem):
                raise SetupError(f"the file does not agree with the database: {answer.detail}")
        await store.count_labels(connection, tenant, counted(labels, []))
        accounts = await store.lock_accounts(connection, tenant, {one.account_id for one in labels})
        events = [event_of(label, accounts[label.account_id].revision) for label in labels]
        await store.save_label_events(connection, events)

    await database.run(work)


def _label(tenant: str, past: Past, delay_us: int) -> StoredLabel:
    return StoredLabel(
        tenant=tenant,
        transaction_id=past.transaction.transaction_id,
        account_id=past.transaction.account_id,
        merchant_id=past.transaction.merchant_id,
        is_fraud=bool(past.is_fraud),
        occurred_at_us=past.transaction.occurred_at_us,
        labelled_at_us=past.known_at_us,
        matures_at_us=max(past.known_at_us, past.transaction.occurred_at_us + delay_us),
        source="import",
        recorded_at_us=now_us(),
    )

"""Payments that are older than they are to be kept go, and what they were to states stays.

A payment that ever had a label stays: copies of accounts learn from it, and replays of what they
were. So does one that waits for a review. What all others were to their entities is kept with the
link of their account, so that the account can still be erased as if it had never been.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import delete, exists, select

from app.accounts import store as account_store
from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.db.database import Database, refuse_while_rebuilding
from app.db.pages import page
from app.db.patience import Patience
from app.db.schema import label_events, labels, past_features, reviews, transactions
from app.db.statements import IsWanted, by_key
from app.entities import states as entity_states
from app.erasures import store as erasure_store
from app.erasures.rebuilding import remainders_with
from app.errors import SetupError
from app.labels.correcting import PAUSE_SECONDS
from app.learner.entities import named_by
from app.learner.features import FeatureSet
from app.learner.transaction import DAY_US, transaction_of
from app.ops.background import in_a_thread
from app.scoring.records import Arrived
from app.scoring.store import COMPUTED_AT_US, any_features_digest
from app.times import now_us, text_of

# Chargebacks come for months; what is younger than this is looked back on by figures and budgets.
LEAST_DAYS = 30
# Payments in one transaction: their accounts and entities are locked for some milliseconds.
STEP_PAYMENTS = 100

# How many payments are gone.
Progress = Callable[[int], None]


class Prunable(NamedTuple):
    """A payment that may go."""

    occurred_at_us: int
    transaction_id: str
    account_id: str
    content: str
    computed_at_us: int


class _Step(NamedTuple):
    payments: int
    last: tuple[int, str]


async def prune(
    database: Database,
    features: FeatureSet,
    tenant: str,
    keep_days: int,
    show: Progress,
    patience: Patience,
    is_preview: bool = False,
) -> int:
    """Delete a tenant's payments of longer ago, but for those that ever had a label or wait for a
    review; how many.

    In steps, so that scores come between, and after the database was away on from there; it can be
    run again after it was interrupted. A preview deletes nothing. Raises SetupError for fewer days
    than LEAST_DAYS, or where the states are of other features than these.
    """
    if keep_days < LEAST_DAYS:
        raise SetupError(f"payments are kept for {LEAST_DAYS} days at least: say how many more")
    stored = await patience.run(partial(_features_digest, database))
    if stored not in (None, features.digest):
        raise SetupError(
            f"the states are of features {stored}, the model's are {features.digest}: name the "
            "model that is served, or run `quickstudy db rebuild`"
        )
    before_us = now_us() - keep_days * DAY_US
    after: tuple[int, str] | None = None
    gone = 0
    while True:
        step = partial(
            _step,
            features=features,
            tenant=tenant,
            before_us=before_us,
            after=after,
            is_first=not gone,
            is_preview=is_preview,
        )
        done = await patience.run(partial(database.run, step, aside=True))
        if done is None:
            break
        gone, after = gone + done.payments, done.last
        show(gone)
        await asyncio.sleep(PAUSE_SECONDS)
    return gone


async def _features_digest(database: Database) -> str | None:
    async with database.read() as connection:
        return await any_features_digest(connection)


async def _step(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    before_us: int,
    after: tuple[int, str] | None,
    is_first: bool,
    is_preview: bool,
) -> _Step | None:
    """Some payments more, the oldest first; None where there is none."""
    await refuse_while_rebuilding(connection, tenant)
    found = await _prunable(connection, tenant, before_us, after)
    if not found:
        return None
    last = found[-1].occurred_at_us, found[-1].transaction_id
    if not is_preview:
        # None is made: one may have been erased meanwhile.
        await account_store.lock_revisions(connection, tenant, {row.account_id for row in found})
        # Nobody sets a label on them any more, or erases their account.
        if found := await _prunable(connection, tenant, before_us, after, found):
            await _delete(connection, features, tenant, found)
            if is_first:
                facts = {"before": text_of(before_us)}
                log = [entry(tenant, "payments.pruned", tenant, after=facts)]
                await audit_store.save_entries(connection, log)
    return _Step(len(found), last)


async def _prunable(
    connection: Connection,
    tenant: str,
    before_us: int,
    after: tuple[int, str] | None,
    some: Sequence[Prunable] | None = None,
) -> list[Prunable]:
    """The oldest payments after a key that may go, or those of some that still may."""
    order = [transactions.c.occurred_at_us, transactions.c.transaction_id]
    query = select(*order, transactions.c.account_id, transactions.c.content, COMPUTED_AT_US).where(
        transactions.c.tenant == tenant,
        transactions.c.occurred_at_us < before_us,
        # Of labels of before events were kept, there is the label alone.
        *(
            ~exists().where(by_key(of, transactions, "transaction_id"))
            for of in (label_events, labels)
        ),
        ~exists().where(
            by_key(reviews, transactions, "transaction_id"), reviews.c.status == "open"
        ),
    )
    parameters: dict[str, Any] = {}
    if some is not None:
        query = query.where(IsWanted(transactions.c.transaction_id))
        parameters["wanted"] = [row.transaction_id for row in some]
    chosen = page(query, order, after, STEP_PAYMENTS)
    return await connection.read(Prunable._make, chosen, parameters)


async def _delete(
    connection: Connection, features: FeatureSet, tenant: str, gone: Sequence[Prunable]
) -> None:
    arrived = [Arrived(row.content, row.computed_at_us) for row in gone]
    kinds = features.spec.entity_names
    named = {
        (*entity, row.account_id)
        for row in gone
        for entity in named_by(transaction_of(row.content), kinds)
    }
    keys = sorted(named)
    # Whoever erases another account makes their sums anew from what is there.
    await entity_states.lock_only(connection, tenant, {key[:2] for key in keys})
    before = await erasure_store.remainders(connection, tenant, keys)
    after = await in_a_thread(partial(remainders_with, features, keys, arrived, before))
    await erasure_store.save_remainders(connection, tenant, after)
    await account_store.count_pruned(connection, tenant, Counter(row.account_id for row in gone))
    wanted = {"wanted": [row.transaction_id for row in gone]}
    for table in (transactions, reviews, past_features):
        await connection.execute(
            delete(table).where(table.c.tenant == tenant, IsWanted(table.c.transaction_id)), wanted
        )

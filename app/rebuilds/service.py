"""States and features of other definitions, made anew from the stored payments.

All of a tenant's payments are replayed in the order of time, as an import would bring them: labels
count from when they mature, and each payment by its status, or else by the outcome that it had. So
the states are those of the same payments in a new database. Scores stay as they were answered, and
what they were made of is kept for their replays.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np
from sqlalchemy import Delete, Update

from app.db.connection import Connection
from app.db.database import Database
from app.db.patience import Patience
from app.errors import SetupError
from app.labels import store as label_store
from app.labels.records import LabelEntity
from app.learner.entities import named_by
from app.learner.features import FeatureSet, Memory
from app.learner.transaction import MOST_ITEMS, transaction_of
from app.ops.background import in_a_thread
from app.rebuilds import store as rebuild_store
from app.rebuilds.records import Rebuild
from app.scoring import store as transaction_store
from app.scoring.pipeline import Entry, load, save_memory
from app.scoring.records import Scored
from app.times import now_us

COMMAND = "quickstudy db rebuild"
# How many payments there are in all, and how many are replayed.
Progress = Callable[[int, int], None]
Result = TypeVar("Result")


class Rebuilder:
    """Rebuilds what a database remembers, for some features.

    Every step is a commit, and begins where the one before has ended, whoever took it: one that was
    killed goes on there, and two that were started at once take turns.
    """

    def __init__(
        self,
        database: Database,
        features: FeatureSet,
        patience: Patience,
        size: int = MOST_ITEMS,
    ) -> None:
        self._database = database
        self._features = features
        self._patience = patience
        # Of payments, in one step.
        self._size = size

    async def run(self, show: Progress) -> int:
        """Rebuild the states of all tenants, if they are of other features; how many payments.

        While the database is away this waits. Raises SetupError where it stays away, or where
        another rebuild, for other features, has begun meanwhile.
        """
        rebuilds = {row.tenant: row for row in await self._run(self._begin)}
        payments = sum(row.payments for row in rebuilds.values())
        for tenant in rebuilds:
            await self._clear(tenant)
            while not rebuilds[tenant].is_done:
                show(payments, sum(row.replayed for row in rebuilds.values()))
                rebuilds[tenant] = await self._run(partial(self._replay, tenant=tenant))
        show(payments, payments)
        await self._run(self._end)
        return payments

    async def _run(self, step: Callable[[Connection], Awaitable[Result]]) -> Result:
        return await self._patience.run(lambda: self._database.run(step, aside=True))

    async def _begin(self, connection: Connection) -> list[Rebuild]:
        """The rebuilds to finish: none where nothing is of other features."""
        digest = self._features.digest
        rebuilds = await rebuild_store.lock_rebuilds(connection)
        if rebuilds and all(row.features_digest == digest for row in rebuilds):
            return rebuilds
        if not rebuilds:
            stored = await transaction_store.any_features_digest(connection)
            if stored in (None, digest):
                return []
        payments = await rebuild_store.payments_by_tenant(connection)
        begun = [Rebuild(tenant, digest, count) for tenant, count in sorted(payments.items())]
        await rebuild_store.delete_rebuilds(connection)
        await rebuild_store.save_rebuilds(connection, begun)
        return begun

    async def _end(self, connection: Connection) -> None:
        rebuilds = await rebuild_store.lock_rebuilds(connection)
        if all(row.is_done and row.features_digest == self._features.digest for row in rebuilds):
            await rebuild_store.delete_rebuilds(connection)

    async def _clear(self, tenant: str) -> None:
        """Make nothing of a tenant's states, unless that is done."""
        for statement in rebuild_store.clearing(self._features.spec.entity_names):
            after: rebuild_store.Key | None = None
            is_first = True
            while is_first or after is not None:
                step = partial(self._clear_rows, tenant=tenant, statement=statement, after=after)
                after, is_first = await self._run(step), False
        await self._run(partial(self._end_clearing, tenant=tenant))

    async def _clear_rows(
        self,
        connection: Connection,
        tenant: str,
        statement: Update | Delete,
        after: rebuild_store.Key | None,
    ) -> rebuild_store.Key | None:
        # Not what another process has begun to fill again.
        if (await self._lock(connection, tenant)).is_cleared:
            return None
        return await rebuild_store.clear(connection, tenant, statement, after)

    async def _end_clearing(self, connection: Connection, tenant: str) -> None:
        rebuild = await self._lock(connection, tenant)
        if not rebuild.is_cleared:
            await rebuild_store.save_rebuilds(connection, [rebuild._replace(is_cleared=True)])

    async def _lock(self, connection: Connection, tenant: str) -> Rebuild:
        """How far the rebuild of a tenant is. Raises SetupError where it is another one by now."""
        row = await rebuild_store.lock_rebuild(connection, tenant)
        digest = self._features.digest
        now = (
            row.features_digest if row else await transaction_store.any_features_digest(connection)
        )
        if now != digest:
            raise SetupError(
                f"another rebuild, for features {now}, has begun while this one, for features "
                f"{digest}, ran: decide which model is to serve, and run `{COMMAND}` for it alone"
            )
        # Without one, somebody else has ended it.
        return row or Rebuild(tenant, digest, 0, is_cleared=True, is_done=True)

    async def _replay(self, connection: Connection, tenant: str) -> Rebuild:
        """Replay a tenant's next payments; how far its rebuild is then."""
        rebuild = await self._lock(connection, tenant)
        if rebuild.is_done:
            return rebuild
        payments = await rebuild_store.payments_after(connection, rebuild, self._size)
        if payments:
            await self._remember(connection, tenant, payments)
            last = payments[-1]
            rebuild = rebuild._replace(
                replayed=rebuild.replayed + len(payments),
                last_us=last.occurred_at_us,
                last_id=last.transaction_id,
            )
        rebuild = rebuild._replace(is_done=len(payments) < self._size)
        await rebuild_store.save_rebuilds(connection, [rebuild])
        return rebuild

    async def _remember(
        self, connection: Connection, tenant: str, payments: Sequence[Scored]
    ) -> None:
        """Let the states have payments that come after all that they have."""
        features = self._features
        entries = [
            Entry(transaction_of(row.content), row.content, row.content_digest) for row in payments
        ]
        await self._name_entities(connection, tenant, entries)
        loaded = await load(connection, features, tenant, entries)
        # Nobody else takes slots meanwhile.
        assert not loaded.others
        standings = [
            row.standing(entry.transaction.type)
            for row, entry in zip(payments, entries, strict=True)
        ]
        columns = replace(loaded.columns, standing_N=np.array(standings, np.int64))

        def compute() -> tuple[Memory, list[bytes]]:
            memory = loaded.memory(features)
            features_NF = features.serve(columns, memory, loaded.entity_labels())
            return memory, transaction_store.float32_rows(features_NF)

        memory, features_N = await in_a_thread(compute)
        await save_memory(connection, tenant, loaded, memory)
        ids = (row.transaction_id for row in payments)
        new = dict(zip(ids, features_N, strict=True))
        await rebuild_store.replace_features(connection, tenant, new, features.digest, now_us())

    async def _name_entities(
        self, connection: Connection, tenant: str, entries: Iterable[Entry]
    ) -> None:
        """Let labels be evidence about all entities that their payments name, of new kinds too."""
        transactions = {entry.transaction.transaction_id: entry.transaction for entry in entries}
        labels = await label_store.labels_of(connection, tenant, transactions)
        there = {
            (row.transaction_id, row.kind): row
            for row in await label_store.entities_of_labels(connection, tenant, transactions)
        }
        # Some have had a label.
        past = {row.transaction_id: row for row in there.values()}
        named = []
        for key in sorted(labels.keys() | past.keys()):
            label = labels.get(key)
            matures_at_us = label.matures_at_us if label else past[key].matures_at_us
            removed_at_us = past[key].removed_at_us if key in past else None
            is_folded = False if label else None
            named += [
                LabelEntity(tenant, key, *entity, matures_at_us, is_folded, removed_at_us)
                for entity in named_by(transactions[key], self._features.spec.entity_names)
                if (key, entity[0]) not in there
            ]
        await label_store.save_labels(connection, [], named)


async def check_states(database: Database, features: FeatureSet) -> None:
    """Raises SetupError where the stored states are of other features, or not all of these yet."""
    await database.check_rebuilt()
    async with database.read() as connection:
        stored = await transaction_store.any_features_digest(connection)
    if stored not in (None, features.digest):
        raise SetupError(
            f"the database has the states of features {stored}, and the model reads features "
            f"{features.digest}: stop all servers and run `{COMMAND}`, which computes them anew "
            "from the stored payments, or serve a model of those features"
        )

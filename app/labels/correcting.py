"""What others learned from labels that are gone is corrected, some at a time.

A label is removed in a transaction of its own, together with a row that says who has yet to forget
it. A merchant's labels may be many thousand: were all corrected in one transaction, whoever scores
would wait for it, on SQLite everybody. So each step is about a few, an account's revision by
revision, and scores come between. What is to be corrected follows from the history of labels alone,
so whoever finds the row, after a crash too, goes on with the rest.
"""

import asyncio
import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import NamedTuple

from app.accounts import store as account_store
from app.accounts.store import AccountRevision
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.labels import store as label_store
from app.labels.forgetting import corrections_without
from app.labels.records import Forgetting, Progress
from app.learner.features import FeatureSet
from app.ops.actor import actor
from app.times import now_us

# Labels that are corrected in one transaction: some milliseconds. SQLite has one writer, so that
# everybody waits for all of them; on PostgreSQL only who scores the same accounts does, and most of
# a step's time is its commit.
STEP_LABELS, STEP_LABELS_OF_ONE_WRITER = 200, 50
# Of very many labels more in each: they wait for their turn among those who score, each time.
MOST_STEPS = 300
# After each of them, so that scores find the processor and the database free in between.
PAUSE_SECONDS = 0.002
# How often it is begun again for accounts whose labels have changed meanwhile.
ATTEMPTS = 10


class Correction(NamedTuple):
    """What a labelled transaction is to learn from."""

    account_id: str
    transaction_id: str
    features: bytes


def forgetting_of(
    tenant: str, account_id: str, transactions: Iterable[str], is_erasure: bool = False
) -> Forgetting:
    """What is to be kept where labels of these transactions are removed, by whoever is acting."""
    ids = sorted(transactions)
    return Forgetting(
        tenant,
        secrets.token_hex(12),
        now_us(),
        account_id,
        is_erasure,
        actor.get(),
        json.dumps(ids),
        len(ids),
    )


class Correcting:
    """Corrects what others learned from labels that are gone."""

    def __init__(self, database: Database, features: FeatureSet) -> None:
        self._database = database
        self._features = features

    async def finish(self, forgetting: Forgetting) -> None:
        """Let all others forget the labels, and note that they have."""
        await self.correct(forgetting)
        await self._database.run(
            lambda connection: label_store.delete_forgetting(
                connection, forgetting.tenant, forgetting.id
            )
        )

    async def correct(self, forgetting: Forgetting) -> None:
        """Let all others forget the labels.

        Raises DatabaseUnavailable also where accounts change all the time; it can be called again.
        """
        for _ in range(ATTEMPTS):
            if await self._pass(forgetting):
                return
        raise DatabaseUnavailable(
            "Too many writers at once: others forget the labels a little later."
        )

    async def _pass(self, forgetting: Forgetting) -> bool:
        """Correct what is to be corrected now; whether no account has changed meanwhile."""
        tenant = forgetting.tenant
        async with self._database.read() as connection:
            found = await corrections_without(
                connection,
                self._features,
                tenant,
                forgetting.ids,
                forgetting.account_id,
                of_others=True,
            )
            expected = await account_store.revisions_of(connection, tenant, found)
        is_whole = True
        least = STEP_LABELS_OF_ONE_WRITER if self._database.is_sqlite else STEP_LABELS
        for step in _steps(found, least):
            revised = await self._database.run(
                partial(self._step, forgetting=forgetting, step=step, expected=expected)
            )
            expected |= revised
            is_whole &= all(witness.account_id in revised for witness in step)
            await asyncio.sleep(PAUSE_SECONDS)
        return is_whole

    async def _step(
        self,
        connection: Connection,
        forgetting: Forgetting,
        step: Iterable[Correction],
        expected: Mapping[str, AccountRevision],
    ) -> dict[str, AccountRevision]:
        """Correct labels of accounts that are as expected; returns these as they are then.

        While an account is at the same revision its labels are to learn from the same, whatever
        else has changed: who removes another label comes to it by a step of its own.
        """
        tenant = forgetting.tenant
        now = await account_store.lock_revisions(
            connection, tenant, {witness.account_id for witness in step}
        )
        current = {key for key, row in now.items() if row == expected.get(key)}
        some = {
            witness.transaction_id: witness.features
            for witness in step
            if witness.account_id in current
        }
        await account_store.revise_accounts(connection, tenant, current)
        await label_store.correct_labels(connection, tenant, some, now_us())
        done = Progress(corrected=len(some))
        await label_store.note_progress(connection, tenant, forgetting.id, done, now_us())
        return {key: now[key]._replace(revision=now[key].revision + 1) for key in current}


def _steps(found: Mapping[str, Mapping[str, bytes]], least: int) -> Iterator[list[Correction]]:
    each = (
        Correction(account_id, transaction_id, features)
        for account_id, own in sorted(found.items())
        for transaction_id, features in own.items()
    )
    size = max(least, sum(map(len, found.values())) // MOST_STEPS)
    while step := list(islice(each, size)):
        yield step

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
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from app.accounts import store as account_store
from app.accounts.store import AccountRevision
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.labels import store as label_store
from app.labels.evidence import Evidence, with_evidence
from app.labels.forgetting import seen_by
from app.labels.records import Forgetting, Progress
from app.learner.features import FeatureSet
from app.ops.actor import actor
from app.ops.background import give_way, in_a_thread
from app.times import now_us

# Labels that are corrected in one transaction: some milliseconds, for which everybody waits on
# SQLite, which has one writer, and whoever scores the same accounts on PostgreSQL.
STEP_LABELS = 48
# Of very many labels more in each: they wait for their turn among those who score, each time.
MOST_STEPS = 300
# After each of them, so that scores find the processor and the database free in between.
PAUSE_SECONDS = 0.004
# How often it is begun again for accounts whose labels have changed meanwhile.
ATTEMPTS = 10


class Step(NamedTuple):
    """Labels that are corrected together: what entities say of them, and whose they are."""

    evidence: list[Evidence]
    account_ids: dict[str, str]


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
            found = await seen_by(
                connection,
                self._features,
                tenant,
                forgetting.ids,
                forgetting.account_id,
                of_others=True,
            )
            steps, accounts = await in_a_thread(lambda: _steps(found))
            expected = await account_store.revisions_of(connection, tenant, accounts)
        is_whole = True
        for step in steps:
            revised = await self._database.run(
                partial(self._step, forgetting=forgetting, step=step, expected=expected)
            )
            expected |= revised
            is_whole &= revised.keys() >= set(step.account_ids.values())
            await asyncio.sleep(PAUSE_SECONDS)
        return is_whole

    async def _step(
        self,
        connection: Connection,
        forgetting: Forgetting,
        step: Step,
        expected: Mapping[str, AccountRevision],
    ) -> dict[str, AccountRevision]:
        """Correct labels of accounts that are as expected; returns these as they are then.

        While an account is at the same revision its labels are to learn from the same, whatever
        else has changed: who removes another label comes to it by a step of its own. Labels that
        learn from that already are left as they are.
        """
        tenant, account_ids = forgetting.tenant, step.account_ids
        now = await account_store.lock_revisions(connection, tenant, set(account_ids.values()))
        current = {key: row for key, row in now.items() if row == expected.get(key)}
        latest = await label_store.latest_features(connection, tenant, account_ids)
        some = {
            key: features
            for key, features in with_evidence(self._features, step.evidence, latest).items()
            if account_ids[key] in current and features != latest[key]
        }
        if not some:
            return current
        changed = {account_ids[key] for key in some}
        await account_store.revise_accounts(connection, tenant, changed)
        await label_store.correct_labels(connection, tenant, some, now_us())
        done = Progress(corrected=len(some))
        await label_store.note_progress(connection, tenant, forgetting.id, done, now_us())
        revised = {key: now[key]._replace(revision=now[key].revision + 1) for key in changed}
        return current | revised


def _steps(found: Sequence[Evidence]) -> tuple[list[Step], set[str]]:
    """What was found, account by account, in steps; and the accounts."""
    # Not sorted: to sort many texts keeps the interpreter from others, for 10 ms.
    by_account: dict[str, dict[str, None]] = defaultdict(dict)
    for evidence in found:
        for row in evidence.witnesses:
            by_account[row.account_id][row.transaction_id] = None
    ordered = [(account_id, key) for account_id, own in by_account.items() for key in own]
    give_way(len(ordered))
    size = max(STEP_LABELS, len(ordered) // MOST_STEPS)
    parts = [ordered[first : first + size] for first in range(0, len(ordered), size)]
    steps = [Step([], {key: account_id for account_id, key in part}) for part in parts]
    step_of = {key: step for step, part in enumerate(parts) for _, key in part}
    give_way(len(ordered))
    for kind, witnesses, values_NV in found:
        step_N = np.array([step_of[row[0]] for row in witnesses])
        ends = np.cumsum(np.bincount(step_N, minlength=len(steps)))[:-1]
        rows_of = np.split(np.argsort(step_N, kind="stable"), ends)
        for step, own_N in zip(steps, rows_of, strict=True):
            if len(own_N):
                own = [witnesses[n] for n in own_N.tolist()]
                step.evidence.append(Evidence(kind, own, values_NV[own_N]))
    return steps, set(by_account)

"""Labels of an account: stored, counted as a revision, and what they do to its scores.

Whatever is adapted here is adapted after the commit, because a copy stays in the bank under its
revision: a revision that was rolled back must never have had one.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.adaptation import Support
from app.database import Database
from app.errors import (
    AccountNotFound,
    LabelNotFound,
    Problem,
    TransactionNotFound,
    WrongAccount,
)
from app.pipeline import Pipeline, adapter_key
from app.rows import Account, Scored, StoredLabel
from app.scoring import AdapterKey, Decision
from app.times import now_us
from app.transactions import DatasetSpec, Transaction


class Verdict(NamedTuple):
    """A label for a transaction: a stored one, or one that is to be stored first."""

    transaction_id: str
    is_fraud: bool
    transaction: Transaction | None = None


class Adaptation(NamedTuple):
    """Which copy scores an account: adapted or base, from how many labels, of which revision."""

    used: str
    labels: int
    revision: int


class Effect(NamedTuple):
    """The decision on a labelled transaction by the copy of before and by that of now."""

    transaction_id: str
    before: Decision
    after: Decision


class Labelled(NamedTuple):
    """What labels did to an account."""

    account: Account
    stored: int
    unchanged: int
    adaptation: Adaptation
    effects: list[Effect]


class Version(NamedTuple):
    """An account at one revision, with the labels that its copy is made of."""

    account: Account
    support: Support


class Labelling:
    """Stores and removes labels; one database transaction each."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def store(self, tenant: str, account_id: str, verdicts: Sequence[Verdict]) -> Labelled:
        """Store labels, scoring whole transactions first; all of them or none.

        The same labels again change nothing, not even the revision. Raises WrongAccount,
        TransactionNotFound or TransactionConflict for the first verdict that cannot be stored.
        """

        async def work(
            connection: AsyncConnection,
        ) -> tuple[Version, Version, list[Scored], int]:
            rows, old = await self._rows(connection, tenant, account_id, verdicts)
            before = await self._version(connection, tenant, account_id)
            changed = [v for v in verdicts if _differs(v, old.get(v.transaction_id))]
            if not changed:
                return before, before, rows, 0
            by_id = {row.transaction_id: row for row in rows}
            spec, labelled_at_us = self._pipeline.scorer.spec, now_us()
            labels = [
                label_of(by_id[v.transaction_id], v.is_fraud, labelled_at_us, spec) for v in changed
            ]
            relabelled = [old[v.transaction_id] for v in changed if v.transaction_id in old]
            await store.save_labels(connection, labels)
            await store.unfold(connection, tenant, _folded(relabelled))
            await store.count_labels(connection, tenant, counted(labels, relabelled))
            after = await self._version(connection, tenant, account_id)
            return before, after, rows, len(changed)

        before, after, rows, stored = await self._database.run(work)
        effects = await self._effects(before, after, rows)
        latest = effects[0].after
        adaptation = Adaptation(latest.used, latest.labels, after.account.revision)
        return Labelled(after.account, stored, len(verdicts) - stored, adaptation, effects)

    async def remove(
        self, tenant: str, account_id: str, transaction_id: str
    ) -> tuple[Account, Adaptation]:
        """Unlearn one label exactly. Raises LabelNotFound."""

        async def work(connection: AsyncConnection) -> Version:
            found = await store.labels_of(connection, tenant, [transaction_id])
            if transaction_id not in found or found[transaction_id].account_id != account_id:
                raise LabelNotFound(
                    f"Transaction {transaction_id!r} has no label in account {account_id!r}."
                )
            await store.lock_accounts(connection, tenant, [account_id])
            await store.lock_merchants(connection, tenant, _merchants(found.values()))
            # Now nobody else can change it; perhaps somebody just did.
            found = await store.labels_of(connection, tenant, [transaction_id])
            if not found:
                raise LabelNotFound(f"Transaction {transaction_id!r} has no label any more.")
            await store.delete_label(connection, tenant, transaction_id)
            await store.unfold(connection, tenant, _folded(found.values()))
            await store.count_labels(connection, tenant, counted([], found.values()))
            return await self._version(connection, tenant, account_id)

        version = await self._database.run(work)
        return version.account, await self._adaptation(version)

    async def adapt(self, tenant: str, account_id: str) -> Adaptation:
        """Make the account's copy now, ahead of its next score. Raises AccountNotFound."""
        async with self._database.read() as connection:
            if await store.account(connection, tenant, account_id) is None:
                raise AccountNotFound(f"There is no account {account_id!r}.")
            version = await self._version(connection, tenant, account_id)
        return await self._adaptation(version)

    async def _rows(
        self,
        connection: AsyncConnection,
        tenant: str,
        account_id: str,
        verdicts: Sequence[Verdict],
    ) -> tuple[list[Scored], dict[str, StoredLabel]]:
        """The labelled transactions, the new ones scored, and the labels they have so far."""
        ids = [verdict.transaction_id for verdict in verdicts]
        whole = [verdict.transaction for verdict in verdicts if verdict.transaction]
        known = await store.scored(connection, tenant, ids)
        _check(account_id, known, verdicts)
        await store.lock_accounts(connection, tenant, [account_id])
        old = await store.labels_of(connection, tenant, ids)
        # All locks on merchants at once and in order: those of new transactions, whose state
        # grows, and those of labels that change, which may be folded into it.
        relabelled = [old[v.transaction_id] for v in verdicts if v.transaction_id in old]
        merchants = {one.merchant_id for one in whole if one.merchant_id is not None}
        await store.lock_merchants(connection, tenant, merchants | _merchants(relabelled))
        if whole:
            in_time_order = sorted(whole, key=lambda one: (one.occurred_at_us, one.transaction_id))
            for answer in await self._pipeline.score_of(connection, tenant, in_time_order):
                if isinstance(answer, Problem):
                    raise answer
                known[answer.transaction_id] = answer
        if relabelled:
            # As they are now that nobody else can fold them.
            old = await store.labels_of(connection, tenant, ids)
        return [known[key] for key in ids], old

    async def _version(self, connection: AsyncConnection, tenant: str, account_id: str) -> Version:
        account = await store.account(connection, tenant, account_id)
        assert account is not None
        supports = await store.supports(connection, tenant, [account_id])
        return Version(account, self._pipeline.support(supports[account_id]))

    async def _effects(
        self, before: Version, after: Version, rows: Sequence[Scored]
    ) -> list[Effect]:
        features_NF = self._pipeline.matrix(row.features for row in rows)
        keys = [adapter_key(version.account) for version in (before, after)]
        time_us_N = np.array([row.occurred_at_us for row in rows], np.int64)
        decisions = await self._pipeline.compare(
            _copies(before, after), features_NF, time_us_N, keys
        )
        return [
            Effect(row.transaction_id, *pair) for row, *pair in zip(rows, *decisions, strict=True)
        ]

    async def _adaptation(self, version: Version) -> Adaptation:
        account, support = version
        if not account.has_labels:
            return Adaptation("insufficient_labels", 0, account.revision)
        [[decision]] = await self._pipeline.compare(
            _copies(version),
            support.features_KF[:1],
            support.time_us_K[:1],
            [adapter_key(account)],
        )
        return Adaptation(decision.used, decision.labels, account.revision)


def label_of(row: Scored, is_fraud: bool, labelled_at_us: int, spec: DatasetSpec) -> StoredLabel:
    """The label as it is stored. It becomes evidence about its merchant after the spec's delay.

    Where files give a delay by row, a label posted live is known from when it was posted.
    """
    matures_at_us = row.occurred_at_us + spec.label.delay_us
    if spec.label.delay_column is not None:
        matures_at_us = max(matures_at_us, labelled_at_us)
    return StoredLabel(
        tenant=row.tenant,
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        merchant_id=row.merchant_id,
        is_fraud=is_fraud,
        occurred_at_us=row.occurred_at_us,
        labelled_at_us=labelled_at_us,
        matures_at_us=matures_at_us,
    )


def _folded(labels: Iterable[StoredLabel]) -> set[str]:
    """The merchants whose record holds one of these labels."""
    return _merchants(label for label in labels if label.folded)


def _check(account_id: str, known: Mapping[str, Scored], verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        stored = known.get(verdict.transaction_id)
        if stored is None and verdict.transaction is None:
            raise TransactionNotFound(f"There is no transaction {verdict.transaction_id!r}.")
        owner = verdict.transaction or stored
        assert owner is not None
        if owner.account_id != account_id:
            raise WrongAccount(
                f"Transaction {verdict.transaction_id!r} is not of account {account_id!r}."
            )


def counted(
    added: Iterable[StoredLabel], removed: Iterable[StoredLabel]
) -> dict[str, tuple[int, int]]:
    """By how many frauds and legitimates each account's labels grow."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for labels, sign in ((added, 1), (removed, -1)):
        for one in labels:
            counts[one.account_id][0 if one.is_fraud else 1] += sign
    return {account_id: (fraud, legitimate) for account_id, (fraud, legitimate) in counts.items()}


def _differs(verdict: Verdict, old: StoredLabel | None) -> bool:
    return old is None or old.is_fraud != verdict.is_fraud


def _merchants(labels: Iterable[StoredLabel]) -> set[str]:
    return {one.merchant_id for one in labels if one.merchant_id is not None}


def _copies(*versions: Version) -> dict[AdapterKey, Support]:
    """What the copies are made of; an account without labels has none."""
    labelled = [version for version in versions if version.account.has_labels]
    return {adapter_key(version.account): version.support for version in labelled}

"""Forgetting: what stored features still know of labels that were removed, and account erasure.

A label moves its own account's copy, and that is gone with it. Once matured it is also evidence
about its merchant, and features of transactions scored meanwhile hold it. Those rows keep the
features of their moment, for replays; where they are labelled, the copies that learn from them
are given features as they would have been without the label (`labels.features`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.audit import entry
from app.certificates import certified
from app.content import transaction_of
from app.database import Database, Raced
from app.errors import AccountNotFound, ModelUnavailable
from app.evidence import corrected_features
from app.features import FeatureSet, MerchantLabels
from app.pipeline import Pipeline
from app.rows import (
    Account,
    Erasure,
    LabelChange,
    LabelEvent,
    Merchant,
    Scored,
    StoredLabel,
    Witness,
)
from app.sqlite import in_a_thread
from app.states import States
from app.times import now_us
from app.transactions import columns_of

# What `store.erase_account` counts.
ERASED = ("transactions", "labels", "label_events", "reviews")


class Undone(NamedTuple):
    """What an account has said of its labels after a revision, as if it never had."""

    account_id: str
    revision: int

    def rest(self, events: Sequence[LabelChange]) -> list[LabelChange]:
        """What there is without it of a transaction's history: of others all, of its own what a
        rollback would leave, with no removal before a label that stood."""
        if events[0].account_id != self.account_id:
            return list(events)
        left = [event for event in events if event.revision <= self.revision]
        stood = left and left[-1].is_fraud is not None
        return [event for event in left if event.is_fraud is not None] if stood else left


class Corrections(NamedTuple):
    """What labelled transactions of others are to learn from once labels are removed.

    `features` are those of the transactions for which they change, `accounts` whose these are. It
    is so while the labels of the `merchants` have this `checksum`.
    """

    merchants: frozenset[str]
    checksum: tuple[int, int]
    accounts: frozenset[str]
    features: dict[str, bytes]


async def plan_corrections(
    connection: AsyncConnection,
    features: FeatureSet,
    tenant: str,
    removed: Sequence[StoredLabel],
    account_id: str,
    others_only: bool = False,
) -> Corrections:
    """What labelled transactions are to learn from without the `removed` labels.

    The account's own ones stay as they are where it is `others_only`.
    """
    merchants = frozenset(one.merchant_id for one in removed if one.merchant_id is not None)
    # Before what it vouches for.
    checksum = await store.checksum_of_changes(connection, tenant, merchants)
    gone = {one.transaction_id for one in removed}
    matured_us = await store.first_maturities(connection, tenant, gone)
    found = [
        one
        for one in await store.witnesses(connection, tenant, matured_us)
        if one.transaction_id not in gone and not (others_only and one.account_id == account_id)
    ]
    changes = await store.label_changes(connection, tenant, matured_us) if found else []

    def compute() -> dict[str, tuple[str, bytes]]:
        corrected = corrected_features(features, found, changes, gone)
        return {
            one.transaction_id: (one.account_id, corrected[one.transaction_id])
            for one in found
            if corrected.get(one.transaction_id) not in (None, one.corrected or one.features)
        }

    changed = await in_a_thread(compute)
    return Corrections(
        merchants,
        checksum,
        frozenset(account for account, _ in changed.values()),
        {key: value for key, (_, value) in changed.items()},
    )


async def correct(
    connection: AsyncConnection, tenant: str, account_id: str, corrections: Corrections
) -> None:
    """Give labelled transactions of locked accounts the features that they are to learn from.

    Other accounts than `account_id`, whose revision has changed anyway, are a revision further.
    """
    await store.revise_accounts(connection, tenant, corrections.accounts - {account_id})
    await store.correct_labels(connection, tenant, corrections.features, now_us())


async def are_settled(connection: AsyncConnection, tenant: str, corrections: Corrections) -> bool:
    """Whether the labels of the merchants, which are locked, are as they were."""
    now = await store.checksum_of_changes(connection, tenant, corrections.merchants)
    return now == corrections.checksum


async def refold(
    connection: AsyncConnection, features: FeatureSet, tenant: str, merchant_ids: Iterable[str]
) -> dict[str, bytes | None]:
    """The records of locked merchants, of the labels that are still folded into them."""
    wanted = sorted(set(merchant_ids))
    if not wanted:
        return {}
    left = await store.labels_of_record(connection, tenant, wanted)

    def fold() -> dict[str, bytes | None]:
        position = {key: g for g, key in enumerate(wanted)}
        labels = MerchantLabels(
            np.array([position[one.merchant_id] for one in left], np.int64),
            np.array([one.matures_at_us for one in left], np.int64),
            np.array([one.is_fraud for one in left], np.float64),
        )
        nothing, _, _ = columns_of(features.spec, [])
        after = features.remember(nothing, features.empty(1, len(wanted)), labels).confirmed
        known = {one.merchant_id for one in left}
        return {
            key: state if key in known else None
            for key, state in zip(wanted, after.to_bytes(), strict=True)
        }

    return await in_a_thread(fold)


async def forget_in_record(
    connection: AsyncConnection, features: FeatureSet, tenant: str, removed: Iterable[StoredLabel]
) -> None:
    """Make locked merchants' records what they are without labels that are there no more."""
    merchant_ids = {one.merchant_id for one in removed if one.folded and one.merchant_id}
    states = await refold(connection, features, tenant, merchant_ids)
    rows = await store.lock_merchants(connection, tenant, merchant_ids)
    await store.save_merchants(
        connection, [row._replace(label_state=states[key]) for key, row in rows.items()]
    )


async def need_correction(connection: AsyncConnection, tenant: str, rows: Sequence[Scored]) -> bool:
    """Whether any of these rows may have seen a label since removed."""
    at_merchants = [row for row in rows if row.merchant_id is not None]
    if not at_merchants:
        return False
    merchant_ids = {row.merchant_id for row in at_merchants if row.merchant_id is not None}
    since_us = min(row.evaluated_at_us for row in at_merchants)
    ids = [row.transaction_id for row in at_merchants]
    return await store.any_removed(
        connection, tenant, merchant_ids, since_us
    ) or await store.any_corrected(connection, tenant, ids)


async def corrections(
    connection: AsyncConnection,
    features: FeatureSet,
    tenant: str,
    rows: Sequence[Scored],
    undone: Undone | None = None,
) -> dict[str, bytes]:
    """The features of those rows that saw a label since removed, had it never been there.

    What is `undone` removes nothing.
    """
    if not await need_correction(connection, tenant, rows):
        return {}
    found = [
        Witness(
            row.transaction_id,
            row.account_id,
            row.merchant_id,
            row.occurred_at_us,
            row.evaluated_at_us,
            row.features,
        )
        for row in rows
        if row.merchant_id is not None
    ]
    merchant_ids = {one.merchant_id for one in found if one.merchant_id is not None}
    changes = await store.label_changes(connection, tenant, merchant_ids)
    rest = undone.rest if undone else None
    return await in_a_thread(lambda: corrected_features(features, found, changes, rest=rest))


def event_of(label: StoredLabel, revision: int, removed: bool = False) -> LabelEvent:
    """The event of a label that was set, or removed, by this revision of its account."""
    return LabelEvent(
        tenant=label.tenant,
        account_id=label.account_id,
        revision=revision,
        transaction_id=label.transaction_id,
        merchant_id=label.merchant_id,
        is_fraud=None if removed else label.is_fraud,
        occurred_at_us=label.occurred_at_us,
        labelled_at_us=label.labelled_at_us,
        matures_at_us=label.matures_at_us,
        source=label.source,
        analyst=label.analyst,
        note=label.note,
        recorded_at_us=now_us() if removed else label.recorded_at_us,
        features=label.features,
    )


class ErasurePlan(NamedTuple):
    """What erasing an account does, while it and its merchants are as they were.

    `merchants` are those that it has paid, as they are, `states` theirs without its payments.
    """

    account: Account
    labels: list[StoredLabel]
    merchants: dict[str, Merchant]
    states: dict[str, bytes | None]
    corrections: Corrections


class Erasing:
    """Erases accounts."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def erase(self, tenant: str, account_id: str) -> Erasure:
        """Delete all rows of an account; its merchants and their witnesses forget it.

        Returns the certificate, which is kept without the account's id.
        What is left is as if its transactions and labels had never come, but for the counts and
        amounts of its merchants in features already stored. Raises AccountNotFound.
        """
        # What takes long, before anything is locked.
        async with self._database.survey() as connection:
            planned: ErasurePlan | None = await self._plan(connection, tenant, account_id)
            model = await self._model(connection, tenant)

        async def work(connection: AsyncConnection) -> Erasure:
            nonlocal planned
            plan = planned or await self._plan(connection, tenant, account_id)
            # It is tried again only where it was outdated.
            planned = None
            plan = await self._locked(connection, plan)
            visited, labels, corrections = plan.merchants, plan.labels, plan.corrections
            await correct(connection, tenant, account_id, corrections)
            counts = await store.erase_account(connection, tenant, account_id)
            await store.erase_entries(connection, tenant, account_id)
            await store.erase_messages(connection, tenant, account_id)
            now = await store.lock_merchants(connection, tenant, visited)
            await store.save_merchants(
                connection,
                [row._replace(state=plan.states[key]) for key, row in now.items()],
            )
            await forget_in_record(connection, self._pipeline.features, tenant, labels)
            facts = {
                "erased": dict(zip(ERASED, counts, strict=True)),
                "merchants_rebuilt": len(visited),
                "labels_corrected": len(corrections.features),
                "features": self._pipeline.features.digest,
                **model,
            }
            erasure = await in_a_thread(lambda: certified(tenant, account_id, facts))
            await store.save_erasure(connection, erasure)
            # That it was, and not whose: that is in the certificate.
            noted = entry(tenant, "account.erased", erasure.id, after={"digest": erasure.digest})
            await store.save_entries(connection, [noted])
            return erasure

        return await self._database.run(work, aside=True)

    async def _model(self, connection: AsyncConnection, tenant: str) -> dict[str, str | None]:
        """The tenant's model, as certificates have it; nothing where it cannot be loaded."""
        try:
            scorer = await self._pipeline.models.active(connection, tenant)
        except ModelUnavailable:
            return {"model": None, "training_data_sha256": None}
        return {"model": scorer.model, "training_data_sha256": scorer.training_data_sha256}

    async def _plan(self, connection: AsyncConnection, tenant: str, account_id: str) -> ErasurePlan:
        account = await store.account(connection, tenant, account_id)
        if account is None:
            raise AccountNotFound(f"There is no account {account_id!r}.")
        labels = await store.labels_of_account(connection, tenant, account_id)
        visited = await store.merchants_of_account(connection, tenant, account_id)
        merchants = await store.merchants_of(connection, tenant, visited)
        states = await self._rebuilt(connection, account, visited)
        # Its own labels are about to go, with their history.
        corrections = await plan_corrections(
            connection, self._pipeline.features, tenant, labels, account_id, others_only=True
        )
        return ErasurePlan(account, labels, merchants, states, corrections)

    async def _locked(self, connection: AsyncConnection, plan: ErasurePlan) -> ErasurePlan:
        """The plan as it is once nobody else can change anything that it is made of.

        Raises Raced where the account has changed meanwhile, or others are to be locked.
        """
        tenant, account_id = plan.account.tenant, plan.account.account_id
        corrections = plan.corrections
        await store.lock_only(connection, tenant, {account_id, *corrections.accounts})
        merchants = await store.lock_merchants(connection, tenant, plan.merchants)
        account = await store.account(connection, tenant, account_id)
        if account != plan.account:
            raise Raced
        labels = await store.labels_of_account(connection, tenant, account_id)
        plan = plan._replace(labels=labels)
        changed = [key for key, row in merchants.items() if row != plan.merchants.get(key)]
        if changed:
            states = await self._rebuilt(connection, account, changed)
            plan = plan._replace(states={**plan.states, **states})
        if await are_settled(connection, tenant, corrections):
            return plan
        now = await plan_corrections(
            connection, self._pipeline.features, tenant, labels, account_id, others_only=True
        )
        if not now.accounts <= corrections.accounts:
            raise Raced
        return plan._replace(corrections=now)

    async def _rebuilt(
        self, connection: AsyncConnection, account: Account, merchant_ids: Iterable[str]
    ) -> dict[str, bytes | None]:
        """The merchants' states from the transactions of all other accounts."""
        features = self._pipeline.features
        states: dict[str, bytes | None] = dict.fromkeys(merchant_ids)
        if not states:
            return {}

        def add(contents: Sequence[str]) -> None:
            transactions = [transaction_of(content) for content in contents]
            columns, accounts, merchants = columns_of(features.spec, transactions)
            known = States.from_bytes([states[key] for key in merchants], features.merchant_sums)
            memory = replace(features.empty(len(accounts), len(merchants)), merchants=known)
            after = features.remember(columns, memory, MerchantLabels.none()).merchants
            states.update(zip(merchants, after.to_bytes(), strict=True))

        async for contents in store.contents_of_merchants(
            connection, account.tenant, states, account.account_id
        ):
            if contents:
                await in_a_thread(partial(add, contents))
        return states

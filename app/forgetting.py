"""Forgetting: what stored features still know of labels that were removed, and account erasure.

A label moves its own account's copy, and that is gone with it. Once matured it is also evidence
about its merchant, and features of transactions scored meanwhile hold it. Those rows keep the
features of their moment, for replays; where they are labelled, the copies that learn from them
are given features as they would have been without the label (`labels.features`).
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.audit import entry
from app.content import transaction_of
from app.database import Database, Raced
from app.errors import AccountNotFound
from app.features import FeatureSet, MerchantLabels
from app.pipeline import Pipeline
from app.rows import LabelEvent, Merchant, Scored, StoredLabel
from app.states import States
from app.times import now_us
from app.transactions import columns_of


class Erased(NamedTuple):
    """How many rows of an account are gone, and what was made as if they had never been."""

    transactions: int
    labels: int
    label_events: int
    reviews: int
    merchants_rebuilt: int
    labels_corrected: int


class Undone(NamedTuple):
    """What an account has said of its labels after a revision, as if it never had."""

    account_id: str
    revision: int

    def rest(self, events: Sequence[LabelEvent]) -> list[LabelEvent]:
        """What there is without it of a transaction's history: of others all, of its own what a
        rollback would leave, with no removal before a label that stood."""
        if events[0].account_id != self.account_id:
            return list(events)
        left = [event for event in events if event.revision <= self.revision]
        stood = left and left[-1].is_fraud is not None
        return [event for event in left if event.is_fraud is not None] if stood else left


async def lock_with_witnesses(
    connection: AsyncConnection,
    tenant: str,
    account_id: str,
    labels: Iterable[StoredLabel],
    visited: Iterable[str] = (),
) -> None:
    """Lock an account, those whose labelled transactions may have seen these labels, and merchants.

    In the one order of all locks; the merchants are those of the labels and the `visited`. Raises
    Raced where another witness came meanwhile.
    """
    labels = list(labels)
    merchants = {one.merchant_id for one in labels if one.merchant_id is not None}.union(visited)
    seen = await store.witnesses(connection, tenant, labels)
    accounts = {account_id, *(one.account_id for one in seen)}
    await store.lock_accounts(connection, tenant, accounts)
    await store.lock_merchants(connection, tenant, merchants)
    now_seen = await store.witnesses(connection, tenant, labels)
    if not {one.account_id for one in now_seen} <= accounts:
        raise Raced


async def correct_witnesses(
    connection: AsyncConnection,
    features: FeatureSet,
    tenant: str,
    removed: Sequence[StoredLabel],
    account_id: str,
    others_only: bool = False,
) -> int:
    """Give labelled transactions of any account features that never saw the `removed` labels.

    Their removal is written down already, and their accounts are locked. Other accounts than
    `account_id`, whose revision has changed anyway, are a revision further. Returns how many. Its
    own labels are left alone where it is `others_only`.
    """
    witnesses = {
        one.transaction_id: one
        for one in await store.witnesses(connection, tenant, removed)
        if not (others_only and one.account_id == account_id)
    }
    rows = await store.scored(connection, tenant, witnesses)
    gone = {one.transaction_id for one in removed}
    corrected = await corrections(connection, features, tenant, list(rows.values()), gone)
    changed = [
        witnesses[key]._replace(features=found)
        for key, found in corrected.items()
        if found != (witnesses[key].features or rows[key].features)
    ]
    others = {one.account_id for one in changed} - {account_id}
    await store.save_labels(connection, changed)
    await store.count_labels(connection, tenant, dict.fromkeys(others, (0, 0)))
    by_id = await store.lock_accounts(connection, tenant, {one.account_id for one in changed})
    at_us = now_us()
    await store.save_label_events(
        connection,
        [
            event_of(one, by_id[one.account_id].revision)._replace(recorded_at_us=at_us)
            for one in changed
        ],
    )
    return len(changed)


async def corrections(
    connection: AsyncConnection,
    features: FeatureSet,
    tenant: str,
    rows: Sequence[Scored],
    gone: Iterable[str] = (),
    undone: Undone | None = None,
) -> dict[str, bytes]:
    """The features of those rows that saw a label since removed, had it never been there.

    `gone` are transactions whose label is being removed and whose history goes with it. Rows that
    were corrected before are corrected again: what an erased account had told of their merchant
    stands in no history any more. What is `undone` removes nothing.
    """
    by_merchant: dict[str, list[Scored]] = defaultdict(list)
    for row in rows:
        if row.merchant_id is not None:
            by_merchant[row.merchant_id].append(row)
    gone = set(gone)
    if not gone and not await store.any_forgotten(connection, tenant, by_merchant):
        return {}
    events = await store.events_of_merchants(connection, tenant, by_merchant)
    history: dict[str, dict[str, list[LabelEvent]]] = defaultdict(lambda: defaultdict(list))
    were_corrected = {event.transaction_id for event in events if event.features is not None}
    for event in events:
        history[event.merchant_id or ""][event.transaction_id].append(event)
    if undone:
        for of_transactions in history.values():
            for key, told in of_transactions.items():
                of_transactions[key] = undone.rest(told)
    found = {}
    for merchant_id, asked in by_merchant.items():
        for row in asked:
            seen, lost = _seen(row, history[merchant_id], gone)
            if lost or row.transaction_id in were_corrected:
                found[row.transaction_id] = _without(features, row, seen)
    return found


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


class Erasing:
    """Erases accounts."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def erase(self, tenant: str, account_id: str) -> Erased:
        """Delete all rows of an account; its merchants and their witnesses forget it.

        What is left is as if its transactions and labels had never come, but for the counts and
        amounts of its merchants in features already stored. Raises AccountNotFound.
        """

        async def work(connection: AsyncConnection) -> Erased:
            if await store.account(connection, tenant, account_id) is None:
                raise AccountNotFound(f"There is no account {account_id!r}.")
            labels = await store.labels_of_account(connection, tenant, account_id)
            visited = await store.merchants_of_account(connection, tenant, account_id)
            await lock_with_witnesses(connection, tenant, account_id, labels, visited)
            # Now nobody else can change either; perhaps somebody just did.
            now_labels = await store.labels_of_account(connection, tenant, account_id)
            now_visited = await store.merchants_of_account(connection, tenant, account_id)
            if _ids(now_labels) != _ids(labels) or now_visited != visited:
                raise Raced
            labels = now_labels
            features = self._pipeline.features
            # Its own labels are about to go, with their history.
            corrected = await correct_witnesses(
                connection, features, tenant, labels, account_id, others_only=True
            )
            counts = await store.erase_account(connection, tenant, account_id)
            await store.erase_entries(connection, tenant, account_id)
            await store.erase_messages(connection, tenant, account_id)
            # That it was, and not whose.
            await store.save_entries(connection, [entry(tenant, "account.erased", "account")])
            await self._rebuild(connection, tenant, sorted(visited))
            await store.unfold(connection, tenant, visited)
            return Erased(*counts, len(visited), corrected)

        return await self._database.run(work)

    async def _rebuild(
        self, connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
    ) -> None:
        """The merchants' states from the transactions that are left of them."""
        features = self._pipeline.features
        states: dict[str, bytes | None] = dict.fromkeys(merchant_ids)
        async for contents in store.contents_of_merchants(connection, tenant, states):
            transactions = [transaction_of(content) for content in contents]
            columns, accounts, merchants = columns_of(features.spec, transactions)
            known = States.from_bytes([states[key] for key in merchants], features.merchant_sums)
            memory = replace(features.empty(len(accounts), len(merchants)), merchants=known)
            after = features.remember(columns, memory, MerchantLabels.none()).merchants
            states.update(zip(merchants, after.to_bytes(), strict=True))
            # There may be millions of them, and others are to be answered meanwhile.
            await asyncio.sleep(0)
        await store.save_merchants(
            connection, [Merchant(tenant, key, state, None) for key, state in states.items()]
        )


def _ids(labels: Iterable[StoredLabel]) -> set[str]:
    return {one.transaction_id for one in labels}


def _seen(
    row: Scored, history: Mapping[str, Sequence[LabelEvent]], gone: set[str]
) -> tuple[list[LabelEvent], bool]:
    """The labels that a row's features saw and that still stand, and whether others are lost."""
    seen, lost = [], False
    for transaction_id, events in history.items():
        known = [event for event in events if event.recorded_at_us < row.evaluated_at_us]
        then = known[-1] if known else None
        if then is None or then.is_fraud is None or then.matures_at_us >= row.occurred_at_us:
            continue
        later = events[len(known) :]
        if transaction_id in gone or any(event.is_fraud is None for event in later):
            lost = True
        else:
            seen.append(then)
    return seen, lost


def _without(features: FeatureSet, row: Scored, seen: Sequence[LabelEvent]) -> bytes:
    columns, _, _ = columns_of(features.spec, [transaction_of(row.content)])
    labels = MerchantLabels(
        np.zeros(len(seen), np.int64),
        np.array([event.matures_at_us for event in seen], np.int64),
        np.array([bool(event.is_fraud) for event in seen], np.float64),
    )
    features_F = np.frombuffer(row.features, "<f4").copy()
    for name, value_N in features.confirmed(columns, labels).items():
        features_F[features.names.index(name)] = value_N[0]
    return store.float32_row(features_F)

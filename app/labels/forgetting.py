"""Forgetting: what stored features still know of labels that were removed, and account erasure.

A label moves its own account's copy, and that is gone with it. Once matured it is also evidence
about its entities, and features of transactions scored meanwhile hold it. Those rows keep the
features of their moment, for replays; where they are labelled, the copies that learn from them
are given features as they would have been without the label (`labels.features`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from app.db.connection import Connection
from app.entities import states as entity_states
from app.entities.states import EntityKey
from app.labels import store as label_store
from app.labels.evidence import corrected_features
from app.labels.records import LabelChange, LabelEntity, LabelEvent, StoredLabel, Witness
from app.learner.columns import columns_of
from app.learner.entities import named_by
from app.learner.features import EntityLabels, FeatureSet
from app.learner.transaction import transaction_of
from app.ops.background import in_a_thread
from app.scoring.pipeline import IN_PLACE, in_a_thread_if
from app.scoring.records import Scored
from app.times import now_us


class Undone(NamedTuple):
    """The changes of an account's labels after a revision, to be left out."""

    account_id: str
    revision: int

    def rest(self, changes: Sequence[LabelChange]) -> list[LabelChange]:
        """What there is without it of all changes: those of others, and of its own what a
        rollback would leave, with no removal before a label that stood."""
        stood: dict[tuple[EntityKey, str], bool] = {}
        for change in changes:
            if self._leaves(change):
                stood[change.key, change.transaction_id] = change.is_fraud is not None
        return [
            change
            for change in changes
            if change.account_id != self.account_id
            or (
                self._leaves(change)
                and (change.is_fraud is not None or not stood[change.key, change.transaction_id])
            )
        ]

    def _leaves(self, change: LabelChange) -> bool:
        return change.account_id == self.account_id and change.revision <= self.revision


class Record(NamedTuple):
    """An entity's record of matured labels, and the same without some of them."""

    before: bytes | None
    after: bytes | None


async def corrections_without(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    removed: Iterable[str],
    account_id: str,
    *,
    of_others: bool,
) -> dict[str, dict[str, bytes]]:
    """What labelled transactions are to learn from without the labels of the `removed` ones.

    By account and transaction: of the account itself, whose labels they are, or of all others.
    Those that learn from that already are left out. A label that others are to forget has been
    removed, and may have come again.
    """
    ids = set(removed)
    gone = set() if of_others else ids
    matured_us = await label_store.first_maturities(connection, tenant, ids)
    found = [
        one
        for one in await label_store.witnesses(
            connection, tenant, matured_us, account_id, of_others
        )
        if one.transaction_id not in gone
    ]
    changes = await label_store.label_changes(connection, tenant, matured_us) if found else []

    def compute() -> dict[str, dict[str, bytes]]:
        corrected = corrected_features(features, found, changes, gone)
        by_account: dict[str, dict[str, bytes]] = defaultdict(dict)
        for one in found:
            without = corrected.get(one.transaction_id)
            if without not in (None, one.corrected or one.features):
                by_account[one.account_id][one.transaction_id] = without
        return dict(by_account)

    return await in_a_thread(compute)


async def records_without(
    connection: Connection, features: FeatureSet, tenant: str, removed: Iterable[str]
) -> dict[EntityKey, Record]:
    """What the records of entities become where the labels of these transactions are removed."""
    ids = set(removed)
    named = await label_store.entities_of_labels(connection, tenant, ids)
    keys = {one.key for one in named if one.folded}
    states = await refold(connection, features, tenant, keys, ids)
    now = await entity_states.states_of(connection, tenant, keys)
    return {key: Record(now[key][0].label_state, states[key]) for key in keys if key in now}


async def refold(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    keys: Iterable[EntityKey],
    without: Set[str] = frozenset(),
) -> dict[EntityKey, bytes | None]:
    """The records of entities, of the labels that are folded into them but for those `without`."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await label_store.labels_of_record(connection, tenant, wanted)
    left = [row for row in rows if row.transaction_id not in without]

    def fold() -> dict[EntityKey, bytes | None]:
        position = {key: g for g, key in enumerate(wanted)}
        labels = EntityLabels(
            np.array([position[one.key] for one in left], np.int64),
            np.array([one.matures_at_us for one in left], np.int64),
            np.array([one.is_fraud for one in left], np.float64),
        )
        nothing, _ = columns_of(features.spec, [])
        after = features.remember(nothing, features.empty(1, len(wanted), 1), labels).confirmed
        known = {one.key for one in left}
        return {
            key: state if key in known else None
            for key, state in zip(wanted, after.to_bytes(), strict=True)
        }

    return await in_a_thread(fold)


async def forget_in_record(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    removed: Iterable[LabelEntity],
    planned: Mapping[EntityKey, Record],
) -> None:
    """Make locked entities' records what they are without labels that are there no more.

    As was planned, where a record is still what it was then.
    """
    keys = {one.key for one in removed if one.folded}
    locked = await entity_states.lock_entities(connection, tenant, keys)
    states = {
        key: planned[key].after
        for key, (first, *_) in locked.items()
        if key in planned and first.label_state == planned[key].before is not None
    }
    states |= await refold(connection, features, tenant, keys - states.keys())
    await entity_states.save_entities(
        connection,
        [first._replace(label_state=states[key]) for key, (first, *_) in locked.items()],
    )


def entities_of(features: FeatureSet, row: Scored) -> list[EntityKey]:
    """The entities that a stored transaction names."""
    return named_by(transaction_of(row.content), features.spec.entity_names)


async def named_in(features: FeatureSet, rows: Collection[Scored]) -> dict[str, list[EntityKey]]:
    """The entities of stored transactions, by transaction."""

    def name() -> dict[str, list[EntityKey]]:
        return {row.transaction_id: entities_of(features, row) for row in rows}

    return await in_a_thread_if(len(rows) > IN_PLACE, name)


async def need_correction(
    connection: Connection,
    tenant: str,
    rows: Sequence[Scored],
    named: Mapping[str, Sequence[EntityKey]],
) -> bool:
    """Whether any of these rows, which name these entities, may have seen a label since removed."""
    with_entities = [row for row in rows if named[row.transaction_id]]
    if not with_entities:
        return False
    ids = [row.transaction_id for row in with_entities]
    keys = {key for name in ids for key in named[name]}
    since_us = min(row.computed_at_us for row in with_entities)
    return await label_store.any_removed(
        connection, tenant, keys, since_us
    ) or await label_store.any_corrected(connection, tenant, ids)


async def corrections(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    rows: Sequence[Scored],
    undone: Undone | None = None,
) -> dict[str, bytes]:
    """The features of those rows that saw a label since removed, had it never been there.

    What is `undone` removes nothing.
    """
    named = await named_in(features, rows)
    if not await need_correction(connection, tenant, rows, named):
        return {}
    found = [
        Witness(
            row.transaction_id,
            row.account_id,
            *key,
            row.occurred_at_us,
            row.computed_at_us,
            row.features,
        )
        for row in rows
        for key in named[row.transaction_id]
    ]
    changes = await label_store.label_changes(connection, tenant, {one.key for one in found})
    rest = undone.rest if undone else None
    return await in_a_thread(lambda: corrected_features(features, found, changes, rest=rest))


def event_of(label: StoredLabel, revision: int, removed: bool = False) -> LabelEvent:
    """The event of a label that was set, or removed, by this revision of its account."""
    # By position: an import has one for each payment.
    return LabelEvent(
        label.tenant,
        label.account_id,
        revision,
        label.transaction_id,
        None if removed else label.is_fraud,
        label.occurred_at_us,
        label.labelled_at_us,
        label.matures_at_us,
        label.source,
        label.analyst,
        label.note,
        now_us() if removed else label.recorded_at_us,
        label.features,
    )

"""Forgetting: what stored features still know of labels that were removed, and account erasure.

A label moves its own account's copy, and that is gone with it. Once matured it is also evidence
about its entities, and features of transactions scored meanwhile hold it. Those rows keep the
features of their moment, for replays; where they are labelled, the copies that learn from them
are given features as they would have been without the label (`labels.features`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from app.db.connection import Connection
from app.entities import states as entity_states
from app.entities.states import EntityKey
from app.labels import store as label_store
from app.labels.evidence import Evidence, evidence_without, with_evidence
from app.labels.records import (
    EntityLabel,
    LabelEntity,
    LabelEvent,
    Removals,
    StoredLabel,
    Witness,
)
from app.learner.columns import columns_of
from app.learner.entities import named_by
from app.learner.features import EntityLabels, FeatureSet
from app.learner.transaction import transaction_of
from app.ops.background import give_way, in_a_thread
from app.scoring.pipeline import IN_PLACE, in_a_thread_if
from app.scoring.records import Scored
from app.times import now_us


class Record(NamedTuple):
    """An entity's record of matured labels, and what it becomes where some of them change.

    `put` are those that take a place in it from then on.
    """

    before: bytes | None
    after: bytes | None
    put: set[EntityLabel]


async def corrections_without(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    removed: Iterable[str],
    account_id: str,
) -> dict[str, bytes]:
    """What the account's other labels are to learn from without those of the `removed`
    transactions, by transaction; those that learn from that already are left out."""
    found = await seen_by(connection, features, tenant, removed, account_id, of_others=False)
    ids = {row.transaction_id for evidence in found for row in evidence.witnesses}
    if not ids:
        return {}
    latest = await label_store.latest_features(connection, tenant, ids)
    corrected = await in_a_thread(lambda: with_evidence(features, found, latest))
    return {key: without for key, without in corrected.items() if without != latest[key]}


async def seen_by(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    removed: Iterable[str],
    account_id: str,
    *,
    of_others: bool,
) -> list[Evidence]:
    """What entities say of labelled transactions without the labels of the `removed` ones.

    Of those of the account itself, whose labels they are, or of all others, that saw one of them. A
    label that others are to forget has been removed, and may have come again. Of a large merchant
    these are many: their features are left to be read later.
    """
    ids = set(removed)
    gone = set() if of_others else ids
    matured_us = await label_store.first_maturities(connection, tenant, ids)
    found = await label_store.witnesses(connection, tenant, matured_us, account_id, of_others)
    changes = await label_store.label_changes(connection, tenant, matured_us) if found else []

    def work_out() -> list[Evidence]:
        witnesses = [
            row
            for row in found
            if row.occurred_at_us > matured_us[row.key] and row.transaction_id not in gone
        ]
        return evidence_without(features, witnesses, changes, gone)

    return await in_a_thread(work_out)


async def records_after(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    changed: Iterable[str],
    new: Mapping[str, StoredLabel] = MappingProxyType({}),
) -> dict[EntityKey, Record]:
    """What the records of entities become where the labels of these transactions are removed, or
    give place to new ones."""
    ids = set(changed)
    there = await label_store.entities_of_labels(connection, tenant, ids)
    keys = {row.key for row in there if row.folded}
    put = put_in_records([row for row in there if row.transaction_id in new], there, new)
    states = await refold(connection, features, tenant, keys, ids, put)
    now = await entity_states.states_of(connection, tenant, keys)
    by_entity = _by_entity(put)
    return {
        key: Record(now[key][0].label_state, states[key], by_entity[key])
        for key in keys
        if key in now
    }


async def refold(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    keys: Iterable[EntityKey],
    without: Set[str] = frozenset(),
    put: Collection[EntityLabel] = (),
) -> dict[EntityKey, bytes | None]:
    """The records of entities, of the labels that are folded into them but for those `without`,
    and of those that are `put` into them."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    rows = await label_store.labels_of_record(connection, tenant, wanted)

    def fold() -> dict[EntityKey, bytes | None]:
        left = [row for row in rows if row.transaction_id not in without]
        left += put
        give_way(len(left))
        position = {key: g for g, key in enumerate(wanted)}
        labels = EntityLabels(
            np.array([position[row.key] for row in left], np.int64),
            np.array([row.matures_at_us for row in left], np.int64),
            np.array([row.is_fraud for row in left], np.float64),
        )
        give_way(len(left))
        nothing, _ = columns_of(features.spec, [])
        after = features.remember(nothing, features.empty(1, len(wanted), 1), labels).confirmed
        known = {row.key for row in left}
        return {
            key: state if key in known else None
            for key, state in zip(wanted, after.to_bytes(), strict=True)
        }

    return await in_a_thread(fold)


def put_in_records(
    named: Iterable[LabelEntity], there: Iterable[LabelEntity], new: Mapping[str, StoredLabel]
) -> list[EntityLabel]:
    """The new labels, of these entities, that take the place of one in its entity's record.

    One that matures later than that has yet to be folded, as has one that takes no place.
    """
    matures_us = {(row.transaction_id, *row.key): row.matures_at_us for row in there if row.folded}
    return [
        EntityLabel(row.transaction_id, *row.key, label.matures_at_us, label.is_fraud)
        for row in named
        if (label := new[row.transaction_id]).matures_at_us
        <= matures_us.get((row.transaction_id, *row.key), -1)
    ]


async def change_records(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    there: Iterable[LabelEntity],
    put: Collection[EntityLabel],
    planned: Mapping[EntityKey, Record],
) -> None:
    """Make locked entities' records what they are now that labels that were `there` are gone, and
    others `put` in their place.

    As was planned, where a record is still what it was then.
    """
    keys = {row.key for row in there if row.folded}
    locked = await entity_states.lock_entities(connection, tenant, keys)
    by_entity = _by_entity(put)
    states = {
        key: planned[key].after
        for key, (first, *_) in locked.items()
        if key in planned
        and first.label_state == planned[key].before is not None
        and planned[key].put == by_entity[key]
    }
    # What is put is stored by now.
    states |= await refold(connection, features, tenant, keys - states.keys())
    await entity_states.save_entities(
        connection,
        [first._replace(label_state=states[key]) for key, (first, *_) in locked.items()],
    )


def _by_entity(labels: Iterable[EntityLabel]) -> dict[EntityKey, set[EntityLabel]]:
    found: dict[EntityKey, set[EntityLabel]] = defaultdict(set)
    for row in labels:
        found[row.key].add(row)
    return found


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
    as_of: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, bytes]:
    """The features of those rows that saw a label since removed, had it never been there.

    Labels of accounts that are in `as_of` are taken for what they were at that revision.
    """
    named = await named_in(features, rows)
    if not await need_correction(connection, tenant, rows, named):
        return {}
    before = await label_store.corrected_before(connection, tenant, named)
    return await _corrected(connection, features, tenant, rows, named, before, as_of)


class SharedCorrections(NamedTuple):
    """Corrections of rows of many accounts, worked out together: by transaction.

    They hold while the `removals` of an account's entities are these, of the same snapshot.
    """

    features: Mapping[str, bytes]
    removals: Mapping[frozenset[EntityKey], Removals]


async def shared_corrections(
    connection: Connection, features: FeatureSet, tenant: str, rows: Collection[Scored]
) -> SharedCorrections:
    """What `corrections` finds for each account's rows, from one reading of the labels' history.

    Of a large merchant that is long: once for each account, it would be too long for a request.
    """
    named = await named_in(features, rows)
    keys = {key for own in named.values() for key in own}
    removed_us = await label_store.newest_removals(connection, tenant, keys)
    before = await label_store.corrected_before(connection, tenant, named)
    needing = [
        row
        for row in rows
        if row.transaction_id in before
        or any(removed_us.get(key, -1) >= row.computed_at_us for key in named[row.transaction_id])
    ]
    if not needing:
        return SharedCorrections({}, {})
    by_account: dict[str, set[EntityKey]] = defaultdict(set)
    for row in rows:
        by_account[row.account_id].update(named[row.transaction_id])
    removals = {
        own: await label_store.removals_of(connection, tenant, own)
        for own in {frozenset(by_account[row.account_id]) for row in needing}
    }
    corrected = await _corrected(connection, features, tenant, needing, named, before)
    return SharedCorrections(corrected, removals)


async def _corrected(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    rows: Sequence[Scored],
    named: Mapping[str, Sequence[EntityKey]],
    before: Set[str],
    as_of: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, bytes]:
    found = [
        Witness(
            row.transaction_id,
            row.account_id,
            *key,
            row.occurred_at_us,
            row.computed_at_us,
            row.transaction_id in before,
        )
        for row in rows
        for key in named[row.transaction_id]
    ]
    changes = await label_store.label_changes(connection, tenant, {row.key for row in found})
    latest = {row.transaction_id: row.features for row in rows}

    def correct() -> dict[str, bytes]:
        return with_evidence(
            features, evidence_without(features, found, changes, as_of=as_of), latest
        )

    return await in_a_thread(correct)


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

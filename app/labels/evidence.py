"""What matured labels were to the features of stored transactions, had some never been there.

A transaction saw the labels of its entities that were recorded before it was evaluated, as they
were then, and that had matured before it occurred. Both are orders of their own, so that a label
is seen from a time on, and by later payments alone. All transactions of an entity are answered
together, at a cost of about n log n.

Axes: N transactions, E entries (a label as it was from one event to the next), P pairs of an entry
and a node of a tree. Times are int64 microseconds.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.entities.states import EntityKey
from app.labels.records import LabelChange, Witness
from app.learner.features import EntityLabels, Features, FeatureSet
from app.learner.kernels.features import LABEL_HALF_LIVES, decayed_sums
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US
from app.ops.background import give_way
from app.scoring.pipeline import matrix_of
from app.scoring.store import float32_rows

Flags = NDArray[np.bool_]
KeyOfRow = TypeVar("KeyOfRow", bound=Hashable)

# As in `app/learner/kernels/features.pyx`.
LEAST_LABELS = 1e-200
# Later than any time, and after any revision.
FOREVER = 2**62


class Entries(NamedTuple):
    """E labels of an entity, each as it was from one event to the next."""

    from_us_E: Ints
    until_us_E: Ints
    matures_us_E: Ints
    is_fraud_E: Floats

    def those(self, chosen_E: Flags | Ints) -> "Entries":
        """Some of the entries, by position or by a mask."""
        return Entries(
            self.from_us_E[chosen_E],
            self.until_us_E[chosen_E],
            self.matures_us_E[chosen_E],
            self.is_fraud_E[chosen_E],
        )


class OfEntities(NamedTuple):
    """Entries of many entities, and where those of each stand."""

    entries: Entries
    places_E: Mapping[EntityKey, Ints]

    def at(self, key: EntityKey) -> Entries:
        return self.entries.those(self.places_E.get(key, np.zeros(0, np.int64)))


def evidence_without(
    features: FeatureSet,
    witnesses: Sequence[Witness],
    changes: Sequence[LabelChange],
    gone: Iterable[str] = (),
    as_of: Mapping[str, int] = MappingProxyType({}),
) -> "list[Evidence]":
    """What entities say of those witnesses that saw a label since removed, had it never been there.

    `witnesses` has a transaction once for each of its entities in question; what its other
    entities say stays as it was corrected before. `changes` are all those of the entities' labels;
    `gone` are transactions whose label is being removed. What an account was brought back from by
    a rollback never was; labels of accounts in `as_of` are being brought back to a revision.
    Witnesses that were corrected before are
    corrected again: what the labels of an erased account did to their entities stands in no history
    any more.
    """
    if not witnesses:
        return []
    standing, vain = _entries(changes, set(gone), as_of)
    give_way(len(changes))
    # By columns: of many rows a loop over each would keep the interpreter from others.
    _, _, kinds, entity_ids, *times, were_corrected = zip(*witnesses, strict=True)
    occurred_us_N, evaluated_us_N = (np.array(time_us, np.int64) for time_us in times)
    doubtful_N = np.array(were_corrected, np.bool_)
    give_way(len(witnesses))
    found: list[Evidence] = []
    for key, own_N in _places(zip(kinds, entity_ids, strict=True)).items():
        wanted_N = doubtful_N[own_N] | _saw_any(
            vain.at(key), evaluated_us_N[own_N], occurred_us_N[own_N]
        )
        chosen_N = own_N[wanted_N]
        if len(chosen_N):
            times_us_N = evaluated_us_N[chosen_N], occurred_us_N[chosen_N]
            values_NV = _evidence(features, key[0], standing.at(key), *times_us_N)
            found.append(Evidence(key[0], [witnesses[n] for n in chosen_N.tolist()], values_NV))
            give_way(len(chosen_N))
    return found


class Evidence(NamedTuple):
    """What entities of a kind say of N witnesses, as features: [N, V]."""

    kind: str
    witnesses: Sequence[Witness]
    values_NV: Features


def with_evidence(
    features: FeatureSet, found: Iterable[Evidence], latest: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The latest features of these witnesses with that evidence, by transaction."""
    place: dict[str, int] = {}
    each = []
    for kind, witnesses, values_NV in found:
        places = [place.setdefault(row.transaction_id, len(place)) for row in witnesses]
        each.append((kind, places, values_NV))
    features_NF = matrix_of(map(latest.__getitem__, place), len(features.names))
    for kind, places, values_NV in each:
        features_NF[np.ix_(places, features.evidence[kind])] = values_NV
    return dict(zip(place, float32_rows(features_NF), strict=True))


def _places(keys: Iterable[KeyOfRow]) -> dict[KeyOfRow, Ints]:
    """Where each of the keys stands among them."""
    code_N, distinct = _codes(keys)
    ends = np.cumsum(np.bincount(code_N, minlength=len(distinct)))[:-1]
    each = np.split(np.argsort(code_N, kind="stable"), ends)
    return dict(zip(distinct, each, strict=True)) if distinct else {}


def _codes(keys: Iterable[KeyOfRow]) -> tuple[Ints, list[KeyOfRow]]:
    """Each key as a number, and the keys by these: in the order in which they come."""
    codes: dict[KeyOfRow, int] = {}
    return np.array([codes.setdefault(key, len(codes)) for key in keys], np.int64), list(codes)


def _entries(
    changes: Sequence[LabelChange], gone: Set[str], as_of: Mapping[str, int]
) -> tuple[OfEntities, OfEntities]:
    """The labels of all entities that stand, and what was seen of them that never was.

    The latter are labels since removed, and whatever a rollback came back from: a label that was
    there, or was not there, for as long as somebody may have seen it so.
    """
    # C changes of L labels, of which each entity has one of its own.
    columns = zip(*changes, strict=True) if changes else [()] * len(LabelChange._fields)
    kinds, entity_ids, transaction_ids, account_ids, revisions, is_fraud, *times, ways = columns
    give_way(len(changes))
    keys = list(zip(kinds, entity_ids, strict=True))
    code_C, labels = _codes(zip(keys, transaction_ids, strict=True))
    give_way(len(changes))
    matures_us_C, from_us_C = (np.array(time_us, np.int64) for time_us in times)
    revision_C = np.array(revisions, np.int64)
    order_C = np.lexsort((revision_C, from_us_C, code_C))
    was_C = ~_undone(account_ids, revision_C, ways, as_of)[order_C]
    give_way(len(changes))
    code_C, from_us_C, matures_us_C = code_C[order_C], from_us_C[order_C], matures_us_C[order_C]
    is_set_C = np.array([label is not None for label in is_fraud], np.bool_)[order_C]
    is_fraud_C = np.array(is_fraud, np.bool_)[order_C]
    place_C = np.arange(len(code_C))
    removed_L = np.full(len(labels), -1)
    is_removal_C = was_C & ~is_set_C
    np.maximum.at(removed_L, code_C[is_removal_C], place_C[is_removal_C])
    removed_L[[transaction_id in gone for _, transaction_id in labels]] = len(code_C)
    stands_C = was_C & is_set_C & (place_C > removed_L[code_C])
    # What there was in truth of the label when another change of it was made that never was.
    last_C = np.maximum.accumulate(np.where(was_C, place_C, -1))
    has_last_C = last_C >= np.searchsorted(code_C, code_C)
    stood_C = has_last_C & stands_C[last_C]
    is_like_last_C = (is_set_C == stood_C) & (
        ~is_set_C | ((is_fraud_C == is_fraud_C[last_C]) & (matures_us_C == matures_us_C[last_C]))
    )
    is_vain_C = np.where(was_C, is_set_C & ~stands_C, ~is_like_last_C)
    give_way(len(changes))
    # It kept from sight what had matured before.
    since_us_C = np.where(stood_C, np.minimum(matures_us_C, matures_us_C[last_C]), matures_us_C)

    def of(chosen_C: Flags, until_us_C: Ints, seen_us_C: Ints) -> OfEntities:
        entries = Entries(from_us_C, until_us_C, seen_us_C, is_fraud_C.astype(np.float64))
        return OfEntities(
            entries.those(chosen_C), _places([keys[c] for c in order_C[chosen_C].tolist()])
        )

    return (
        of(stands_C, _until(code_C, from_us_C, was_C), matures_us_C),
        of(is_vain_C, _until(code_C, from_us_C, np.ones_like(was_C)), since_us_C),
    )


def _undone(
    account_ids: Sequence[str],
    revision_C: Ints,
    ways: Sequence[int | None],
    as_of: Mapping[str, int],
) -> Flags:
    """Which changes a rollback of their account came back from, and those that it made itself.

    `ways` are the revisions to which the changes came back, where they are of a rollback.
    """
    undone_C = np.zeros(len(revision_C), np.bool_)
    if not as_of and ways.count(None) == len(ways):
        return undone_C
    came_to: dict[str, dict[int, int]] = defaultdict(dict)
    for c, revision in enumerate(ways):
        if revision is not None:
            came_to[account_ids[c]][int(revision_C[c])] = revision
    for account_id, revision in as_of.items():
        came_to[account_id][FOREVER] = revision
    places_C = _places(account_ids)
    for account_id in came_to.keys() & places_C.keys():
        own_C = places_C[account_id]
        left = FOREVER
        for revision, before in sorted(came_to[account_id].items(), reverse=True):
            # One that was undone itself has undone nothing.
            if revision <= left:
                own_revision_C = revision_C[own_C]
                undone_C[own_C[(own_revision_C > before) & (own_revision_C <= revision)]] = True
                left = before
    return undone_C


def _until(code_C: Ints, from_us_C: Ints, chosen_C: Flags) -> Ints:
    """When the next of the chosen changes of the same label was made."""
    until_us_C = np.full(len(code_C), FOREVER)
    own_us = from_us_C[chosen_C]
    is_followed = code_C[chosen_C][1:] == code_C[chosen_C][:-1]
    until_us_C[np.flatnonzero(chosen_C)[:-1][is_followed]] = own_us[1:][is_followed]
    return until_us_C


def _evidence(
    features: FeatureSet,
    kind: str,
    entries: Entries,
    evaluated_us_N: Ints,
    occurred_us_N: Ints,
) -> Features:
    """The features that these entries of an entity give to N transactions: [N, V]."""
    entries = entries.those(np.argsort(entries.matures_us_E, kind="stable"))
    matured_N = np.searchsorted(entries.matures_us_E, occurred_us_N, "left")
    # Who was evaluated after the last change of all that had matured saw what stands now, and the
    # walk that serves gives the same bits as ever.
    is_last_E = entries.until_us_E == FOREVER
    changed_us_E = np.where(is_last_E, entries.from_us_E, entries.until_us_E)
    settled_us = np.maximum.accumulate(np.append(-FOREVER, changed_us_E))
    is_settled_N = evaluated_us_N > settled_us[matured_N]
    values_NV = np.empty((len(occurred_us_N), len(features.evidence[kind])), np.float32)
    last = entries.those(is_last_E)
    labels = EntityLabels(np.zeros_like(last.matures_us_E), last.matures_us_E, last.is_fraud_E)
    values_NV[is_settled_N] = features.confirmed(kind, occurred_us_N[is_settled_N], labels)
    values_NV[~is_settled_N] = _of_tree(
        entries, evaluated_us_N[~is_settled_N], occurred_us_N[~is_settled_N]
    )[:, : values_NV.shape[1]]
    return values_NV


class Tree:
    """Entries by who could see them: nodes over the transactions in the order of evaluation.

    An entry is seen by a stretch of them, which a few nodes cover; a transaction sees the entries
    of the nodes above it.
    """

    def __init__(self, entries: Entries, evaluated_us_N: Ints) -> None:
        times_us = np.unique(evaluated_us_N)
        self._leaves = 1 << max(len(times_us) - 1, 0).bit_length()
        self._leaf_N = np.searchsorted(times_us, evaluated_us_N) + self._leaves
        entry_E = np.arange(len(entries.from_us_E))
        first_E = np.searchsorted(times_us, entries.from_us_E, "right") + self._leaves
        after_E = np.searchsorted(times_us, entries.until_us_E, "right") + self._leaves
        nodes, members = [], []
        while len(entry_E):
            for chosen_E, node_E in (
                (first_E & 1 == 1, first_E),
                (after_E & 1 == 1, after_E - 1),
            ):
                chosen_E &= first_E < after_E
                nodes.append(node_E[chosen_E])
                members.append(entry_E[chosen_E])
            first_E, after_E = (first_E + 1) >> 1, after_E >> 1
            is_open_E = first_E < after_E
            entry_E, first_E, after_E = entry_E[is_open_E], first_E[is_open_E], after_E[is_open_E]
        self.node_P = np.concatenate(nodes) if nodes else np.zeros(0, np.int64)
        self.entry_P = np.concatenate(members) if members else np.zeros(0, np.int64)

    def above(self) -> Iterable[Ints]:
        """The nodes above each transaction, level by level."""
        node_N = self._leaf_N
        for _ in range(self._leaves.bit_length()):
            yield node_N
            node_N = node_N >> 1

    @property
    def nodes(self) -> int:
        return 2 * self._leaves


def _saw_any(entries: Entries, evaluated_us_N: Ints, occurred_us_N: Ints) -> Flags:
    """Which transactions saw any of the entries."""
    saw_N = np.zeros(len(occurred_us_N), bool)
    tree = Tree(entries, evaluated_us_N)
    first_us = np.full(tree.nodes, FOREVER)
    np.minimum.at(first_us, tree.node_P, entries.matures_us_E[tree.entry_P])
    for node_N in tree.above():
        saw_N |= first_us[node_N] < occurred_us_N
    return saw_N


def _of_tree(entries: Entries, evaluated_us_N: Ints, occurred_us_N: Ints) -> Features:
    """The same of entries in the order of their maturity, of which each transaction saw others."""
    half_lives_us = [days * DAY_US for days in LABEL_HALF_LIVES.values()]
    values_NV = np.zeros((len(occurred_us_N), 2 * len(half_lives_us)), np.float32)
    tree = Tree(entries, evaluated_us_N)
    if not len(tree.entry_P):
        return values_NV
    size = len(entries.from_us_E)
    key_P = np.sort(tree.node_P * size + tree.entry_P)
    node_P, entry_P = np.divmod(key_P, size)
    matures_us_P = entries.matures_us_E[entry_P]
    first_P = np.searchsorted(node_P, node_P, "left")
    matured_N = np.searchsorted(entries.matures_us_E, occurred_us_N, "left")
    # Of each node above a transaction, the newest entry that had matured, if there is any.
    newest, asker = [], []
    for node_N in tree.above():
        place_N = np.searchsorted(key_P, node_N * size + matured_N, "left") - 1
        n = np.flatnonzero((place_N >= 0) & (node_P[place_N] == node_N))
        newest.append(place_N[n])
        asker.append(n)
    place_Q, asker_Q = np.concatenate(newest), np.concatenate(asker)
    age_us_Q = occurred_us_N[asker_Q] - matures_us_P[place_Q]
    ones_P, is_fraud_P = np.ones(len(key_P)), entries.is_fraud_E[entry_P]
    for h, half_life_us in enumerate(half_lives_us):
        weight_Q = np.exp2(-age_us_Q / half_life_us)
        labels_N, frauds_N = (
            np.bincount(
                asker_Q,
                decayed_sums(value_P, matures_us_P, first_P, half_life_us)[place_Q] * weight_Q,
                len(occurred_us_N),
            )
            for value_P in (ones_P, is_fraud_P)
        )
        values_NV[:, 2 * h] = frauds_N / np.maximum(labels_N, LEAST_LABELS)
        values_NV[:, 2 * h + 1] = np.log1p(frauds_N)
    return values_NV

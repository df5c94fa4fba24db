"""The plan of a change of labels: the copy that it makes, and what that decides.

A plan reads a snapshot and stores nothing. Committed, it is the change; not committed, a preview.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np

from app.accounts.store import Account
from app.db.connection import Connection
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import Alteration, LabelChange
from app.labels.forgetting import SharedCorrections, corrections, need_correction
from app.labels.records import StoredLabel, SupportRow
from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.decisions import Decision
from app.learner.engine import LearnedCopies
from app.learner.features import Features
from app.learner.likeness import Fields, fields_of, most_alike_first
from app.learner.scorer import Copy
from app.models import store as model_store
from app.ops.background import in_a_thread
from app.ops.turns import Turns
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring import store as transaction_store
from app.scoring.pipeline import IN_PLACE, Deciding, Pipeline, in_a_thread_if
from app.scoring.records import Scored
from app.times import now_us

# What is looked at before and after: the newest payments, those that wait for a review, and
# earlier ones that were approved, which nothing should alarm.
RECENT, REVIEWED, GUARD = 20, 100, 50
# Plans of many rows: each more that is computed at once keeps the event loop, and so all scores,
# from the processor.
JUDGED_AT_ONCE = 1
# More labels than that are put in order beside the event loop.
MANY = 1_000


class Effect(NamedTuple):
    """The decision on a transaction by the copy of before and by that of now."""

    transaction_id: str
    before: Decision
    after: Decision


class Change(NamedTuple):
    """What a change of an account's labels does: the copy it makes, and what that decides.

    `labelled` are the transactions whose label changed, `recent` the account's newest ones,
    `alerts` those that wait for a review, `guard` earlier ones that were approved: of each of the
    last three those most like the labelled ones first.
    """

    copy: Copy
    labelled: list[Effect]
    recent: list[Effect]
    alerts: list[Effect]
    guard: list[Effect]

    @property
    def effects(self) -> list[Effect]:
        """All of them; a transaction may be among several."""
        return [*self.labelled, *self.recent, *self.alerts, *self.guard]


class WatchedPayments(NamedTuple):
    """The transactions that a change is judged on, and the reviews of the alerts."""

    labelled: Sequence[Scored]
    recent: Sequence[Scored]
    alerts: Sequence[Scored]
    guard: Sequence[Scored]
    reviews: Sequence[Review]

    @property
    def groups(self) -> Sequence[Sequence[Scored]]:
        """The transactions, in the order of the effects in a `Change`."""
        return self.labelled, self.recent, self.alerts, self.guard


class Draft(NamedTuple):
    """A plan before it is judged.

    `corrected` are the features of new labels had their rows not seen labels since removed.
    `before` and `after` are the labels that copies learn from, `reviews` those of the rows.
    """

    alteration: Alteration
    corrected: Mapping[str, bytes]
    before: Sequence[SupportRow]
    after: Sequence[SupportRow]
    watched: WatchedPayments
    reviews: Mapping[str, Review]
    deciding: Deciding

    @property
    def has_new_copy(self) -> bool:
        """Whether the account's copy learns from other labels than before."""
        return [row.learned for row in self.before] != [row.learned for row in self.after]


class Plan(NamedTuple):
    """A change of labels, worked out: the draft, what it does, and its copy for the bank."""

    draft: Draft
    change: Change
    learned: LearnedCopies

    def of(self, account: Account) -> "Plan":
        """The same of an account that has got transactions meanwhile."""
        alteration = self.draft.alteration._replace(account=account)
        return self._replace(draft=self.draft._replace(alteration=alteration))

    def stored(self, labels: Mapping[str, StoredLabel]) -> "Plan":
        """The same with these labels as they were stored, a little later than it was made."""
        after = [
            row._replace(labelled_at_us=labels[row.transaction_id].labelled_at_us)
            if row.transaction_id in labels
            else row
            for row in self.draft.after
        ]
        return self._replace(draft=self.draft._replace(after=after))


class Planner:
    """Works out changes of labels."""

    def __init__(self, pipeline: Pipeline, allowance: Allowance) -> None:
        self._pipeline = pipeline
        self._allowance = allowance
        self._turns = Turns(JUDGED_AT_ONCE)

    async def draft(
        self,
        connection: Connection,
        tenant: str,
        change: LabelChange,
        looks_around: bool = True,
        is_preview: bool = False,
        shared: SharedCorrections | None = None,
    ) -> Draft:
        """What a change does to labels, as the database is.

        Without looking around, it watches neither `recent` nor `guard`; a preview needs no
        allowance. Corrections that are `shared` with other accounts are taken from there.
        Raises what forbids the change, TooManyLabels among it, and ModelUnavailable.
        """
        features = self._pipeline.features
        alteration = await change.alteration(connection, features, tenant)
        account, unseen = alteration.account, alteration.unseen
        ids = [row.transaction_id for row in alteration.rows]
        wanted = 0 if is_preview else alteration.allowance
        _, support, needs_correction, reviews, watched, decides = await connection.together(
            self._allow(connection, account, wanted),
            label_store.supports(
                connection, tenant, [account.account_id], SUPPORT_LIMIT + len(alteration.old)
            ),
            need_correction(connection, tenant, unseen, alteration.named),
            review_store.reviews_of(connection, tenant, ids),
            _watched(connection, account, alteration.rows, looks_around),
            model_store.deciding_at(connection, tenant, now_us()),
        )
        corrected: Mapping[str, bytes] = {}
        if needs_correction:
            entities = frozenset(alteration.entities)
            if shared and entities in shared.removals:
                removals, corrected = shared.removals[entities], shared.features
            else:
                # Before what it vouches for.
                removals = await label_store.removals_of(connection, tenant, entities)
                corrected = await corrections(connection, features, tenant, unseen)
            alteration = alteration._replace(removals=removals)
        stored = support[account.account_id]
        after = await self._after(connection, alteration, stored, corrected)
        deciding = await self._pipeline.deciding_by(*decides)
        return Draft(alteration, corrected, _newest(stored), after, watched, reviews, deciding)

    async def judge(
        self, draft: Draft, beside_base: bool = False, holds_locks: bool = False
    ) -> Plan:
        """What the copy of a draft decides, beside the one that it replaces, or the base.

        Of many rows it waits for its tenant's turn, unless others wait for what it holds.
        """
        scorer, thresholds = draft.deciding
        groups = draft.watched.groups
        rows = self._pipeline.rows([row for group in groups for row in group])
        found = None if beside_base else await self._pipeline.held(scorer, draft.alteration.account)
        before = found or self._pipeline.support([] if beside_base else draft.before)
        fields = fields_of(self._pipeline.features)

        def compute() -> Plan:
            after = self._pipeline.support(draft.after)
            changed = scorer.change(before, after, rows, thresholds)
            pairs = iter(zip(changed.before, changed.after.decisions, strict=True))
            effects = [
                [Effect(row.transaction_id, *next(pairs)) for row in group] for group in groups
            ]
            ordered = _most_alike_first(fields, rows.features_NF, effects)
            return Plan(draft, Change(changed.after.copy, *ordered), changed.learned)

        if len(rows.time_us_N) <= IN_PLACE:
            return compute()
        async with nullcontext() if holds_locks else self._turns.one():
            return await in_a_thread(compute)

    async def _allow(self, connection: Connection, account: Account, wanted: int) -> None:
        if wanted:
            await self._allowance.check(connection, account.tenant, account.account_id, wanted)

    async def _after(
        self,
        connection: Connection,
        alteration: Alteration,
        stored: Sequence[SupportRow],
        corrected: Mapping[str, bytes],
    ) -> list[SupportRow]:
        """The labels that copies learn from after a change, newest first."""
        others = alteration.corrections

        def altered() -> tuple[list[SupportRow], bool]:
            left = [
                row._replace(features=others.get(row.transaction_id, row.features))
                for row in stored
                if row.transaction_id not in alteration.changed
            ]
            labels = alteration.labels(now_us(), corrected)
            if not labels:
                return left, False
            rows = {row.transaction_id: row for row in alteration.rows}
            after = in_order([*left, *(_learned(rows[key], labels[key]) for key in labels)])
            return after, len({row.occurred_at_us for row in after}) < len(after)

        is_many = len(stored) + len(alteration.changed) > MANY
        after, has_ties = await in_a_thread_if(is_many, altered)
        if has_ties:
            # The order of transactions of one moment is the database's.
            by_id = {row.transaction_id: row for row in after}
            ordered = await transaction_store.newest_first(
                connection, alteration.account.tenant, by_id
            )
            after = [by_id[key] for key in ordered]
        return _newest(after)


async def _watched(
    connection: Connection, account: Account, labelled: Sequence[Scored], looks_around: bool
) -> WatchedPayments:
    tenant, account_id = account.tenant, account.account_id
    # First what finds little, as other queries may be sent with it.
    queue = await review_store.open_of_account(connection, tenant, account_id, REVIEWED)
    newest = (
        await transaction_store.recent(connection, tenant, account_id, RECENT + GUARD)
        if looks_around
        else []
    )
    rows = await transaction_store.scored(
        connection, tenant, [review.transaction_id for review in queue]
    )
    guard = [row for row in newest[RECENT:] if row.outcome == "approve"]
    alerts = [rows[review.transaction_id] for review in queue]
    return WatchedPayments(labelled, newest[:RECENT], alerts, guard, queue)


def _most_alike_first(
    fields: Fields, features_NF: Features, groups: Sequence[list[Effect]]
) -> list[list[Effect]]:
    """Effects on the transactions of groups, each group but the first in the order of likeness.

    The first are the labelled ones, which the others are compared with.
    """
    labelled = groups[0]
    ids = np.array([row.transaction_id for row in labelled], np.object_)
    labelled_KF = features_NF[: len(labelled)]
    ordered, first = [labelled], len(labelled)
    for group in groups[1:]:
        own_NF = features_NF[first : first + len(group)]
        first += len(group)
        own_ids = np.array([row.transaction_id for row in group], np.object_)
        is_itself_NK = own_ids[:, None] == ids
        order = most_alike_first(fields, own_NF, labelled_KF, is_itself_NK)
        ordered.append([group[n] for n in order])
    return ordered


def with_label(support: Sequence[SupportRow], row: Scored, is_fraud: bool) -> list[SupportRow]:
    """A support with one label more, newest first as it is served.

    A label that is only tried out has no time of its own: it has that of its transaction.
    """
    label = SupportRow(
        row.transaction_id, row.features, is_fraud, row.occurred_at_us, row.occurred_at_us
    )
    return in_order([*support, label])


def in_order(support: Iterable[SupportRow]) -> list[SupportRow]:
    """Labels newest first, those of one moment by their ids."""
    return sorted(support, key=lambda row: (row.occurred_at_us, row.transaction_id), reverse=True)


def _learned(row: Scored, label: StoredLabel) -> SupportRow:
    features = label.features or row.features
    return SupportRow(
        row.transaction_id, features, label.is_fraud, row.occurred_at_us, label.labelled_at_us
    )


def _newest(support: Iterable[SupportRow]) -> list[SupportRow]:
    """As many of each class as are served."""
    left = {True: SUPPORT_LIMIT, False: SUPPORT_LIMIT}
    newest = []
    for row in support:
        if left[row.is_fraud]:
            left[row.is_fraud] -= 1
            newest.append(row)
    return newest

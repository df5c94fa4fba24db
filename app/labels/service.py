"""Labels of an account: stored, counted as a revision, and what they do to its scores.

Every change is one plan: made of a snapshot, and committed if that still holds under the locks.
What it does is computed by a copy of its own: the bank has copies under their revision, and a
revision that was rolled back must never have had one.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import Raced
from app.entities import states as entity_states
from app.errors import Problem
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import (
    KeepLabels,
    LabelChange,
    RemoveLabel,
    RollBack,
    SetLabels,
    Verdict,
)
from app.labels.committing import commit, is_current, lock
from app.labels.correcting import Correcting
from app.labels.forgetting import SharedCorrections, named_in, shared_corrections
from app.labels.plans import Change, Plan, Planner
from app.labels.records import Forgetting, StoredLabel
from app.learner.entities import named_by
from app.ops.turns import Turns
from app.scoring import store as transaction_store
from app.scoring.by_account import ACCOUNTS_AT_ONCE, each_by_account
from app.scoring.pipeline import IN_PLACE, Pipeline
from app.times import now_us

# What becomes of a label of a file. The stored label of one that is superseded was known later.
Fate = Literal["stored", "changed", "unchanged", "superseded", "not_yet_known"]


class Labelled(NamedTuple):
    """What labels did to an account; `changed` are the transactions whose label is another now."""

    account: Account
    changed: frozenset[str]
    unchanged: int
    change: Change

    @property
    def stored(self) -> int:
        return len(self.changed)


class Labelling:
    """Stores and removes labels, one database transaction each; previews what they would do.

    Others forget a label that is removed in transactions after that.
    """

    def __init__(self, database: Database, pipeline: Pipeline, allowance: Allowance) -> None:
        self._database = database
        self._pipeline = pipeline
        self.allowance = allowance
        self._planner = Planner(pipeline, allowance)
        self._correcting = Correcting(database, pipeline.features)
        self._turns = Turns(ACCOUNTS_AT_ONCE)

    async def store(
        self,
        tenant: str,
        account_id: str,
        verdicts: Sequence[Verdict],
        looks_around: bool = True,
        shared: SharedCorrections | None = None,
    ) -> Labelled:
        """Store labels, scoring whole transactions first; all of them or none.

        Where it does not look around, the change has neither `recent` nor `guard`.
        The same labels again change nothing, not even the revision. Raises WrongAccount,
        TransactionNotFound or TransactionConflict for the first verdict that cannot be stored, and
        TooManyLabels.
        """
        change = SetLabels(account_id, verdicts)
        plan = None
        if not any(verdict.transaction for verdict in verdicts):
            # So that nobody waits for a locked account while the plan is made.
            async with self._database.glance() as connection:
                draft = await self._planner.draft(
                    connection, tenant, change, looks_around, shared=shared
                )
            plan = await self._planner.judge(draft)
        return await self._apply(tenant, change, plan, looks_around)

    async def put(self, tenant: str, verdict: Verdict) -> Labelled:
        """Store the label of a stored transaction. Raises TransactionNotFound, TooManyLabels, or
        LabelChanged where it has another label than was shown."""
        async with self._database.glance() as connection:
            scored = await transaction_store.require_scored(
                connection, tenant, verdict.transaction_id
            )
        return await self.store(tenant, scored.account_id, [verdict])

    async def store_each(
        self, tenant: str, verdicts: Sequence[Verdict], is_preview: bool = False
    ) -> list[Labelled | Problem]:
        """An outcome for each: the labels of an account are stored together, in its own commit.

        All verdicts are on stored transactions, each on another. A preview stores nothing, and
        has the outcome that storing would have now.
        """

        by_id = {verdict.transaction_id: verdict for verdict in verdicts}
        shared = None
        # A single label has nobody to share with: its own plan reads as much.
        if len(by_id) > 1:
            async with self._database.read() as connection:
                rows = (await transaction_store.scored(connection, tenant, by_id)).values()
                shared = await shared_corrections(connection, self._pipeline.features, tenant, rows)

        async def store(account_id: str, group: dict[str, Verdict]) -> dict[str, Labelled]:
            each = [*group.values()]
            if is_preview:
                done = await self._previewed(tenant, SetLabels(account_id, each), shared)
            else:
                done = await self.store(tenant, account_id, each, looks_around=False, shared=shared)
            return dict.fromkeys(group, done)

        answers = await each_by_account(self._database, tenant, by_id, store, self._turns)
        return [answers[verdict.transaction_id] for verdict in verdicts]

    async def import_labels(
        self, tenant: str, verdicts: Sequence[Verdict], is_preview: bool = False
    ) -> list[Fate | Problem]:
        """What becomes of each label that a file states, on one transaction each.

        Those that are new or have changed are stored as if they were put, unless the label that
        is there was known later. A preview stores nothing.
        """
        now = now_us()
        async with self._database.read() as connection:
            ids = [verdict.transaction_id for verdict in verdicts]
            stored = await label_store.labels_of(connection, tenant, ids)
        fates: dict[str, Fate | Problem] = {
            verdict.transaction_id: _fate_of(verdict, stored.get(verdict.transaction_id), now)
            for verdict in verdicts
        }
        due = [v for v in verdicts if fates[v.transaction_id] in ("stored", "changed")]
        answers = await self.store_each(tenant, due, is_preview)
        for verdict, answer in zip(due, answers, strict=True):
            if isinstance(answer, Problem):
                fates[verdict.transaction_id] = answer
        return [fates[verdict.transaction_id] for verdict in verdicts]

    async def remove(self, tenant: str, transaction_id: str, shown: str | None = None) -> Labelled:
        """Unlearn one label exactly. Raises LabelNotFound, TooManyLabels, or LabelChanged where it
        is not the one that was shown."""
        return await self._apply_aside(tenant, RemoveLabel(transaction_id, shown))

    async def roll_back(self, tenant: str, account_id: str, revision: int) -> Labelled:
        """Make an account's labels what they were at a revision, as one new revision.

        Labels set since then are unlearned exactly, as if each were removed; where nothing has
        changed since then, nothing does. Raises AccountNotFound, RevisionNotFound or
        TooManyLabels: it counts as one change, however many labels come back.
        """
        return await self._apply_aside(tenant, RollBack(account_id, revision))

    async def adapt(self, tenant: str, account_id: str) -> Labelled:
        """Make the account's copy now, ahead of its next score, and set it beside the base.

        Raises AccountNotFound.
        """
        async with self._turns.one():
            async with self._database.read() as connection:
                draft = await self._planner.draft(connection, tenant, KeepLabels(account_id))
            plan = await self._planner.judge(draft, beside_base=True)
        return await self._kept(plan, draft.alteration.account)

    async def preview(self, tenant: str, account_id: str, verdicts: Sequence[Verdict]) -> Labelled:
        """What `store` would do, with nothing stored: labels of stored transactions only.

        Raises AccountNotFound, TransactionNotFound or WrongAccount.
        """
        return await self._preview(tenant, SetLabels(account_id, verdicts), account_id)

    async def preview_roll_back(self, tenant: str, account_id: str, revision: int) -> Labelled:
        """What `roll_back` would do, with nothing stored. Raises AccountNotFound or
        RevisionNotFound."""
        return await self._preview(tenant, RollBack(account_id, revision), account_id)

    async def _preview(self, tenant: str, change: LabelChange, account_id: str) -> Labelled:
        # Whose turn has not come reads nothing either: a preview is mostly its draft.
        async with self._turns.one():
            async with self._database.read() as connection:
                # Before what may be refused of its transactions.
                account = await account_store.require_account(connection, tenant, account_id)
                draft = await self._planner.draft(connection, tenant, change, is_preview=True)
            return _labelled(await self._planner.judge(draft), account)

    async def _previewed(
        self, tenant: str, change: SetLabels, shared: SharedCorrections | None
    ) -> Labelled:
        """What to store these labels would do now. Raises what it would raise."""
        async with self._database.read() as connection:
            draft = await self._planner.draft(
                connection, tenant, change, looks_around=False, shared=shared
            )
        return _labelled(await self._planner.judge(draft), draft.alteration.account)

    async def _apply_aside(self, tenant: str, change: LabelChange) -> Labelled:
        """A change of what many may have learned from: planned beside the loop, and committed
        there where it is of many labels."""
        async with self._turns.one():
            async with self._database.read() as connection:
                draft = await self._planner.draft(connection, tenant, change)
            plan = await self._planner.judge(draft)
        aside = len(draft.alteration.rows) > IN_PLACE
        return await self._apply(tenant, change, plan, aside=aside)

    async def _apply(
        self,
        tenant: str,
        change: LabelChange,
        first: Plan | None,
        looks_around: bool = True,
        aside: bool = False,
    ) -> Labelled:
        """Commit a plan, made again where it does not hold any more, the last time under locks."""

        features = self._pipeline.features

        async def planned(connection: Connection) -> Plan:
            draft = await self._planner.draft(connection, tenant, change, looks_around)
            return await self._planner.judge(draft, holds_locks=True)

        async def committed(connection: Connection) -> tuple[Plan, Account, Forgetting | None]:
            nonlocal first
            if isinstance(change, SetLabels):
                await self._score(connection, tenant, change)
            plan, first = first or await planned(connection), None
            alteration = plan.draft.alteration
            now = await lock(connection, alteration)
            if not await is_current(connection, plan.draft, now):
                plan = await planned(connection)
                again = plan.draft.alteration
                if not again.entities <= alteration.entities:
                    raise Raced
                now = again.account
            return await commit(connection, features, plan.of(now))

        plan, account, forgetting = await self._database.run(committed, aside)
        labelled = await self._kept(plan, account)
        if forgetting:
            await self._correcting.finish(forgetting)
        return labelled

    async def _score(self, connection: Connection, tenant: str, change: SetLabels) -> None:
        """Score the transactions that come with their labels, under the locks of all labels."""
        whole = [verdict.transaction for verdict in change.verdicts if verdict.transaction]
        if not whole:
            return
        ids = [verdict.transaction_id for verdict in change.verdicts]
        found = await transaction_store.scored(connection, tenant, ids)
        change.check(found)
        await account_store.lock_accounts(connection, tenant, [change.account_id])
        # All locks on entities at once and in order: those of new transactions, whose state
        # grows, and those of labels, which may be folded into it or be forgotten by it meanwhile.
        features = self._pipeline.features
        stored = (await named_in(features, found.values())).values()
        kinds = features.spec.entity_names
        entities = {key for keys in stored for key in keys}
        entities.update(key for transaction in whole for key in named_by(transaction, kinds))
        await entity_states.lock_only(connection, tenant, entities)
        in_time_order = sorted(whole, key=lambda row: (row.occurred_at_us, row.transaction_id))
        for answer in await self._pipeline.score_of(connection, tenant, in_time_order):
            if isinstance(answer, Problem):
                raise answer

    async def _kept(self, plan: Plan, account: Account) -> Labelled:
        """Spare the account's next score the making of the copy: now its labels are committed."""
        scorer = plan.draft.deciding.scorer
        key = self._pipeline.adapter_key(account)
        await self._pipeline.keep(scorer, key, plan.learned, plan.draft.after)
        return _labelled(plan, account)


def _fate_of(verdict: Verdict, old: StoredLabel | None, now: int) -> Fate:
    known_at_us = now if verdict.labelled_at_us is None else verdict.labelled_at_us
    if old is not None and old.is_fraud == verdict.is_fraud:
        return "unchanged"
    if known_at_us > now:
        return "not_yet_known"
    if old is None:
        return "stored"
    return "superseded" if old.labelled_at_us > known_at_us else "changed"


def _labelled(plan: Plan, account: Account) -> Labelled:
    alteration = plan.draft.alteration
    return Labelled(account, alteration.changed, alteration.unchanged, plan.change)

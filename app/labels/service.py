"""Labels of an account: stored, counted as a revision, and what they do to its scores.

What a label does is computed before the commit and by copies of its own: the bank holds copies
under their revision, and a revision that was rolled back must never have had one.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounts import merchants as merchant_store
from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.accounts.records import Account
from app.audit import store as audit_store
from app.audit.entries import Action, Entry, entry
from app.db.database import Database, Raced
from app.db.statements import together
from app.errors import Problem
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.errors import LabelNotFound, WrongAccount
from app.labels.forgetting import (
    Corrections,
    are_settled,
    correct,
    corrections,
    event_of,
    forget_in_record,
    need_correction,
    plan_corrections,
)
from app.labels.records import LabelEvent, StoredLabel, SupportRow
from app.labels.rollback import WayBack, way_back
from app.learner.adaptation import SUPPORT_LIMIT, Support
from app.learner.decisions import Decision
from app.learner.engine import Learned
from app.learner.scorer import Copy, Held, Scorer
from app.learner.spec import DatasetSpec
from app.learner.transaction import Transaction
from app.models import store as model_store
from app.reviews import store as review_store
from app.reviews.records import Review
from app.reviews.service import facts_of
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionNotFound
from app.scoring.pipeline import IN_PLACE, Deciding, Pipeline, adapter_key, worked
from app.scoring.records import Scored
from app.times import now_us
from app.webhooks.service import News, announce

# What is looked at before and after: the newest payments, those that wait for a review, and
# earlier ones that were approved, which nothing should alarm.
RECENT, REVIEWED, GUARD = 20, 100, 50
# The source of labels that came with a file of `quickstudy import`.
IMPORT = "import"


class Verdict(NamedTuple):
    """A label for a transaction: a stored one, or one that is to be stored first.

    `labelled_at_us` is now where nothing is said.
    """

    transaction_id: str
    is_fraud: bool
    transaction: Transaction | None = None
    labelled_at_us: int | None = None
    source: str = "analyst"
    analyst: str | None = None
    note: str | None = None


class Effect(NamedTuple):
    """The decision on a transaction by the copy of before and by that of now."""

    transaction_id: str
    before: Decision
    after: Decision


class Change(NamedTuple):
    """What a change of an account's labels does: the copy it makes, and what that decides.

    `labelled` are the transactions whose label changed, `recent` the account's newest ones,
    `alerts` those that wait for a review, `guard` earlier ones that were approved.
    """

    copy: Copy
    labelled: list[Effect]
    recent: list[Effect]
    alerts: list[Effect]
    guard: list[Effect]


class Made(NamedTuple):
    """The copy itself, for the bank of the scorer that made it."""

    scorer: Scorer
    learned: Learned


class Labelled(NamedTuple):
    """What labels did to an account; `changed` are the transactions whose label is another now."""

    account: Account
    changed: frozenset[str]
    unchanged: int
    change: Change
    made: Made

    @property
    def stored(self) -> int:
        return len(self.changed)


class Watched(NamedTuple):
    """The transactions that a change is judged on, and the reviews of the alerts."""

    labelled: Sequence[Scored]
    recent: Sequence[Scored]
    alerts: Sequence[Scored]
    guard: Sequence[Scored]
    reviews: Sequence[Review]

    @property
    def groups(self) -> Sequence[Sequence[Scored]]:
        """The transactions, as `Change` tells of them."""
        return self.labelled, self.recent, self.alerts, self.guard


class Draft(NamedTuple):
    """New labels of an account without a lock on it, and what they do if nothing has changed.

    Where labels that were removed had to be looked for, the `checksum` is of the merchants' labels.
    `reviews` are those of the labelled transactions, `has_learned` is whether the copy is another.
    """

    was: Account
    verdicts: Sequence[Verdict]
    corrected: Mapping[str, bytes]
    checksum: tuple[int, int] | None
    watched: Watched
    reviews: Mapping[str, Review]
    has_learned: bool
    change: Change
    made: Made


class Removal(NamedTuple):
    """A label that is to be removed, and what others are to learn from then."""

    label: StoredLabel
    corrections: Corrections


class Return(NamedTuple):
    """The way of an account back to a revision, and what others are to learn from then.

    It is so while the account is, and the labels of the merchants have this `checksum`.
    """

    account: Account
    back: WayBack
    checksum: tuple[int, int]
    corrections: Corrections

    async def holds(self, connection: AsyncConnection, now: Account) -> bool:
        """Whether that is still so, now that nobody else can change it."""
        was = self.account
        if (now.revision, now.created_at_us) != (was.revision, was.created_at_us):
            return False
        checksum = await label_store.checksum_of_changes(
            connection, was.tenant, self.back.merchants
        )
        return checksum == self.checksum


class Outdated(Exception):
    """What a draft was made of is another now."""


class Labelling:
    """Stores and removes labels, one database transaction each; previews what they would do."""

    def __init__(self, database: Database, pipeline: Pipeline, allowance: Allowance) -> None:
        self._database = database
        self._pipeline = pipeline
        self._allowance = allowance

    async def store(
        self,
        tenant: str,
        account_id: str,
        verdicts: Sequence[Verdict],
        looks_around: bool = True,
    ) -> Labelled:
        """Store labels, scoring whole transactions first; all of them or none.

        Where nobody asks, it does not look around: the change tells neither `recent` nor `guard`.
        The same labels again change nothing, not even the revision. Raises WrongAccount,
        TransactionNotFound or TransactionConflict for the first verdict that cannot be stored, and
        TooManyLabels.
        """

        if draft := await self._drafted(tenant, account_id, verdicts, looks_around):
            with suppress(Outdated):
                stored = await self._database.run(
                    lambda connection: self._stored(connection, draft)
                )
                return await self._kept(stored)

        async def work(connection: AsyncConnection) -> Labelled:
            rows, old = await self._rows(connection, tenant, account_id, verdicts)
            was = await self._account(connection, tenant, account_id)
            before = await self._support(connection, tenant, account_id)
            changed = [v for v in verdicts if _differs(v, old.get(v.transaction_id))]
            news: list[News] = []
            if changed:
                await self._allowance.check(connection, tenant, account_id, len(changed))
                by_id = {row.transaction_id: row for row in rows}
                asked = [by_id[v.transaction_id] for v in changed]
                features = self._pipeline.features
                corrected = await corrections(connection, features, tenant, asked)
                labels = [
                    self._label(row, v, corrected.get(row.transaction_id))
                    for row, v in zip(asked, changed, strict=True)
                ]
                new = {label.transaction_id: label for label in labels}
                relabelled = {key: old[key] for key in new if key in old}
                await self._replace(connection, was, relabelled, new)
                news = _news(relabelled, new)
            account, change, copy = await self._changed(
                connection, was, before, rows, news, looks_around
            )
            ids = frozenset(verdict.transaction_id for verdict in changed)
            return Labelled(account, ids, len(verdicts) - len(ids), change, copy)

        return await self._kept(await self._database.run(work))

    async def _drafted(
        self, tenant: str, account_id: str, verdicts: Sequence[Verdict], looks_around: bool
    ) -> Draft | None:
        """What the labels will do, so that nobody waits for a locked account while it is computed.

        None where that takes the lock: for new transactions, labels that are there already, and
        payments of one moment, whose order only the database tells.
        """
        ids = [verdict.transaction_id for verdict in verdicts]
        if len(set(ids)) < len(ids) or any(verdict.transaction for verdict in verdicts):
            return None
        features = self._pipeline.features
        async with self._database.glance() as connection:
            # First of all: while this is its revision, what is read after it has not changed.
            was, known, old = await together(
                connection,
                account_store.account(connection, tenant, account_id),
                transaction_store.scored(connection, tenant, ids),
                label_store.labels_of(connection, tenant, ids),
            )
            _check(account_id, known, verdicts)
            if was is None or old:
                return None
            rows = [known[key] for key in ids]
            _, before, needs_correction, reviews, watched, decides = await together(
                connection,
                self._allowance.check(connection, tenant, account_id, len(ids)),
                self._support(connection, tenant, account_id),
                need_correction(connection, tenant, rows),
                review_store.reviews_of(connection, tenant, ids),
                _watched(connection, was, rows, looks_around),
                model_store.deciding_at(connection, tenant, now_us()),
            )
            deciding = await self._pipeline.deciding_by(*decides)
            corrected: Mapping[str, bytes] = {}
            checksum = None
            if needs_correction:
                checksum = await label_store.checksum_of_changes(
                    connection, tenant, _merchants(rows)
                )
                corrected = await corrections(connection, features, tenant, rows)
        learned = [
            row._replace(features=corrected.get(row.transaction_id, row.features)) for row in rows
        ]
        after = with_labels(before, learned, [verdict.is_fraud for verdict in verdicts])
        if len({row.occurred_at_us for row in after}) < len(after):
            return None
        after = _newest(after)
        held = await self._pipeline.held(deciding.scorer, was)
        judged = await self._judge(held or self._pipeline.support(before), after, watched, deciding)
        has_learned = before != after
        return Draft(was, verdicts, corrected, checksum, watched, reviews, has_learned, *judged)

    async def _stored(self, connection: AsyncConnection, draft: Draft) -> Labelled:
        """Store the labels of a draft. Raises Outdated where it would not be the same any more."""
        was, rows = draft.was, draft.watched.labelled
        tenant, account_id = was.tenant, was.account_id
        now = (await account_store.lock_accounts(connection, tenant, [account_id]))[account_id]
        if (now.revision, now.created_at_us) != (was.revision, was.created_at_us):
            raise Outdated
        await merchant_store.lock_merchants(connection, tenant, _merchants(rows))
        if now.transactions != was.transactions:
            queued = await review_store.open_of_account(connection, tenant, account_id, REVIEWED)
            if list(map(_key, queued)) != list(map(_key, draft.watched.reviews)):
                raise Outdated
        if draft.checksum is None:
            is_outdated = await need_correction(connection, tenant, rows)
        else:
            now_known = await label_store.checksum_of_changes(connection, tenant, _merchants(rows))
            is_outdated = now_known != draft.checksum
        if is_outdated:
            raise Outdated
        new = {
            row.transaction_id: self._label(row, one, draft.corrected.get(row.transaction_id))
            for row, one in zip(rows, draft.verdicts, strict=True)
        }
        account = await self._replace(connection, now, {}, new)
        queue = {review.transaction_id: review for review in draft.watched.reviews}
        queue |= draft.reviews
        await _save_reviews(connection, draft.change, queue, new, account.revision)
        made = _made(account, draft.change.copy) if draft.has_learned else []
        await announce(connection, tenant, _news({}, new) + made)
        return Labelled(account, frozenset(new), 0, draft.change, draft.made)

    async def _kept(self, done: Labelled) -> Labelled:
        """Spare the account's next score the making of the copy: now its labels are committed."""
        scorer, learned = done.made
        await self._pipeline.keep(scorer, adapter_key(done.account), learned)
        return done

    async def put(self, tenant: str, verdict: Verdict) -> Labelled:
        """Store the label of a stored transaction. Raises TransactionNotFound or TooManyLabels."""
        async with self._database.glance() as connection:
            known = await transaction_store.scored(connection, tenant, [verdict.transaction_id])
        _check_known(known, verdict)
        account_id = known[verdict.transaction_id].account_id
        return await self.store(tenant, account_id, [verdict])

    async def store_each(
        self, tenant: str, verdicts: Sequence[Verdict]
    ) -> list[Labelled | Problem]:
        """An outcome for each: the labels of an account are stored together, in its own commit.

        All verdicts are on stored transactions, each on another.
        """
        async with self._database.glance() as connection:
            ids = [verdict.transaction_id for verdict in verdicts]
            known = await transaction_store.scored(connection, tenant, ids)
        answers: dict[str, Labelled | Problem] = {}
        by_account: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in verdicts:
            if verdict.transaction_id in known:
                by_account[known[verdict.transaction_id].account_id].append(verdict)
            else:
                answers[verdict.transaction_id] = _unknown(verdict)
        for account_id, group in by_account.items():
            try:
                answer: Labelled | Problem = await self.store(
                    tenant, account_id, group, looks_around=False
                )
            except Problem as problem:
                # Those that were stored before are stored: each is told its own outcome.
                answer = problem
            answers |= {verdict.transaction_id: answer for verdict in group}
        return [answers[verdict.transaction_id] for verdict in verdicts]

    async def remove(self, tenant: str, transaction_id: str) -> Labelled:
        """Unlearn one label exactly. Raises LabelNotFound or TooManyLabels."""

        # What takes long, before anything is locked.
        async with self._database.survey() as connection:
            planned: Removal | None = await self._removal(connection, tenant, transaction_id)

        async def work(connection: AsyncConnection) -> Labelled:
            nonlocal planned
            plan = planned or await self._removal(connection, tenant, transaction_id)
            # It is tried again only where it was outdated.
            planned = None
            account_id = plan.label.account_id
            await account_store.lock_only(
                connection, tenant, {account_id, *plan.corrections.accounts}
            )
            await merchant_store.lock_merchants(connection, tenant, _merchants([plan.label]))
            if not await are_settled(connection, tenant, plan.corrections):
                now = await self._removal(connection, tenant, transaction_id)
                if not now.corrections.accounts <= {account_id, *plan.corrections.accounts}:
                    raise Raced
                plan = now
            # As it is now that nobody else can remove it, or fold it into its merchant's record.
            found = await label_store.labels_of(connection, tenant, [transaction_id])
            if not found:
                raise LabelNotFound(f"Transaction {transaction_id!r} has no label any more.")
            await self._allowance.check(connection, tenant, account_id, 1)
            was = await self._account(connection, tenant, account_id)
            before = await self._support(connection, tenant, account_id)
            await self._replace(connection, was, found, {})
            await correct(connection, tenant, account_id, plan.corrections)
            rows = await transaction_store.scored(connection, tenant, [transaction_id])
            account, change, copy = await self._changed(
                connection, was, before, list(rows.values()), _news(found, {})
            )
            return Labelled(account, frozenset([transaction_id]), 0, change, copy)

        return await self._kept(await self._database.run(work, aside=True))

    async def _removal(
        self, connection: AsyncConnection, tenant: str, transaction_id: str
    ) -> Removal:
        found = await label_store.labels_of(connection, tenant, [transaction_id])
        if transaction_id not in found:
            raise LabelNotFound(f"Transaction {transaction_id!r} has no label.")
        label, features = found[transaction_id], self._pipeline.features
        planned = await plan_corrections(connection, features, tenant, [label], label.account_id)
        return Removal(label, planned)

    async def roll_back(self, tenant: str, account_id: str, revision: int) -> Labelled:
        """Make an account's labels what they were at a revision, as one new revision.

        Labels given since then are unlearned exactly, as if each were removed; where nothing has
        changed since then, nothing does. Raises AccountNotFound, RevisionNotFound or
        TooManyLabels: it counts as one change, however many labels come back.
        """
        # What takes long, before anything is locked.
        async with self._database.survey() as connection:
            planned: Return | None = await self._return(connection, tenant, account_id, revision)

        async def work(connection: AsyncConnection) -> Labelled:
            nonlocal planned
            plan = planned or await self._return(connection, tenant, account_id, revision)
            # It is tried again only where it was outdated.
            planned = None
            await account_store.lock_only(
                connection, tenant, {account_id, *plan.corrections.accounts}
            )
            await merchant_store.lock_merchants(connection, tenant, plan.back.merchants)
            was = await self._account(connection, tenant, account_id)
            if not await plan.holds(connection, was):
                now = await self._return(connection, tenant, account_id, revision)
                is_locked = now.corrections.accounts <= {account_id, *plan.corrections.accounts}
                if not (is_locked and now.back.merchants <= plan.back.merchants):
                    raise Raced
                plan = now
            back = plan.back
            before = await self._support(connection, tenant, account_id)
            if back.rows:
                await self._allowance.check(connection, tenant, account_id, 1)
                # Nobody else folds them into their merchants' records any more.
                folded = await label_store.labels_of(connection, tenant, back.now)
                await self._replace(connection, was, folded, back.then, "label.rolled_back")
                noted = (
                    {"revision": was.revision},
                    {"revision": was.revision + 1, "as_of": revision},
                )
                action: Action = "account.rolled_back"
                await audit_store.save_entries(
                    connection, [entry(tenant, action, account_id, *noted, account_id)]
                )
                await correct(connection, tenant, account_id, plan.corrections)
            news = _news(back.now, back.then)
            account, change, copy = await self._changed(
                connection, was, before, list(back.rows.values()), news
            )
            return Labelled(account, frozenset(back.rows), 0, change, copy)

        return await self._kept(await self._database.run(work, aside=True))

    async def _return(
        self, connection: AsyncConnection, tenant: str, account_id: str, revision: int
    ) -> Return:
        features = self._pipeline.features
        account = await self._account(connection, tenant, account_id)
        back = await way_back(connection, features, account, revision)
        checksum = await label_store.checksum_of_changes(connection, tenant, back.merchants)
        planned = await plan_corrections(
            connection, features, tenant, back.removed, account_id, others_only=True
        )
        return Return(account, back, checksum, planned)

    async def preview_roll_back(self, tenant: str, account_id: str, revision: int) -> Labelled:
        """What `roll_back` would do, with nothing stored. Raises AccountNotFound or
        RevisionNotFound."""
        async with self._database.survey() as connection:
            account = await self._account(connection, tenant, account_id)
            back = await way_back(connection, self._pipeline.features, account, revision)
            before = await self._support(connection, tenant, account_id)
            then = await label_store.support_at(connection, tenant, account_id, revision)
            watched = await _watched(connection, account, list(back.rows.values()))
            deciding = await self._pipeline.deciding(connection, tenant)
        features = {key: one.features or back.rows[key].features for key, one in back.then.items()}
        after = [
            row._replace(features=features.get(row.transaction_id, row.features)) for row in then
        ]
        judged = await self._judge(self._pipeline.support(before), after, watched, deciding)
        return Labelled(account, frozenset(back.rows), 0, *judged)

    async def adapt(self, tenant: str, account_id: str) -> Labelled:
        """Make the account's copy now, ahead of its next score, and set it beside the base.

        Raises AccountNotFound.
        """
        async with self._database.read() as connection:
            account = await self._account(connection, tenant, account_id)
            support = await self._support(connection, tenant, account_id)
            watched = await _watched(connection, account, [])
            deciding = await self._pipeline.deciding(connection, tenant)
        none = self._pipeline.support([])
        judged = await self._judge(none, support, watched, deciding)
        return await self._kept(Labelled(account, frozenset(), 0, *judged))

    async def preview(self, tenant: str, account_id: str, verdicts: Sequence[Verdict]) -> Labelled:
        """What `store` would do, with nothing stored: labels of stored transactions only.

        Raises AccountNotFound, TransactionNotFound or WrongAccount.
        """
        async with self._database.survey() as connection:
            account = await self._account(connection, tenant, account_id)
            known = await transaction_store.scored(
                connection, tenant, [v.transaction_id for v in verdicts]
            )
            _check(account_id, known, verdicts)
            before = await self._support(connection, tenant, account_id)
            rows = [known[verdict.transaction_id] for verdict in verdicts]
            features = self._pipeline.features
            corrected = await corrections(connection, features, tenant, rows)
            watched = await _watched(connection, account, rows)
            deciding = await self._pipeline.deciding(connection, tenant)
        learned = [
            row._replace(features=corrected.get(row.transaction_id, row.features)) for row in rows
        ]
        after = with_labels(before, learned, [verdict.is_fraud for verdict in verdicts])
        old = self._pipeline.support(before)
        judged = await self._judge(old, after, watched, deciding)
        return Labelled(account, frozenset(), 0, *judged)

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
        known = await transaction_store.scored(connection, tenant, ids)
        _check(account_id, known, verdicts)
        await account_store.lock_accounts(connection, tenant, [account_id])
        old = await label_store.labels_of(connection, tenant, ids)
        # All locks on merchants at once and in order: those of new transactions, whose state
        # grows, and those of labels, which may be folded into it or be forgotten by it meanwhile.
        relabelled = [old[v.transaction_id] for v in verdicts if v.transaction_id in old]
        merchants = _merchants(whole) | _merchants(known.values()) | _merchants(relabelled)
        await merchant_store.lock_merchants(connection, tenant, merchants)
        if whole:
            in_time_order = sorted(whole, key=lambda one: (one.occurred_at_us, one.transaction_id))
            for answer in await self._pipeline.score_of(connection, tenant, in_time_order):
                if isinstance(answer, Problem):
                    raise answer
                known[answer.transaction_id] = answer
        if relabelled:
            # As they are now that nobody else can fold them.
            old = await label_store.labels_of(connection, tenant, ids)
        return [known[key] for key in ids], old

    async def _account(self, connection: AsyncConnection, tenant: str, account_id: str) -> Account:
        account = await account_store.account(connection, tenant, account_id)
        if account is None:
            raise AccountNotFound(f"There is no account {account_id!r}.")
        return account

    async def _support(
        self, connection: AsyncConnection, tenant: str, account_id: str
    ) -> list[SupportRow]:
        return (await label_store.supports(connection, tenant, [account_id]))[account_id]

    def _label(self, row: Scored, verdict: Verdict, corrected: bytes | None) -> StoredLabel:
        recorded_at_us = now_us()
        labelled_at_us = verdict.labelled_at_us or recorded_at_us
        label = label_of(row, verdict.is_fraud, labelled_at_us, self._pipeline.spec)
        if verdict.source == IMPORT:
            # As with its payment: files may give a delay by row where the model's file did not.
            matures_at_us = max(label.matures_at_us, labelled_at_us)
            label = label._replace(matures_at_us=matures_at_us)
        return label._replace(
            source=verdict.source,
            analyst=verdict.analyst,
            note=verdict.note,
            recorded_at_us=recorded_at_us,
            features=corrected,
        )

    async def _replace(
        self,
        connection: AsyncConnection,
        account: Account,
        old: Mapping[str, StoredLabel],
        new: Mapping[str, StoredLabel],
        action: Action | None = None,
    ) -> Account:
        """Put new labels of a locked account in the place of old ones, some of either or none.

        Stored, counted as one revision and written down. Witnesses are not corrected. Returns the
        account as it is then.
        """
        tenant = account.tenant
        removed = {key: one for key, one in old.items() if key not in new}
        # What the record of its merchant holds it goes on holding, as it is now.
        new = {key: _as_folded(one, old.get(key)) for key, one in new.items()}
        await label_store.delete_labels(connection, tenant, removed)
        await label_store.save_labels(connection, new.values())
        await forget_in_record(connection, self._pipeline.features, tenant, old.values())
        counts = counted(new.values(), old.values())
        await account_store.count_labels(connection, tenant, counts)
        fraud, legitimate = counts[account.account_id]
        now = account._replace(
            revision=account.revision + 1,
            fraud_labels=account.fraud_labels + fraud,
            legitimate_labels=account.legitimate_labels + legitimate,
        )

        def changes() -> tuple[list[LabelEvent], list[Entry]]:
            events = [event_of(one, now.revision) for one in new.values()]
            events += [event_of(one, now.revision, removed=True) for one in removed.values()]
            keys = [*new, *removed]
            return events, [_noted(old.get(key), new.get(key), action) for key in keys]

        events, entries = await worked(len(new) + len(removed) > IN_PLACE, changes)
        await label_store.save_label_events(connection, events)
        await audit_store.save_entries(connection, entries)
        return now

    async def _changed(
        self,
        connection: AsyncConnection,
        was: Account,
        before: Sequence[SupportRow],
        rows: Sequence[Scored],
        news: Sequence[News],
        looks_around: bool = True,
    ) -> tuple[Account, Change, Made]:
        """What the labels of an account that `was`, as they now are, do; its reviews follow.

        Its new copy is announced, after the other news.
        """
        tenant, account_id = was.tenant, was.account_id
        account = await self._account(connection, tenant, account_id)
        after = await self._support(connection, tenant, account_id)
        watched = await _watched(connection, account, rows, looks_around)
        deciding = await self._pipeline.deciding(connection, tenant)
        held = await self._pipeline.held(deciding.scorer, was)
        old = held or self._pipeline.support(before)
        change, copy = await self._judge(old, after, watched, deciding)
        await self._review(connection, account, change, watched.reviews)
        made = _made(account, change.copy) if before != after else []
        await announce(connection, tenant, [*news, *made])
        return account, change, copy

    async def _judge(
        self,
        before: Support | Held,
        after: Sequence[SupportRow],
        watched: Watched,
        deciding: Deciding,
    ) -> tuple[Change, Made]:
        rows = self._pipeline.rows([row for group in watched.groups for row in group])

        def work() -> tuple[Change, Made]:
            was, judged, learned = deciding.scorer.change(
                before,
                self._pipeline.support(after),
                rows,
                deciding.thresholds,
            )
            pairs = iter(zip(was, judged.decisions, strict=True))
            effects = [
                [Effect(row.transaction_id, *next(pairs)) for row in group]
                for group in watched.groups
            ]
            return Change(judged.copy, *effects), Made(deciding.scorer, learned)

        return await worked(len(rows.time_us_N) > IN_PLACE, work)

    async def _review(
        self,
        connection: AsyncConnection,
        account: Account,
        change: Change,
        waiting: Sequence[Review],
    ) -> None:
        """Resolve what has a label now; the others' risk is as the newest copy sees it.

        What has a label is resolved already, but for the transactions whose label has changed.
        """
        changed = [effect.transaction_id for effect in change.labelled]
        queued = {review.transaction_id: review for review in waiting}
        queued |= await review_store.reviews_of(connection, account.tenant, changed)
        labelled = await label_store.labels_of(connection, account.tenant, changed)
        await _save_reviews(connection, change, queued, labelled, account.revision)


async def _save_reviews(
    connection: AsyncConnection,
    change: Change,
    queued: Mapping[str, Review],
    labelled: Container[str],
    revision: int,
) -> None:
    """The reviews as the newest copy sees them; those that are `labelled` are resolved."""
    decided = {e.transaction_id: e.after for e in (*change.alerts, *change.labelled)}
    reviewed = {
        key: _reviewed(review, decided[key], key in labelled, revision)
        for key, review in queued.items()
    }
    await review_store.save_reviews(connection, reviewed.values())
    await audit_store.save_entries(
        connection,
        [
            _resolution(queued[key], review)
            for key, review in reviewed.items()
            if (review.status == "resolved") != (queued[key].status == "resolved")
        ],
    )


def _news(old: Mapping[str, StoredLabel], new: Mapping[str, StoredLabel]) -> list[News]:
    """What there is to tell of new labels in the place of old ones."""
    removed = [one for key, one in old.items() if key not in new]
    told = [_told(one, _name(one)) for one in new.values()] + [_told(one, None) for one in removed]
    return [("label.changed", one) for one in told]


def _made(account: Account, copy: Copy) -> list[News]:
    """What there is to tell of an account's new copy."""
    told = {
        "account_id": account.account_id,
        "revision": account.revision,
        "used": copy.used,
        "labels": copy.labels,
        "adapter": copy.digest,
    }
    return [("adaptation.done", told)]


def _reviewed(review: Review, decision: Decision, has_label: bool, revision: int) -> Review:
    # What was declined stays: the lower its risk is now, the sooner somebody should look at it.
    is_cleared = review.kind == "review" and decision.outcome == "approve"
    status = "resolved" if has_label else "cleared" if is_cleared else "open"
    return review._replace(
        probability=decision.probability,
        risk_score=decision.risk_score,
        status=status,
        revision=revision,
        resolved_at_us=(review.resolved_at_us or now_us()) if has_label else None,
    )


def _resolution(old: Review, new: Review) -> Entry:
    """What the audit log keeps of a review that a label resolves, or whose label is removed."""
    action: Action = "review.resolved" if new.status == "resolved" else "review.reopened"
    return entry(
        old.tenant, action, old.transaction_id, facts_of(old), facts_of(new), old.account_id
    )


async def _watched(
    connection: AsyncConnection,
    account: Account,
    labelled: Sequence[Scored],
    looks_around: bool = True,
) -> Watched:
    tenant, account_id = account.tenant, account.account_id
    # First what finds little, as others may be asked with it.
    queued = await review_store.open_of_account(connection, tenant, account_id, REVIEWED)
    newest = (
        await transaction_store.recent(connection, tenant, account_id, RECENT + GUARD)
        if looks_around
        else []
    )
    alerts = await transaction_store.scored(
        connection, tenant, [review.transaction_id for review in queued]
    )
    guard = [row for row in newest[RECENT:] if row.outcome == "approve"]
    asked = [alerts[review.transaction_id] for review in queued]
    return Watched(labelled, newest[:RECENT], asked, guard, queued)


def with_labels(
    support: Sequence[SupportRow], rows: Sequence[Scored], are_fraud: Sequence[bool]
) -> list[SupportRow]:
    """A support with more labels, or other ones, newest first as it is served."""
    by_id = {row.transaction_id: row for row in support}
    for row, is_fraud in zip(rows, are_fraud, strict=True):
        by_id[row.transaction_id] = SupportRow(
            row.transaction_id, row.features, is_fraud, row.occurred_at_us
        )
    return sorted(
        by_id.values(), key=lambda row: (row.occurred_at_us, row.transaction_id), reverse=True
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


def _noted(old: StoredLabel | None, new: StoredLabel | None, action: Action | None = None) -> Entry:
    """What the audit log keeps of a change."""
    label = new or old
    assert label is not None
    return entry(
        label.tenant,
        action or ("label.set" if new else "label.removed"),
        label.transaction_id,
        _said(old),
        _said(new),
        label.account_id,
    )


def _name(label: StoredLabel) -> str:
    return "fraud" if label.is_fraud else "legitimate"


def _told(label: StoredLabel, name: str | None) -> dict[str, object]:
    return {
        "transaction_id": label.transaction_id,
        "account_id": label.account_id,
        "label": name,
    }


def _said(label: StoredLabel | None) -> dict[str, object] | None:
    if label is None:
        return None
    return {
        "label": _name(label),
        "source": label.source,
        "analyst": label.analyst,
        "note": label.note,
    }


def _as_folded(new: StoredLabel, old: StoredLabel | None) -> StoredLabel:
    """A label in the place of another; one that matures later has yet to be folded."""
    is_folded = old is not None and old.folded and new.matures_at_us <= old.matures_at_us
    return new._replace(folded=is_folded)


def _check(account_id: str, known: Mapping[str, Scored], verdicts: Sequence[Verdict]) -> None:
    for verdict in verdicts:
        stored = known.get(verdict.transaction_id)
        if stored is None and verdict.transaction is None:
            raise _unknown(verdict)
        owner = verdict.transaction or stored
        assert owner is not None
        if owner.account_id != account_id:
            raise WrongAccount(
                f"Transaction {verdict.transaction_id!r} is not of account {account_id!r}."
            )


def _check_known(known: Mapping[str, Scored], verdict: Verdict) -> None:
    if verdict.transaction_id not in known:
        raise _unknown(verdict)


def _unknown(verdict: Verdict) -> TransactionNotFound:
    return TransactionNotFound(f"There is no transaction {verdict.transaction_id!r}.")


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
    said = verdict.is_fraud, verdict.source, verdict.analyst, verdict.note
    return old is None or (old.is_fraud, old.source, old.analyst, old.note) != said


def _key(review: Review) -> str:
    return review.transaction_id


def _merchants(labels: Iterable[StoredLabel | Scored | Transaction]) -> set[str]:
    return {one.merchant_id for one in labels if one.merchant_id is not None}

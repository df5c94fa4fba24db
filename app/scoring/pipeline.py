"""The way of a batch: load → features → adapters → network → save, in one database transaction.

Axes: N transactions, F features, K labels of one account.
"""

import asyncio
import hashlib
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import numpy as np
from pydantic_core import to_json

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import Locked
from app.entities import states as entity_states
from app.entities.states import EntityKey, EntityState, Link, LinkKey
from app.errors import Problem
from app.labels import store as label_store
from app.labels.records import EntityLabel, SupportRow
from app.learner.adaptation import Support, select_support
from app.learner.columns import Named, columns_of
from app.learner.decisions import Decision, Thresholds
from app.learner.engine import LearnedCopies, Rows
from app.learner.features import EntityLabels, Features, FeatureSet, Memory
from app.learner.likeness import LabelledPayments, fields_of
from app.learner.reasons import PAST, Reason, shares_of, worded_reasons
from app.learner.scorer import AdapterKey, BankedCopy, Scorer
from app.learner.states import NEVER_US, Ints, States
from app.learner.transaction import (
    NO_ENTITY,
    Transaction,
    TransactionColumns,
    content_of,
    digest_of,
)
from app.models import store as model_store
from app.models.errors import ModelUnavailable
from app.models.records import ModelChange
from app.models.service import Models
from app.ops import metrics, tracing
from app.ops.background import in_a_thread
from app.ops.turns import owner
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring import store as transaction_store
from app.scoring.errors import AccountLocked, TransactionConflict
from app.scoring.records import Past, Scored, decided
from app.thresholds.records import TenantThresholds
from app.times import now_us
from app.webhooks.store import News, announce

# So many rows, risky ones or copies are worked on in less time than other requests would notice,
# and a hop to a thread would take longer.
IN_PLACE, RISKY_IN_PLACE, COPIES_IN_PLACE = 64, 8, 4
# Of an account before its first label: no copy, the base scores it.
BASE_REVISION = 0
# Whose turns those of batches are; no tenant has a space in its name.
BATCHES = " batches"

Made = TypeVar("Made")


class Posted(NamedTuple):
    """A transaction, and whose it is."""

    tenant: str
    transaction: Transaction


class Entry(NamedTuple):
    """A transaction with its canonical text."""

    transaction: Transaction
    content: str
    digest: bytes


class Loaded(NamedTuple):
    """New transactions of one tenant, and what is remembered of their accounts and entities.

    `entities` are the slots that are ours, `others` further ones by the position of their entity.
    `first_use_us_L` is since when accounts have used entities, NEVER_US where it is new to them.
    `labels` mature by the time of the transactions, and are yet to be folded. `records` are of
    entities with a label that matured after one of their transactions occurred: all that are
    folded.
    """

    entries: Sequence[Entry]
    columns: TransactionColumns
    accounts: list[Account]
    entities: list[EntityState]
    others: list[tuple[int, EntityState]]
    links: list[LinkKey]
    first_use_us_L: Ints
    labels: list[EntityLabel]
    records: Mapping[EntityKey, list[EntityLabel]] = MappingProxyType({})

    def memory(self, features: FeatureSet) -> Memory:
        """A copy of what is remembered, of entities in their own slots."""
        confirmed = [
            None if row.key in self.records else state
            for row, state in zip(self.entities, self._label_states(), strict=True)
        ]
        return Memory(
            States.from_bytes([row.state for row in self.accounts], features.account_sums),
            States.from_bytes([row.state for row in self.entities], features.entity_sums),
            States.from_bytes(confirmed, features.confirmed_sums),
            self.first_use_us_L.copy(),
        )

    def entity_labels(self) -> EntityLabels:
        """The labels that the memory lacks, and the transactions see or bring with them."""
        position = {entity.key: g for g, entity in enumerate(self.entities)}
        labels = [*self.labels, *chain.from_iterable(self.records.values())]
        size = len(labels)
        return EntityLabels(
            np.fromiter((position[label.key] for label in labels), np.int64, size),
            np.fromiter((label.matures_at_us for label in labels), np.int64, size),
            np.fromiter((label.is_fraud for label in labels), np.float64, size),
        )

    def overtaken(self, features: FeatureSet) -> list[EntityKey]:
        """The entities of which a folded label matured after one of the transactions occurred."""
        states = States.from_bytes(self._label_states(), features.confirmed_sums)
        newest_us_G, time_us_N = states.time_us_G, self.columns.time_us_N
        # Hardly ever: a payment comes within moments, a label within days.
        if newest_us_G.max(initial=NEVER_US) <= time_us_N.min():
            return []
        earliest_us_G = _with_uses(newest_us_G.copy(), self.columns, np.minimum)
        return [self.entities[g].key for g in np.flatnonzero(earliest_us_G < newest_us_G).tolist()]

    def _label_states(self) -> list[bytes | None]:
        found = [row.label_state for row in self.entities]
        for g, row in self.others:
            found[g] = row.label_state or found[g]
        return found


class Result(NamedTuple):
    """What scoring made of them."""

    features_NF: Features
    decisions: list[Decision]
    memory: Memory


class History(NamedTuple):
    """What is remembered after payments of the past, and their rows."""

    memory: Memory
    rows: list[Scored]


class Deciding(NamedTuple):
    """What decides for a tenant."""

    scorer: Scorer
    thresholds: Thresholds


class Pipeline:
    """Scores batches, each tenant's by its model, in a worker thread."""

    def __init__(self, database: Database, models: Models, sampled_share: float = 0.0) -> None:
        self._database = database
        self.models = models
        self._sampled_share = sampled_share
        self.features = models.default.features
        self.spec = models.default.spec
        # From finding what the bank lacks to scoring with it, nobody else may evict a copy.
        self._bank = asyncio.Lock()

    async def score(self, batch: Sequence[Posted]) -> list[Scored | Problem]:
        """An answer for each, committed: its score, or why there is none.

        A transaction that is stored already, with the same content, has its stored score.
        Raises DatabaseUnavailable when nothing could be stored, and AccountLocked where another
        session holds what one of them needs.
        """

        async def score_each(connection: Connection) -> list[Scored | Problem]:
            answers: dict[int, Scored | Problem] = {}
            for tenant in sorted({posted.tenant for posted in batch}):
                rows = [row for row, posted in enumerate(batch) if posted.tenant == tenant]
                transactions = [batch[row].transaction for row in rows]
                scored = await self.score_of(connection, tenant, transactions)
                answers.update(zip(rows, scored, strict=True))
            return [answers[row] for row in range(len(batch))]

        # A batch is of many tenants: it has turns of its own.
        owner.set(BATCHES)
        with tracing.span("batch"):
            try:
                return await self._database.run(score_each, is_shared=True)
            except Locked as error:
                raise AccountLocked from error

    async def score_of(
        self,
        connection: Connection,
        tenant: str,
        transactions: Sequence[Transaction],
    ) -> list[Scored | Problem]:
        """The same for one tenant, inside the caller's database transaction."""
        entries = [entry_of(transaction) for transaction in transactions]
        first = {entry.transaction.transaction_id: entry for entry in reversed(entries)}
        stored_rows = await transaction_store.scored(connection, tenant, first)
        new = [entry for key, entry in first.items() if key not in stored_rows]
        problem: Problem | None = None
        if new:
            try:
                rows = await self._score_new(connection, tenant, new)
            except ModelUnavailable as error:
                # Raised before anything is locked or written: others share this transaction.
                problem = error
            else:
                stored_rows |= {row.transaction_id: row for row in rows}
        return [
            _answer(entry, stored_rows.get(entry.transaction.transaction_id), problem)
            for entry in entries
        ]

    async def held(self, scorer: Scorer, account: Account) -> BankedCopy | None:
        """The copy of an account that the bank has, if it has it."""
        async with self._bank:
            return scorer.held(self.adapter_key(account))

    async def keep(
        self, scorer: Scorer, key: AdapterKey, learned: LearnedCopies, labels: Sequence[SupportRow]
    ) -> None:
        """Put a copy that was made already into the bank, once its labels are committed."""
        async with self._bank:
            if scorer.missing([key]):
                scorer.keep(key, learned, self.labelled(labels))

    def adapter_key(self, account: Account) -> AdapterKey:
        """The copy that scores this account: the base where no label is left."""
        if not account.has_labels:
            return base_key(account)
        return AdapterKey(
            account.tenant,
            account.account_id,
            account.revision,
            account.created_at_us,
            self._database.history,
        )

    async def deciding(self, connection: Connection, tenant: str) -> Deciding:
        """What decides for a tenant now: its active model, and its own thresholds or the model's.

        Raises ModelUnavailable.
        """
        return await self.deciding_by(*await model_store.deciding_at(connection, tenant, now_us()))

    async def deciding_by(
        self, change: ModelChange | None, own: TenantThresholds | None
    ) -> Deciding:
        """The same, of what the database says of it."""
        scorer = await self.models.of(change)
        if own is None or own.is_reset:
            return Deciding(scorer, scorer.thresholds)
        return Deciding(scorer, Thresholds(own.review, own.decline))

    async def _score_new(
        self, connection: Connection, tenant: str, entries: Sequence[Entry]
    ) -> list[Scored]:
        with stage("load"):
            # Before the locks: who waits for them waits for no more than has to be.
            deciding = await self.deciding(connection, tenant)
            loaded = await load(connection, self.features, tenant, entries)
        keys_G = [self.adapter_key(account) for account in loaded.accounts]
        async with self._bank:
            with stage("load"):
                supports = await self._missing_supports(connection, deciding.scorer, tenant, keys_G)
            are_many = len(supports) > COPIES_IN_PLACE or len(entries) > IN_PLACE
            # A record that is folded again may have any number of labels.
            aside = are_many or bool(loaded.records)
            result = await in_a_thread_if(
                aside, lambda: self._process(loaded, keys_G, supports, deciding)
            )
            with stage("explain"):
                reasons = await self._reasons(
                    connection, deciding.scorer, tenant, loaded, keys_G, result
                )
        with stage("save"):
            revision_N = [loaded.accounts[g].revision for g in loaded.columns.account_N]
            rows = self._rows(tenant, loaded, result, deciding, reasons, revision_N)
            await save(connection, loaded, result.memory, rows)
            await review_store.open_reviews(connection, _reviews(rows, self._sampled_share))
            await announce(connection, tenant, _flagged(rows))
        _count(rows)
        return rows

    def remember(
        self, tenant: str, loaded: Loaded, deciding: Deciding, revision_N: Sequence[int]
    ) -> History:
        """What history makes of a memory. Nobody asks for its scores, and the base gives them.

        `revision_N` are those of each payment's account before it.
        """
        keys_G = [base_key(account) for account in loaded.accounts]
        result = self._process(loaded, keys_G, {}, deciding)
        rows = self._rows(tenant, loaded, result, deciding, {}, revision_N)
        _count(rows)
        return History(result.memory, rows)

    async def _reasons(
        self,
        connection: Connection,
        scorer: Scorer,
        tenant: str,
        loaded: Loaded,
        keys_G: Sequence[AdapterKey],
        result: Result,
    ) -> dict[int, list[Reason]]:
        """Why, of each row whose risk is above low: of those that somebody will ask about."""
        risky = [n for n, decision in enumerate(result.decisions) if decision.risk_level != "low"]
        if not risky:
            return {}
        account_N = loaded.columns.account_N
        payments = [loaded.entries[n].transaction for n in risky]
        moments = [(payment.account_id, payment.occurred_at_us) for payment in payments]
        stored = await transaction_store.pasts_of(connection, tenant, moments, PAST)
        together = _by_account(loaded.entries, transaction_store.float32_rows(result.features_NF))
        pasts = [
            _newest_before(at_us, past, together[account_id])
            for past, (account_id, at_us) in zip(stored, moments, strict=True)
        ]

        def explain() -> dict[int, list[Reason]]:
            rows = Rows(result.features_NF[risky], loaded.columns.time_us_N[risky])
            matrices = [self.matrix(row.features for row in past) for past in pasts]
            whys = scorer.explain(rows, matrices, [keys_G[account_N[n]] for n in risky])
            found = {}
            for n, past, past_KF, why in zip(risky, pasts, matrices, whys, strict=True):
                account = loaded.accounts[account_N[n]]
                labels = account.fraud_labels, account.legitimate_labels
                slope = scorer.calibration.slope
                found[n] = worded_reasons(
                    shares_of(self.features, why, slope, account.has_labels),
                    self.features,
                    loaded.entries[n].content,
                    [payment.content for payment in past],
                    result.features_NF[n],
                    past_KF,
                    labels,
                    scorer.labelled_payments(keys_G[account_N[n]]),
                    few=True,
                )
            return found

        return await in_a_thread_if(len(risky) > RISKY_IN_PLACE, explain)

    async def _missing_supports(
        self,
        connection: Connection,
        scorer: Scorer,
        tenant: str,
        keys: Iterable[AdapterKey],
    ) -> dict[AdapterKey, list[SupportRow]]:
        copies = [key for key in keys if key.revision != BASE_REVISION]
        missing = {key.account_id: key for key in scorer.missing(copies)}
        metrics.labelled(metrics.bank_lookups, "made").inc(len(missing))
        metrics.labelled(metrics.bank_lookups, "found").inc(len(copies) - len(missing))
        rows = await label_store.supports(connection, tenant, missing)
        return {key: rows[account_id] for account_id, key in missing.items()}

    def _process(
        self,
        loaded: Loaded,
        keys_G: Sequence[AdapterKey],
        supports: Mapping[AdapterKey, Sequence[SupportRow]],
        deciding: Deciding,
    ) -> Result:
        features, columns = self.features, loaded.columns
        memory = loaded.memory(features)
        own: States | None = None
        if loaded.others:
            # Features see all slots, and ours alone is added to.
            own = features.remember(columns, memory, EntityLabels.none()).entities
            memory = replace(memory, entities=self._gathered(memory.entities, loaded.others))
        with stage("adapt"):
            self._adapt(deciding.scorer, supports)
        decisions: dict[int, Decision] = {}
        scoring = Stage("score")

        def decide(rows: Ints, features_NF: Features) -> Ints:
            """What becomes of some rows, and so how they count for later ones of the batch."""
            with tracing.span("score"), scoring:
                found = deciding.scorer.score(
                    features_NF,
                    columns.time_us_N[rows],
                    [keys_G[account] for account in columns.account_N[rows]],
                    deciding.thresholds,
                )
            decisions.update(zip(rows.tolist(), found, strict=True))
            standings = (
                decided(loaded.entries[n].transaction.type, decision.outcome)
                for n, decision in zip(rows.tolist(), found, strict=True)
            )
            return np.fromiter(standings, np.int64, len(rows))

        with stage("features", scoring):
            features_NF = features.serve_deciding(columns, memory, loaded.entity_labels(), decide)
        scoring.observe()
        if own is not None:
            memory = replace(memory, entities=own)
        return Result(features_NF, [decisions[n] for n in range(len(columns))], memory)

    def _adapt(self, scorer: Scorer, labels: Mapping[AdapterKey, Sequence[SupportRow]]) -> None:
        if labels:
            scorer.adapt(
                {key: self.support(rows) for key, rows in labels.items()},
                {key: self.labelled(rows) for key, rows in labels.items()},
            )
            metrics.adaptations.inc(len(labels))

    def _gathered(self, entities: States, others: Sequence[tuple[int, EntityState]]) -> States:
        entity_S = np.array([g for g, _ in others], np.int64)
        slots = States.from_bytes([row.state for _, row in others], self.features.entity_sums)
        return self.features.gather(entities, entity_S, slots)

    def support(self, rows: Sequence[SupportRow]) -> Support:
        """The labels of an account, newest first, as the scorer takes them."""
        return support_of(rows, len(self.features.names))

    def labelled(self, rows: Sequence[SupportRow]) -> LabelledPayments:
        """The payments of an account's labels, newest first, that its copy learns from."""
        chosen = select_support(np.array([row.is_fraud for row in rows], np.bool_))
        learned = [rows[k] for k in chosen]
        return LabelledPayments(
            tuple(row.transaction_id for row in learned),
            np.array([row.labelled_at_us for row in learned], np.int64),
            np.array([row.is_fraud for row in learned], np.bool_),
            fields_of(self.features).codes(self.matrix(row.features for row in learned)),
        )

    def rows(self, rows: Sequence[Scored]) -> Rows:
        """Stored transactions as the scorer judges them, with the features that they have."""
        return Rows(
            self.matrix(row.features for row in rows),
            np.array([row.occurred_at_us for row in rows], np.int64),
        )

    def matrix(self, features: Iterable[bytes]) -> Features:
        """Stored feature vectors as rows: [N, F]."""
        return matrix_of(features, len(self.features.names))

    def _rows(
        self,
        tenant: str,
        loaded: Loaded,
        result: Result,
        deciding: Deciding,
        reasons: Mapping[int, Sequence[Reason]],
        revision_N: Sequence[int],
    ) -> list[Scored]:
        evaluated_at_us = now_us()
        features_N = transaction_store.float32_rows(result.features_NF)
        rows = []
        digest, model, thresholds = self.features.digest, deciding.scorer.model, deciding.thresholds
        each = zip(loaded.entries, result.decisions, features_N, revision_N, strict=True)
        for n, ((transaction, content, content_digest), decision, features, revision) in enumerate(
            each
        ):
            # By position, which takes half as long: history has a million rows.
            rows.append(
                Scored(
                    tenant,
                    transaction.transaction_id,
                    transaction.account_id,
                    transaction.occurred_at_us,
                    content,
                    content_digest,
                    features,
                    digest,
                    *decision,
                    revision,
                    model,
                    evaluated_at_us,
                    *thresholds,
                    _text(reasons[n]) if n in reasons else None,
                    transaction.status,
                )
            )
        return rows


def support_of(rows: Sequence[SupportRow], width: int) -> Support:
    """The labels of an account, newest first, with so many features each."""
    return Support(
        matrix_of((row.features for row in rows), width),
        np.array([row.occurred_at_us for row in rows], np.int64),
        np.array([row.is_fraud for row in rows], np.bool_),
    )


def matrix_of(features: Iterable[bytes], width: int) -> Features:
    """Stored vectors of so many features as rows: [N, F]."""
    rows_NF = np.frombuffer(b"".join(features), "<f4").astype(np.float32)
    return rows_NF.reshape(-1, width)


async def in_a_thread_if(aside: bool, make: Callable[[], Made]) -> Made:
    """What `make` returns: called in a worker thread where it is `aside`, else here and now."""
    # A thread cannot be stopped, and would go on with the bank that the next batch takes.
    return await in_a_thread(make) if aside else make()


class Stage:
    """The time of a stage of the pipeline, which may be entered again and again."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._begun = self.seconds = 0.0

    def __enter__(self) -> None:
        self._begun = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._begun

    def observe(self, without: float = 0.0) -> None:
        """Add it to the metrics, but for seconds that belong to another stage."""
        metrics.labelled(metrics.stage_seconds, self._name).observe(self.seconds - without)


@contextmanager
def stage(name: str, inner: Stage | None = None) -> Iterator[None]:
    """Times a stage of the pipeline, without the one inside of it."""
    timed = Stage(name)
    try:
        with tracing.span(name), timed:
            yield
    finally:
        timed.observe(inner.seconds if inner else 0.0)


def base_key(account: Account) -> AdapterKey:
    return AdapterKey(account.tenant, account.account_id, BASE_REVISION)


def _text(reasons: Iterable[Reason]) -> str:
    """As they are stored, and answered from there on."""
    return to_json([reason.answered() for reason in reasons]).decode()


def _reviews(rows: Iterable[Scored], sampled_share: float) -> list[Review]:
    """What people are to look at: what is held up, and a sample of what is approved."""
    kinds = [(row, _kind(row, sampled_share)) for row in rows]
    return [
        Review(
            row.tenant,
            row.transaction_id,
            row.account_id,
            row.occurred_at_us,
            row.evaluated_at_us,
            row.probability,
            row.risk_score,
            "open",
            row.revision,
            kind=kind,
        )
        for row, kind in kinds
        if kind is not None
    ]


def _kind(row: Scored, sampled_share: float) -> str | None:
    if row.outcome != "approve":
        return row.outcome
    return "sample" if is_sampled(row.tenant, row.transaction_id, sampled_share) else None


def is_sampled(tenant: str, transaction_id: str, share: float) -> bool:
    """Whether a transaction is one of a sample of this share: by chance, and always the same."""
    if not share:
        return False
    digest = hashlib.blake2b(f"{tenant}\0{transaction_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) < share * 2**64


def _flagged(rows: Iterable[Scored]) -> list[News]:
    return [
        (
            "transaction.flagged",
            {
                "transaction_id": row.transaction_id,
                "account_id": row.account_id,
                "probability": row.probability,
                "risk_level": row.risk_level,
                "outcome": row.outcome,
            },
        )
        for row in rows
        if row.outcome != "approve"
    ]


def entry_of(transaction: Transaction) -> Entry:
    """A transaction with its canonical text. Raises ValueError for a number that it cannot say."""
    content = content_of(transaction)
    return Entry(transaction, content, digest_of(content))


def _answer(entry: Entry, row: Scored | None, problem: Problem | None) -> Scored | Problem:
    """What is stored of an entry, or the problem that kept it from being scored."""
    if row is None:
        assert problem is not None
        return problem
    if row.content_digest == entry.digest:
        return row
    return TransactionConflict(
        f"Transaction {row.transaction_id!r} is stored with other content; "
        "a change needs a transaction id of its own."
    )


def _by_account(entries: Iterable[Entry], features_N: Iterable[bytes]) -> dict[str, list[Past]]:
    """The payments of a batch as those after them see them, the oldest first."""
    found: dict[str, list[Past]] = {}
    for (transaction, content, _), features in zip(entries, features_N, strict=True):
        past = Past(transaction.occurred_at_us, transaction.transaction_id, content, features)
        found.setdefault(transaction.account_id, []).append(past)
    for pasts in found.values():
        pasts.sort()
    return found


def _newest_before(at_us: int, stored: list[Past], together: list[Past]) -> list[Past]:
    """What an account paid before a time, newest first: stored, or in the same batch."""
    # Those of that very instant are not before it.
    before = bisect_left(together, (at_us,))
    earlier = together[max(before - PAST, 0) : before]
    return sorted([*stored, *earlier], reverse=True)[:PAST]


def _count(rows: Iterable[Scored]) -> None:
    for answered, count in Counter((row.used, row.outcome) for row in rows).items():
        metrics.labelled(metrics.scored_transactions, *answered).inc(count)


def newest_us(columns: TransactionColumns, named: Named) -> dict[EntityKey, int]:
    """The newest time at which each entity is used."""
    newest_us_G = _with_uses(np.full(len(named.entities), NEVER_US), columns, np.maximum)
    return dict(zip(named.entities, newest_us_G.tolist(), strict=True))


def _with_uses(time_us_G: Ints, columns: TransactionColumns, chosen: np.ufunc) -> Ints:
    """A time of each entity: the least or the greatest of it and of those at which it is used."""
    for entity_N in columns.entity_NK.T:
        is_there_N = entity_N != NO_ENTITY
        chosen.at(time_us_G, entity_N[is_there_N], columns.time_us_N[is_there_N])
    return time_us_G


async def with_records(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    loaded: Loaded,
    newest: Mapping[EntityKey, int],
) -> Loaded:
    """The same, with the labels of entities whose record is newer than a late transaction.

    A record is a sum: nothing can be told from it of the time before its newest label. So that a
    late transaction sees the labels that had matured when it occurred, no others, and all of
    those, the record is folded again, label by label. `newest` is when each entity is used last.
    """
    overtaken = loaded.overtaken(features)
    if not overtaken:
        return loaded
    # As they are at one moment: a label is folded already, or still to be.
    records, maturing = await label_store.all_labels(
        connection, tenant, {key: newest[key] for key in overtaken}
    )
    others = [label for label in loaded.labels if label.key not in records]
    return loaded._replace(labels=[*others, *maturing], records=records)


async def load(
    connection: Connection, features: FeatureSet, tenant: str, entries: Sequence[Entry]
) -> Loaded:
    """What is remembered of what transactions name, ours alone until this one ends."""
    transactions = [entry.transaction for entry in entries]
    columns, named = columns_of(features.spec, transactions, features.rates)
    accounts = await account_store.lock_accounts(connection, tenant, named.accounts)
    entities = await entity_states.take_slots(connection, tenant, named.entities)
    shared = [key for key, row in entities.items() if row.slots > 1]
    newest = newest_us(columns, named)
    # As they are at one moment: a label is folded already, or still to be.
    links, labels, slots = await connection.together(
        entity_states.links_of(connection, tenant, named.links),
        label_store.maturing_labels(connection, tenant, newest),
        entity_states.states_of(connection, tenant, shared),
    )
    first_use_us = (links.get(key, NEVER_US) for key in named.links)
    loaded = Loaded(
        entries,
        columns,
        [accounts[key] for key in named.accounts],
        [entities[key] for key in named.entities],
        [
            (g, row)
            for g, key in enumerate(named.entities)
            for row in slots.get(key, ())
            if row.slot != entities[key].slot
        ],
        named.links,
        np.fromiter(first_use_us, np.int64, len(named.links)),
        labels,
    )
    return await with_records(connection, features, tenant, loaded, newest)


async def save(
    connection: Connection, loaded: Loaded, memory: Memory, rows: Sequence[Scored]
) -> None:
    """Save the rows of what was loaded, and what is remembered then."""
    counts_G = np.bincount(loaded.columns.account_N, minlength=len(loaded.accounts)).tolist()
    now = now_us()
    accounts = [
        row._replace(transactions=row.transactions + count, created_at_us=row.created_at_us or now)
        for row, count in zip(loaded.accounts, counts_G, strict=True)
    ]
    tenant = rows[0].tenant
    await save_memory(connection, tenant, loaded._replace(accounts=accounts), memory)
    await transaction_store.save_scored(connection, rows)


async def save_memory(connection: Connection, tenant: str, loaded: Loaded, memory: Memory) -> None:
    """Save what was loaded and is locked, as it is remembered now."""
    await account_store.save_accounts(
        connection,
        [
            row._replace(state=state)
            for row, state in zip(loaded.accounts, memory.accounts.to_bytes(), strict=True)
        ],
    )
    await entity_states.save_entities(
        connection,
        [
            # Labels are folded by whoever has the first slot.
            row._replace(state=state, label_state=None if row.slot else label_state)
            for row, state, label_state in zip(
                loaded.entities,
                memory.entities.to_bytes(),
                memory.confirmed.to_bytes(),
                strict=True,
            )
        ],
    )
    first_use_us_L = memory.first_use_us_L
    changed = np.flatnonzero(first_use_us_L != loaded.first_use_us_L).tolist()
    await entity_states.save_links(
        connection,
        [Link(tenant, *loaded.links[at], int(first_use_us_L[at])) for at in changed],
    )
    first = {row.key for row in loaded.entities if not row.slot}
    folded = [label for label in loaded.labels if label.key in first]
    await label_store.mark_folded(connection, tenant, folded)

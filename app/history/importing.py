"""A history brought into the database: transactions, states and labels as if scored live."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.connection import Connection
from app.db.database import Database
from app.db.patience import Patience
from app.entities import states as entity_states
from app.entities.states import EntityKey
from app.errors import Problem
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import IMPORT, Verdict
from app.labels.forgetting import event_of
from app.labels.records import EntityLabel, LabelEntity, LabelEvent, StoredLabel
from app.labels.service import Fate, Labelling
from app.learner.columns import Named, columns_of
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.states import NEVER_US
from app.learner.transaction import (
    ENTITY_FIELDS,
    NO_ENTITY,
    Transaction,
    TransactionColumns,
    transaction_of,
)
from app.ops.background import in_a_thread
from app.scoring import store as transaction_store
from app.scoring.pipeline import (
    Entry,
    Loaded,
    Pipeline,
    entry_of,
    newest_us,
    save,
    with_records,
)
from app.scoring.records import Scored
from app.times import now_us

# Of one commit, for which whoever scores one of its accounts waits. SQLite has one writer, so that
# everybody does: it has fewer, and a pause after each, in which a server that waits comes to it.
CHUNK, CHUNK_OF_ONE_WRITER = 10_000, 1000
PAUSE_SECONDS = 0.02
# As many as a batch of the API: an account's labels of each are a revision of their own, to which
# it can be rolled back.
STEP = 1000
NO_STEP = -1
Answer = TypeVar("Answer")
# ISO 4217 for "no currency is involved", where the file does not say which.
NO_CURRENCY = "XXX"


class Past(NamedTuple):
    """A transaction of a file, its label if it has one, and when that became known."""

    transaction: Transaction
    is_fraud: bool | None
    known_at_us: int

    @property
    def transaction_id(self) -> str:
        return self.transaction.transaction_id


@dataclass
class Tally:
    """How many transactions of a file were new, and how many of its labels had which fate.

    `differing` names the fields in which a transaction is stored otherwise; `kept` counts those
    that have a label and none in the file.
    """

    new: int = 0
    labels: Counter[Fate] = field(default_factory=Counter)
    kept: int = 0
    differing: dict[str, list[str]] = field(default_factory=dict)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.new += other.new
        self.labels += other.labels
        self.kept += other.kept
        self.differing |= other.differing
        return self


class Part(NamedTuple):
    """The next payments of a file in time order, as far as no database is needed for them.

    `step_N` counts the steps of the file that each stands in. `newest_us` is when each entity is
    last used.
    """

    pasts: Sequence[Past]
    step_N: Sequence[int]
    entries: list[Entry]
    columns: TransactionColumns
    named: Named
    newest_us: dict[EntityKey, int]


class Importer:
    """Brings the parts of a history into the database."""

    def __init__(self, database: Database, pipeline: Pipeline, patience: Patience) -> None:
        self._database = database
        self._pipeline = pipeline
        self._patience = patience
        self._labelling = Labelling(database, pipeline, Allowance(None))

    @property
    def chunk(self) -> int:
        """How many transactions are best stored in one commit."""
        return CHUNK_OF_ONE_WRITER if self._database.is_sqlite else CHUNK

    async def run(self, tenant: str, chunks: Iterable[Sequence[Past]]) -> AsyncIterator[Tally]:
        """`add` all chunks; what became of each. The next one is prepared meanwhile."""
        left = iter(chunks)

        def prepare() -> Part | None:
            chunk = next(left, None)
            return None if chunk is None else self._prepared(chunk)

        part = await in_a_thread(prepare)
        while part is not None:
            following = _begun(prepare)
            try:
                yield await self._add(tenant, part)
                if self._database.is_sqlite:
                    await asyncio.sleep(PAUSE_SECONDS)
            finally:
                part = await following

    async def add(self, tenant: str, chunk: Sequence[Past]) -> Tally:
        """Store what is not stored yet of the next transactions in time order.

        New transactions with their labels come in one commit. The base scores them: nobody asked
        for a decision then. A label is there from when it was known, and is evidence about its
        entities once the spec's delay is over too, as in training. Labels of transactions that
        are there already are stored as if they were put, an account a commit, unless the stored
        one was known later. So an import that was interrupted continues by starting again, and a
        newer file brings what has become known. While the database is away this waits. Raises
        Problem, and SetupError where it stays away.
        """
        return await self._add(tenant, await in_a_thread(lambda: self._prepared(chunk)))

    def _prepared(self, chunk: Sequence[Past]) -> Part:
        return self._part(chunk, [n // STEP for n in range(len(chunk))])

    def _part(self, pasts: Sequence[Past], step_N: Sequence[int]) -> Part:
        features = self._pipeline.features
        transactions = [past.transaction for past in pasts]
        columns, named = columns_of(features.spec, transactions, features.rates)
        entries = list(map(entry_of, transactions))
        return Part(pasts, step_N, entries, columns, named, newest_us(columns, named))

    async def _add(self, tenant: str, part: Part) -> Tally:
        ids = [past.transaction_id for past in part.pasts]

        async def store(connection: Connection) -> tuple[dict[str, Scored], Tally]:
            accounts = await account_store.lock_accounts(connection, tenant, part.named.accounts)
            scored_before = await transaction_store.scored(connection, tenant, ids)
            new = part
            if scored_before:
                left = [n for n, key in enumerate(ids) if key not in scored_before]
                if not left:
                    return scored_before, Tally()
                pasts, step_N = [part.pasts[n] for n in left], [part.step_N[n] for n in left]
                new = await in_a_thread(lambda: self._part(pasts, step_N))
            return scored_before, await self._store_new(connection, tenant, new, accounts)

        scored_before, tally = await self._patience.run(
            lambda: self._database.run(store, aside=True)
        )
        again = [past for past in part.pasts if past.transaction_id in scored_before]
        tally += await self._patience.run(lambda: self._store_late(tenant, again, scored_before))
        return tally

    async def _store_new(
        self, connection: Connection, tenant: str, part: Part, accounts: Mapping[str, Account]
    ) -> Tally:
        deciding = await self._pipeline.deciding(connection, tenant)
        delay_us = self._pipeline.spec.label.delay_us
        # What is computed and what the database does take as long, beside each other.
        learning = _begun(lambda: _learned(tenant, part, accounts, delay_us))
        try:
            features = self._pipeline.features
            loaded = await _load(connection, features, tenant, part, accounts)
        finally:
            learned = await learning
        # A label may have become known, and matured, within the part.
        folding = loaded._replace(labels=[*loaded.labels, *learned.folded])
        remembering = _begun(
            lambda: self._pipeline.remember(tenant, folding, deciding, learned.revision_N)
        )
        try:
            await label_store.mark_folded(connection, tenant, loaded.labels)
            await label_store.insert_labels(connection, learned.labels, learned.named)
            await label_store.save_label_events(connection, learned.events)
        finally:
            history = await remembering
        remembered = loaded._replace(accounts=learned.accounts, labels=[])
        await save(connection, remembered, history.memory, history.rows)
        labelled = sum(past.is_fraud is not None for past in part.pasts)
        fates: dict[Fate, int] = {
            "stored": len(learned.labels),
            "not_yet_known": labelled - len(learned.labels),
        }
        return Tally(len(part.pasts), Counter(fates))

    async def _store_late(
        self, tenant: str, again: Sequence[Past], scored_before: dict[str, Scored]
    ) -> Tally:
        """Store what the file knows by now of the labels of transactions that were there."""
        tally = Tally()
        tally.differing = _differing(self._pipeline.spec, again, scored_before)
        labelled = [
            past
            for past in again
            if past.is_fraud is not None and past.transaction_id not in tally.differing
        ]
        unlabelled = [past.transaction_id for past in again if past.is_fraud is None]
        if unlabelled:
            async with self._database.read() as connection:
                tally.kept = len(await label_store.labels_of(connection, tenant, unlabelled))
        fates = await self._labelling.import_labels(tenant, [_verdict(past) for past in labelled])
        for fate in fates:
            if isinstance(fate, Problem):
                raise fate
            tally.labels[fate] += 1
        return tally


def _begun(function: Callable[[], Answer]) -> asyncio.Future[Answer]:
    """What a function will return, called in a thread."""
    return asyncio.ensure_future(in_a_thread(function))


async def _load(
    connection: Connection,
    features: FeatureSet,
    tenant: str,
    part: Part,
    accounts: Mapping[str, Account],
) -> Loaded:
    """What is remembered of what a part names, ours alone until the transaction ends."""
    columns, named = part.columns, part.named
    # All slots: who has scored there meanwhile has not seen the labels.
    slots = await entity_states.lock_entities(connection, tenant, named.entities)
    used = {key for key, rows in slots.items() if any(row.state is not None for row in rows)}
    paid = {key for key in named.accounts if accounts[key].transactions}
    links, labels = await connection.together(
        entity_states.links_of(
            connection, tenant, [key for key in named.links if key[:2] in used and key[2] in paid]
        ),
        label_store.maturing_labels(
            connection, tenant, {key: us for key, us in part.newest_us.items() if key in used}
        ),
    )
    loaded = Loaded(
        part.entries,
        columns,
        [accounts[key] for key in named.accounts],
        [slots[key][0] for key in named.entities],
        [(g, row) for g, key in enumerate(named.entities) for row in slots[key][1:]],
        named.links,
        np.array([links.get(key, NEVER_US) for key in named.links], np.int64),
        labels,
    )
    return await with_records(connection, features, tenant, loaded, part.newest_us)


class MaturedLabels(NamedTuple):
    """The labels of a part that are known by now, and what becomes of accounts by them.

    `folded` are those that mature before another payment of the part at their entity.
    `revision_N` is what each payment's account had learned before.
    """

    labels: list[StoredLabel]
    named: list[LabelEntity]
    folded: list[EntityLabel]
    events: list[LabelEvent]
    accounts: list[Account]
    revision_N: list[int]


def _learned(
    tenant: str, part: Part, stored: Mapping[str, Account], delay_us: int
) -> MaturedLabels:
    learned, now = MaturedLabels([], [], [], [], [], []), now_us()
    accounts = [stored[key] for key in part.named.accounts]
    revision_G = [account.revision for account in accounts]
    # The last step in which an account had a label, and how many frauds and others it had.
    step_G, counts_2G = [NO_STEP] * len(accounts), ([0] * len(accounts), [0] * len(accounts))
    account_N, entity_NK = part.columns.account_N.tolist(), part.columns.entity_NK.tolist()
    entities = [(*key, part.newest_us[key]) for key in part.named.entities]
    for past, step, g, entity_K in zip(part.pasts, part.step_N, account_N, entity_NK, strict=True):
        learned.revision_N.append(revision_G[g] - (step_G[g] == step))
        if past.is_fraud is None or past.known_at_us > now:
            continue
        label = _label(tenant, past, delay_us, now)
        if step_G[g] != step:
            revision_G[g], step_G[g] = revision_G[g] + 1, step
        counts_2G[label.is_fraud][g] += 1
        learned.labels.append(label)
        learned.events.append(event_of(label, revision_G[g]))
        key, matures_us = label.transaction_id, label.matures_at_us
        for e in entity_K:
            if e != NO_ENTITY:
                kind, entity_id, newest = entities[e]
                is_folded = matures_us < newest
                learned.named.append(
                    LabelEntity(tenant, key, kind, entity_id, matures_us, is_folded)
                )
                if is_folded:
                    learned.folded.append(
                        EntityLabel(key, kind, entity_id, matures_us, label.is_fraud)
                    )
    learned.accounts.extend(
        account._replace(
            revision=revision,
            fraud_labels=account.fraud_labels + frauds,
            legitimate_labels=account.legitimate_labels + others,
        )
        for account, revision, others, frauds in zip(accounts, revision_G, *counts_2G, strict=True)
    )
    return learned


def _differing(
    spec: DatasetSpec, again: Sequence[Past], scored_before: dict[str, Scored]
) -> dict[str, list[str]]:
    """The fields in which transactions are stored otherwise than the file has them, by id.

    Of fields that the file does not have it says nothing: what was posted may have more.
    """
    of_file = [past.transaction for past in again]
    of_database = [
        transaction_of(scored_before[transaction.transaction_id].content) for transaction in of_file
    ]
    columns, _ = columns_of(spec, [*of_database, *of_file])
    fields = {
        "account_id": columns.account_N,
        "occurred_at": columns.time_us_N,
        # As posted, in whatever currency.
        "amount": np.array([float(transaction.amount) for transaction in (*of_database, *of_file)]),
        **dict(zip(map(_field_of, spec.entity_names), columns.entity_NK.T, strict=True)),
        **dict(zip(spec.categorical_names, columns.categorical_NC.T, strict=True)),
        **dict(zip(spec.numeric_names, columns.numeric_NM.T, strict=True)),
    }
    differs = {name: _unequal(*np.split(value_N, 2)) for name, value_N in fields.items()}
    both = list(zip(of_file, of_database, strict=True))
    differs["currency"] = np.array(
        [sent.currency not in (NO_CURRENCY, stored.currency) for sent, stored in both], bool
    )
    if spec.columns.type is not None:
        differs["type"] = np.array([sent.type != stored.type for sent, stored in both], bool)
    found = {
        transaction.transaction_id: [name for name, differs_N in differs.items() if differs_N[n]]
        for n, transaction in enumerate(of_file)
    }
    return {key: names for key, names in found.items() if names}


def _field_of(kind: str) -> str:
    return ENTITY_FIELDS.get(kind, kind)


def _unequal(stored_N: NDArray[Any], of_file_N: NDArray[Any]) -> NDArray[np.bool_]:
    both_missing_N = np.isnan(stored_N) & np.isnan(of_file_N)
    unequal_N: NDArray[np.bool_] = (stored_N != of_file_N) & ~both_missing_N
    return unequal_N


def _verdict(past: Past) -> Verdict:
    return Verdict(
        past.transaction_id,
        bool(past.is_fraud),
        labelled_at_us=past.known_at_us,
        source=IMPORT,
    )


def _label(tenant: str, past: Past, delay_us: int, now: int) -> StoredLabel:
    transaction, known_us = past.transaction, past.known_at_us
    # By position: there is one for each payment of a file.
    return StoredLabel(
        tenant,
        transaction.transaction_id,
        transaction.account_id,
        bool(past.is_fraud),
        transaction.occurred_at_us,
        known_us,
        max(known_us, transaction.occurred_at_us + delay_us),
        IMPORT,
        recorded_at_us=now,
    )

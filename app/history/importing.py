"""A history brought into the database: transactions, states and labels as if scored live."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.accounts import store as account_store
from app.db.connection import Connection
from app.db.database import Database
from app.db.patience import Patience
from app.entities import states as entity_states
from app.errors import Problem
from app.labels import store as label_store
from app.labels.allowance import Allowance
from app.labels.changes import IMPORT, Verdict
from app.labels.committing import counted, label_entities
from app.labels.forgetting import event_of
from app.labels.records import StoredLabel
from app.labels.service import Fate, Labelling
from app.learner.columns import columns_of
from app.learner.content import transaction_of
from app.learner.entities import named_by
from app.learner.spec import DatasetSpec
from app.learner.transaction import ENTITY_FIELDS, Transaction
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline
from app.scoring.records import Scored
from app.times import now_us

# As many as a batch of the API: one commit for each.
CHUNK = 1000
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

    `differing` names the fields in which a transaction is stored otherwise.
    """

    new: int = 0
    labels: Counter[Fate] = field(default_factory=Counter)
    differing: dict[str, list[str]] = field(default_factory=dict)

    def __iadd__(self, other: "Tally") -> "Tally":
        self.new += other.new
        self.labels += other.labels
        self.differing |= other.differing
        return self


class Importer:
    """Brings the chunks of a history into the database."""

    def __init__(self, database: Database, pipeline: Pipeline, patience: Patience) -> None:
        self._database = database
        self._pipeline = pipeline
        self._patience = patience
        self._labelling = Labelling(database, pipeline, Allowance(None))

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

        async def store(connection: Connection) -> tuple[dict[str, Scored], Tally]:
            ids = [past.transaction_id for past in chunk]
            accounts = {past.transaction.account_id for past in chunk}
            await account_store.lock_accounts(connection, tenant, accounts)
            scored_before = await transaction_store.scored(connection, tenant, ids)
            new = [past for past in chunk if past.transaction_id not in scored_before]
            return scored_before, await self._store_new(connection, tenant, new)

        scored_before, tally = await self._patience.run(lambda: self._database.run(store))
        again = [past for past in chunk if past.transaction_id in scored_before]
        tally += await self._patience.run(lambda: self._store_late(tenant, again, scored_before))
        return tally

    async def _store_new(self, connection: Connection, tenant: str, new: Sequence[Past]) -> Tally:
        labelled = [past for past in new if past.is_fraud is not None]
        delay_us = self._pipeline.spec.label.delay_us
        transactions = [past.transaction for past in new]
        kinds = self._pipeline.spec.entity_names
        named = {
            transaction.transaction_id: named_by(transaction, kinds) for transaction in transactions
        }
        if labelled:
            # Who has scored there meanwhile has not seen the labels.
            entities = {key for keys in named.values() for key in keys}
            await entity_states.lock_only(connection, tenant, entities)
        now = now_us()
        labels = [_label(tenant, past, delay_us) for past in labelled if past.known_at_us <= now]
        # Before the scores: a label may have become known within the chunk.
        await label_store.save_labels(connection, labels, label_entities(labels, named))
        for answer in await self._pipeline.score_of(
            connection, tenant, transactions, adapted=False
        ):
            if isinstance(answer, Problem):
                raise answer
        await account_store.count_labels(connection, tenant, counted(labels, []))
        accounts = await account_store.lock_accounts(
            connection, tenant, {label.account_id for label in labels}
        )
        events = [event_of(label, accounts[label.account_id].revision) for label in labels]
        await label_store.save_label_events(connection, events)
        fates: dict[Fate, int] = {
            "stored": len(labels),
            "not_yet_known": len(labelled) - len(labels),
        }
        return Tally(len(new), Counter(fates))

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
        fates = await self._labelling.bring(tenant, [_verdict(past) for past in labelled])
        for fate in fates:
            if isinstance(fate, Problem):
                raise fate
            tally.labels[fate] += 1
        return tally


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


def _label(tenant: str, past: Past, delay_us: int) -> StoredLabel:
    return StoredLabel(
        tenant=tenant,
        transaction_id=past.transaction.transaction_id,
        account_id=past.transaction.account_id,
        is_fraud=bool(past.is_fraud),
        occurred_at_us=past.transaction.occurred_at_us,
        labelled_at_us=past.known_at_us,
        matures_at_us=max(past.known_at_us, past.transaction.occurred_at_us + delay_us),
        source=IMPORT,
        recorded_at_us=now_us(),
    )

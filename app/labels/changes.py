"""Changes of an account's labels, and the alteration that each stands for: what is set and removed.

All are read in the same way: from a snapshot, or again once the account is locked.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound, no_account
from app.accounts.store import Account
from app.audit.entries import Action
from app.db.connection import Connection
from app.entities.states import EntityKey
from app.labels import store as label_store
from app.labels.errors import LabelChanged, LabelNotFound, WrongAccount
from app.labels.forgetting import Record, corrections_without, named_in, records_after
from app.labels.records import Removals, StoredLabel
from app.labels.rollback import way_back
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.transaction import Transaction
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionNotFound, no_transaction
from app.scoring.records import Scored
from app.times import now_us

# The source of labels that came with a file of `quickstudy import`.
IMPORT = "import"

Corrected = Mapping[str, bytes]


class Verdict(NamedTuple):
    """A label for a transaction: a stored one, or one that is to be stored first.

    Without `labelled_at_us`, that is when the label is stored. `shown` is the label that whoever
    decides has seen it with, "" for none; None where it is stated whatever label there is.
    """

    transaction_id: str
    is_fraud: bool
    transaction: Transaction | None = None
    labelled_at_us: int | None = None
    source: str = "analyst"
    analyst: str | None = None
    note: str | None = None
    shown: str | None = None


class Alteration(NamedTuple):
    """What a change does to the labels of an account, as the account is.

    `rows` are the transactions that it is about, `changed` those whose label becomes another, and
    `old` the labels that these have. `labels` makes those that they get, recorded at a time (in
    microseconds), with the features that `unseen` rows get had they not seen labels since removed.
    That is so while the entities' `removals` are these, if there are any: what rows saw of other
    labels stays as it was. Other labels of the account are to learn from `corrections`, and other
    accounts what they saw of the labels of `for_others`; `records` are those of entities
    that the change alters. `named` are the entities of the rows, by transaction.
    `allowance` is how many changes count for the key.
    """

    account: Account
    rows: Sequence[Scored]
    old: Mapping[str, StoredLabel]
    changed: frozenset[str]
    labels: Callable[[int, Corrected], dict[str, StoredLabel]] = lambda at_us, corrected: {}
    unseen: Sequence[Scored] = ()
    unchanged: int = 0
    allowance: int = 0
    removals: Removals | None = None
    corrections: Corrected = MappingProxyType({})
    for_others: frozenset[str] = frozenset()
    records: Mapping[EntityKey, Record] = MappingProxyType({})
    as_of: int | None = None
    named: Mapping[str, Sequence[EntityKey]] = MappingProxyType({})

    @property
    def entities(self) -> set[EntityKey]:
        """The entities of the rows."""
        return {key for keys in self.named.values() for key in keys}

    @property
    def action(self) -> Action | None:
        """What the audit log calls the change of each label, if not set or removed."""
        return None if self.as_of is None else "label.rolled_back"


class LabelChange(Protocol):
    """A change of the labels of an account, before anything is read."""

    async def alteration(
        self, connection: Connection, features: FeatureSet, tenant: str
    ) -> Alteration:
        """What it does as the database is now. Raises what forbids it."""
        ...


class SetLabels(NamedTuple):
    """Label stored transactions of an account; the same labels again change nothing."""

    account_id: str
    verdicts: Sequence[Verdict]

    async def alteration(
        self, connection: Connection, features: FeatureSet, tenant: str
    ) -> Alteration:
        ids = [verdict.transaction_id for verdict in self.verdicts]
        # First of all: while this is its revision, what is read after it has not changed.
        account, stored, old, erasure = await connection.together(
            account_store.account(connection, tenant, self.account_id),
            transaction_store.scored(connection, tenant, ids),
            label_store.labels_of(connection, tenant, ids),
            label_store.erasure_of(connection, tenant, self.account_id),
        )
        self.check(stored)
        if erasure:
            # Others would have to forget it, too: an erasure would end once nobody labels.
            raise TransactionNotFound("The transaction is being erased with its account.")
        for verdict in self.verdicts:
            _check_shown(verdict.shown, old.get(verdict.transaction_id))
        if account is None:
            raise no_account(self.account_id)
        changed = {
            verdict.transaction_id: verdict
            for verdict in self.verdicts
            if _differs(verdict, old.get(verdict.transaction_id))
        }

        rows = [stored[key] for key in ids]

        def labels(at_us: int, corrected: Corrected) -> dict[str, StoredLabel]:
            return {
                key: _label(stored[key], verdict, at_us, features.spec, corrected.get(key))
                for key, verdict in changed.items()
            }

        replaced = {key: label for key, label in old.items() if key in changed}
        records: Mapping[EntityKey, Record] = {}
        if replaced:
            put = labels(now_us(), {})
            records = await records_after(connection, features, tenant, replaced, put)
        return Alteration(
            account,
            rows,
            replaced,
            frozenset(changed),
            labels,
            unseen=[stored[key] for key in changed],
            unchanged=len(self.verdicts) - len(changed),
            allowance=len(changed),
            records=records,
            named=await named_in(features, rows),
        )

    def check(self, stored: Mapping[str, Scored]) -> None:
        """Raises TransactionNotFound or WrongAccount for the first verdict that is refused."""
        for verdict in self.verdicts:
            owner = verdict.transaction or stored.get(verdict.transaction_id)
            if owner is None:
                raise no_transaction(verdict.transaction_id)
            if owner.account_id != self.account_id:
                raise WrongAccount(
                    f"Transaction {verdict.transaction_id!r} is not of account {self.account_id!r}."
                )


class RemoveLabel(NamedTuple):
    """Unlearn the label of a transaction exactly, if it is still the one that was shown."""

    transaction_id: str
    shown: str | None = None

    async def alteration(
        self, connection: Connection, features: FeatureSet, tenant: str
    ) -> Alteration:
        """Raises LabelNotFound or LabelChanged."""
        wanted = [self.transaction_id]
        old = await label_store.labels_of(connection, tenant, wanted)
        if not old:
            raise LabelNotFound(f"Transaction {self.transaction_id!r} has no label.")
        label = old[self.transaction_id]
        _check_shown(self.shown, label)
        account = await account_store.require_account(connection, tenant, label.account_id)
        rows = await transaction_store.scored(connection, tenant, wanted)
        corrections = await corrections_without(
            connection, features, tenant, wanted, label.account_id
        )
        return Alteration(
            account,
            list(rows.values()),
            old,
            frozenset(wanted),
            allowance=1,
            corrections=corrections,
            for_others=frozenset(wanted),
            records=await records_after(connection, features, tenant, wanted),
            named=await named_in(features, rows.values()),
        )


class RollBack(NamedTuple):
    """Make an account's labels what they were at a revision."""

    account_id: str
    revision: int

    async def alteration(
        self, connection: Connection, features: FeatureSet, tenant: str
    ) -> Alteration:
        """Raises AccountNotFound or RevisionNotFound."""
        account = await account_store.require_account(connection, tenant, self.account_id)
        if await label_store.erasure_of(connection, tenant, self.account_id):
            raise AccountNotFound("The account is being erased.")
        back = await way_back(connection, features, account, self.revision)
        named = await named_in(features, back.rows.values())
        entities = {key for keys in named.values() for key in keys}
        removals = (
            await label_store.removals_of(connection, tenant, entities)
            if back.follows_others
            else None
        )

        def labels(at_us: int, _: Corrected) -> dict[str, StoredLabel]:
            return {key: label._replace(recorded_at_us=at_us) for key, label in back.then.items()}

        return Alteration(
            account,
            list(back.rows.values()),
            back.now,
            frozenset(back.rows),
            labels,
            allowance=min(len(back.rows), 1),
            removals=removals,
            for_others=frozenset(back.rows),
            records=await records_after(connection, features, tenant, back.now, back.then),
            as_of=self.revision,
            named=named,
        )


def _check_shown(shown: str | None, label: StoredLabel | None) -> None:
    """Raises LabelChanged where there is another label than the one that was shown."""
    name = "" if label is None else "fraud" if label.is_fraud else "legitimate"
    if shown not in (None, name):
        raise LabelChanged


class KeepLabels(NamedTuple):
    """Change nothing: the copy of the labels as they are."""

    account_id: str

    async def alteration(
        self, connection: Connection, features: FeatureSet, tenant: str
    ) -> Alteration:
        """Raises AccountNotFound."""
        account = await account_store.require_account(connection, tenant, self.account_id)
        return Alteration(account, [], {}, frozenset())


def _label(
    row: Scored, verdict: Verdict, at_us: int, spec: DatasetSpec, corrected: bytes | None
) -> StoredLabel:
    """The label as it is stored. It becomes evidence about its entities after the spec's delay.

    Where files give a delay by row, a label posted live is known from when it was posted, and one
    that came with a file from when the file says.
    """
    labelled_at_us = verdict.labelled_at_us or at_us
    matures_at_us = row.occurred_at_us + spec.label.delay_us
    if spec.label.has_dates or verdict.source == IMPORT:
        matures_at_us = max(matures_at_us, labelled_at_us)
    return StoredLabel(
        tenant=row.tenant,
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        is_fraud=verdict.is_fraud,
        occurred_at_us=row.occurred_at_us,
        labelled_at_us=labelled_at_us,
        matures_at_us=matures_at_us,
        source=verdict.source,
        analyst=verdict.analyst,
        note=verdict.note,
        recorded_at_us=at_us,
        features=corrected,
    )


def _differs(verdict: Verdict, old: StoredLabel | None) -> bool:
    return old is None or (old.is_fraud, old.source, old.analyst, old.note) != (
        verdict.is_fraud,
        verdict.source,
        verdict.analyst,
        verdict.note,
    )

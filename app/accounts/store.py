"""Accounts: locked, read, saved, and their labels counted."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import bindparam, delete, select, text, update

from app.accounts.errors import no_account
from app.db.connection import Connection
from app.db.pages import Part, page, read_page
from app.db.schema import (
    HAS_LABELS,
    accounts,
    label_entities,
    label_events,
    links,
    notes,
    past_features,
    reviews,
    transactions,
)
from app.db.statements import IsWanted, columns, locking
from app.learner.transaction import MOST_ITEMS


class ErasedRows(NamedTuple):
    """How many rows of an account are gone, and the key of the newest payment among them."""

    transactions: int = 0
    label_events: int = 0
    reviews: int = 0
    last: tuple[int, str] | None = None

    def plus(self, later: "ErasedRows") -> "ErasedRows":
        return ErasedRows(
            self.transactions + later.transactions,
            self.label_events + later.label_events,
            self.reviews + later.reviews,
            later.last or self.last,
        )


class Account(NamedTuple):
    """A row of `accounts`."""

    tenant: str
    account_id: str
    revision: int = 0
    transactions: int = 0
    fraud_labels: int = 0
    legitimate_labels: int = 0
    state: bytes | None = None
    created_at_us: int = 0

    @property
    def has_labels(self) -> bool:
        return self.fraud_labels + self.legitimate_labels > 0


_IS_ONE = (
    accounts.c.tenant == bindparam("of_tenant"),
    accounts.c.account_id == bindparam("of_id"),
)
_ACCOUNT = select(*columns(accounts, Account)).where(*_IS_ONE)
_COUNT = (
    update(accounts)
    .where(*_IS_ONE)
    .values(
        revision=accounts.c.revision + 1,
        fraud_labels=accounts.c.fraud_labels + bindparam("fraud"),
        legitimate_labels=accounts.c.legitimate_labels + bindparam("legitimate"),
    )
)
_PRUNED = (
    update(accounts)
    .where(*_IS_ONE)
    .values(transactions=accounts.c.transactions - bindparam("gone"))
)
_REVISE = (
    update(accounts)
    .where(accounts.c.tenant == bindparam("of_tenant"), IsWanted(accounts.c.account_id))
    .values(revision=accounts.c.revision + 1)
)


class AccountKey(NamedTuple):
    """The key of a row of `accounts`."""

    tenant: str
    account_id: str


class AccountRevision(NamedTuple):
    """What tells one state of an account's labels from another."""

    tenant: str
    account_id: str
    revision: int
    created_at_us: int


_REVISIONS = select(*columns(accounts, AccountRevision)).where(
    accounts.c.tenant == bindparam("of_tenant"), IsWanted(accounts.c.account_id)
)


async def account(connection: Connection, tenant: str, account_id: str) -> Account | None:
    """An account as it stands, without locking it."""
    found = await connection.fetch(Account._make, _ACCOUNT, tenant, of_id=account_id)
    return found[0] if found else None


async def require_account(connection: Connection, tenant: str, account_id: str) -> Account:
    """The same; raises AccountNotFound where there is none."""
    found = await account(connection, tenant, account_id)
    if found is None:
        raise no_account(account_id)
    return found


async def lock_accounts(
    connection: Connection, tenant: str, account_ids: Iterable[str]
) -> dict[str, Account]:
    """These accounts, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(account_ids))
    rows = await connection.lock(accounts, Account, tenant, wanted)
    found = {row.account_id: row for row in rows}
    return {key: found.get(key) or Account(tenant, key) for key in wanted}


async def lock_only(connection: Connection, tenant: str, account_ids: Iterable[str]) -> None:
    """These accounts, ours alone until the transaction ends; what is known of them is not read."""
    if connection.dialect.name != "sqlite":
        await connection.lock(accounts, AccountKey, tenant, sorted(set(account_ids)))


async def revisions_of(
    connection: Connection, tenant: str, account_ids: Iterable[str]
) -> dict[str, AccountRevision]:
    """The revisions of these accounts, without locking them."""
    wanted = sorted(set(account_ids))
    rows = await connection.fetch(AccountRevision._make, _REVISIONS, tenant, wanted, are_many=True)
    return {row.account_id: row for row in rows}


async def lock_revisions(
    connection: Connection, tenant: str, account_ids: Iterable[str]
) -> dict[str, AccountRevision]:
    """The same of those that are there, which are locked; none is made."""
    wanted, query = sorted(set(account_ids)), locking(accounts, AccountRevision)
    rows = await connection.fetch(AccountRevision._make, query, tenant, wanted)
    return {row.account_id: row for row in rows}


async def revise_accounts(connection: Connection, tenant: str, account_ids: Iterable[str]) -> None:
    """One revision later: locked accounts have as many labels, of which some are corrected."""
    await connection.change(_REVISE, tenant, sorted(account_ids))


async def save_accounts(connection: Connection, rows: Iterable[Account]) -> None:
    """Insert or overwrite accounts that the transaction has locked."""
    await connection.write_rows(accounts, rows, ("tenant", "account_id"))


async def count_labels(
    connection: Connection, tenant: str, changes: Mapping[str, tuple[int, int]]
) -> None:
    """One revision later: locked accounts have so many more labels (fraud, legitimate)."""
    rows = [
        {"of_tenant": tenant, "of_id": key, "fraud": fraud, "legitimate": legitimate}
        for key, (fraud, legitimate) in changes.items()
    ]
    if rows:
        await connection.update_rows(_COUNT, rows)


async def count_pruned(connection: Connection, tenant: str, payments: Mapping[str, int]) -> None:
    """Locked accounts have so many payments fewer, at the same revision."""
    rows = [{"of_tenant": tenant, "of_id": key, "gone": n} for key, n in payments.items()]
    await connection.update_rows(_PRUNED, rows)


async def listed_accounts(
    connection: Connection,
    tenant: str,
    labelled: bool | None,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[Account]:
    """Accounts in the order of their ids: all, those with labels, or those without."""
    order = [accounts.c.account_id]
    query = select(*columns(accounts, Account)).where(accounts.c.tenant == tenant)
    walked = None
    if labelled:
        query = query.where(text(HAS_LABELS))
    elif labelled is not None:
        query = query.where(text(f"NOT ({HAS_LABELS})"))
        walked = select(*order).where(accounts.c.tenant == tenant)
    return await read_page(connection, Account._make, query, order, after, limit, walked=walked)


async def erase_payments(
    connection: Connection,
    tenant: str,
    account_id: str,
    after: tuple[int, str] | None,
    most: int,
    spared: int = 0,
) -> ErasedRows | None:
    """Delete the oldest payments of a locked account, and all that is about them.

    At most so many of those after a key; the newest `spared` stay. Returns None where there is
    nothing to delete.
    """
    order = transactions.c.occurred_at_us, transactions.c.transaction_id
    query = select(*order).where(
        transactions.c.tenant == tenant, transactions.c.account_id == account_id
    )
    found = (await connection.execute(page(query, order, after, most + spared))).all()
    gone = found[: max(len(found) - spared, 0)]
    if not gone:
        return None
    wanted = {"wanted": [row.transaction_id for row in gone]}
    counts = {}
    for table in (transactions, label_events, reviews, label_entities, past_features):
        deleted = await connection.execute(
            delete(table).where(table.c.tenant == tenant, IsWanted(table.c.transaction_id)), wanted
        )
        counts[table.name] = deleted.rowcount
    return ErasedRows(
        counts["transactions"], counts["label_events"], counts["reviews"], last=tuple(gone[-1])
    )


async def erase_account(connection: Connection, tenant: str, account_id: str) -> ErasedRows:
    """Delete every row of a locked account without labels, its notes and links."""
    rows = ErasedRows()
    while some := await erase_payments(connection, tenant, account_id, rows.last, MOST_ITEMS):
        rows = rows.plus(some)
    for table in (notes, links, accounts):
        await connection.execute(
            delete(table).where(table.c.tenant == tenant, table.c.account_id == account_id)
        )
    return rows

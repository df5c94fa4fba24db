"""What is read and written for a batch: SQL only, a few statements whatever the batch's size.

Every function works inside the caller's transaction. Writers lock in one order everywhere, so
that replicas never deadlock: tenants in order, then accounts in key order, then merchants in key
order. On SQLite the transaction itself is the lock.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from sqlalchemy import Row, Table, bindparam, delete, false, func, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adaptation import SUPPORT_LIMIT
from app.rows import Account, Merchant, Scored, StoredLabel, SupportRow
from app.tables import accounts, labels, merchants, transactions


async def scored(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, Scored]:
    """The stored ones among these transactions."""
    table = transactions
    query = select(*_columns(table, Scored)).where(
        table.c.tenant == tenant, table.c.transaction_id.in_(_padded(transaction_ids))
    )
    rows = map(Scored._make, await connection.execute(query))
    return {row.transaction_id: row for row in rows}


async def any_features_digest(connection: AsyncConnection) -> str | None:
    """The definition of the stored features, of which a database holds one; None when empty."""
    query = select(transactions.c.features_digest).limit(1)
    return (await connection.execute(query)).scalar_one_or_none()


async def account(connection: AsyncConnection, tenant: str, account_id: str) -> Account | None:
    """An account as it stands, without locking it."""
    query = select(*_columns(accounts, Account)).where(
        accounts.c.tenant == tenant, accounts.c.account_id == account_id
    )
    row = (await connection.execute(query)).one_or_none()
    return Account._make(row) if row else None


async def lock_accounts(
    connection: AsyncConnection, tenant: str, account_ids: Iterable[str]
) -> dict[str, Account]:
    """These accounts, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(account_ids))
    rows = map(Account._make, await _lock(connection, accounts, Account, tenant, wanted))
    found = {row.account_id: row for row in rows}
    return {key: found.get(key) or Account(tenant, key) for key in wanted}


async def lock_merchants(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> dict[str, Merchant]:
    """These merchants, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(merchant_ids))
    rows = map(Merchant._make, await _lock(connection, merchants, Merchant, tenant, wanted))
    found = {row.merchant_id: row for row in rows}
    return {key: found.get(key) or Merchant(tenant, key) for key in wanted}


async def maturing_labels(
    connection: AsyncConnection, tenant: str, before_us: Mapping[str, int]
) -> list[StoredLabel]:
    """The labels of each merchant that mature before its time and are not folded yet."""
    if not before_us:
        return []
    query = select(*_columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant,
        labels.c.merchant_id.in_(_padded(before_us)),
        labels.c.folded == false(),
        labels.c.matures_at_us < max(before_us.values()),
    )
    rows = map(StoredLabel._make, await connection.execute(query))
    return [row for row in rows if row.matures_at_us < before_us[cast(str, row.merchant_id)]]


async def supports(
    connection: AsyncConnection, tenant: str, account_ids: Iterable[str]
) -> dict[str, list[SupportRow]]:
    """The newest labelled transactions of these accounts, newest first, of each class enough."""
    wanted = list(account_ids)
    if not wanted:
        return {}
    newest_first = (labels.c.occurred_at_us.desc(), labels.c.transaction_id.desc())
    rank = func.row_number().over(
        partition_by=(labels.c.account_id, labels.c.is_fraud), order_by=newest_first
    )
    ranked = (
        select(labels, rank.label("rank"))
        .where(labels.c.tenant == tenant, labels.c.account_id.in_(_padded(wanted)))
        .subquery()
    )
    query = (
        select(
            ranked.c.account_id,
            transactions.c.features,
            ranked.c.is_fraud,
            ranked.c.occurred_at_us,
        )
        .join_from(
            ranked,
            transactions,
            (transactions.c.tenant == ranked.c.tenant)
            & (transactions.c.transaction_id == ranked.c.transaction_id),
        )
        .where(ranked.c.rank <= SUPPORT_LIMIT)
        .order_by(ranked.c.occurred_at_us.desc(), ranked.c.transaction_id.desc())
    )
    found: dict[str, list[SupportRow]] = {key: [] for key in wanted}
    for account_id, *row in await connection.execute(query):
        found[account_id].append(SupportRow(*row))
    return found


async def save_scored(connection: AsyncConnection, rows: Sequence[Scored]) -> None:
    """Insert new transactions; the driver raises IntegrityError where another came first."""
    # In key order, for the same reason as locks.
    ordered = sorted(rows, key=lambda row: row.transaction_id)
    if ordered:
        await connection.execute(transactions.insert(), [row._asdict() for row in ordered])


async def save_accounts(connection: AsyncConnection, rows: Iterable[Account]) -> None:
    """Insert or overwrite accounts that the transaction has locked."""
    await _save(connection, accounts, ("tenant", "account_id"), rows)


async def save_merchants(connection: AsyncConnection, rows: Iterable[Merchant]) -> None:
    """Insert or overwrite merchants that the transaction has locked."""
    await _save(connection, merchants, ("tenant", "merchant_id"), rows)


async def save_labels(connection: AsyncConnection, rows: Iterable[StoredLabel]) -> None:
    """Insert or overwrite labels of accounts that the transaction has locked."""
    await _save(connection, labels, ("tenant", "transaction_id"), rows)


async def mark_folded(connection: AsyncConnection, rows: Iterable[StoredLabel]) -> None:
    """These labels of locked merchants are in the merchants' label_state now."""
    keys = [{"of_tenant": row.tenant, "of_id": row.transaction_id} for row in rows]
    if keys:
        await connection.execute(
            update(labels)
            .where(
                labels.c.tenant == bindparam("of_tenant"),
                labels.c.transaction_id == bindparam("of_id"),
            )
            .values(folded=True),
            keys,
        )


async def labels_of(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, StoredLabel]:
    """The labels that these transactions have."""
    query = select(*_columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant, labels.c.transaction_id.in_(_padded(transaction_ids))
    )
    rows = map(StoredLabel._make, await connection.execute(query))
    return {row.transaction_id: row for row in rows}


async def count_labels(
    connection: AsyncConnection, tenant: str, changes: Mapping[str, tuple[int, int]]
) -> None:
    """One revision later: locked accounts have so many more labels (fraud, legitimate)."""
    rows = [
        {"of_tenant": tenant, "of_id": key, "fraud": fraud, "legitimate": legitimate}
        for key, (fraud, legitimate) in changes.items()
    ]
    if rows:
        await connection.execute(
            update(accounts)
            .where(
                accounts.c.tenant == bindparam("of_tenant"),
                accounts.c.account_id == bindparam("of_id"),
            )
            .values(
                revision=accounts.c.revision + 1,
                fraud_labels=accounts.c.fraud_labels + bindparam("fraud"),
                legitimate_labels=accounts.c.legitimate_labels + bindparam("legitimate"),
            ),
            rows,
        )


async def delete_label(connection: AsyncConnection, tenant: str, transaction_id: str) -> None:
    await connection.execute(
        delete(labels).where(labels.c.tenant == tenant, labels.c.transaction_id == transaction_id)
    )


async def unfold(connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]) -> None:
    """Forget what locked merchants know of labels: the next score folds the live ones anew."""
    wanted = sorted(set(merchant_ids))
    if not wanted:
        return
    await connection.execute(
        update(merchants)
        .where(merchants.c.tenant == tenant, merchants.c.merchant_id.in_(_padded(wanted)))
        .values(label_state=None)
    )
    await connection.execute(
        update(labels)
        .where(labels.c.tenant == tenant, labels.c.merchant_id.in_(_padded(wanted)))
        .values(folded=False)
    )


def float32_row(features_F: np.ndarray[Any, Any]) -> bytes:
    """A feature vector as it is stored: float32, little endian."""
    return features_F.astype("<f4", copy=False).tobytes()


async def _lock(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, wanted: list[str]
) -> Sequence[Row[Any]]:
    if not wanted:
        return []
    key = table.c[kind._fields[1]]
    if connection.dialect.name == "postgresql":
        # A row that does not exist cannot be locked. SQLite needs no row: the file is locked.
        absent = postgresql.insert(table).on_conflict_do_nothing()
        await connection.execute(absent, [{"tenant": tenant, key.name: one} for one in wanted])
    query = (
        select(*_columns(table, kind))
        .where(table.c.tenant == tenant, key.in_(_padded(wanted)))
        .order_by(key)
        .with_for_update()
    )
    return (await connection.execute(query)).all()


async def _save(
    connection: AsyncConnection, table: Table, key: tuple[str, ...], rows: Iterable[Any]
) -> None:
    values = [row._asdict() for row in rows]
    if not values:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    overwritten = {name: statement.excluded[name] for name in values[0] if name not in key}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=overwritten), values
    )


def _columns(table: Table, kind: Any) -> list[Any]:
    return [table.c[name] for name in kind._fields]


def _padded(keys: Iterable[str]) -> list[str]:
    """Repeat the last key up to a power of two: a handful of statements to prepare, not 1,000."""
    padded = list(keys)
    size = 1 << max(len(padded) - 1, 0).bit_length()
    return padded + padded[-1:] * (size - len(padded))

"""Labels: of a transaction, of an account as its support, of a merchant as they mature."""

from collections.abc import Iterable, Mapping
from typing import cast

from sqlalchemy import bindparam, delete, false, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adaptation import SUPPORT_LIMIT
from app.rows import LabelEvent, StoredLabel, SupportRow
from app.store.statements import columns, padded, save
from app.tables import label_events, labels, transactions


async def labels_of(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, StoredLabel]:
    """The labels that these transactions have."""
    query = select(*columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant, labels.c.transaction_id.in_(padded(transaction_ids))
    )
    rows = map(StoredLabel._make, await connection.execute(query))
    return {row.transaction_id: row for row in rows}


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
        .where(labels.c.tenant == tenant, labels.c.account_id.in_(padded(wanted)))
        .subquery()
    )
    query = (
        select(
            ranked.c.account_id,
            ranked.c.transaction_id,
            func.coalesce(ranked.c.features, transactions.c.features),
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


async def maturing_labels(
    connection: AsyncConnection, tenant: str, before_us: Mapping[str, int]
) -> list[StoredLabel]:
    """The labels of each merchant that mature before its time and are not folded yet."""
    if not before_us:
        return []
    query = select(*columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant,
        labels.c.merchant_id.in_(padded(before_us)),
        labels.c.folded == false(),
        labels.c.matures_at_us < max(before_us.values()),
    )
    rows = map(StoredLabel._make, await connection.execute(query))
    return [row for row in rows if row.matures_at_us < before_us[cast(str, row.merchant_id)]]


async def save_labels(connection: AsyncConnection, rows: Iterable[StoredLabel]) -> None:
    """Insert or overwrite labels of accounts that the transaction has locked."""
    await save(connection, labels, ("tenant", "transaction_id"), rows)


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


async def delete_label(connection: AsyncConnection, tenant: str, transaction_id: str) -> None:
    await connection.execute(
        delete(labels).where(labels.c.tenant == tenant, labels.c.transaction_id == transaction_id)
    )


async def save_label_events(connection: AsyncConnection, rows: Iterable[LabelEvent]) -> None:
    """Write down changes of labels, for ever."""
    values = [row._asdict() for row in rows]
    if values:
        await connection.execute(label_events.insert(), values)


async def label_history(
    connection: AsyncConnection, tenant: str, transaction_id: str
) -> list[LabelEvent]:
    """Every change of a transaction's label, the oldest first."""
    query = (
        select(*columns(label_events, LabelEvent))
        .where(label_events.c.tenant == tenant, label_events.c.transaction_id == transaction_id)
        .order_by(label_events.c.revision)
    )
    return [LabelEvent._make(row) for row in await connection.execute(query)]

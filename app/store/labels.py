"""Labels: of a transaction, of an account as its support, of a merchant as they mature."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, cast

from sqlalchemy import bindparam, delete, false, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.adaptation import SUPPORT_LIMIT
from app.rows import LabelEvent, StoredLabel, SupportRow
from app.store.statements import (
    IsWanted,
    add,
    alter,
    ask,
    columns,
    of_transactions,
    read,
    save,
)
from app.tables import label_events, labels, transactions


async def labels_of(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, StoredLabel]:
    """The labels that these transactions have."""
    return await of_transactions(connection, labels, StoredLabel, tenant, transaction_ids)


async def supports(
    connection: AsyncConnection, tenant: str, account_ids: Iterable[str]
) -> dict[str, list[SupportRow]]:
    """The newest labelled transactions of these accounts, newest first, of each class enough."""
    wanted = list(account_ids)
    if not wanted:
        return {}
    found: dict[str, list[SupportRow]] = {key: [] for key in wanted}
    for account_id, *row in await ask(connection, tuple[Any, ...], _supports(), tenant, wanted):
        found[account_id].append(SupportRow(*row))
    return found


@cache
def _supports() -> Any:
    newest_first = (labels.c.occurred_at_us.desc(), labels.c.transaction_id.desc())
    rank = func.row_number().over(
        partition_by=(labels.c.account_id, labels.c.is_fraud), order_by=newest_first
    )
    ranked = (
        select(labels, rank.label("rank"))
        .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.account_id))
        .subquery()
    )
    return (
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


_MATURING = select(*columns(labels, StoredLabel)).where(
    labels.c.tenant == bindparam("of_tenant"),
    IsWanted(labels.c.merchant_id),
    labels.c.folded == false(),
    labels.c.matures_at_us < bindparam("before_us"),
)


_FOLDED = (
    update(labels)
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id))
    .values(folded=True)
)
_DELETED = delete(labels).where(
    labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id)
)
_WITNESSING = select(*columns(labels, StoredLabel)).where(
    labels.c.tenant == bindparam("of_tenant"),
    IsWanted(labels.c.merchant_id),
    labels.c.occurred_at_us > bindparam("after_us"),
)
_CHANGED = (
    select(*columns(label_events, LabelEvent))
    .where(label_events.c.tenant == bindparam("of_tenant"), IsWanted(label_events.c.merchant_id))
    .order_by(label_events.c.recorded_at_us, label_events.c.revision)
)
_FORGOTTEN = (
    select(label_events.c.revision)
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.merchant_id),
        label_events.c.is_fraud.is_(None) | label_events.c.features.is_not(None),
    )
    .limit(1)
)


async def maturing_labels(
    connection: AsyncConnection, tenant: str, before_us: Mapping[str, int]
) -> list[StoredLabel]:
    """The labels of each merchant that mature before its time and are not folded yet."""
    if not before_us:
        return []
    latest_us = max(before_us.values())
    rows = await ask(
        connection, StoredLabel._make, _MATURING, tenant, before_us, before_us=latest_us
    )
    return [row for row in rows if row.matures_at_us < before_us[cast(str, row.merchant_id)]]


async def save_labels(connection: AsyncConnection, rows: Iterable[StoredLabel]) -> None:
    """Insert or overwrite labels of accounts that the transaction has locked."""
    await save(connection, labels, ("tenant", "transaction_id"), rows)


async def mark_folded(
    connection: AsyncConnection, tenant: str, rows: Iterable[StoredLabel]
) -> None:
    """These labels of locked merchants are in the merchants' label_state now."""
    await alter(connection, _FOLDED, tenant, [row.transaction_id for row in rows])


async def delete_labels(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> None:
    """Delete labels of accounts that the transaction has locked."""
    await alter(connection, _DELETED, tenant, list(transaction_ids))


async def save_label_events(connection: AsyncConnection, rows: Iterable[LabelEvent]) -> None:
    """Write down changes of labels, for ever."""
    await add(connection, label_events, rows)


async def label_history(
    connection: AsyncConnection, tenant: str, transaction_id: str
) -> list[LabelEvent]:
    """Every change of a transaction's label, the oldest first."""
    query = (
        select(*columns(label_events, LabelEvent))
        .where(label_events.c.tenant == tenant, label_events.c.transaction_id == transaction_id)
        .order_by(label_events.c.revision)
    )
    return await read(connection, LabelEvent._make, query)


async def labels_of_account(
    connection: AsyncConnection, tenant: str, account_id: str
) -> list[StoredLabel]:
    """All labels of an account."""
    query = select(*columns(labels, StoredLabel)).where(
        labels.c.tenant == tenant, labels.c.account_id == account_id
    )
    return await read(connection, StoredLabel._make, query)


async def witnesses(
    connection: AsyncConnection, tenant: str, removed: Sequence[StoredLabel]
) -> list[StoredLabel]:
    """The labels of transactions whose features may hold these: same merchant, after maturity."""
    matured_us: dict[str, int] = {}
    for one in removed:
        if one.merchant_id is not None:
            first_us = matured_us.get(one.merchant_id, one.matures_at_us)
            matured_us[one.merchant_id] = min(first_us, one.matures_at_us)
    if not matured_us:
        return []
    first_us = min(matured_us.values())
    rows = await ask(
        connection, StoredLabel._make, _WITNESSING, tenant, matured_us, after_us=first_us
    )
    return [row for row in rows if row.occurred_at_us > matured_us[cast(str, row.merchant_id)]]


async def any_forgotten(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> bool:
    """Whether any label of these merchants was ever removed, or corrected for one that was."""
    wanted = list(merchant_ids)
    if not wanted:
        return False
    return bool(await ask(connection, tuple[Any, ...], _FORGOTTEN, tenant, wanted))


async def events_of_merchants(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> list[LabelEvent]:
    """Every change of a label of these merchants, the oldest first."""
    return await ask(connection, LabelEvent._make, _CHANGED, tenant, merchant_ids)


async def support_at(
    connection: AsyncConnection, tenant: str, account_id: str, revision: int
) -> list[SupportRow]:
    """The labelled transactions of an account as they were at a revision, newest first."""
    last = (
        select(
            label_events,
            func.row_number()
            .over(
                partition_by=label_events.c.transaction_id,
                order_by=label_events.c.revision.desc(),
            )
            .label("rank"),
        )
        .where(
            label_events.c.tenant == tenant,
            label_events.c.account_id == account_id,
            label_events.c.revision <= revision,
        )
        .subquery()
    )
    query = (
        select(
            last.c.transaction_id,
            func.coalesce(last.c.features, transactions.c.features),
            last.c.is_fraud,
            last.c.occurred_at_us,
        )
        .join_from(
            last,
            transactions,
            (transactions.c.tenant == last.c.tenant)
            & (transactions.c.transaction_id == last.c.transaction_id),
        )
        .where(last.c.rank == 1, last.c.is_fraud.is_not(None))
        .order_by(last.c.occurred_at_us.desc(), last.c.transaction_id.desc())
    )
    return await read(connection, SupportRow._make, query)


async def events_of_account(
    connection: AsyncConnection, tenant: str, account_id: str
) -> list[LabelEvent]:
    """Every change of an account's labels, the oldest first."""
    query = (
        select(*columns(label_events, LabelEvent))
        .where(label_events.c.tenant == tenant, label_events.c.account_id == account_id)
        .order_by(label_events.c.revision)
    )
    return await read(connection, LabelEvent._make, query)


async def events_of_revision(
    connection: AsyncConnection, tenant: str, account_id: str, revision: int
) -> list[LabelEvent]:
    """What changed with a revision of an account."""
    query = select(*columns(label_events, LabelEvent)).where(
        label_events.c.tenant == tenant,
        label_events.c.account_id == account_id,
        label_events.c.revision == revision,
    )
    return await read(connection, LabelEvent._make, query)

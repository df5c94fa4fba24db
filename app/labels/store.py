"""Labels: of a transaction, of an account as its support, of a merchant as they mature."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, bindparam, delete, false, func, select, true, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.postgres import Straight
from app.db.schema import accounts, label_events, labels, transactions
from app.db.statements import (
    IsWanted,
    add,
    alter,
    ask,
    change,
    columns,
    of_transactions,
    read,
    save,
)
from app.labels.records import (
    LabelChange,
    LabelEvent,
    MerchantLabel,
    StoredLabel,
    SupportRow,
    Witness,
)
from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.transaction import MOST_ITEMS


async def labels_of(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, StoredLabel]:
    """The labels that these transactions have."""
    return await of_transactions(connection, labels, StoredLabel, tenant, transaction_ids)


async def supports(
    connection: AsyncConnection,
    tenant: str,
    account_ids: Iterable[str],
    most: int = SUPPORT_LIMIT,
) -> dict[str, list[SupportRow]]:
    """The newest labelled transactions of these accounts, newest first, so many of each class."""
    wanted = list(account_ids)
    if not wanted:
        return {}
    found: dict[str, list[SupportRow]] = {key: [] for key in wanted}
    for account_id, *row in await ask(
        connection,
        tuple[Any, ...],
        _supports(),
        tenant,
        wanted,
        most > 10 * SUPPORT_LIMIT,
        most=most,
    ):
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
        .where(ranked.c.rank <= bindparam("most"))
        .order_by(ranked.c.occurred_at_us.desc(), ranked.c.transaction_id.desc())
    )


# In a score, whose statements are to take microseconds: of more labels, rarely, elsewhere.
_MATURING = (
    select(*columns(labels, MerchantLabel))
    .where(
        labels.c.tenant == bindparam("of_tenant"),
        IsWanted(labels.c.merchant_id),
        labels.c.folded == false(),
        labels.c.matures_at_us < bindparam("before_us"),
    )
    .limit(bindparam("most"))
)
_OF_RECORD = select(*columns(labels, MerchantLabel)).where(
    labels.c.tenant == bindparam("of_tenant"),
    IsWanted(labels.c.merchant_id),
    labels.c.folded == true(),
)
_FOLDED = (
    update(labels)
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id))
    .values(folded=True)
)
_DELETED = delete(labels).where(
    labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id)
)
_WITNESSING = (
    select(
        *(labels.c[name] for name in Witness._fields[:4]),
        transactions.c.evaluated_at_us,
        transactions.c.features,
        labels.c.features.label("corrected"),
    )
    .join_from(
        labels,
        transactions,
        (transactions.c.tenant == labels.c.tenant)
        & (transactions.c.transaction_id == labels.c.transaction_id),
    )
    .where(
        labels.c.tenant == bindparam("of_tenant"),
        IsWanted(labels.c.merchant_id),
        labels.c.occurred_at_us > bindparam("after_us"),
    )
)
_OF_MERCHANTS = (
    label_events.c.tenant == bindparam("of_tenant"),
    IsWanted(label_events.c.merchant_id),
)
_CHANGES = (
    select(
        *(label_events.c[name] for name in LabelChange._fields[:-1]),
        label_events.c.features.is_not(None),
    )
    .where(*_OF_MERCHANTS)
    .order_by(label_events.c.recorded_at_us, label_events.c.revision)
)
# Not their sum, which is too large for 64 bits.
_COUNTED: tuple[Any, ...] = (
    func.count(),
    func.sum(label_events.c.recorded_at_us % bindparam("modulus")),
)
_CHECKED = select(*_COUNTED).where(*_OF_MERCHANTS)
_MATURED = (
    select(label_events.c.merchant_id, func.min(label_events.c.matures_at_us))
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.transaction_id),
        label_events.c.merchant_id.is_not(None),
        label_events.c.is_fraud.is_not(None),
    )
    .group_by(label_events.c.merchant_id)
)
_REMOVED = (
    select(label_events.c.revision)
    .where(
        *_OF_MERCHANTS,
        label_events.c.is_fraud.is_(None),
        label_events.c.recorded_at_us >= bindparam("since_us"),
    )
    .limit(1)
)
_CORRECTED = (
    select(label_events.c.revision)
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.transaction_id),
        label_events.c.features.is_not(None),
    )
    .limit(1)
)
_CORRECT = (
    update(labels)
    .where(
        labels.c.tenant == bindparam("of_tenant"),
        labels.c.transaction_id == bindparam("of_id"),
    )
    .values(features=bindparam("new_features"))
)
# The same of many: PostgreSQL takes longer to be asked than to answer.
_CORRECT_EACH = """
UPDATE labels SET features = new.features
FROM unnest($2::text[], $3::bytea[]) AS new(transaction_id, features)
WHERE labels.tenant = $1 AND labels.transaction_id = new.transaction_id
"""
_OF_EVENT: dict[str, Any] = {
    "revision": accounts.c.revision,
    "recorded_at_us": sql_cast(bindparam("at_us"), BigInteger),
}
_NOTE = label_events.insert().from_select(
    LabelEvent._fields,
    select(
        *[_OF_EVENT[name] if name in _OF_EVENT else labels.c[name] for name in LabelEvent._fields]
    )
    .join_from(
        labels,
        accounts,
        (accounts.c.tenant == labels.c.tenant) & (accounts.c.account_id == labels.c.account_id),
    )
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.transaction_id)),
)
# Of the sum that tells one state of a merchant's label events from another.
MODULUS = 1_000_000_007


async def maturing_labels(
    connection: AsyncConnection, tenant: str, before_us: Mapping[str, int]
) -> list[MerchantLabel]:
    """The labels of each merchant that mature before its time and are not folded yet."""
    if not before_us:
        return []
    given: dict[str, Any] = {"before_us": max(before_us.values())}
    make, query = MerchantLabel._make, _MATURING
    rows = await ask(connection, make, query, tenant, before_us, most=MOST_ITEMS + 1, **given)
    if len(rows) > MOST_ITEMS:
        rows = await ask(
            connection, make, query, tenant, before_us, are_many=True, most=2**62, **given
        )
    return [row for row in rows if row.matures_at_us < before_us[row.merchant_id]]


async def labels_of_record(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> list[MerchantLabel]:
    """The labels that are folded into these merchants' label_state."""
    return await ask(
        connection, MerchantLabel._make, _OF_RECORD, tenant, merchant_ids, are_many=True
    )


async def save_labels(connection: AsyncConnection, rows: Iterable[StoredLabel]) -> None:
    """Insert or overwrite labels of accounts that the transaction has locked."""
    await save(connection, labels, ("tenant", "transaction_id"), rows)


async def mark_folded(
    connection: AsyncConnection, tenant: str, rows: Iterable[MerchantLabel]
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
    connection: AsyncConnection, tenant: str, after_us: Mapping[str, int]
) -> list[Witness]:
    """The labelled transactions at each of these merchants that occurred after its time."""
    if not after_us:
        return []
    first_us = min(after_us.values())
    rows = await ask(
        connection,
        Witness._make,
        _WITNESSING,
        tenant,
        after_us,
        are_many=True,
        after_us=first_us,
    )
    return [row for row in rows if row.occurred_at_us > after_us[row.merchant_id or ""]]


async def first_maturities(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, int]:
    """When the first label that these transactions ever had matured, by merchant."""
    return dict(
        await ask(connection, tuple[Any, ...], _MATURED, tenant, transaction_ids, are_many=True)
    )


async def label_changes(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> list[LabelChange]:
    """Every change of a label of these merchants, the oldest first."""
    return await ask(connection, LabelChange._make, _CHANGES, tenant, merchant_ids, are_many=True)


async def checksum_of_changes(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> tuple[int, int]:
    """What differs once anything has changed in the labels of these merchants."""
    [(rows, total)] = await ask(
        connection,
        tuple[Any, ...],
        _CHECKED,
        tenant,
        merchant_ids,
        are_many=True,
        modulus=MODULUS,
    )
    return rows, int(total or 0)


async def any_removed(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str], since_us: int
) -> bool:
    """Whether any label of these merchants was removed since then."""
    found = await ask(
        connection,
        tuple[Any, ...],
        _REMOVED,
        tenant,
        merchant_ids,
        are_many=True,
        since_us=since_us,
    )
    return bool(found)


async def any_corrected(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> bool:
    """Whether any of these transactions was ever given other features to be learned from."""
    return bool(await ask(connection, tuple[Any, ...], _CORRECTED, tenant, transaction_ids))


async def correct_labels(
    connection: AsyncConnection, tenant: str, features: Mapping[str, bytes], at_us: int
) -> None:
    """Give labels of locked accounts, whose revision has changed, other features: by transaction.

    Each is a change that is written down.
    """
    keys = list(features)
    for first in range(0, len(keys), MOST_ITEMS):
        some = keys[first : first + MOST_ITEMS]
        values = [features[key] for key in some]
        if isinstance(connection, Straight):
            await connection.write(labels, _CORRECT_EACH, (tenant, some, values))
            # The next statement reads what this and others wrote.
            await connection.flush()
        else:
            rows = [
                {"of_tenant": tenant, "of_id": key, "new_features": value}
                for key, value in zip(some, values, strict=True)
            ]
            await change(connection, _CORRECT, rows)
        await alter(connection, _NOTE, tenant, some, at_us=at_us)


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

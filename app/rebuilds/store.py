"""Rebuilds: how far they are, what they clear, and features put in the place of others."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

from sqlalchemy import (
    Delete,
    String,
    Table,
    Update,
    bindparam,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.pages import between, page
from app.db.postgres import Straight
from app.db.schema import (
    accounts,
    entities,
    label_entities,
    label_events,
    labels,
    links,
    past_features,
    rebuilds,
    transactions,
)
from app.db.statements import IsWanted, alter, change, columns, read, save
from app.rebuilds.records import Rebuild
from app.scoring.records import Scored
from app.scoring.store import AS_SCORED

# Of a table that is cleared, in one database transaction.
STEP_ROWS = 5000
# Of a row among a tenant's.
Key: TypeAlias = tuple[Any, ...]

_FEATURES = (transactions.c.tenant, transactions.c.transaction_id, transactions.c.features_digest)
_KEPT = [column.name for column in past_features.c]
_KEEP = past_features.insert().from_select(
    _KEPT,
    select(*_FEATURES, literal(AS_SCORED), transactions.c.features).where(
        transactions.c.tenant == bindparam("of_tenant"),
        IsWanted(transactions.c.transaction_id),
        # Nothing was scored by what a rebuild for the same features has left.
        or_(
            transactions.c.features_digest != sql_cast(bindparam("new_digest"), String),
            transactions.c.rebuilt_at_us.is_(None),
        ),
        # Those of the first time are those that it was scored with.
        ~exists().where(
            past_features.c.tenant == transactions.c.tenant,
            past_features.c.transaction_id == transactions.c.transaction_id,
            past_features.c.features_digest == transactions.c.features_digest,
            past_features.c.revision == AS_SCORED,
        ),
    ),
)
_KEEP_CORRECTED = past_features.insert().from_select(
    _KEPT,
    select(*_FEATURES, label_events.c.revision, label_events.c.features)
    .join_from(
        label_events,
        transactions,
        (transactions.c.tenant == label_events.c.tenant)
        & (transactions.c.transaction_id == label_events.c.transaction_id),
    )
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.transaction_id),
        label_events.c.features.is_not(None),
        ~exists().where(
            past_features.c.tenant == transactions.c.tenant,
            past_features.c.transaction_id == transactions.c.transaction_id,
            past_features.c.features_digest == transactions.c.features_digest,
            past_features.c.revision == label_events.c.revision,
        ),
    ),
)
_REPLACE = (
    update(transactions)
    .where(
        transactions.c.tenant == bindparam("of_tenant"),
        transactions.c.transaction_id == bindparam("of_id"),
    )
    .values(
        features=bindparam("new_features"),
        features_digest=bindparam("new_digest"),
        rebuilt_at_us=bindparam("at_us"),
    )
)
# The same of many: PostgreSQL takes longer to be asked than to answer.
_REPLACE_EACH = """
UPDATE transactions SET features = new.features, features_digest = $4, rebuilt_at_us = $5
FROM unnest($2::text[], $3::bytea[]) AS new(transaction_id, features)
WHERE transactions.tenant = $1 AND transactions.transaction_id = new.transaction_id
"""
# No label since removed is in the new features: what was corrected is so no more, and its events
# still say that it was.
_UNCORRECTED = (
    update(labels)
    .where(
        labels.c.tenant == bindparam("of_tenant"),
        IsWanted(labels.c.transaction_id),
        labels.c.features.is_not(None),
    )
    .values(features=None)
)
_EVENTS = (
    update(label_events)
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.transaction_id),
        label_events.c.features.is_not(None),
    )
    .values(
        features=select(transactions.c.features)
        .where(
            transactions.c.tenant == label_events.c.tenant,
            transactions.c.transaction_id == label_events.c.transaction_id,
        )
        .scalar_subquery()
    )
)


async def lock_rebuilds(connection: AsyncConnection) -> list[Rebuild]:
    """The rebuilds of all tenants, ours alone until the transaction ends, by tenant.

    There is none unless one is unfinished, and nobody else can begin any.
    """
    if connection.dialect.name != "sqlite":
        await connection.execute(text("LOCK TABLE rebuilds IN SHARE ROW EXCLUSIVE MODE"))
    query = select(*columns(rebuilds, Rebuild)).order_by(rebuilds.c.tenant)
    return await read(connection, Rebuild._make, query)


async def lock_rebuild(connection: AsyncConnection, tenant: str) -> Rebuild | None:
    """The rebuild of a tenant, ours alone until the transaction ends."""
    query = select(*columns(rebuilds, Rebuild)).where(rebuilds.c.tenant == tenant)
    return next(iter(await read(connection, Rebuild._make, query.with_for_update())), None)


async def save_rebuilds(connection: AsyncConnection, rows: Sequence[Rebuild]) -> None:
    """Insert rebuilds, or overwrite those that the transaction has locked."""
    await save(connection, rebuilds, ("tenant", "features_digest"), rows)


async def delete_rebuilds(connection: AsyncConnection) -> None:
    """Delete those of all tenants."""
    await connection.execute(delete(rebuilds))


async def payments_by_tenant(connection: AsyncConnection) -> dict[str, int]:
    """How many payments each tenant has."""
    query = select(accounts.c.tenant, func.sum(accounts.c.transactions)).group_by(accounts.c.tenant)
    return {tenant: int(count) for tenant, count in await read(connection, tuple[Any, ...], query)}


def clearing(kinds: Sequence[str]) -> list[Update | Delete]:
    """What makes nothing of states, table by table; entities are of these kinds from now on."""
    other_kind = label_entities.c.kind.not_in(kinds)
    return [
        update(accounts).where(accounts.c.state.is_not(None)).values(state=None),
        delete(entities),
        delete(links),
        delete(label_entities).where(other_kind),
        update(label_entities).where(label_entities.c.folded).values(folded=False),
    ]


async def clear(
    connection: AsyncConnection, tenant: str, statement: Update | Delete, after: Key | None
) -> Key | None:
    """Execute a statement for a tenant's next rows after a key; the last one's, None at the end."""
    table = cast(Table, statement.table)
    order = [column for column in table.primary_key if column.name != "tenant"]
    last = page(select(*order).where(table.c.tenant == tenant), order, after, 1)
    rows = await read(connection, tuple[Any, ...], last.offset(STEP_ROWS - 1))
    until = tuple(rows[0]) if rows else None
    rows_of = (table.c.tenant == tenant, *between(order, after, until))
    await connection.execute(statement.where(*rows_of))
    return until


async def payments_after(connection: AsyncConnection, rebuild: Rebuild, limit: int) -> list[Scored]:
    """The next payments of a tenant, in the order of time."""
    order = [transactions.c.occurred_at_us, transactions.c.transaction_id]
    query = select(*columns(transactions, Scored)).where(transactions.c.tenant == rebuild.tenant)
    after = None if rebuild.last_id is None else (rebuild.last_us, rebuild.last_id)
    return await read(connection, Scored._make, page(query, order, after, limit))


async def replace_features(
    connection: AsyncConnection, tenant: str, features: Mapping[str, bytes], digest: str, at_us: int
) -> None:
    """Give transactions other features, and keep those of before: by transaction.

    What is learned from their labels, too.
    """
    ids = list(features)
    await alter(connection, _KEEP, tenant, ids, new_digest=digest)
    await alter(connection, _KEEP_CORRECTED, tenant, ids)
    if isinstance(connection, Straight):
        await connection.flush()
        parameters = (tenant, ids, list(features.values()), digest, at_us)
        await connection.write(transactions, _REPLACE_EACH, parameters)
        # The events read what this writes.
        await connection.flush()
    else:
        rows = [
            {"of_tenant": tenant, "of_id": key, "new_features": value}
            | {"new_digest": digest, "at_us": at_us}
            for key, value in features.items()
        ]
        await change(connection, _REPLACE, rows)
    await alter(connection, _UNCORRECTED, tenant, ids)
    await alter(connection, _EVENTS, tenant, ids)

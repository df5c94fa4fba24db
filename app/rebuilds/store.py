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

from app.db.connection import Connection
from app.db.pages import between, page
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
from app.db.statements import IsWanted, by_key, columns
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
            by_key(past_features, transactions, "transaction_id", "features_digest"),
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
        by_key(transactions, label_events, "transaction_id"),
    )
    .where(
        label_events.c.tenant == bindparam("of_tenant"),
        IsWanted(label_events.c.transaction_id),
        label_events.c.features.is_not(None),
        ~exists().where(
            by_key(past_features, transactions, "transaction_id", "features_digest"),
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
        .where(by_key(transactions, label_events, "transaction_id"))
        .scalar_subquery()
    )
)


async def lock_rebuilds(connection: Connection) -> list[Rebuild]:
    """The rebuilds of all tenants, ours alone until the transaction ends, by tenant.

    There is none unless one is unfinished, and nobody else can begin any.
    """
    if connection.dialect.name != "sqlite":
        await connection.execute(text("LOCK TABLE rebuilds IN SHARE ROW EXCLUSIVE MODE"))
    query = select(*columns(rebuilds, Rebuild)).order_by(rebuilds.c.tenant)
    return await connection.read(Rebuild._make, query)


async def lock_rebuild(connection: Connection, tenant: str) -> Rebuild | None:
    """The rebuild of a tenant, ours alone until the transaction ends."""
    query = select(*columns(rebuilds, Rebuild)).where(rebuilds.c.tenant == tenant)
    return next(iter(await connection.read(Rebuild._make, query.with_for_update())), None)


async def save_rebuilds(connection: Connection, rows: Sequence[Rebuild]) -> None:
    """Insert rebuilds, or overwrite those that the transaction has locked."""
    await connection.write_rows(rebuilds, rows, ("tenant", "features_digest"))


async def delete_rebuilds(connection: Connection) -> None:
    """Delete those of all tenants."""
    await connection.execute(delete(rebuilds))


async def payments_by_tenant(connection: Connection) -> dict[str, int]:
    """How many payments each tenant has."""
    query = select(accounts.c.tenant, func.sum(accounts.c.transactions)).group_by(accounts.c.tenant)
    return {tenant: int(count) for tenant, count in await connection.read(tuple[Any, ...], query)}


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
    connection: Connection, tenant: str, statement: Update | Delete, after: Key | None
) -> Key | None:
    """Execute a statement for a tenant's next rows after a key; the last one's, None at the end."""
    table = cast(Table, statement.table)
    order = [column for column in table.primary_key if column.name != "tenant"]
    last = page(select(*order).where(table.c.tenant == tenant), order, after, 1)
    rows = await connection.read(tuple[Any, ...], last.offset(STEP_ROWS - 1))
    until = tuple(rows[0]) if rows else None
    rows_of = (table.c.tenant == tenant, *between(order, after, until))
    await connection.execute(statement.where(*rows_of))
    return until


async def payments_after(connection: Connection, rebuild: Rebuild, limit: int) -> list[Scored]:
    """The next payments of a tenant, in the order of time."""
    order = [transactions.c.occurred_at_us, transactions.c.transaction_id]
    query = select(*columns(transactions, Scored)).where(transactions.c.tenant == rebuild.tenant)
    after = None if rebuild.last_id is None else (rebuild.last_us, rebuild.last_id)
    return await connection.read(Scored._make, page(query, order, after, limit))


async def replace_features(
    connection: Connection, tenant: str, features: Mapping[str, bytes], digest: str, at_us: int
) -> None:
    """Give transactions other features, and keep those of before: by transaction.

    What is learned from their labels, too.
    """
    ids = list(features)
    await connection.change(_KEEP, tenant, ids, new_digest=digest)
    await connection.change(_KEEP_CORRECTED, tenant, ids)
    rows = (
        {"of_tenant": tenant, "of_id": key, "new_features": value}
        | {"new_digest": digest, "at_us": at_us}
        for key, value in features.items()
    )
    await connection.update_rows(_REPLACE, rows)
    await connection.change(_UNCORRECTED, tenant, ids)
    await connection.change(_EVENTS, tenant, ids)

"""What the statements of several tables share."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Row, Table, Text, bindparam, cast, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


# Statements of the hot path are built once: to build one takes longer than to execute it.
@cache
def _locking(table: Table, kind: Any) -> Any:
    key = table.c[kind._fields[1]]
    return (
        select(*columns(table, kind))
        .where(
            table.c.tenant == bindparam("of_tenant"),
            key.in_(bindparam("wanted", expanding=True)),
        )
        .order_by(key)
        .with_for_update()
    )


@cache
def _absent(table: Table, key: str) -> Any:
    """Insert the rows that are not there, in the order of the given keys, as one statement."""
    wanted = func.unnest(bindparam("wanted", type_=postgresql.ARRAY(Text))).column_valued("key")
    rows = select(cast(bindparam("of_tenant"), Text), wanted)
    return postgresql.insert(table).from_select(["tenant", key], rows).on_conflict_do_nothing()


@cache
def _chosen(table: Table, kind: Any) -> Any:
    return select(*columns(table, kind)).where(
        table.c.tenant == bindparam("of_tenant"),
        table.c.transaction_id.in_(bindparam("wanted", expanding=True)),
    )


@cache
def _saving(table: Table, dialect: str, key: tuple[str, ...], overwritten: tuple[str, ...]) -> Any:
    insert = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    values = {name: insert.excluded[name] for name in overwritten}
    return insert.on_conflict_do_update(index_elements=key, set_=values)


async def lock(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, wanted: list[str]
) -> Sequence[Row[Any]]:
    """The rows of these keys, ours alone until the transaction ends."""
    if not wanted:
        return []
    if connection.dialect.name == "postgresql":
        # A row that does not exist cannot be locked. SQLite needs no row: the file is locked.
        absent = _absent(table, kind._fields[1])
        await connection.execute(absent, {"of_tenant": tenant, "wanted": wanted})
    given = {"of_tenant": tenant, "wanted": padded(wanted)}
    return (await connection.execute(_locking(table, kind), given)).all()


async def of_transactions(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, ids: Iterable[str]
) -> dict[str, Any]:
    """What a table has of each of these transactions, as rows of `kind`, by transaction."""
    wanted = padded(ids)
    if not wanted:
        return {}
    given = {"of_tenant": tenant, "wanted": wanted}
    rows = map(kind._make, await connection.execute(_chosen(table, kind), given))
    return {row.transaction_id: row for row in rows}


async def save(
    connection: AsyncConnection,
    table: Table,
    key: tuple[str, ...],
    rows: Iterable[Any],
    kept: tuple[str, ...] = (),
) -> None:
    """Insert rows, or overwrite those that are there: all but their key and what is `kept`."""
    values = [row._asdict() for row in rows]
    if not values:
        return
    overwritten = tuple(name for name in values[0] if name not in key + kept)
    await connection.execute(_saving(table, connection.dialect.name, key, overwritten), values)


def columns(table: Table, kind: Any) -> list[Any]:
    """The columns of a table that a row's type names, in its order."""
    return [table.c[name] for name in kind._fields]


def padded(keys: Iterable[str]) -> list[str]:
    """Repeat the last key up to a power of two: a handful of statements to prepare, not 1,000."""
    wanted = list(keys)
    size = 1 << max(len(wanted) - 1, 0).bit_length()
    return wanted + wanted[-1:] * (size - len(wanted))

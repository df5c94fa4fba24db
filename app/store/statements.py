"""What the statements of several tables share."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


async def lock(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, wanted: list[str]
) -> Sequence[Row[Any]]:
    """The rows of these keys, ours alone until the transaction ends."""
    if not wanted:
        return []
    key = table.c[kind._fields[1]]
    if connection.dialect.name == "postgresql":
        # A row that does not exist cannot be locked. SQLite needs no row: the file is locked.
        absent = postgresql.insert(table).on_conflict_do_nothing()
        await connection.execute(absent, [{"tenant": tenant, key.name: one} for one in wanted])
    query = (
        select(*columns(table, kind))
        .where(table.c.tenant == tenant, key.in_(padded(wanted)))
        .order_by(key)
        .with_for_update()
    )
    return (await connection.execute(query)).all()


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
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    overwritten = {name: statement.excluded[name] for name in values[0] if name not in key + kept}
    await connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=overwritten), values
    )


def columns(table: Table, kind: Any) -> list[Any]:
    """The columns of a table that a row's type names, in its order."""
    return [table.c[name] for name in kind._fields]


def padded(keys: Iterable[str]) -> list[str]:
    """Repeat the last key up to a power of two: a handful of statements to prepare, not 1,000."""
    wanted = list(keys)
    size = 1 << max(len(wanted) - 1, 0).bit_length()
    return wanted + wanted[-1:] * (size - len(wanted))

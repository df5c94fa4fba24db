"""A tenant goes from one database to another, as a file between them.

The file is a SQLite database of the service's own schema that has this tenant alone. Rows are
copied as they are, so that scores, copies and replays are the same to the bit where the same models
are served, whichever of the two databases is SQLite and whichever PostgreSQL.
"""

import asyncio
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache, partial
from typing import Any

from sqlalchemy import Table, delete, select, tuple_
from sqlalchemy.exc import IntegrityError

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database, refuse_while_rebuilding
from app.db.errors import Raced
from app.db.pages import read_page
from app.db.patience import Patience
from app.db.schema import (
    api_keys,
    checkpoints,
    metadata,
    people,
    sessions,
    setup_links,
    transactions,
)
from app.errors import SetupError
from app.keys.service import CACHE_SECONDS
from app.scoring.store import any_features_digest

# Rows that are read, and written, at once; and deleted in one transaction.
PAGE_ROWS, STEP_ROWS = 5000, 1000
# Until no server knows a key any more that is gone.
FORGOTTEN_SECONDS = 2 * CACHE_SECONDS
# How far a rebuild is, and what is counted anew.
_LEFT = {"rebuilds", "figures"}
OF_TENANTS = [table for table in metadata.sorted_tables if "tenant" in table.c]
MOVED = [table for table in OF_TENANTS if table.name not in _LEFT]
# What opens a tenant's data.
_OPENING = [api_keys, sessions, setup_links, people]
# What a service makes by itself for a tenant that has nothing yet: its first key, and a link by
# which the first person signs in.
_FROM_THE_START = {"api_keys", "audit_log", "setup_links"}

# The table, and how many of its rows have been copied.
Progress = Callable[[str, int], None]


def no_tenant(tenant: str) -> SetupError:
    """The refusal of a tenant of which nothing is known."""
    return SetupError(
        f"there is no tenant {tenant!r}: `quickstudy keys list` shows those that have keys"
    )


async def check_present(database: Database, tenant: str) -> None:
    """Raise SetupError where nothing is known of a tenant; it may have payments and no key."""
    async with database.read() as connection:
        for table in OF_TENANTS:
            if await _has_rows(connection, table, tenant):
                return
    raise no_tenant(tenant)


async def export_tenant(
    source: Database, target: Database, tenant: str, show: Progress, patience: Patience
) -> dict[str, int]:
    """Copy a tenant as of one moment into an empty database; how many rows of each table.

    Begins anew after the database was away. Raises SetupError where there is no such tenant.
    """

    async def copy() -> dict[str, int]:
        async with source.read() as reading, target.write(aside=True) as writing:
            await refuse_while_rebuilding(reading, tenant)
            return await _copy(reading, writing, tenant, show)

    counts = await patience.run(copy)
    if not any(counts.values()):
        raise no_tenant(tenant)
    await patience.run(lambda: _note(source, tenant, "tenant.exported", counts))
    return counts


async def import_tenant(
    source: Database, target: Database, tenant: str, show: Progress, patience: Patience
) -> dict[str, int]:
    """Copy a tenant of an exported file into a database, all of it or nothing.

    Begins anew after the database was away. Raises SetupError where the file has no such tenant,
    where there is data of one of this name already, or where the database's states are of other
    features.
    """

    async def copy() -> dict[str, int]:
        async with source.read() as reading:
            digest = await any_features_digest(reading)
            async with target.read() as connection:
                await _check_absent(connection, tenant)
                there = await any_features_digest(connection)
            if there is not None and digest is not None and there != digest:
                raise SetupError(
                    f"the file's states are of features {digest}, the database's of {there}: serve "
                    "the same model in both, and run `quickstudy db rebuild` where it is another "
                    "one"
                )
            try:
                async with target.write(aside=True) as writing:
                    counts = await _copy(reading, writing, tenant, show)
                    if not any(counts.values()):
                        raise SetupError(f"the file has no tenant {tenant!r}")
                    return counts
            except (Raced, IntegrityError) as error:
                raise SetupError(
                    f"rows of tenant {tenant!r} have come into the database meanwhile: nothing was "
                    "imported"
                ) from error

    counts = await patience.run(copy)
    await patience.run(lambda: _note(target, tenant, "tenant.imported", counts))
    return counts


async def remove_tenant(
    database: Database, tenant: str, show: Progress, patience: Patience
) -> dict[str, int]:
    """Delete all that is known of a tenant, its keys first; how many rows of each table.

    In steps, so that nobody else waits; it can be run again after it was interrupted. Servers know
    a key for a second after it is gone, and what is sent with it until then is deleted with the
    rest. Raises SetupError where there is no such tenant.
    """
    counts = {table.name: 0 for table in OF_TENANTS}

    async def delete_from(tables: Sequence[Table]) -> None:
        for table in tables:
            delete_some = partial(_delete_some, table=table, tenant=tenant)
            while rows := await patience.run(partial(database.run, delete_some)):
                counts[table.name] += rows
                show(table.name, counts[table.name])

    await delete_from(_OPENING)
    await asyncio.sleep(FORGOTTEN_SECONDS)
    await delete_from(OF_TENANTS)
    if not any(counts.values()):
        raise no_tenant(tenant)
    return counts


async def _copy(
    reading: Connection, writing: Connection, tenant: str, show: Progress
) -> dict[str, int]:
    models: set[str] = set()
    counts: dict[str, int] = {}
    for table in MOVED:
        counts[table.name] = 0
        async for rows in _pages(reading, table, tenant):
            await writing.write_rows(table, rows)
            counts[table.name] += len(rows)
            show(table.name, counts[table.name])
            if table is transactions:
                models |= {row.model for row in rows}
    # Those that have scored for it, so that it can be replayed: another tenant's are not its own.
    kept = select(checkpoints).where(checkpoints.c.model.in_(sorted(models)))
    rows = await reading.read(_row_of(checkpoints), kept)
    await writing.write_rows(checkpoints, rows, ("digest",))
    return counts


async def _pages(connection: Connection, table: Table, tenant: str) -> AsyncIterator[list[Any]]:
    """All rows of a tenant in a table, in the order of their keys."""
    key = list(table.primary_key.columns)
    query = select(table).where(table.c.tenant == tenant)
    after: tuple[Any, ...] | None = None
    while True:
        rows = (await read_page(connection, _row_of(table), query, key, after, PAGE_ROWS)).rows
        if rows:
            yield rows
        if len(rows) < PAGE_ROWS:
            return
        after = tuple(getattr(rows[-1], column.name) for column in key)


@cache
def _row_of(table: Table) -> Callable[[Any], Any]:
    kind: Any = namedtuple("Row", [column.name for column in table.c])  # type: ignore[misc]
    make: Callable[[Any], Any] = kind._make
    return make


async def _check_absent(connection: Connection, tenant: str) -> None:
    for table in MOVED:
        if table.name in _FROM_THE_START:
            continue
        if await _has_rows(connection, table, tenant):
            raise SetupError(
                f"there is a tenant {tenant!r} already, with rows in {table.name}: "
                "`quickstudy tenant remove` deletes it"
            )


async def _has_rows(connection: Connection, table: Table, tenant: str) -> bool:
    query = select(table.c.tenant).where(table.c.tenant == tenant).limit(1)
    return (await connection.execute(query)).first() is not None


async def _delete_some(connection: Connection, table: Table, tenant: str) -> int:
    key = list(table.primary_key.columns)
    some = select(*key).where(table.c.tenant == tenant).limit(STEP_ROWS)
    done = await connection.execute(delete(table).where(tuple_(*key).in_(some)))
    return done.rowcount


async def _note(database: Database, tenant: str, action: Action, counts: dict[str, int]) -> None:
    rows = {name: count for name, count in counts.items() if count}

    async def note(connection: Connection) -> None:
        await audit_store.save_entries(connection, [entry(tenant, action, tenant, after=rows)])

    await database.run(note)

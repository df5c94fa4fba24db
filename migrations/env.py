"""Runs the migrations on the URL that app.db.migrating hands over (or that the settings name)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.db.migrating import create_engine
from app.db.revisions import check_encoding
from app.db.schema import metadata
from app.settings import Settings

# Any fixed number: the advisory lock that lets replicas migrate one after another.
PG_LOCK = 7_261_530_011
PG_LOCK_POLL_SECONDS = 0.1


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        render_as_batch=connection.dialect.name == "sqlite",
        # Both databases can undo DDL: a migration that fails leaves nothing behind, but for indexes
        # that PostgreSQL builds concurrently, before which what came before is committed.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


@asynccontextmanager
async def alone(engine: AsyncEngine) -> AsyncIterator[None]:
    """No other process migrates meanwhile; SQLite sees to that itself, by its one writer.

    The lock is a transaction's on a connection of its own: migrations commit in between. Whoever
    waits for it asks again and again, each time in another transaction: a build of an index waits
    for every one that was there before it, also for one that waits for the lock.
    """
    if engine.dialect.name != "postgresql":
        yield
        return
    async with engine.connect() as holder:
        while not await holder.scalar(
            text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": PG_LOCK}
        ):
            await holder.rollback()
            await asyncio.sleep(PG_LOCK_POLL_SECONDS)
        # The answer is kept, and with it a snapshot that builds wait for, until something else is
        # asked; this needs none.
        await holder.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield


async def migrate_online() -> None:
    engine = create_engine(context.config.attributes.get("url") or Settings().database_url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(check_encoding)
        async with alone(engine), engine.connect() as connection:
            await connection.run_sync(migrate)
            await connection.commit()
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("migrations run on a live database only")
asyncio.run(migrate_online())

"""Runs the migrations on the URL that app.migrating hands over (or that the settings name)."""

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from app.database import create_engine, with_driver
from app.migrating import PG_MIGRATION_LIMITS
from app.settings import Settings
from app.tables import metadata

# Any fixed number: the advisory lock that lets replicas migrate one after another.
PG_LOCK = 7_261_530_011


def migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Another replica's whole migration may have to end first.
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": PG_LOCK})
        limit = PG_MIGRATION_LIMITS["lock_timeout"]
        connection.execute(text(f"SET LOCAL lock_timeout = {limit}"))
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_server_default=True,
        render_as_batch=connection.dialect.name == "sqlite",
        # Both databases can undo DDL: a migration that fails leaves nothing behind.
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_online() -> None:
    url = context.config.attributes.get("url") or Settings().database_url
    engine = create_engine(with_driver(url), PG_MIGRATION_LIMITS)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


if context.is_offline_mode():
    raise SystemExit("migrations run on a live database only")
asyncio.run(migrate_online())

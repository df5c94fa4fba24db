"""The way to another revision of the schema, by Alembic, which serving does without.

`python -m app.db.migrating` brings the settings' database up to date, or prints why it cannot.
"""

import sys
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.db import postgres, sqlite
from app.db.connections import NONE_LEFT, Address, Connections
from app.db.database import is_about_the_connection, with_driver
from app.db.errors import Away, DatabaseUnavailable
from app.db.patience import Patience
from app.db.postgres import LOST
from app.db.revisions import MIGRATIONS
from app.errors import SetupError
from app.ops.background import in_a_thread
from app.settings import Settings

# Of a migration. It waits briefly for locks: all that asks for a table queues behind it meanwhile.
PG_MIGRATION_LIMITS = {"lock_timeout": "800", "statement_timeout": "600000", "jit": "off"}
# Whatever the default of a role or a database is: builds of indexes wait for every snapshot, and
# that of the lock beside them would last for as long as they wait.
PG_ISOLATION = {"default_transaction_isolation": "'read committed'"}


def create_engine(url: str) -> AsyncEngine:
    """SQLAlchemy's engine, with durable commits and explicit transactions."""
    parsed = with_driver(url)
    if parsed.get_backend_name() == "sqlite":
        engine = create_async_engine(parsed, hide_parameters=True)
        sqlite.listen(engine.sync_engine, sqlite.BUSY_MS)
        return engine
    # An index of many rows takes minutes: its end is the server's own limits.
    settings = {**PG_MIGRATION_LIMITS, **PG_ISOLATION}
    connections = Connections(Address(url), settings, bounds_statements=False)
    # The second one holds the lock.
    return postgres.create_engine(connections, most=2)


def migration_config(url: str) -> Config:
    """Alembic's configuration for this database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to `revision`; makes the SQLite file where there is none.

    Raises SetupError when the database is newer than this version, and Away when it is out of
    reach.
    """
    _migrate(url, command.upgrade, revision)


async def upgrade_patiently(url: str, patience: Patience) -> None:
    """The same, once the database is there; raises SetupError where it stays away."""
    await patience.run(lambda: in_a_thread(lambda: upgrade(url)))


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision` ("base" empties the database)."""
    _migrate(url, command.downgrade, revision)


def _migrate(url: str, direction: Any, revision: str) -> None:
    _check_folder(with_driver(url))
    try:
        direction(migration_config(url), revision)
    except CommandError as error:
        raise SetupError(
            f"the database's schema revision is unknown to this version, which is older: {error}"
        ) from error
    except (DBAPIError, DatabaseUnavailable, *LOST) as error:
        # What the server itself says.
        cause = error.__cause__ if isinstance(error, DatabaseUnavailable) else None
        reason = error.orig if isinstance(error, DBAPIError) else cause or error
        # A timeout says nothing of itself.
        why = str(reason) or "no answer in time"
        if isinstance(reason, asyncpg.TooManyConnectionsError):
            why += f"; {NONE_LEFT}"
        kind = Away if _is_away(error) else SetupError
        raise kind(f"the database cannot be migrated: {why}") from error
    except PendingRollbackError as error:
        raise Away(
            "the connection to the database was lost while it was migrated: run it again"
        ) from error


def _is_away(error: Exception) -> bool:
    if isinstance(error, DBAPIError | asyncpg.PostgresError):
        return is_about_the_connection(error)
    return True


def _check_folder(url: URL) -> None:
    """Raises SetupError where SQLite's file cannot be: it would not say why."""
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "").absolute()
        if path.is_dir():
            raise SetupError(f"the database cannot be {path}, which is a folder: name a file in it")
        if not path.parent.is_dir():
            raise SetupError(f"the database cannot be {path}: there is no folder {path.parent}")


if __name__ == "__main__":
    try:
        upgrade(Settings().database_url)
    except SetupError as error:
        print(error)
        sys.exit(1)

"""The schema's revisions: which one a database has, and the way to another."""

from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, PendingRollbackError

from app.db.connections import NONE_LEFT
from app.db.postgres import LOST
from app.db.schema import metadata
from app.errors import SetupError

MIGRATIONS = Path(__file__).parents[2] / "migrations"
# Of a migration. It waits briefly for locks: all that asks for a table queues behind it meanwhile.
PG_MIGRATION_LIMITS = {"lock_timeout": "2000", "statement_timeout": "600000", "jit": "off"}


def current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def newest_revision() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def missing(connection: Connection) -> list[str]:
    """Columns that the schema should have and has not."""
    found = sqlalchemy.inspect(connection).get_multi_columns()
    there = {(table, column["name"]) for (_, table), columns in found.items() for column in columns}
    wanted = [(table.name, column.name) for table in metadata.sorted_tables for column in table.c]
    return [".".join(column) for column in wanted if column not in there]


def migration_config(url: str) -> Config:
    """Alembic's configuration for this database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = url
    return config


def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema up to `revision`; makes the SQLite file where there is none.

    Raises SetupError when the database is newer than this version, or out of reach.
    """
    _migrate(url, command.upgrade, revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision` ("base" empties the database)."""
    _migrate(url, command.downgrade, revision)


def _migrate(url: str, direction: Any, revision: str) -> None:
    try:
        direction(migration_config(url), revision)
    except CommandError as error:
        raise SetupError(
            f"the database's schema revision is unknown to this version, which is older: {error}"
        ) from error
    except (DBAPIError, *LOST) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        # A timeout says nothing of itself.
        why = str(reason) or "no answer in time"
        if isinstance(reason, asyncpg.TooManyConnectionsError):
            why += f"; {NONE_LEFT}"
        raise SetupError(f"the database cannot be migrated: {why}") from error
    except PendingRollbackError as error:
        raise SetupError(
            "the connection to the database was lost while it was migrated: run it again"
        ) from error

"""Which revision of the schema a database has, and which one this version needs."""

from functools import cache
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, text

from app.db.schema import metadata
from app.errors import SetupError

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def current_revision(connection: Connection) -> str | None:
    """None of a database without a schema."""
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


@cache
def newest_revision() -> str:
    """The last one in the folder of migrations, whose files begin with their numbers."""
    newest = max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    return newest.partition("_")[0]


def missing(connection: Connection) -> list[str]:
    """Columns that the schema should have and has not."""
    found = sqlalchemy.inspect(connection).get_multi_columns()
    there = {(table, column["name"]) for (_, table), columns in found.items() for column in columns}
    wanted = [(table.name, column.name) for table in metadata.sorted_tables for column in table.c]
    return [".".join(column) for column in wanted if column not in there]


def check_encoding(connection: Connection) -> None:
    """Raises SetupError for a new PostgreSQL database that cannot hold every character.

    Ids are of any: each payment with another one would be refused, for as long as it lasts.
    """
    if connection.dialect.name != "postgresql" or current_revision(connection) is not None:
        return
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise SetupError(
            f"the database's encoding is {encoding}, which does not hold every character: make it "
            "with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )

"""Which revision of the schema a database has, and which one this version needs."""

from functools import cache
from pathlib import Path

import sqlalchemy
from sqlalchemy import Connection, text

from app.db.schema import metadata

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

"""What PostgreSQL plans by before it has looked at a table: keys that differ, of any one tenant.

Without statistics it takes a tenant for one row in 200, and reads all of its index to find a
payment; a plan made then may stay until the statistics after the next ones.
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

ROWS = 1000


def assume_keys(tables: Sequence[str]) -> None:
    """Look at these tables, for a migration: at made-up rows where one is empty."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    # Nobody waits for these: what has rows comes first.
    for table in tables:
        if not _is_empty(connection, table):
            op.execute(f"ANALYZE {table}")
    for table in tables:
        if _is_empty(connection, table):
            # A row that comes meanwhile would go with the others.
            op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            if _is_empty(connection, table):
                _pretend(connection, table)
            else:
                op.execute(f"ANALYZE {table}")


def _is_empty(connection: sa.Connection, table: str) -> bool:
    return not connection.scalar(sa.text(f"SELECT EXISTS (SELECT FROM {table})"))


def _pretend(connection: sa.Connection, table: str) -> None:
    """Look at rows that are gone again."""
    columns = sa.inspect(connection).get_columns(table)
    # Whichever tenant it is, all of the table: one that was seen would be the only one.
    op.execute(f"ALTER TABLE {table} ALTER COLUMN tenant SET (n_distinct = 1)")
    required = [column for column in columns if _is_key(column) or not column["nullable"]]
    names = ", ".join(column["name"] for column in required)
    values = ", ".join(map(_value, required))
    op.execute(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM generate_series(1, {ROWS}) AS n"
    )
    # Of nothing else: by times like these nothing would be of this century.
    op.execute(
        f"ANALYZE {table} ({', '.join(column['name'] for column in required if _is_key(column))})"
    )
    # The rows go, what was seen of them stays.
    op.execute(f"TRUNCATE {table}")
    op.execute(f"ALTER TABLE {table} ALTER COLUMN tenant RESET (n_distinct)")


def _is_key(column: Any) -> bool:
    name: str = column["name"]
    return name == "tenant" or name.endswith("_id")


def _value(column: Any) -> str:
    type_ = column["type"]
    if isinstance(type_, sa.Boolean):
        return "false"
    if isinstance(type_, sa.LargeBinary):
        return "''"
    # Kinds are few, and of no use to find a row by.
    return "'kind'" if column["name"] == "kind" else "n"

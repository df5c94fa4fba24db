"""Indexes on tables that are in use, for migrations: neither reads nor writes wait for them.

On PostgreSQL they are built and dropped CONCURRENTLY, which takes longer, and cannot be part of a
transaction: what the migrations before have changed is committed first. So a migration does this
before anything else, and can be run again after it was interrupted. SQLite has one writer: whatever
writes waits until the migration is committed.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from alembic import op
from sqlalchemy import Connection, text

# A build waits for every transaction that was there before it, and nobody waits for the build.
# Milliseconds.
PG_BUILD_LIMITS = {"lock_timeout": "600000", "statement_timeout": "0"}
POLL_SECONDS = 0.2


def build_index(name: str, table: str, columns: Sequence[str], where: str | None = None) -> None:
    """Build an index, in the place of one of the same name where there is one.

    `where` is the condition of a partial index. Until the new index is complete, the old one stays.
    """
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, table, if_exists=True)
        op.create_index(name, table, list(columns), sqlite_where=_condition(where))
        return
    new, old = f"{name}_new", f"{name}_old"
    with _concurrently(table):
        # Of a build that was interrupted, an invalid index is left.
        for leftover in (new, old):
            op.drop_index(leftover, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            new,
            table,
            list(columns),
            postgresql_where=_condition(where),
            postgresql_concurrently=True,
        )
    is_there = text("SELECT to_regclass(:name) IS NOT NULL")
    has_old = op.get_bind().scalar(is_there, {"name": name})
    if has_old:
        op.execute(f"ALTER INDEX {name} RENAME TO {old}")
    op.execute(f"ALTER INDEX {new} RENAME TO {name}")
    if has_old:
        drop_index(old, table)


def drop_index(name: str, table: str) -> None:
    """Drop an index, where there is one."""
    if op.get_bind().dialect.name != "postgresql":
        op.drop_index(name, table, if_exists=True)
        return
    with _concurrently(table):
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def _condition(where: str | None) -> object:
    return None if where is None else text(where)


@contextmanager
def _concurrently(table: str) -> Iterator[None]:
    """Outside of any transaction, and after any build that a killed process has left behind."""
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        before = {name: connection.scalar(text(f"SHOW {name}")) for name in PG_BUILD_LIMITS}
        _limit(connection, PG_BUILD_LIMITS)
        # Each would wait for the other, if this one waited in a statement.
        while connection.scalar(text(_IS_BUILDING), {"table": table}):
            time.sleep(POLL_SECONDS)
        yield
        # Not after an error, which ends the connection with the migration.
        _limit(connection, before)


_IS_BUILDING = """
SELECT EXISTS (
    SELECT FROM pg_stat_progress_create_index
    WHERE datname = current_database() AND relid = to_regclass(:table)
)"""


def _limit(connection: Connection, limits: dict[str, str]) -> None:
    for name, value in limits.items():
        connection.execute(
            text("SELECT set_config(:name, :value, false)"), {"name": name, "value": value}
        )

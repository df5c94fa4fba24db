"""All that a database holds, in one text: equal texts, and a request has changed nothing."""

from typing import Any

import numpy as np
from sqlalchemy import Table, select, text

from app.db.database import Database
from app.db.schema import checkpoints, metadata
from app.learner.states import Floats, States

# What changes without a request: when a key was last seen, what was delivered.
RESTLESS = {
    "api_keys": {"last_used_at_us"},
    "outbox": {"attempts", "next_at_us", "last_error"},
}
# Megabytes, which take as long as fifty requests to read: of them the length alone.
LARGE = {"checkpoints": {"description", "weights"}}


async def contents(database: Database) -> dict[str, tuple[Any, ...]]:
    """By table: how many rows there are, and what is in them."""
    one_of = _sqlite if database.is_sqlite else _postgres
    query = " UNION ALL ".join(one_of(table) for table in metadata.sorted_tables)
    async with database.glance() as connection:
        return {row[0]: tuple(row[1:]) for row in await connection.execute(text(query))}


async def kept_checkpoints(database: Database) -> list[tuple[Any, ...]]:
    """The rows of which `contents` has lengths alone."""
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(select(checkpoints))]


def _names(table: Table) -> list[str]:
    return [column.name for column in table.c if column.name not in RESTLESS.get(table.name, ())]


def _sqlite(table: Table) -> str:
    row = " || '|' || ".join(
        f"length({name})" if name in LARGE.get(table.name, ()) else f"quote({name})"
        for name in _names(table)
    )
    rows = f"SELECT {row} AS one FROM {table.name} ORDER BY one"
    return f"SELECT '{table.name}', count(*), group_concat(one, ';') FROM ({rows})"


def _postgres(table: Table) -> str:
    columns = [
        f"octet_length({name}) AS {name}" if name in LARGE.get(table.name, ()) else name
        for name in _names(table)
    ]
    rows = f"SELECT {', '.join(columns)} FROM {table.name}"
    return (
        f"SELECT '{table.name}', count(*), md5(string_agg(one::text, ';' ORDER BY one::text)) "
        f"FROM ({rows}) one"
    )


def numbers_of(state: bytes) -> Floats:
    """The two times and all sums of a state, as a database has it."""
    states = States.from_bytes([state], int.from_bytes(state[1:5], "little"))
    times = [states.time_us_G[0], states.previous_us_G[0]]
    return np.concatenate([times, states.before_GD[0], states.at_GD[0]])

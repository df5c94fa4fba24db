"""PostgreSQL as the service uses it: hot statements go straight to the driver, writes together."""

import re
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import asyncpg
from sqlalchemy import Connection, CursorResult, Executable, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.db.connections import Session

Answer = TypeVar("Answer")
# Of a row among a tenant's: a text, or one for each column.
Key: TypeAlias = str | tuple[str, ...]
RowKey: TypeAlias = tuple[str, str, Key]

# Few rows are found by their keys: a plan with an array of keys would be made each time, and no
# table is so small that all of it should be looked at for each of the keys.
BY_KEYS = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
PARAMETER = re.compile(r"\$(\d+)")
# What a driver raises whose connection is no more.
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# Keys of which it is remembered that they have a row: some ten MB.
MOST_KNOWN = 50_000


class Begin(NamedTuple):
    """How a transaction begins, and settings that hold in it alone."""

    text: str
    settings: Mapping[str, str]


WRITES = Begin("BEGIN", {})
# What is only read may be all there is, so a plan is made for what is asked. And two statements
# must not see an account's revision and the labels of the next one.
READS = Begin(
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    {"plan_cache_mode": "auto", "enable_seqscan": "on"},
)


class KnownRows:
    """Which rows are there to be locked, as far as this process has seen: a hint, no more.

    A row that is said to be there may have been erased meanwhile.
    """

    def __init__(self) -> None:
        self._keys: set[RowKey] = set()

    def absent(self, table: Table, tenant: str, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that were never seen, in their order."""
        return [key for key in keys if (table.name, tenant, key) not in self._keys]

    def add(self, keys: Iterable[RowKey]) -> None:
        """By table, tenant and key."""
        if len(self._keys) > MOST_KNOWN:
            self._keys.clear()
        self._keys.update(keys)

    def discard(self, table: Table, tenant: str, keys: Iterable[Key]) -> None:
        self._keys.difference_update((table.name, tenant, key) for key in keys)


class Asked(NamedTuple):
    """A question; to await it is to leave it to `Straight.together`, which has the rows."""

    text: str
    parameters: Sequence[Any]
    tables: frozenset[Table]

    def __await__(self) -> Generator["Asked", list[Any], list[Any]]:
        return (yield self)


class Straight:
    """A connection whose hot statements go past SQLAlchemy, which takes longer than the server.

    Writes wait until a question reads their table, or for the commit: then they go together, as one
    statement. So an error of a write may come later than it was asked for, but inside the
    transaction.
    """

    def __init__(self, connection: AsyncConnection, known: KnownRows) -> None:
        self._connection = connection
        self._raw = raw_connection(connection)
        self._waiting: dict[Table, tuple[str, Sequence[Any]]] = {}
        self.is_gathering = False
        self.known = known
        # Inserted here, and nobody else sees them before the commit.
        self.inserted: list[RowKey] = []
        self.dialect = connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        await self.flush()
        return await self._connection.execute(statement, parameters)

    async def run_sync(self, work: Callable[[Connection], Answer]) -> Answer:
        await self.flush()
        return await self._connection.run_sync(work)

    async def fetch(
        self, text: str, parameters: Sequence[Any], tables: frozenset[Table]
    ) -> list[Any]:
        """The rows of a query that reads these tables, as the driver gives them."""
        asked = Asked(text, parameters, tables)
        if self.is_gathering:
            return await asked
        [rows] = await self._answers([asked])
        return rows

    async def together(self, questions: Sequence[Coroutine[Any, Any, Any]]) -> list[Any]:
        """What coroutines return that ask by `fetch`, wait for nothing else, and lock nothing.

        Their first questions are asked as one statement, then the next ones of those that have any:
        a question to the server takes longer than its answer.
        """
        returned: list[Any] = [None] * len(questions)
        rows: dict[int, Any] = dict.fromkeys(range(len(questions)))
        self.is_gathering = True
        try:
            while rows:
                asked = {}
                for n, answer in rows.items():
                    try:
                        asked[n] = questions[n].send(answer)
                    except StopIteration as end:
                        returned[n] = end.value
                rows = dict(zip(asked, await self._answers(list(asked.values())), strict=True))
        finally:
            self.is_gathering = False
            for question in questions:
                question.close()
        return returned

    async def _answers(self, asked: Sequence[Asked]) -> list[list[Any]]:
        for one in asked:
            if not one.tables.isdisjoint(self._waiting):
                await self.flush()
        if len(asked) < 2:
            return [await self._raw.fetch(one.text, *one.parameters) for one in asked]
        values = [value for one in asked for value in one.parameters]
        [row] = await self._raw.fetch(_asking(tuple(one.text for one in asked)), *values)
        return [rows or [] for rows in row]

    async def write(self, table: Table, text: str, parameters: Sequence[Any]) -> None:
        """Change a table, before anything reads it. Of one table, one change waits at a time."""
        if table in self._waiting:
            await self.flush()
        self._waiting[table] = text, parameters

    async def flush(self) -> None:
        """Write what waits to be written."""
        if self._waiting:
            texts, parameters = zip(*self._waiting.values(), strict=True)
            self._waiting = {}
            values = [value for given in parameters for value in given]
            await self._raw.execute(_together(texts), *values)


@lru_cache(maxsize=256)
def _together(texts: tuple[str, ...]) -> str:
    """Several changes, each with parameters from $1 on, as one statement."""
    if len(texts) == 1:
        return texts[0]
    return f"WITH {_parts(texts)} SELECT"


@lru_cache(maxsize=256)
def _asking(texts: tuple[str, ...]) -> str:
    """Several questions as one, the answer to which is a row of their rows, in an array each."""
    arrays = [f"(SELECT array_agg(part_{n}) FROM part_{n})" for n in range(len(texts))]
    return f"WITH {_parts(texts)} SELECT {', '.join(arrays)}"


def _parts(texts: Iterable[str]) -> str:
    parts, before = [], 0
    for n, text in enumerate(texts):
        places = [int(place) for place in PARAMETER.findall(text)]
        shifted = PARAMETER.sub(lambda found, by=before: f"${int(found[1]) + by}", text)  # type: ignore[misc]
        parts.append(f"part_{n} AS ({shifted})")
        before += max(places)
    return ", ".join(parts)


@asynccontextmanager
async def transaction(
    engine: AsyncEngine, known: KnownRows, begin: Begin
) -> AsyncIterator[AsyncConnection]:
    """A transaction that is committed when the block ends.

    The engine's connections begin none themselves.
    """
    async with engine.connect() as connection:
        raw, is_over = raw_connection(connection), False
        try:
            await raw.execute(_beginning(begin, raw))
            straight = Straight(connection, known)
            yield cast(AsyncConnection, straight)
            await straight.flush()
            await raw.execute("COMMIT")
            is_over = True
            known.add(straight.inserted)
        finally:
            if not is_over:
                await _roll_back(raw)


def _beginning(begin: Begin, raw: Session) -> str:
    """One message: where a pooler stands between, all settings hold for a transaction alone."""
    settings = {**raw.settings, **begin.settings} if raw.is_pooled else begin.settings
    return "; ".join([begin.text, *(f"SET LOCAL {name} = {settings[name]}" for name in settings)])


async def _roll_back(raw: asyncpg.Connection) -> None:
    """End a transaction that failed, wherever; a connection that cannot is closed."""
    is_over = False
    try:
        with suppress(*LOST):
            await raw.execute("ROLLBACK")
            is_over = True
    finally:
        # Also where whoever waits is cancelled: nobody else may go on in this transaction.
        if not is_over:
            raw.terminate()


def raw_connection(connection: AsyncConnection) -> Session:
    sync = connection.sync_connection
    assert sync is not None
    return cast(Session, sync.connection.driver_connection)

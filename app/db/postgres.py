"""PostgreSQL as the service uses it: hot statements go straight to the driver, writes together."""

import asyncio
from collections.abc import (
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias, cast

import asyncpg
import sqlalchemy
from sqlalchemy import CursorResult, Delete, Executable, Insert, Select, Table, Update, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import await_only

from app.db.connection import Answer, Connection, Driver, Locked, Query, Row, parts
from app.db.connections import Connections, Session
from app.db.errors import Raced
from app.db.statements import (
    PARAMETER,
    Key,
    Question,
    absent,
    key_in,
    locking,
    locking_one_each,
    merging,
    question_of,
    updating_each,
    wanted_arrays,
)
from app.ops.background import LONGEST_PAUSE_SECONDS, TaskHealth
from app.ops.turns import Turns

# By table, tenant and key.
RowKey: TypeAlias = tuple[str, str, Key]

# What a driver raises whose connection is no more.
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
# How long a free connection is waited for.
TURN_SECONDS = 5
# Keys of which it is remembered that they have a row: some ten MB.
MOST_KNOWN = 50_000
# Of many rows so many are decoded before others have the event loop.
DECODED_ROWS = 200


class Begin(NamedTuple):
    """How a transaction begins, and settings that hold in it alone."""

    text: str
    settings: Mapping[str, str]


# Both say how far they are isolated: a role or a database may have another default.
WRITES = Begin("BEGIN ISOLATION LEVEL READ COMMITTED", {})
# What is only read may be all there is, so a plan is made for its values. And two statements
# must not see an account's revision and the labels of the next one.
READS = Begin(
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    {"plan_cache_mode": "auto", "enable_seqscan": "on"},
)


class KnownRows:
    """Which rows are there to be locked, as far as this process has seen: a hint, no more.

    A row that was there may have been erased meanwhile.
    """

    def __init__(self) -> None:
        self._keys: set[RowKey] = set()

    def absent(self, table: Table, tenant: str, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys that were never seen, in their order."""
        return [key for key in keys if (table.name, tenant, key) not in self._keys]

    def add(self, keys: Iterable[RowKey]) -> None:
        if len(self._keys) > MOST_KNOWN:
            self._keys.clear()
        self._keys.update(keys)

    def discard(self, table: Table, tenant: str, keys: Iterable[Key]) -> None:
        self._keys.difference_update((table.name, tenant, key) for key in keys)


class Pending(NamedTuple):
    """A question; to await it is to leave it to `together`, which has the rows."""

    text: str
    parameters: Sequence[Any]
    tables: frozenset[Table]

    def __await__(self) -> Generator["Pending", list[Any], list[Any]]:
        return (yield self)


class PostgresConnection(Connection):
    """asyncpg's connection; what is not hot goes to it through SQLAlchemy's, which takes longer.

    Writes wait until a query reads their table, or for the commit: then they go together, as one
    statement. So an error of a write may come later than the write, but inside the transaction.
    """

    def __init__(self, connection: AsyncConnection, stored: KnownRows) -> None:
        self._connection = connection
        self._raw = raw_connection(connection)
        self._waiting: dict[Table, tuple[str, Sequence[Any]]] = {}
        self._is_gathering = False
        self._stored = stored
        # Inserted here, and nobody else sees them before the commit.
        self.inserted: list[RowKey] = []
        self.dialect = connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        await self.flush()
        return await self._connection.execute(statement, parameters)

    async def run_sync(self, function: Callable[[sqlalchemy.Connection], Answer]) -> Answer:
        await self.flush()
        return await self._connection.run_sync(function)

    async def fetch(
        self,
        make: Callable[[Iterable[Any]], Row],
        query: Select[Any],
        tenant: str,
        wanted: Iterable[Key] = (),
        are_many: bool = False,
        **values: Any,
    ) -> list[Row]:
        question = question_of(query, self.dialect)
        arrays = wanted_arrays(list(wanted))
        parameters = question.parameters({"of_tenant": tenant, **arrays, **values})
        pending = Pending(question.text, parameters, question.tables)
        if self._is_gathering:
            return list(map(make, await pending))
        if are_many:
            return await self._fetch_many(make, pending)
        [rows] = await self._answers([pending])
        return list(map(make, rows))

    async def _fetch_many(
        self, make: Callable[[Iterable[Any]], Row], question: Pending
    ) -> list[Row]:
        """Some rows after others: all that arrive together are decoded while the loop waits."""
        await self._flush_for(question)
        found: list[Row] = []
        async with AsyncExitStack() as stack:
            if not self._raw.is_in_transaction():
                # A cursor lives as long as its transaction.
                await stack.enter_async_context(_begun(self._raw, "BEGIN READ ONLY"))
            # Without a name, which might be another's behind a pooler.
            statement = await self._raw.prepare(question.text, name="")
            cursor = await statement.cursor(*question.parameters)
            while rows := await cursor.fetch(DECODED_ROWS):
                found += map(make, rows)
        return found

    async def _insert(
        self,
        table: Table,
        text: str,
        ordered: Callable[[Any], tuple[Any, ...]],
        rows: Sequence[Any],
    ) -> None:
        await self._write(table, text, ordered(list(zip(*rows, strict=True))))

    async def _copy(
        self, table: Table, rows: Sequence[Any], key: tuple[str, ...], kept: tuple[str, ...]
    ) -> None:
        await self.flush()
        kind: Any = type(rows[0])
        copy, names = self._raw.copy_records_to_table, list(kind._fields)
        if not key:
            await copy(table.name, records=rows, columns=names)
            return
        beside = merging(table, kind, key, kept, self.dialect)
        await self._raw.execute(beside.create)
        await copy(beside.copied, records=rows, columns=names)
        await self._raw.execute(f"{beside.merge}; DROP TABLE {beside.copied}")

    async def update_rows(self, statement: Update, rows: Iterable[Mapping[str, Any]]) -> None:
        question = updating_each(statement, self.dialect)
        for some in parts(rows):
            columns = zip(*map(question.parameters, some), strict=True)
            await self._change(question, [list(column) for column in columns])

    async def change(
        self, statement: Insert | Update | Delete, tenant: str, wanted: Sequence[Key], **values: Any
    ) -> None:
        if wanted:
            question = question_of(statement, self.dialect)
            row = {"of_tenant": tenant, **wanted_arrays(wanted), **values}
            await self._change(question, question.parameters(row))

    async def lock(self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]) -> list[Any]:
        if not wanted:
            return []
        await self._insert_absent(table, tenant, wanted)
        rows = await self.fetch(kind._make, locking(table, kind), tenant, wanted)
        self._check_none_is_erased(table, tenant, wanted, map(key_in(table, kind), rows))
        return rows

    async def lock_one_each(
        self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]
    ) -> list[Locked]:
        if not wanted:
            return []
        await self._insert_absent(table, tenant, wanted)
        both: Callable[[Iterable[Any]], tuple[Any, ...]] = tuple
        found, fields = [], len(kind._fields)
        for values in await self.fetch(both, locking_one_each(table, kind), tenant, wanted):
            row, before = kind._make(values[:fields]), kind._make(values[fields:])
            found.append(Locked(row, before if before.tenant is not None else None))
        locked = (lock.row for lock in found if lock.row.tenant is not None)
        self._check_none_is_erased(table, tenant, wanted, map(key_in(table, kind), locked))
        return found

    async def _insert_absent(self, table: Table, tenant: str, wanted: Sequence[Key]) -> None:
        """Insert the rows of these keys that are not known to be there, and perhaps are.

        A row that does not exist cannot be locked.
        """
        if new := self._stored.absent(table, tenant, wanted):
            text, arrays = absent(table, self.dialect), wanted_arrays(new)
            await self._write(table, text, (tenant, *arrays.values()))
            self.inserted += [(table.name, tenant, key) for key in new]

    def _check_none_is_erased(
        self, table: Table, tenant: str, wanted: Sequence[Key], found: Iterable[Key]
    ) -> None:
        """Raises Raced where a row of one of the keys has not been found."""
        if len(set(found)) < len(wanted):
            self._stored.discard(table, tenant, wanted)
            raise Raced

    # The overloads are the base class's.
    async def together(self, *queries: Query[Any]) -> Any:
        """Their first questions go as one statement, then the next ones of those that have
        any: a question to the server takes longer than its answer.
        """
        returned: list[Any] = [None] * len(queries)
        rows: dict[int, Any] = dict.fromkeys(range(len(queries)))
        self._is_gathering = True
        try:
            while rows:
                pending = {}
                for n, answer in rows.items():
                    try:
                        pending[n] = queries[n].send(answer)
                    except StopIteration as end:
                        returned[n] = end.value
                rows = dict(zip(pending, await self._answers(list(pending.values())), strict=True))
        finally:
            self._is_gathering = False
            for query in queries:
                query.close()
        return tuple(returned)

    async def _answers(self, pending: Sequence[Pending]) -> list[list[Any]]:
        for question in pending:
            await self._flush_for(question)
        if len(pending) < 2:
            return [
                await self._raw.fetch(question.text, *question.parameters) for question in pending
            ]
        values = [value for question in pending for value in question.parameters]
        [row] = await self._raw.fetch(
            _asking(tuple(question.text for question in pending)), *values
        )
        return [rows or [] for rows in row]

    async def _change(self, question: Question, parameters: Sequence[Any]) -> None:
        await self._flush_for(question)
        assert question.changes is not None
        await self._write(question.changes, question.text, parameters)

    async def _write(self, table: Table, text: str, parameters: Sequence[Any]) -> None:
        """Change a table, before anything reads it. Of one table, one change waits at a time."""
        if table in self._waiting:
            await self.flush()
        self._waiting[table] = text, parameters

    async def _flush_for(self, question: Pending | Question) -> None:
        """Write what waits, where the question reads it."""
        if not question.tables.isdisjoint(self._waiting):
            await self.flush()

    async def flush(self) -> None:
        """Write what waits to be written."""
        if self._waiting:
            texts, parameters = zip(*self._waiting.values(), strict=True)
            self._waiting = {}
            values = [value for row in parameters for value in row]
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


class PostgresDriver(Driver):
    """PostgreSQL's connections; SQLAlchemy keeps those that are idle."""

    has_changed = True

    def __init__(self, connections: Connections, most: int) -> None:
        self._connections = connections
        self._engine = create_engine(connections, most)
        # Transactions are begun here.
        event.listen(self._engine.sync_engine, "connect", _begin_nothing)
        self._stored = KnownRows()
        # The pool itself serves whoever came first, and so whoever came most.
        self._turns = Turns(most)

    def write(self, aside: bool) -> AbstractAsyncContextManager[Connection]:
        return self._transaction(WRITES)

    def read(self) -> AbstractAsyncContextManager[Connection]:
        return self._transaction(READS)

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[Connection]:
        if self._connections.is_pooled is not False:
            # Outside of a transaction a pooler may lead each message to another server process.
            async with self.read() as connection:
                yield connection
            return
        async with self._lent() as lent:
            yield PostgresConnection(lent, self._stored)

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[AsyncConnection]:
        """A connection, once it is this tenant's turn; raises TimeoutError where it is not soon."""
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(TURN_SECONDS):
                await stack.enter_async_context(self._turns.one())
            yield await stack.enter_async_context(self._engine.connect())

    @asynccontextmanager
    async def _transaction(self, begin: Begin) -> AsyncIterator[Connection]:
        async with self._lent() as lent:
            raw, connection = raw_connection(lent), PostgresConnection(lent, self._stored)
            async with _begun(raw, _beginning(begin, raw)):
                yield connection
                await connection.flush()
            self._stored.add(connection.inserted)

    @property
    def background(self) -> list[TaskHealth]:
        return [self._connections.breaker.health]

    @property
    def is_recovering(self) -> bool:
        return self._connections.breaker.was_open_within(2 * LONGEST_PAUSE_SECONDS)

    @property
    def connections_in_use(self) -> int:
        return cast(QueuePool, self._engine.pool).checkedout()

    @property
    def history(self) -> str:
        return self._connections.history

    def watched(self) -> AbstractContextManager[None]:
        return self._connections.breaker.transaction()

    def fail_over(self) -> None:
        # All connections lead to what was the primary: the next ones find the new one.
        self._connections.cut()

    async def close(self) -> None:
        await self._connections.breaker.close()
        await self._engine.dispose()


def create_engine(connections: Connections, most: int) -> AsyncEngine:
    """SQLAlchemy's engine, of at most so many connections."""
    engine: AsyncEngine = create_async_engine(
        "postgresql+asyncpg://",
        creator=lambda: _opened(engine, connections),
        # Errors are logged, and statements hold what callers sent.
        hide_parameters=True,
        # A connection more is closed again, and costs more than what it was opened for.
        pool_size=most,
        max_overflow=0,
        pool_timeout=TURN_SECONDS,
    )
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _opened(engine: AsyncEngine, connections: Connections) -> Any:
    """A connection with the face that SQLAlchemy gives it."""
    session = await_only(connections.open())

    async def opened() -> Session:
        return session

    # Statements with names would be another's who comes to the same process by a pooler.
    unnamed = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
    driver: Any = engine.sync_engine.dialect.dbapi
    return driver.connect(async_creator_fn=opened, **(unnamed if session.is_pooled else {}))


def _begin_nothing(dbapi_connection: Any, *_: object) -> None:
    dbapi_connection.autocommit = True


def _refuse_closed(dbapi_connection: Any, *_: object) -> None:
    """The pool opens another one: a restart of the server is no caller's trouble."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def _beginning(begin: Begin, raw: Session) -> str:
    """One message: where a pooler stands between, all settings hold for a transaction alone."""
    settings = {**raw.settings, **begin.settings} if raw.is_pooled else begin.settings
    return "; ".join([begin.text, *(f"SET LOCAL {name} = {settings[name]}" for name in settings)])


@asynccontextmanager
async def _begun(raw: asyncpg.Connection, text: str) -> AsyncIterator[None]:
    """A transaction that begins with this text, committed when the block ends.

    asyncpg's own stays begun where whoever waits is cancelled in its first or its last statement,
    and the pool would lend the connection to others as it is.
    """
    is_over = False
    try:
        await raw.execute(text)
        yield
        await raw.execute("COMMIT")
        is_over = True
    finally:
        if not is_over:
            await _roll_back(raw)


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

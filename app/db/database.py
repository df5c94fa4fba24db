"""One database, SQLite or PostgreSQL: connections, transactions, schema revision.

Statements stand beside the subject that asks them; here is only what differs between the two.
"""

import asyncio
import contextvars
import logging
import math
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy import delete, event, func, insert, make_url, or_, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from app.db import migrating, postgres, sqlite
from app.db.connections import CONNECT_SECONDS, Address, Connections, Session
from app.db.errors import DatabaseUnavailable
from app.db.schema import rebuilds, write_probes
from app.errors import SetupError
from app.ops.background import LONGEST_PAUSE_SECONDS, TaskHealth
from app.settings import MOST_CONNECTIONS
from app.times import now_us

logger = logging.getLogger("quickstudy")
Answer = TypeVar("Answer")

# Milliseconds. A statement of a batch takes a few; a lock is held for one batch.
PG_SETTINGS = {
    "lock_timeout": "5000",
    "statement_timeout": "10000",
    "jit": "off",
    **postgres.BY_KEYS,
}
# Readers wait for no writer, only for a process that has the file to itself or repairs it; and a
# glance keeps the whole loop waiting.
SQLITE_READ_MS, SQLITE_GLANCE_MS = 2_000, 20
# SQLite's codes for a file that is locked, that cannot be written, read or opened, or is damaged;
# and what either driver says of a connection that is closed.
SQLITE_AWAY = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
CLOSED = "clos"
# So many of many rows at once; the connections of glances are left to others.
SURVEYS = 4
READ_ONLY, DISK_FULL, TOO_MANY_CONNECTIONS = "25006", "53100", "53300"
# Readiness: how long a commit speaks for the next, how long one may take, how much is written (a
# score is about as much), and when rows of processes that are gone are deleted.
FRESH_SECONDS, READY_SECONDS, PROBE_BYTES, STALE_US = 1.0, 2.0, 64 << 10, 24 * 3_600_000_000
# deadlock_detected, serialization_failure, lock_not_available
RETRYABLE = frozenset({"40P01", "40001", "55P03"})

# Each time another replica's batch has got through, so that this one's turn comes.
ATTEMPTS = 10


class Raced(Exception):
    """Another writer came first: the transaction is to be run again from its start."""


class Violated(Raced):
    """A constraint was violated: by a race, unless the same happens again.

    `constraint` is its name, or SQLite's words for it; `details` adds the values, where they are
    known.
    """

    def __init__(self, error: IntegrityError | asyncpg.IntegrityConstraintViolationError) -> None:
        driver: Any = error
        if isinstance(error, IntegrityError):
            # SQLAlchemy wraps the driver's error, and its adapter of asyncpg that one's.
            driver = getattr(error.orig, "__cause__", None) or error.orig
        self.constraint = getattr(driver, "constraint_name", None) or str(driver)
        self.details = self.constraint, getattr(driver, "detail", None)
        super().__init__(self.constraint)


class Database:
    """The connections of one process. `write` and `read` each hold one transaction."""

    def __init__(self, url: str, pg_connections: int = MOST_CONNECTIONS) -> None:
        self.url = with_driver(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._connections = None if self.is_sqlite else Connections(Address(url), PG_SETTINGS)
        self.engine = create_engine(
            self.url, self._connections, pg_connections, sqlite_busy_ms=SQLITE_READ_MS
        )
        if self._connections:
            # The service's transactions are begun by `app.db.postgres`.
            event.listen(self.engine.sync_engine, "connect", _begin_nothing)
        self._known = postgres.KnownRows()
        self._writer = sqlite.Writer(self.url) if self.is_sqlite else None
        self._surveys = asyncio.Semaphore(SURVEYS)
        self._glancing = (
            # One more is opened in place; to wait for one would be to keep the loop from whoever
            # has it.
            sqlite.create_in_place(self.url, SQLITE_GLANCE_MS, max_overflow=-1)
            if self.is_sqlite
            else None
        )
        self._readiness = Readiness(self)

    @property
    def background(self) -> list[TaskHealth]:
        """How the tasks fare that this runs beside what it is asked."""
        breaker = [self._connections.breaker.health] if self._connections else []
        return [*breaker, *([self._writer.checkpoints.health] if self._writer else [])]

    @property
    def is_recovering(self) -> bool:
        """Whether tasks that failed for want of PostgreSQL have not had the time to run again."""
        recovery = 2 * LONGEST_PAUSE_SECONDS
        return bool(self._connections and self._connections.breaker.was_open_within(recovery))

    @asynccontextmanager
    async def write(self, aside: bool = False) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block ends.

        One about many rows is to be `aside`: SQLite's statements then leave the event loop alone.
        Raises Raced when it lost against another writer, DatabaseUnavailable when the
        database cannot be reached or does not answer in time.
        """
        with self._readiness.watched(), self._watched(), self._translated():
            begun = self._writer.begin(aside) if self._writer else self._begun(postgres.WRITES)
            async with begun as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database, and waits for no writer."""
        with self._watched(), self._translated():
            if not self.is_sqlite:
                async with self._begun(postgres.READS) as connection:
                    yield connection
                return
            async with self.engine.connect() as connection:
                await connection.execution_options(reads_only=True)
                yield connection

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[AsyncConnection]:
        """`read`, for one question: without a hop to SQLite's driver, or a transaction."""
        if self._glancing is None:
            async with self._glanced() as connection:
                yield connection
            return
        with self._translated(), self._glancing.connect() as glancing:
            glancing.execution_options(reads_only=True)
            raw = cast(sqlite3.Connection, glancing.connection.dbapi_connection)
            in_place = sqlite.InPlace(raw, glancing.dialect, lambda: glancing)
            yield cast(AsyncConnection, in_place)

    @asynccontextmanager
    async def _glanced(self) -> AsyncIterator[AsyncConnection]:
        assert self._connections
        if self._connections.is_pooled is not False:
            # Outside of a transaction a pooler may lead each message to another server process.
            async with self.read() as connection:
                yield connection
            return
        with self._watched(), self._translated():
            async with self.engine.connect() as connection:
                yield self._straight(connection)

    @asynccontextmanager
    async def survey(self) -> AsyncIterator[AsyncConnection]:
        """`read`, for many rows: they are made into what is asked for beside the event loop."""
        if self._glancing is None:
            async with self.read() as connection:
                yield connection
            return
        async with self._surveys:
            with self._translated(), self._glancing.connect() as surveying:
                raw = cast(sqlite3.Connection, surveying.connection.dbapi_connection)
                surveying.execution_options(reads_only=True)
                surveying.exec_driver_sql("SELECT 1")  # Begins the transaction.
                in_place = sqlite.InPlace(raw, surveying.dialect, lambda: surveying, aside=True)
                yield cast(AsyncConnection, in_place)

    async def run(
        self, work: Callable[[AsyncConnection], Awaitable[Answer]], aside: bool = False
    ) -> Answer:
        """`work` in a transaction, committed when this returns; run again when it was raced.

        Raises DatabaseUnavailable like `write`, or when it is raced again and again, and the
        driver's own error where it violates the same constraint by the same values twice: then
        nobody else's row explains it.
        """
        before = None
        for _ in range(ATTEMPTS):
            try:
                async with self.write(aside) as connection:
                    return await work(connection)
            except Violated as violated:
                if violated.details == before:
                    logger.error("constraint violated without a race: %s", violated.constraint)
                    raise violated.__cause__ or violated from None
                before = violated.details
                logger.info("another writer came first: once more")
            except Raced:
                before = None
                logger.info("another writer came first: once more")
        raise DatabaseUnavailable("Too many writers at once: nothing was stored.")

    @property
    def has_changed(self) -> bool:
        """Whether the last transaction changed anything: of SQLite an empty one says nothing."""
        return self._writer is None or self._writer.has_changed

    async def check_revision(self) -> None:
        """Raises SetupError where the schema is not the one this version was written for."""
        async with self.read() as connection:
            found = await connection.run_sync(migrating.current_revision)
        if found != migrating.newest_revision():
            raise SetupError(
                f"the database is at schema revision {found or 'none'}, this version needs "
                f"{migrating.newest_revision()}: run `quickstudy db upgrade` with the version that "
                "is to serve"
            )

    async def check_schema(self) -> None:
        """The same, and that all of that schema is there: too much to ask at every probe."""
        await self.check_revision()
        async with self.read() as connection:
            missing = await connection.run_sync(migrating.missing)
        if missing:
            raise SetupError(
                f"the database is said to be at schema revision {migrating.newest_revision()}, but "
                f"has no {missing[0]}: restore it whole from a backup"
            )

    async def check_rebuilt(self) -> None:
        """Raises SetupError while `quickstudy db rebuild` has begun and not ended."""
        query = select(func.sum(rebuilds.c.replayed), func.sum(rebuilds.c.payments))
        async with self.read() as connection:
            replayed, payments = (await connection.execute(query)).one()
        if payments is not None:
            raise SetupError(
                f"the states are being rebuilt, {replayed:,} of {payments:,} payments so far: wait "
                "for `quickstudy db rebuild` to end; where it was interrupted, run it again"
            )

    async def check_ready(self) -> None:
        """Raises SetupError like the checks of revision and states, DatabaseUnavailable where
        nothing can be stored.

        However many ask, one check runs at a time, and writes at most once a second.
        """
        await self._readiness.check()

    def _begun(self, begin: postgres.Begin) -> AbstractAsyncContextManager[AsyncConnection]:
        return postgres.transaction(self.engine, self._known, begin)

    def _straight(self, connection: AsyncConnection) -> AsyncConnection:
        return cast(AsyncConnection, postgres.Straight(connection, self._known))

    def _translated(self) -> "_translated":
        return _translated(self._connections)

    def _watched(self) -> AbstractContextManager[None]:
        return self._connections.breaker.transaction() if self._connections else nullcontext()

    async def close(self) -> None:
        await self._readiness.close()
        if self._connections:
            await self._connections.breaker.close()
        if self._writer:
            self._writer.close()
        if self._glancing:
            self._glancing.dispose()
        await self.engine.dispose()


class Readiness:
    """Whether a score could be stored now, by the last commit or one of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Rows of their own: processes do not wait for each other.
        self._id = secrets.randbits(62)
        # The clock's time of the last commit that changed anything.
        self._stored_at = -math.inf
        self._checking: asyncio.Task[None] | None = None

    def watched(self) -> "_Stored":
        """A block that writes: what becomes of it tells whether others could."""
        return _Stored(self)

    def note(self, error: BaseException | None) -> None:
        """A transaction has been committed, or has failed."""
        if error is None and self._database.has_changed:
            self._stored_at = time.monotonic()
        elif isinstance(error, DatabaseUnavailable):
            self._stored_at = -math.inf

    async def check(self) -> None:
        if self._checking is None or self._checking.done():
            # Not in the name of the request that happens to be the first to ask.
            self._checking = asyncio.get_running_loop().create_task(
                self._check(), context=contextvars.Context()
            )
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.shield(self._checking)
        except TimeoutError:
            # Others write all the time where this one has to wait.
            if not self._is_fresh():
                raise DatabaseUnavailable(
                    f"The database has stored nothing for {READY_SECONDS:g} s."
                ) from None

    async def _check(self) -> None:
        await self._database.check_revision()
        await self._database.check_rebuilt()
        if not self._is_fresh():
            await self._write()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._stored_at < FRESH_SECONDS

    async def _write(self) -> None:
        """Store about as much as a score does: of a full disk, a little may be left."""
        now = now_us()
        stale = or_(write_probes.c.id == self._id, write_probes.c.written_at_us < now - STALE_US)
        row = {"id": self._id, "written_at_us": now, "content": secrets.token_bytes(PROBE_BYTES)}
        async with self._database.write() as connection:
            await connection.execute(delete(write_probes).where(stale))
            await connection.execute(insert(write_probes), row)

    async def close(self) -> None:
        """Ask no more."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)


class _Stored:
    """A transaction that writes, and what it says about those to come."""

    __slots__ = ("_readiness",)

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._readiness.note(error)


class _translated:
    """Driver errors as those that callers tell apart; anything else passes through."""

    __slots__ = ("_connections",)

    def __init__(self, connections: Connections | None) -> None:
        self._connections = connections

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError | asyncpg.IntegrityConstraintViolationError):
            raise Violated(error) from error
        if isinstance(error, DBAPIError | asyncpg.PostgresError | asyncpg.InterfaceError):
            # PostgreSQL's driver is asked past SQLAlchemy, or through it.
            driver = error.orig if isinstance(error, DBAPIError) else error
            state = getattr(driver, "sqlstate", None)
            if state in RETRYABLE:
                raise Raced from error
            if state == READ_ONLY and self._connections:
                # All connections lead to what was the primary: the next ones find the new one.
                self._connections.cut()
            if _is_about_the_connection(error, driver, state):
                raise DatabaseUnavailable(_reason(driver, state)) from error
        # The driver's own state is off once its connection was lost in the midst of a question.
        elif isinstance(error, OSError | PoolTimeout | TimeoutError | asyncpg.InternalClientError):
            raise DatabaseUnavailable from error


def _is_about_the_connection(
    error: Exception, driver: BaseException | None, state: str | None
) -> bool:
    # Classes 08 connection, 53 resources, 57 operator intervention (also statement_timeout);
    # asyncpg's own interface errors have no state, and SQLite has codes of its own.
    if state is not None:
        return state[:2] in {"08", "53", "57"} or state == READ_ONLY
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or _sqlite_code(driver) in SQLITE_AWAY or CLOSED in str(driver)


def _sqlite_code(driver: BaseException | None) -> int | None:
    """The primary one, without what it says more exactly."""
    code: int | None = getattr(driver, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _reason(driver: BaseException | None, state: str | None) -> str:
    """What callers may know of it, and operators should; nothing where the title says enough."""
    code = _sqlite_code(driver)
    if state == READ_ONLY or code == sqlite3.SQLITE_READONLY:
        return "The database is read-only: nothing can be stored."
    if state == DISK_FULL or code == sqlite3.SQLITE_FULL:
        return "The database's disk is full: nothing can be stored."
    if state == TOO_MANY_CONNECTIONS:
        return "The database has no connection left for this service."
    return ""


def with_driver(url: str) -> URL:
    """`sqlite:///file` or `postgresql://…` with the asynchronous driver that is installed.

    Where PostgreSQL is, is read by `Address` alone. Raises SetupError for anything else.
    """
    backend = url.partition(":")[0].partition("+")[0]
    if backend in ("postgresql", "postgres"):
        return URL.create("postgresql+asyncpg")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    if parsed is None or backend != "sqlite":
        raise SetupError(
            "the database URL must begin with sqlite:/// or postgresql://, as in "
            "sqlite:///quickstudy.db or postgresql://user@host/quickstudy"
        )
    if parsed.database in (None, "", ":memory:"):
        raise SetupError("a SQLite database needs a file, as in sqlite:///quickstudy.db")
    return parsed.set(drivername="sqlite+aiosqlite")


def create_engine(
    url: URL,
    connections: Connections | None = None,
    pg_connections: int = 1,
    sqlite_busy_ms: int = sqlite.BUSY_MS,
) -> AsyncEngine:
    """The engine, with durable commits and explicit transactions on both databases."""
    if connections is None:
        engine = create_async_engine(url, hide_parameters=True)
        sqlite.listen(engine.sync_engine, sqlite_busy_ms)
        return engine
    engine = create_async_engine(
        url,
        creator=lambda: _opened(engine, connections),
        # Errors are logged, and statements hold what callers sent.
        hide_parameters=True,
        # A connection more is closed again, and costs more than what it was opened for.
        pool_size=pg_connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
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

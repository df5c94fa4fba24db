"""One database, SQLite or PostgreSQL: connections, transactions, schema revision.

Statements live in `app.store` and `app.keys`; here is only what differs between the two.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from typing import Any, TypeVar, cast

import asyncpg
from sqlalchemy import event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app import migrating, postgres, sqlite
from app.background import TaskHealth
from app.breaker import Breaker
from app.errors import DatabaseUnavailable, SetupError

logger = logging.getLogger("quickstudy")
Answer = TypeVar("Answer")

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
# Milliseconds. A statement of a batch takes a few; a lock is held for one batch.
PG_LIMITS = {"lock_timeout": "5000", "statement_timeout": "10000"}
# Readers wait for no writer, only for a process that has the file to itself or repairs it; and a
# glance keeps the whole loop waiting.
SQLITE_READ_MS, SQLITE_GLANCE_MS = 2_000, 20
# In what SQLite says of a file that is locked or closed, or whose disk is full or failing; and what
# asyncpg says of a connection that is closed.
SAID_AWAY = ("locked", "clos", "disk", "unable to open")
CONNECT_SECONDS = 5
# Later than `statement_timeout`, by which a server that answers has ended a statement itself.
STATEMENT_SECONDS = 12
PG_CONNECTIONS = 15
# A plan made while a table was small, or its statistics were being replaced, reads all of it.
PLAN_SECONDS = 5
# deadlock_detected, serialization_failure, lock_not_available
RETRYABLE = frozenset({"40P01", "40001", "55P03"})

# Of a process: neither connections nor processors are left to lists alone.
LISTS_AT_ONCE = 2
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

    def __init__(self, url: str) -> None:
        self.url = with_driver(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._connections = None if self.is_sqlite else Connections()
        self.engine = create_engine(
            self.url, connections=self._connections, sqlite_busy_ms=SQLITE_READ_MS
        )
        self._listings = asyncio.Semaphore(LISTS_AT_ONCE)
        self._known = postgres.KnownRows()
        self._writer = sqlite.Writer(self.url) if self.is_sqlite else None
        self._glancing = (
            sqlite.create_in_place(self.url, SQLITE_GLANCE_MS) if self.is_sqlite else None
        )

    @property
    def background(self) -> list[TaskHealth]:
        """How the tasks fare that this runs beside what it is asked."""
        breaker = [self._connections.breaker.health] if self._connections else []
        return [*breaker, *([self._writer.checkpoints.health] if self._writer else [])]

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block ends.

        Raises Raced when it lost against another writer, DatabaseUnavailable when the
        database cannot be reached or does not answer in time.
        """
        with self._watched(), _translated():
            begun = self._writer.begin() if self._writer else self._begun(postgres.WRITES)
            async with begun as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database, and waits for no writer."""
        with self._watched(), _translated():
            if not self.is_sqlite:
                async with self._begun(postgres.READS) as connection:
                    yield connection
                return
            async with self.engine.connect() as connection:
                await connection.execution_options(reads_only=True)
                yield connection

    @asynccontextmanager
    async def listing(self) -> AsyncIterator[AsyncConnection]:
        """`read`, for a page of a list, of which there are few at once: others wait their turn."""
        async with self._listings, self.read() as connection:
            yield connection

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[AsyncConnection]:
        """`read`, for one question: without a hop to SQLite's driver, or a transaction."""
        if self._glancing is None:
            with self._watched(), _translated():
                async with self.engine.connect() as connection:
                    yield self._straight(connection)
            return
        with _translated(), self._glancing.connect() as glancing:
            glancing.execution_options(reads_only=True)
            raw = cast(sqlite3.Connection, glancing.connection.dbapi_connection)
            in_place = sqlite.InPlace(raw, glancing.dialect, lambda: glancing)
            yield cast(AsyncConnection, in_place)

    async def run(self, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """`work` in a transaction, committed when this returns; run again when it was raced.

        Raises DatabaseUnavailable like `write`, or when it is raced again and again, and the
        driver's own error where it violates the same constraint by the same values twice: then
        nobody else's row explains it.
        """
        before = None
        for _ in range(ATTEMPTS):
            try:
                async with self.write() as connection:
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

    def _begun(self, begin: str) -> AbstractAsyncContextManager[AsyncConnection]:
        return postgres.transaction(self.engine, self._known, begin)

    def _straight(self, connection: AsyncConnection) -> AsyncConnection:
        return cast(AsyncConnection, postgres.Straight(connection, self._known))

    def _watched(self) -> AbstractContextManager[None]:
        return self._connections.breaker.transaction() if self._connections else nullcontext()

    async def close(self) -> None:
        if self._connections:
            await self._connections.breaker.close()
        if self._writer:
            self._writer.close()
        if self._glancing:
            self._glancing.dispose()
        await self.engine.dispose()


class Connections:
    """The PostgreSQL connections of this process, so that those that hang can be cut."""

    def __init__(self) -> None:
        self.breaker = Breaker(self._ask, self._cut)
        self._options: dict[str, Any] = {}
        self._open: set[asyncpg.Connection] = set()
        self._opening: set[asyncio.Timeout] = set()

    async def open(self, **options: Any) -> asyncpg.Connection:
        """A connection for the pool; raises TimeoutError when it is cut before it is there."""
        self.breaker.check()
        self._options = options
        async with asyncio.timeout(None) as opening:
            self._opening.add(opening)
            try:
                connection = await asyncpg.connect(**options)
            finally:
                self._opening.discard(opening)
        self._open.add(connection)
        connection.add_termination_listener(self._open.discard)
        return connection

    async def _ask(self) -> None:
        """Raises what a new connection meets while the database is not there."""
        try:
            connection = await asyncpg.connect(**self._options)
        except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
            raise  # It starts, or stops.
        except asyncpg.PostgresError:
            return  # It answers, if only that it has no connection to spare.
        try:
            await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _cut(self) -> None:
        """Whoever waits for an answer is told now that the connection is lost."""
        for connection in list(self._open):
            connection.terminate()
        for opening in self._opening:
            if not opening.expired():
                opening.reschedule(0)


class _translated:
    """Driver errors as those that callers tell apart; anything else passes through."""

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
            if _is_about_the_connection(error, str(driver), state):
                raise DatabaseUnavailable from error
        # The driver's own state is off once its connection was lost in the midst of a question.
        elif isinstance(error, OSError | PoolTimeout | TimeoutError | asyncpg.InternalClientError):
            raise DatabaseUnavailable from error


def _is_about_the_connection(error: Exception, said: str, state: str | None) -> bool:
    # Classes 08 connection, 53 resources, 57 operator intervention (also statement_timeout);
    # asyncpg's own interface errors have no state, and SQLite says it in words.
    if state is not None:
        return state[:2] in {"08", "53", "57"}
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or any(word in said for word in SAID_AWAY)


def with_driver(url: str) -> URL:
    """`sqlite:///file` or `postgresql://…` with the asynchronous driver that is installed.

    Raises SetupError for anything else.
    """
    try:
        parsed = make_url(url)
        driver = DRIVERS[parsed.get_backend_name()]
    except (ArgumentError, KeyError, ValueError):
        raise SetupError(
            "the database URL must begin with sqlite:/// or postgresql://, as in "
            "sqlite:///quickstudy.db or postgresql://user@host/quickstudy"
        ) from None
    if driver == DRIVERS["sqlite"] and parsed.database in (None, "", ":memory:"):
        raise SetupError("a SQLite database needs a file, as in sqlite:///quickstudy.db")
    return parsed.set(drivername=driver)


def create_engine(
    url: URL,
    pg_limits: dict[str, str] = PG_LIMITS,
    connections: Connections | None = None,
    sqlite_busy_ms: int | None = None,
    statement_seconds: float | None = STATEMENT_SECONDS,
) -> AsyncEngine:
    """The engine, with durable commits and explicit transactions on both databases."""
    if url.get_backend_name() == "postgresql":
        server = {"application_name": "quickstudy", "jit": "off", **pg_limits}
        if connections:
            server |= postgres.BY_KEYS
        opened = {"async_creator_fn": connections.open} if connections else {}
        engine = create_async_engine(
            url,
            # The service's transactions are begun by `app.postgres`.
            isolation_level="AUTOCOMMIT" if connections else None,
            # Errors are logged, and statements hold what callers sent.
            hide_parameters=True,
            # A connection more is closed again, and costs more than what it was opened for.
            pool_size=PG_CONNECTIONS,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": statement_seconds,
                "max_cached_statement_lifetime": PLAN_SECONDS,
                "server_settings": server,
                **opened,
            },
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return engine
    engine = create_async_engine(url, hide_parameters=True)
    sqlite.listen(engine.sync_engine, sqlite.BUSY_MS if sqlite_busy_ms is None else sqlite_busy_ms)
    return engine


def _refuse_closed(dbapi_connection: Any, *_: object) -> None:
    """The pool opens another one: a restart of the server is no caller's trouble."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError

"""One database, SQLite or PostgreSQL: connections, transactions, schema revision.

Statements live in `app.store` and `app.keys`; here is only what differs between the two.
"""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from contextvars import copy_context
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import asyncpg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, CursorResult, Engine, Executable, Transaction, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from app.breaker import Breaker
from app.errors import DatabaseUnavailable, SetupError
from app.tables import metadata

logger = logging.getLogger("quickstudy")
Answer = TypeVar("Answer")

MIGRATIONS = Path(__file__).parent.parent / "migrations"

DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
# Milliseconds. A statement of a batch takes a few; a lock is held for one batch.
PG_LIMITS = {"lock_timeout": "5000", "statement_timeout": "10000"}
# Of a migration. It waits briefly for locks: all that asks for a table queues behind it meanwhile.
PG_MIGRATION_LIMITS = {"lock_timeout": "2000", "statement_timeout": "600000"}
# Else two statements could see an account's revision and the labels of the next one.
SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
SQLITE_BUSY_MS = 10_000
# Once somebody has waited in vain, others wait no longer than this, until one has got through.
SQLITE_STILL_BUSY_MS = 500
# Readers wait for no writer, only for a process that has the file to itself or repairs it; and a
# glance keeps the whole loop waiting.
SQLITE_READ_MS, SQLITE_GLANCE_MS = 2_000, 20
SQLITE_POLL_SECONDS = 0.001
# The upper pages of every index, so that a look-up in millions of rows reads one page or two.
SQLITE_CACHE_KIB = 64 << 10
# In what SQLite says of a file that is locked or closed, or whose disk is full or failing.
SQLITE_AWAY = ("locked", "clos", "disk", "unable to open")
CONNECT_SECONDS = 5
# Later than `statement_timeout`, by which a server that answers has ended a statement itself.
STATEMENT_SECONDS = 12
PG_CONNECTIONS = 15
# deadlock_detected, serialization_failure, lock_not_available
RETRYABLE = frozenset({"40P01", "40001", "55P03"})

# Each time another replica's batch has got through, so that this one's turn comes.
ATTEMPTS = 10


class Raced(Exception):
    """Another writer came first: the transaction is to be run again from its start."""


class Database:
    """The connections of one process. `write` and `read` each hold one transaction."""

    def __init__(self, url: str) -> None:
        self.url = with_driver(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._connections = None if self.is_sqlite else Connections()
        self.engine = create_engine(
            self.url, connections=self._connections, sqlite_busy_ms=SQLITE_READ_MS
        )
        self._writer = SQLiteWriter(self.url) if self.is_sqlite else None
        self._glancing = create_in_place(self.url, SQLITE_GLANCE_MS) if self.is_sqlite else None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block ends.

        Raises Raced when it lost against another writer, DatabaseUnavailable when the
        database cannot be reached or does not answer in time.
        """
        with self._watched(), _translated():
            begun = self._writer.begin() if self._writer else self.engine.begin()
            async with begun as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the database, and waits for no writer."""
        options = {"reads_only": True} if self.is_sqlite else SNAPSHOT
        with self._watched(), _translated():
            async with self.engine.connect() as connection:
                await connection.execution_options(**options)
                yield connection

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[AsyncConnection]:
        """`read`, for a few rows: a hop to SQLite's driver would take longer than all of it."""
        if self._glancing is None:
            async with self.read() as connection:
                yield connection
            return
        with _translated(), self._glancing.connect() as glancing:
            glancing.execution_options(reads_only=True)
            yield cast(AsyncConnection, InPlace(glancing))

    async def run(self, work: Callable[[AsyncConnection], Awaitable[Answer]]) -> Answer:
        """`work` in a transaction, committed when this returns; run again when it was raced.

        Raises DatabaseUnavailable like `write`, or when it is raced again and again.
        """
        for _ in range(ATTEMPTS):
            try:
                async with self.write() as connection:
                    return await work(connection)
            except Raced:
                logger.info("another writer came first: once more")
        raise DatabaseUnavailable("Too many writers at once: nothing was stored.")

    async def check_revision(self) -> None:
        """Raises SetupError where the schema is not the one this version was written for."""
        async with self.read() as connection:
            found = await connection.run_sync(_current_revision)
        if found != _newest_revision():
            raise SetupError(
                f"the database is at schema revision {found or 'none'}, this version needs "
                f"{_newest_revision()}: run `quickstudy db upgrade` with the version that is to "
                "serve"
            )

    async def check_schema(self) -> None:
        """The same, and that all of that schema is there: too much to ask at every probe."""
        await self.check_revision()
        async with self.read() as connection:
            missing = await connection.run_sync(_missing)
        if missing:
            raise SetupError(
                f"the database is said to be at schema revision {_newest_revision()}, but has no "
                f"{missing[0]}: restore it whole from a backup"
            )

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


class SQLiteWriter:
    """The one connection of this process that writes to a SQLite file.

    SQLite has one writer at a time and makes the others poll; here they queue fairly instead. A
    statement takes microseconds, less than a hop to a thread and back, so it runs where it is
    asked for. Only a commit goes to a thread: it waits for the disk.
    """

    def __init__(self, url: URL) -> None:
        # The driver would wait in place.
        self._engine = create_in_place(url, 0, poolclass=StaticPool)
        self._turn = asyncio.Lock()
        self._waited_in_vain = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block ends."""
        patience = SQLITE_STILL_BUSY_MS if self._waited_in_vain else SQLITE_BUSY_MS
        until = asyncio.get_running_loop().time() + patience / 1000
        async with self._turn:
            with self._engine.connect() as connection:
                transaction = await self._begun(connection, until)
                try:
                    yield cast(AsyncConnection, InPlace(connection))
                    await in_a_thread(transaction.commit)
                finally:
                    if transaction.is_active:
                        transaction.rollback()
                    # To SQLAlchemy a transaction is over even when its commit has failed; SQLite
                    # may hold it open, and would begin no other. After a commit this does nothing.
                    connection.connection.rollback()

    async def _begun(self, connection: Connection, until: float) -> Transaction:
        """Wait for other processes without keeping this one from its other work."""
        clock = asyncio.get_running_loop().time
        while True:
            try:
                transaction = connection.begin()
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                if clock() > until:
                    self._waited_in_vain = True
                    raise
            else:
                self._waited_in_vain = False
                return transaction
            await asyncio.sleep(SQLITE_POLL_SECONDS)

    def close(self) -> None:
        self._engine.dispose()


class InPlace:
    """A synchronous connection with the face of an asynchronous one; nothing ever waits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw = cast(sqlite3.Connection, connection.connection.dbapi_connection)
        self.dialect = connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return self._connection.execute(statement, parameters)

    # Past SQLAlchemy, which takes longer to execute a statement than SQLite does.
    async def exec_driver_sql(self, text: str, rows: Sequence[tuple[Any, ...]]) -> None:
        with _as_by_sqlalchemy(text):
            self._raw.executemany(text, rows)

    def fetch(self, text: str, parameters: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The rows of a query, as the driver gives them."""
        with _as_by_sqlalchemy(text):
            return self._raw.execute(text, parameters).fetchall()


class _as_by_sqlalchemy:
    """The driver's errors as SQLAlchemy's."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, sqlite3.Error):
            raise DBAPIError.instance(
                self._text, None, error, sqlite3.Error, hide_parameters=True
            ) from error


async def in_a_thread(work: Callable[[], Answer]) -> Answer:
    """Wait for work that cannot be taken back, even when whoever waits for it is cancelled."""
    done = asyncio.get_running_loop().run_in_executor(None, copy_context().run, work)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


class _translated:
    """Driver errors as the two that callers tell apart; anything else passes through."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError):
            raise Raced from error
        if isinstance(error, DBAPIError):
            state = getattr(error.orig, "sqlstate", None)
            if state in RETRYABLE:
                raise Raced from error
            if _is_about_the_connection(error, state):
                raise DatabaseUnavailable from error
        elif isinstance(error, OSError | PoolTimeout | TimeoutError):
            raise DatabaseUnavailable from error


def _is_about_the_connection(error: DBAPIError, state: str | None) -> bool:
    # Classes 08 connection, 53 resources, 57 operator intervention (also statement_timeout);
    # asyncpg's own interface errors have no state, and SQLite says it in words.
    if state is not None:
        return state[:2] in {"08", "53", "57"}
    said = str(error.orig)
    return error.connection_invalidated or any(word in said for word in SQLITE_AWAY)


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
    sqlite_busy_ms: int = SQLITE_BUSY_MS,
) -> AsyncEngine:
    """The engine, with durable commits and explicit transactions on both databases."""
    if url.get_backend_name() == "postgresql":
        server = {"application_name": "quickstudy", "jit": "off", **pg_limits}
        opened = {"async_creator_fn": connections.open} if connections else {}
        engine = create_async_engine(
            url,
            # Errors are logged, and statements hold what callers sent.
            hide_parameters=True,
            # A connection more is closed again, and costs more than what it was opened for.
            pool_size=PG_CONNECTIONS,
            max_overflow=0,
            pool_timeout=CONNECT_SECONDS,
            connect_args={
                "timeout": CONNECT_SECONDS,
                "command_timeout": STATEMENT_SECONDS,
                "server_settings": server,
                **opened,
            },
        )
        event.listen(engine.sync_engine, "checkout", _refuse_closed)
        return engine
    engine = create_async_engine(url, hide_parameters=True)
    _listen(engine.sync_engine, sqlite_busy_ms)
    return engine


def create_in_place(url: URL, busy_ms: int, **options: Any) -> Engine:
    """A synchronous engine on a SQLite file, whose connections any thread may use."""
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite"),
        hide_parameters=True,
        connect_args={"check_same_thread": False},
        **options,
    )
    _listen(engine, busy_ms)
    return engine


def _refuse_closed(dbapi_connection: Any, *_: object) -> None:
    """The pool opens another one: a restart of the server is no caller's trouble."""
    if dbapi_connection.driver_connection.is_closed():
        raise DisconnectionError


def _listen(engine: Engine, busy_ms: int) -> None:
    event.listen(engine, "connect", lambda raw, _: _configure_sqlite(raw, busy_ms))
    event.listen(engine, "begin", _begin_sqlite)


def _configure_sqlite(dbapi_connection: Any, busy_ms: int) -> None:
    # The driver would begin transactions late and as readers; _begin_sqlite does it instead.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        f"busy_timeout={busy_ms}",
        "journal_mode=WAL",
        # NORMAL may lose the last commits when the power goes.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{SQLITE_CACHE_KIB}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A reader that turns writer can fail at once with "locked", whatever the timeout.
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def _current_revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


@cache
def _newest_revision() -> str | None:
    return ScriptDirectory(str(MIGRATIONS)).get_current_head()


def _missing(connection: Connection) -> list[str]:
    """Columns that the schema should have and has not."""
    found = sqlalchemy.inspect(connection).get_multi_columns()
    there = {(table, one["name"]) for (_, table), columns in found.items() for one in columns}
    wanted = [(table.name, one.name) for table in metadata.sorted_tables for one in table.c]
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
    except (DBAPIError, OSError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error
        # A timeout says nothing of itself.
        said = str(reason) or "no answer in time"
        raise SetupError(f"the database cannot be migrated: {said}") from error

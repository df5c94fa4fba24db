"""SQLite as the service uses it: one writer, whose statements run where they are asked for."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from typing import Any, TypeVar, cast

import sqlalchemy
from sqlalchemy import Connection, CursorResult, Engine, Executable, Transaction, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import StaticPool

Answer = TypeVar("Answer")

BUSY_MS = 10_000
# Once somebody has waited in vain, others wait no longer than this, until one has got through.
STILL_BUSY_MS = 500
POLL_SECONDS = 0.001
# Of the writer: the upper pages of every index, so that a look-up in millions of rows reads one
# page or two. Of readers there are up to 15, and nobody waits for them as much.
CACHE_KIB, READER_CACHE_KIB = 64 << 10, 8 << 10


class Writer:
    """The one connection of this process that writes to a SQLite file.

    SQLite has one writer at a time and makes the others poll; here they queue fairly instead. A
    statement takes microseconds, less than a hop to a thread and back, so it runs where it is
    asked for. Only a commit goes to a thread: it waits for the disk.
    """

    def __init__(self, url: URL) -> None:
        # The driver would wait in place.
        self._engine = create_in_place(url, 0, CACHE_KIB, poolclass=StaticPool)
        self._turn = asyncio.Lock()
        self._waited_in_vain = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed when the block ends."""
        patience = STILL_BUSY_MS if self._waited_in_vain else BUSY_MS
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
            await asyncio.sleep(POLL_SECONDS)

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


def create_in_place(
    url: URL, busy_ms: int, cache_kib: int = READER_CACHE_KIB, **options: Any
) -> Engine:
    """A synchronous engine on a SQLite file, whose connections any thread may use."""
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite"),
        hide_parameters=True,
        connect_args={"check_same_thread": False},
        **options,
    )
    listen(engine, busy_ms, cache_kib)
    return engine


def listen(engine: Engine, busy_ms: int, cache_kib: int = READER_CACHE_KIB) -> None:
    event.listen(engine, "connect", lambda raw, _: _configure(raw, busy_ms, cache_kib))
    event.listen(engine, "begin", _begin)


def _configure(dbapi_connection: Any, busy_ms: int, cache_kib: int) -> None:
    # The driver would begin transactions late and as readers; _begin does it instead.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    for pragma in (
        f"busy_timeout={busy_ms}",
        "journal_mode=WAL",
        # NORMAL may lose the last commits when the power goes.
        "synchronous=FULL",
        "foreign_keys=ON",
        f"cache_size=-{cache_kib}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    # A reader that turns writer can fail at once with "locked", whatever the timeout.
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

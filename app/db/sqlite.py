"""SQLite as the service uses it: one writer, whose statements run where they are called."""

import asyncio
import json
import os
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
)
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import sqlalchemy
from sqlalchemy import (
    CursorResult,
    Delete,
    Engine,
    Executable,
    Insert,
    Select,
    Table,
    Update,
    event,
)
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import StaticPool

from app.db.connection import Answer, Connection, Driver, Locked, Query, Row, parts
from app.db.errors import DatabaseUnavailable
from app.db.statements import Key, inserting, key_in, locking, question_of
from app.errors import SetupError
from app.learner.transaction import MOST_ITEMS
from app.ops.background import TaskHealth, in_a_thread
from app.ops.turns import Turns

# A reader that turns writer can fail at once with "locked", whatever the timeout.
BEGIN = "BEGIN IMMEDIATE"
BUSY_MS = 10_000
# Once somebody has waited in vain, others wait no longer than this, until one has got through.
STILL_BUSY_MS = 500
POLL_SECONDS = 0.001
# Readers wait for no writer, only for a process that has the file to itself or repairs it; and a
# glance keeps the whole loop waiting.
READ_MS, GLANCE_MS = 2_000, 20
# So many read at once; how long the next one waits for its turn.
READERS, TURN_SECONDS = 15, 30
# Of the writer: the upper pages of every index, so that a look-up in millions of rows reads one
# page or two. Of readers there are up to 15, and nobody waits for them as much.
CACHE_KIB, READER_CACHE_KIB = 64 << 10, 8 << 10
# Of the log: how often its pages are copied into the file, each in its newest state alone, and how
# many there may be until a commit waits so that it begins anew. 32 MiB.
CHECKPOINT_SECONDS, LONG_PAGES = 0.25, 8000
MOVED = "The database's file was moved, replaced or deleted: restart the service."


class SQLiteDriver(Driver):
    """Connections to a SQLite file: that which writes, and those that read beside it."""

    def __init__(self, url: URL) -> None:
        self._path = OpenedPath(url)
        self._writer = Writer(url, self._path)
        # The pool would keep the loop waiting for a connection: who reads waits for a turn before.
        self._reading = create_in_place(url, READ_MS, pool_size=READERS)
        self._turns = Turns(READERS)
        # Of their own: a commit must not wait for those who read many rows.
        self._threads = ThreadPoolExecutor(READERS, "quickstudy-read")
        # One more is opened in place; to wait for one would be to keep the loop from whoever has
        # it.
        self._glancing = create_in_place(url, GLANCE_MS, max_overflow=-1)
        for engine in (self._reading, self._glancing):
            event.listen(engine, "connect", lambda *_: self._path.note())

    def write(self, aside: bool) -> AbstractAsyncContextManager[Connection]:
        return self._writer.begin(aside)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        async with AsyncExitStack() as turn:
            async with asyncio.timeout(TURN_SECONDS):
                await turn.enter_async_context(self._turns.one())
            self._path.check()
            with ExitStack() as stack:
                lent = await in_a_thread(partial(self._lend, stack), self._threads)
                raw = _driver_connection(lent)
                yield SQLiteConnection(raw, lent.dialect, lambda: lent, True, self._threads)

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[Connection]:
        self._path.check()
        with self._glancing.connect() as lent:
            lent.execution_options(reads_only=True)
            yield SQLiteConnection(_driver_connection(lent), lent.dialect, lambda: lent)

    def _lend(self, stack: ExitStack) -> sqlalchemy.Connection:
        """A connection in a transaction, until the stack is closed."""
        lent = stack.enter_context(self._reading.connect()).execution_options(reads_only=True)
        lent.exec_driver_sql("SELECT 1")  # Begins the transaction.
        return lent

    def fail_over(self) -> None:
        """A file has no other server."""

    @property
    def background(self) -> list[TaskHealth]:
        return [self._writer.checkpoints.health]

    @property
    def has_changed(self) -> bool:
        return self._writer.has_changed

    async def close(self) -> None:
        self._writer.close()
        self._threads.shutdown()
        self._reading.dispose()
        self._glancing.dispose()


class OpenedPath:
    """Whether the path of a database still leads to the file that was opened there.

    SQLite goes on writing to a file that was moved, replaced or deleted, whatever is at its path by
    then: what was acknowledged meanwhile would be gone, and new connections would see another file.
    """

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""
        self._opened: tuple[int, int] | None = None

    def note(self) -> None:
        """A connection has been opened: the first says which file it is."""
        self._opened = self._opened or self._found()

    def check(self) -> None:
        """Raises DatabaseUnavailable where it is another file by now, or none."""
        if self._opened is not None and self._found() != self._opened:
            raise DatabaseUnavailable(MOVED)

    def _found(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_dev, found.st_ino


def _driver_connection(lent: sqlalchemy.Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, lent.connection.driver_connection)


class Writer:
    """The one connection of this process that writes to a SQLite file.

    SQLite has one writer at a time and makes the others poll; here they queue fairly instead. A
    statement takes microseconds, less than a hop to a thread and back, so it runs where it is
    called. Only a commit goes to a thread, of its own: it waits for the disk.
    """

    def __init__(self, url: URL, path: OpenedPath) -> None:
        self._path = path
        # The driver would wait in place. Transactions are begun and committed here: SQLAlchemy's
        # own take longer than SQLite's.
        self._engine = create_in_place(url, 0, CACHE_KIB, begins=False, poolclass=StaticPool)
        self._raw: sqlite3.Connection | None = None
        self.checkpoints = Checkpoints(url)
        # One at a time, each tenant in turn: who labels much keeps nobody else from scoring.
        self._turns = Turns(1)
        # Others compute in the threads that there are for everything.
        self._thread = ThreadPoolExecutor(1, "quickstudy-commit")
        self._waited_in_vain = False
        # Whether the last commit wrote anything.
        self.has_changed = False

    @asynccontextmanager
    async def begin(self, aside: bool = False) -> AsyncIterator[Connection]:
        """A transaction that is committed when the block ends.

        Where it is about many rows, its statements are executed `aside`, in a thread.
        """
        patience = STILL_BUSY_MS if self._waited_in_vain else BUSY_MS
        until = asyncio.get_running_loop().time() + patience / 1000
        async with self._turns.one():
            self._path.check()
            raw = self._opened()
            await self._begun(raw, until)
            in_place = SQLiteConnection(raw, self._engine.dialect, self._engine.connect, aside)
            changes = raw.total_changes
            try:
                yield in_place
                await in_a_thread(partial(commit, raw), self._thread)
                self.has_changed = raw.total_changes > changes
            finally:
                in_place.close()
                # When its commit has failed, SQLite may hold a transaction open, and would begin
                # no other. After a commit this does nothing.
                raw.rollback()
            await self.checkpoints.after_commit()

    def _opened(self) -> sqlite3.Connection:
        if self._raw is None:
            with _as_by_sqlalchemy("PRAGMA"):
                # The pool has one connection, and goes on holding it.
                pooled = self._engine.raw_connection()
                raw = cast(sqlite3.Connection, pooled.dbapi_connection)
                pooled.close()
                raw.execute("PRAGMA wal_autocheckpoint=0")
                self._path.note()
                self.checkpoints.open()
            self._raw = raw
        return self._raw

    async def _begun(self, raw: sqlite3.Connection, until: float) -> None:
        """Wait for other processes without keeping this one from its other work."""
        while True:
            try:
                with _as_by_sqlalchemy(BEGIN):
                    raw.execute(BEGIN)
            except OperationalError as error:
                if "locked" not in str(error.orig):
                    raise
                if asyncio.get_running_loop().time() > until:
                    self._waited_in_vain = True
                    raise
            else:
                self._waited_in_vain = False
                return
            await asyncio.sleep(POLL_SECONDS)

    def close(self) -> None:
        self.checkpoints.close()
        self._thread.shutdown()
        self._raw = None
        self._engine.dispose()


class Checkpoints:
    """Copies the log's pages into the file, on a connection and a thread of their own.

    SQLite would do it inside every commit that makes the log longer than a thousand pages, and
    whoever waits for that commit would wait for ten times as much of the disk.
    """

    def __init__(self, url: URL) -> None:
        self._engine = create_in_place(url, 0, begins=False, poolclass=StaticPool)
        self._thread = ThreadPoolExecutor(1, "quickstudy-checkpoint")
        self._running: Future[None] | None = None
        self._due = 0.0
        self._is_long = False
        self._is_closing = threading.Event()
        self.health = TaskHealth("log checkpoints", is_needed=True)

    def open(self) -> None:
        """Open the file and its log, while the path leads to them: a checkpoint by whatever were
        there later would empty the log, and with it what was committed last."""
        with closing(self._engine.raw_connection()) as pooled:
            connection = cast(sqlite3.Connection, pooled.dbapi_connection)
            # What reads nothing has not opened the log.
            connection.execute("PRAGMA schema_version").fetchone()

    async def after_commit(self) -> None:
        """Begin one where it is time. Nobody else of this process may write meanwhile."""
        if self._running is not None and not self._running.done():
            return
        if self._is_long:
            # The log begins anew only where nothing is written while the rest of it is copied.
            self._is_long = False
            await in_a_thread(partial(self._checkpoint, "RESTART"))
        elif time.monotonic() >= self._due:
            self._due = time.monotonic() + CHECKPOINT_SECONDS
            self._running = self._thread.submit(self._retry)

    def _retry(self) -> None:
        """A checkpoint, again and again until it succeeds: there may be no other commit."""
        pause = self._checkpoint("PASSIVE")
        while pause and not self._is_closing.wait(pause):
            pause = self._checkpoint("PASSIVE")

    def _checkpoint(self, how: Literal["PASSIVE", "RESTART"]) -> float:
        """Another process that writes, or a reader of what was before, may keep it from its end:
        then it goes on from there the next time.

        Returns for how many seconds to pause before the next try where it failed, or 0.
        """
        try:
            with closing(self._engine.raw_connection()) as pooled:
                connection = cast(sqlite3.Connection, pooled.dbapi_connection)
                _, pages, _ = connection.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        # Commits go on without, and fail by themselves where the disk does.
        except Exception as error:
            return self.health.failed(error)
        self.health.succeeded()
        self._is_long = how == "PASSIVE" and pages > LONG_PAGES
        return 0.0

    def close(self) -> None:
        self._is_closing.set()
        self._thread.shutdown()
        self._engine.dispose()


def commit(raw: sqlite3.Connection) -> None:
    with _as_by_sqlalchemy("COMMIT"):
        raw.commit()


class SQLiteConnection(Connection):
    """sqlite3's connection: statements are executed in place, and nothing ever waits.

    `connect` gives one of SQLAlchemy's on the same connection, for what is not worth doing past it.
    Statements about many rows are executed `aside`, in a thread: all of them, or each by itself.
    """

    def __init__(
        self,
        raw: sqlite3.Connection,
        dialect: Dialect,
        connect: Callable[[], sqlalchemy.Connection],
        aside: bool = False,
        threads: Executor | None = None,
    ) -> None:
        self._raw, self.dialect, self._connect = raw, dialect, connect
        self._aside, self._threads = aside, threads
        self._connection: sqlalchemy.Connection | None = None

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        return await self._done(lambda: self._by_sqlalchemy().execute(statement, parameters))

    async def run_sync(self, function: Callable[[sqlalchemy.Connection], Answer]) -> Answer:
        return await self._done(lambda: function(self._by_sqlalchemy()))

    async def read(
        self,
        make: Callable[[Iterable[Any]], Row],
        query: Executable,
        parameters: Mapping[str, Any] | None = None,
    ) -> list[Row]:
        def read() -> list[Row]:
            return list(map(make, self._by_sqlalchemy().execute(query, parameters).all()))

        return await self._done(read)

    # Past SQLAlchemy, which takes longer to execute a statement than SQLite does.
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
        flags = question.flags
        making = (lambda row: make(_with_flags(row, flags))) if flags else make
        parameters = question.parameters(
            {"of_tenant": tenant, "wanted": _json(list(wanted)), **values}
        )

        return await self._query(question.text, parameters, making, are_many)

    async def _insert(
        self,
        table: Table,
        text: str,
        ordered: Callable[[Any], tuple[Any, ...]],
        rows: Sequence[Any],
    ) -> None:
        await self._write(text, [ordered(row) for row in rows])

    async def _copy(
        self, table: Table, rows: Sequence[Any], key: tuple[str, ...], kept: tuple[str, ...]
    ) -> None:
        kind: Any = type(rows[0])
        text, ordered = inserting(table, kind, key, kept, self.dialect)
        await self._write(text, [ordered(row) for row in rows], are_many=True)

    async def update_rows(self, statement: Update, rows: Iterable[Mapping[str, Any]]) -> None:
        question = question_of(statement, self.dialect)
        for some in parts(rows):
            await self._write(question.text, [question.parameters(row) for row in some])

    async def change(
        self, statement: Insert | Update | Delete, tenant: str, wanted: Sequence[Key], **values: Any
    ) -> None:
        if wanted:
            question = question_of(statement, self.dialect)
            row = {"of_tenant": tenant, "wanted": _json(wanted), **values}
            await self._write(question.text, [question.parameters(row)], len(wanted) > MOST_ITEMS)

    async def lock(self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]) -> list[Any]:
        """Whoever writes has the whole file: there is nothing to lock."""
        if not wanted:
            return []
        return await self.fetch(kind._make, locking(table, kind), tenant, wanted)

    async def lock_one_each(
        self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]
    ) -> list[Locked]:
        first: dict[Key, Any] = {}
        key_of = key_in(table, kind)
        for row in await self.lock(table, kind, tenant, wanted):
            first.setdefault(key_of(row), row)
        return [Locked(row, None) for row in first.values()]

    async def together(self, *queries: Query[Any]) -> Any:
        try:
            return tuple([await query for query in queries])
        finally:
            for query in queries:
                query.close()

    async def _query(
        self,
        text: str,
        parameters: tuple[Any, ...],
        make: Callable[[Iterable[Any]], Row],
        are_many: bool,
    ) -> list[Row]:
        def query() -> list[Row]:
            with _as_by_sqlalchemy(text):
                return list(map(make, self._raw.execute(text, parameters)))

        return await self._done(query, are_many)

    async def _write(
        self, text: str, rows: Sequence[tuple[Any, ...]], are_many: bool = False
    ) -> None:
        def write() -> None:
            with _as_by_sqlalchemy(text):
                self._raw.executemany(text, rows)

        await self._done(write, are_many)

    def _by_sqlalchemy(self) -> sqlalchemy.Connection:
        if self._connection is None:
            self._connection = self._connect()
        return self._connection

    async def _done(self, function: Callable[[], Answer], aside: bool = False) -> Answer:
        if aside or self._aside:
            return await in_a_thread(function, self._threads)
        return function()

    def close(self) -> None:
        """Rolls back what was not committed where SQLAlchemy had a part in it."""
        if self._connection is not None:
            self._connection.close()


# Keys as SQLite takes them. `json.dumps` would make an encoder for each call.
_json = json.JSONEncoder(ensure_ascii=False).encode


def _with_flags(values: Iterable[Any], flags: Iterable[int]) -> list[Any]:
    """A row whose 1 and 0 are truths again."""
    row = list(values)
    for n in flags:
        row[n] = None if row[n] is None else bool(row[n])
    return row


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


def create_in_place(
    url: URL,
    busy_ms: int,
    cache_kib: int = READER_CACHE_KIB,
    begins: bool = True,
    **options: Any,
) -> Engine:
    """A synchronous engine on a SQLite file, whose connections any thread may use.

    One that does not begin transactions leaves that, and their end, to whoever has the connection.
    """
    engine = sqlalchemy.create_engine(
        url.set(drivername="sqlite"),
        hide_parameters=True,
        connect_args={"check_same_thread": False},
        **options,
    )
    listen(engine, busy_ms, cache_kib, begins)
    return engine


def listen(
    engine: Engine, busy_ms: int, cache_kib: int = READER_CACHE_KIB, begins: bool = True
) -> None:
    event.listen(engine, "connect", lambda raw, _: _configure(raw, busy_ms, cache_kib))
    if begins:
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


def _begin(connection: sqlalchemy.Connection) -> None:
    reads = connection.get_execution_options().get("reads_only", False)
    connection.exec_driver_sql("BEGIN" if reads else BEGIN)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A new database's file, under another name until the block ends without an error.

    It is there whole or not at all, and for nobody else to read. Raises SetupError where there is
    such a file, or none can be written.
    """
    if path.exists():
        raise SetupError(
            f"{path} is there already: choose a name under which no file exists, or move it away"
        )
    part = path.with_name(f"{path.name}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {error.strerror}") from error
    try:
        yield part
        part.rename(path)
    finally:
        for suffix in ("", "-wal", "-shm"):
            part.with_name(part.name + suffix).unlink(missing_ok=True)


def back_up(source: Path, target: Path) -> None:
    """Copy a database that others may be writing to, as of one moment, into a new file.

    Raises SetupError where it cannot be made.
    """
    if not source.is_file():
        raise SetupError(f"there is no database {source}: QUICKSTUDY_DATABASE_URL says which")
    reading = f"{source.absolute().as_uri()}?mode=ro"
    try:
        with (
            new_file(target) as part,
            closing(sqlite3.connect(reading, uri=True)) as live,
            closing(sqlite3.connect(part)) as copy,
        ):
            live.backup(copy)
    except sqlite3.Error as error:
        raise SetupError(f"{source} cannot be copied to {target}: {error}") from error

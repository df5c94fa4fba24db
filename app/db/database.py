"""One database, SQLite or PostgreSQL: connections, transactions, schema revision.

Statements stand in each subject's `store.py`; a driver has what differs between the two.
"""

import asyncio
import contextvars
import logging
import math
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import bindparam, delete, exists, func, insert, make_url, or_, select, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.db import revisions
from app.db.connection import Connection, Driver
from app.db.connections import AWAY, REFUSALS, Address, Connections
from app.db.errors import DatabaseUnavailable, Locked, Raced
from app.db.schema import (
    accounts,
    entities,
    links,
    metadata,
    outbox,
    rebuilds,
    reviews,
    transactions,
    write_probes,
)
from app.errors import SetupError
from app.ops.background import TaskHealth
from app.settings import MOST_CONNECTIONS
from app.times import now_us

logger = logging.getLogger("quickstudy")
Answer = TypeVar("Answer")

# Milliseconds. A statement of a batch takes a few; a lock is held for one batch, and whoever waits
# for what another session has locked holds a connection meanwhile.
PG_SETTINGS = {
    "lock_timeout": "1000",
    "statement_timeout": "10000",
    "jit": "off",
    # Few rows are found by their keys: a plan with an array of keys would be made each time, and no
    # table is so small that all of it should be looked at for each of the keys.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
}
# SQLite's codes for a file that cannot be written or opened, is damaged or none of its own, which
# waiting does not mend; these, and for one that is locked, that cannot be read or is full; and what
# either driver says of a connection that is closed.
SQLITE_REFUSALS = frozenset(
    {
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)
SQLITE_AWAY = SQLITE_REFUSALS | {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_PROTOCOL,
}
CLOSED = "clos"
READ_ONLY, DISK_FULL, TOO_MANY_CONNECTIONS = "25006", "53100", "53300"
NO_RIGHT = "42501"
# Readiness: how long a commit speaks for the next, how long one may take, how much is written (a
# score is about as much), and when rows of processes that are gone are deleted.
FRESH_SECONDS, READY_SECONDS, PROBE_BYTES, STALE_US = 1.0, 2.0, 64 << 10, 24 * 3_600_000_000
LOCK_NOT_AVAILABLE = "55P03"
# And deadlock_detected, serialization_failure.
RETRYABLE = frozenset({"40P01", "40001", LOCK_NOT_AVAILABLE})
LOCKED = "Another session has locked a table of the database: nothing can be stored or read."

# Each time another replica's batch has got through, so that this one's turn comes.
ATTEMPTS = 10
# Whether a tenant's states are being rebuilt: servers that run already store nothing of it then.
IS_REBUILDING = exists().where(rebuilds.c.tenant == bindparam("of_tenant"))
_REBUILDING = select(IS_REBUILDING)
# What a score is written to.
_SCORED = (accounts, entities, links, outbox, reviews, transactions)
_WRITING = text(f"LOCK TABLE {', '.join(table.name for table in _SCORED)} IN ROW EXCLUSIVE MODE")
_NEEDED = [
    *((table.name, "SELECT") for table in metadata.sorted_tables),
    *((table.name, right) for table in _SCORED for right in ("INSERT", "UPDATE")),
]
# Of a table that is gone the right is null.
_LACKING = text(
    f"""SELECT name, kind FROM (VALUES {", ".join(map(str, _NEEDED))}) AS needed (name, kind)
    WHERE has_table_privilege(to_regclass(name), kind) IS NOT TRUE LIMIT 1"""
)


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
        self._driver = self._driver_for(url, pg_connections)
        self._readiness = Readiness(self)

    def _driver_for(self, url: str, pg_connections: int) -> Driver:
        # Here, since SQLAlchemy has its ORM come along with what PostgreSQL's needs: 7 MB.
        if self.is_sqlite:
            from app.db.sqlite import SQLiteDriver

            return SQLiteDriver(self.url)
        from app.db.postgres import PostgresDriver

        return PostgresDriver(Connections(Address(url), PG_SETTINGS), pg_connections)

    @property
    def background(self) -> list[TaskHealth]:
        """How the tasks fare that this runs beside its transactions."""
        return self._driver.background

    @property
    def is_recovering(self) -> bool:
        """Whether tasks that failed for want of PostgreSQL have not had the time to run again."""
        return self._driver.is_recovering

    @property
    def history(self) -> str:
        """Another one once what was committed may be gone, and its numbers be given anew."""
        return self._driver.history

    @property
    def file(self) -> Path | None:
        """SQLite's file."""
        return Path(self.url.database or "") if self.is_sqlite else None

    @property
    def connections_in_use(self) -> int:
        """PostgreSQL's; SQLite's cost nothing."""
        return self._driver.connections_in_use

    @asynccontextmanager
    async def write(self, aside: bool = False) -> AsyncIterator[Connection]:
        """A transaction that is committed when the block ends.

        One about many rows is to be `aside`: SQLite's statements then leave the event loop alone.
        Raises Raced when it lost against another writer, DatabaseUnavailable when the
        database cannot be reached or does not answer in time.
        """
        with self._readiness.watched(), self._driver.watched(), self._translated():
            async with self._driver.write(aside) as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Connection]:
        """A transaction that sees one state of the database, and waits for no writer.

        Raises DatabaseUnavailable, also where somebody has locked a table even to readers.
        """
        with self._driver.watched(), self._translated(), _unraced():
            async with self._driver.read() as connection:
                yield connection

    @asynccontextmanager
    async def glance(self) -> AsyncIterator[Connection]:
        """`read`, for one query: without a hop to one of SQLite's threads, or a transaction."""
        with self._driver.watched(), self._translated(), _unraced():
            async with self._driver.glance() as connection:
                yield connection

    async def run(
        self,
        change: Callable[[Connection], Awaitable[Answer]],
        aside: bool = False,
        is_shared: bool = False,
    ) -> Answer:
        """`change` in a transaction, committed when this returns; run again when it was raced.

        Raises DatabaseUnavailable like `write`, or when it is raced again and again, and the
        driver's own error where it violates the same constraint by the same values twice: then
        nobody else's row explains it. One that `is_shared` by callers raises Locked where another
        session has held for a second what one of them needs.
        """
        before = None
        for _ in range(ATTEMPTS):
            try:
                async with self.write(aside) as connection:
                    return await change(connection)
            except Violated as violated:
                if violated.details == before:
                    logger.error("constraint violated without a race: %s", violated.constraint)
                    raise violated.__cause__ or violated from None
                before = violated.details
                logger.info("another writer came first: once more")
            except Raced as raced:
                if is_shared and isinstance(raced, Locked):
                    raise
                before = None
                logger.info("another writer came first: once more")
        raise DatabaseUnavailable("Too many writers at once: nothing was stored.")

    @property
    def has_changed(self) -> bool:
        """Whether the last transaction changed anything: of SQLite an empty one says nothing."""
        return self._driver.has_changed

    async def check_revision(self) -> None:
        """Raises SetupError where the schema is not the one this version was written for."""
        async with self.read() as connection:
            found = await connection.run_sync(revisions.current_revision)
        if found != revisions.newest_revision():
            raise SetupError(
                f"the database is at schema revision {found or 'none'}, this version needs "
                f"{revisions.newest_revision()}: run `quickstudy db upgrade` with the version that "
                "is to serve"
            )

    async def check_schema(self) -> None:
        """Raises SetupError also where a part of that schema is missing: slow, for the start."""
        await self.check_revision()
        async with self.read() as connection:
            missing = await connection.run_sync(revisions.missing)
        if missing:
            raise SetupError(
                f"the database is marked as schema revision {revisions.newest_revision()}, but "
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

    async def check_rights(self) -> None:
        """Raises SetupError where PostgreSQL's role may not read all tables and write scores.

        To lock a table for writing, any right to change it is enough.
        """
        if self.is_sqlite:
            return
        async with self.read() as connection:
            lacking = (await connection.execute(_LACKING)).one_or_none()
        if lacking is not None:
            raise SetupError(
                f"the database's role may not {lacking.kind} in the table {lacking.name}, or there "
                "is no such table: grant the role its rights again"
            )

    async def check_ready(self) -> None:
        """Raises SetupError like the checks of revision, states and rights, DatabaseUnavailable
        where nothing can be stored.

        However many ask, one check runs at a time, and writes at most once a second.
        """
        await self._readiness.check()

    def _translated(self) -> "_translated":
        return _translated(self._driver.fail_over)

    async def close(self) -> None:
        await self._readiness.close()
        await self._driver.close()


async def refuse_while_rebuilding(connection: Connection, tenant: str) -> None:
    """Raises DatabaseUnavailable while the tenant's states are being rebuilt."""
    [(is_rebuilding,)] = await connection.fetch(tuple[Any, ...], _REBUILDING, tenant)
    refuse_if(is_rebuilding)


def refuse_if(is_rebuilding: bool) -> None:
    """Raises DatabaseUnavailable where that was found."""
    if is_rebuilding:
        raise DatabaseUnavailable(
            "The states are being rebuilt: nothing was stored, and nothing will be until "
            "`quickstudy db rebuild` has ended and the servers are started again."
        )


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
        """A block that writes: what becomes of it shows whether others could."""
        return _Stored(self)

    def note(self, error: BaseException | None) -> None:
        """A transaction has been committed, or has failed."""
        if error is None and self._database.has_changed:
            self._stored_at = time.monotonic()
        elif isinstance(error, DatabaseUnavailable):
            self._stored_at = -math.inf

    async def check(self) -> None:
        """Raises DatabaseUnavailable where a score could not be stored now; callers share a try."""
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
        await self._database.check_rights()
        if not self._is_fresh():
            await self._write()

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._stored_at < FRESH_SECONDS

    async def _write(self) -> None:
        """Store about as much as a score does: of a full disk, a little may be left."""
        now = now_us()
        stale = or_(write_probes.c.id == self._id, write_probes.c.written_at_us < now - STALE_US)
        row = {"id": self._id, "written_at_us": now, "content": secrets.token_bytes(PROBE_BYTES)}
        try:
            async with self._database.write() as connection:
                if not self._database.is_sqlite:
                    # A table that somebody has locked, as for an index that is not built
                    # concurrently, takes no score: whoever waits here has not been ready for long.
                    await connection.execute(_WRITING)
                await connection.execute(delete(write_probes).where(stale))
                await connection.execute(insert(write_probes), row)
        except Raced:
            raise DatabaseUnavailable(LOCKED) from None

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
    """Driver errors as those that callers distinguish; anything else passes through."""

    __slots__ = ("_fail_over",)

    def __init__(self, fail_over: Callable[[], None]) -> None:
        self._fail_over = fail_over

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, IntegrityError | asyncpg.IntegrityConstraintViolationError):
            raise Violated(error) from error
        if isinstance(error, DBAPIError | asyncpg.PostgresError | asyncpg.InterfaceError):
            # PostgreSQL's driver is called past SQLAlchemy, or through it.
            driver = error.orig if isinstance(error, DBAPIError) else error
            state = getattr(driver, "sqlstate", None)
            if state in RETRYABLE:
                raise (Locked if state == LOCK_NOT_AVAILABLE else Raced) from error
            if state == READ_ONLY:
                self._fail_over()
            if is_about_the_connection(error):
                raise DatabaseUnavailable(_reason(driver, state)) from error
        # The driver's own state is off once its connection was lost in the midst of a question.
        elif isinstance(error, OSError | PoolTimeout | TimeoutError | asyncpg.InternalClientError):
            raise DatabaseUnavailable from error


class _unraced:
    """Readers lose against no writer: what could be tried again is a table that is locked."""

    __slots__ = ()

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, DBAPIError | asyncpg.PostgresError):
            driver = error.orig if isinstance(error, DBAPIError) else error
            if getattr(driver, "sqlstate", None) in RETRYABLE:
                raise DatabaseUnavailable(LOCKED) from error


def is_about_the_connection(error: Exception) -> bool:
    """Whether a driver's error says that the database is away, rather than what is wrong."""
    driver = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(driver, "sqlstate", None)
    # Also statement_timeout, and files that the server's system cannot read or write; asyncpg's own
    # interface errors have no state, and SQLite has codes of its own.
    if state is not None:
        return state[:2] in {*AWAY, "58"} or state in {READ_ONLY, NO_RIGHT}
    lost = isinstance(error, DBAPIError) and error.connection_invalidated
    return lost or _sqlite_code(driver) in SQLITE_AWAY or CLOSED in str(driver)


def refuses(error: BaseException) -> bool:
    """Whether behind this is what does not end by itself: a password, a right, a damaged file."""
    found: BaseException | None = error
    while found is not None:
        driver = getattr(found, "orig", found)
        state = str(getattr(driver, "sqlstate", None))
        if state[:2] in REFUSALS or _sqlite_code(driver) in SQLITE_REFUSALS:
            return True
        found = found.__cause__
    return False


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
    if state == NO_RIGHT:
        return "The database's role has lost a right that this needs."
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

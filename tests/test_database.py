"""Transactions of either database: durable, exclusive where they write, consistent where not."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from app.accounts.store import Account
from app.db import sqlite
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import DatabaseUnavailable, Raced
from app.db.schema import accounts
from app.ops.turns import owner
from app.settings import MOST_CONNECTIONS
from tests.conftest import mainly

pytestmark = pytest.mark.anyio

# To a connection of a database.
Way: TypeAlias = Callable[[], AbstractAsyncContextManager[Connection]]
ALICE = {"tenant": "t", "account_id": "alice"}


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        rows = await connection.execute(text("SELECT account_id FROM accounts ORDER BY account_id"))
        return [name for (name,) in rows]


async def test_what_a_block_wrote_is_there_after_it(database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(accounts.insert(), ALICE)
    assert await names(database) == ["alice"]


async def test_a_block_that_fails_leaves_nothing(database: Database) -> None:
    async def insert_and_fail() -> None:
        async with database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)
            raise KeyError("a fault")

    with pytest.raises(KeyError):
        await insert_and_fail()
    assert await names(database) == []


async def test_a_reader_sees_one_state_while_a_writer_changes_it(database: Database) -> None:
    async with database.read() as reader:
        before = (await reader.execute(text("SELECT count(*) FROM accounts"))).scalar_one()
        async with database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)
        after = (await reader.execute(text("SELECT count(*) FROM accounts"))).scalar_one()
    assert (before, after) == (0, 0)
    assert await names(database) == ["alice"]


async def test_a_glance_sees_one_state_and_writes_nothing(database: Database) -> None:
    async with database.glance() as glance, database.write() as connection:
        before = (await glance.execute(text("SELECT count(*) FROM accounts"))).scalar_one()
        await connection.execute(accounts.insert(), ALICE)
        async with database.glance() as other:
            beside = (await other.execute(text("SELECT count(*) FROM accounts"))).scalar_one()
    assert (before, beside) == (0, 0)
    async with database.glance() as glance:
        assert (await glance.execute(text("SELECT count(*) FROM accounts"))).scalar_one() == 1
        if not database.is_sqlite:
            return
        await glance.execute(accounts.insert(), {**ALICE, "account_id": "bob"})
    assert await names(database) == ["alice"]


async def test_the_second_of_two_equal_inserts_knows_that_it_was_raced(
    database: Database,
) -> None:
    async with database.write() as connection:
        await connection.execute(accounts.insert(), ALICE)
    with pytest.raises(Raced):
        async with database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)


async def test_raced_work_is_run_again(database: Database) -> None:
    attempts = 0

    async def count(connection: object) -> str:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise Raced
        return "done"

    assert await database.run(count) == "done"
    assert attempts == 3


async def test_work_that_is_always_raced_ends_as_unavailable(database: Database) -> None:
    async def fail(connection: object) -> None:
        raise Raced

    with pytest.raises(DatabaseUnavailable):
        await database.run(fail)


async def test_a_violation_that_no_race_explains_is_no_other_writer_and_is_logged(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    async def insert(connection: Connection) -> None:
        nonlocal attempts
        attempts += 1
        await connection.write_rows(accounts, [Account(**ALICE), Account(**ALICE)])

    with pytest.raises((IntegrityError, asyncpg.UniqueViolationError)):
        await database.run(insert)
    assert attempts == 2
    [logged] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "accounts" in logged.getMessage()
    # A caller's values are in no log.
    assert "alice" not in caplog.text
    assert await names(database) == []


async def test_a_violation_that_a_race_explains_is_run_again(database: Database) -> None:
    attempts = 0

    async def insert(connection: Connection) -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            await connection.write_rows(accounts, [Account(**ALICE), Account(**ALICE)])
        return "done"

    assert await database.run(insert) == "done"
    assert attempts == 2


async def test_a_driver_that_lost_its_connection_in_a_question_is_a_database_that_is_away(
    database: Database,
) -> None:
    for transaction in (database.write, database.read, database.glance):
        with pytest.raises(DatabaseUnavailable):
            async with transaction():
                raise asyncpg.InternalClientError("got result for unknown protocol state 3")


async def test_many_writers_at_once_lose_nothing(database: Database) -> None:
    async def add(number: int) -> None:
        async with database.write() as connection:
            await connection.execute(
                accounts.insert(), {"tenant": "t", "account_id": f"{number:02}"}
            )

    await asyncio.gather(*(add(number) for number in range(30)))
    assert await names(database) == [f"{number:02}" for number in range(30)]


@mainly("sqlite", "database_url")
async def test_a_tenant_that_writes_much_keeps_others_waiting_for_one_transaction(
    database: Database,
) -> None:
    written: list[str] = []

    async def write(tenant: str) -> None:
        owner.set(tenant)
        async with database.write() as connection:
            await connection.execute(text("SELECT 1"))
            written.append(tenant)

    async with database.write():
        many = [asyncio.create_task(write("many")) for _ in range(30)]
        await asyncio.sleep(0)
        one = asyncio.create_task(write("one"))
        await asyncio.sleep(0)
    await asyncio.gather(*many, one)
    assert written.index("one") <= 1


async def test_a_tenant_that_asks_much_keeps_others_waiting_for_one_of_its_turns(
    database: Database,
) -> None:
    served: list[str] = []

    async def use(tenant: str, way: Way) -> None:
        owner.set(tenant)
        async with way():
            await asyncio.sleep(0.02)
        served.append(tenant)

    # The database's connections, or SQLite's readers, have all been opened.
    ways: tuple[Way, ...] = (database.read, database.write, database.glance)
    ways = (database.read,) if database.is_sqlite else ways
    await asyncio.gather(*(use("warm", ways[0]) for _ in range(MOST_CONNECTIONS)))
    for way in ways:
        served.clear()
        crowd = [asyncio.create_task(use("crowd", way)) for _ in range(8 * MOST_CONNECTIONS)]
        await asyncio.sleep(0)
        await use("other", way)
        # Those that had begun, and as many that were before it.
        assert served.index("other") <= 3 * MOST_CONNECTIONS
        await asyncio.gather(*crowd)


@mainly("sqlite", "database_url")
async def test_a_commit_needs_none_of_the_threads_that_compute(database: Database) -> None:
    is_over = threading.Event()
    loop = asyncio.get_running_loop()
    computing = [loop.run_in_executor(None, is_over.wait) for _ in range(64)]
    try:
        async with asyncio.timeout(30), database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)
    finally:
        is_over.set()
        await asyncio.gather(*computing)
    assert await names(database) == ["alice"]


async def test_sqlite_commits_are_flushed_to_the_disk(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL does so by default")
    for opened, cache_kib in ((database.write, 64 << 10), (database.read, 8 << 10)):
        async with opened() as connection:
            pragmas = [
                (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
                for name in ("synchronous", "journal_mode", "foreign_keys", "cache_size")
            ]
        assert pragmas == [2, "wal", 1, -cache_kib]


async def test_a_full_disk_is_a_database_that_is_away_and_loses_nothing(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL says so by its SQLSTATE")
    async with database.write() as connection:
        await connection.execute(accounts.insert(), {"tenant": "t", "account_id": "before"})
    async with database.write() as connection:
        used = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
        await connection.execute(text(f"PRAGMA max_page_count={used}"))
    rows = [{"tenant": "t", "account_id": f"{n:0100}"} for n in range(1000)]
    with pytest.raises(DatabaseUnavailable):
        async with database.write() as connection:
            await connection.execute(accounts.insert(), rows)
    assert await names(database) == ["before"]
    # There is room again.
    async with database.write() as connection:
        await connection.execute(text(f"PRAGMA max_page_count={used + 1000}"))
        await connection.execute(accounts.insert(), {"tenant": "t", "account_id": "later"})
    assert await names(database) == ["before", "later"]


@pytest.fixture
def other_process(database: Database) -> Iterator[sqlite3.Connection]:
    """Another connection to the same SQLite file, in the middle of writing."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL locks rows, and waits by itself")
    with closing(sqlite3.connect(str(database.url.database), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


async def test_a_writer_waits_for_another_process_and_keeps_nobody_else(
    database: Database, other_process: sqlite3.Connection
) -> None:
    async def insert() -> None:
        async with database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)

    writing = asyncio.create_task(insert())
    for _ in range(20):
        # Were the loop kept waiting, this would take as long as the lock is held: for ever.
        await asyncio.sleep(0.001)
        assert await names(database) == []
    assert not writing.done()
    other_process.execute("COMMIT")
    await asyncio.wait_for(writing, 60)
    assert await names(database) == ["alice"]


async def test_a_writer_that_waits_too_long_gets_database_unavailable(
    database: Database, other_process: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as short:
        short.setattr("app.db.sqlite.BUSY_MS", 20)
        with pytest.raises(DatabaseUnavailable):
            async with database.write():
                pass
    other_process.execute("COMMIT")
    async with database.write() as connection:
        await connection.execute(accounts.insert(), ALICE)


async def test_a_commit_goes_to_its_end_though_its_caller_is_gone(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL's driver ends the connection")
    begun, commit = threading.Event(), sqlite.commit

    def slow(raw: sqlite3.Connection) -> None:
        begun.set()
        time.sleep(0.1)
        commit(raw)

    monkeypatch.setattr(sqlite, "commit", slow)

    async def insert() -> None:
        async with database.write() as connection:
            await connection.execute(accounts.insert(), ALICE)

    writing = asyncio.create_task(insert())
    while not begun.is_set():
        await asyncio.sleep(0.001)
    writing.cancel()
    # The next writer may not touch the connection before the commit has ended.
    async with database.write() as connection:
        await connection.execute(accounts.insert(), {**ALICE, "account_id": "bob"})
    assert writing.cancelled()
    assert await names(database) == ["alice", "bob"]


async def test_a_database_that_is_away_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DatabaseUnavailable):
        async with database.write():
            pass
    await database.close()


async def test_a_file_that_is_not_at_its_path_any_more_takes_nothing(database: Database) -> None:
    if database.file is None:
        pytest.skip("PostgreSQL has its files to itself")
    async with database.write() as connection:
        await connection.execute(accounts.insert(), ALICE)
    path, away = database.file, database.file.with_name("away.db")

    async def is_refused() -> None:
        for begin in (database.write, database.read, database.glance):
            with pytest.raises(DatabaseUnavailable, match="moved, replaced or deleted"):
                async with begin() as connection:
                    await connection.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            await database.check_ready()

    path.rename(away)
    await is_refused()
    # A backup of another day in its place.
    path.write_bytes(away.read_bytes())
    await is_refused()
    away.replace(path)
    await database.check_ready()
    assert await names(database) == ["alice"]


async def test_an_error_never_holds_the_parameters_of_a_statement(database: Database) -> None:
    with pytest.raises(Exception) as failed:  # noqa: PT011
        async with database.read() as connection:
            await connection.execute(text("SELECT :secret FROM nowhere"), {"secret": "canary"})
    assert "canary" not in str(failed.value)
    assert "hidden" in str(failed.value) or "hide_parameters" in str(failed.value)


@pytest.fixture
def hurried(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A SQLite file whose log is copied all the time, and is long soon."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has a checkpointer")
    monkeypatch.setattr(sqlite, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(sqlite, "LONG_PAGES", 100)
    return database


async def insert_pages(database: Database, name: str, commits: int) -> None:
    """So many commits one right after the other, of twenty rows that fill a page each."""
    for n in range(commits):
        rows = [
            {"tenant": name, "account_id": f"{n:04} {row:02}", "state": bytes(3000)}
            for row in range(20)
        ]
        async with database.write() as connection:
            await connection.execute(accounts.insert(), rows)


def log_pages(database: Database) -> int:
    return Path(f"{database.url.database}-wal").stat().st_size // 4096


async def test_sqlites_log_begins_anew_however_fast_commits_come(hurried: Database) -> None:
    await insert_pages(hurried, "t", 200)
    # Of more than 4,000 that were written.
    assert log_pages(hurried) < 1000


async def test_sqlites_log_begins_anew_though_two_processes_write(hurried: Database) -> None:
    other = Database(str(hurried.url))
    await asyncio.gather(insert_pages(hurried, "t", 100), insert_pages(other, "u", 100))
    await other.close()
    assert log_pages(hurried) < 2000


async def test_sqlites_log_waits_for_a_reader_and_begins_anew_after_it(hurried: Database) -> None:
    async with hurried.read() as reader:
        count = text("SELECT count(*) FROM accounts")
        assert (await reader.execute(count)).scalar_one() == 0
        await insert_pages(hurried, "t", 50)
        assert (await reader.execute(count)).scalar_one() == 0
    long = log_pages(hurried)
    assert long > 1000
    # More than 4,000 pages; it begins anew once the thread that copies has had a turn.
    await insert_pages(hurried, "u", 200)
    assert log_pages(hurried) < long + 2000


async def test_no_commit_copies_sqlites_log_and_a_closed_file_has_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL has a checkpointer")
    # The first that comes after a commit finds that its time is far off.
    monkeypatch.setattr(sqlite, "CHECKPOINT_SECONDS", 3600.0)
    other = Database(str(database.url))
    await insert_pages(other, "t", 100)
    assert log_pages(database) > 2000
    await other.close()
    await database.close()
    assert not Path(f"{database.url.database}-wal").exists()
    with closing(sqlite3.connect(str(database.url.database))) as file:
        assert file.execute("SELECT count(*) FROM accounts").fetchone() == (2000,)


async def test_commits_go_on_though_the_log_cannot_be_copied(
    hurried: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    await insert_pages(hurried, "s", 1)
    monkeypatch.setattr(sqlite, "closing", failing)
    await insert_pages(hurried, "t", 9)
    assert len(await names(hurried)) == 200
    [failed, *_] = [
        record for record in caplog.records if "failed and is run again" in record.message
    ]
    assert failed.fields["task"] == "log checkpoints"  # type: ignore[attr-defined]

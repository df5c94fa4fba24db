"""Migrations by real processes: refused starts, several at once, killed ones, and long waits."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from alembic import command
from sqlalchemy import Connection, inspect, text

from app.db.database import Database
from app.db.migrating import (
    PG_MIGRATION_LIMITS,
    downgrade,
    migration_config,
    upgrade,
)
from app.db.revisions import current_revision, newest_revision
from app.db.schema import metadata
from app.errors import SetupError
from quickstudy_client import Client
from tests.api.requests import posted
from tests.reliability.conftest import Note
from tests.servers import new_key, server_process
from tests.test_migrations import execute, tables_of

START_SECONDS = 120
NEWER = "UPDATE alembic_version SET version_num = '9999'"
BEHIND = "UPDATE alembic_version SET version_num = '0003'"


def nothing(url: str) -> None:
    """No schema at all."""


def older(url: str) -> None:
    upgrade(url, "0003")


def altered(statement: str) -> Callable[[str], None]:
    """This version's schema, and then a statement."""

    def make(url: str) -> None:
        upgrade(url)
        asyncio.run(execute(url, statement))

    return make


# By what the database is: how to make it, and what each way to start says of it. `serve` brings
# an older or an empty one up to date instead.
STATES: dict[str, tuple[Callable[[str], None], str, str | None]] = {
    "empty": (nothing, "is at schema revision none, this version needs", None),
    "older": (older, "is at schema revision 0003, this version needs", None),
    "newer": (altered(NEWER), "is at schema revision 9999, this version", "this version, which is"),
    "half gone": (altered("DROP TABLE outbox"), "but has no outbox.id", "but has no outbox.id"),
    "half moved": (altered(BEHIND), "is at schema revision 0003", "cannot be migrated: "),
}
STARTS = {
    "uvicorn": ("-m", "uvicorn", "--factory", "app.main:create_app", "--port", "0"),
    "serve": ("-m", "app.cli.main", "serve", "--port", "0"),
}
# Of the short form, on each database some: a start takes seconds.
FEW = {
    "sqlite": {("half gone", "uvicorn")},
    "postgresql": {("newer", "serve")},
}


@pytest.mark.parametrize("way", STARTS)
@pytest.mark.parametrize("state", STATES)
def test_a_start_on_another_schema_is_refused_with_a_sentence_and_serves_nothing(
    unmigrated_database_url: str, checkpoint: Path, state: str, way: str, torture: bool, noted: Note
) -> None:
    url = unmigrated_database_url
    dialect = url.partition("+")[0]
    make, by_uvicorn, by_serve = STATES[state]
    sentence = by_uvicorn if way == "uvicorn" else by_serve
    if sentence is None:
        pytest.skip("it is brought up to date: tests/test_cli.py")
    if not torture and (state, way) not in FEW[dialect]:
        pytest.skip("of the full form")
    make(url)
    before = asyncio.run(tables_of(url))
    settings = {"DATABASE_URL": url, "MODEL": str(checkpoint), "DEVICE": "cpu"}
    done = subprocess.run(
        [sys.executable, *STARTS[way]],
        env={**os.environ, **{f"QUICKSTUDY_{name}": value for name, value in settings.items()}},
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert done.returncode in (2, 3), done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if sentence in line]
    assert len(lines) == 1
    assert asyncio.run(tables_of(url)) == before
    noted(f"A start on a schema that is {state} is refused ({way})", dialect, lines[0].strip())


MIGRATE = """
import sys
from app.db.migrating import upgrade
print("ready", flush=True)
sys.stdin.readline()
upgrade(sys.argv[1])
"""


def migrating(url: str) -> "subprocess.Popen[str]":
    """A process that migrates as soon as it reads a line; it is ready to."""
    process = subprocess.Popen(
        [sys.executable, "-c", MIGRATE, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def begin(*processes: "subprocess.Popen[str]") -> None:
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()


def test_processes_that_migrate_at_once_all_end_with_the_whole_schema(
    unmigrated_database_url: str, torture: bool, noted: Note
) -> None:
    url, size, rounds = unmigrated_database_url, 8 if torture else 3, 10 if torture else 1
    for _ in range(rounds):
        processes = [migrating(url) for _ in range(size)]
        begin(*processes)
        for process in processes:
            _, error = process.communicate(timeout=START_SECONDS)
            assert process.returncode == 0, error
        command.check(migration_config(url))
        downgrade(url, "base")
    noted(
        "Processes that migrate at once leave one whole schema, and none fails",
        url.partition("+")[0],
        f"{rounds} times {size} processes",
    )


# By revision, the columns that the migration after it commits before it builds an index on them.
AHEAD: dict[str | None, dict[str, set[str]]] = {"0020": {"reviews": {"snoozed_until_us"}}}


def test_a_migration_that_is_killed_leaves_all_of_the_schema_or_nothing(
    unmigrated_database_url: str, torture: bool, noted: Note
) -> None:
    url, rounds = unmigrated_database_url, 40 if torture else 2
    seen: Counter[str] = Counter()
    chosen = random.Random(0)
    for turn in range(rounds):
        process = migrating(url)
        begin(process)
        if turn % 2:
            time.sleep(chosen.uniform(0, 0.5))
        else:
            # The moment that others see anything of it: half of it, were it not one transaction.
            while process.poll() is None and not asyncio.run(tables_of(url)):
                pass
        process.kill()
        process.communicate()
        revision, columns = asyncio.run(left_in(url))
        if url.startswith("sqlite"):
            assert revision in (None, newest_revision())
        seen[
            "nothing" if revision is None else "all" if revision == newest_revision() else "part"
        ] += 1
        # The next one waits for what the killed one still holds, and makes it whole.
        upgrade(url)
        command.check(migration_config(url))
        # Whatever was left is all that this revision has, neither less nor more, but for what the
        # next one commits before it builds an index.
        downgrade(url, revision or "base")
        whole = asyncio.run(left_in(url))[1]
        ahead = {table: whole[table] | names for table, names in AHEAD.get(revision, {}).items()}
        assert columns in (whole, whole | ahead)
        downgrade(url, "base")
        asyncio.run(execute(url, "DROP TABLE alembic_version"))
    noted(
        "A migration that is killed leaves the whole schema or nothing, and the next one makes it",
        url.partition("+")[0],
        f"{rounds} killed: {seen['nothing']} left nothing, {seen['all']} all"
        + f", {seen['part']} all that comes before an index is built" * bool(seen["part"]),
    )


async def left_in(url: str) -> tuple[str | None, dict[str, set[str]]]:
    """The revision that a database says it has, and the columns of each of its tables."""

    def look(connection: Connection) -> tuple[str | None, dict[str, set[str]]]:
        columns = {
            table: {column["name"] for column in found}
            for (_, table), found in inspect(connection).get_multi_columns().items()
            if table != "alembic_version"
        }
        return current_revision(connection), columns

    database = Database(url)
    try:
        async with database.read() as connection:
            return await connection.run_sync(look)
    finally:
        await database.close()


# By the revision that builds them, the indexes of a table in use.
BUILDING, BEFORE_IT = "0008", "0007"
INVALID = "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
# As a score stores it at that revision.
STORED = """
INSERT INTO transactions (tenant, transaction_id, account_id, occurred_at_us, content,
    content_digest, features, features_digest, probability, risk_score, risk_level, outcome, used,
    labels, revision, model, evaluated_at_us)
SELECT 't', '{name}-' || n, 'a', n, '{{}}', '', '', '', 0, 0, 'low', 'approve', 'base', 0, 0, '', 0
FROM generate_series(1, {rows}) AS n"""


def connected(url: str) -> Awaitable[asyncpg.Connection]:
    return asyncpg.connect(url.replace("+asyncpg", ""))


@pytest.mark.parametrize("unmigrated_database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("is_orphaned", [False, True], ids=["ended", "orphaned"])
def test_payments_are_stored_while_an_index_is_built_and_an_interrupted_build_is_done_again(
    unmigrated_database_url: str, is_orphaned: bool, noted: Note
) -> None:
    url = unmigrated_database_url
    upgrade(url, BEFORE_IT)

    async def interrupted() -> int:
        """Kill a migration that waits for a writer, and store payments meanwhile."""
        writer, other = await connected(url), await connected(url)
        await other.execute("SET lock_timeout = '10s'")
        await writer.execute(f"BEGIN; {STORED.format(name='open', rows=1)}")
        process, stored = migrating(url), 0
        begin(process)
        try:
            while not await other.fetchval(INVALID):
                assert process.poll() is None
                await asyncio.sleep(0.01)
            for stored in range(1, 11):
                await other.execute(STORED.format(name=stored, rows=100))
        finally:
            process.kill()
            process.communicate()
        if not is_orphaned:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_create_index"
            )
            while await other.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"):
                await asyncio.sleep(0.01)
            assert await other.fetchval(INVALID) == 1
            await writer.execute("COMMIT")
            await asyncio.to_thread(upgrade, url)
        else:
            # What the killed one has begun goes on in the server when the next one comes.
            again = asyncio.create_task(asyncio.to_thread(upgrade, url))
            await asyncio.sleep(0.5)
            await writer.execute("COMMIT")
            await again
        assert await other.fetchval(INVALID) == 0
        assert await other.fetchval("SELECT count(*) FROM transactions") == 1 + 100 * stored
        await writer.close()
        await other.close()
        return 100 * stored

    stored = asyncio.run(asyncio.wait_for(interrupted(), START_SECONDS))
    command.check(migration_config(url))
    noted(
        "A build of an index holds up no payment; killed, it is done again",
        "postgresql",
        f"{stored:,} payments stored while it waited",
    )


@pytest.mark.torture
@pytest.mark.alone
@pytest.mark.parametrize("unmigrated_database_url", ["postgresql"], indirect=True)
def test_payments_do_not_feel_how_long_an_index_takes_to_build(
    unmigrated_database_url: str, noted: Note
) -> None:
    url, rows = unmigrated_database_url, 600_000
    upgrade(url, BEFORE_IT)

    async def measured() -> tuple[float, float]:
        """How long the migration takes, and the slowest payment beside it."""
        connection = await connected(url)
        await connection.execute(STORED.format(name="old", rows=rows))
        begun, slowest, n = time.monotonic(), 0.0, 0
        migration = asyncio.create_task(asyncio.to_thread(upgrade, url, BUILDING))
        while not migration.done():
            n, time_s = n + 1, time.monotonic()
            await connection.execute(STORED.format(name=f"new-{n}", rows=1))
            slowest = max(slowest, time.monotonic() - time_s)
            await asyncio.sleep(0.005)
        await migration
        await connection.close()
        return time.monotonic() - begun, slowest

    took, slowest = asyncio.run(measured())
    assert slowest < took / 4
    noted(
        f"Payments beside a build of an index over {rows:,} rows",
        "postgresql",
        f"{took:.1f} s of building, the slowest payment {slowest:.2f} s",
    )


class Scoring(threading.Thread):
    """Scores one payment after another, and notes how each was answered and how long it took."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__()
        self._client = Client(url, key)
        self._ended = threading.Event()
        self.seconds: list[float] = []
        self.error: Exception | None = None

    def run(self) -> None:
        with self._client as client:
            while not self._ended.is_set():
                begun = time.monotonic()
                try:
                    client.score(posted(f"t-{len(self.seconds)}"))
                except Exception as error:
                    self.error = error
                    return
                self.seconds.append(time.monotonic() - begun)

    def end(self) -> None:
        self._ended.set()
        self.join()


@pytest.mark.alone
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_migration_behind_a_long_transaction_gives_up_before_scoring_suffers(
    database_url: str, checkpoint: Path, noted: Note
) -> None:
    key = new_key(database_url)

    async def blocked() -> float:
        """A report reads all tables for long while a migration wants one: how long that waited.

        Whichever that is: where it took a step, the service would lack a column.
        """
        database = Database(database_url)
        async with database.read() as report:
            for table in metadata.sorted_tables:
                await report.execute(text(f"SELECT count(*) FROM {table.name}"))
            begun = time.monotonic()
            # Scoring and the migration may also each want what the other has: then one gives
            # up sooner, and scoring tries again.
            with pytest.raises(SetupError, match=r"lock timeout|deadlock"):
                await asyncio.to_thread(downgrade, database_url, "0002")
            waited = time.monotonic() - begun
        await database.close()
        return waited

    with server_process(database_url, checkpoint) as server:
        scoring = Scoring(server.url, key)
        scoring.start()
        time.sleep(0.5)
        waited = asyncio.run(blocked())
        time.sleep(0.5)
        scoring.end()
        # Each step is a transaction of its own: none has been taken before the one that waited.
        upgrade(database_url)
        assert httpx.get(f"{server.url}/readyz").is_success
    assert scoring.error is None, scoring.error
    # It waits for some locks, one after the other, each no longer than this.
    assert waited < 4 * int(PG_MIGRATION_LIMITS["lock_timeout"]) / 1000
    assert max(scoring.seconds) < waited + 2
    asyncio.run(checked(database_url))
    noted(
        "A migration behind a long transaction gives up; scoring waits no longer than it does",
        "postgresql",
        f"gave up after {waited:.1f} s; {len(scoring.seconds):,} scores meanwhile, the slowest "
        f"{max(scoring.seconds):.1f} s, none refused",
    )


async def checked(url: str) -> Any:
    database = Database(url)
    try:
        await database.check_schema()
    finally:
        await database.close()

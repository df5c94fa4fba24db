"""The database goes away, in three ways, and comes back: refused quickly, served again quickly."""

import asyncio
import contextlib
import sqlite3
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from sqlalchemy import text

from app.db import breaker as breaking
from app.db.breaker import ANSWER_SECONDS, LONG_SECONDS, PAUSE_SECONDS, Breaker
from app.db.connections import CONNECT_SECONDS
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.settings import MOST_CONNECTIONS
from tests.api.callers import calling, settings_of
from tests.api.requests import posted, problem_of
from tests.conftest import sqlite_url
from tests.postgres import PostgresServer
from tests.reliability.conftest import Note
from tests.servers import Server, new_key, server_process

pytestmark = [pytest.mark.alone, pytest.mark.anyio]

# How soon requests are refused, and served again; the short form leaves a busy machine its time.
REFUSED_SECONDS, RECOVERED_SECONDS = 1.0, 5.0
PATIENCE = 30.0
NUMBERS = count()
ACCOUNTS = 20
# Twice as many requests at once as there are connections.
MANY = 2 * MOST_CONNECTIONS


class Outage(NamedTuple):
    """How a database goes away, and comes back."""

    begin: Callable[[PostgresServer], None]
    end: Callable[[PostgresServer], None]


OUTAGES = {
    "stopped": Outage(PostgresServer.stop, PostgresServer.start),
    "killed": Outage(PostgresServer.kill, PostgresServer.start),
    "paused": Outage(PostgresServer.pause, PostgresServer.resume),
}


class Answered(NamedTuple):
    """An answer, and after how many seconds it came."""

    answer: httpx.Response
    seconds: float


@dataclass(frozen=True)
class Caller:
    """A caller of the service, with as many requests at once as it takes."""

    client: httpx.AsyncClient

    async def get(self, path: str) -> Answered:
        begun = time.perf_counter()
        answer = await self.client.get(path)
        return Answered(answer, time.perf_counter() - begun)

    async def score(self) -> Answered:
        number = next(NUMBERS)
        begun = time.perf_counter()
        body = posted(f"outage-{number}", account_id=f"a-{number % ACCOUNTS}")
        answer = await self.client.post("/v1/transactions", json=body)
        return Answered(answer, time.perf_counter() - begun)

    async def label(self) -> Answered:
        transaction_id = f"known-{next(NUMBERS) % ACCOUNTS}"
        begun = time.perf_counter()
        answer = await self.client.put(
            f"/v1/transactions/{transaction_id}/label", json={"label": "fraud"}
        )
        return Answered(answer, time.perf_counter() - begun)

    async def prepare(self) -> None:
        """Transactions to label."""
        for n in range(ACCOUNTS):
            body = posted(f"known-{n}", account_id=f"a-{n}")
            assert (await self.client.post("/v1/transactions", json=body)).status_code == 200

    async def mixed(self, requests: int) -> list[Answered]:
        """Scores, labels and questions after readiness, all at once."""
        kinds = (self.score, self.label, self.score, lambda: self.get("/readyz"))
        return await asyncio.gather(*(kinds[n % len(kinds)]() for n in range(requests)))


@pytest.fixture(scope="module")
def service(own_postgres: PostgresServer, checkpoint: Path) -> Iterator[tuple[Server, str]]:
    """A server on a PostgreSQL that may go away, and a key to it."""
    url = own_postgres.create("outage")
    upgrade(url)
    with server_process(url, checkpoint) as server:
        yield server, new_key(url)


@pytest.fixture
async def caller(service: tuple[Server, str]) -> AsyncIterator[Caller]:
    server, key = service
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=300)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=PATIENCE, limits=limits
    ) as client:
        caller = Caller(client)
        await caller.prepare()
        assert {exchange.answer.status_code for exchange in await caller.mixed(MANY)} == {200}
        yield caller


def assert_refused(answers: list[Answered]) -> None:
    """All of them 503, with the time to come again."""
    for answer, _ in answers:
        assert problem_of(answer) == (503, "database_unavailable"), answer.text
        assert answer.headers["retry-after"] == "1"


@pytest.mark.parametrize("how", OUTAGES)
async def test_requests_are_refused_at_once_and_served_soon_after(
    caller: Caller,
    service: tuple[Server, str],
    own_postgres: PostgresServer,
    how: str,
    torture: bool,
    noted: Note,
) -> None:
    outage, process = OUTAGES[how], service[0].process
    await asyncio.to_thread(outage.begin, own_postgres)
    try:
        # These find out: they hang on connections that were good.
        first = await caller.mixed(8)
        assert_refused(first)
        later: list[Answered] = []
        alive: list[Answered] = []
        until = time.monotonic() + (20.0 if torture else 1.0)
        while time.monotonic() < until:
            later += [await caller.score(), await caller.label(), await caller.get("/readyz")]
            alive.append(await caller.get("/livez"))
        # Far more than there are connections, all at once.
        crowd = await caller.mixed(200)
        assert_refused([*later, *crowd])
        assert {exchange.answer.status_code for exchange in alive} == {200}
    finally:
        await asyncio.to_thread(outage.end, own_postgres)
    begun = time.perf_counter()
    while (answer := (await caller.score()).answer).status_code == 503:
        assert time.perf_counter() - begun < PATIENCE
        await asyncio.sleep(0.02)
    recovered = time.perf_counter() - begun
    assert answer.status_code == 200
    # Nothing of the outage is left: neither a lost connection nor one that nobody gave back.
    after = [exchange for _ in range(3) for exchange in await caller.mixed(MANY)]
    assert {exchange.answer.status_code for exchange in after} == {200}
    assert process.poll() is None
    later_seconds = sorted(exchange.seconds for exchange in later)
    p99 = later_seconds[int(0.99 * len(later))]
    slowest = {
        "first": max(exchange.seconds for exchange in first),
        "crowd": max(exchange.seconds for exchange in crowd),
        "alive": max(exchange.seconds for exchange in alive),
    }
    noted(
        f"PostgreSQL {how}: 503 in under 1 s, served again in under 5 s",
        "PostgreSQL",
        f"first {len(first)} requests refused within {slowest['first']:.2f} s, "
        f"{len(later)} later ones in {statistics.median(later_seconds) * 1e3:.1f} ms "
        f"(p99 {p99 * 1e3:.0f}, slowest {later_seconds[-1] * 1e3:.0f}), "
        f"200 at once within {slowest['crowd']:.2f} s; "
        f"alive all the time; served again after {recovered:.2f} s; "
        f"{len(after)} requests after it all answered",
    )
    if torture:
        # Of thousands, the slowest says more about what else the machine did.
        assert max(slowest["first"], p99) < REFUSED_SECONDS
        assert recovered < RECOVERED_SECONDS


async def test_what_was_refused_can_be_sent_again(
    caller: Caller, own_postgres: PostgresServer
) -> None:
    body = posted("sent-again")
    own_postgres.pause()
    try:
        refused = await caller.client.post("/v1/transactions", json=body)
    finally:
        own_postgres.resume()
    assert problem_of(refused) == (503, "database_unavailable")
    await asyncio.sleep(ANSWER_SECONDS + 2 * PAUSE_SECONDS)
    answer = await caller.client.post("/v1/transactions", json=body)
    assert answer.status_code == 200
    assert (await caller.client.post("/v1/transactions", json=body)).content == answer.content


@pytest.fixture
async def postgres_database(own_postgres: PostgresServer) -> AsyncIterator[Database]:
    database = Database(own_postgres.url)
    yield database
    await database.close()


async def test_a_restart_between_two_requests_is_no_callers_trouble(
    postgres_database: Database, own_postgres: PostgresServer
) -> None:
    async def read() -> None:
        async with postgres_database.read() as connection:
            await connection.execute(text("SELECT pg_sleep(0.05)"))

    await asyncio.gather(*(read() for _ in range(MOST_CONNECTIONS)))
    await asyncio.to_thread(own_postgres.stop)
    await asyncio.to_thread(own_postgres.start)
    # All of the pool's connections are closed by now.
    await asyncio.gather(*(read() for _ in range(MOST_CONNECTIONS)))


async def test_a_slow_statement_of_a_healthy_database_is_but_slow(
    postgres_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> int:
        async with postgres_database.read() as connection:
            await connection.execute(text("SELECT pg_sleep(1.2)"))
            return int((await connection.execute(text("SELECT 7"))).scalar_one())

    # More than there are connections: some wait for one all the time.
    assert await asyncio.gather(*(slow() for _ in range(MOST_CONNECTIONS + 3))) == [7] * 18
    assert caplog.messages == []


async def test_a_connection_that_hangs_is_cut_with_its_database(
    postgres_database: Database, own_postgres: PostgresServer
) -> None:
    inside = asyncio.Event()

    async def transaction() -> None:
        async with postgres_database.write() as connection:
            await connection.execute(text("SELECT 1"))
            inside.set()
            await connection.execute(text("SELECT pg_sleep(0.1)"))
            await asyncio.sleep(0.2)
            await connection.execute(text("SELECT 2"))

    running = [asyncio.create_task(transaction()) for _ in range(3 * MOST_CONNECTIONS)]
    await inside.wait()
    own_postgres.pause()
    try:
        cut = asyncio.gather(*running, return_exceptions=True)
        # Long before those who wait for a connection lose their patience.
        ended = await asyncio.wait_for(cut, CONNECT_SECONDS - 1)
        assert {type(outcome) for outcome in ended} <= {DatabaseUnavailable, type(None)}
        assert DatabaseUnavailable in {type(outcome) for outcome in ended}
        with pytest.raises(DatabaseUnavailable):
            await transaction()
    finally:
        own_postgres.resume()
    await asyncio.sleep(ANSWER_SECONDS + 2 * PAUSE_SECONDS)
    await asyncio.gather(*(transaction() for _ in range(MOST_CONNECTIONS)))
    assert postgres_database.connections_in_use == 0


class Relay:
    """A network between the service and PostgreSQL that can lose what is on its way."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, other_writer]
        self._tasks += [
            asyncio.create_task(self._carry(reader, other_writer)),
            asyncio.create_task(self._carry(other_reader, writer)),
        ]

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while part := await reader.read(1 << 16):
                writer.write(part)
        writer.close()

    async def lose(self) -> None:
        """The connections that are open stay so, and carry nothing any more."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        await self.lose()
        self._server.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_a_connection_that_hangs_alone_is_closed(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.connections.STATEMENT_SECONDS", 1.0)
    relay = Relay(own_postgres.port)
    database = Database(f"postgresql://postgres@127.0.0.1:{await relay.start()}/postgres")

    async def transaction() -> None:
        async with database.write() as connection:
            await connection.execute(text("SELECT 1"))

    await transaction()
    await relay.lose()
    begun = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        await transaction()
    seconds = time.monotonic() - begun
    await transaction()
    await database.close()
    await relay.stop()
    assert seconds < PATIENCE


class Scripted:
    """A database that answers as a test says."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.queries = self.at_once = self.most_at_once = self.cuts = 0

    async def ask(self) -> None:
        self.queries += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.answers.wait()
        finally:
            self.at_once -= 1

    def cut(self) -> None:
        self.cuts += 1


async def test_one_query_at_a_time_tries_the_database_while_everybody_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("LONG", LONG_SECONDS), ("ANSWER", ANSWER_SECONDS), ("PAUSE", 0.25)):
        monkeypatch.setattr(breaking, f"{name}_SECONDS", seconds / 10)
    scripted = Scripted()
    breaker = Breaker(scripted.ask, scripted.cut)
    begun = time.monotonic()
    with breaker.transaction():
        while not breaker.is_open:
            await asyncio.sleep(0.001)
    refused = 0
    async with asyncio.timeout(PATIENCE):
        while scripted.queries < 3:
            with pytest.raises(DatabaseUnavailable), breaker.transaction():
                pass
            refused += 1
            await asyncio.sleep(0.001)
    assert (scripted.cuts, scripted.most_at_once) == (1, 1)
    assert refused > 3
    # Each has its time to be answered, and the pause after it.
    each = breaking.ANSWER_SECONDS + breaking.PAUSE_SECONDS
    assert scripted.queries <= 1 + (time.monotonic() - begun) / each
    scripted.answers.set()
    while breaker.is_open:
        await asyncio.sleep(0.001)
    with breaker.transaction():
        pass
    await breaker.close()


async def test_a_query_under_way_has_ended_when_the_breaker_is_closed() -> None:
    begun, has_ended = asyncio.Event(), False

    async def ask() -> None:
        nonlocal has_ended
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            # As a connection is closed.
            await asyncio.sleep(0.01)
            has_ended = True

    breaker = Breaker(ask, lambda: None)
    breaker.doubt()
    await begun.wait()
    await breaker.close()
    assert has_ended


async def test_short_transactions_send_no_query() -> None:
    scripted = Scripted()
    breaker = Breaker(scripted.ask, scripted.cut)
    for _ in range(100):
        with breaker.transaction():
            await asyncio.sleep(0.001)
    await asyncio.sleep(LONG_SECONDS * 1.5)
    assert scripted.queries == 0


async def held_up(breaker: Breaker, seconds: float) -> None:
    """A transaction that is not answered for so long."""
    with breaker.transaction():
        await asyncio.sleep(seconds)


async def test_what_is_answered_speaks_for_the_database() -> None:
    scripted = Scripted()
    breaker = Breaker(scripted.ask, scripted.cut)
    held = asyncio.create_task(held_up(breaker, 10 * LONG_SECONDS))
    while not held.done():
        await held_up(breaker, LONG_SECONDS / 4)
    assert scripted.queries == 0
    # Also where it has begun to doubt, and its own connection waits for a place.
    breaker.doubt()
    held = asyncio.create_task(held_up(breaker, 3 * ANSWER_SECONDS))
    while not held.done():
        await held_up(breaker, LONG_SECONDS / 4)
    assert scripted.queries == 1
    assert not breaker.is_open
    begun = time.monotonic()
    with breaker.transaction():
        while not breaker.is_open:
            await asyncio.sleep(0.01)
    assert time.monotonic() - begun < REFUSED_SECONDS
    await breaker.close()


async def test_a_busy_process_does_not_take_the_database_for_gone() -> None:
    turns = 20

    async def ask() -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    breaker = Breaker(ask, lambda: None)
    breaker.doubt()
    # As many requests at once as make each turn of the loop this long.
    for _ in range(2 * turns):
        time.sleep(2 * ANSWER_SECONDS / turns)
        await asyncio.sleep(0)
        assert not breaker.is_open
    await breaker.close()


@pytest.fixture
async def on_sqlite(
    migrated_sqlite: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Caller, Path]]:
    """A service on a SQLite file, which soon loses its patience."""
    monkeypatch.setattr("app.db.sqlite.BUSY_MS", 600)
    monkeypatch.setattr("app.db.sqlite.STILL_BUSY_MS", 30)
    path = tmp_path / "quickstudy.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    async with calling(settings_of(sqlite_url(path), checkpoint)) as client:
        caller = Caller(client)
        await caller.prepare()
        yield caller, path


async def test_a_sqlite_file_locked_for_long_is_refused_to_all_who_wait_for_it(
    on_sqlite: tuple[Caller, Path],
) -> None:
    caller, path = on_sqlite
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        labels = [caller.label() for _ in range(50)]
        first = await asyncio.gather(*labels, *(caller.score() for _ in range(50)))
        # Not one after another, each with all of its patience.
        assert time.monotonic() - begun < 10
        assert_refused(first)
        assert_refused([await caller.score(), await caller.label()])
        # Nothing can be stored; readers wait for no writer.
        assert_refused([await caller.get("/readyz")])
        assert (await caller.get("/livez")).answer.status_code == 200
        assert (await caller.get("/v1/transactions/known-0")).answer.status_code == 200
        other.execute("COMMIT")
    assert (await caller.score()).answer.status_code == 200
    assert (await caller.label()).answer.status_code == 200


async def test_a_sqlite_file_that_another_has_to_itself_keeps_nobody_waiting(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers too: as with another program that opens the file that way."""
    monkeypatch.setattr("app.db.sqlite.BUSY_MS", 600)
    path = tmp_path / "own.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN IMMEDIATE")
        database = Database(sqlite_url(path))
        begun = time.monotonic()
        for transaction in (database.read, database.glance, database.write):
            with pytest.raises(DatabaseUnavailable):
                async with transaction() as connection:
                    await connection.execute(text("SELECT count(*) FROM accounts"))
        assert time.monotonic() - begun < PATIENCE
        await database.close()

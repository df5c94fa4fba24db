"""kill -9, again and again, of the service and of PostgreSQL, while callers score and label."""

import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from app.db import sqlite
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.labels import store as label_store
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.schemas import PostedTransaction
from app.settings import Settings
from app.web.service import running
from tests.api.requests import posted
from tests.conftest import IS_TORTURE, sqlite_url
from tests.postgres import PostgresServer
from tests.reliability.conftest import Note
from tests.reliability.ledger import Caller, Ledger, Traffic, kind_of, reconcile
from tests.servers import START_SECONDS, Server, new_key, server_process

# The default form measures nothing.
pytestmark = [pytest.mark.alone] if IS_TORTURE else []

READY_SECONDS = 2.0
# Nobody is ready before torch is imported, which takes a second of a machine with nothing else to
# do. Where it takes longer, the machine is slower or busy, and so is everything after it.
TORCH_SECONDS = 1.0
TIMED_EVERY = 10
# Of the transactions that were answered, so many are scored again, copies and all.
REPLAYED = 50


@pytest.fixture
def durable(own_postgres: PostgresServer, request: pytest.FixtureRequest) -> str:
    """A fresh database on a server whose commits a kill cannot undo."""
    url = own_postgres.create(f"database_{abs(hash(request.node.name))}")
    upgrade(url)
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path, migrated_sqlite: Path) -> str:
    if request.param == "postgresql":
        url: str = request.getfixturevalue("durable")
        return url
    path = tmp_path / "quickstudy.db"
    shutil.copy(migrated_sqlite, path)
    return sqlite_url(path)


def test_the_service_is_killed_and_what_it_acknowledged_stays(
    database: str, checkpoint: Path, torture: bool, noted: Note
) -> None:
    # One in the midst of things, one just as somebody is answered.
    kills = 100 if torture else 2
    draw, ledger = random.Random(), Ledger()
    ready: list[float] = []
    torch: list[float] = []
    key = new_key(database)
    with server_process(database, checkpoint) as server:
        with Traffic(server.url, key, ledger) as traffic:
            for kill in range(kills):
                strike(traffic, draw, kill, server.process.kill)
                server.kill()
                if torture and kill % TIMED_EVERY == 0:
                    torch.append(seconds_of(import_torch))
                ready.append(seconds_of(server.start))
            await_answers(traffic, 60)
        replay(server, key, ledger)
    stored = reconcile(database, ledger)
    assert {row.kind for row in stored.label_entities if row.folded} >= {"merchant", "device", "ip"}
    noted(
        "nothing acknowledged is lost or doubled when the service is killed",
        kind_of(database),
        f"{kills} kills, {len(ledger.scores)} scores and {len(ledger.labels)} labels: 0 lost, "
        "0 doubled, states as replayed",
    )
    if torture:
        noted(
            "ready again after a kill",
            kind_of(database),
            f"{statistics.median(ready):.2f} s in the median, {min(ready):.2f} to "
            f"{max(ready):.2f} s; `import torch` alone, in the same run: "
            f"{statistics.median(torch):.2f} s, {min(torch):.2f} to {max(torch):.2f} s",
        )
        slower = max(statistics.median(torch) / TORCH_SECONDS, 1.0)
        assert statistics.median(ready) < READY_SECONDS * slower


def test_postgresql_is_killed_and_what_was_acknowledged_stays(
    durable: str, own_postgres: PostgresServer, checkpoint: Path, torture: bool, noted: Note
) -> None:
    kills = 50 if torture else 2
    draw, ledger = random.Random(), Ledger()
    ready: list[float] = []
    key = new_key(durable)
    with server_process(durable, checkpoint) as server:
        with Traffic(server.url, key, ledger) as traffic:
            for kill in range(kills):
                strike(traffic, draw, kill, own_postgres.kill)
                own_postgres.start()
                ready.append(seconds_of(lambda: until_ready(server)))
            await_answers(traffic, 60)
        replay(server, key, ledger)
    reconcile(durable, ledger)
    noted(
        "nothing acknowledged is lost or doubled when PostgreSQL is killed",
        "PostgreSQL",
        f"{kills} kills, {len(ledger.scores)} scores and {len(ledger.labels)} labels: 0 lost, "
        "0 doubled, states as replayed",
    )
    if torture:
        noted(
            "ready again once PostgreSQL is",
            "PostgreSQL",
            f"{statistics.median(ready):.2f} s in the median, {max(ready):.2f} s at most",
        )
        assert statistics.median(ready) < READY_SECONDS


@pytest.mark.anyio
async def test_nobody_is_answered_what_could_not_be_committed(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill seldom falls into the moment between an answer and a commit that comes after it."""
    payment, later = (
        PostedTransaction.model_validate(posted(name)).transaction() for name in ("t-1", "t-2")
    )

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    execute = asyncpg.Connection.execute

    async def fail_to_commit(connection: Any, text: str, *arguments: Any) -> Any:
        return fail() if text == "COMMIT" else await execute(connection, text, *arguments)

    async with running(service_settings) as service:
        await service.part(Pipeline).score([Posted("t", payment)])
        with monkeypatch.context() as patched:
            patched.setattr(sqlite, "commit", fail)
            patched.setattr(asyncpg.Connection, "execute", fail_to_commit)
            with pytest.raises(DatabaseUnavailable):
                await service.part(Pipeline).score([Posted("t", later)])
            with pytest.raises(DatabaseUnavailable):
                await service.part(Labelling).store("t", "alice", [Verdict("t-1", True)])
        async with service.part(Database).read() as connection:
            assert set(await transaction_store.scored(connection, "t", ["t-1", "t-2"])) == {"t-1"}
            assert await label_store.labels_of(connection, "t", ["t-1"]) == {}
        done = await service.part(Labelling).store("t", "alice", [Verdict("t-1", True)])
        assert done.account.revision == 1


def strike(traffic: Traffic, draw: random.Random, turn: int, kill: Callable[[], None]) -> None:
    """At any moment, or just after an answer: what was answered must be committed."""
    await_answers(traffic, draw.randrange(10, 40))
    if turn % 2:
        time.sleep(draw.uniform(0, 0.1))
        kill()
    else:
        traffic.strike(draw.randrange(1, 10), kill)


def await_answers(traffic: Traffic, answers: int) -> None:
    traffic.strike(answers, lambda: None)


def until_ready(server: Server) -> None:
    until = time.monotonic() + START_SECONDS
    while not httpx.get(f"{server.url}/readyz", timeout=START_SECONDS).is_success:
        assert time.monotonic() < until
        time.sleep(0.01)


def replay(server: Server, key: str, ledger: Ledger) -> None:
    with Caller(server.url, key, ledger) as caller:
        for name in random.Random(0).sample(sorted(ledger.scores), REPLAYED):
            caller.replay(name)


def seconds_of(call: Callable[[], object]) -> float:
    began = time.monotonic()
    call()
    return time.monotonic() - began


def import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)

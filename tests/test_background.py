"""Background tasks survive what goes wrong, say so, and go on once it is over."""

import asyncio
import itertools
import json
import logging
import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from app.db.database import Database
from app.db.migrating import upgrade
from app.http.batching import Batcher
from app.ops import background
from app.ops.background import BackgroundTask, TaskHealth
from app.ops.logs import JsonFormatter
from app.settings import Settings
from quickstudy_client import Client
from tests.api.callers import calling
from tests.api.requests import posted, problem_of
from tests.postgres import execute, postgres_server
from tests.servers import START_SECONDS, Server, new_key, server_process

# Of a machine that is busy with other things, too.
PATIENCE_SECONDS = 60


def eventually(is_so: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def up(url: str, task: str) -> float:
    """What the metric says of a task."""
    exposed = httpx.get(f"{url}/metrics").text
    samples = [
        sample.value
        for family in text_string_to_metric_families(exposed)
        for sample in family.samples
        if sample.name == "quickstudy_background_up" and sample.labels["task"] == task
    ]
    return samples[0]


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[str]]]:
    """The address of a receiver of webhooks, and the ids of what it has received."""
    received: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            received.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}/", received
    listening.shutdown()
    thread.join()
    listening.server_close()


@contextmanager
def logging_server(
    database_url: str, checkpoint: Path, log: Path, **variables: str
) -> Iterator[Server]:
    """A server process whose log goes to a file."""
    with log.open("wb") as file:
        standard_output = os.dup(1)
        try:
            # The process inherits it.
            os.dup2(file.fileno(), 1)
            context = server_process(database_url, checkpoint, **variables)
            entered = context.__enter__()
        finally:
            os.dup2(standard_output, 1)
            os.close(standard_output)
        try:
            yield entered
        finally:
            context.__exit__(None, None, None)


def failures(log: Path, task: str) -> list[dict[str, Any]]:
    """The lines of a log that tell of a task's errors."""
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("task") == task and line["level"] == "error"]


def test_webhooks_go_on_within_seconds_after_postgresql_was_read_only(
    checkpoint: Path, tmp_path: Path, receiver: tuple[str, list[str]]
) -> None:
    url, received = receiver
    log = tmp_path / "log"
    with postgres_server() as postgres:
        database_url = postgres.create("quickstudy")
        upgrade(database_url)
        key = new_key(database_url)
        with (
            logging_server(
                database_url, checkpoint, log, QUICKSTUDY_WEBHOOKS_PRIVATE="true"
            ) as server,
            Client(server.url, key, timeout=START_SECONDS) as client,
        ):
            client.create_webhook(url, ["label.changed"])
            client.score(posted("t-1"))
            client.label("t-1", "fraud")
            assert eventually(lambda: len(received) == 1)
            set_read_only(postgres.url, True)
            # As a primary would have left it that failed over with this message undelivered.
            execute(
                database_url,
                "BEGIN READ WRITE; "
                "INSERT INTO outbox (id, tenant, webhook_id, event, created_at_us, body, attempts, "
                "next_at_us) SELECT 'msg_1', tenant, id, 'label.changed', 1, '{}', 0, 1 "
                "FROM webhooks; COMMIT",
            )
            assert eventually(lambda: up(server.url, "webhooks") == 0)
            assert len(received) == 1
            set_read_only(postgres.url, False)
            assert eventually(lambda: len(received) == 2, 2 * background.LONGEST_PAUSE_SECONDS)
            assert eventually(lambda: up(server.url, "webhooks") == 1)
    [first, *_] = failures(log, "webhooks")
    assert "25006" in first["exception"]


def set_read_only(url: str, value: bool) -> None:
    execute(url, f"ALTER SYSTEM SET default_transaction_read_only = {'on' if value else 'off'}")
    execute(url, "SELECT pg_reload_conf()")


@pytest.mark.anyio
async def test_the_service_is_unready_while_a_task_that_it_needs_fails(
    database: Database,
    service_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(background, "UNREADY_SECONDS", 0.5)
    async with calling(service_settings) as client:
        assert (await client.get("/readyz")).status_code == 200
        await change(database, "ALTER TABLE outbox RENAME COLUMN next_at_us TO away")
        refused = await until_status(client, 503)
        assert problem_of(refused) == (503, "unavailable")
        assert "'webhooks' has not succeeded for" in refused.json()["detail"]
        assert (await client.get("/livez")).status_code == 200
        exposed = (await client.get("/metrics")).text
        assert 'quickstudy_background_up{task="webhooks"} 0.0' in exposed
        await change(database, "ALTER TABLE outbox RENAME COLUMN away TO next_at_us")
        await until_status(client, 200)
        exposed = (await client.get("/metrics")).text
        assert 'quickstudy_background_up{task="webhooks"} 1.0' in exposed
    [first, *_] = [r for r in caplog.records if getattr(r, "fields", {}).get("task") == "webhooks"]
    line = json.loads(JsonFormatter().format(first))
    assert line["level"] == "error"
    assert "sqlalchemy.exc." in line["exception"]
    assert "away" not in line["exception"]


async def change(database: Database, statement: str) -> None:
    async with database.write() as connection:
        await connection.execute(text(statement))


async def until_status(client: httpx.AsyncClient, status: int) -> httpx.Response:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await client.get("/readyz")).status_code != status:
            await asyncio.sleep(0.05)
    return answer


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_sqlites_log_is_copied_once_its_file_may_grow_again_without_another_commit(
    tmp_path: Path, migrated_sqlite: Path, checkpoint: Path
) -> None:
    path, log = tmp_path / "quickstudy.db", tmp_path / "log"
    path.write_bytes(migrated_sqlite.read_bytes())
    database_url = f"sqlite:///{path}"
    key = new_key(database_url)
    with (
        logging_server(database_url, checkpoint, log) as server,
        Client(server.url, key, timeout=START_SECONDS) as client,
    ):
        before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        # The file may not grow, as on a full disk; the log is shorter, and may.
        limits = (path.stat().st_size, before[1])
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limits)
        number = 0
        while up(server.url, "log checkpoints") and number < 2000:
            client.score(posted(f"t-{number}", account_id=f"a-{number}"))
            number += 1
        assert up(server.url, "log checkpoints") == 0
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
        assert eventually(lambda: up(server.url, "log checkpoints") == 1)
    assert failures(log, "log checkpoints")


@pytest.mark.anyio
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, asyncio.CancelledError, OSError])
async def test_a_task_survives_any_error_and_pauses_longer_each_time(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_SECONDS", 0.01)
    runs: list[float] = []
    succeeded = asyncio.Event()

    async def run() -> None:
        runs.append(time.monotonic())
        if len(runs) <= 6:
            raise error
        succeeded.set()

    health = TaskHealth("tried", longest_pause_seconds=0.1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with BackgroundTask(health, lambda: asyncio.sleep(0), run, longest_seconds=60):
            await succeeded.wait()
    pauses = [after - before for before, after in itertools.pairwise(runs)][:6]
    for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.08, 0.1, 0.1), strict=True):
        assert pause >= least * 0.99


@pytest.mark.anyio
async def test_a_run_that_does_not_end_is_reported_until_it_does(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    free = asyncio.Event()

    async def run() -> None:
        await free.wait()

    health = TaskHealth("tried", is_needed=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with BackgroundTask(health, lambda: asyncio.sleep(0), run, longest_seconds=0.05):
            while not health.problem:
                await asyncio.sleep(0.01)
            assert caplog.records[-1].fields == {  # type: ignore[attr-defined]
                "task": "tried",
                "seconds": 0.05,
            }
            free.set()
            while health.problem:
                await asyncio.sleep(0.01)


@pytest.mark.anyio
async def test_a_run_under_way_may_end_before_the_task_does() -> None:
    ended: list[str] = []
    begun = asyncio.Event()

    async def run() -> None:
        begun.set()
        await asyncio.sleep(0.1)
        ended.append("run")

    task = BackgroundTask(
        TaskHealth("tried"), lambda: asyncio.sleep(0), run, longest_seconds=60, grace_seconds=60
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with task:
            await begun.wait()
    assert ended == ["run"]


@pytest.mark.anyio
async def test_the_batcher_answers_the_next_request_after_a_fault_of_its_own() -> None:
    sizes: list[int] = []

    def on_batch(size: int) -> None:
        sizes.append(size)
        if len(sizes) == 1:
            raise ZeroDivisionError

    async def process(items: Any) -> list[int]:
        return [item + 1 for item in items]

    async with Batcher(process, on_batch, most_waiting=9, deadline_seconds=60) as batcher:
        place = batcher.enter("a", 0)
        with pytest.raises(ZeroDivisionError):
            await batcher.submit(place, [1])
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await batcher.submit(place, [2]) == [3]
        place.leave()
        assert not batcher.is_full


def test_an_error_is_logged_by_its_kind_and_never_by_its_words(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR, logger="quickstudy"):
        TaskHealth("tried").failed(ValueError("canary"))
    line = JsonFormatter().format(caplog.records[-1])
    assert "canary" not in line
    assert json.loads(line)["exception"].endswith("builtins.ValueError")
    assert json.loads(line)["task"] == "tried"

"""Imports, exports and the demonstration outlast a database that goes away under them."""

import asyncio
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import asyncpg
import pytest

from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.db.patience import Patience
from app.demo.loading import load
from app.errors import SetupError
from app.history.importing import CHUNK
from app.models.service import Models
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from app.simulator.simulate import simulate
from tests.postgres import PostgresServer

PATIENCE = 120


def rows_of(url: str) -> int:
    return asyncio.run(count(url))


async def count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM transactions"))
    finally:
        await connection.close()


def test_an_import_goes_on_after_its_database_was_killed(
    own_postgres: PostgresServer, checkpoint: Path, tmp_path: Path
) -> None:
    url = own_postgres.create("patience")
    upgrade(url)
    history = tmp_path / "history.parquet"
    simulated = simulate(accounts=300, days=60, seed=5)
    # Of the second commit nothing is there yet when the first one is seen.
    assert len(simulated) > 1.2 * CHUNK
    simulated.write_parquet(history)
    variables = {
        "QUICKSTUDY_DATABASE_URL": url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "app.cli.main", "import", str(history), "--spec", "simulated"]
    with subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True
    ) as importing:
        until = time.monotonic() + PATIENCE
        while rows_of(url) == 0:
            assert time.monotonic() < until
            assert importing.poll() is None
            time.sleep(0.02)
        own_postgres.kill()
        # Longer than any request would wait.
        time.sleep(3)
        assert importing.poll() is None
        own_postgres.start()
        output, _ = importing.communicate(timeout=PATIENCE)
    assert importing.returncode == 0, output
    assert "Waiting for the database: " in output
    assert "The database is back." in output
    assert rows_of(url) == len(simulated)


def test_commands_wait_for_a_database_that_is_away_when_they_begin(
    own_postgres: PostgresServer, checkpoint: Path, tmp_path: Path
) -> None:
    url = own_postgres.create("begun")
    simulated = simulate(accounts=5, days=20, seed=5)
    simulated.write_parquet(tmp_path / "history.parquet")
    payment = simulated["transaction_id"][0]
    (tmp_path / "labels.csv").write_text(f"transaction,label\n{payment},fraud\n")
    output = begun(own_postgres, url, checkpoint, tmp_path, IMPORT)
    assert f"{len(simulated):,} transactions of history.parquet are in" in output[0]
    export, moved, *_ = begun(own_postgres, url, checkpoint, tmp_path, *COMMANDS)
    assert f"{len(simulated):,} transactions are in export.parquet" in export
    assert f"{len(simulated):,} payments" in moved
    # Into the same one, from which it has gone.
    begun(own_postgres, url, checkpoint, tmp_path, "tenant remove default --yes")
    begun(own_postgres, url, checkpoint, tmp_path, "tenant import default tenant.db")
    assert rows_of(url) == len(simulated)


IMPORT = "import history.parquet --spec simulated"
COMMANDS = (
    *("export export.parquet", "tenant export default tenant.db", "labels labels.csv"),
    *("prune --keep-days 30 --dry-run", "db rebuild"),
)


def begun(
    server: PostgresServer, url: str, checkpoint: Path, folder: Path, *commands: str
) -> list[str]:
    """What these write that begin while the server is away, which then comes back."""
    variables = {"QUICKSTUDY_DATABASE_URL": url, "QUICKSTUDY_MODEL": str(checkpoint)}
    server.kill()
    processes = []
    with ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, "-m", "app.cli.main", *command.split()],
                env={**os.environ, **variables, "QUICKSTUDY_DEVICE": "cpu", "OMP_NUM_THREADS": "1"},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for process in processes:
            assert process.stdout is not None
            # Of a file to be imported something else comes first.
            while "Waiting for the database: " not in (line := process.stdout.readline()):
                assert line, process.args
        server.start()
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output
        assert "The database is back." in output
    return outputs


def test_a_command_does_not_wait_for_what_refuses_it(
    own_postgres: PostgresServer, checkpoint: Path, tmp_path: Path
) -> None:
    """Nor for a file that is no database: waiting mends neither."""
    (tmp_path / "text.db").write_text("no database" * 1000)
    nobody = own_postgres.url.replace("postgres@", "nobody@").replace("+asyncpg", "")
    for url in (nobody, f"sqlite:///{tmp_path}/text.db"):
        for command in ("export export.parquet", "labels labels.csv"):
            (tmp_path / "labels.csv").write_text("transaction,label\nt,fraud\n")
            variables = {"QUICKSTUDY_DATABASE_URL": url, "QUICKSTUDY_MODEL": str(checkpoint)}
            done = subprocess.run(
                [sys.executable, "-m", "app.cli.main", *command.split()],
                env={**os.environ, **variables},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 2, done
            assert "Waiting" not in done.stdout


@pytest.mark.anyio
async def test_the_demonstration_is_loaded_whole_although_its_database_was_killed(
    own_postgres: PostgresServer, checkpoint: Path
) -> None:
    url = await asyncio.to_thread(own_postgres.create, "demonstration")
    await asyncio.to_thread(upgrade, url)
    notices: list[str] = []
    database = Database(url)
    pipeline = Pipeline(database, Models(Settings(model=checkpoint, device="cpu")))
    try:
        loading = asyncio.create_task(load(database, pipeline, "default", notices.append))
        async with asyncio.timeout(PATIENCE):
            # The history is one commit, and what is scored then another.
            while await count(url) == 0:
                assert not loading.done()
                await asyncio.sleep(0.02)
            await asyncio.to_thread(own_postgres.kill)
            await asyncio.sleep(2)
            assert not loading.done()
            await asyncio.to_thread(own_postgres.start)
            loaded = await loading
    finally:
        await database.close()
    assert notices[0].startswith("Waiting for the database: ")
    assert await count(url) == loaded.payments


@pytest.mark.anyio
async def test_a_database_that_stays_away_ends_the_import_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.db.patience.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr("app.db.patience.GIVE_UP_AT_START_SECONDS", 0)
    monkeypatch.setattr("app.db.patience.PAUSE_SECONDS", 0.01)
    notices: list[str] = []

    async def nothing() -> None: ...

    async def step() -> None:
        raise DatabaseUnavailable("Nobody answers.") from OSError("no such host")

    patience = Patience(notices.append)
    with pytest.raises(SetupError, match="has not answered once: no such host"):
        await patience.run(step)
    await patience.run(nothing)
    with pytest.raises(SetupError, match="run the command again once it is back"):
        await patience.run(step)
    assert notices == [
        "Waiting for the database: no such host",
        "Waiting for the database: Nobody answers.",
    ]

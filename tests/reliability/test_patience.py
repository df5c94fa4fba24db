"""An import and an export outlast a database that goes away under them, and say that they wait."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.db.patience import Patience
from app.errors import SetupError
from app.history.importing import CHUNK
from app.simulator.simulate import simulate
from tests.postgres import PostgresServer

PATIENCE = 120


def rows_of(url: str) -> int:
    async def count() -> int:
        connection = await asyncpg.connect(url)
        try:
            return int(await connection.fetchval("SELECT count(*) FROM transactions"))
        finally:
            await connection.close()

    return asyncio.run(count())


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


@pytest.mark.anyio
async def test_a_database_that_stays_away_ends_the_import_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.db.patience.GIVE_UP_SECONDS", 0)
    monkeypatch.setattr("app.db.patience.PAUSE_SECONDS", 0.01)
    notices: list[str] = []

    async def step() -> None:
        raise DatabaseUnavailable("Nobody answers.")

    with pytest.raises(SetupError, match="run the command again once it is back"):
        await Patience(notices.append).run(step)
    assert notices == ["Waiting for the database: Nobody answers."]

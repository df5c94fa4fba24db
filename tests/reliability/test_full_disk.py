"""The database's disk is full, really: refused, red, and served again once there is room."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.db.migrating import upgrade
from tests.api.requests import posted, problem_of
from tests.postgres import DURABLE, NOBODY, execute, postgres_server
from tests.servers import new_key, server_process

PATIENCE = 60


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A folder on a file system of its own, of 24 MiB, that everybody may look into."""
    with tempfile.TemporaryDirectory(prefix="quickstudy-disk-") as home:
        Path(home).chmod(0o755)
        folder = Path(home, "small")
        folder.mkdir()
        mounting = ["mount", "-t", "tmpfs", "-o", "size=24m", "quickstudy-tests", str(folder)]
        try:
            done = subprocess.run(mounting, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("there is no program to mount a file system")
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def small_database(request: pytest.FixtureRequest, small_disk: Path) -> Iterator[str]:
    """A database whose tables are on it."""
    if request.param == "sqlite":
        yield f"sqlite:///{small_disk}/quickstudy.db"
        return
    with postgres_server(DURABLE) as server:
        tables = small_disk / "tables"
        tables.mkdir()
        if os.geteuid() == 0:
            os.chown(tables, NOBODY, NOBODY)
        execute(server.url, f"CREATE TABLESPACE small LOCATION '{tables}'")
        execute(server.url, "CREATE DATABASE small TABLESPACE small")
        yield f"{server.url.rpartition('/')[0]}/small"
        execute(server.url, "DROP DATABASE small WITH (FORCE)")
        execute(server.url, "DROP TABLESPACE small")


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    path = folder / "filled"
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        return path
    finally:
        os.close(file)


def test_a_full_disk_is_reported_until_there_is_room(
    small_database: str, small_disk: Path, checkpoint: Path
) -> None:
    upgrade(small_database)
    acknowledged: list[str] = []
    numbers = count()
    with (
        server_process(small_database, checkpoint) as service,
        httpx.Client(base_url=service.url, timeout=PATIENCE) as client,
    ):
        client.headers["Authorization"] = f"Bearer {new_key(small_database)}"

        def score() -> httpx.Response:
            number = next(numbers)
            body = posted(f"t-{number}", account_id=f"a-{number}")
            answer = client.post("/v1/transactions", json=body)
            if answer.is_success:
                acknowledged.append(f"t-{number}")
            return answer

        assert score().is_success
        assert client.get("/readyz").is_success
        filled = fill(small_disk)
        # There is a little room yet in what the files have.
        while (refused := score()).is_success:
            assert len(acknowledged) < 5000
        for answer in (refused, client.get("/readyz")):
            assert problem_of(answer) == (503, "database_unavailable"), answer.text
            assert "disk is full" in answer.json()["detail"]
        assert client.get("/livez").is_success
        filled.unlink()
        deadline = time.monotonic() + PATIENCE
        while not score().is_success:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/readyz").is_success
        for name in acknowledged:
            assert client.get(f"/v1/transactions/{name}").is_success

"""The scenario for Locust: what it sends is what the service takes."""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import func, select

from app.db.database import Database
from app.db.schema import labels, transactions
from tests.conftest import mainly
from tests.servers import new_key, server

SCENARIO = Path(__file__).parents[1] / "deploy" / "locustfile.py"


@pytest.fixture
def locust() -> str:
    found = shutil.which("locust")
    if found is None:
        pytest.skip("Locust is not installed: pip install locust")
    return found


def run(locust: str, url: str, key: str) -> "subprocess.CompletedProcess[str]":
    arguments = ["--headless", "--host", url, "--users", "2", "--run-time", "5s", "--json"]
    return subprocess.run(
        [locust, "-f", str(SCENARIO), *arguments],
        env={**os.environ, "QUICKSTUDY_KEY": key},
        capture_output=True,
        text=True,
        check=False,
    )


async def stored(database_url: str) -> dict[str, int]:
    database = Database(database_url)
    try:
        async with database.read() as connection:
            return {
                name: (
                    await connection.execute(select(func.count()).select_from(table))
                ).scalar_one()
                for name, table in (("payment", transactions), ("label", labels))
            }
    finally:
        await database.close()


@mainly("sqlite")
def test_the_load_is_payments_and_labels_that_are_stored(
    database_url: str, checkpoint: Path, locust: str
) -> None:
    key = new_key(database_url)
    with server(database_url, checkpoint) as url:
        done = run(locust, url, key)
        assert done.returncode == 0, done.stderr
        counts = {row["name"]: row["num_requests"] for row in json.loads(done.stdout)}
        assert counts.keys() == {"payment", "label"}
        there = asyncio.run(stored(database_url))
        for name, count in counts.items():
            # Each user is stopped amid a request.
            assert 0 <= there[name] - count <= 2
        # Without a key that is known, each request fails.
        refused = run(locust, url, "qs_unknown")
    assert refused.returncode == 1

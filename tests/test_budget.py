"""How many connections to PostgreSQL a server has, and its answer when none is left."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import httpx
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.errors import SetupError
from app.settings import Settings
from tests.postgres import postgres_server
from tests.servers import made_key, server

pytestmark = pytest.mark.anyio

URL = "postgresql://db/quickstudy"
SESSIONS = """SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 12])
def test_all_workers_together_stay_within_the_budget(workers: int) -> None:
    settings = Settings(database_url=URL, workers=workers)
    # One more checks whether the database answers, and one is a job's.
    each = settings.connections_per_worker + 2
    assert 4 <= each <= 17
    assert workers * each <= settings.database_connections


def test_a_budget_that_cannot_be_kept_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValidationError, match="13 workers need 52 or more connections"):
        Settings(database_url=URL, workers=13)
    assert Settings(database_url=URL, workers=13, database_connections=52)
    # SQLite has none.
    assert Settings(database_url="sqlite:///quickstudy.db", workers=64)


async def test_a_database_opens_no_more_connections_than_it_may(postgres_url: str) -> None:
    database = Database(postgres_url, pg_connections=3)

    async def count() -> int:
        async with database.read() as connection:
            own = "application_name = 'quickstudy' AND pid <> pg_backend_pid() AND datname"
            rows = await connection.execute(
                text(f"SELECT 1 + count(*) FROM pg_stat_activity WHERE {own} = 'postgres'")
            )
            await connection.execute(text("SELECT pg_sleep(0.05)"))
            return int(rows.scalar_one())

    try:
        assert max(await asyncio.gather(*(count() for _ in range(20)))) <= 4
    finally:
        await database.close()


@pytest.fixture
def small_url() -> Iterator[str]:
    """Of a server with ten connections."""
    with postgres_server(("max_connections=10", "superuser_reserved_connections=0")) as server:
        yield server.url.replace("+asyncpg", "")


async def test_a_server_that_runs_jobs_stays_within_its_budget(
    small_url: str, checkpoint: Path
) -> None:
    await asyncio.to_thread(upgrade, small_url)
    headers = {"Authorization": f"Bearer {await made_key(small_url)}"}
    budget = {"QUICKSTUDY_DATABASE_CONNECTIONS": "4"}
    with server(small_url, checkpoint, **budget) as url:
        watching = await asyncpg.connect(small_url)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            jobs = f"/v1/models/{checkpoint.name}/drift"
            for _ in range(2):
                assert (await client.post(jobs)).status_code == 202

            async def is_running() -> bool:
                found = (await client.get(jobs)).json()["data"]
                return any(job["status"] in ("queued", "running") for job in found)

            async def ask_on(path: str) -> None:
                while True:
                    await client.get(path)

            async with asyncio.TaskGroup() as group:
                asking = [
                    group.create_task(ask_on(path)) for path in ["/readyz", *["/v1/accounts"] * 8]
                ]
                counts = []
                while await is_running():
                    counts += [row["count"] for row in await watching.fetch(SESSIONS)]
                for task in asking:
                    task.cancel()
        await watching.close()
    assert len(counts) > 20
    assert max(counts) <= 4


async def test_a_server_without_a_free_connection_is_recognized(
    small_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(10):
            taken = await asyncpg.connect(small_url)
            stack.push_async_callback(taken.close)
        database = Database(small_url)
        stack.push_async_callback(database.close)
        with caplog.at_level(logging.WARNING), pytest.raises(DatabaseUnavailable) as refused:
            async with database.write():
                pass
        assert refused.value.detail == "The database has no connection left for this service."
        assert "lower QUICKSTUDY_DATABASE_CONNECTIONS" in caplog.text
        with pytest.raises(SetupError, match="lower QUICKSTUDY_DATABASE_CONNECTIONS"):
            await asyncio.to_thread(upgrade, small_url)

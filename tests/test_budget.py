"""How many connections to PostgreSQL a server has, and its answer when none is left."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
from pydantic import ValidationError
from sqlalchemy import text

from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.errors import SetupError
from app.settings import Settings
from tests.postgres import postgres_server

pytestmark = pytest.mark.anyio

URL = "postgresql://db/quickstudy"


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 12])
def test_all_workers_together_stay_within_the_budget(workers: int) -> None:
    settings = Settings(database_url=URL, workers=workers)
    # One more checks whether the database answers.
    each = settings.connections_per_worker + 1
    assert 4 <= each <= 16
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

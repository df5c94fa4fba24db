"""A pooler between the service and PostgreSQL: it serves, and no timeout is lost."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text

from app.db.database import PG_SETTINGS, Database
from app.db.errors import DatabaseUnavailable, Raced
from app.db.migrating import upgrade
from app.settings import Settings
from tests.api.callers import calling
from tests.api.requests import posted
from tests.conftest import postgres_database
from tests.postgres import pooler
from tests.servers import made_key

pytestmark = pytest.mark.anyio

# What pgbouncer has by default: more than one service keeps, and fewer than two.
SHARED = 20


@pytest.fixture(params=["session", "transaction"])
def pooled_url(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[str]:
    """An empty database behind a pgbouncer of this mode."""
    # In session mode every connection of the service has one of the server's.
    connections = SHARED if request.param == "transaction" else 50
    with (
        postgres_database(postgres_url, "template0") as url,
        pooler(urlsplit(postgres_url).port or 0, request.param, connections) as port,
    ):
        yield f"postgresql://postgres@127.0.0.1:{port}/{url.rpartition('/')[2]}"


@pytest.fixture
async def pooled(pooled_url: str) -> AsyncIterator[Database]:
    await asyncio.to_thread(upgrade, pooled_url)
    database = Database(pooled_url)
    yield database
    await database.close()


async def test_a_service_behind_a_pooler_scores_labels_and_lists(
    pooled_url: str, checkpoint: Path
) -> None:
    await asyncio.to_thread(upgrade, pooled_url)
    key = await made_key(pooled_url)
    settings = Settings(database_url=pooled_url, model=checkpoint, device="cpu")
    async with calling(settings, key) as client:
        bodies = [posted(f"t-{n}", account_id=f"a-{n % 5}") for n in range(60)]
        scores = await asyncio.gather(*(client.post("/v1/transactions", json=b) for b in bodies))
        assert [answer.text for answer in scores if answer.status_code != 200] == []
        labels = await asyncio.gather(
            *(
                client.put(f"/v1/transactions/t-{n}/label", json={"label": "fraud"})
                for n in range(20)
            )
        )
        assert [answer.text for answer in labels if answer.status_code != 200] == []
        questions = ("/readyz", "/v1/transactions", "/v1/accounts/a-1", "/v1/reviews")
        read = await asyncio.gather(*(client.get(path) for path in questions * 10))
        assert [answer.text for answer in read if answer.status_code != 200] == []


async def test_two_services_behind_a_pooler_do_not_meet_each_others_statements(
    pooled: Database, pooled_url: str
) -> None:
    other = Database(pooled_url)

    async def ask(database: Database, n: int) -> int:
        reading = (database.read, database.glance)[n % 2]
        async with reading() as connection:
            return int((await connection.execute(text(f"SELECT {n % 7}"))).scalar_one())

    try:
        answers = await asyncio.gather(
            *(ask(database, n) for n in range(100) for database in (pooled, other))
        )
    finally:
        await other.close()
    assert answers == [n % 7 for n in range(100) for _ in range(2)]


async def test_a_statement_over_its_time_is_ended_behind_a_pooler(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PG_SETTINGS, "statement_timeout", "200")
    database = Database(pooled_url)
    try:
        for transaction in (database.write, database.read):
            for _ in range(SHARED):
                with pytest.raises(DatabaseUnavailable) as ended:
                    async with transaction() as connection:
                        await connection.execute(text("SELECT pg_sleep(60)"))
                assert "statement timeout" in str(ended.value.__cause__)
    finally:
        await database.close()


async def test_a_lock_is_waited_for_no_longer_than_without_a_pooler(
    pooled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PG_SETTINGS, "lock_timeout", "200")
    async with pooled.write() as connection:
        await connection.execute(text("LOCK TABLE accounts"))
        for _ in range(3):
            with pytest.raises(Raced):
                async with pooled.write() as other:
                    await other.execute(text("LOCK TABLE accounts"))


async def test_what_holds_in_a_transaction_is_not_left_to_others_behind_a_pooler(
    pooled: Database, pooled_url: str
) -> None:
    async with pooled.write() as connection:
        rows = await connection.execute(text("SELECT name, setting FROM pg_settings"))
        found = dict(row for row in rows if row[0] in PG_SETTINGS)
    assert found == PG_SETTINGS
    async with pooled.read() as connection:
        jit = (await connection.execute(text("SHOW jit"))).scalar_one()
        seqscan = (await connection.execute(text("SHOW enable_seqscan"))).scalar_one()
    assert (jit, seqscan) == ("off", "on")
    other = await asyncpg.connect(pooled_url, statement_cache_size=0)
    try:
        assert await other.fetchval("SHOW statement_timeout") == "0"
    finally:
        await other.close()

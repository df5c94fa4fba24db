"""Alive, ready, measured, described; and the answer when something breaks."""

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from fastapi.responses import JSONResponse
from prometheus_client import REGISTRY, Metric
from prometheus_client.registry import Collector
from sqlalchemy import text

from app.db.database import Database
from app.labels.service import Labelling
from app.settings import Settings
from tests.api.callers import app_of, calling
from tests.api.requests import label, posted, problem_of
from tests.postgres import execute

pytestmark = pytest.mark.anyio


async def test_health_needs_no_key(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs"):
        assert (await client.get(path, headers={"Authorization": ""})).status_code == 200


async def test_readiness_names_the_model(client: httpx.AsyncClient) -> None:
    score = (await client.post("/v1/transactions", json=posted())).json()
    assert (await client.get("/readyz")).json() == {"status": "ok", "model": score["model"]}


async def test_a_database_of_another_schema_is_alive_but_not_ready(
    sole: httpx.AsyncClient, database: Database
) -> None:
    async with database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert (await sole.get("/livez")).status_code == 200
    refused = await sole.get("/readyz")
    assert problem_of(refused) == (503, "unavailable")
    assert refused.headers["retry-after"] == "1"


async def test_liveness_never_queries_the_database(client: httpx.AsyncClient) -> None:
    service = app_of(client).state.service
    app_of(client).state.service = None
    try:
        assert (await client.get("/livez")).json() == {"status": "ok"}
    finally:
        app_of(client).state.service = service


async def test_metrics_count_requests_by_route_and_never_name_an_id(
    client: httpx.AsyncClient,
) -> None:
    canary = "canary-account"
    await client.post("/v1/transactions", json=posted("canary-id", account_id=canary))
    labels = {"labels": [label("canary-id")]}
    await client.post(f"/v1/accounts/{canary}/labels", json=labels)
    await client.get("/v1/canary-path")
    exposition = (await client.get("/metrics")).text
    assert 'method="POST",route="/v1/transactions",status="200"' in exposition
    assert 'route="/v1/accounts/{account_id}/labels"' in exposition
    assert 'route="unmatched",status="404"' in exposition
    assert "quickstudy_batch_size_bucket" in exposition
    assert "quickstudy_adaptations_total" in exposition
    assert "canary" not in exposition


class Written(Collector):
    """Counts how often the metrics are written."""

    times = 0

    def collect(self) -> list[Metric]:
        self.times += 1
        return []


async def test_metrics_are_written_once_at_a_time_however_many_ask(edge: httpx.AsyncClient) -> None:
    written = Written()
    REGISTRY.register(written)
    try:
        before = written.times
        answers = await asyncio.gather(*(edge.get("/metrics") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
        # Who came first, and those who came meanwhile; perhaps some who came late.
        assert 1 <= written.times - before <= 5
        assert (await edge.get("/metrics")).text != answers[0].text
    finally:
        REGISTRY.unregister(written)


async def test_the_document_is_not_written_anew_for_each_who_asks(edge: httpx.AsyncClient) -> None:
    document = (await edge.get("/openapi.json")).content
    begun = time.perf_counter()
    assert bytes(JSONResponse(app_of(edge).openapi()).body) == document
    writing, begun = time.perf_counter() - begun, time.perf_counter()
    for _ in range(20):
        assert (await edge.get("/openapi.json")).content == document
    assert (time.perf_counter() - begun) / 20 < writing


async def test_an_unexpected_error_reveals_nothing_to_the_caller(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise TypeError("inside")

    monkeypatch.setattr(Labelling, "adapt", broken)
    refused = await client.post("/v1/accounts/alice/adapt")
    assert problem_of(refused) == (500, "internal_error")
    assert "inside" not in refused.text
    assert "TypeError" not in refused.text


@pytest.fixture
def role_url(database_url: str) -> Iterator[str]:
    """The URL of a role that may use all tables, and owns none."""
    if "postgresql" not in database_url:
        pytest.skip("SQLite has no roles")
    role = f"role_of_{database_url.rpartition('/')[2]}"
    execute(database_url, f"CREATE ROLE {role} LOGIN")
    execute(database_url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    yield database_url.replace("postgres@", f"{role}@")
    execute(database_url, f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    "lost",
    [
        "REVOKE INSERT, UPDATE, DELETE ON transactions FROM {role}",
        "REVOKE INSERT, UPDATE, DELETE ON accounts FROM {role}",
        "REVOKE ALL ON entities FROM {role}",
        "REVOKE ALL ON thresholds FROM {role}",
        "ALTER TABLE outbox RENAME TO elsewhere",
    ],
)
async def test_a_role_without_its_rights_is_not_ready_and_says_which(
    service_settings: Settings, database_url: str, role_url: str, lost: str
) -> None:
    role = role_url.partition("//")[2].partition("@")[0]
    settings = service_settings.model_copy(update={"database_url": role_url})
    async with calling(settings) as client:
        assert (await client.post("/v1/transactions", json=posted())).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        await asyncio.to_thread(execute, database_url, lost.format(role=role))
        refused = await client.get("/readyz")
        assert problem_of(refused) == (503, "unavailable")
        assert "grant the role its rights again" in refused.json()["detail"]


async def test_a_score_without_a_right_to_store_it_is_no_fault_of_the_service(
    service_settings: Settings, database_url: str, role_url: str
) -> None:
    role = role_url.partition("//")[2].partition("@")[0]
    settings = service_settings.model_copy(update={"database_url": role_url})
    async with calling(settings) as client:
        await asyncio.to_thread(
            execute, database_url, f"REVOKE INSERT, UPDATE ON transactions FROM {role}"
        )
        refused = await client.post("/v1/transactions", json=posted())
        assert problem_of(refused) == (503, "database_unavailable")
        assert "has lost a right" in refused.json()["detail"]
        await asyncio.to_thread(
            execute, database_url, f"GRANT INSERT, UPDATE ON transactions TO {role}"
        )
        assert (await client.post("/v1/transactions", json=posted())).status_code == 200
        assert (await client.get("/readyz")).status_code == 200

"""Alive, ready, measured, described; and the answer when something breaks."""

import httpx
import pytest
from sqlalchemy import text

from app.db.database import Database
from app.labels.service import Labelling
from tests.api.callers import app_of
from tests.api.requests import label, posted, problem_of

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


async def test_an_unexpected_error_reveals_nothing_to_the_caller(client: httpx.AsyncClient) -> None:
    app_of(client).state.service.part(Labelling)._pipeline = None  # a fault that nobody foresaw
    refused = await client.post("/v1/accounts/alice/adapt")
    assert problem_of(refused)[0] == 404
    await client.post("/v1/transactions", json=posted())
    refused = await client.post("/v1/accounts/alice/adapt")
    assert problem_of(refused) == (500, "internal_error")
    assert "NoneType" not in refused.text

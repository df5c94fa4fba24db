"""Demonstration payments: for an empty tenant, up to now, the last of them scored."""

import asyncio
from typing import Any

import httpx
import pytest

from app.db.database import Database
from app.demo.loading import load
from app.learner.transaction import DAY_US
from app.scoring.pipeline import Pipeline
from app.times import now_us, parse_us
from tests.api.callers import part_of
from tests.api.requests import posted, problem_of
from tests.conftest import mainly

pytestmark = pytest.mark.anyio


async def state(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/v1/demo")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# On SQLite a browser does the same: tests/console/test_walk.py.
@mainly("postgresql", "shared_database_url")
async def test_an_empty_tenant_is_filled_up_to_now_and_reviews_wait(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    # The tests' model has learned nothing: by these, some of its scores are to be reviewed.
    stated = {"review": 0.035, "decline": 0.999}
    assert (await client.post("/v1/thresholds", json=stated)).status_code == 200
    assert await state(client) == {"status": "none", "loaded": None}
    started = await client.post("/v1/demo")
    assert (started.status_code, started.json()["loaded"]) == (202, None)
    [noted] = (await client.get("/v1/audit-log", params={"action": "demo.loaded"})).json()["data"]
    assert noted["actor"] == client.headers["Authorization"].split("_")[1]
    # Whoever asks again meanwhile gets no second one.
    assert (await client.post("/v1/demo")).status_code in (202, 409)
    for _ in range(600):
        found = await state(client)
        if found["status"] not in ("queued", "running"):
            break
        await asyncio.sleep(0.1)
    assert found["status"] == "done", found
    loaded = found["loaded"]
    newest = (await client.get("/v1/transactions", params={"limit": 1})).json()["data"][0]
    assert now_us() - parse_us(newest["occurred_at"]) < DAY_US
    counts = {
        count["kind"]: count for count in (await client.get("/v1/review-counts")).json()["data"]
    }
    assert counts["review"]["open"] == loaded["reviews"] > 0
    assert counts["decline"]["open"] == loaded["declines"]
    assert (await client.get("/v1/thresholds/effects")).json()["transactions"] > 1000
    labelled = (await client.get("/v1/accounts", params={"labelled": "true"})).json()
    assert len(labelled["data"]) > 10
    assert problem_of(await client.post("/v1/demo")) == (409, "tenant_not_empty")
    assert await state(stranger) == {"status": "none", "loaded": None}
    assert (await stranger.get("/v1/transactions")).json()["data"] == []


async def test_nothing_is_mixed_into_a_tenants_own_payments(edge: httpx.AsyncClient) -> None:
    await edge.post("/v1/transactions", json=posted())
    assert problem_of(await edge.post("/v1/demo")) == (409, "tenant_not_empty")


async def test_what_was_interrupted_goes_on_where_it_was(sole: httpx.AsyncClient) -> None:
    database, pipeline = part_of(sole, Database), part_of(sole, Pipeline)
    loading = asyncio.create_task(load(database, pipeline, "default"))
    while not (await sole.get("/v1/accounts")).json()["data"]:
        assert not loading.done()
        await asyncio.sleep(0.01)
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
    loaded = await load(database, pipeline, "default")
    assert await load(database, pipeline, "default") == loaded

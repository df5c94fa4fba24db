"""How many labels a key may give an account in a day: refused whole, counted in the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import update

from app.db.database import Database
from app.db.schema import audit_log
from app.keys import service as keys
from app.learner.transaction import DAY_US, HOUR_US
from app.main import create_app
from tests.api.callers import client_of, part_of, settings_of
from tests.api.requests import label, posted, problem_of
from tests.api.test_labels import history, score

pytestmark = pytest.mark.anyio
LIMIT = 3
REFUSED = (429, "too_many_labels")
DAY_SECONDS = DAY_US // 1_000_000
_tenants = count(1)


@pytest.fixture(scope="module")
async def services(shared_database_url: str, checkpoint: Path) -> AsyncIterator[list[FastAPI]]:
    """Two services on one database, for all tests of this file."""
    settings = settings_of(shared_database_url, checkpoint)
    settings = settings.model_copy(update={"labels_per_account": LIMIT})
    async with AsyncExitStack() as stack:
        apps = [create_app(settings), create_app(settings)]
        for app in apps:
            await stack.enter_async_context(app.router.lifespan_context(app))
        yield apps


@pytest.fixture
async def replicas(services: list[FastAPI]) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Callers of both services with one key, of a tenant of its own, and six payments."""
    database = services[0].state.service.part(Database)
    key = await keys.create(database, "tests", f"tenant-{next(_tenants)}")
    async with client_of(services[0], key) as first, client_of(services[1], key) as other:
        await score(first, *(posted(f"t-{n}", amount=50 + 10 * n) for n in range(6)))
        yield [first, other]


async def put(client: httpx.AsyncClient, key: str, name: str = "fraud") -> httpx.Response:
    return await client.put(f"/v1/transactions/{key}/label", json={"label": name})


async def state(client: httpx.AsyncClient) -> Any:
    return (await client.get("/v1/accounts/alice")).json()


async def wait(client: httpx.AsyncClient, us: int) -> None:
    """As if all that was done until now had been done so much earlier."""
    async with part_of(client, Database).write() as connection:
        await connection.execute(update(audit_log).values(at_us=audit_log.c.at_us - us))


async def test_setting_changing_and_removing_all_count_and_what_is_there_already_does_not(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    await put(client, "t-0")
    await put(client, "t-0", "legitimate")
    for _ in range(LIMIT):
        assert (await put(client, "t-0", "legitimate")).json()["changed"] is False
    assert (await client.delete("/v1/transactions/t-0/label")).status_code == 200
    refused = await put(client, "t-1")
    assert problem_of(refused) == REFUSED
    assert DAY_SECONDS - 60 < int(refused.headers["Retry-After"]) <= DAY_SECONDS
    assert (await state(client))["revision"] == 3
    assert (await history(client, "t-1"))["history"] == []


async def test_removing_is_refused_as_well(replicas: list[httpx.AsyncClient]) -> None:
    client, _ = replicas
    for n in range(LIMIT):
        await put(client, f"t-{n}")
    assert problem_of(await client.delete("/v1/transactions/t-0/label")) == REFUSED
    assert (await state(client))["labels"]["fraud"] == LIMIT


async def test_a_request_of_too_many_labels_stores_none_not_even_its_transactions(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    await put(client, "t-0")
    labels = [label("t-0"), label("t-1"), label("t-2")]
    whole = {"transaction": posted("new"), "label": "fraud"}
    refused = await client.post("/v1/accounts/alice/labels", json={"labels": [*labels, whole]})
    assert problem_of(refused) == REFUSED
    assert (await state(client))["revision"] == 1
    assert (await client.get("/v1/transactions/new")).status_code == 404
    # One is there already: two changes more are as many as there may be.
    done = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert (done.json()["stored"], done.json()["unchanged"]) == (2, 1)


async def test_more_than_the_limit_at_once_are_refused_at_any_time(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    labels = [label(f"t-{n}") for n in range(LIMIT + 1)]
    refused = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
    assert problem_of(refused) == REFUSED
    assert f"at most {LIMIT} labels" in refused.json()["detail"]


async def test_many_labels_of_an_account_leave_those_of_others_alone(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    await score(client, posted("b", account_id="bob"))
    labels = [*(label(f"t-{n}") for n in range(LIMIT + 1)), label("b")]
    answer = await client.post("/v1/labels", json={"labels": labels})
    *alices, bobs = answer.json()["results"]
    assert {result["error"]["code"] for result in alices} == {"too_many_labels"}
    assert bobs["changed"] is True
    assert (await state(client))["revision"] == 0


async def test_other_keys_and_other_accounts_have_an_allowance_of_their_own(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    await score(client, posted("b", account_id="bob"))
    for n in range(LIMIT):
        await put(client, f"t-{n}")
    assert (await put(client, "b")).status_code == 200
    made = await client.post("/v1/keys", json={"name": "colleague", "scopes": ["label"]})
    client.headers["Authorization"] = f"Bearer {made.json()['key']}"
    assert (await put(client, "t-3")).status_code == 200


async def test_a_day_later_there_is_room_again_for_as_many_as_have_left(
    replicas: list[httpx.AsyncClient],
) -> None:
    client, _ = replicas
    await put(client, "t-0")
    await wait(client, 10 * HOUR_US)
    await put(client, "t-1")
    await wait(client, 10 * HOUR_US)
    await put(client, "t-2")
    for labels, hours in (([label("t-3")], 4), ([label("t-3"), label("t-4")], 14)):
        refused = await client.post("/v1/accounts/alice/labels", json={"labels": labels})
        assert problem_of(refused) == REFUSED
        assert int(refused.headers["Retry-After"]) == pytest.approx(hours * 3600, abs=60)
    await wait(client, 4 * HOUR_US)
    assert (await put(client, "t-3")).status_code == 200
    assert problem_of(await put(client, "t-4")) == REFUSED


async def test_replicas_count_together_however_many_label_at_once(
    replicas: list[httpx.AsyncClient],
) -> None:
    answers = await asyncio.gather(*(put(replicas[n % 2], f"t-{n}") for n in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * LIMIT + [429] * (6 - LIMIT)
    assert (await state(replicas[0]))["labels"]["fraud"] == LIMIT

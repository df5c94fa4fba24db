"""Too much at once, too long, more than a key's share: refused with what to do about it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from app.db.database import Database
from app.http.authentication import Admission
from app.keys import service as keys
from app.labels.service import Labelling
from app.main import create_app
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from app.web.service import MOST_AT_ONCE
from tests.api.callers import client_of
from tests.api.connections import PATIENCE_SECONDS
from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(settings: Settings, **changes: Any) -> AsyncIterator[tuple[FastAPI, str]]:
    """An application with these changes of the settings, and a key to it."""
    app = create_app(settings.model_copy(update=changes))
    async with app.router.lifespan_context(app):
        yield app, await keys.create(app.state.service.part(Database), "tests")


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Batches wait for this event in the middle of their database transaction."""
    event = asyncio.Event()
    score_of = Pipeline.score_of

    async def waiting(self: Pipeline, *arguments: Any) -> Any:
        answers = await score_of(self, *arguments)
        await event.wait()
        return answers

    monkeypatch.setattr(Pipeline, "score_of", waiting)
    return event


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_other_requests_have_a_bound_of_their_own(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(service_settings) as (app, key), client_of(app, key) as client:
        event = asyncio.Event()

        async def waiting(*_: object) -> None:
            await event.wait()

        monkeypatch.setattr(type(app.state.service.part(Labelling)), "remove", waiting)
        requests = [
            asyncio.create_task(client.delete(f"/v1/transactions/t-{n}/label"))
            for n in range(MOST_AT_ONCE)
        ]
        await until(lambda: app.state.service.part(Admission).places.total == MOST_AT_ONCE)
        refused = await client.get("/v1/accounts")
        assert problem_of(refused) == (503, "overloaded")
        # Other tenants find places all the same.
        other = await keys.create(app.state.service.part(Database), "tests", "other")
        async with client_of(app, other) as stranger:
            assert (await stranger.get("/v1/accounts")).status_code == 200
        # Scores have theirs.
        assert (await client.post("/v1/transactions", json=posted())).status_code == 200
        assert "quickstudy_refused_requests_total" in (await client.get("/metrics")).text
        for request in requests:
            request.cancel()
        await asyncio.gather(*requests, return_exceptions=True)
        assert (await client.get("/v1/accounts")).status_code == 200


async def test_what_takes_too_long_is_ended_and_not_stored(
    service_settings: Settings, stuck: asyncio.Event
) -> None:
    whole = {"labels": [{"transaction": posted("t-2"), "label": "fraud"}]}
    async with (
        served(service_settings, deadline_seconds=1.0) as (app, key),
        client_of(app, key) as client,
    ):
        late = [
            await client.post("/v1/transactions", json=posted("t-1")),
            await client.post("/v1/accounts/alice/labels", json=whole),
        ]
        for answer in late:
            assert problem_of(answer) == (503, "deadline_exceeded")
            assert answer.headers["retry-after"] == "1"
        for name in ("t-1", "t-2"):
            assert (await client.get(f"/v1/transactions/{name}")).status_code == 404
        stuck.set()
        for path, body in (("transactions", posted("t-1")), ("accounts/alice/labels", whole)):
            # On a busy machine it may take that long once more.
            async with asyncio.timeout(60):
                while (answer := await client.post(f"/v1/{path}", json=body)).status_code == 503:
                    assert problem_of(answer) == (503, "deadline_exceeded")
            assert answer.status_code == 200


async def test_a_key_that_sends_more_than_its_share_waits_and_the_others_do_not(
    service_settings: Settings,
) -> None:
    async with served(service_settings, rate_per_second=5.0) as (app, key):
        other = await keys.create(app.state.service.part(Database), "other")
        async with client_of(app, key) as hasty, client_of(app, other) as patient:
            batch = {"transactions": [posted(f"t-{n}") for n in range(25)]}
            assert (await hasty.post("/v1/transactions/batch", json=batch)).status_code == 200
            for request in (
                hasty.post("/v1/transactions", json=posted("t-1")),
                hasty.post("/v1/labels", json={"labels": [label("t-1")]}),
                hasty.get("/v1/accounts"),
            ):
                refused = await request
                assert problem_of(refused) == (429, "rate_limited")
                assert 1 <= int(refused.headers["retry-after"]) <= 5
            assert (await patient.get("/v1/accounts")).status_code == 200


async def test_labels_count_one_by_one_too(service_settings: Settings) -> None:
    async with served(service_settings, rate_per_second=5.0) as (app, key):
        scorer = await keys.create(app.state.service.part(Database), "scorer")
        async with client_of(app, scorer) as unhurried, client_of(app, key) as hasty:
            batch = {"transactions": [posted(f"t-{n}") for n in range(25)]}
            await unhurried.post("/v1/transactions/batch", json=batch)
            labels = {"labels": [label(f"t-{n}") for n in range(25)]}
            assert (await hasty.post("/v1/labels", json=labels)).status_code == 200
            assert problem_of(await hasty.get("/v1/accounts")) == (429, "rate_limited")

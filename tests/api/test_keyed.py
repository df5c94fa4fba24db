"""The key comes before the body, and the whole body before a place: on every route."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fastapi.routing import APIRoute

from app.db.database import Database
from app.http.authentication import Admission
from app.keys import service as keys
from app.main import ROUTES
from app.settings import Settings
from app.web import service
from app.web.service import MOST_AT_ONCE
from tests.api.connections import PATIENCE_SECONDS, Caller, Served, serving
from tests.api.requests import label, posted

pytestmark = [
    pytest.mark.anyio,
    # No database knows the difference: one kind of them will do.
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

KEYED = [route for route in ROUTES if isinstance(route, APIRoute) and "/v1" in route.path]
# As spelt in the document, and so that only the router finds it.
WITH_BODY = [
    (method, path)
    for route in KEYED
    if route.body_field
    for method in sorted(route.methods)
    for path in (route.path, route.path.replace("/v1/", "/%761/"))
]
MOST_BYTES = 1 << 20


@asynccontextmanager
async def calling(served: Served, key: str) -> AsyncIterator[Caller]:
    caller = await Caller(served.port, key).connect()
    try:
        yield caller
    finally:
        caller.writer.transport.abort()


def head(caller: Caller, method: str, path: str, *headers: str) -> bytes:
    """A request whose body does not come."""
    address = re.sub(r"\{\w+\}", "3c81463f5052", path)
    request = caller.request(b"", *(headers or ("Content-Length: 5000",)), path=address)
    return request.replace(b"POST", method.encode(), 1)


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5000",),
        ("Transfer-Encoding: chunked",),
        ("Content-Length: 5000", "Expect: 100-continue"),
    ],
    ids=["length", "chunked", "expect"],
)
async def test_a_key_that_will_not_do_is_refused_before_the_body_comes(
    service_settings: Settings, headers: tuple[str, ...]
) -> None:
    async with serving(service_settings) as served:
        database = served.app.state.service.part(Database)
        revoked, powerless = [await keys.create(database, "tests") for _ in range(2)]
        powerless = await keys.create(database, "tests", scopes=["read"])
        # Searches of one's own are saved by whoever may read.
        enough = {path for _, path in WITH_BODY if "/searches/" in path}
        await keys.revoke(database, revoked.split("_")[1])
        refusals = {
            "": (401, "unauthenticated"),
            "qs_x_y": (401, "unauthenticated"),
            f"{served.key}0": (401, "unauthenticated"),
            revoked: (401, "unauthenticated"),
            powerless: (403, "missing_scope"),
        }
        for key, refusal in refusals.items():
            for method, path in WITH_BODY:
                if key == powerless and path in enough:
                    continue
                async with calling(served, key) as caller:
                    caller.writer.write(head(caller, method, path, *headers))
                    answer = await caller.answer()
                    assert answer.problem == refusal, (method, path)
                    # Whether the body comes after all, nobody could tell.
                    if "Expect: 100-continue" in headers:
                        assert answer.headers["connection"] == "close"


async def test_a_rate_that_is_used_up_is_refused_before_the_body_comes(
    service_settings: Settings,
) -> None:
    settings = service_settings.model_copy(update={"rate_per_second": 0.01})
    async with serving(settings) as served:
        async with calling(served, served.key) as caller:
            batch = {"transactions": [posted(f"t-{n}") for n in range(20)]}
            await caller.say(caller.request(batch, path="/v1/transactions/batch"))
            assert (await caller.answer()).status == 200
        for method, path in WITH_BODY:
            async with calling(served, served.key) as caller:
                caller.writer.write(head(caller, method, path))
                assert (await caller.answer()).problem == (429, "rate_limited"), (method, path)


async def test_whoever_waits_for_leave_to_send_a_body_gets_it_with_a_key(
    service_settings: Settings,
) -> None:
    async with serving(service_settings) as served, calling(served, served.key) as caller:
        for path, body in (("transactions", posted("t-1")), ("labels", {"labels": [label("t-1")]})):
            request = caller.request(body, "Expect: 100-continue", path=f"/v1/{path}")
            end = request.index(b"\r\n\r\n") + 4
            await caller.say(request[:end])
            assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await caller.say(request[end:])
            assert (await caller.answer()).status == 200


async def test_bodies_that_do_not_come_take_no_place(service_settings: Settings) -> None:
    async with serving(service_settings) as served:
        slow = [await served.caller() for _ in range(2 * MOST_AT_ONCE)]
        for n, caller in enumerate(slow):
            caller.writer.write(head(caller, *WITH_BODY[n % len(WITH_BODY)]))
        await asyncio.sleep(0.2)
        for key in (
            served.key,
            await keys.create(served.app.state.service.part(Database), "o", "other"),
        ):
            async with calling(served, key) as caller:
                await caller.say(caller.request(posted("t-1")))
                assert (await caller.answer()).status == 200
                await caller.say(caller.request({"labels": [label("t-1")]}, path="/v1/labels"))
                assert (await caller.answer()).status == 200


@pytest.mark.parametrize("path", ["/v1/labels", "/v1/transactions", "/v1/transactions?"])
async def test_a_tenant_has_its_share_of_memory_for_bodies_that_arrive(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(service, "MOST_BODY_BYTES", MOST_BYTES)
    async with serving(service_settings) as served:
        bodies = served.app.state.service.part(Admission).bodies
        slow = [await served.caller() for _ in range(8)]
        for caller in slow:
            caller.writer.write(head(caller, "POST", path, f"Content-Length: {MOST_BYTES // 2}"))
            caller.writer.write(b" " * (MOST_BYTES // 4))
        answers = [asyncio.create_task(caller.answer()) for caller in slow]
        await asyncio.wait(answers, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        # Others that will not do either are refused by then.
        done, _ = await asyncio.wait(answers, timeout=0.3)
        assert {answer.result().problem for answer in done} == {(503, "overloaded")}
        assert 0 < len(done) < len(slow)
        # A segment more than it may.
        assert bodies.total < MOST_BYTES + (64 << 10) * len(slow)
        for answer in answers:
            answer.cancel()
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with calling(served, other) as caller:
            await caller.say(caller.request(posted("t-1")))
            assert (await caller.answer()).status == 200
            request = caller.request({"labels": [label("t-1")]}, path="/v1/labels")
            await caller.say(request[:-10], request[-10:])
            assert (await caller.answer()).status == 200
        for caller in slow:
            caller.writer.transport.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while bodies.total:
                await asyncio.sleep(0.01)

"""At a full queue requests for scores are refused by the protocol itself, however they come."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.http.authentication import Admission
from app.http.batching import Place
from app.http.problems import Overloaded
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from tests.api.connections import PATIENCE_SECONDS, Caller, Served, serving
from tests.api.requests import posted

# A refusal needs no database: one kind of them will do.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

OVERLOADED = (503, "overloaded")


@asynccontextmanager
async def full(served: Served) -> AsyncIterator[None]:
    """The tenant has all the places in the queue that it may have, and its key is known."""
    caller = await served.caller()
    await caller.say(caller.request({}))
    assert (await caller.answer()).status == 422
    places: list[Place] = []
    with suppress(Overloaded):
        while len(places) < 1000:
            places.append(served.app.state.service.part(Admission).queue.enter("default", 0))
    yield
    for place in places:
        place.leave()


Framing = Callable[[Caller], tuple[bytes, ...]]
PAYMENT = json.dumps(posted()).encode()
STAY: dict[str, tuple[Framing, int]] = {
    "in one piece": (lambda c: (c.request(PAYMENT),), 1),
    "of many": (lambda c: (c.request({"transactions": []}, path="/v1/transactions/batch"),), 1),
    "headers in capitals": (
        lambda c: (c.request(PAYMENT).replace(b"Content-Length", b"CONTENT-LENGTH"),),
        1,
    ),
    "head and body apart": (lambda c: (c.request(PAYMENT)[:-200], c.request(PAYMENT)[-200:]), 1),
    "within the head": (lambda c: (c.request(PAYMENT)[:30], c.request(PAYMENT)[30:]), 1),
    "two in one piece": (lambda c: (2 * c.request(PAYMENT),), 2),
    "one and a half": (lambda c: (c.request(PAYMENT) + c.request(b"")[:9], c.request(b"")[9:]), 2),
    "chunked": (
        lambda c: (c.request(b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),),
        1,
    ),
    "a query": (lambda c: (c.request(PAYMENT, path="/v1/transactions?x=1"),), 1),
    "an empty query": (lambda c: (c.request(PAYMENT, path="/v1/transactions?"),), 1),
    "an absolute address": (
        lambda c: (c.request(PAYMENT, path="http://x/v1/transactions"),),
        1,
    ),
    "percent-encoded": (lambda c: (c.request(PAYMENT, path="/v1/%74ransactions"),), 1),
    "a query, chunked": (
        lambda c: (
            c.request(
                b"2\r\n{}\r\n0\r\n\r\n",
                "Transfer-Encoding: chunked",
                path="/v1/transactions/batch?x=1",
            ),
        ),
        1,
    ),
    "no key": (lambda c: (c.request(PAYMENT).replace(b"Bearer", b"Nothing"),), 1),
}
CLOSE: dict[str, Framing] = {
    "wants to close": lambda c: (c.request(PAYMENT, "Connection: close"),),
    "waits for leave to send": lambda c: (c.request(PAYMENT, "Expect: 100-continue"),),
    "an older version": lambda c: (c.request(PAYMENT).replace(b"HTTP/1.1", b"HTTP/1.0"),),
    "an older version, a query": lambda c: (
        c.request(PAYMENT, path="/v1/transactions?x=1").replace(b"HTTP/1.1", b"HTTP/1.0"),
    ),
}


@pytest.mark.parametrize(("framing", "requests"), STAY.values(), ids=STAY)
async def test_each_request_has_one_refusal_and_the_connection_goes_on(
    service_settings: Settings, framing: Framing, requests: int
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        async with full(served):
            for _ in range(2):
                await caller.say(*framing(caller))
                for _ in range(requests):
                    refused = await caller.answer()
                    assert refused.problem == OVERLOADED
                    assert refused.headers["retry-after"] == "1"
                    assert refused.headers["x-content-type-options"] == "nosniff"
        await caller.say(caller.request(PAYMENT))
        assert (await caller.answer()).status == 200


@pytest.mark.parametrize("framing", CLOSE.values(), ids=CLOSE)
async def test_where_the_caller_would_not_go_on_the_connection_is_closed(
    service_settings: Settings, framing: Framing
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        async with full(served):
            await caller.say(*framing(caller))
            assert (await caller.answer()).problem == OVERLOADED
            assert await caller.is_closed()


@pytest.mark.parametrize(
    "lengths",
    [
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: +5",),
        ("Content-Length : 5",),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("X: y\nX: z", "Content-Length: 5"),
    ],
)
async def test_what_may_end_elsewhere_is_judged_by_the_parser(
    service_settings: Settings, lengths: tuple[str, ...]
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        async with full(served):
            await caller.say(caller.request(b"12345", *lengths))
            assert (await caller.answer()).problem == (400, "malformed_request")
            assert await caller.is_closed()


async def test_other_routes_are_let_in(service_settings: Settings) -> None:
    async with serving(service_settings) as served, full(served):
        caller = await served.caller()
        await caller.say(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await caller.answer()).status == 200
        await caller.say(caller.request({"labels": []}, path="/v1/labels"))
        assert (await caller.answer()).problem != OVERLOADED


async def test_as_many_as_may_be_are_let_in_even_where_all_come_at_once(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, batches = asyncio.Event(), []
    score = Pipeline.score

    async def waiting(self: Pipeline, items: Any) -> Any:
        batches.append(len(items))
        await release.wait()
        return await score(self, items)

    monkeypatch.setattr(Pipeline, "score", waiting)
    settings = service_settings.model_copy(update={"most_waiting": 4})
    async with serving(settings) as served:
        callers = [await served.caller() for _ in range(11)]
        # The key of all of them is known from then on.
        release.set()
        await callers[0].say(callers[0].request(posted("t-first")))
        assert (await callers[0].answer()).status == 200
        release.clear()
        await callers[0].say(callers[0].request(posted("t-0")))
        for n, caller in enumerate(callers[1:], 1):
            caller.writer.write(caller.request(posted(f"t-{n}")))
        answering = [asyncio.create_task(caller.answer()) for caller in callers]
        # Refused at once, and before anything is answered.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(answer.done() for answer in answering) < 7:
                await asyncio.sleep(0.01)
        release.set()
        answers = await asyncio.gather(*answering)
        assert [answer.status for answer in answers].count(200) == 4
        assert {answer.problem for answer in answers if answer.status != 200} == {OVERLOADED}
        assert batches == [1, 1, 3]
        refused = next(n for n, answer in enumerate(answers) if answer.status != 200)
        await callers[refused].say(callers[refused].request(posted(f"t-{refused}")))
        assert (await callers[refused].answer()).status == 200


async def test_a_connection_that_is_refused_is_not_idle(service_settings: Settings) -> None:
    async with serving(service_settings, timeout_keep_alive=2) as served:
        caller = await served.caller()
        async with full(served):
            # A busy machine has more than a second between two of them.
            for _ in range(5):
                await caller.say(caller.request(PAYMENT))
                assert (await caller.answer()).problem == OVERLOADED
                await asyncio.sleep(0.5)
        begun = time.monotonic()
        assert await caller.is_closed()
        assert time.monotonic() - begun < 10

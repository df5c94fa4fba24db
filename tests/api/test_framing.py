"""Requests for scores, however they come over the wire."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from app.http.lean import ScoringRoute
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from tests.api.connections import PATIENCE_SECONDS, Caller, serving
from tests.api.requests import posted

# No database knows the difference: one kind of them will do.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

BATCH = "/v1/transactions/batch"


def payment(name: str) -> bytes:
    return json.dumps(posted(name)).encode()


def payments(size: int) -> bytes:
    return json.dumps({"transactions": [posted(f"t-{n}") for n in range(size)]}).encode()


Framing = Callable[[Caller], tuple[bytes, ...]]
FRAMINGS: dict[str, Framing] = {
    "in one piece": lambda c: (c.request(payment("t-1")),),
    "says that it stays": lambda c: (c.request(payment("t-1"), "Connection: Keep-Alive"),),
    "many": lambda c: (c.request(payments(100), path=BATCH),),
    "head and body apart": lambda c: (c.request(payment("t-1"))[:-200], payment("t-1")[-200:]),
    "within the head": lambda c: (c.request(payment("t-1"))[:30], c.request(payment("t-1"))[30:]),
    "more than one piece holds": lambda c: (c.request(payments(900), path=BATCH),),
    "chunked": lambda c: (
        c.request(
            b"%x\r\n%b\r\n0\r\n\r\n" % (len(payment("t-1")), payment("t-1")),
            "Transfer-Encoding: chunked",
        ),
    ),
    "wants to close": lambda c: (c.request(payment("t-1"), "Connection: close"),),
    "names another header": lambda c: (c.request(payment("t-1"), "Connection: keep-alive, x"),),
    "an older version": lambda c: (c.request(payment("t-1")).replace(b"HTTP/1.1", b"HTTP/1.0"),),
    "a query": lambda c: (c.request(payment("t-1"), path="/v1/transactions?"),),
    "waits for leave to send": lambda c: (c.request(payment("t-1"), "Expect: 100-continue"),),
}


# After these the connection ends.
LAST = ("wants to close", "an older version")


@pytest.mark.parametrize("name", FRAMINGS)
async def test_a_payment_is_scored_however_it_is_framed_and_the_connection_goes_on(
    service_settings: Settings, name: str
) -> None:
    framing = FRAMINGS[name]
    async with serving(service_settings) as served:
        caller = await served.caller()
        for _ in range(1 if name in LAST else 2):
            await caller.say(*framing(caller))
            if name == "waits for leave to send":
                assert (
                    await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
                )
            assert (await caller.answer()).status == 200
        if name in LAST:
            assert await caller.is_closed()


async def test_several_in_one_piece_are_answered_in_their_order(
    service_settings: Settings,
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        ids = [f"t-{n}" for n in range(4)]
        await caller.say(b"".join(caller.request(payment(name)) for name in ids))
        answers = [await caller.answer() for _ in ids]
        assert [answer.document["transaction_id"] for answer in answers] == ids
        await caller.say(caller.request(payment("t-5")))
        assert (await caller.answer()).document["transaction_id"] == "t-5"


async def test_errors_reach_the_operator_and_not_the_caller(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(ScoringRoute, "body_of", broken)
    monkeypatch.setattr(logging.getLogger("uvicorn"), "propagate", True)
    async with serving(service_settings) as served:
        caller = await served.caller()
        with caplog.at_level(logging.ERROR):
            await caller.say(caller.request(payment("t-1")))
            answer = await caller.answer()
        # It hangs up, as it says: nobody sends the next request there.
        assert answer.headers["connection"] == "close"
        assert await caller.reader.read() == b""
    assert answer.problem == (500, "internal_error")
    assert "inside" not in json.dumps(answer.document)
    assert "inside" in caplog.text


async def test_a_server_that_ends_answers_first_and_then_closes(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, release = asyncio.Event(), asyncio.Event()
    score = Pipeline.score

    async def waiting(self: Pipeline, *arguments: Any) -> Any:
        reached.set()
        await release.wait()
        return await score(self, *arguments)

    monkeypatch.setattr(Pipeline, "score", waiting)
    async with serving(service_settings) as served:
        caller = await served.caller()
        await caller.say(caller.request(payment("t-1")))
        await reached.wait()
        served.server.should_exit = True
        await asyncio.sleep(0.5)
        release.set()
        answer = await caller.answer()
        assert answer.status == 200
        assert answer.headers["connection"] == "close"
        assert await caller.is_closed()


async def test_whoever_is_refused_or_gone_leaves_the_queue(service_settings: Settings) -> None:
    limits = {"max_body_bytes": 1024, "most_waiting": 1}
    async with serving(service_settings.model_copy(update=limits)) as served:
        caller = await served.caller()
        good = caller.request(payment("t-1"))
        for request, status in (
            (good, 200),
            (caller.request(b" " * 1025), 413),
            (caller.request(b"{"), 400),
            (caller.request(payment("t-1"), "Content-Encoding: gzip"), 415),
            (caller.request(payment("t-1"), path="/v1/transactions?x=1"), 422),
            (good, 200),
        ):
            await caller.say(request)
            assert (await caller.answer()).status == status
            if status == 413:
                caller = await served.caller()
        gone = await served.caller()
        await gone.say(good)
        gone.writer.transport.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            status = 503
            while status == 503:
                await caller.say(good)
                status = (await caller.answer()).status
        assert status == 200

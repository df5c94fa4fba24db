"""Requests for scores that the desk answers, past ASGI, however they come over the wire."""

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

from app.http.lean import ScoringRoute
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from app.web import desk
from app.web.desk import Desk
from tests.api.connections import Answer, Caller, serving
from tests.api.requests import posted

# No database knows the difference: one kind of them will do.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

BATCH = "/v1/transactions/batch"


@pytest.fixture
def at_the_desk(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The statuses of what the desk has answered."""
    seen: list[int] = []
    answer = Desk.answer

    async def watched(self: Desk, *arguments: Any) -> Any:
        answered = await answer(self, *arguments)
        seen.append(answered.status)
        return answered

    monkeypatch.setattr(Desk, "answer", watched)
    return seen


def close(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on all goes through the application."""
    monkeypatch.setattr(Desk, "whole", lambda *_: None)


def payment(name: str) -> bytes:
    return json.dumps(posted(name)).encode()


def payments(size: int) -> bytes:
    return json.dumps({"transactions": [posted(f"t-{n}") for n in range(size)]}).encode()


Framing = Callable[[Caller], tuple[bytes, ...]]
WHOLE: dict[str, Framing] = {
    "in one piece": lambda c: (c.request(payment("t-1")),),
    "says that it stays": lambda c: (c.request(payment("t-1"), "Connection: Keep-Alive"),),
    "many": lambda c: (c.request(payments(100), path=BATCH),),
}
UNUSUAL: dict[str, Framing] = {
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


@pytest.mark.parametrize("framing", WHOLE.values(), ids=WHOLE)
async def test_whatever_comes_whole_is_answered_at_the_desk_and_the_connection_goes_on(
    service_settings: Settings, at_the_desk: list[int], framing: Framing
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        for n in range(1, 3):
            await caller.say(*framing(caller))
            assert (await caller.answer()).status == 200
            assert at_the_desk == [200] * n


@pytest.mark.parametrize("framing", UNUSUAL.values(), ids=UNUSUAL)
async def test_what_is_unusual_is_answered_by_the_application(
    service_settings: Settings, at_the_desk: list[int], framing: Framing
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        await caller.say(*framing(caller))
        if framing is UNUSUAL["waits for leave to send"]:
            assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await caller.answer()).status == 200
        assert at_the_desk == []


async def test_several_in_one_piece_are_answered_in_their_order(
    service_settings: Settings, at_the_desk: list[int]
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        ids = [f"t-{n}" for n in range(4)]
        await caller.say(b"".join(caller.request(payment(name)) for name in ids))
        answers = [await caller.answer() for _ in ids]
        assert [answer.document["transaction_id"] for answer in answers] == ids
        assert at_the_desk == []
        await caller.say(caller.request(payment("t-5")))
        assert (await caller.answer()).document["transaction_id"] == "t-5"
        assert at_the_desk == [200]


REFUSED: dict[str, tuple[bytes, tuple[str, ...], str, tuple[int, str]]] = {
    "no JSON": (b"{", (), "", (400, "malformed_body")),
    "nothing": (b"", (), "", (422, "validation_failed")),
    "another field": (b'{"a": 1}', (), "", (422, "validation_failed")),
    "no key": (payment("t-1"), (), "Bearer qs_x_y", (401, "unauthenticated")),
    "too large": (b" " * (1 << 20), (), "", (413, "body_too_large")),
    "compressed": (payment("t-1"), ("Content-Encoding: gzip",), "", (415, "unsupported_encoding")),
}


@pytest.mark.parametrize("refusal", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_the_same_at_the_desk_and_in_the_application(
    service_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    refusal: tuple[bytes, tuple[str, ...], str, tuple[int, str]],
) -> None:
    body, headers, authorization, expected = refusal
    settings = service_settings.model_copy(update={"max_body_bytes": 1 << 19})

    async def refused(served: Any) -> Answer:
        caller = await served.caller()
        request = caller.request(body, "X-Request-Id: request-1", *headers)
        if authorization:
            request = request.replace(f"Bearer {served.key}".encode(), authorization.encode())
        await caller.say(request)
        return await caller.answer()

    async with serving(settings) as served:
        here = await refused(served)
        close(monkeypatch)
        there = await refused(served)
    assert here.problem == there.problem == expected
    assert without_date(here) == without_date(there)


async def test_an_answer_has_the_same_headers_at_the_desk_and_in_the_application(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        request = caller.request(payment("t-1"), "X-Request-Id: request-1")
        await caller.say(request)
        here = await caller.answer()
        close(monkeypatch)
        await caller.say(request)
        there = await caller.answer()
    assert here.headers["x-request-id"] == "request-1"
    assert without_date(here) == without_date(there)


def without_date(answer: Answer) -> Answer:
    return answer._replace(headers={k: v for k, v in answer.headers.items() if k != "date"})


async def test_errors_reach_the_operator_and_not_the_caller(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("inside")

    monkeypatch.setattr(ScoringRoute, "body_of", broken)
    monkeypatch.setattr(desk.logger, "propagate", True)
    async with serving(service_settings) as served:
        caller = await served.caller()
        with caplog.at_level(logging.ERROR, "quickstudy"):
            await caller.say(caller.request(payment("t-1")))
            answer = await caller.answer()
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

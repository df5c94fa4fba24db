"""At a full queue requests for scores are refused by the protocol itself, however they come."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
import uvicorn

from app import keys
from app.batching import Batcher
from app.main import create_app
from app.protocol import BoundedProtocol
from app.settings import Settings
from tests.api.requests import posted

# No database is asked for what is refused: one kind of them will do.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

OVERLOADED = (503, "overloaded")


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    document: Any

    @property
    def problem(self) -> tuple[int, str]:
        return self.status, self.document["code"]


class Caller:
    """One connection, which writes what it is told to."""

    def __init__(self, port: int, key: str) -> None:
        self._port, self._key = port, key

    async def connect(self) -> "Caller":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def request(self, body: Any, *headers: str, path: str = "/v1/transactions") -> bytes:
        """A whole request, with a length unless its headers say how long it is."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: x",
            "Content-Type: application/json",
            f"Authorization: Bearer {self._key}",
            *headers,
        ]
        if not any("chunked" in line or "length" in line.lower() for line in headers):
            lines.append(f"Content-Length: {len(text)}")
        return "\r\n".join([*lines, "", ""]).encode() + text

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0.02)

    async def answer(self) -> Answer:
        async with asyncio.timeout(10):
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            headers = dict(line.lower().split(": ", 1) for line in lines)
            document = json.loads(await self.reader.readexactly(int(headers["content-length"])))
        return Answer(int(first.split()[1]), headers, document)

    async def is_closed(self) -> bool:
        async with asyncio.timeout(10):
            return await self.reader.read() == b""


class Served(NamedTuple):
    app: Any
    port: int
    key: str
    callers: list[Caller]

    async def caller(self) -> Caller:
        self.callers.append(await Caller(self.port, self.key).connect())
        return self.callers[-1]


@asynccontextmanager
async def serving(settings: Settings, **options: Any) -> AsyncIterator[Served]:
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        port=0,
        http=BoundedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        **{"timeout_keep_alive": 60, **options},
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(60):
        while not server.started:
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    served = Served(app, port, await keys.create(app.state.service.database, "tests"), [])
    try:
        yield served
    finally:
        for caller in served.callers:
            caller.writer.close()
        server.should_exit = True
        await task


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """While it is set, the queue is full."""
    event = asyncio.Event()
    monkeypatch.setattr(Batcher, "is_full", lambda self, coming=0: event.is_set())
    return event


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
    "no key": (lambda c: (c.request(PAYMENT).replace(b"Bearer", b"Nothing"),), 1),
}
CLOSE: dict[str, Framing] = {
    "asked to close": lambda c: (c.request(PAYMENT, "Connection: close"),),
    "waits for leave to send": lambda c: (c.request(PAYMENT, "Expect: 100-continue"),),
    "an older version": lambda c: (c.request(PAYMENT).replace(b"HTTP/1.1", b"HTTP/1.0"),),
}


@pytest.mark.parametrize(("framing", "requests"), STAY.values(), ids=STAY)
async def test_each_request_has_one_refusal_and_the_connection_goes_on(
    service_settings: Settings, full: asyncio.Event, framing: Framing, requests: int
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        full.set()
        for _ in range(2):
            await caller.say(*framing(caller))
            for _ in range(requests):
                refused = await caller.answer()
                assert refused.problem == OVERLOADED
                assert refused.headers["retry-after"] == "1"
                assert refused.headers["x-content-type-options"] == "nosniff"
        full.clear()
        await caller.say(caller.request(PAYMENT))
        assert (await caller.answer()).status == 200


@pytest.mark.parametrize("framing", CLOSE.values(), ids=CLOSE)
async def test_where_the_caller_would_not_go_on_the_connection_is_closed(
    service_settings: Settings, full: asyncio.Event, framing: Framing
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        full.set()
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
    service_settings: Settings, full: asyncio.Event, lengths: tuple[str, ...]
) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        full.set()
        await caller.say(caller.request(b"12345", *lengths))
        assert (await caller.answer()).problem == (400, "malformed_request")
        assert await caller.is_closed()


async def test_other_routes_are_let_in(service_settings: Settings, full: asyncio.Event) -> None:
    async with serving(service_settings) as served:
        caller = await served.caller()
        full.set()
        await caller.say(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await caller.answer()).status == 200
        await caller.say(caller.request({"labels": []}, path="/v1/labels"))
        assert (await caller.answer()).problem != OVERLOADED


async def test_as_many_as_may_wait_are_let_in_even_where_all_come_at_once(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = service_settings.model_copy(update={"most_waiting": 3})
    async with serving(settings) as served:
        release, batches = asyncio.Event(), []
        process = served.app.state.service.batcher._process

        async def waiting(items: Any) -> Any:
            batches.append(len(items))
            await release.wait()
            return await process(items)

        monkeypatch.setattr(served.app.state.service.batcher, "_process", waiting)
        callers = [await served.caller() for _ in range(11)]
        # The key of all of them is known from then on.
        release.set()
        await callers[0].say(callers[0].request(posted("t-first")))
        assert (await callers[0].answer()).status == 200
        release.clear()
        await callers[0].say(callers[0].request(posted("t-0")))
        for n, caller in enumerate(callers[1:], 1):
            caller.writer.write(caller.request(posted(f"t-{n}")))
        # Refused at once, and before anything is answered.
        async with asyncio.timeout(10):
            while sum(bool(caller.reader._buffer) for caller in callers) < 7:
                await asyncio.sleep(0.01)
        release.set()
        answers = [await caller.answer() for caller in callers]
        assert [answer.status for answer in answers].count(200) == 4
        assert {answer.problem for answer in answers if answer.status != 200} == {OVERLOADED}
        assert batches == [1, 1, 3]
        refused = next(n for n, answer in enumerate(answers) if answer.status != 200)
        await callers[refused].say(callers[refused].request(posted(f"t-{refused}")))
        assert (await callers[refused].answer()).status == 200


async def test_a_connection_that_is_refused_is_not_idle(
    service_settings: Settings, full: asyncio.Event
) -> None:
    async with serving(service_settings, timeout_keep_alive=1) as served:
        caller = await served.caller()
        full.set()
        for _ in range(5):
            await caller.say(caller.request(PAYMENT))
            assert (await caller.answer()).problem == OVERLOADED
            await asyncio.sleep(0.4)
        begun = time.monotonic()
        assert await caller.is_closed()
        assert time.monotonic() - begun < 5

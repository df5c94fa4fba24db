"""Clients that drip, flood or never listen: each is answered or cut, and nobody else notices."""

import asyncio
import contextlib
import json
import resource
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from app.web.protocol import FRAME, MOST_HEADER_BYTES
from tests.api.requests import posted, problem_of
from tests.conftest import IS_TORTURE, sqlite_url
from tests.reliability.conftest import Note
from tests.servers import Server, made_key, new_key, server_process

# The short form measures nothing.
pytestmark = [pytest.mark.anyio, *([pytest.mark.alone] if IS_TORTURE else [])]

ARRIVAL_SECONDS = 1.0
# A sweep comes once a second; the rest is for a machine that does other things too.
LATE_SECONDS = ARRIVAL_SECONDS + 1.0 + 5.0
PATIENCE = 60.0
DRIPPING = 500
# Connections that read nothing, the answers of nearly half a megabyte that each asks for, and how
# many times half a second somebody else is scored meanwhile.
UNREAD, UNREAD_ANSWERS, UNREAD_ROUNDS = 4, 100, 10
SILENT = 1000
GET = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
HEAD = GET.replace(b"GET", b"HEAD")
MOST_BODY_BYTES = 4 << 20


@dataclass(frozen=True)
class Target:
    """A server, and a key to it."""

    server: Server
    key: str

    def post(self, path: str, *headers: str) -> bytes:
        """The head of a request, without the empty line that ends it."""
        head = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {self.key}"]
        return "\r\n".join([*head, "Content-Type: application/json", *headers, ""]).encode()

    async def connect(self) -> "tuple[asyncio.StreamReader, asyncio.StreamWriter]":
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    async def answer_to(self, pieces: Sequence[bytes], pause: float = 0.0) -> bytes:
        """What the server says to these pieces until it hangs up."""
        reader, writer = await self.connect()

        async def send() -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        try:
            return await asyncio.wait_for(reader.read(), LATE_SECONDS)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            writer.transport.abort()


@pytest.fixture(scope="module")
def target(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path, checkpoint: Path
) -> Iterator[Target]:
    path = tmp_path_factory.mktemp("slow") / "quickstudy.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    url = sqlite_url(path)
    bound = {"QUICKSTUDY_ARRIVAL_SECONDS": str(ARRIVAL_SECONDS)}
    with server_process(url, checkpoint, **bound) as server:
        yield Target(server, new_key(url))


@pytest.fixture(scope="module")
def as_shipped(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path, checkpoint: Path
) -> Iterator[Target]:
    """With all settings at their defaults."""
    path = tmp_path_factory.mktemp("shipped") / "quickstudy.db"
    path.write_bytes(migrated_sqlite.read_bytes())
    url = sqlite_url(path)
    with server_process(url, checkpoint) as server:
        yield Target(server, new_key(url))


def problem_in(answer: bytes) -> tuple[int, str]:
    """Status and code of the last answer that a connection had, and that it is a problem."""
    head, _, body = answer[answer.rindex(b"HTTP/1.1 ") :].partition(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    status = int(lines[0].split()[1])
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert headers["connection"] == "close"
    return problem_of(httpx.Response(status, headers=headers, content=body))


async def test_what_takes_too_long_to_arrive_is_answered_408(target: Target) -> None:
    def dripped(beginning: bytes) -> list[bytes]:
        return [beginning, *[b"x"] * 1000]

    body = "Content-Length: 5000", ""
    begun = time.monotonic()
    nothing, *heard = await asyncio.gather(
        target.answer_to([]),
        target.answer_to(dripped(b"GET /"), 0.1),
        target.answer_to(dripped(GET + b"X-Slow: "), 0.1),
        target.answer_to(dripped(target.post("/v1/transactions", *body)), 0.1),
        target.answer_to(dripped(target.post("/v1/labels", *body)), 0.1),
        target.answer_to([target.post("/v1/labels", "Transfer-Encoding: chunked", "")]),
        # Empty lines before a request begin none, for the parser.
        target.answer_to([GET + b"\r\n", *[b"\r\n"] * 100], 0.1),
        # Half of the next request, in one piece with a whole one.
        target.answer_to([GET + b"\r\n" + GET]),
        # Nobody knows its method yet, which is not that of the request before.
        target.answer_to([HEAD + b"\r\n", b"\r\n"], 0.1),
        target.answer_to([HEAD + b"\r\n", b"P"], 0.1),
    )
    assert time.monotonic() - begun >= ARRIVAL_SECONDS
    # A connection that sent nothing is not answered either: it may be held in reserve.
    assert nothing == b""
    assert [problem_in(answer) for answer in heard] == [(408, "request_timeout")] * len(heard)
    assert [answer.count(b"200 OK") for answer in heard] == [0, 0, 0, 0, 0, 1, 1, 1, 1]


def has_connection(server: Server, port: int) -> bool:
    """Whether it holds the connection from this port of a client's."""
    held = psutil.Process(server.process.pid).net_connections("tcp4")
    return any(connection.raddr and connection.raddr.port == port for connection in held)


async def test_an_answer_that_nobody_fetches_is_not_kept_for_ever(target: Target) -> None:
    reader, writer = await target.connect()
    # Far more than all buffers on the way hold.
    requests, size = 200, len(httpx.get(f"{target.server.url}/openapi.json").content)
    writer.transport.pause_reading()
    writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * requests)
    port, end = writer.get_extra_info("sockname")[1], time.monotonic() + PATIENCE
    # The server has hung up, however busy the machine is.
    while has_connection(target.server, port):
        assert time.monotonic() < end
        await asyncio.sleep(0.1)
    writer.transport.resume_reading()
    read = 0
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(1 << 20), LATE_SECONDS):
            read += len(part)
    assert read < requests * size
    writer.transport.abort()


@asynccontextmanager
async def never_reading(target: Target, connections: int, requests: bytes) -> AsyncIterator[None]:
    """So many connections that ask for much, and read none of what they are answered."""

    async def ask() -> None:
        own = socket.socket()
        # What this side would take in without reading it.
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        with own:
            await loop.sock_connect(own, ("127.0.0.1", target.server.port))
            await loop.sock_sendall(own, requests)
            await asyncio.sleep(PATIENCE)

    tasks = [asyncio.create_task(ask()) for _ in range(connections)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_answers_that_nobody_reads_take_little_memory_and_others_are_scored(
    as_shipped: Target,
) -> None:
    batch = {"transactions": [posted(f"unread-{n}", account_id=f"u-{n % 50}") for n in range(500)]}
    headers = {"Authorization": f"Bearer {as_shipped.key}"}
    with httpx.Client(base_url=as_shipped.server.url, headers=headers, timeout=PATIENCE) as client:
        assert client.post("/v1/transactions/batch", json=batch).status_code == 200
        size = len(client.get("/v1/transactions?limit=500").content)
    request = as_shipped.post("/v1/transactions?limit=500", "").replace(b"POST", b"GET", 1)
    database_url = as_shipped.server.environment["QUICKSTUDY_DATABASE_URL"]
    other = Target(as_shipped.server, await made_key(database_url, "another"))
    process = psutil.Process(as_shipped.server.process.pid)
    await timed(other, "before", 0.5)
    before = process.memory_info().rss
    async with never_reading(as_shipped, UNREAD, request * UNREAD_ANSWERS):
        scores, most = 0, before
        for n in range(UNREAD_ROUNDS):
            # Each of them is answered with a score.
            scores += len(await timed(other, f"beside-{n}", 0.5))
            most = max(most, process.memory_info().rss)
    assert scores > UNREAD_ROUNDS
    assert most - before < 40 << 20 < UNREAD * UNREAD_ANSWERS * size / 4


async def test_headers_are_bounded(target: Target) -> None:
    def exactly(size: int) -> bytes:
        """A request of so many bytes of address and headers."""
        head = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: %s\r\n\r\n"
        others = len(b"/livezHostxConnectioncloseX") + 3 * FRAME
        return head % (b"x" * (size - others))

    chunked = target.post("/v1/labels", "Transfer-Encoding: chunked", "") + b"2\r\n{}\r\n"
    large = [
        [exactly(MOST_HEADER_BYTES + 1)],
        [b"GET /livez?%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * MOST_HEADER_BYTES)],
        [GET, *[b"a: b\r\n" * 100] * 1000],
        [GET + b"X: ", *[b"x" * 1000] * 1000],
        # Headers after a chunked body, and extensions of a chunk.
        [chunked + b"0\r\n", *[b"a: b\r\n" * 100] * 1000],
        [chunked + b"2;a=", *[b"x" * 1000] * 1000],
    ]
    for pieces in large:
        answer = await target.answer_to(pieces, 0.001)
        assert problem_in(answer) == (431, "headers_too_large"), pieces[:2]
    assert b"200 OK" in await target.answer_to([exactly(MOST_HEADER_BYTES)])


async def test_a_body_in_small_chunks_is_not_taken_for_headers(target: Target) -> None:
    posting = json.dumps(posted("t-small-chunks")).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in posting)
    head = target.post("/v1/transactions", "Transfer-Encoding: chunked", "Connection: close", "")
    assert b"200 OK" in await target.answer_to([head + chunks + b"0\r\n\r\n"])


@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/transactions/batch", "/v1/labels"])
async def test_a_body_over_the_limit_is_answered_413_and_not_read_on(
    target: Target, path: str
) -> None:
    announced = target.post(path, f"Content-Length: {MOST_BODY_BYTES + 1}", "")
    assert problem_in(await target.answer_to([announced])) == (413, "body_too_large")
    # 64 chunks are the limit, and this would go on for ever.
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    begun = time.monotonic()
    answer = await target.answer_to(
        [target.post(path, "Transfer-Encoding: chunked", ""), *[chunk] * 10_000]
    )
    assert problem_in(answer) == (413, "body_too_large")
    assert time.monotonic() - begun < LATE_SECONDS


DEEP = {
    "lists": b"[" * 100_000 + b"]" * 100_000,
    "unclosed": b"[" * 1_000_000,
    "objects": b'{"labels":' * 50_000 + b"1" + b"}" * 50_000,
    "digits": b'{"labels": ' + b"1" * 100_000 + b"}",
}


@pytest.mark.parametrize("body", DEEP.values(), ids=DEEP)
async def test_deep_nesting_and_endless_numbers_are_refused(target: Target, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {target.key}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=target.server.url, headers=headers) as client:
        for path in (
            "transactions",
            "transactions/batch",
            "labels",
            "accounts/a/labels",
            "accounts/a/adapt",
            "thresholds",
            "webhooks",
            "keys",
        ):
            refused = await client.post(f"/v1/{path}", content=body)
            assert problem_of(refused) == (400, "malformed_body"), path


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\xfc\x03", b"GET / HTTP/9\r\n\r\n", b"\0" * 100, b"SSH-2.0-x\r\n"],
)
async def test_malformed_http_is_answered_400(target: Target, sent: bytes) -> None:
    assert problem_in(await target.answer_to([sent])) == (400, "malformed_request")


async def test_an_upgrade_is_passed_over_and_the_connection_goes_on(target: Target) -> None:
    for protocol in (b"h2c", b"websocket"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: x\r\n\r\n" % protocol
        last = GET + b"Connection: close\r\n\r\n"
        answer = await target.answer_to([GET + upgrade, last], 0.05)
        assert answer.count(b"200 OK") == 2


@asynccontextmanager
async def dripping(target: Target, sockets: int) -> AsyncIterator[list[int]]:
    """So many clients that send a byte of a request now and then, and come back when cut off.

    Tells how many times they were cut off.
    """
    beginnings = [
        GET + b"X-Slow: ",
        target.post("/v1/transactions", "Content-Length: 5000", ""),
        target.post("/v1/labels", "Transfer-Encoding: chunked", "") + b"5000\r\n",
        b"GET /",
    ]
    cut = [0]

    async def drip(n: int) -> None:
        while True:
            try:
                reader, writer = await target.connect()
            except OSError:
                await asyncio.sleep(0.1)
                continue
            try:
                writer.write(beginnings[n % len(beginnings)])
                while not reader.at_eof():
                    await asyncio.sleep(0.5)
                    writer.write(b"1")
                    await writer.drain()
            except OSError:
                pass
            finally:
                writer.transport.abort()
                cut[0] += 1

    tasks = []
    for n in range(sockets):
        tasks.append(asyncio.create_task(drip(n)))
        if n % 20 == 0:
            await asyncio.sleep(0.01)
    try:
        yield cut
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def timed(target: Target, name: str, seconds: float) -> list[float]:
    """How long each of one caller's payments took, all of them answered with a score."""
    headers = {"Authorization": f"Bearer {target.key}"}
    took: list[float] = []
    async with httpx.AsyncClient(base_url=target.server.url, headers=headers) as client:
        until = time.perf_counter() + seconds
        while (begun := time.perf_counter()) < until:
            body = posted(f"{name}-{len(took)}", account_id=f"a-{len(took) % 50}")
            answer = await client.post("/v1/transactions", json=body)
            took.append(time.perf_counter() - begun)
            assert answer.status_code == 200
    return took


def p99(took: Sequence[float]) -> float:
    return statistics.quantiles(took, n=100)[98]


async def test_500_dripping_sockets_do_not_move_the_99th_percentile(
    as_shipped: Target, torture: bool, noted: Note
) -> None:
    rounds, seconds = (2, 25.0) if torture else (1, 2.0)
    quiet: list[float] = []
    dripped: list[float] = []
    cut = 0
    await timed(as_shipped, "warm", 0.5)
    for turn in range(rounds):
        quiet += await timed(as_shipped, f"quiet-{turn}", seconds)
        async with dripping(as_shipped, DRIPPING) as counted:
            await asyncio.sleep(1.0)
            dripped += await timed(as_shipped, f"dripped-{turn}", seconds)
        cut += counted[0]
    noted(
        "500 sockets that drip bytes do not move p99",
        "SQLite",
        f"p99 {p99(quiet) * 1e3:.1f} ms without, {p99(dripped) * 1e3:.1f} ms with {DRIPPING} "
        f"dripping; median {statistics.median(quiet) * 1e3:.1f} and "
        f"{statistics.median(dripped) * 1e3:.1f} ms; {len(quiet)} and {len(dripped)} payments, "
        f"all scored; {cut} sockets cut off and back again",
    )
    if torture:
        assert p99(dripped) < 1.5 * p99(quiet) + 0.005
        assert cut > DRIPPING


@asynccontextmanager
async def sockets_without_a_key(target: Target, count: int) -> AsyncIterator[None]:
    """So many that announce a body and send none of it, to every kind of route."""
    announcements = [
        target.post(path, framing, "").replace(target.key.encode(), key)
        for path in ("/v1/labels", "/v1/transactions", "/v1/transactions/batch?", "/v1/keys")
        for framing in ("Content-Length: 5000", "Transfer-Encoding: chunked")
        for key in (b"", b"qs_0123456789ab_x", target.key.encode()[:-1])
    ]
    writers = []
    try:
        for n in range(count):
            _, writer = await target.connect()
            writers.append(writer)
            writer.write(announcements[n % len(announcements)])
        yield
    finally:
        for writer in writers:
            writer.transport.abort()


async def test_a_thousand_sockets_without_a_key_stop_nobody_with_one(
    as_shipped: Target, noted: Note
) -> None:
    headers = {"Authorization": f"Bearer {as_shipped.key}"}
    statuses: Counter[int] = Counter()
    async with (
        sockets_without_a_key(as_shipped, SILENT),
        httpx.AsyncClient(base_url=as_shipped.server.url, headers=headers, timeout=20) as client,
    ):
        for n in range(20):
            labels = {"labels": [{"transaction_id": f"t-{n}", "label": "fraud"}]}
            answers = [
                await client.post("/v1/transactions", json=posted(f"t-{n}")),
                await client.post("/v1/labels", json=labels),
                await client.get("/v1/accounts"),
            ]
            statuses.update(answer.status_code for answer in answers)
    assert statuses == {200: 60}
    noted(
        "sockets without a key, which announce a body and send none, stop nobody",
        "SQLite",
        f"{SILENT} of them; {statuses[200]} of 60 scores, labels and lists answered",
    )


@contextmanager
def few_descriptors(target: Target) -> Iterator[None]:
    """The service may have 128 descriptors, and so 96 connections."""
    pid = target.server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (128, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


needs_prlimit = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")


@needs_prlimit
async def test_a_new_connection_finds_room_at_the_cost_of_the_slowest(as_shipped: Target) -> None:
    opened = []
    try:
        with few_descriptors(as_shipped):
            for _ in range(200):
                opened.append(await as_shipped.connect())
                opened[-1][1].write(b"G")
            async with httpx.AsyncClient(base_url=as_shipped.server.url) as client:
                assert (await client.get("/livez")).status_code == 200
            # Not all are cut: that would be the work of time.
            answers = await asyncio.gather(*(reader.read() for reader, _ in opened[:50]))
            assert {problem_in(answer) for answer in answers} == {(503, "unavailable")}
    finally:
        for _, writer in opened:
            writer.transport.abort()


@needs_prlimit
async def test_a_new_connection_finds_room_at_the_cost_of_those_without_a_key(
    target: Target,
) -> None:
    reader, writer = await target.connect()
    listing = target.post("/v1/accounts", "").replace(b"POST", b"GET", 1)
    scoring = json.dumps(posted("t-idle")).encode()
    requests = [
        listing,
        # Answered past the application.
        target.post("/v1/transactions", f"Content-Length: {len(scoring)}", "") + scoring,
    ]
    with few_descriptors(target):
        for request in [*requests, *requests]:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"200 OK" in head
            length = next(
                line for line in head.split(b"\r\n") if line.startswith(b"content-length")
            )
            await reader.readexactly(int(length.split()[1]))
            async with (
                sockets_without_a_key(target, 200),
                httpx.AsyncClient(base_url=target.server.url) as client,
            ):
                # By then they are all there.
                assert (await client.get("/livez")).status_code == 200
    writer.transport.abort()


@needs_prlimit
async def test_a_new_connection_finds_room_at_the_cost_of_the_longest_idle(target: Target) -> None:
    opened = []
    try:
        with few_descriptors(target):
            for _ in range(200):
                reader, writer = await target.connect()
                opened.append((reader, writer))
                writer.write(GET + b"\r\n")
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            answers = await asyncio.gather(*(reader.read() for reader, _ in opened[:50]))
            # The rest of the answer, and nothing after it.
            assert not any(b"HTTP/1.1" in answer for answer in answers)
            opened[-1][1].write(GET + b"\r\n")
            assert b"200 OK" in await opened[-1][0].readuntil(b"\r\n\r\n")
    finally:
        for _, writer in opened:
            writer.transport.abort()

"""HTTP as other programs speak it: offers of other protocols, trailers, byte by byte."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from app.main import ROUTES
from app.settings import Settings
from app.web.protocol import MOST_HEADER_BYTES
from tests.api.connections import Caller, Served, serving
from tests.api.requests import posted

# No database knows the difference: one kind of them will do.
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
JAVA = Path(__file__).with_name("DefaultClient.java")
# As Java's HttpClient and `curl --http2` send it, as browsers do, and in other shapes.
OFFERS = {
    "h2c": (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ),
    "websocket": (
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    "several": ("upgrade: TLS/1.0, h2c", "CONNECTION: upgrade", "Upgrade: websocket"),
}


@pytest.fixture
async def served(service_settings: Settings) -> AsyncIterator[Served]:
    async with serving(service_settings) as served:
        yield served


def payment(name: str) -> bytes:
    return json.dumps(posted(name)).encode()


def chunked(body: bytes, trailers: bytes = b"") -> bytes:
    """A body in two chunks."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:40], body[40:]))
    return chunks + b"0\r\n" + trailers + b"\r\n"


def segments_of(request: bytes) -> dict[str, list[bytes]]:
    """The same bytes, cut differently."""
    end = request.index(b"\r\n\r\n") + 4
    return {
        "in one": [request],
        "head and body": [request[:end], request[end:]],
        "within the body": [request[: end + 30], request[end + 30 :]],
        "byte by byte": [request[n : n + 1] for n in range(len(request))],
    }


async def send(caller: Caller, pieces: list[bytes]) -> None:
    """Each piece in a segment of its own."""
    for piece in pieces:
        caller.writer.write(piece)
        # Longer where the server would otherwise have read the one before with this one.
        await asyncio.sleep(0.01 if len(pieces) < 10 else 0)


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_an_offer_of_another_protocol_is_ignored_and_the_body_is_read(
    served: Served, offer: tuple[str, ...]
) -> None:
    caller = await served.caller()
    framings = {
        "length": caller.request(payment("length"), *offer),
        "chunked": caller.request(
            chunked(payment("chunked")), *offer, "Transfer-Encoding: chunked"
        ),
    }
    for name, request in framings.items():
        for cut, pieces in segments_of(request).items():
            await send(caller, pieces)
            answer = await caller.answer()
            assert (answer.status, answer.document["transaction_id"]) == (200, name), cut
    # Many at once, with others between them.
    both = caller.request(payment("t-1"), *offer) + caller.request(payment("t-2"))
    caller.writer.write(both * 20 + LIVEZ)
    answers = [await caller.answer() for _ in range(40)]
    assert [answer.document["transaction_id"] for answer in answers] == ["t-1", "t-2"] * 20
    assert (await caller.answer()).document == {"status": "ok"}


@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
async def test_a_body_behind_an_offer_is_never_taken_for_a_request(
    served: Served, offer: tuple[str, ...]
) -> None:
    for pieces in segments_of(served_request(served, LIVEZ, *offer)).values():
        caller = await served.caller()
        await send(caller, pieces)
        assert (await caller.answer()).problem == (400, "malformed_body")
        await caller.say(caller.request(payment("next")))
        assert (await caller.answer()).document["transaction_id"] == "next"


def served_request(served: Served, body: bytes, *headers: str) -> bytes:
    return Caller(served.port, served.key).request(body, *headers)


async def test_an_offer_hides_no_framing_error(served: Served) -> None:
    for headers in (
        ("Content-Length: 2", "Transfer-Encoding: chunked"),
        ("Content-Length: 2", "Content-Length: 3"),
    ):
        caller = await served.caller()
        await caller.say(caller.request(b"{}", *OFFERS["h2c"], *headers) + LIVEZ)
        assert (await caller.answer()).problem == (400, "malformed_request")
        assert await caller.is_closed()


@pytest.mark.parametrize("target", ["example.org:443", "/livez"])
async def test_connect_is_refused_and_what_follows_is_no_request(
    served: Served, target: str
) -> None:
    for pieces in ([LIVEZ], [b"", LIVEZ]):
        caller = await served.caller()
        head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
        await send(caller, [head + pieces[0], *pieces[1:]])
        answer = await caller.answer()
        assert answer.problem == (405, "method_not_allowed")
        assert answer.headers["connection"] == "close"
        assert await caller.is_closed()


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
async def test_the_default_client_of_java_gets_in(served: Served) -> None:
    url = f"http://127.0.0.1:{served.port}"
    body = json.dumps(posted("java-1"))
    assert await printed("java", str(JAVA), url, served.key, body) == ["200"] * 5


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_gets_in_when_it_offers_http_2(served: Served) -> None:
    if "HTTP2" not in " ".join(await printed("curl", "--version")):
        pytest.skip("this curl has no HTTP/2")
    out = await printed(
        *("curl", "-s", "--http2", "-w", "\\n%{http_code}"),
        *("-H", f"Authorization: Bearer {served.key}", "-H", "Content-Type: application/json"),
        *("-d", json.dumps(posted("curl-1")), f"http://127.0.0.1:{served.port}/v1/transactions"),
    )
    assert (json.loads(out[0])["transaction_id"], out[1]) == ("curl-1", "200")


async def printed(*command: str) -> list[str]:
    """The lines that a program prints."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return out.decode().splitlines()


REFUSED_HEADS = {
    "no Host": (b"GET /livez HTTP/1.1\r\n\r\n", 400, "malformed_request"),
    "two": (b"GET /livez HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    "two keys": (
        b"GET /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: a\r\nauthorization: b\r\n\r\n",
        400,
        "malformed_request",
    ),
    "two types": (
        b"POST /v1/labels HTTP/1.1\r\nHost: x\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n",
        400,
        "malformed_request",
    ),
    "two in 1.0": (b"GET / HTTP/1.0\r\nHost: x\r\nhost: y\r\n\r\n", 400, "malformed_request"),
    **{
        f"Host {host!r}": (
            b"GET /livez HTTP/1.1\r\nHost: %b\r\n\r\n" % host,
            400,
            "malformed_request",
        )
        for host in (b"a b", b"a, b", b"user@a", b"a/b", b"a:b", b"[::1", b"\xc3\xa9", b"a%2")
    },
    "0.9": (b"GET /livez\r\n\r\n", 400, "malformed_request"),
    "2.0": (b"GET /livez HTTP/2.0\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    "a folded line": (b"GET / HTTP/1.1\r\nHost: x\r\na: b\r\n c\r\n\r\n", 400, "malformed_request"),
    "LF alone": (b"GET /livez HTTP/1.1\nHost: x\n\n", 400, "malformed_request"),
    "space before colon": (b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", 400, "malformed_request"),
    "lower case": (b"get /livez HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
    "an address in pieces": (
        b"GET http:///x HTTP/1.1\r\nHost: x\r\n\r\n",
        400,
        "malformed_request",
    ),
    "another coding": (
        b"POST /v1/labels HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        400,
        "malformed_request",
    ),
    **{
        f"Expect {value!r}": (
            b"GET /livez HTTP/1.1\r\nHost: x\r\nExpect: %b\r\n\r\n" % value,
            417,
            "expectation_failed",
        )
        for value in (b"200-ok", b"100-continue, x", b"")
    },
}


async def test_a_head_that_is_not_as_it_must_be_is_refused(served: Served) -> None:
    for name, (request, status, code) in REFUSED_HEADS.items():
        caller = await served.caller()
        await caller.say(request + LIVEZ)
        assert (await caller.answer()).problem == (status, code), name
        assert await caller.is_closed(), name


@pytest.mark.parametrize("host", [None, "Host: x\r\nHost: x", "Host: a b"])
async def test_a_score_needs_a_host_too(served: Served, host: str | None) -> None:
    caller = await served.caller()
    request = caller.request(payment("t-1"))
    line = f"{host}\r\n".encode() if host else b""
    await caller.say(request.replace(b"Host: x\r\n", line))
    assert (await caller.answer()).problem == (400, "malformed_request")


async def test_a_head_that_is_as_it_may_be_is_answered(served: Served) -> None:
    for head in (
        "GET /livez HTTP/1.1\r\nHost:",
        "GET /livez HTTP/1.1\r\nHost: [::1]:80",
        "GET /livez HTTP/1.1\r\nHost: a_b.example.:8000",
        "GET http://elsewhere/livez HTTP/1.1\r\nHost: x",
        "GET /livez HTTP/1.0\r\nConnection: keep-alive",
        "GET /livez HTTP/1.0\r\nHost: x\r\nExpect: 200-ok",
    ):
        caller = await served.caller()
        await caller.say(head.encode() + b"\r\n\r\n")
        assert (await caller.answer()).document == {"status": "ok"}, head


async def test_http_1_0_gets_no_leave_to_send_a_body(served: Served) -> None:
    caller = await served.caller()
    request = caller.request(payment("t-1"), "Expect: 100-continue")
    await caller.say(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (await caller.answer()).document["transaction_id"] == "t-1"


GETS = sorted(
    re.sub(r"\{\w+\}", "3c81463f5052", route.path)
    for route in ROUTES
    if isinstance(route, APIRoute) and "GET" in route.methods
)


async def test_head_is_answered_as_get_is_and_without_a_body(served: Served) -> None:
    caller = await served.caller()
    for path in [*GETS, "/openapi.json", "/nowhere", "/v1/transactions/batch"]:
        answers = {}
        for method in ("HEAD", "GET"):
            request = caller.request(b"", path=path).replace(b"POST", method.encode(), 1)
            caller.writer.write(request)
            text = (await caller.reader.readuntil(b"\r\n\r\n")).decode().lower()
            status, *lines = text.split("\r\n")[:-2]
            headers = dict(line.split(": ", 1) for line in lines)
            answers[method] = status, headers
            if method == "GET":
                await caller.reader.readexactly(int(headers["content-length"]))
        assert comparable(answers["HEAD"], path) == comparable(answers["GET"], path)
    # What follows is the next answer, and no body of one before.
    caller.writer.write(LIVEZ.replace(b"GET", b"HEAD") + LIVEZ)
    assert b"200 OK" in await caller.reader.readuntil(b"\r\n\r\n")
    assert (await caller.answer()).document == {"status": "ok"}


def comparable(answer: tuple[str, dict[str, str]], path: str) -> tuple[str, dict[str, str]]:
    """Without what changes from one request to the next."""
    status, headers = answer
    changing = {"x-request-id", "date", *(("content-length",) if path == "/metrics" else ())}
    return status, {name: value for name, value in headers.items() if name not in changing}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/livez", "GET, HEAD"),
        ("/v1/transactions", "GET, HEAD, POST"),
        ("/v1/labels", "POST"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/console", "GET, HEAD"),
        ("/console/verdict", "GET, HEAD, POST"),
    ],
)
async def test_a_wrong_method_is_answered_with_the_allowed_ones(
    served: Served, path: str, allowed: str
) -> None:
    caller = await served.caller()
    for method in (b"OPTIONS", b"TRACE", b"PATCH"):
        await caller.say(caller.request(b"", path=path).replace(b"POST", method, 1))
        answer = await caller.answer()
        assert answer.problem == (405, "method_not_allowed")
        assert answer.headers["allow"].upper() == allowed


async def test_a_refusal_of_head_has_no_body(served: Served) -> None:
    caller = await served.caller()
    await caller.say(b"HEAD /livez HTTP/1.1\r\n\r\n")
    assert b" 400 " in await caller.reader.readuntil(b"\r\n\r\n")
    assert await caller.is_closed()


@pytest.mark.parametrize("line", ["FOO /livez HTTP/1.1", "F\0O /livez HTTP/1.1", "\r\n{}"])
async def test_a_refusal_behind_a_head_has_its_body(served: Served, line: str) -> None:
    caller = await served.caller()
    await caller.say(LIVEZ.replace(b"GET", b"HEAD"))
    assert b" 200 " in await caller.reader.readuntil(b"\r\n\r\n")
    await caller.say(f"{line}\r\nHost: x\r\n\r\n".encode())
    assert (await caller.answer()).problem == (400, "malformed_request")


TRAILERS = {
    "Authorization": "Bearer qs_x_y",
    "Content-Type": "text/plain",
    "X-Request-Id": "of-the-trailer",
    "Content-Encoding": "gzip",
    "Upgrade": "h2c",
    "Expect": "100-continue",
    "Host": "elsewhere",
}


async def test_a_trailer_changes_nothing(served: Served) -> None:
    caller = await served.caller()
    for name, value in TRAILERS.items():
        body = chunked(payment("t-1"), f"{name}: {value}\r\n".encode())
        headers = "Transfer-Encoding: chunked", "X-Request-Id: of-the-header"
        for pieces in segments_of(caller.request(body, *headers)).values():
            await send(caller, pieces)
            answer = await caller.answer()
            assert (answer.status, answer.headers["x-request-id"]) == (200, "of-the-header"), name
        # Nor the next request.
        await caller.say(LIVEZ)
        assert (await caller.answer()).document == {"status": "ok"}, name


@pytest.mark.parametrize(
    "trailer", ["Content-Length: 5", "Transfer-Encoding: gzip", "Connection: close"]
)
async def test_a_trailer_about_framing_or_the_connection_is_refused(
    served: Served, trailer: str
) -> None:
    caller = await served.caller()
    body = chunked(payment("t-1"), f"{trailer}\r\n".encode())
    request = caller.request(body, "Transfer-Encoding: chunked")
    await caller.say(request + LIVEZ)
    assert (await caller.answer()).problem == (400, "malformed_request")
    assert await caller.is_closed()


async def test_a_trailer_gives_no_key(served: Served) -> None:
    caller = await served.caller()
    trailer = f"Authorization: Bearer {served.key}\r\n".encode()
    request = caller.request(chunked(payment("t-1"), trailer), "Transfer-Encoding: chunked")
    request = request.replace(b"Authorization", b"X-Other", 1)
    for pieces in segments_of(request).values():
        await send(caller, pieces)
        assert (await caller.answer()).problem == (401, "unauthenticated")


@pytest.mark.parametrize("lines", [1, 1000])
async def test_trailers_are_bounded(served: Served, lines: int) -> None:
    trailers = b"x: %b\r\n" % (b"y" * (MOST_HEADER_BYTES // lines)) * lines
    caller = await served.caller()
    request = caller.request(chunked(payment("t-1"), trailers), "Transfer-Encoding: chunked")
    await caller.say(request + LIVEZ)
    assert (await caller.answer()).problem == (431, "headers_too_large")
    assert await caller.is_closed()

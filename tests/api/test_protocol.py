"""HTTP as other programs speak it: offers of other protocols, trailers, byte by byte."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.protocol import MOST_HEADER_BYTES
from app.settings import Settings
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


TRAILERS = {
    "Authorization": "Bearer qs_x_y",
    "Content-Type": "text/plain",
    "X-Request-Id": "of-the-trailer",
    "Content-Encoding": "gzip",
    "Upgrade": "h2c",
    "Expect": "100-continue",
    "Host": "elsewhere",
}


@pytest.mark.parametrize("name", TRAILERS)
async def test_a_trailer_changes_nothing(served: Served, name: str) -> None:
    caller = await served.caller()
    trailer = f"{name}: {TRAILERS[name]}\r\n".encode()
    body = chunked(payment("t-1"), trailer)
    request = caller.request(body, "Transfer-Encoding: chunked", "X-Request-Id: of-the-header")
    for pieces in segments_of(request).values():
        await send(caller, pieces)
        answer = await caller.answer()
        assert (answer.status, answer.headers["x-request-id"]) == (200, "of-the-header")
    # Nor the next request.
    await caller.say(LIVEZ)
    assert (await caller.answer()).document == {"status": "ok"}


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

"""One POST over HTTP/1.1, of whose answer the status and `Retry-After` are all that is read.

A receiver is a stranger: it may answer without end, compressed, or a byte at a time. So its body is
never read, its headers are bounded, and the caller bounds the time.
"""

import asyncio
import base64
import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import h11

from app import __version__

if TYPE_CHECKING:
    import httpx

# Of status line and headers, those of 1xx answers before it among them.
MOST_HEAD_BYTES = 16 << 10
READ_BYTES = 4 << 10


class Answer(NamedTuple):
    """A receiver's status, and its `Retry-After` as it wrote it."""

    status: int
    retry_after: str | None


class NoAnswer(Exception):
    """A receiver has not answered, for the reason in the sentence."""


def url_of(text: str) -> "httpx.URL":
    """An address; raises ValueError, in a sentence, where it is none."""
    # Here, since its command line comes along: 4 MB that no service without webhooks needs.
    import httpx

    try:
        return httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ValueError(str(error)) from None


def create_tls() -> ssl.SSLContext:
    """Certificates are verified by certifi's authorities, or those of `SSL_CERT_FILE`."""
    import httpx

    tls = httpx.create_ssl_context()
    tls.set_alpn_protocols(["http/1.1"])
    return tls


async def post(
    url: "httpx.URL",
    address: str,
    headers: Mapping[str, str],
    body: bytes,
    tls: ssl.SSLContext | None,
) -> Answer:
    """Send a body to a URL whose host has this address; https needs `tls`. Raises NoAnswer."""
    try:
        return await _exchange(url, address, headers, body, tls)
    except ssl.SSLCertVerificationError as error:
        raise NoAnswer(f"TLS: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise NoAnswer(f"TLS: {error.reason or 'no connection'}") from None
    except OSError as error:
        # The words of the error itself may hold an address.
        reason = os.strerror(error.errno).lower() if error.errno else "it was closed"
        raise NoAnswer(f"no connection: {reason}") from None
    except (h11.ProtocolError, ValueError):
        raise NoAnswer("the answer is not HTTP/1.1, or its headers are too long") from None


async def _exchange(
    url: "httpx.URL",
    address: str,
    headers: Mapping[str, str],
    body: bytes,
    tls: ssl.SSLContext | None,
) -> Answer:
    is_https = url.scheme == "https"
    reader, writer = await asyncio.open_connection(
        address,
        port_of(url),
        limit=MOST_HEAD_BYTES,
        ssl=tls if is_https else None,
        server_hostname=url.raw_host.decode().rstrip(".") if is_https else None,
    )
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
        writer.write(_request(connection, url, headers, body))
        await writer.drain()
        return await _answer(connection, reader)
    finally:
        # Whatever else it has to say: nobody waits for the end of it.
        writer.transport.abort()


def _request(
    connection: h11.Connection, url: "httpx.URL", headers: Mapping[str, str], body: bytes
) -> bytes:
    lines = {
        "host": url.netloc.decode(),
        "user-agent": f"quickstudy/{__version__}",
        "connection": "close",
        "content-length": str(len(body)),
        **headers,
    }
    if url.userinfo:
        lines["authorization"] = f"Basic {base64.b64encode(url.userinfo).decode()}"
    request = h11.Request(method="POST", target=url.raw_path, headers=list(lines.items()))
    parts = [request, h11.Data(data=body), h11.EndOfMessage()]
    return b"".join(connection.send(part) or b"" for part in parts)


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    left = MOST_HEAD_BYTES
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            found = dict(event.headers).get(b"retry-after")
            return Answer(event.status_code, found.decode("latin-1") if found else None)
        if event is h11.NEED_DATA:
            if left <= 0:
                raise ValueError("too many headers")
            read = await reader.read(min(left, READ_BYTES))
            left -= len(read)
            connection.receive_data(read)
        elif not isinstance(event, h11.InformationalResponse):
            raise ValueError("no answer")


def port_of(url: "httpx.URL") -> int:
    """A URL's port, or that of its scheme."""
    if url.port is not None:
        return url.port
    return 443 if url.scheme == "https" else 80

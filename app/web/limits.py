"""What a body may be, before anybody reads it: not too large, announced or in chunks, and plain."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problems import BodyTooLarge, UnsupportedEncoding, render

LENGTH, EXPECT, CONNECTION = b"content-length", b"expect", b"connection"
# What says of a body that it is compressed, and the values that do not.
PLAIN = {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}
# This connection can say nothing more: the rest of the body is not read.
LAST = {"Connection": "close"}


class BodyLimit:
    """ASGI middleware that answers 413 as soon as a body is known to be too large.

    What is compressed is a 415: nobody knows how large it is before it has been unpacked.
    """

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if EXPECT in headers:
            receive, send = _last_unless_read(receive, send)
        announced = headers.get(LENGTH, b"")
        fits = announced.isdigit() and int(announced) <= self.most_bytes
        if any(headers.get(name, plain).lower() != plain for name, plain in PLAIN.items()):
            compressed = UnsupportedEncoding("Send the body as it is, without Content-Encoding.")
            compressed.headers = {"Accept-Encoding": "identity", **({} if fits else LAST)}
            await render(compressed)(scope, receive, send)
            return
        if fits:
            # A server hands over no more of a body than was announced.
            await self.app(scope, receive, send)
            return
        if announced.isdigit():
            problem = BodyTooLarge(f"A body may have at most {self.most_bytes} bytes.")
            await render(problem)(scope, receive, send)
            return
        received = 0

        async def counting() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                # The only kind of exception that FastAPI lets out of the reading of a body.
                raise HTTPException(BodyTooLarge.status)
            return message

        await self.app(scope, counting, send)


def _last_unless_read(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """For a caller who waits for leave to send a body: without it the answer ends the connection.

    Nobody could know whether what comes next is that body or another request (RFC 9110, 10.1.1).
    """
    is_read = False

    async def receiving() -> Message:
        nonlocal is_read
        is_read = True
        return await receive()

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and not is_read:
            others = [header for header in message["headers"] if header[0].lower() != CONNECTION]
            message = {**message, "headers": [*others, (CONNECTION, b"close")]}
        await send(message)

    return receiving, sending

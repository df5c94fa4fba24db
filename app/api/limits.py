"""The limit on a body's size, whether it is announced or comes in chunks."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import BodyTooLarge, render

LENGTH = b"content-length"


class BodyLimit:
    """ASGI middleware that answers 413 as soon as a body is known to be too large."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == LENGTH), b"")
        if announced.isdigit() and int(announced) <= self.most_bytes:
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

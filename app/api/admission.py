"""Under overload: refuse at once what could not be answered in time, and end what takes too long.

A request that is refused costs a fraction of one that is answered, so the answers that are given
stay as many and as quick as they were. Health and metrics are always let in.
"""

import asyncio
import logging
import time
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import DeadlineExceeded, Overloaded, render
from app.metrics import refused_requests
from app.service import Service

logger = logging.getLogger("quickstudy")

# Of requests other than for scores, which all want the database for themselves.
MOST_AT_ONCE = 64
API = "/v1/"
SAID_EVERY_SECONDS = 1.0


class Admission:
    """ASGI middleware, the outermost: a refused request is counted, but has no log line or id.

    `scoring` are the methods and paths whose requests share batches: full when their queue is.
    """

    def __init__(self, app: ASGIApp, scoring: Collection[tuple[str, str]]) -> None:
        self.app = app
        self._scoring = scoring
        self._running = 0
        self._refused = 0
        self._said_at = 0.0
        answer = render(Overloaded())
        self._status, self._headers = answer.status_code, answer.raw_headers
        self._body = {"type": "http.response.body", "body": bytes(answer.body)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if (scope.get("method"), path) in self._scoring:
            service: Service = scope["app"].state.service
            if service.batcher.is_full:
                await self._refuse(send)
            else:
                await self.app(scope, receive, send)
        elif not path.startswith(API):
            await self.app(scope, receive, send)
        elif self._running >= MOST_AT_ONCE:
            await self._refuse(send)
        else:
            self._running += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self._running -= 1

    async def _refuse(self, send: Send) -> None:
        start = {"status": self._status, "headers": self._headers}
        await send({"type": "http.response.start", **start})
        await send(self._body)
        refused_requests.inc()
        self._refused += 1
        if time.monotonic() - self._said_at > SAID_EVERY_SECONDS:
            logger.warning("overloaded: refused %s requests", self._refused)
            self._refused, self._said_at = 0, time.monotonic()


class Deadline:
    """ASGI middleware: requests other than for scores, which the batcher ends, end in time.

    What is not committed by then is not stored.
    """

    def __init__(self, app: ASGIApp, scoring: Collection[tuple[str, str]], seconds: float) -> None:
        self.app = app
        self._scoring = scoring
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) in self._scoring:
            await self.app(scope, receive, send)
            return
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            async with asyncio.timeout(self._seconds) as limit:
                await self.app(scope, receive, sending)
        except TimeoutError:
            if has_begun or not limit.expired():
                raise
            await render(DeadlineExceeded())(scope, receive, send)

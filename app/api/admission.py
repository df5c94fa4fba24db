"""Under overload: refuse at once what could not be answered in time, and end what takes too long.

A request that is refused costs a fraction of one that is answered, so the answers that are given
stay as many and as quick as they were. Health and metrics are always let in.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.batching import Batcher
from app.errors import DeadlineExceeded, Overloaded, render
from app.metrics import refused_requests

logger = logging.getLogger("quickstudy")

# Of requests other than for scores, which all want the database for themselves.
MOST_AT_ONCE = 64
# Bodies that are let in before the queue can tell how many transactions they hold.
MOST_COMING_BYTES = 4 << 20
API = "/v1/"
SAID_EVERY_SECONDS = 1.0
# Its name in the state of the server.
GATE = "gate"

# Methods and paths of the requests that share batches.
Routes = Collection[tuple[str, str]]


class Gate:
    """Is shut to requests for scores while their queue is full: `app.protocol` asks it.

    It is asked when no more than the headers have been read, and before there is a task for the
    request: at ten times the load, refusing is most of the work. Who is refused is counted, but has
    no log line and no request id.

    A batch takes all that waits, so a bound on what waits is one on how long it takes: who comes
    to a full queue is better off asking another server, or later, than waiting ever longer with
    everyone else (Google's "Site Reliability Engineering", 2016, chapter 21).
    """

    def __init__(self, batcher: Batcher[Any, Any], scoring: Routes) -> None:
        self._batcher = batcher
        self._scoring = {(method.encode(), path.encode()) for method, path in scoring}
        # What has come whole since tasks last had their turn: the queue does not know of it yet.
        self._coming, self._coming_bytes = 0, 0
        self._refused, self._said_at = 0, 0.0

    @property
    def is_shut(self) -> bool:
        return self._batcher.is_full(self._coming) or self._coming_bytes >= MOST_COMING_BYTES

    def leads_to(self, method: bytes, url: bytes) -> bool:
        """Whether it is this gate that a request has to pass."""
        return (method, url) in self._scoring

    def enter(self, size: int) -> None:
        """A request with a body of that many bytes was let in and has come whole."""
        if not self._coming:
            asyncio.get_running_loop().call_soon(self._queued)
        self._coming += 1
        self._coming_bytes += size

    def _queued(self) -> None:
        self._coming, self._coming_bytes = 0, 0

    def count(self) -> None:
        """A request was refused."""
        refused_requests.inc()
        self._refused += 1
        if time.monotonic() - self._said_at > SAID_EVERY_SECONDS:
            logger.warning("overloaded: refused %d requests", self._refused)
            self._refused, self._said_at = 0, time.monotonic()


class Bounds:
    """ASGI middleware: requests other than for scores are few at once, and end in time.

    What is not committed by then is not stored. For scores, the batcher sees to both.
    """

    def __init__(self, app: ASGIApp, scoring: Routes, seconds: float) -> None:
        self.app = app
        self._scoring = scoring
        self._seconds = seconds
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if not path.startswith(API) or (scope["method"], path) in self._scoring:
            await self.app(scope, receive, send)
        elif self._running >= MOST_AT_ONCE:
            refused_requests.inc()
            await render(Overloaded())(scope, receive, send)
        else:
            self._running += 1
            try:
                await self._bounded(scope, receive, send)
            finally:
                self._running -= 1

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> None:
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

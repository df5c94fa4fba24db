"""Connections of the load generator, and the requests that they take."""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import httptools


class Source:
    """The requests that all connections take from, until it is stopped."""

    def __init__(self, requests: Iterator[bytes], repeats: bool) -> None:
        self.waiting = deque(requests)
        self.repeats = repeats
        self.sent = 0
        self.is_stopped = False

    def next(self) -> bytes:
        """Raises IndexError when there are too few."""
        request = self.waiting.popleft()
        self.sent += 1
        if self.repeats:
            self.waiting.append(request)
        return request


class Connection(asyncio.Protocol):
    """One request at a time; the next one as soon as it is answered, where there is a source."""

    def __init__(self, source: Source | None) -> None:
        self.source = source
        self.queue: deque[tuple[bytes, float]] = deque()
        self.seen: list[tuple[float, float]] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.next()

    def next(self) -> None:
        """Send what waits longest; a paced one has waited since it was due."""
        self.busy = True
        if self.queue:
            request, self.begun = self.queue.popleft()
        elif self.source is not None and not self.source.is_stopped:
            try:
                request, self.begun = self.source.next(), time.perf_counter()
            except IndexError:
                self.fail("there are too few requests for so fast a server")
                return
        else:
            self.busy = False
            return
        self.transport.write(request)

    def send(self, request: bytes) -> None:
        self.queue.append((request, time.perf_counter()))
        if not self.busy:
            self.next()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        if (status := self.parser.get_status_code()) // 100 != 2:
            self.fail(f"answered {status}")
            return
        self.seen.append((now, now - self.begun))
        self.parser = httptools.HttpResponseParser(self)
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(f"the connection was closed: {error}")

    def fail(self, why: str) -> None:
        if not self.closed.done():
            self.closed.set_exception(RuntimeError(why))

"""A load generator in a process of its own, as `python -m benchmarks.serving.load < plan.json`.

Keeps so many connections busy, each asking again as soon as it is answered (a closed loop), and
beside them sends others at a fixed rate (an open loop), as labels come. Counts in a window after a
warm-up, and prints what it saw as JSON. Any answer but 2xx, and any lost connection, ends it.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import httptools
import numpy as np
import uvloop


class Plan(TypedDict):
    """`requests` and `paced` are files of JSON lines `[path, body]`, taken from the first on.

    Each body holds `units` transactions; `paced` ones are sent `per_second`.
    """

    host: str
    port: int
    key: str
    requests: str
    units: int
    connections: int
    warm_seconds: float
    seconds: float
    paced: str | None
    per_second: float


class Connection(asyncio.Protocol):
    """One request at a time; the next one as soon as it is answered, while there is one."""

    def __init__(self, shared: deque[bytes] | None) -> None:
        self.shared = shared
        self.mine: deque[tuple[bytes, float]] = deque()
        self.seen: list[tuple[float, float]] = []
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.busy = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)
        self.next()

    def next(self) -> None:
        """Send what waits longest; a paced one has waited since it was due."""
        if self.mine:
            request, self.begun = self.mine.popleft()
        elif self.shared:
            request, self.begun = self.shared.popleft(), time.perf_counter()
        else:
            if self.shared is not None:
                self.fail("there are too few requests for so fast a server")
            self.busy = False
            return
        self.busy = True
        self.transport.write(request)

    def send(self, request: bytes) -> None:
        self.mine.append((request, time.perf_counter()))
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


def requests_of(plan: Plan, path: str) -> Iterator[bytes]:
    """HTTP requests, whole."""
    with Path(path).open() as lines:
        for target, body in map(json.loads, lines):
            yield (
                f"POST {target} HTTP/1.1\r\nHost: {plan['host']}\r\n"
                f"Authorization: Bearer {plan['key']}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
            ).encode()


async def run(plan: Plan) -> dict[str, Any]:
    """The requests a second, the latencies (milliseconds) and the processor time of the load."""
    loop = asyncio.get_running_loop()

    async def connected(shared: deque[bytes] | None) -> Connection:
        protocol = Connection(shared)
        await loop.create_connection(lambda: protocol, plan["host"], plan["port"])
        return protocol

    # Prepared before the clock starts: what the generator computes, the server cannot use.
    prepared = deque(requests_of(plan, plan["requests"]))
    beside = [await connected(None) for _ in range(8)] if plan["paced"] else []
    busy = [await connected(prepared) for _ in range(plan["connections"])]
    begun = time.perf_counter()
    first, last = begun + plan["warm_seconds"], begun + plan["warm_seconds"] + plan["seconds"]

    async def pace() -> None:
        assert plan["paced"] is not None
        for n, request in enumerate(requests_of(plan, plan["paced"])):
            await asyncio.sleep(begun + n / plan["per_second"] - time.perf_counter())
            beside[n % len(beside)].send(request)

    pacing = asyncio.create_task(pace()) if plan["paced"] else None
    everyone = [*busy, *beside]
    done, _ = await asyncio.wait(
        [one.closed for one in everyone],
        timeout=last - time.perf_counter(),
        return_when=asyncio.FIRST_COMPLETED,
    )
    for one in done:
        one.result()
    if pacing is not None:
        pacing.cancel()
    return {
        "per_second": plan["units"] * len(within(busy, first, last)) / plan["seconds"],
        "milliseconds": percentiles(within(busy, first, last)),
        "paced_milliseconds": percentiles(within(beside, first, last)),
        "busy_share": time.process_time() / (time.perf_counter() - begun),
    }


def within(connections: list[Connection], first: float, last: float) -> list[float]:
    """The latencies of what was answered in the window."""
    return [took for one in connections for at, took in one.seen if first <= at < last]


def percentiles(seconds: list[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(seconds, (50, 90, 99, 99.9)) * 1e3
    return dict(zip(("p50", "p90", "p99", "p99.9"), values.round(3).tolist(), strict=True))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))

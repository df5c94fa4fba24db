"""An open loop of requests in a process of its own: `python -m tests.reliability.load < plan.json`.

Requests are sent when they are due, whether or not earlier ones have been answered, as customers'
are; latency counts from when one was due. A connection carries one request at a time, and there
are as many as the load needs, up to a bound: what is due when all of them wait is not sent, but
counted. With `in_flight` it is a closed loop of that many connections instead, which finds out
how much the server can do.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any, TypedDict

import httptools
import numpy as np
import uvloop

PAUSE_SECONDS = 0.0005
LEFT_SECONDS = 20.0


class Plan(TypedDict):
    """Bodies are `templates` with their `@` replaced by the number of the request."""

    host: str
    port: int
    path: str
    key: str
    templates: list[str]
    prefix: str
    seconds: float
    warm_seconds: float
    per_second: float
    in_flight: int
    connections: int


class Load:
    """What was sent, and what came back: by status, when it was due and how long it took."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.sent = 0
        self.unsent = 0
        self.lost = 0
        self.answers: list[tuple[int, float, float]] = []
        self.without_retry_after = 0
        self.idle: list[Connection] = []
        self.open = 0
        self.is_over = False

    def request(self) -> bytes:
        plan = self.plan
        template = plan["templates"][self.sent % len(plan["templates"])]
        body = template.replace("@", f"{plan['prefix']}-{self.sent}")
        self.sent += 1
        return (
            f"POST {plan['path']} HTTP/1.1\r\nHost: {plan['host']}\r\n"
            f"Authorization: Bearer {plan['key']}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    async def connect(self) -> "Connection":
        self.open += 1
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self), self.plan["host"], self.plan["port"]
        )
        return connection

    async def send(self, due: float) -> None:
        """On a connection that is free, or a new one."""
        if self.idle:
            self.idle.pop().ask(due)
        elif self.open < self.plan["connections"]:
            (await self.connect()).ask(due)
        else:
            self.unsent += 1

    def freed(self, connection: "Connection") -> None:
        if self.plan["in_flight"] and not self.is_over:
            connection.ask(time.perf_counter())
        else:
            self.idle.append(connection)


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.due: float | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def ask(self, due: float) -> None:
        self.due, self.has_retry_after = due, False
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.has_retry_after = True

    def on_message_complete(self) -> None:
        assert self.due is not None
        status = self.parser.get_status_code()
        if status >= 429 and not self.has_retry_after:
            self.load.without_retry_after += 1
        self.load.answers.append((status, self.due, time.perf_counter() - self.due))
        self.due = None
        self.parser = httptools.HttpResponseParser(self)
        self.load.freed(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.load.open -= 1
        if self.due is not None:
            self.load.lost += 1
        elif self in self.load.idle:
            self.load.idle.remove(self)


async def run(plan: Plan) -> dict[str, Any]:
    """Answers by status, their latencies in milliseconds, and what went wrong."""
    load = Load(plan)
    begun = time.perf_counter()
    first = begun + plan["warm_seconds"]
    last = first + plan["seconds"]
    if plan["in_flight"]:
        for _ in range(plan["in_flight"]):
            (await load.connect()).ask(time.perf_counter())
        await asyncio.sleep(last - time.perf_counter())
    else:
        due = begun
        while due < last:
            if due > time.perf_counter():
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                await load.send(due)
                due += 1 / plan["per_second"]
                # Answers are read in between.
                await asyncio.sleep(0)
    load.is_over = True
    end = time.perf_counter() + LEFT_SECONDS
    while len(load.answers) + load.lost < load.sent and time.perf_counter() < end:
        await asyncio.sleep(0.01)
    window = [answer for answer in load.answers if first <= answer[1] < last]
    accepted = [took for status, _, took in window if status == 200]
    refused = [took for status, _, took in window if status in (429, 503)]
    return {
        "per_second": len(accepted) / plan["seconds"],
        "offered_per_second": (len(window) + load.unsent) / plan["seconds"],
        "statuses": {str(status): n for status, n in Counter(s for s, *_ in window).items()},
        "accepted_ms": percentiles(accepted),
        "refused_ms": percentiles(refused),
        "accepted": sum(status == 200 for status, _, _ in load.answers),
        "unsent": load.unsent,
        "lost": load.lost,
        "unanswered": load.sent - len(load.answers) - load.lost,
        "without_retry_after": load.without_retry_after,
    }


def percentiles(seconds: list[float]) -> list[float]:
    """The median and the 99th percentile, in milliseconds; nothing of nothing."""
    return (np.percentile(seconds, (50, 99)) * 1e3).round(2).tolist() if seconds else []


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))

"""A load generator in a process of its own, as `python -m benchmarks.serving.load < plan.json`.

Keeps so many connections busy, each with a new request for every answer (a closed loop), and
beside them sends others at a fixed rate (an open loop), as labels come. Counts in a window after a
warm-up, waits for the answers that are left, and prints what it saw as JSON. Any answer but 2xx,
and any lost connection, ends it.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import uvloop

from benchmarks.serving.connections import Connection, Source
from benchmarks.serving.processors import processor_seconds

PACED_CONNECTIONS = 8
LEFT_SECONDS = 30


class Plan(TypedDict):
    """`requests` and `paced` are files of JSON lines `[path, body, headers]`.

    Of `requests`, so many lines are taken (`most`) from the `first` on, again and again where it
    `repeats`; each body holds `units` transactions. Those of `paced` are sent `per_second`, from
    `first_paced` on. `watched` are processes, by name; their use of the processors is reported.
    """

    host: str
    port: int
    key: str
    requests: str
    first: int
    most: int
    repeats: bool
    units: int
    connections: int
    warm_seconds: float
    seconds: float
    paced: str | None
    first_paced: int
    per_second: float
    watched: dict[str, int]


def requests_of(plan: Plan, path: str, first: int, most: int | None) -> Iterator[bytes]:
    """HTTP requests, whole."""
    with Path(path).open() as lines:
        for line in islice(lines, first, None if most is None else first + most):
            target, body, headers = json.loads(line)
            more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            yield (
                f"POST {target} HTTP/1.1\r\nHost: {plan['host']}\r\n"
                f"Authorization: Bearer {plan['key']}\r\nContent-Type: application/json\r\n{more}"
                f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
            ).encode()


async def run(plan: Plan) -> dict[str, Any]:
    """The requests a second, the latencies (milliseconds) and the use of the processors."""
    loop = asyncio.get_running_loop()

    async def connected(source: Source | None) -> Connection:
        protocol = Connection(source)
        await loop.create_connection(lambda: protocol, plan["host"], plan["port"])
        return protocol

    # Prepared before the clock starts: what the generator computes, the server cannot use.
    source = Source(
        requests_of(plan, plan["requests"], plan["first"], plan["most"]), plan["repeats"]
    )
    # Nor shall collecting garbage look at all of it again and again.
    gc.freeze()
    beside = [await connected(None) for _ in range(PACED_CONNECTIONS if plan["paced"] else 0)]
    busy = [await connected(source) for _ in range(plan["connections"])]
    begun = time.perf_counter()
    first, last = begun + plan["warm_seconds"], begun + plan["warm_seconds"] + plan["seconds"]
    paced = 0

    async def pace(path: str) -> None:
        nonlocal paced
        for request in requests_of(plan, path, plan["first_paced"], None):
            await asyncio.sleep(begun + paced / plan["per_second"] - time.perf_counter())
            beside[paced % len(beside)].send(request)
            paced += 1

    pacing = asyncio.create_task(pace(plan["paced"])) if plan["paced"] else None
    await until(first, busy + beside)
    used_before, own_before = used(plan), time.process_time()
    await until(last, busy + beside)
    used_after, own_after = used(plan), time.process_time()
    source.is_stopped = True
    if pacing is not None:
        pacing.cancel()
    await answered(busy + beside)
    return {
        "per_second": plan["units"] * len(within(busy, first, last)) / plan["seconds"],
        "milliseconds": percentiles(within(busy, first, last)),
        "paced_milliseconds": percentiles(within(beside, first, last)),
        "busy_share": (own_after - own_before) / plan["seconds"],
        "processor_shares": {
            name: round((after - used_before[name]) / plan["seconds"], 3)
            for name, after in used_after.items()
        },
        "sent": source.sent,
        "paced": paced,
    }


def used(plan: Plan) -> dict[str, float]:
    return {name: processor_seconds(pid) for name, pid in plan["watched"].items()}


async def until(moment: float, connections: Sequence[Connection]) -> None:
    """Wait, unless a connection fails before."""
    done, _ = await asyncio.wait(
        [connection.closed for connection in connections],
        timeout=max(0.0, moment - time.perf_counter()),
        return_when=asyncio.FIRST_COMPLETED,
    )
    for closed in done:
        closed.result()


async def answered(connections: Sequence[Connection]) -> None:
    """Wait for the answers to all that was sent: the next load finds an idle server."""
    for _ in range(100 * LEFT_SECONDS):
        if not any(connection.busy for connection in connections):
            return
        await until(time.perf_counter() + 0.01, connections)
    raise RuntimeError("there are requests that were not answered")


def within(connections: Sequence[Connection], first: float, last: float) -> list[float]:
    """The latencies of what was answered in the window."""
    return [
        took for connection in connections for at, took in connection.seen if first <= at < last
    ]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {}
    values = np.percentile(seconds, (50, 90, 99, 99.9)) * 1e3
    return dict(zip(("p50", "p90", "p99", "p99.9"), values.round(3).tolist(), strict=True))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))

"""What a tenant does to others, and to the service's memory: `python -m benchmarks.isolation`.

First a tenant has a webhook to each of the receivers of `tests/receivers.py` that do not answer as
they should (without end, compressed, a byte now and then, never), with 200 messages for each: how
long do messages of another tenant take meanwhile? Then 300 requests of 1,000 payments come at
once, spelled with a query or with an absolute address, beside callers who heed Retry-After.
Both times with the growth of the service's memory and the slowest `/livez`. On SQLite.
"""

import asyncio
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import httpx

from app.db.migrating import upgrade
from app.settings import SHIPPED_MODEL
from quickstudy_client import Client
from tests.api.requests import label, posted
from tests.receivers import HOSTILE, Receivers, receivers
from tests.servers import Server, new_key, server_process

MESSAGES, OF_OTHERS = 200, 10
REQUESTS, ROWS, CALLERS, PAYMENTS = 300, 1000, 8, 20
TIMEOUT_SECONDS = 120
MIB = 1 << 20


class Seen(NamedTuple):
    """What is seen of a service meanwhile: bytes of memory, and seconds of each `/livez`."""

    before: int
    most: int
    silences: list[float]

    def __str__(self) -> str:
        slow = [1000 * seconds for seconds in sorted(self.silences)]
        return (
            f"memory {self.before / MIB:.0f} MiB, at most {(self.most - self.before) / MIB:.1f} "
            f"more; /livez p99 {slow[int(0.99 * len(slow))]:.0f} ms, longest {slow[-1]:.0f}"
        )


@contextmanager
def watched(service: Server, what: str) -> Iterator[None]:
    """Print what is seen of a service, by a process of its own: this one has receivers to run."""
    context = get_context("spawn")
    over, ready = context.Event(), context.Event()
    watching = context.Process(
        target=watch, args=(service.url, service.process.pid, what, ready, over)
    )
    watching.start()
    ready.wait()
    try:
        yield
    finally:
        over.set()
        watching.join()


def watch(url: str, process: int, what: str, ready: Event, over: Event) -> None:
    before = most = resident_bytes(process)
    silences = []
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS) as client:
        client.get("/livez")
        ready.set()
        while not over.wait(0.01):
            most = max(most, resident_bytes(process))
            begun = time.perf_counter()
            client.get("/livez")
            silences.append(time.perf_counter() - begun)
    print(f"{what}: {Seen(before, most, silences)}", flush=True)


def resident_bytes(process: int) -> int:
    """Memory of a process, as Linux reports it."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def hostile_receivers(url: str) -> None:
    """Print how long the second tenant's messages take."""
    hostile_key, key = new_key(url, "hostile"), new_key(url, "other")
    with (
        receivers() as receiving,
        server_process(url, SHIPPED_MODEL, QUICKSTUDY_WEBHOOKS_PRIVATE="true") as service,
        Client(service.url, key, timeout=TIMEOUT_SECONDS) as other,
        Client(service.url, hostile_key, timeout=TIMEOUT_SECONDS) as hostile,
    ):
        other.create_webhook(receiving.url("good"), ["label.changed"])
        other.score_batch([posted(f"t-{n}") for n in range(OF_OTHERS)])
        hostile.score_batch([posted(f"t-{n}", account_id=f"a-{n}") for n in range(MESSAGES)])
        for path in HOSTILE:
            hostile.create_webhook(receiving.url(path), ["label.changed"])
        what = f"{len(HOSTILE)} hostile receivers, {MESSAGES} messages each"
        with watched(service, what):
            hostile.label_batch([label(f"t-{n}") for n in range(MESSAGES)])
            took = [arrival(receiving, other, f"t-{n}") for n in range(OF_OTHERS)]
    print(
        f"of {len(took)} messages of another tenant the slowest took {max(took):.2f} s", flush=True
    )


def arrival(receiving: Receivers, other: Client, transaction_id: str) -> float:
    """Seconds from a label to its message; the next one waits a little."""
    number, begun = len(receiving.arrived), time.perf_counter()
    other.label(transaction_id, "fraud")
    while len(receiving.arrived) == number and time.perf_counter() - begun < TIMEOUT_SECONDS:
        time.sleep(0.005)
    took = time.perf_counter() - begun
    time.sleep(1)
    return took


async def flood(service: Server, key: str) -> None:
    """Print what becomes of requests that come all at once, and of callers who obey."""
    with watched(service, f"{REQUESTS} requests of {ROWS:,} payments at once"):
        begun = time.perf_counter()
        rude = [asyncio.create_task(rudely(service, key, n)) for n in range(REQUESTS)]
        polite = await asyncio.gather(*(politely(service, key, n) for n in range(CALLERS)))
        seconds = time.perf_counter() - begun
        statuses = Counter(await asyncio.gather(*rude))
    print(
        f"their statuses: {dict(statuses)}; of callers who heed Retry-After {sum(polite)} of "
        f"{CALLERS * PAYMENTS} payments in {seconds:.1f} s",
        flush=True,
    )


async def rudely(service: Server, key: str, number: int) -> int:
    """The status of a request of many payments, spelled as few do."""
    rows = [posted(f"r-{number}-{n}", account_id=f"r-{n}") for n in range(ROWS)]
    body = json.dumps({"transactions": rows}).encode()
    path = "/v1/transactions/batch"
    target = f"{path}?x=1" if number % 2 else f"{service.url}{path}"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    head = (
        f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    try:
        writer.write(head.encode() + body)
        return int((await reader.readline()).split()[1])
    finally:
        writer.transport.abort()


async def politely(service: Server, key: str, caller: int) -> int:
    """How many payments one after another are scored, in the end."""
    headers, scored = {"Authorization": f"Bearer {key}"}, 0
    async with httpx.AsyncClient(
        base_url=service.url, headers=headers, timeout=TIMEOUT_SECONDS
    ) as client:
        for n in range(PAYMENTS):
            body, until = posted(f"p-{caller}-{n}"), time.monotonic() + TIMEOUT_SECONDS
            while time.monotonic() < until:
                answer = await client.post("/v1/transactions", json=body)
                if answer.is_success:
                    scored += 1
                    break
                await asyncio.sleep(float(answer.headers["Retry-After"]))
    return scored


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as folder:
        for name, measure in (("receivers", hostile_receivers), ("flood", flooded)):
            url = f"sqlite:///{Path(folder) / name}.db"
            upgrade(url)
            measure(url)


def flooded(url: str) -> None:
    key = new_key(url)
    with server_process(url, SHIPPED_MODEL) as service:
        # Each takes the memory once that it needs to score.
        asyncio.run(politely(service, key, CALLERS))
        asyncio.run(flood(service, key))


if __name__ == "__main__":
    main()

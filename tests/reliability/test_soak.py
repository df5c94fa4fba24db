"""Half an hour of everything at once: memory, file handles and latency stay as they were."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
import pytest

from app.settings import SHIPPED_MODEL
from tests.api.requests import posted
from tests.conftest import IS_TORTURE, mainly
from tests.reliability.conftest import Note
from tests.servers import Server, new_key, server_process

# The short form measures nothing.
pytestmark = [pytest.mark.alone] if IS_TORTURE else []

SECONDS, SHORT_SECONDS = 1800, 6
ACCOUNTS, MERCHANTS = 500, 97
# How often each is called, and how many windows the time has: the first is for warming up.
SCORES, BATCHES, LABELS, READS = 60.0, 0.5, 4.0, 8.0
TOGETHER = 100
WINDOWS = 6


class Window(NamedTuple):
    """What was seen of the server in a part of the time."""

    resident_bytes: int
    handles: int
    median_ms: float
    p99_ms: float
    answers: int


class Traffic:
    """Callers of every kind at their own rates; any answer that is no 2xx is a failure."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.numbers = itertools.count()
        # The newest that were answered, to be labelled and read.
        self.scored: deque[tuple[str, str]] = deque(maxlen=ACCOUNTS)
        self.milliseconds: list[float] = []
        self.failures: list[str] = []
        self.answers = 0

    def payment(self) -> dict[str, Any]:
        n = next(self.numbers)
        account = f"a-{n * 7919 % ACCOUNTS}"
        merchant = f"m-{n * 104729 % MERCHANTS}"
        return posted(f"t-{n}", account_id=account, merchant_id=merchant, amount=5 + n % 300)

    async def score(self) -> None:
        begun = time.perf_counter()
        payment = self.payment()
        await self.ask("POST", "/v1/transactions", payment)
        self.milliseconds.append(1e3 * (time.perf_counter() - begun))
        self.scored.append((payment["transaction_id"], payment["account_id"]))

    async def batch(self) -> None:
        body = {"transactions": [self.payment() for _ in range(TOGETHER)]}
        await self.ask("POST", "/v1/transactions/batch", body)
        self.scored += [
            (transaction["transaction_id"], transaction["account_id"])
            for transaction in body["transactions"]
        ]

    async def label(self) -> None:
        # Each is labelled once, so that no other caller takes its label back first.
        transaction_id, _ = self.scored.popleft()
        path = f"/v1/transactions/{transaction_id}/label"
        verdict = "fraud" if next(self.numbers) % 5 == 0 else "legitimate"
        await self.ask("PUT", path, {"label": verdict})
        if next(self.numbers) % 3 == 0:
            await self.ask("DELETE", path)

    async def read(self) -> None:
        transaction_id, account_id = self.scored[0]
        paths = (
            f"/v1/transactions/{transaction_id}",
            f"/v1/transactions/{transaction_id}/reasons",
            f"/v1/accounts/{account_id}",
            "/v1/reviews",
            "/v1/transactions?limit=50",
            "/readyz",
            "/metrics",
        )
        await self.ask("GET", paths[next(self.numbers) % len(paths)])

    async def ask(self, method: str, path: str, body: object = None) -> None:
        try:
            answer = await self.client.request(method, path, json=body)
        except httpx.HTTPError as error:
            self.failures.append(f"{method} {path}: {error!r}")
            return
        self.answers += 1
        if not answer.is_success:
            self.failures.append(f"{method} {path}: {answer.status_code} {answer.text}")


async def paced(call: Callable[[], Awaitable[None]], per_second: float, until: float) -> None:
    """Ask at this rate, whether or not the last one was answered."""
    due, tasks = time.perf_counter(), set[asyncio.Task[None]]()
    while due < until and not await asyncio.sleep(max(0.0, due - time.perf_counter())):
        task = asyncio.ensure_future(call())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += 1 / per_second
    await asyncio.gather(*tasks)


async def soak(server: Server, key: str, seconds: float) -> tuple[Traffic, list[Window]]:
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=30, limits=limits
    ) as client:
        traffic = Traffic(client)
        await traffic.batch()
        until = time.perf_counter() + seconds
        rates = (
            (traffic.score, SCORES),
            (traffic.batch, BATCHES),
            (traffic.label, LABELS),
            (traffic.read, READS),
        )
        running = [asyncio.create_task(paced(call, rate, until)) for call, rate in rates]
        windows = []
        for _ in range(WINDOWS):
            traffic.milliseconds.clear()
            before = traffic.answers
            await asyncio.sleep(seconds / WINDOWS)
            median, p99 = np.percentile(traffic.milliseconds, (50, 99))
            answers = traffic.answers - before
            windows.append(Window(*used(server), float(median), float(p99), answers))
        await asyncio.gather(*running)
    return traffic, windows


def used(server: Server) -> tuple[int, int]:
    """Resident memory in bytes, and open file handles without those of callers who are there.

    After a slow moment the callers have more connections, as many as they may.
    """
    process = psutil.Process(server.process.pid)
    callers = sum(
        connection.laddr.port == server.port and connection.status == psutil.CONN_ESTABLISHED
        for connection in process.net_connections("tcp4")
    )
    return process.memory_info().rss, process.num_fds() - callers


@mainly("postgresql")
def test_memory_handles_and_latency_are_flat(database_url: str, torture: bool, noted: Note) -> None:
    seconds = SECONDS if torture else SHORT_SECONDS
    key = new_key(database_url)
    with server_process(database_url, SHIPPED_MODEL) as server:
        traffic, windows = asyncio.run(soak(server, key, seconds))
    assert traffic.failures == []
    assert all(window.answers for window in windows)
    first, *_, last = windows[1:]
    assert last.handles <= first.handles + 10
    if torture:
        assert sum(window.answers for window in windows) > 0.9 * seconds * (SCORES + LABELS + READS)
        assert last.resident_bytes <= 1.1 * first.resident_bytes
        medians = [window.median_ms for window in windows[1:]]
        # The machine drifts: the later half against the earlier one.
        assert np.median(medians[3:]) <= 1.5 * np.median(medians[:2])
    kind = database_url.partition("+")[0].partition(":")[0]
    summary = (
        f"{seconds / 60:.0f} min, {sum(window.answers for window in windows):,} answers, all 2xx; "
        f"memory {first.resident_bytes >> 20} to {last.resident_bytes >> 20} MiB, handles "
        f"{first.handles} to {last.handles}, median {first.median_ms:.1f} to "
        f"{last.median_ms:.1f} ms, p99 {first.p99_ms:.1f} to {last.p99_ms:.1f} ms"
    )
    noted("mixed load leaves memory, handles and latency flat", kind, summary)

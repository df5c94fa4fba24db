"""Servers under load: their requests, and what the load generator saw."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.processes import HOST
from benchmarks.serving.processors import LOAD_CORE, pinned
from benchmarks.serving.traffic import Payment

CONNECTIONS, WARM_SECONDS = 32, 2.0

# What the load generator saw, see `benchmarks/serving/load.py`.
Seen = dict[str, Any]


@dataclass(frozen=True)
class Server:
    """Where it listens, and its processes by what they are."""

    port: int
    processes: dict[str, int]
    key: str = ""


@dataclass
class Requests:
    """A file of requests, at most so many a second, and how many of them have been sent.

    Those for a server that stores nothing are sent again and again; any other gets each once.
    """

    path: Path
    per_second: float
    repeats: bool = False
    sent: int = 0


def written(
    path: Path, target: str, payments: Iterable[Payment], account_header: str | None = None
) -> Path:
    """Requests in a file, as the load generator reads them; each has an id, as proxies add one."""
    with path.open("w") as file:
        for number, (account_id, body) in enumerate(payments):
            headers = {"X-Request-Id": f"{number:016x}"}
            if account_header:
                headers[account_header] = account_id
            file.write(f"{json.dumps([target, body, headers])}\n")
    return path


def load(
    server: Server,
    requests: Requests,
    seconds: float,
    paced: Requests | None = None,
    units: int = 1,
    connections: int = CONNECTIONS,
    core: int | None = LOAD_CORE,
) -> Seen:
    """What a load generator saw; see `benchmarks/serving/load.py` for the plan."""
    plan = {
        "host": HOST,
        "port": server.port,
        "key": server.key,
        "requests": str(requests.path),
        "first": requests.sent,
        "most": round(requests.per_second * (WARM_SECONDS + seconds)),
        "repeats": requests.repeats,
        "units": units,
        "connections": connections,
        "warm_seconds": WARM_SECONDS,
        "seconds": seconds,
        "paced": str(paced.path) if paced else None,
        "first_paced": paced.sent if paced else 0,
        "per_second": paced.per_second if paced else 0.0,
        "watched": server.processes,
    }
    with pinned(core):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.load"],
            input=json.dumps(plan),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seen: Seen = json.loads(done.stdout)
    sent, sent_paced = seen.pop("sent"), seen.pop("paced")
    if not requests.repeats:
        requests.sent += sent
    if paced:
        paced.sent += sent_paced
    return seen


def sync_milliseconds(folder: Path, times: int = 100) -> float:
    """What the disk takes for one durable write of 4 KiB, the median."""
    took = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(times):
            file.write(bytes(4096))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(1e3 * (time.perf_counter() - begun))
    return statistics.median(took)

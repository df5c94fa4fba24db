"""Requests a second and latencies under load, as `python -m benchmarks.throughput`.

One server core and one for the load generator, 32 connections, simulated payments of 256 accounts
with labels, on SQLite with everything on: keys, validation, features, adapted copies, reasons, a
durable commit. Side by side, round by round: FastAPI with a module an account that stores nothing;
Quickstudy; Quickstudy with 50 posts of labels a second beside; and batches of 1,000 payments of
1,000 accounts. Ratios are of the same round; the median of the rounds is told.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.rivals.fastapi_modules import ACCOUNTS
from benchmarks.serving.processes import (
    AT_ONCE,
    first_key,
    free_port,
    load,
    prepare,
    process,
    quickstudy,
    written,
)
from benchmarks.serving.traffic import traffic

ROUNDS = 3
# More than a round can use up.
REQUESTS, BATCHES = 12_000, 30
# Of whom the thousand with most payments left are in the next batch.
BATCHED_ACCOUNTS = 1500
LABELS_PER_SECOND, LABELS = 50.0, 500
RESULTS = Path(__file__).with_name("results.json")


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


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name:
        folder = Path(name)
        singles, batches = folder / "singles", folder / "batches"
        singles.mkdir()
        batches.mkdir()
        rounds = list(run(folder, singles, batches))
    ratios = {
        key: round(statistics.median(one[key] for one in rounds), 3)
        for key in (
            "single.vs_plain_fastapi",
            "single.p99_over_p50",
            "batch.vs_single",
            "labels.p99_ratio",
        )
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    told = {"date": time.strftime("%Y-%m-%d"), "machine": machine, **ratios, "rounds": rounds}
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(before | told, indent=1) + "\n")
    for one in rounds:
        print(json.dumps(one))
    for key, value in ratios.items():
        print(f"{key}: {value}")


def run(folder: Path, singles: Path, batches: Path) -> Iterator[dict[str, Any]]:
    """The figures of each round."""
    few, many = traffic(ACCOUNTS, 400), traffic(BATCHED_ACCOUNTS, 150, seed=1)
    port, rivals_port, batch_port = free_port(), free_port(), free_port()
    rival = [sys.executable, "-m", "uvicorn", "benchmarks.rivals.fastapi_modules:app"]
    rival += ["--port", str(rivals_port), "--no-access-log"]
    with (
        process(rival, rivals_port, "/readyz", folder / "rival.log", {}),
        quickstudy(f"sqlite:///{singles / 'quickstudy.db'}", port, singles),
        quickstudy(f"sqlite:///{batches / 'quickstudy.db'}", batch_port, batches),
    ):
        key, batch_key = first_key(singles), first_key(batches)
        prepare(port, key, few)
        prepare(batch_port, batch_key, many)
        asked = (("/v1/transactions", one) for one in few.asked)
        rivals = written(folder / "rivals", [("/v1/transactions", one) for one in few.asked])
        labelled = {one["transaction_id"] for one in few.labels}
        marked = (
            (
                "/v1/labels",
                {"labels": [{"transaction_id": one["transaction_id"], "label": "legitimate"}]},
            )
            for one in few.past
            if one["transaction_id"] not in labelled
        )
        by_thousand = (
            ("/v1/transactions/batch", {"transactions": batch}) for batch in distinct(many.asked)
        )
        for _ in range(ROUNDS):
            plain = load(rivals_port, key, rivals)
            single = load(port, key, written(folder / "single", list(islice(asked, REQUESTS))))
            beside = load(
                port,
                key,
                written(folder / "single", list(islice(asked, REQUESTS))),
                paced=written(folder / "labels", list(islice(marked, LABELS))),
                per_second=LABELS_PER_SECOND,
            )
            batch = load(
                batch_port,
                batch_key,
                written(folder / "batch", list(islice(by_thousand, BATCHES))),
                units=AT_ONCE,
                connections=1,
            )
            p99 = single["milliseconds"]["p99"]
            yield {
                "single.vs_plain_fastapi": single["per_second"] / plain["per_second"],
                "single.p99_over_p50": p99 / single["milliseconds"]["p50"],
                "batch.vs_single": batch["per_second"] / single["per_second"],
                "labels.p99_ratio": beside["milliseconds"]["p99"] / p99,
                "sync_milliseconds": sync_milliseconds(folder),
                "plain_fastapi": plain,
                "single": single,
                "labels_beside": beside,
                "batch": batch,
            }


def distinct(payments: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Payments in thousands, each the next one of a thousand accounts."""
    queues: dict[str, list[dict[str, Any]]] = {}
    for one in reversed(payments):
        queues.setdefault(one["account_id"], []).append(one)
    while True:
        fullest = nlargest(AT_ONCE, queues.values(), key=len)
        if not fullest[-1]:
            return
        yield [queue.pop() for queue in fullest]


if __name__ == "__main__":
    main()

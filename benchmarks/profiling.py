"""Where each microsecond of a request goes, as `python -m benchmarks.profiling`.

The service under the load of `benchmarks.throughput` (single payments, 32 connections, SQLite, one
core), looked at 500 times a second from outside by py-spy, which comes with the rivals'
environment. A look belongs to the first part below that one of its functions is of. With the
processor time of a request the shares become microseconds.
"""

import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.results import keep
from benchmarks.rivals.environment import programs
from benchmarks.serving.contestants import prepare, quickstudy
from benchmarks.serving.driving import Requests, load
from benchmarks.serving.material import SINGLES, Material

SECONDS, LOOKS_PER_SECOND = 10, 500
# Threads that wait for work, which py-spy takes for busy.
WAITING = ("_worker (concurrent", "_connection_worker_thread", "wait (threading.py")
# Functions and files, as py-spy writes them: "name (file:line)".
PARTS = {
    "reasons: what the account paid before": ("pasts_of (",),
    "reasons: shares and sentences": ("_reasons (", "attribution.py", "(app/learner/reasons.py"),
    "making copies that are missing": ("_adapt (", "supports (app/labels/store.py"),
    "network, with copies from the bank": ("(app/learner/scorer.py", "(app/learner/compiled.py"),
    "decisions": ("(app/learner/decisions.py",),
    "features, and what accounts and merchants remember": (
        "(app/learner/features.py",
        "(app/learner/states.py",
    ),
    "canonical text and its digest": ("content_of (", "digest_of (app/learner/transaction.py"),
    "database: checkpoints, beside": ("Checkpoints.",),
    "database: begin, commit": ("begin (app/db/sqlite.py", "_begun (", "commit (app/db/sqlite.py"),
    "database: load": (
        "scored (app/scoring/store.py",
        "lock_",
        "maturing_labels (",
        "deciding (app/scoring/pipeline.py",
    ),
    "database: save": ("_save (app/scoring/pipeline.py", "open_reviews (", "announce ("),
    "the rest of the pipeline": (
        "(app/scoring/pipeline.py",
        "columns_of (",
        "/store.py",
        "database.py",
    ),
    "batching": ("(app/http/batching.py",),
    "log line, metrics, request id": ("(app/ops/logs.py", "prometheus_client", "observation.py"),
    "key": ("(app/http/authentication.py", "(app/keys/service.py"),
    "body, validated": ("validate_json", "/schemas.py"),
    "answer, written": ("score_of (app/scoring/routes.py", "body_of (app/http/lean.py"),
    "requests and answers over HTTP": (
        "(app/web/protocol.py",
        "(app/http/",
        "(app/web/",
        "(uvicorn/",
        "(httptools",
    ),
    "event loop and sockets": ("",),
}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name, ExitStack() as stack:
        material = Material(Path(name), rounds=1, seconds=2.0 * SECONDS)
        url = f"sqlite:///{material.folder / 'profiled.db'}"
        server = stack.enter_context(quickstudy(material.folder / "service.log", url, {}))
        prepare(server, material.singles)
        requests = Requests(material.singles.requests, SINGLES)
        alone = load(server, requests, SECONDS)
        looks = material.folder / "looks"
        options = {
            "--pid": server.processes["server"],
            "--duration": SECONDS,
            "--rate": LOOKS_PER_SECOND,
            "--format": "raw",
            "--output": looks,
        }
        command = [
            programs() / "py-spy",
            "record",
            *(part for pair in options.items() for part in pair),
        ]
        spying = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
        load(server, requests, SECONDS)
        if spying.wait(60):
            raise RuntimeError("py-spy failed: it must be allowed to trace processes")
        counts = counted(looks.read_text().splitlines())
    microseconds = 1e6 * alone["processor_shares"]["server"] / alone["per_second"]
    parts = {part: microseconds * n / counts.total() for part, n in counts.most_common()}
    for part, took in parts.items():
        print(f"{took:6.1f} {part}")
    keep({}, request_us=microseconds, per_second=alone["per_second"], parts=parts)


def counted(lines: Iterable[str]) -> Counter[str]:
    """How many looks fell on each part."""
    counts: Counter[str] = Counter()
    for line in lines:
        stack, _, looks = line.rpartition(" ")
        calls = stack.split(";")
        if not any(waiting in calls[-1] for waiting in WAITING):
            counts[part_of(calls)] += int(looks)
    return counts


def part_of(calls: list[str]) -> str:
    """The part that a look falls on; its calls are listed from the outermost on."""
    for part, marks in PARTS.items():
        if any(mark in call for call in calls for mark in marks):
            return part
    raise AssertionError("the last part takes all")


if __name__ == "__main__":
    main()

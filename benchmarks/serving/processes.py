"""Servers and the load generator, each on a processor of its own where the system can pin."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from app.client import Client
from benchmarks.serving.traffic import Traffic

HOST = "127.0.0.1"
SERVER_CORE, LOAD_CORE = 0, 1
READY_SECONDS = 120
AT_ONCE = 1000
QUICKSTUDY = str(Path(sys.executable).with_name("quickstudy"))


@contextmanager
def process(
    command: Sequence[str], port: int, path: str, log: Path, environment: Mapping[str, str]
) -> Iterator[None]:
    """A server that answers at `path`, stopped afterwards."""
    with log.open("w") as output:
        server = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: pin(SERVER_CORE),
        )
        try:
            until = time.monotonic() + READY_SECONDS
            while not _answers(port, path):
                if server.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{command} did not start:\n{log.read_text()[-2000:]}")
                time.sleep(0.1)
            yield
        finally:
            server.terminate()
            server.wait(30)


def quickstudy(url: str, port: int, folder: Path, workers: int = 1) -> Any:
    """The service on a database, with everything on, as `quickstudy serve` starts it."""
    return process(
        [QUICKSTUDY, "serve", "--port", str(port), "--workers", str(workers)],
        port,
        "/readyz",
        folder / "quickstudy.log",
        {"QUICKSTUDY_DATABASE_URL": url},
    )


def first_key(folder: Path) -> str:
    """The key that the service told when it began."""
    words = (folder / "quickstudy.log").read_text().split()
    return next(word for word in words if word.startswith("qs_"))


def prepare(port: int, key: str, traffic: Traffic) -> None:
    """Post the past and its labels."""
    with Client(f"http://{HOST}:{port}", key, timeout=120) as client:
        for first in range(0, len(traffic.past), AT_ONCE):
            client.score_batch(traffic.past[first : first + AT_ONCE])
        for first in range(0, len(traffic.labels), AT_ONCE):
            client.label_batch(traffic.labels[first : first + AT_ONCE])


def written(path: Path, requests: Sequence[tuple[str, Any]]) -> str:
    """The requests in a file, as the load generator reads them."""
    path.write_text("".join(f"{json.dumps([to, json.dumps(said)])}\n" for to, said in requests))
    return str(path)


def load(port: int, key: str, requests: str, units: int = 1, **plan: Any) -> dict[str, Any]:
    """What a load generator saw; see `benchmarks/serving/load.py` for the plan."""
    chosen = {
        "host": HOST,
        "port": port,
        "key": key,
        "requests": requests,
        "units": units,
        "connections": 32,
        "warm_seconds": 2.0,
        "seconds": 5.0,
        "paced": None,
        "per_second": 0.0,
        **plan,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serving.load"],
        input=json.dumps(chosen),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: pin(LOAD_CORE),
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def pin(core: int) -> None:
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
    return port


def _answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://{HOST}:{port}{path}", timeout=1).status_code == 200
    except httpx.TransportError:
        return False

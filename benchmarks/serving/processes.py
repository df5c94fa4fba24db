"""Servers as processes of their own."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks.serving.processors import SERVER_CORE, pinned

HOST = "127.0.0.1"
READY_SECONDS, STOP_SECONDS = 120, 30


@contextmanager
def process(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    answers: Callable[[], bool],
    core: int | None = SERVER_CORE,
) -> Iterator[int]:
    """The process id of a server that answers, stopped afterwards with all that it started.

    Without a core, it may use all of them.
    """
    with log.open("w") as output, pinned(core):
        server = subprocess.Popen(
            command,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + READY_SECONDS
        while not answers():
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        yield server.pid
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(STOP_SECONDS)
        # Children that outlive the process that was stopped.
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(
    port: int, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
) -> bool:
    """Whether a GET, or a POST of a JSON body, is answered with 200."""
    headers = {"Content-Type": "application/json", **(headers or {})}
    method, url = "GET" if body is None else "POST", f"http://{HOST}:{port}{path}"
    try:
        return httpx.request(method, url, content=body, headers=headers).status_code == 200
    except httpx.TransportError:
        return False

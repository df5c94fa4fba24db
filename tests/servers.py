"""Real server processes for tests: uvicorn on a free port of the loopback."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

START_SECONDS = 60
COMMAND = ("-m", "uvicorn", "--factory", "app.main:create_app", "--log-level", "warning")


@contextmanager
def server(database_url: str, checkpoint: Path, **variables: str) -> Iterator[str]:
    """The URL of a server process of its own, which is ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "QUICKSTUDY_DATABASE_URL": database_url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, *COMMAND, "--port", str(port)], env=environment)
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready (exit status {process.poll()})")

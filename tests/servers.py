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
def server(database_url: str, checkpoint: Path, key: str) -> Iterator[httpx.Client]:
    """One server process, ready, and a client with an API key of its database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        "QUICKSTUDY_DATABASE_URL": database_url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen([sys.executable, *COMMAND, "--port", str(port)], env=environment)
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=START_SECONDS
        ) as client:
            wait_until_ready(client, process)
            yield client
    finally:
        process.terminate()
        process.wait(START_SECONDS)


def wait_until_ready(client: httpx.Client, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.get("/readyz").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready (exit status {process.poll()})")

"""Worker processes as `app.server` starts them, over real connections."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.servers import COMMAND, START_SECONDS, Server, server_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counted in /proc")


@pytest.fixture
def pair(database_url: str, checkpoint: Path) -> Iterator[Server]:
    with server_process(database_url, checkpoint, QUICKSTUDY_WORKERS="2") as one:
        yield one


def connections(server: Server) -> list[int]:
    """How many sockets each worker process has open."""
    parent = server.process.pid
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    files = [[str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()] for pid in children]
    # Python's own helpers, the semaphore tracker among them, have hardly any.
    counted = [sum(one.startswith("socket:") for one in each) for each in files]
    return sorted(counted)[-2:]


def listening(port: int) -> int:
    """How many sockets listen on a port."""
    fields = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(one[1].endswith(f":{port:04X}") and one[3] == "0A" for one in fields)


def test_connections_are_spread_over_the_workers(pair: Server) -> None:
    end = time.monotonic() + START_SECONDS
    while listening(pair.port) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    assert listening(pair.port) == 2
    before, added = connections(pair), [0, 0]
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", pair.port)))
        end = time.monotonic() + START_SECONDS
        while sum(added) < 64 and time.monotonic() < end:
            time.sleep(0.05)
            added = [now - then for now, then in zip(connections(pair), before, strict=True)]
    # Thrown like coins: less than 12 of 64 come once in two million times.
    assert sum(added) == 64
    assert min(added) >= 12


def test_an_address_that_somebody_listens_on_is_refused(pair: Server) -> None:
    again = subprocess.run(
        [sys.executable, *COMMAND], env=pair.environment, capture_output=True, text=True, timeout=60
    )
    assert again.returncode
    assert "Address already in use" in again.stdout

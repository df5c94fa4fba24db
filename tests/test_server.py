"""Worker processes as `app.web.server` starts them, over real connections."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.conftest import mainly
from tests.servers import COMMAND, START_SECONDS, Server, server_process

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers share a socket"),
    mainly("sqlite", "shared_database_url"),
]


@pytest.fixture(scope="module")
def pair(shared_database_url: str, checkpoint: Path) -> Iterator[Server]:
    with server_process(shared_database_url, checkpoint, QUICKSTUDY_WORKERS="2") as server:
        yield server


def listening(port: int) -> int:
    """How many sockets listen on a port."""
    found = psutil.net_connections("tcp4")
    return sum(
        connection.laddr.port == port and connection.status == psutil.CONN_LISTEN
        for connection in found
    )


def connections(server: Server) -> list[int]:
    """How many each worker process has; Python's own helper beside them has none."""
    each = [
        sum(
            net_connection.laddr.port == server.port
            and net_connection.status == psutil.CONN_ESTABLISHED
            for net_connection in process.net_connections("tcp4")
        )
        for process in psutil.Process(server.process.pid).children()
    ]
    return sorted(each)[-2:]


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + START_SECONDS
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    assert is_so()


def test_connections_are_spread_over_the_workers(pair: Server) -> None:
    until(lambda: listening(pair.port) == 2)
    with ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(socket.create_connection(("127.0.0.1", pair.port)))
        until(lambda: sum(connections(pair)) == 64)
        # Thrown like coins: less than 12 of 64 come once in two million times.
        assert min(connections(pair)) >= 12


def test_an_address_that_somebody_listens_on_is_refused(pair: Server) -> None:
    again = subprocess.run(
        [sys.executable, *COMMAND],
        env=pair.environment,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
    )
    assert again.returncode
    assert "Address already in use" in again.stdout

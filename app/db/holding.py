"""A SQLite file is one server's: a second one would be a mistake that shows late.

Its worker processes share it, and commands may look into it and write to it beside them.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from app.db.database import with_driver
from app.errors import SetupError

# Beside the file and its log: SQLite has locks of its own on the file, which these would disturb on
# network file systems.
SUFFIX = "-server"


@contextmanager
def held(url: str) -> Iterator[None]:
    """Keep a SQLite file for this process while the block runs; of PostgreSQL nothing is kept.

    Raises SetupError where another server has it. What a process had that is gone is free.
    """
    parsed = with_driver(url)
    if parsed.get_backend_name() != "sqlite":
        yield
        return
    # Whatever links lead to it, a file has one lock.
    path = Path(f"{Path(parsed.database or '').resolve()}{SUFFIX}")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # Nor can the database be opened there, which says so better.
        yield
        return
    try:
        _lock(descriptor, parsed.database or "")
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, database: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace") or "another process"
        raise SetupError(
            f"another server has the database {database} ({holder}): stop it first, or use "
            "PostgreSQL, which any number of servers may share"
        ) from None
    except OSError:
        # A file system without such locks: nothing can be kept there.
        return
    # A full disk has no room for a name, and reads and refusals are served all the same.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())

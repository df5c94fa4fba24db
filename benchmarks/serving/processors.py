"""Which processors are used, and what for; on Linux, elsewhere nothing is pinned or measured."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

SERVER_CORE, LOAD_CORE = 0, 1
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Running(NamedTuple):
    """A process, who started it, and the processor time of it and of its ended children."""

    pid: int
    name: str
    parent: int
    seconds: float


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started meanwhile runs on that core alone, where the system can pin."""
    if core is None or not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) <= core:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def running() -> Iterator[Running]:
    """All processes."""
    for file in Path("/proc").glob("[0-9]*/stat"):
        # It may have ended since.
        with suppress(OSError):
            # The name stands in brackets and may hold anything, brackets too.
            head, _, rest = file.read_text().rpartition(") ")
            fields = rest.split()
            ticks = sum(map(int, fields[11:15]))
            pid, name = int(file.parent.name), head.partition("(")[2]
            yield Running(pid, name, int(fields[1]), ticks / TICKS_A_SECOND)


def processor_seconds(pid: int) -> float:
    """What a process and all that it started have used."""
    processes, family = list(running()), [pid]
    for member in family:
        family += [process.pid for process in processes if process.parent == member]
    return sum(process.seconds for process in processes if process.pid in family)


def resident_bytes(process: int) -> int:
    """Memory of a process, as Linux reports it."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

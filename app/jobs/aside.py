"""What takes seconds to compute, in a process of its own that gives way to whoever scores.

In a thread it would hold the interpreter up for whoever scores. `python -m app.jobs.measuring`
reads a `Task` from its standard input and writes what came of it to its output: `done` or `failed`
in the first line, then JSON.
"""

import asyncio
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from app.errors import QuickstudyError
from app.settings import Settings

Kind = Literal["comparison", "drift", "demo", "gauges"]
# No task takes so long on a machine that has any time for it.
LONGEST_SECONDS = 900
# The lowest priority, and the first to go where memory runs out.
NICENESS, OUT_OF_MEMORY_FIRST = 19, "1000"


class Task(NamedTuple):
    """What to compute: for a tenant, mostly about a model, or the gauges of all tenants."""

    kind: Kind
    tenant: str = ""
    model: str = ""
    days: float = 0.0

    @property
    def writes(self) -> bool:
        """Whether it holds locks that others wait for: then it must not give way to them."""
        return self.kind == "demo"


class Crashed(QuickstudyError):
    """The process ended without an answer: its own log says why."""


class Computed(NamedTuple):
    """The result as JSON, or what `Problem.document` says of why there is none."""

    is_done: bool
    text: str


class Aside:
    """Computes one task at a time."""

    def __init__(self, settings: Settings) -> None:
        # Where the service has a GPU, it is the service's.
        self._settings = settings.model_copy(update={"device": "cpu", "bank_bytes": 1 << 20})
        self._turn = asyncio.Lock()

    async def compute(self, task: Task) -> Computed:
        """What comes of a task; raises Crashed."""
        request = json.dumps(
            {"settings": self._settings.model_dump(mode="json"), "task": task._asdict()}
        )
        package = str(Path(__file__).parents[2])
        async with self._turn:
            process = await asyncio.create_subprocess_exec(
                # Not what the working directory has of the name `app`.
                *(sys.executable, "-P", "-m", "app.jobs.measuring"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": os.pathsep.join(
                        filter(None, [package, os.environ.get("PYTHONPATH")])
                    ),
                },
            )
            try:
                output, _ = await process.communicate(request.encode())
            finally:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        status, _, text = output.decode().partition("\n")
        if process.returncode or status not in ("done", "failed"):
            raise Crashed(
                f"the process that computed {task.kind} ended with status {process.returncode}"
            )
        return Computed(status == "done", text)

"""What runs beside requests for as long as the service does, and whether it succeeds.

A task that meets an error is run again after a pause that doubles up to a bound. It shows in the
log, in metrics, and in `/readyz` where the service does not keep its promises without it.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Self, TypeVar

from app.ops import metrics

logger = logging.getLogger("quickstudy.background")
Answer = TypeVar("Answer")

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0
# A task that fails for so long makes the service unready: an outage of the database ends sooner.
UNREADY_SECONDS = 10.0
# Doubled so often, a pause is longer than any bound.
MOST_DOUBLINGS = 20
# Work on so many rows takes milliseconds of Python for each of its parts; how long others have the
# interpreter between two of these.
MANY_ROWS, WAY_SECONDS = 2000, 0.003


class TaskHealth:
    """Whether a background task succeeds; it may be reported from any thread.

    `is_needed` says that the service is not ready while this task fails.
    """

    def __init__(
        self,
        name: str,
        *,
        is_needed: bool = False,
        longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
    ) -> None:
        self.name = name
        self._is_needed = is_needed
        self._longest_pause_seconds = longest_pause_seconds
        self._failures = 0
        # Since when it fails or hangs.
        self._down_since: float | None = None
        self._up = metrics.background_up.labels(name)
        self._failed = metrics.background_failures.labels(name)
        self._up.set(1)

    def succeeded(self) -> None:
        """Note a run without an error."""
        if self._down_since is None:
            return
        self._failures, self._down_since = 0, None
        self._up.set(1)
        logger.warning("a background task succeeds again", extra={"fields": {"task": self.name}})

    def failed(self, error: BaseException) -> float:
        """Note an error; returns for how many seconds to pause before the next run."""
        self._note_down(time.monotonic())
        doublings = min(self._failures, MOST_DOUBLINGS)
        pause = min(FIRST_PAUSE_SECONDS * 2.0**doublings, self._longest_pause_seconds)
        self._failures += 1
        self._failed.inc()
        fields = {"task": self.name, "failures": self._failures, "pause_seconds": pause}
        logger.error(
            "a background task failed and is run again", exc_info=error, extra={"fields": fields}
        )
        return pause

    def hangs(self, seconds: float) -> None:
        """Note that a run has taken so many seconds, which is too long, and has not ended."""
        self._note_down(time.monotonic() - max(seconds, UNREADY_SECONDS))
        fields = {"task": self.name, "seconds": seconds}
        logger.error("a background task does not end", extra={"fields": fields})

    @property
    def problem(self) -> str | None:
        """Why the service is not ready, as a sentence; None where it is."""
        since = self._down_since
        if since is None or not self._is_needed:
            return None
        seconds = time.monotonic() - since
        if seconds < UNREADY_SECONDS:
            return None
        return (
            f"The background task {self.name!r} has not succeeded for {seconds:.0f} s: "
            "its errors are in the log."
        )

    def _note_down(self, since: float) -> None:
        if self._down_since is None:
            self._down_since = since
            self._up.set(0)


class BackgroundTask:
    """Runs `run` again and again while entered, after each `wait` for something to do.

    Nothing but the end of the block ends it. A run that takes longer than `longest_seconds` is
    reported; one that is under way when the block ends has `grace_seconds` to finish.
    """

    def __init__(
        self,
        health: TaskHealth,
        wait: Callable[[], Awaitable[None]],
        run: Callable[[], Awaitable[None]],
        *,
        longest_seconds: float,
        grace_seconds: float = 0.0,
    ) -> None:
        self.health = health
        self._wait = wait
        self._run = run
        self._longest_seconds = longest_seconds
        self._grace_seconds = grace_seconds
        self._is_running, self._is_closing = False, False

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._supervise(), name=self.health.name)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._is_closing = True
        if self._is_running and self._grace_seconds:
            await asyncio.wait([self._task], timeout=self._grace_seconds)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _supervise(self) -> None:
        pause = 0.0
        while not self._is_closing:
            try:
                if pause:
                    await asyncio.sleep(pause)
                else:
                    await self._wait()
                await self._run_once()
            except (Exception, asyncio.CancelledError) as error:
                # This task itself is cancelled when the block ends, and by nobody else.
                if self._is_closing:
                    raise
                pause = self.health.failed(error)
            else:
                pause = 0.0
                self.health.succeeded()

    async def _run_once(self) -> None:
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(self._longest_seconds, self.health.hangs, self._longest_seconds)
        self._is_running = True
        try:
            await self._run()
        finally:
            self._is_running = False
            alarm.cancel()


class InBackground:
    """What has one background task, which runs while this is entered."""

    _task: BackgroundTask

    async def __aenter__(self) -> Self:
        await self._task.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._task.__aexit__(*error)


async def in_a_thread(function: Callable[[], Answer], threads: Executor | None = None) -> Answer:
    """What a function returns that cannot be interrupted: waits for its end when cancelled, too."""
    done = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, function)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise


def give_way(rows: int) -> None:
    """Let others run for a moment, where a thread works on many rows, before its next part.

    Whoever scores needs the interpreter a dozen times for each request. Beside a thread that never
    stops, each time costs as much as its longest call, and requests pile up.
    """
    if rows > MANY_ROWS:
        time.sleep(WAY_SECONDS)

"""A circuit breaker (Nygard, 2007) between the service and a PostgreSQL that may be gone or hang.

One that is gone refuses connections at once. One that hangs, paused or behind a network that drops
its packets, says nothing: whoever asks waits, and holds a connection meanwhile. So a transaction
that takes long while no other ends, or has lost its connection, makes the breaker ask on a
connection of its own. As long as that is answered, or any transaction is, a slow statement is but
slow. Else the breaker opens: it cuts every connection, so that whoever waits on one fails now, and
refuses new transactions until one of its own questions, one at a time, is answered.

A service that has much to do is no sign of an outage, either: what counts is how often it has come
to look for an answer.
"""

import asyncio
import contextvars
import logging
import math
import time
from collections.abc import Awaitable, Callable

from asyncpg import ReadOnlySQLTransactionError

from app.db.errors import DatabaseUnavailable
from app.ops.background import TaskHealth

logger = logging.getLogger("quickstudy")

# A batch or a label takes a tenth of it. Together with the next less than a second, within which a
# request learns that the database has just gone.
LONG_SECONDS = 0.2
ANSWER_SECONDS = 0.6
# So often an answer is looked for in that time, or in longer where this process is held up.
LOOKS = 24
# Between two questions: a database that is merely slow must not be flooded with questions.
PAUSE_SECONDS = 0.25


class Breaker:
    """Open while the database does not answer, or only reads.

    `probe` asks the database, and raises where it is not there; `cut` ends what waits on it.
    """

    def __init__(self, probe: Callable[[], Awaitable[None]], cut: Callable[[], None]) -> None:
        self.is_open = False
        self._trouble = ""
        self._closed_at = self._answered_at = -math.inf
        self._probe = probe
        self._cut = cut
        self._observing: asyncio.Task[None] | None = None
        self.health = TaskHealth("database breaker")

    def transaction(self) -> "_Watched":
        """A block that is refused while the breaker is open, and watched while it is not.

        Raises DatabaseUnavailable.
        """
        return _Watched(self)

    def check(self) -> None:
        """Raises DatabaseUnavailable while the database is known not to answer, or only to read."""
        if self.is_open:
            raise DatabaseUnavailable(f"The database {self._trouble}: it is being tried again.")

    def was_open_within(self, seconds: float) -> bool:
        """Whether the database was away so short a time ago."""
        return self.is_open or time.monotonic() - self._closed_at < seconds

    def answered(self) -> None:
        """Note that the database has answered a transaction."""
        self._answered_at = time.monotonic()

    def doubt_if_silent(self) -> None:
        """`doubt`, unless a transaction was answered a moment ago."""
        if time.monotonic() - self._answered_at >= LONG_SECONDS:
            self.doubt()

    def doubt(self) -> None:
        """Check whether the database answers, unless that was just checked."""
        if self._observing is None or self._observing.done():
            # Not in the name of the request that happens to be the first to wait.
            context = contextvars.Context()
            self._observing = asyncio.get_running_loop().create_task(
                self._observe(), context=context
            )

    async def _observe(self) -> None:
        try:
            await self._wait_until_answered()
        except Exception as error:
            # What is not known to be away is tried.
            self.is_open = False
            self.health.failed(error)
        else:
            self.health.succeeded()

    async def _wait_until_answered(self) -> None:
        if not await self._is_answered():
            self.is_open = True
            logger.warning("the database %s: requests are refused meanwhile", self._trouble)
            self._cut()
            await asyncio.sleep(PAUSE_SECONDS)
            while not await self._is_answered():
                await asyncio.sleep(PAUSE_SECONDS)
            self.is_open = False
            self._closed_at = time.monotonic()
            logger.warning("the database answers again")
        await asyncio.sleep(PAUSE_SECONDS)

    async def _is_answered(self) -> bool:
        asking = asyncio.ensure_future(self._probe())
        begun, left = time.monotonic(), LOOKS
        try:
            while left and not asking.done():
                before = self._answered_at
                await asyncio.wait([asking], timeout=ANSWER_SECONDS / LOOKS)
                left = left - 1 if self._answered_at == before else LOOKS
        finally:
            asking.cancel()
            # Also where this is closed meanwhile: else a connection could be left open.
            [failure] = await asyncio.gather(asking, return_exceptions=True)
        if isinstance(failure, TimeoutError) and self._answered_at > begun:
            # Behind a pooler it may wait in vain for one of few places, which others have.
            return True
        is_read_only = isinstance(failure, ReadOnlySQLTransactionError)
        self._trouble = "is read-only" if is_read_only else "does not answer"
        return failure is None

    async def close(self) -> None:
        """Check no more."""
        if self._observing is not None:
            self._observing.cancel()
            await asyncio.gather(self._observing, return_exceptions=True)


class _Watched:
    """A transaction under way; as long as it takes, the breaker is made to doubt."""

    __slots__ = ("_breaker", "_loop", "_timer")

    def __init__(self, breaker: Breaker) -> None:
        self._breaker = breaker

    def __enter__(self) -> None:
        self._breaker.check()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(LONG_SECONDS, self._ring)

    def _ring(self) -> None:
        self._breaker.doubt_if_silent()
        self._timer = self._loop.call_later(LONG_SECONDS, self._ring)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._timer.cancel()
        if error is None:
            self._breaker.answered()
        elif isinstance(error, DatabaseUnavailable):
            self._breaker.doubt()

"""Long commands outlast a database that is away for a while: they wait, say so, and go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.db.database import refuses
from app.db.errors import Away, DatabaseUnavailable
from app.errors import SetupError

Result = TypeVar("Result")

GIVE_UP_SECONDS = 30 * 60
# One that has not answered once may be another than was meant.
GIVE_UP_AT_START_SECONDS = 2 * 60
PAUSE_SECONDS = 1.0


class Patience:
    """Runs a step again and again while the database is away; each may be run twice.

    `notify` gets a sentence when the wait begins, and an empty one when it is over.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self._has_answered = False

    async def run(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """What the step returns.

        Raises SetupError where the database stays away for long, and the step's own error where it
        refuses whoever has not had an answer yet.
        """
        began: float | None = None
        while True:
            try:
                result = await step()
            except (DatabaseUnavailable, Away) as error:
                if not self._has_answered and refuses(error):
                    raise
                now = time.monotonic()
                if began is None:
                    began = now
                    self._notify(f"Waiting for the database: {self._reason(error)}")
                self._give_up_after(now - began, error)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                self._has_answered = True
                if began is not None:
                    self._notify("")
                return result

    def _reason(self, error: DatabaseUnavailable | Away) -> str:
        # Who has just begun may have named another database than was meant.
        cause = "" if self._has_answered else str(error.__cause__ or "")
        return cause or str(error)

    def _give_up_after(self, seconds: float, error: DatabaseUnavailable | Away) -> None:
        """Raises SetupError where so many are too many."""
        longest = GIVE_UP_SECONDS if self._has_answered else GIVE_UP_AT_START_SECONDS
        if seconds <= longest:
            return
        away = f"the database has been away for {longest // 60} minutes"
        if not self._has_answered:
            raise SetupError(f"{away}, and has not answered once: {self._reason(error)}") from error
        raise SetupError(
            f"{away}; what is done so far is kept: run the command again once it is back"
        ) from error

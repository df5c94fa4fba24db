"""Long commands outlast a database that is away for a while: they wait, say so, and go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.db.errors import DatabaseUnavailable
from app.errors import SetupError

Result = TypeVar("Result")

GIVE_UP_SECONDS = 30 * 60
PAUSE_SECONDS = 1.0


class Patience:
    """Runs a step again and again while the database is away; each may be run twice.

    `notify` gets a sentence when the wait begins, and an empty one when it is over.
    """

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify

    async def run(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """What the step returns; raises SetupError where the database stays away for long."""
        began: float | None = None
        while True:
            try:
                result = await step()
            except DatabaseUnavailable as error:
                now = time.monotonic()
                if began is None:
                    began = now
                    self._notify(f"Waiting for the database: {error.detail}")
                if now - began > GIVE_UP_SECONDS:
                    raise SetupError(
                        f"the database has been away for {GIVE_UP_SECONDS // 60} minutes; what is "
                        "done so far is kept: run the command again once it is back"
                    ) from error
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                if began is not None:
                    self._notify("")
                return result

"""What a crash, or a database that went away, has left half forgotten is finished."""

import asyncio
import logging

from app.accounts.errors import AccountNotFound
from app.db.database import Database
from app.erasures.service import ErasureService
from app.labels import store as label_store
from app.labels.correcting import Correcting
from app.learner.transaction import SECOND_US
from app.ops.background import BackgroundTask, InBackground, TaskHealth
from app.scoring.pipeline import Pipeline
from app.times import now_us

logger = logging.getLogger("quickstudy")

POLL_SECONDS = 5.0
# Nobody works any more on what nobody has worked on for so long.
LEFT_US = 30 * SECOND_US
# Many labels at a merchant take seconds.
LONGEST_SECONDS = 600.0


class Unfinished(InBackground):
    """Finishes what was begun to be forgotten: at the start, and while it is entered."""

    def __init__(self, database: Database, pipeline: Pipeline, erasing: ErasureService) -> None:
        self._database = database
        self._correcting = Correcting(database, pipeline.features)
        self._erasing = erasing
        self.health = TaskHealth("forgetting")
        self._task = BackgroundTask(
            self.health, self._wait, self._finish_left, longest_seconds=LONGEST_SECONDS
        )

    async def finish_all(self) -> None:
        """Finish all there is. Another process may be at it as well, which does no harm."""
        await self._finish(now_us())

    async def _wait(self) -> None:
        await asyncio.sleep(POLL_SECONDS)

    async def _finish_left(self) -> None:
        await self._finish(now_us() - LEFT_US)

    async def _finish(self, before_us: int) -> None:
        async with self._database.read() as connection:
            found = await label_store.unfinished(connection, before_us)
        for forgetting in found:
            logger.warning("labels were left half forgotten: the rest is done now")
            if not forgetting.is_erasure:
                await self._correcting.finish(forgetting)
                continue
            try:
                await self._erasing.finish(forgetting)
            except AccountNotFound:
                # Another process has finished it.
                continue

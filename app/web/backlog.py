"""What waits, for Prometheus: reviews, messages, jobs, shadows, and how much room the disk has.

Every process measures the same, so that the figures are there as long as one of them is.
"""

import asyncio
import random
import shutil

from app.db.database import Database
from app.jobs import store as job_store
from app.models import store as model_store
from app.ops import metrics
from app.ops.background import BackgroundTask, InBackground, TaskHealth
from app.reviews import store as review_store
from app.times import now_us
from app.webhooks import store as webhook_store

SECOND_US = 1_000_000
# First soon after the start.
FIRST_SECONDS, EVERY_SECONDS = 5.0, 60.0
LONGEST_SECONDS = 60.0


class Backlog(InBackground):
    """Sets the gauges of what waits, again and again while it is entered."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.health = TaskHealth("backlog", longest_pause_seconds=EVERY_SECONDS)
        self._task = BackgroundTask(
            self.health, self._wait, self.measure, longest_seconds=LONGEST_SECONDS
        )
        self._wait_seconds = FIRST_SECONDS

    async def _wait(self) -> None:
        # Processes that started together do not stay so.
        await asyncio.sleep(self._wait_seconds * random.uniform(0.5, 1.5))
        self._wait_seconds = EVERY_SECONDS

    async def measure(self) -> None:
        """Set the gauges. Raises DatabaseUnavailable, and OSError where the file's disk is gone."""
        if self._database.file is not None:
            usage = await asyncio.to_thread(shutil.disk_usage, self._database.file.parent)
            metrics.disk_free_ratio.labels("database").set(usage.free / usage.total)
        now = now_us()
        async with self._database.read() as connection:
            longest = await review_store.longest_waiting(connection, now)
            due = await webhook_store.due(connection, now)
            job_us = await job_store.oldest_due(connection, now)
            shadow_us = await model_store.oldest_shadow(connection)
        first_message_us = min((webhook.since_us for webhook in due), default=None)
        metrics.overdue_message_seconds.set(_seconds_since(first_message_us, now))
        metrics.overdue_job_seconds.set(_seconds_since(job_us, now))
        metrics.oldest_shadow_seconds.set(_seconds_since(shadow_us, now))
        for found in longest:
            metrics.waiting_reviews.labels(found.kind).set(found.reviews or 0)
            seconds = _seconds_since(found.opened_at_us, now)
            metrics.oldest_review_seconds.labels(found.kind).set(seconds)


def _seconds_since(at_us: int | None, now: int) -> float:
    """0 where nothing waits."""
    return 0.0 if at_us is None else max(now - at_us, 0) / SECOND_US

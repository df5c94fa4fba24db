"""A tenant's thresholds: stated, or chosen so that reviews keep to an alert budget."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.database import Database
from app.decisions import Thresholds
from app.errors import TooFewScores
from app.pipeline import Pipeline
from app.rows import TenantThresholds
from app.times import now_us
from app.transactions import DAY_US

# Scores of so many days say how many reviews a threshold would give.
RECENT_DAYS = 28
LEAST_SCORES = 100


class Chosen(NamedTuple):
    """What a budget comes to: the threshold, and the scores it was chosen on."""

    review: float
    reviews_per_day: float
    scores: int
    days: float


class TenantPolicy:
    """Keeps each tenant's thresholds, with the time from which each is in force."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def state(self, row: TenantThresholds) -> TenantThresholds:
        """Keep thresholds that were stated."""

        async def work(connection: AsyncConnection) -> TenantThresholds:
            await store.save_thresholds(connection, row)
            return row

        return await self._database.run(work)

    async def keep_to_budget(
        self,
        tenant: str,
        reviews_per_day: float,
        decline: float | None,
        effective_at_us: int,
        note: str | None,
    ) -> tuple[TenantThresholds, float]:
        """Keep the lowest threshold of review that gives at most so many reviews a day.

        By the tenant's scores of the last 28 days; also returns how many reviews a day it would
        have given. `decline` is by default the one in force. Raises TooFewScores.
        """

        async def work(connection: AsyncConnection) -> tuple[TenantThresholds, float]:
            in_force = await self._pipeline.thresholds(connection, tenant)
            limit = in_force.decline if decline is None else decline
            chosen = await choose(connection, tenant, reviews_per_day, limit)
            row = TenantThresholds(
                tenant,
                effective_at_us,
                now_us(),
                chosen.review,
                limit,
                reviews_per_day,
                chosen.scores,
                chosen.days,
                note,
            )
            await store.save_thresholds(connection, row)
            return row, chosen.reviews_per_day

        return await self._database.run(work)

    async def in_force(
        self, tenant: str
    ) -> tuple[Thresholds, TenantThresholds | None, TenantThresholds | None]:
        """Those of now, the tenant's own row where they are its own, and the next planned."""
        at_us = now_us()
        async with self._database.read() as connection:
            own = await store.thresholds_at(connection, tenant, at_us)
            planned = await store.thresholds_after(connection, tenant, at_us)
        now = Thresholds(own.review, own.decline) if own else self._pipeline.scorer.thresholds
        return now, own, planned


async def choose(
    connection: AsyncConnection, tenant: str, reviews_per_day: float, decline: float
) -> Chosen:
    """The lowest threshold with at most `reviews_per_day` scores between it and `decline`.

    Equal scores are reviewed together or not at all. Raises TooFewScores.
    """
    until_us = now_us()
    since_us = until_us - RECENT_DAYS * DAY_US
    scores, oldest_us = await store.count_scores(connection, tenant, since_us, until_us)
    if scores < LEAST_SCORES:
        raise TooFewScores(
            f"There are {scores} scores of the last {RECENT_DAYS} days, and a budget needs "
            f"{LEAST_SCORES}: state review and decline instead."
        )
    days = max((until_us - oldest_us) / DAY_US, 1.0)
    allowed = int(reviews_per_day * days)
    review, reviews = await store.threshold_for(
        connection, tenant, since_us, until_us, decline, allowed
    )
    return Chosen(review, reviews / days, scores, days)

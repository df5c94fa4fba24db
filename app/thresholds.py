"""A tenant's thresholds: stated, or chosen so that reviews keep to an alert budget."""

from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.audit import entry
from app.database import Database
from app.decisions import Thresholds
from app.errors import TooFewScores
from app.pipeline import Pipeline
from app.rows import TenantThresholds
from app.times import now_us, text_of
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

    async def state(
        self, tenant: str, stated: Thresholds, effective_at_us: int | None, note: str | None
    ) -> TenantThresholds:
        """Keep these thresholds, from a time on, by default from now on."""
        return await self._keep(tenant, stated, effective_at_us, note)

    async def keep_to_budget(
        self,
        tenant: str,
        reviews_per_day: float,
        decline: float | None,
        effective_at_us: int | None,
        note: str | None,
    ) -> tuple[TenantThresholds, float]:
        """Keep the lowest threshold of review that gives at most so many reviews a day.

        By the tenant's scores of the last 28 days; also returns how many reviews a day it would
        have given. `decline` is by default the one in force. Raises TooFewScores.
        """
        # Read apart: a writer would make SQLite's scores wait while a month of them is sorted.
        async with self._database.read() as connection:
            in_force = await self._pipeline.deciding(connection, tenant)
            limit = in_force.thresholds.decline if decline is None else decline
            chosen = await choose(connection, tenant, reviews_per_day, limit)
        thresholds = Thresholds(chosen.review, limit)
        row = await self._keep(tenant, thresholds, effective_at_us, note, reviews_per_day, chosen)
        return row, chosen.reviews_per_day

    async def _keep(
        self,
        tenant: str,
        thresholds: Thresholds,
        effective_at_us: int | None,
        note: str | None,
        reviews_per_day: float | None = None,
        chosen: Chosen | None = None,
    ) -> TenantThresholds:
        async def work(connection: AsyncConnection) -> TenantThresholds:
            recorded_at_us = now_us()
            row = TenantThresholds(
                tenant=tenant,
                # Never before they were known: what was decided until now was decided by others.
                effective_at_us=max(effective_at_us or 0, recorded_at_us),
                recorded_at_us=recorded_at_us,
                review=thresholds.review,
                decline=thresholds.decline,
                reviews_per_day=reviews_per_day,
                chosen_on=chosen.scores if chosen else None,
                chosen_on_days=chosen.days if chosen else None,
                note=note,
            )
            before = (await self._pipeline.deciding(connection, tenant)).thresholds
            await store.save_thresholds(connection, row)
            after = {**thresholds._asdict(), "effective_at": text_of(row.effective_at_us)}
            noted = entry(tenant, "thresholds.set", "thresholds", before._asdict(), after)
            await store.save_entries(connection, [noted])
            return row

        return await self._database.run(work)

    async def in_force(
        self, tenant: str
    ) -> tuple[Thresholds, TenantThresholds | None, TenantThresholds | None]:
        """Those of now, the tenant's own row where they are its own, and the next planned."""
        at_us = now_us()
        async with self._database.read() as connection:
            own = await store.thresholds_at(connection, tenant, at_us)
            planned = await store.thresholds_after(connection, tenant, at_us)
            deciding = await self._pipeline.deciding(connection, tenant)
        return deciding.thresholds, own, planned


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

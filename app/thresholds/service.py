"""A tenant's thresholds: stated, chosen so that reviews keep to an alert budget, or reset."""

from typing import NamedTuple

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database
from app.errors import FieldError, ValidationFailed
from app.learner.decisions import Thresholds
from app.learner.transaction import DAY_US
from app.scoring.pipeline import Pipeline
from app.thresholds import store as threshold_store
from app.thresholds.errors import TooFewScores
from app.thresholds.records import TenantThresholds
from app.times import now_us, text_of

# Scores of so many days say how many reviews a threshold would give.
RECENT_DAYS = 28
# Fewer scores, or those of less than a day, do not say how many a day brings.
LEAST_SCORES, LEAST_DAYS = 100, 1.0
# A budget that states no floor never reviews what the model gives less than this share of the
# probability from which it would review by itself.
FLOOR_SHARE = 0.1


class Expected(NamedTuple):
    """What thresholds would have made of recent scores: so many of so many days."""

    scores: int
    days: float
    reviews_per_day: float
    declines_per_day: float


class Budget(NamedTuple):
    """Reviews a day; `decline` and `floor` are by default the one in force and the model's."""

    reviews_per_day: float
    decline: float | None = None
    floor: float | None = None


class BudgetThresholds(NamedTuple):
    """What a budget comes to; `floor_reached` says that it cannot be spent above its floor."""

    review: float
    floor_reached: bool
    expected: Expected


class StatedThresholds(NamedTuple):
    """A row of thresholds, stored unless in a dry run, and what it would have done of late."""

    row: TenantThresholds
    expected: Expected | None
    floor_reached: bool = False


class InForce(NamedTuple):
    """What decides now, the tenant's own row where that is its own, and the next planned."""

    now: Thresholds
    own: TenantThresholds | None
    planned: TenantThresholds | None


class TenantPolicy:
    """Keeps each tenant's thresholds, with the time from which each is in force."""

    def __init__(self, database: Database, pipeline: Pipeline) -> None:
        self._database = database
        self._pipeline = pipeline

    async def state(
        self,
        tenant: str,
        stated: Thresholds,
        effective_at_us: int | None,
        note: str | None,
        dry_run: bool = False,
    ) -> StatedThresholds:
        """Keep these thresholds, from a time on, by default from now on."""
        row = _row(tenant, stated, effective_at_us)._replace(note=note)
        if not dry_run:
            await self._save(row)
            return StatedThresholds(row, None)
        async with self._database.read() as connection:
            expected = await expect(connection, tenant, stated)
        if expected is None:
            return StatedThresholds(row, None)
        return StatedThresholds(_reckoned_on(row, expected), expected)

    async def keep_to_budget(
        self,
        tenant: str,
        budget: Budget,
        effective_at_us: int | None,
        note: str | None,
        dry_run: bool = False,
    ) -> StatedThresholds:
        """Keep the lowest threshold of review, not below the floor, that keeps to the budget.

        By the tenant's scores of the last 28 days. Raises TooFewScores, and ValidationFailed for
        a floor above the threshold of decline.
        """
        # Read apart: a writer would make SQLite's scores wait while a month of them is sorted.
        async with self._database.read() as connection:
            deciding = await self._pipeline.deciding(connection, tenant)
            decline = deciding.thresholds.decline if budget.decline is None else budget.decline
            floor = budget.floor
            if floor is None:
                floor = min(FLOOR_SHARE * deciding.scorer.thresholds.review, decline)
            if floor > decline:
                message = f"floor may not be above decline, which is {decline:g}"
                raise ValidationFailed(f"floor: {message}", [FieldError("floor", message)])
            chosen = await choose(connection, tenant, budget.reviews_per_day, decline, floor)
        row = _row(tenant, Thresholds(chosen.review, decline), effective_at_us)
        row = row._replace(reviews_per_day=budget.reviews_per_day, note=note, floor=floor)
        row = _reckoned_on(row, chosen.expected)
        if not dry_run:
            await self._save(row)
        return StatedThresholds(row, chosen.expected, chosen.floor_reached)

    async def reset(self, tenant: str) -> None:
        """Let the active model's own thresholds decide from now on; what was planned is off.

        Where the tenant has none of its own nothing is stored.
        """

        async def place(connection: Connection) -> None:
            now = now_us()
            own = await threshold_store.thresholds_at(connection, tenant, now)
            planned = await threshold_store.planned_thresholds(connection, tenant, now)
            times = [now] if own and not own.is_reset else []
            times += [row.effective_at_us for row in planned]
            if not times:
                return
            deciding = await self._pipeline.deciding(connection, tenant)
            after = deciding.scorer.thresholds
            for at_us in times:
                row = _row(tenant, after, at_us)._replace(recorded_at_us=now, is_reset=True)
                await threshold_store.save_thresholds(connection, row)
            await _note(connection, tenant, "thresholds.reset", deciding.thresholds, after, now)

        await self._database.run(place)

    async def _save(self, row: TenantThresholds) -> None:
        async def forget(connection: Connection) -> None:
            before = (await self._pipeline.deciding(connection, row.tenant)).thresholds
            await threshold_store.save_thresholds(connection, row)
            after = Thresholds(row.review, row.decline)
            at_us = row.effective_at_us
            await _note(connection, row.tenant, "thresholds.set", before, after, at_us)

        await self._database.run(forget)

    async def in_force(self, tenant: str) -> InForce:
        """The thresholds that decide now, and those planned next. Raises ModelUnavailable."""
        at_us = now_us()
        async with self._database.read() as connection:
            own = await threshold_store.thresholds_at(connection, tenant, at_us)
            planned = await threshold_store.planned_thresholds(connection, tenant, at_us)
            deciding = await self._pipeline.deciding(connection, tenant)
        if own is not None and own.is_reset:
            own = None
        return InForce(deciding.thresholds, own, planned[0] if planned else None)


async def choose(
    connection: Connection,
    tenant: str,
    reviews_per_day: float,
    decline: float,
    floor: float,
) -> BudgetThresholds:
    """The lowest threshold from `floor` on with at most `reviews_per_day` scores up to `decline`.

    Equal scores are reviewed together or not at all. Raises TooFewScores.
    """
    until_us = now_us()
    since_us = until_us - RECENT_DAYS * DAY_US
    scores, oldest_us = await threshold_store.count_scores(connection, tenant, since_us, until_us)
    days = (until_us - oldest_us) / DAY_US
    if scores < LEAST_SCORES:
        raise TooFewScores(
            f"There are {scores} scores of the last {RECENT_DAYS} days, and a budget needs "
            f"{LEAST_SCORES}: state review and decline instead."
        )
    if days < LEAST_DAYS:
        raise TooFewScores(
            f"The oldest score of the last {RECENT_DAYS} days is {24 * days:.1f} hours old, and a "
            "budget needs scores of a day or more: state review and decline instead."
        )
    lowest = await threshold_store.threshold_for(
        connection, tenant, since_us, until_us, decline, int(reviews_per_day * days)
    )
    review = max(lowest, floor)
    reviews, declines = await threshold_store.count_reached(
        connection, tenant, since_us, until_us, review, decline
    )
    expected = Expected(scores, days, reviews / days, declines / days)
    return BudgetThresholds(review, lowest < floor, expected)


async def expect(connection: Connection, tenant: str, thresholds: Thresholds) -> Expected | None:
    """What thresholds would have made of the last 28 days' scores; None where there are none."""
    until_us = now_us()
    since_us = until_us - RECENT_DAYS * DAY_US
    scores, oldest_us = await threshold_store.count_scores(connection, tenant, since_us, until_us)
    if not scores:
        return None
    days = max((until_us - oldest_us) / DAY_US, LEAST_DAYS)
    reviews, declines = await threshold_store.count_reached(
        connection, tenant, since_us, until_us, *thresholds
    )
    return Expected(scores, days, reviews / days, declines / days)


def _row(tenant: str, thresholds: Thresholds, effective_at_us: int | None) -> TenantThresholds:
    recorded_at_us = now_us()
    # Never before they were known: what was decided until now was decided by others.
    at_us = max(effective_at_us or 0, recorded_at_us)
    return TenantThresholds(tenant, at_us, recorded_at_us, *thresholds)


def _reckoned_on(row: TenantThresholds, expected: Expected) -> TenantThresholds:
    return row._replace(chosen_on=expected.scores, chosen_on_days=expected.days)


async def _note(
    connection: Connection,
    tenant: str,
    action: Action,
    before: Thresholds,
    after: Thresholds,
    effective_at_us: int,
) -> None:
    to = {**after._asdict(), "effective_at": text_of(effective_at_us)}
    noted = entry(tenant, action, "thresholds", before._asdict(), to)
    await audit_store.save_entries(connection, [noted])

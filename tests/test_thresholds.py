"""A budget of reviews: the threshold that keeps to it on the tenant's own scores."""

from collections.abc import Sequence

import numpy as np
import pytest

from app.db.database import Database
from app.learner.transaction import DAY_US, SECOND_US
from app.scoring import store as transaction_store
from app.thresholds import store as threshold_store
from app.thresholds.errors import TooFewScores
from app.thresholds.records import TenantThresholds
from app.thresholds.service import LEAST_SCORES, RECENT_DAYS, BudgetThresholds, choose
from app.times import now_us
from tests.test_store import TENANT, scored_row

pytestmark = pytest.mark.anyio

DECLINE = 0.8


async def save(
    database: Database,
    probabilities: Sequence[float],
    first_days_ago: float = 10.0,
    last_days_ago: float = 0.1,
    tenant: str = TENANT,
) -> None:
    """Store scores whose transactions are spread evenly over these days, `tenant`'s own."""
    days_ago = np.linspace(first_days_ago, last_days_ago, len(probabilities))
    at_us = now_us() - (days_ago * DAY_US).astype(np.int64)
    rows = [
        scored_row(f"{first_days_ago}-{n}", int(at_us[n]))._replace(
            tenant=tenant, probability=float(probability)
        )
        for n, probability in enumerate(probabilities)
    ]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, rows)


async def chosen(
    database: Database, reviews_per_day: float, decline: float = DECLINE, floor: float = 0
) -> BudgetThresholds:
    async with database.read() as connection:
        return await choose(connection, TENANT, reviews_per_day, decline, floor)


def reviews(probabilities: Sequence[float], review: float, decline: float = DECLINE) -> int:
    return sum(review <= probability < decline for probability in probabilities)


def made_up(size: int, decimals: int) -> list[float]:
    """Probabilities, the fewer decimals the more of them equal; some are 0, some declined."""
    return np.random.default_rng(decimals).beta(0.3, 2.0, size).round(decimals).tolist()


@pytest.mark.parametrize("decimals", [1, 2, 9])
async def test_a_budget_gives_the_lowest_threshold_that_is_reached_by_no_more_than_it_allows(
    database: Database, decimals: int
) -> None:
    probabilities = made_up(400, decimals)
    await save(database, probabilities)
    candidates = sorted(
        {probability for probability in probabilities if 0 < probability < DECLINE} | {DECLINE}
    )
    for budget in (0.05, 0.1, 0.7, 3.0, 12.34, 30.0, 1000.0):
        allowed = int(10 * budget)
        review, _, (scores, days, per_day, declined) = await chosen(database, budget)
        within = [
            candidate for candidate in candidates if reviews(probabilities, candidate) <= allowed
        ]
        assert review == within[0]
        assert per_day * days == pytest.approx(reviews(probabilities, review))
        assert per_day <= budget
        assert declined * days == pytest.approx(reviews(probabilities, DECLINE, 2))
        assert scores == 400
        assert days == pytest.approx(10, abs=1e-3)


async def test_equal_scores_are_reviewed_together_or_not_at_all(database: Database) -> None:
    await save(database, [0.5] * 30 + [0.3] * 5 + [0.1] * 80)
    assert (await chosen(database, 2.9)).review == DECLINE
    assert (await chosen(database, 2.9)).expected.reviews_per_day == 0
    assert (await chosen(database, 3.4)).review == 0.5
    assert (await chosen(database, 3.5)).review == 0.3
    assert (await chosen(database, 11.4)).review == 0.3
    assert (await chosen(database, 11.5)).review == 0.1


async def test_what_is_declined_takes_nothing_of_the_budget(database: Database) -> None:
    await save(database, [0.9] * 50 + [0.8] * 50 + [0.7] * 10 + [0.2] * 90)
    assert (await chosen(database, 1.0)).review == 0.7
    assert (await chosen(database, 1.0, decline=0.95)).review == 0.95
    assert (await chosen(database, 5.0, decline=0.9)).review == 0.8


async def test_only_the_last_weeks_and_only_the_own_scores_are_counted(database: Database) -> None:
    await save(database, [0.1] * 150)
    await save(database, [0.7] * 300, RECENT_DAYS + 9, RECENT_DAYS + 1)
    await save(database, [0.6] * 300, tenant="other")
    review, _, (scores, days, per_day, _) = await chosen(database, 100)
    assert (review, scores) == (0.1, 150)
    assert days == pytest.approx(10, abs=1e-3)
    assert per_day == pytest.approx(15, abs=0.01)


async def test_a_budget_needs_scores_of_a_day(database: Database) -> None:
    await save(database, made_up(200, 9), 0.99, 0.01)
    with pytest.raises(TooFewScores, match=r"23\.8 hours old"):
        await chosen(database, 50)
    await save(database, [0.5], 1.01)
    assert (await chosen(database, 50)).expected.days == pytest.approx(1.01, abs=1e-3)


async def test_a_budget_never_chooses_below_its_floor(database: Database) -> None:
    await save(database, [0.9] * 20 + [0.5] * 30 + [0.01] * 60 + [0.0001] * 90)
    assert (await chosen(database, 1000)).review == 0.0001
    for floor, reached in ((0.02, True), (0.6, True), (0.01, False), (0.0001, False)):
        found = await chosen(database, 10, floor=floor)
        assert found.review == max(floor, 0.01)
        assert found.floor_reached is reached
        within = [0.5] * 30 + [0.01] * 60
        assert found.expected.reviews_per_day == pytest.approx(
            reviews(within, found.review) / 10, abs=1e-3
        )
        assert found.expected.declines_per_day == pytest.approx(2, abs=1e-3)


async def test_a_budget_needs_scores(database: Database) -> None:
    await save(database, made_up(LEAST_SCORES - 1, 9))
    with pytest.raises(TooFewScores, match=rf"{LEAST_SCORES - 1} scores .* needs {LEAST_SCORES}"):
        await chosen(database, 5)
    await save(database, [0.5], 1)
    assert (await chosen(database, 5)).expected.scores == LEAST_SCORES


async def test_thresholds_are_in_force_from_their_time_until_the_next_ones(
    database: Database,
) -> None:
    rows = [
        TenantThresholds(TENANT, effective * SECOND_US, recorded, 0.1 * effective, 0.9)
        for effective, recorded in ((5, 1), (2, 2), (8, 3))
    ]
    corrected = rows[0]._replace(recorded_at_us=4, review=0.55)
    async with database.write() as connection:
        for row in (*rows, corrected):
            await threshold_store.save_thresholds(connection, row)
    first, last = rows[1], rows[2]
    expected = {
        2 * SECOND_US - 1: (None, first),
        2 * SECOND_US: (first, corrected),
        5 * SECOND_US - 1: (first, corrected),
        5 * SECOND_US: (corrected, last),
        9 * SECOND_US: (last, None),
    }
    async with database.read() as connection:
        for at_us, (now, following) in expected.items():
            assert await threshold_store.thresholds_at(connection, TENANT, at_us) == now
            planned = await threshold_store.planned_thresholds(connection, TENANT, at_us)
            assert (planned[0] if planned else None) == following
            assert await threshold_store.thresholds_at(connection, "other", at_us) is None
            assert await threshold_store.planned_thresholds(connection, "other", at_us) == []

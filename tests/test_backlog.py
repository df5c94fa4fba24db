"""What waits shows in the metrics for as long as it waits: of all tenants that which is worst."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.db.connection import Connection
from app.db.database import Database
from app.jobs import store as job_store
from app.jobs.records import Job
from app.keys import service as keys
from app.models import store as model_store
from app.models.records import ModelChange
from app.ops import metrics
from app.reviews import store as review_store
from app.reviews.records import Review
from app.times import now_us
from app.web.backlog import SECOND_US, Backlog
from app.webhooks import store as webhook_store
from app.webhooks.records import Webhook

pytestmark = pytest.mark.anyio
HOUR_US, DAY_US = 3600 * SECOND_US, 24 * 3600 * SECOND_US


async def shown(database: Database) -> dict[tuple[str, str], float]:
    """The gauges after a measurement, by name and the value of their label."""
    await Backlog(database).measure()
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {
        (sample.name.removeprefix("quickstudy_"), next(iter(sample.labels.values()), "")): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }


async def open_review(
    connection: Connection, tenant: str, kind: str, waited_us: int, slept_us: int = 0
) -> None:
    now = now_us()
    row = Review(
        *(tenant, f"{kind}-{waited_us}", "a", now, now - waited_us, 0.5, 0.5, "open", 0),
        kind=kind,
        snoozed_until_us=now + slept_us if slept_us else None,
    )
    await review_store.open_reviews(connection, [row])


async def test_reviews_are_counted_by_kind_and_those_that_sleep_are_left_out(
    database: Database,
) -> None:
    for tenant in ("t-1", "t-2"):
        await keys.create(database, "tests", tenant)
    before = await shown(database)
    assert before["waiting_reviews", "review"] == before["oldest_review_seconds", "review"] == 0
    async with database.write() as connection:
        await open_review(connection, "t-1", "review", HOUR_US)
        await open_review(connection, "t-1", "review", 2 * HOUR_US)
        await open_review(connection, "t-2", "review", 5 * HOUR_US)
        for hours in (9, 10, 11):
            await open_review(connection, "t-2", "review", hours * HOUR_US, slept_us=HOUR_US)
        await open_review(connection, "t-2", "decline", DAY_US)
    found = await shown(database)
    assert found["waiting_reviews", "review"] == 2
    assert found["waiting_reviews", "decline"] == 1
    assert found["waiting_reviews", "sample"] == 0
    assert found["oldest_review_seconds", "review"] == pytest.approx(5 * 3600, abs=60)
    assert found["oldest_review_seconds", "decline"] == pytest.approx(24 * 3600, abs=60)
    assert found["oldest_review_seconds", "sample"] == 0


async def test_a_message_is_late_from_when_it_should_have_been_sent(database: Database) -> None:
    now = now_us()
    hook = Webhook(
        "t-1", "w-1", "https://example.com", "model.activated", "whsec_", None, None, now
    )
    off = hook._replace(id="w-2", disabled_at_us=now)

    async def announce(connection: Connection) -> None:
        await webhook_store.save_webhook(connection, hook)
        await webhook_store.announce(connection, "t-1", [("model.activated", {})] * 2)
        for minutes, message in zip(
            (10, 3), await webhook_store.waiting(connection, "t-1", "w-1", 2), strict=True
        ):
            late = message._replace(next_at_us=now - minutes * 60 * SECOND_US)
            await webhook_store.change_message(connection, late)

    await database.run(announce)
    found = await shown(database)
    assert found["overdue_message_seconds", ""] == pytest.approx(600, abs=30)
    # Nobody is to have it meanwhile.
    async with database.write() as connection:
        await webhook_store.save_webhook(connection, off._replace(id="w-1"))
    assert (await shown(database))["overdue_message_seconds", ""] == 0


async def test_a_job_waits_until_it_runs_and_a_shadow_until_it_ends(database: Database) -> None:
    now = now_us()
    assert (await shown(database))["overdue_job_seconds", ""] == 0
    job = Job("t-1", "j-1", "drift", "default", 7.0, "queued", 0, 0, now - HOUR_US)

    async def place(name: str | None, tenant: str, ago_us: int) -> None:
        change = ModelChange(tenant, "shadow", now - ago_us, name, "d" if name else None)
        async with database.write() as connection:
            await model_store.save_model_change(connection, change)

    async with database.write() as connection:
        await job_store.save_job(connection, job)
    # That of the first has ended, that of the second replaced another.
    await place("new", "t-1", 9 * DAY_US)
    await place(None, "t-1", 8 * DAY_US)
    await place("new", "t-2", 7 * DAY_US)
    await place("newer", "t-2", 2 * DAY_US)
    found = await shown(database)
    assert found["overdue_job_seconds", ""] == pytest.approx(3600, abs=60)
    assert found["oldest_shadow_seconds", ""] == pytest.approx(2 * 24 * 3600, abs=60)
    await place(None, "t-2", 0)
    await database.run(lambda c: job_store.claim_job(c, now, now + HOUR_US))
    found = await shown(database)
    assert found["overdue_job_seconds", ""] == found["oldest_shadow_seconds", ""] == 0


async def test_the_disk_is_that_of_the_sqlite_file(database: Database) -> None:
    metrics.disk_free_ratio.clear()
    found = await shown(database)
    if database.file is None:
        assert ("disk_free_ratio", "database") not in found
    else:
        assert 0 < found["disk_free_ratio", "database"] < 1

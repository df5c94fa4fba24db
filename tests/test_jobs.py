"""Jobs: computed beside requests, by turns, whatever dies."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.db.database import Database
from app.jobs import store as job_store
from app.jobs.aside import NICENESS, Aside, Crashed, Task
from app.jobs.errors import JobNotFound, TooManyJobs
from app.jobs.records import Job
from app.jobs.service import KEPT_DAYS, KEPT_RESULTS, MOST_UNFINISHED, Jobs
from app.keys import service as keys
from app.learner.transaction import DAY_US, SECOND_US
from app.settings import Settings
from app.times import now_us
from tests.api.callers import calling, of_another_tenant
from tests.api.requests import posted, problem_of
from tests.conftest import mainly

pytestmark = pytest.mark.anyio


@pytest.fixture
def jobs(database: Database, service_settings: Settings) -> Jobs:
    """Takes jobs and runs none by itself."""
    return Jobs(database, Aside(service_settings))


@pytest.fixture
async def client(service_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with calling(service_settings) as client:
        yield client


async def claimed(database: Database, at_us: int, until_us: int) -> Job | None:
    return await database.run(lambda connection: job_store.claim_job(connection, at_us, until_us))


async def all_of(database: Database, tenant: str, ids: list[str]) -> list[Job | None]:
    async with database.read() as connection:
        return [await job_store.job(connection, tenant, id) for id in ids]


async def once(client: httpx.AsyncClient, location: str, *statuses: str) -> dict[str, object]:
    """The job, once it has one of these statuses."""
    while True:
        answer = await client.get(location)
        assert answer.status_code == 200, answer.text
        job: dict[str, object] = answer.json()
        if job["status"] in statuses:
            return job
        await asyncio.sleep(0.02)


async def computing(niceness: int = NICENESS) -> int:
    """The process that computes a job of this one, once there is one that gives way so much."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    while True:
        for pid in map(int, children.read_text().split()):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if (
                    b"app.jobs.measuring" in words
                    and os.getpriority(os.PRIO_PROCESS, pid) == niceness
                ):
                    return pid
            except OSError:
                continue
        await asyncio.sleep(0.01)


@mainly("sqlite")
async def test_a_comparison_is_computed_by_a_process_that_may_be_killed(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.service.RETRY_US", SECOND_US // 10)
    await client.post("/v1/transactions", json=posted("t-1"))
    started = await client.post("/v1/models/tiny/comparisons", json={"days": 365})
    assert started.status_code == 202
    job = started.json()
    assert started.headers["Location"] == f"/v1/models/tiny/comparisons/{job['id']}"
    assert (job["status"], job["result"], job["error"]) == ("queued", None, None)
    os.kill(await asyncio.wait_for(computing(), 60), signal.SIGKILL)
    done = await once(client, started.headers["Location"], "done", "failed")
    assert done["status"] == "done"
    assert isinstance(done["result"], dict)
    assert (done["result"]["transactions"], done["result"]["agreement"]) == (1, 1.0)
    # Nobody else's, of no other model, and of no other kind.
    async with await of_another_tenant(client) as stranger:
        for who, path in (
            (stranger, started.headers["Location"]),
            (client, f"/v1/models/other/comparisons/{job['id']}"),
            (client, f"/v1/models/tiny/drift/{job['id']}"),
        ):
            assert problem_of(await who.get(path)) == (404, "job_not_found")


@mainly("sqlite")
async def test_a_job_that_writes_holds_nobody_up(client: httpx.AsyncClient) -> None:
    """It gives way to nobody while others wait for what it has locked, and commits a few rows."""
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert (await client.post("/v1/demo")).status_code == 202
    pid = await asyncio.wait_for(computing(own), 60)
    counts = {0}
    while len(counts) < 3:
        found = await client.get("/v1/transactions", params={"limit": 1000})
        counts.add(len(found.json()["data"]))
        await asyncio.sleep(0.05)
    assert os.getpriority(os.PRIO_PROCESS, pid) == own
    while (await client.get("/v1/demo")).json()["status"] != "done":
        await asyncio.sleep(0.05)


@mainly("sqlite")
async def test_a_service_that_stops_leaves_its_job_to_the_next(
    service_settings: Settings, database: Database
) -> None:
    key = await keys.create(database, "tests")
    async with calling(service_settings, key) as client:
        started = await client.post("/v1/models/tiny/comparisons")
        pid = await asyncio.wait_for(computing(), 60)
    assert not Path(f"/proc/{pid}").exists()
    [job] = await all_of(database, "default", [started.json()["id"]])
    assert job is not None
    assert (job.status, job.attempts) == ("queued", 0)
    async with calling(service_settings, key) as client:
        await once(client, started.headers["Location"], "done")


@mainly("sqlite")
async def test_what_cannot_be_computed_says_why(
    service_settings: Settings, database: Database, jobs: Jobs
) -> None:
    gone = await jobs.submit("default", "comparison", "gone", 28.0)
    await jobs.run_next()
    found = await jobs.find("default", "comparison", "gone", gone.id)
    assert (found.status, found.slot, found.result) == ("failed", None, None)
    async with calling(service_settings) as client:
        comparison = (await client.get(f"/v1/models/gone/comparisons/{gone.id}")).json()
    assert comparison["error"] == {"code": "model_not_found", "detail": "There is no model 'gone'."}


async def test_a_job_that_crashes_again_and_again_fails(
    service_settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.service.RETRY_US", 0)
    # A process that cannot even start.
    monkeypatch.setattr("app.jobs.aside.sys.executable", "/bin/false")
    jobs = Jobs(database, Aside(service_settings))
    job = await jobs.submit("default", "drift", "tiny", 28.0)
    for _ in range(3):
        assert (await jobs.find("default", "drift", "tiny", job.id)).status != "failed"
        await jobs.run_next()
    found = await jobs.find("default", "drift", "tiny", job.id)
    assert (found.status, found.attempts) == ("failed", 3)
    assert "internal_error" in (found.error or "")


async def test_a_tenant_has_only_so_many_jobs_that_have_not_ended(
    database: Database, jobs: Jobs
) -> None:
    tries = (jobs.submit("a", "drift", "m", 28.0) for _ in range(3 * MOST_UNFINISHED))
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refused = [answer for answer in answers if not isinstance(answer, Job)]
    assert len(answers) - len(refused) == MOST_UNFINISHED
    assert {type(refusal) for refusal in refused} == {TooManyJobs}
    assert (await jobs.submit("b", "drift", "m", 28.0)).status == "queued"
    # Once one has ended there is room again.
    at_us = now_us()
    job = await claimed(database, at_us, at_us + SECOND_US)
    assert job is not None
    ended = job._replace(status="done", slot=None, finished_at_us=at_us, result="{}")
    assert await database.run(lambda connection: job_store.change_job(connection, job, ended))
    await jobs.submit("a", "drift", "m", 28.0)
    with pytest.raises(TooManyJobs):
        await jobs.submit("a", "drift", "m", 28.0)


async def test_too_many_jobs_are_refused_over_http_with_when_to_come_again(
    client: httpx.AsyncClient,
) -> None:
    path = "/v1/models/tiny/comparisons"
    answers = [await client.post(path) for _ in range(MOST_UNFINISHED + 2)]
    assert [answer.status_code for answer in answers[:MOST_UNFINISHED]] == [202] * MOST_UNFINISHED
    assert problem_of(answers[-1]) == (429, "too_many_jobs")
    assert int(answers[-1].headers["Retry-After"]) > 0


async def test_tenants_take_turns(database: Database, jobs: Jobs) -> None:
    for tenant, count in (("a", 3), ("b", 2), ("c", 1)):
        for _ in range(count):
            await jobs.submit(tenant, "drift", "m", 28.0)
    at_us = now_us()
    turns = [await claimed(database, at_us + n, at_us + DAY_US) for n in range(7)]
    assert [turn.tenant if turn else None for turn in turns] == [*"abcaba", None]


async def test_a_job_whose_process_is_gone_is_anothers_after_its_lease(
    database: Database, jobs: Jobs
) -> None:
    await jobs.submit("a", "drift", "m", 28.0)
    at_us = now_us()
    first = await claimed(database, at_us, at_us + SECOND_US)
    assert first is not None
    assert await claimed(database, at_us + SECOND_US - 1, at_us + DAY_US) is None
    second = await claimed(database, at_us + SECOND_US, at_us + DAY_US)
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    # The first comes back, and has nothing to say any more.
    for row, is_replaced in ((first, False), (second, True)):
        ended = row._replace(
            status="done", slot=None, finished_at_us=at_us, result=f'"{is_replaced}"'
        )
        changed = await database.run(
            lambda connection, row=row, ended=ended: job_store.change_job(connection, row, ended)
        )
        assert changed is is_replaced
    assert (await jobs.find("a", "drift", "m", first.id)).result == '"True"'


async def test_of_two_who_claim_at_once_one_has_the_job(database: Database, jobs: Jobs) -> None:
    await jobs.submit("a", "drift", "m", 28.0)
    at_us = now_us()
    found = await asyncio.gather(*(claimed(database, at_us, at_us + DAY_US) for _ in range(8)))
    assert len([job for job in found if job]) == 1


async def test_results_are_kept_for_a_while_and_not_without_end(
    database: Database, jobs: Jobs
) -> None:
    now = now_us()
    ended = [
        Job("a", f"j-{n:03}", "drift", "m", 28.0, "done", finished_at_us=now - n, result="{}")
        for n in range(KEPT_RESULTS + 3)
    ]
    old = ended[0]._replace(tenant="b", id="old", finished_at_us=now - (KEPT_DAYS + 1) * DAY_US)
    young = old._replace(id="young", finished_at_us=now - (KEPT_DAYS - 1) * DAY_US)
    waiting = await jobs.submit("a", "drift", "m", 28.0)
    async with database.write() as connection:
        for row in (*ended, old, young):
            await job_store.save_job(connection, row)
        await job_store.delete_oldest_jobs(connection, "a", KEPT_RESULTS)
    ids = [outcome.id for outcome in ended]
    kept = [job.id for job in await all_of(database, "a", ids) if job]
    assert kept == ids[:KEPT_RESULTS]
    assert (await jobs.find("a", "drift", "m", waiting.id)).status == "queued"
    at_us = now_us()
    await claimed(database, at_us, at_us + DAY_US)
    # Nothing is left to run, but something to forget.
    await jobs.run_next()
    with pytest.raises(JobNotFound):
        await jobs.find("b", "drift", "m", "old")
    assert (await jobs.find("b", "drift", "m", "young")).status == "done"


async def test_a_database_that_is_away_for_a_moment_fails_no_job(
    service_settings: Settings,
) -> None:
    """It crashes, and is run again."""
    away = service_settings.model_copy(
        update={"database_url": "postgresql+asyncpg://nobody@127.0.0.1:1/none"}
    )
    with pytest.raises(Crashed):
        await Aside(away).compute(Task("comparison", "default", "tiny", 28))

"""Jobs: what takes seconds to compute, queued by tenant, run beside requests, its result stored.

Every process runs one job at a time, in a process of its own (`app.jobs.aside`). A claim is a
lease,
so that a process that dies loses nothing: its job is run again by whoever sees it.
"""

import asyncio
import contextlib
import json
import logging
import secrets
import time
from typing import Literal

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.http.problems import InternalError
from app.jobs import store as job_store
from app.jobs.aside import LONGEST_SECONDS, Aside, Computed, Crashed, Task
from app.jobs.errors import JobNotFound, TooManyJobs
from app.jobs.records import Job
from app.learner.transaction import DAY_US, SECOND_US
from app.ops.background import BackgroundTask, InBackground, TaskHealth
from app.times import now_us

logger = logging.getLogger("quickstudy.jobs")
JobKind = Literal["comparison", "drift", "demo"]

# Of one tenant, waiting and running.
MOST_UNFINISHED = 4
# Results are kept so long, and of one tenant so many.
KEPT_DAYS, KEPT_RESULTS = 7, 100
POLL_SECONDS = 1.0
# Another process may take over what nobody has worked on for so long.
LEASE_US, RENEW_SECONDS = 30 * SECOND_US, 10.0
# After a crash: the next attempt is so much later, and after the last one it is given up.
RETRY_US, ATTEMPTS = 5 * SECOND_US, 3
CLEAN_UP_SECONDS = 3600.0


class Jobs(InBackground):
    """Takes jobs of tenants, and runs them while it is entered."""

    def __init__(self, database: Database, aside: Aside) -> None:
        self._database = database
        self._aside = aside
        self._submitted = asyncio.Event()
        self._is_idle = True
        self._cleaned_up_at = -CLEAN_UP_SECONDS
        self.health = TaskHealth("jobs")
        self._task = BackgroundTask(
            self.health, self._wait, self.run_next, longest_seconds=2 * LONGEST_SECONDS
        )

    async def submit(
        self, tenant: str, kind: JobKind, model: str, days: float, action: Action | None = None
    ) -> Job:
        """Queue a job; raises TooManyJobs where too many of the tenant's have not ended.

        One that will change something has an `action` for the audit log.
        """
        row = Job(tenant, secrets.token_hex(8), kind, model, days, created_at_us=now_us())

        async def enqueue(connection: Connection) -> Job:
            free = set(range(MOST_UNFINISHED)) - await job_store.taken_slots(connection, tenant)
            if not free:
                raise TooManyJobs(
                    f"{MOST_UNFINISHED} jobs of this tenant wait or run: wait for one to end."
                )
            queued = row._replace(slot=min(free))
            await job_store.save_job(connection, queued)
            if action is not None:
                await audit_store.save_entries(connection, [entry(tenant, action, queued.id)])
            return queued

        queued = await self._database.run(enqueue)
        self._submitted.set()
        return queued

    async def find(self, tenant: str, kind: JobKind, model: str, job_id: str) -> Job:
        """A job of this kind about this model; raises JobNotFound."""
        async with self._database.read() as connection:
            found = await job_store.job(connection, tenant, job_id)
        if found is None or (found.kind, found.model) != (kind, model):
            raise JobNotFound(f"There is no {kind} {job_id!r} of model {model!r}.")
        return found

    async def listed(self, tenant: str, kind: JobKind, model: str, limit: int) -> list[Job]:
        """The newest jobs of this kind about this model, the newest first."""
        async with self._database.read() as connection:
            return await job_store.listed_jobs(connection, tenant, kind, model, limit)

    async def _wait(self) -> None:
        if self._is_idle:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._submitted.wait(), POLL_SECONDS)
        self._submitted.clear()

    async def run_next(self) -> None:
        """Run a job, if one waits."""
        claimed = await self._claim()
        self._is_idle = claimed is None
        if claimed is None:
            return
        try:
            computed = await self._computed(claimed)
        except asyncio.CancelledError:
            # The service stops: another process, or the next start, need not wait for the lease.
            await asyncio.shield(self._give_back(claimed))
            raise
        except Crashed as crash:
            logger.error("a job crashed", extra={"fields": {"job": claimed.id, "why": str(crash)}})
            if claimed.attempts < ATTEMPTS:
                later = claimed._replace(lease_until_us=now_us() + RETRY_US)
                await self._change(claimed, later)
                return
            document = InternalError(f"It crashed {ATTEMPTS} times: the log says why.").document()
            computed = Computed(False, json.dumps(document))
        await self._end(claimed, computed)

    async def _claim(self) -> Job | None:
        now = now_us()
        if time.monotonic() - self._cleaned_up_at >= CLEAN_UP_SECONDS:
            before_us = now - KEPT_DAYS * DAY_US
            await self._database.run(
                lambda connection: job_store.delete_jobs(connection, before_us)
            )
            self._cleaned_up_at = time.monotonic()
        async with self._database.read() as connection:
            # Looked for first: claiming is writing, and mostly there is nothing.
            if not await job_store.any_job_due(connection, now):
                return None
        return await self._database.run(
            lambda connection: job_store.claim_job(connection, now, now + LEASE_US)
        )

    async def _computed(self, claimed: Job) -> Computed:
        """What comes of a job, whose lease is renewed meanwhile. Raises Crashed."""
        task = Task(claimed.kind, claimed.tenant, claimed.model, claimed.days)
        computing = asyncio.create_task(self._aside.compute(task))
        try:
            while not (await asyncio.wait([computing], timeout=RENEW_SECONDS))[0]:
                with contextlib.suppress(DatabaseUnavailable):
                    renewed = claimed._replace(lease_until_us=now_us() + LEASE_US)
                    await self._change(claimed, renewed)
            return computing.result()
        finally:
            computing.cancel()
            await asyncio.gather(computing, return_exceptions=True)

    async def _end(self, claimed: Job, computed: Computed) -> None:
        ended = claimed._replace(
            status="done" if computed.is_done else "failed",
            slot=None,
            finished_at_us=now_us(),
            lease_until_us=None,
            result=computed.text if computed.is_done else None,
            error=None if computed.is_done else computed.text,
        )

        async def store_result(connection: Connection) -> None:
            if await job_store.change_job(connection, claimed, ended):
                await job_store.delete_oldest_jobs(connection, claimed.tenant, KEPT_RESULTS)

        await self._database.run(store_result)

    async def _give_back(self, claimed: Job) -> None:
        # Its attempt was cut off, not lost.
        queued = claimed._replace(
            status="queued", attempts=claimed.attempts - 1, lease_until_us=None
        )
        with contextlib.suppress(DatabaseUnavailable):
            await self._change(claimed, queued)

    async def _change(self, claimed: Job, row: Job) -> None:
        await self._database.run(lambda connection: job_store.change_job(connection, claimed, row))

"""Jobs: queued, claimed by a lease, and kept with their results for a while."""

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from app.db.connection import Connection
from app.db.schema import jobs
from app.db.statements import columns
from app.jobs.records import Job


async def save_job(connection: Connection, row: Job) -> None:
    """Add a job; the driver raises IntegrityError where another has just taken its slot."""
    await connection.write_rows(jobs, [row])


async def job(connection: Connection, tenant: str, job_id: str) -> Job | None:
    """A tenant's job."""
    query = select(*columns(jobs, Job)).where(jobs.c.tenant == tenant, jobs.c.id == job_id)
    found = await connection.read(Job._make, query)
    return found[0] if found else None


async def listed_jobs(
    connection: Connection, tenant: str, kind: str, model: str, limit: int
) -> list[Job]:
    """A tenant's jobs of a kind about a model, the newest first; of all there are some 100."""
    query = (
        select(*columns(jobs, Job))
        .where(jobs.c.tenant == tenant, jobs.c.kind == kind, jobs.c.model == model)
        .order_by(jobs.c.created_at_us.desc(), jobs.c.id)
        .limit(limit)
    )
    return await connection.read(Job._make, query)


async def taken_slots(connection: Connection, tenant: str) -> set[int]:
    """The slots of a tenant's jobs that have not ended."""
    query = select(jobs.c.slot).where(jobs.c.tenant == tenant, jobs.c.slot.is_not(None))
    return set((await connection.execute(query)).scalars())


async def any_job_due(connection: Connection, at_us: int) -> bool:
    """Whether a job waits, or was left by a process that is gone."""
    query = select(jobs.c.id).where(_is_due(at_us)).limit(1)
    return (await connection.execute(query)).first() is not None


async def oldest_due(connection: Connection, at_us: int) -> int | None:
    """When the job was queued that has waited longest; None where none waits."""
    query = select(func.min(jobs.c.created_at_us)).where(_is_due(at_us))
    found: int | None = (await connection.execute(query)).scalar_one()
    return found


async def claim_job(connection: Connection, at_us: int, until_us: int) -> Job | None:
    """The next job, of the tenant that has waited longest for a turn; ours until `until_us`."""
    others = jobs.alias()
    last_turn = (
        select(func.max(others.c.started_at_us))
        .where(others.c.tenant == jobs.c.tenant)
        .scalar_subquery()
    )
    query = (
        select(*columns(jobs, Job))
        .where(_is_due(at_us))
        .order_by(func.coalesce(last_turn, 0), jobs.c.created_at_us, jobs.c.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=jobs)
    )
    found = await connection.read(Job._make, query)
    if not found:
        return None
    claimed = found[0]._replace(
        status="running",
        attempts=found[0].attempts + 1,
        started_at_us=at_us,
        lease_until_us=until_us,
    )
    change = update(jobs).where(jobs.c.tenant == claimed.tenant, jobs.c.id == claimed.id)
    await connection.execute(
        change.values(
            status=claimed.status,
            attempts=claimed.attempts,
            started_at_us=claimed.started_at_us,
            lease_until_us=claimed.lease_until_us,
        )
    )
    return claimed


async def change_job(connection: Connection, claimed: Job, row: Job) -> bool:
    """Store what has become of a claimed job; False where it is another's by now."""
    kept = ("tenant", "id")
    done = await connection.execute(
        update(jobs)
        .where(
            jobs.c.tenant == claimed.tenant,
            jobs.c.id == claimed.id,
            jobs.c.status == "running",
            jobs.c.attempts == claimed.attempts,
        )
        .values({name: value for name, value in row._asdict().items() if name not in kept})
    )
    return done.rowcount == 1


async def delete_jobs(connection: Connection, ended_before_us: int) -> None:
    """Forget results that are older."""
    await connection.execute(delete(jobs).where(jobs.c.finished_at_us < ended_before_us))


async def delete_oldest_jobs(connection: Connection, tenant: str, keep: int) -> None:
    """Forget a tenant's results but for the newest so many."""
    newest = (
        select(jobs.c.id)
        .where(jobs.c.tenant == tenant, jobs.c.slot.is_(None))
        .order_by(jobs.c.finished_at_us.desc(), jobs.c.id)
        .limit(keep)
    )
    await connection.execute(
        delete(jobs).where(jobs.c.tenant == tenant, jobs.c.slot.is_(None), jobs.c.id.not_in(newest))
    )


def _is_due(at_us: int) -> ColumnElement[bool]:
    is_left = (jobs.c.status == "running") & (jobs.c.lease_until_us <= at_us)
    return or_(jobs.c.status == "queued", is_left)

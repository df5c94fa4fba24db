"""Demonstration payments for an empty tenant."""

from fastapi import APIRouter

from app.accounts.routes import list_accounts
from app.db.database import Database
from app.demo.errors import NotEmpty
from app.demo.schemas import DemoLoaded, DemoState
from app.http.authentication import MayAdminister, MayRead
from app.http.keyed import KeyedRoute
from app.http.paging import PageParams
from app.http.parts import RunningDatabase
from app.http.problems import EVERYWHERE, documented
from app.jobs.errors import TooManyJobs
from app.models.routes import RunningJobs
from app.scoring.routes import WRITES

router = APIRouter(
    prefix="/v1/demo",
    tags=["demo"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.get("")
async def read_demo(jobs: RunningJobs, tenant: MayRead) -> DemoState:
    """Whether demonstration payments are being loaded."""
    newest = await jobs.listed(tenant, "demo", "", 1)
    if not newest:
        return DemoState(status="none")
    [job] = newest
    loaded = DemoLoaded.model_validate_json(job.result) if job.result else None
    return DemoState(status=job.status, loaded=loaded)


@router.post("", status_code=202, responses=WRITES | documented(NotEmpty, TooManyJobs))
async def load_demo(
    database: RunningDatabase, jobs: RunningJobs, tenant: MayAdminister
) -> DemoState:
    """Load simulated payments of five weeks that end now, beside requests: those of the last
    week are scored, so that reviews wait. Only where the tenant has no payment."""
    await _check_empty(database, tenant)
    state = await read_demo(jobs, tenant)
    if state.status in ("queued", "running"):
        return state
    await jobs.submit(tenant, "demo", "", 0, "demo.loaded")
    return await read_demo(jobs, tenant)


async def _check_empty(database: Database, tenant: str) -> None:
    if (await list_accounts(database, tenant, PageParams(1, None))).data:
        raise NotEmpty("Demonstration payments are for a tenant that has none of its own.")

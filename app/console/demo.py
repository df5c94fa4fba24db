"""The first run: demonstration payments for an empty service."""

from fastapi import APIRouter, Request, Response

from app.console.viewing import PollRoute, SignedIn, ViewerRoute, go, show
from app.demo.routes import load_demo, read_demo
from app.http.parts import RunningDatabase
from app.models.routes import RunningJobs

router, polling = (
    APIRouter(prefix="/console", include_in_schema=False, route_class=kind)
    for kind in (ViewerRoute, PollRoute)
)


@router.post("/demo")
async def load(
    request: Request, viewer: SignedIn, database: RunningDatabase, jobs: RunningJobs
) -> Response:
    """Begin to load demonstration payments."""
    viewer.caller.check(("admin",))
    await load_demo(database, jobs, viewer.tenant)
    return go(request, "/demo")


@polling.get("/demo")
async def show_progress(request: Request, viewer: SignedIn, jobs: RunningJobs) -> Response:
    """How far that is, as the page asks by itself."""
    return await show(
        request, "demo.html", here="queue", state=await read_demo(jobs, viewer.tenant)
    )

"""People: who may do what; added, given a role, a new link, or removed."""

from collections.abc import Awaitable

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.viewing import SignedIn, ViewerRoute, go, show
from app.db.database import Database
from app.http.parts import RunningDatabase, part_of
from app.people.errors import PersonExists, PersonNotFound
from app.people.routes import (
    add_person,
    list_people,
    remove_person,
    reset_person,
    set_role,
)
from app.people.schemas import InvitedPerson, NewRole, PostedPerson
from app.settings import Settings

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)


@router.get("/people")
async def show_people(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Everybody who may work here, or once might."""
    return await _page(request, database, viewer.tenant)


@router.post("/people")
async def add(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Add a person, and show the link for them, this once."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    fields = {"name": form.get("name", "").strip(), "role": form.get("role")}
    email = form.get("email", "").strip() or None
    posted = browsers.checked(PostedPerson, {**fields, "email": email})
    return await _invited(
        request, database, viewer.tenant, add_person(posted, database, viewer.tenant)
    )


@router.post("/people/reset")
async def reset(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """A new link for somebody, shown this once."""
    viewer.caller.check(("admin",))
    person_id = (await browsers.form_of(request)).get("id", "")
    resetting = reset_person(person_id, database, viewer.tenant)
    return await _invited(request, database, viewer.tenant, resetting)


@router.post("/people/role")
async def give_role(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Say what somebody may do from now on."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    try:
        posted = NewRole.model_validate({"role": form.get("role")})
    except ValidationError:
        raise BadForm(texts.ROLE) from None
    await set_role(form.get("id", ""), posted, database, viewer.tenant)
    return go(request, "/people")


@router.post("/people/remove")
async def remove(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """End what somebody may do."""
    viewer.caller.check(("admin",))
    await remove_person((await browsers.form_of(request)).get("id", ""), database, viewer.tenant)
    return go(request, "/people")


async def _invited(
    request: Request, database: Database, tenant: str, inviting: Awaitable[InvitedPerson]
) -> Response:
    """The page with a link that is shown this once: an address that shows it would be kept."""
    try:
        invited = await inviting
    except (PersonExists, PersonNotFound) as problem:
        return await _page(request, database, tenant, problem.status, error=problem.detail)
    return await _page(request, database, tenant, invited=invited)


async def _page(
    request: Request,
    database: Database,
    tenant: str,
    status: int = 200,
    invited: InvitedPerson | None = None,
    error: str = "",
) -> Response:
    prefix = part_of(request.scope, Settings).prefix
    return await show(
        request,
        "people.html",
        status,
        here="people",
        people=(await list_people(database, tenant)).data,
        invited=invited,
        error=error,
        address=f"{request.url.scheme}://{request.url.netloc}{prefix}",
    )

"""People of the caller's tenant: added, given a role, reset, removed."""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from app.http.authentication import MayAdminister, MayRead
from app.http.fields import MADE_ID
from app.http.keyed import KeyedRoute
from app.http.parts import RunningDatabase, part
from app.http.problems import EVERYWHERE, RateLimited, documented
from app.people import service as people
from app.people.errors import PersonExists, PersonNotFound, TooManyPeople, WrongPassword
from app.people.records import Person
from app.people.schemas import (
    InvitedPerson,
    NewRole,
    PasswordChange,
    PeopleList,
    PersonState,
    PostedPerson,
)
from app.scoring.routes import WRITES
from app.times import text_of

router = APIRouter(
    prefix="/v1/people",
    tags=["people"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningPeople = Annotated[people.People, part(people.People)]
PersonId = Annotated[str, Path(pattern=MADE_ID.pattern, examples=["8d2f41c07ab3"])]


@router.get("")
async def list_people(database: RunningDatabase, tenant: MayRead) -> PeopleList:
    """The tenant's people: who may do what at the console, and whom the audit log means."""
    return PeopleList(data=[_state(row) for row in await people.listed(database, tenant)])


@router.post("", responses=WRITES | documented(PersonExists, TooManyPeople))
async def add_person(
    posted: PostedPerson, database: RunningDatabase, tenant: MayAdminister
) -> InvitedPerson:
    """Add a person; the link by which they choose a password is in this answer alone."""
    return _invited(await people.add(database, tenant, posted.name, posted.role, posted.email))


@router.put("/{person_id}/role", responses=WRITES | documented(PersonNotFound))
async def set_role(
    person_id: PersonId, posted: NewRole, database: RunningDatabase, tenant: MayAdminister
) -> PersonState:
    """Change a person's role, from their next request on."""
    return _state(await people.set_role(database, tenant, person_id, posted.role))


@router.put(
    "/{person_id}/password",
    responses=WRITES | documented(PersonNotFound, WrongPassword, RateLimited),
)
async def change_password(
    person_id: PersonId, posted: PasswordChange, running: RunningPeople, tenant: MayAdminister
) -> PersonState:
    """Change a person's password by the present one; their sessions end, and their links."""
    change = running.change_password(tenant, person_id, posted.password, posted.new_password)
    return _state(await change)


@router.post("/{person_id}/reset", responses=documented(PersonNotFound))
async def reset_person(
    person_id: PersonId, database: RunningDatabase, tenant: MayAdminister
) -> InvitedPerson:
    """Make a new link. Password and sessions end; a removed person is let in again."""
    return _invited(await people.reset(database, tenant, person_id))


@router.delete("/{person_id}", responses=documented(PersonNotFound))
async def remove_person(
    person_id: PersonId, database: RunningDatabase, tenant: MayAdminister
) -> PersonState:
    """Remove a person, at once. Nobody else can ever have the name."""
    return _state(await people.remove(database, tenant, person_id))


def _state(row: Person) -> PersonState:
    return PersonState(**_fields(row))


def _invited(invited: people.Invitation) -> InvitedPerson:
    return InvitedPerson(
        **_fields(invited.person),
        setup_path=f"/console/setup?token={invited.secret}",
        setup_ends_at=text_of(invited.ends_at_us),
    )


def _fields(row: Person) -> dict[str, Any]:
    removed = row.disabled_at_us
    return {
        "id": row.id,
        "name": row.name,
        "email": row.email,
        "role": row.role,
        "state": "removed" if removed else "active" if row.password else "invited",
        "created_at": text_of(row.created_at_us),
        "removed_at": None if removed is None else text_of(removed),
    }

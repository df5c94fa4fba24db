"""People as administrators and colleagues see them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Email, Id
from app.keys.scopes import Role
from app.people.passwords import LONGEST, SHORTEST

PERSON: JsonDict = {
    "id": "8d2f41c07ab3",
    "name": "mia",
    "email": "mia@example.com",
    "role": "analyst",
    "state": "active",
    "created_at": "2026-02-01T00:00:00.000000Z",
    "removed_at": None,
}


class PostedPerson(Body):
    """A person to add."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "mia", "role": "analyst", "email": None}]}
    )

    name: Annotated[Id, Field(description="What their verdicts bear, for good.")]
    role: Role
    email: Email | None = None


class NewRole(Body):
    """What somebody may do from now on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "lead"}]})

    role: Role


class PasswordChange(Body):
    """A person's present password, and the one to have from now on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"password": "correct horse battery", "new_password": "a stapled donkey"}]
        }
    )

    password: Annotated[str, Field(max_length=LONGEST)]
    new_password: Annotated[str, Field(min_length=SHORTEST, max_length=LONGEST)]


class PersonState(BaseModel):
    """A person. The audit log calls them `person:` and the id."""

    model_config = ConfigDict(json_schema_extra={"examples": [PERSON]})

    id: str
    name: str
    email: str | None
    role: Annotated[
        Role,
        Field(
            description="An auditor reads; an analyst labels and decides, too; a lead also manages "
            "thresholds and models; an admin may do everything."
        ),
    ]
    state: Annotated[
        Literal["invited", "active", "removed"],
        Field(description="Invited: without a password so far."),
    ]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    removed_at: str | None


class PeopleList(BaseModel):
    """A tenant's people by name, also those who have been removed."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [PERSON]}]})

    data: list[PersonState]


class InvitedPerson(PersonState):
    """With the link by which they choose a password: it is good once, and shown once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **PERSON,
                    "state": "invited",
                    "setup_path": "/console/setup?token=Swn72…",
                    "setup_ends_at": "2026-02-02T00:00:00.000000Z",
                }
            ]
        }
    )

    setup_path: Annotated[str, Field(description="Below the address of the service.")]
    setup_ends_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]

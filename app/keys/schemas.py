"""API keys as an administrator sees them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Id
from app.keys.scopes import GRACE_HOURS, SCOPES, Scope

KEY: JsonDict = {
    "id": "3c81463f5052",
    "name": "till",
    "scopes": ["score", "read"],
    "created_at": "2026-02-01T00:00:00.000000Z",
    "expires_at": None,
    "last_used_at": "2026-02-03T09:30:00.000000Z",
    "revoked_at": None,
}


class PostedKey(Body):
    """A key to make."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "till", "scopes": ["score", "read"]}]}
    )

    name: Id
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(SCOPES))]


class Rotation(Body):
    """How long the old key is still good, so that nobody is locked out meanwhile."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hours": 24.0}]})

    hours: Annotated[float, Field(default=GRACE_HOURS, ge=0, le=8760, strict=True)]


class ApiKeyState(BaseModel):
    """A key without its secret."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEY]})

    id: str
    name: str
    scopes: list[Scope]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    expires_at: Annotated[str | None, Field(description="Where it has been replaced.")]
    last_used_at: Annotated[str | None, Field(description="To the minute.")]
    revoked_at: str | None


class ApiKeys(BaseModel):
    """A tenant's keys, the oldest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [KEY]}]})

    data: list[ApiKeyState]


class NewKey(BaseModel):
    """A key's text, shown once: it is stored nowhere."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "3c81463f5052", "key": "qs_3c81463f5052_Swn72…"}]}
    )

    id: str
    key: str

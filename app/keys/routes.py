"""API keys of the caller's tenant: made, replaced, ended; who changed what."""

from typing import Annotated

from fastapi import APIRouter, Path

from app.http.authentication import MayAdminister
from app.http.fields import MADE_ID
from app.http.keyed import KeyedRoute
from app.http.parts import RunningDatabase
from app.http.problems import EVERYWHERE, documented
from app.keys import service as keys
from app.keys.errors import KeyNotFound, TooManyKeys
from app.keys.schemas import ApiKeys, ApiKeyState, NewKey, PostedKey, Rotation
from app.keys.scopes import GRACE_HOURS, SCOPES
from app.scoring.routes import WRITES
from app.times import text_of

router = APIRouter(
    prefix="/v1/keys",
    tags=["keys"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
KeyId = Annotated[str, Path(pattern=MADE_ID.pattern, examples=["3c81463f5052"])]


@router.get("")
async def list_keys(database: RunningDatabase, tenant: MayAdminister) -> ApiKeys:
    """The tenant's keys, without their secrets; of many that have ended, the newest alone."""
    return ApiKeys(data=[_state(key) for key in await keys.listed(database, tenant)])


@router.post("", responses=WRITES | documented(TooManyKeys))
async def create_key(posted: PostedKey, database: RunningDatabase, tenant: MayAdminister) -> NewKey:
    """Make a key; its text is in this answer and nowhere else."""
    return _new(await keys.create(database, posted.name, tenant, posted.scopes))


@router.post("/{key_id}/rotate", responses=WRITES | documented(KeyNotFound, TooManyKeys))
async def rotate_key(
    key_id: KeyId,
    database: RunningDatabase,
    tenant: MayAdminister,
    posted: Rotation | None = None,
) -> NewKey:
    """Replace a key by one of the same scopes; the old one is good for some hours more."""
    hours = posted.hours if posted else GRACE_HOURS
    return _new(await keys.rotate(database, key_id, hours, tenant))


@router.delete("/{key_id}", responses=documented(KeyNotFound))
async def revoke_key(key_id: KeyId, database: RunningDatabase, tenant: MayAdminister) -> ApiKeys:
    """Revoke a key; every process refuses it within a second."""
    await keys.revoke(database, key_id, tenant)
    return await list_keys(database, tenant)


def _new(text: str) -> NewKey:
    return NewKey(id=text.split("_")[1], key=text)


def _state(key: keys.ApiKey) -> ApiKeyState:
    times = key.expires_at_us, key.last_used_at_us, key.revoked_at_us
    expires_at, last_used_at, revoked_at = (None if at is None else text_of(at) for at in times)
    return ApiKeyState(
        id=key.id,
        name=key.name,
        scopes=[scope for scope in SCOPES if scope in key.scopes.split()],
        created_at=text_of(key.created_at_us),
        expires_at=expires_at,
        last_used_at=last_used_at,
        revoked_at=revoked_at,
    )

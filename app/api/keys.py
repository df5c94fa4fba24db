"""API keys of the caller's tenant: made, replaced, ended; who changed what."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app import keys, store
from app.api.authentication import MayAdminister, MayRead, RunningService
from app.api.keyed import KeyedRoute
from app.api.pages import BY_TIME, Paging
from app.api.transactions import WRITES
from app.audit import Action, Entry
from app.errors import EVERYWHERE, KeyNotFound, documented
from app.schemas.fields import Id
from app.schemas.keys import ApiKeys, ApiKeyState, NewKey, PostedKey, Rotation
from app.schemas.log import LogEntry
from app.schemas.pages import Page
from app.scopes import GRACE_HOURS, SCOPES
from app.store import EntryFilters
from app.times import text_of

router = APIRouter(
    prefix="/v1",
    tags=["keys"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
KeyId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", examples=["3c81463f5052"])]


@router.get("/keys")
async def list_keys(service: RunningService, tenant: MayAdminister) -> ApiKeys:
    """The tenant's keys, without their secrets."""
    return ApiKeys(data=[_state(key) for key in await keys.listed(service.database, tenant)])


@router.post("/keys", responses=WRITES)
async def create_key(posted: PostedKey, service: RunningService, tenant: MayAdminister) -> NewKey:
    """Make a key; its text is in this answer and nowhere else."""
    return _new(await keys.create(service.database, posted.name, tenant, posted.scopes))


@router.post("/keys/{key_id}/rotate", responses={**WRITES, **documented(KeyNotFound)})
async def rotate_key(
    key_id: KeyId,
    service: RunningService,
    tenant: MayAdminister,
    posted: Rotation | None = None,
) -> NewKey:
    """Replace a key by one of the same scopes; the old one is good for some hours more."""
    hours = posted.hours if posted else GRACE_HOURS
    return _new(await keys.rotate(service.database, key_id, hours, tenant))


@router.delete("/keys/{key_id}", responses=documented(KeyNotFound))
async def revoke_key(key_id: KeyId, service: RunningService, tenant: MayAdminister) -> ApiKeys:
    """End a key, at once but for the second that a process may remember it."""
    await keys.revoke(service.database, key_id, tenant)
    return await list_keys(service, tenant)


@router.get("/audit-log")
async def read_audit_log(
    service: RunningService,
    tenant: MayRead,
    paging: Paging,
    action: Annotated[Action | None, Query(description="Changes of this kind only.")] = None,
    subject: Annotated[Id | None, Query(description="Of this transaction, key or model.")] = None,
    account_id: Annotated[Id | None, Query(description="Of this account's labels only.")] = None,
    actor: Annotated[Id | None, Query(description="By this key only.")] = None,
) -> Page[LogEntry]:
    """Every change of a label, a threshold, a key or a model, the newest first."""
    filters = EntryFilters(subject, account_id, actor, action)
    after = paging.after(BY_TIME, "audit-log", *filters)
    async with service.database.read() as connection:
        found = await store.listed_entries(connection, tenant, filters, after, paging.limit + 1)
        return await paging.page(
            found, _entry, lambda row: (row.at_us, row.id), "audit-log", *filters
        )


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


def _entry(row: Entry) -> LogEntry:
    return LogEntry(
        at=text_of(row.at_us),
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        account_id=row.account_id,
        before=json.loads(row.before) if row.before else None,
        after=json.loads(row.after) if row.after else None,
    )

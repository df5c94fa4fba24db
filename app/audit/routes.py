"""The audit log: who changed what, and when."""

import json
from typing import Annotated

from fastapi import APIRouter, Query

from app.audit import store as audit_store
from app.audit.entries import Action, Entry
from app.audit.schemas import LogEntry
from app.audit.store import EntryFilters
from app.http.authentication import MayRead
from app.http.fields import Id
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_TIME, Paging
from app.http.parts import RunningDatabase
from app.http.problems import EVERYWHERE, documented
from app.times import text_of

router = APIRouter(
    prefix="/v1",
    tags=["keys"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.get("/audit-log")
async def read_audit_log(
    database: RunningDatabase,
    tenant: MayRead,
    paging: Paging,
    action: Annotated[Action | None, Query(description="Changes of this kind only.")] = None,
    subject: Annotated[Id | None, Query(description="Of this transaction, key or model.")] = None,
    account_id: Annotated[Id | None, Query(description="Of this account only.")] = None,
    actor: Annotated[Id | None, Query(description="By this key only.")] = None,
) -> Page[LogEntry]:
    """Every change of a label, a status, a threshold, a key, a webhook or a model, the newest
    first."""
    filters = EntryFilters(subject, account_id, actor, action)
    listed = paging.of(BY_TIME, "audit-log", *filters)
    async with database.read() as connection:
        found = await audit_store.listed_entries(
            connection, tenant, filters, listed.after, listed.rows
        )
        return await listed.page(found, _entry, lambda row: (row.at_us, row.id))


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

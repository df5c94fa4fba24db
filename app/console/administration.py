"""Keys, webhooks and the audit log: listed, made, replaced, ended."""

from collections.abc import Mapping, Sequence
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from app.audit.entries import Action
from app.audit.routes import read_audit_log
from app.console import browsers, texts
from app.console.browsers import BadForm
from app.console.records import Viewer
from app.console.viewing import Cursor, SignedIn, ViewerRoute, go, show
from app.http.fields import Id
from app.http.paging import PageParams
from app.http.parts import RunningDatabase
from app.keys.routes import create_key, list_keys, revoke_key, rotate_key
from app.keys.schemas import PostedKey
from app.keys.scopes import SCOPES
from app.webhooks.routes import (
    RunningWebhooks,
    create_webhook,
    enable_webhook,
    list_messages,
    list_webhooks,
    remove_webhook,
    rotate_webhook,
)
from app.webhooks.schemas import PostedWebhook
from app.webhooks.service import EVENTS

router = APIRouter(prefix="/console", include_in_schema=False, route_class=ViewerRoute)

ENTRIES = 50
# An empty field of a form is no filter.
Wanted = Annotated[str | None, Query(max_length=128)]


@router.get("/keys")
async def show_keys(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """The tenant's keys."""
    return await _keys(request, viewer, database, None)


@router.post("/keys")
async def add_key(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Make a key: the answer shows it, and nothing else ever does."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    scopes = _ticked(form, SCOPES, texts.NO_SCOPES)
    body = browsers.checked(PostedKey, {"name": form.get("name", "").strip(), "scopes": scopes})
    new = await create_key(body, database, viewer.tenant)
    return await _keys(request, viewer, database, new.key)


@router.post("/keys/rotate")
async def replace_key(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """Replace a key; the old one is good for a day more."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    key_id = browsers.id_in(form, "id", texts.KEYS_PAGE)
    new = await rotate_key(key_id, database, viewer.tenant)
    return await _keys(request, viewer, database, new.key)


@router.post("/keys/revoke")
async def end_key(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """End a key."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    await revoke_key(browsers.id_in(form, "id", texts.KEYS_PAGE), database, viewer.tenant)
    return go(request, "/keys")


@router.get("/webhooks")
async def show_webhooks(request: Request, viewer: SignedIn, database: RunningDatabase) -> Response:
    """The tenant's webhooks, and what has not reached them."""
    return await _webhooks(request, viewer, database, None)


@router.post("/webhooks")
async def add_webhook(
    request: Request, viewer: SignedIn, database: RunningDatabase, webhooks: RunningWebhooks
) -> Response:
    """Send events somewhere; the answer shows the secret."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    events = _ticked(form, EVENTS, texts.NO_EVENTS)
    body = browsers.checked(PostedWebhook, {"url": form.get("url", "").strip(), "events": events})
    new = await create_webhook(body, webhooks, viewer.tenant)
    return await _webhooks(request, viewer, database, new.secret)


@router.post("/webhooks/rotate")
async def replace_secret(
    request: Request, viewer: SignedIn, database: RunningDatabase, webhooks: RunningWebhooks
) -> Response:
    """Give a webhook a new secret; for a day the old one signs, too."""
    viewer.caller.check(("admin",))
    form = await browsers.form_of(request)
    new = await rotate_webhook(_webhook_in(form), webhooks, viewer.tenant)
    return await _webhooks(request, viewer, database, new.secret)


@router.post("/webhooks/enable")
async def deliver_again(request: Request, viewer: SignedIn, webhooks: RunningWebhooks) -> Response:
    """Deliver what has waited, at once."""
    viewer.caller.check(("admin",))
    await enable_webhook(_webhook_in(await browsers.form_of(request)), webhooks, viewer.tenant)
    return go(request, "/webhooks")


@router.post("/webhooks/remove")
async def forget_webhook(
    request: Request, viewer: SignedIn, database: RunningDatabase, webhooks: RunningWebhooks
) -> Response:
    """Forget a webhook, and what was to be sent to it."""
    viewer.caller.check(("admin",))
    webhook_id = _webhook_in(await browsers.form_of(request))
    await remove_webhook(webhook_id, webhooks, database, viewer.tenant)
    return go(request, "/webhooks")


@router.get("/audit")
async def show_audit_log(
    request: Request,
    viewer: SignedIn,
    database: RunningDatabase,
    action: Wanted = None,
    subject: Wanted = None,
    account_id: Wanted = None,
    actor: Wanted = None,
    cursor: Cursor = None,
) -> Response:
    """Who changed what."""
    if action and action not in get_args(Action):
        raise BadForm(texts.NO_ACTION)
    filters = {
        "action": action or None,
        "subject": _id_or_none(subject, texts.SUBJECT),
        "account_id": _id_or_none(account_id, texts.ACCOUNT),
        "actor": _id_or_none(actor, texts.ACTOR),
    }
    paging = PageParams(ENTRIES, cursor)
    log = await read_audit_log(database, viewer.tenant, paging, **filters)  # type: ignore[arg-type]
    return await show(
        request, "audit.html", here="audit", log=log, filters=filters, actions=get_args(Action)
    )


async def _keys(
    request: Request, viewer: Viewer, database: RunningDatabase, new: str | None
) -> Response:
    viewer.caller.check(("admin",))
    listed = await list_keys(database, viewer.tenant)
    return await show(
        request, "api_keys.html", here="keys", keys=listed.data, scopes=SCOPES, new=new
    )


async def _webhooks(
    request: Request, viewer: Viewer, database: RunningDatabase, new: str | None
) -> Response:
    viewer.caller.check(("admin",))
    listed = (await list_webhooks(database, viewer.tenant)).data
    waiting = {
        webhook.id: (await list_messages(webhook.id, database, viewer.tenant)).data
        for webhook in listed
    }
    return await show(
        request,
        "webhooks.html",
        here="webhooks",
        webhooks=listed,
        waiting=waiting,
        events=EVENTS,
        new=new,
    )


def _ticked(form: Mapping[str, str], names: Sequence[str], problem: str) -> list[str]:
    """Which of these boxes are ticked: some, or BadForm."""
    found = [name for name in names if f"tick-{name}" in form]
    if not found:
        raise BadForm(problem)
    return found


def _webhook_in(form: Mapping[str, str]) -> str:
    return browsers.id_in(form, "id", texts.WEBHOOKS)


def _id_or_none(text: str | None, title: str) -> Id | None:
    """What is filled in, if anything is; raises BadForm."""
    return browsers.id_in({title: text}, title, title) if text and text.strip() else None

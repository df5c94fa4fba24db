"""Webhooks: registered, given new secrets, removed; and what has not arrived."""

import json
from typing import Annotated

from fastapi import APIRouter, Path

from app.http.authentication import MayAdminister
from app.http.fields import MADE_ID
from app.http.keyed import KeyedRoute
from app.http.parts import RunningDatabase, part
from app.http.problems import EVERYWHERE, documented
from app.scoring.routes import WRITES
from app.times import text_of
from app.webhooks import store as webhook_store
from app.webhooks.errors import TooManyWebhooks, WebhookNotFound
from app.webhooks.records import Message, Webhook
from app.webhooks.schemas import (
    NewWebhook,
    PostedWebhook,
    WaitingMessage,
    WaitingMessages,
    WebhookList,
    WebhookState,
)
from app.webhooks.service import EVENTS, Webhooks

router = APIRouter(
    prefix="/v1/webhooks",
    tags=["webhooks"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
WebhookId = Annotated[str, Path(pattern=MADE_ID.pattern, examples=["5f0c9d2e1a7b"])]
RunningWebhooks = Annotated[Webhooks, part(Webhooks)]
SHOWN = 100


@router.get("")
async def list_webhooks(database: RunningDatabase, tenant: MayAdminister) -> WebhookList:
    """The tenant's webhooks, without their secrets."""
    async with database.read() as connection:
        found = await webhook_store.webhooks(connection, tenant)
    return WebhookList(data=[_state(row) for row in found])


@router.post("", responses=WRITES | documented(TooManyWebhooks))
async def create_webhook(
    posted: PostedWebhook, webhooks: RunningWebhooks, tenant: MayAdminister
) -> NewWebhook:
    """Receive events from now on; the secret is in this answer and nowhere else."""
    return _new(await webhooks.register(tenant, posted.url, posted.events))


@router.post("/{webhook_id}/rotate", responses=documented(WebhookNotFound))
async def rotate_webhook(
    webhook_id: WebhookId, webhooks: RunningWebhooks, tenant: MayAdminister
) -> NewWebhook:
    """Give it a new secret; for a day the old one signs beside it."""
    return _new(await webhooks.rotate(tenant, webhook_id))


@router.post("/{webhook_id}/enable", responses=documented(WebhookNotFound))
async def enable_webhook(
    webhook_id: WebhookId, webhooks: RunningWebhooks, tenant: MayAdminister
) -> WebhookState:
    """Deliver to it again after its receiver disabled or paused it: first what has waited."""
    return _state(await webhooks.enable(tenant, webhook_id))


@router.delete("/{webhook_id}", responses=documented(WebhookNotFound))
async def remove_webhook(
    webhook_id: WebhookId,
    webhooks: RunningWebhooks,
    database: RunningDatabase,
    tenant: MayAdminister,
) -> WebhookList:
    """Remove a webhook, and what is still to be delivered to it."""
    await webhooks.remove(tenant, webhook_id)
    return await list_webhooks(database, tenant)


@router.get("/{webhook_id}/messages", responses=documented(WebhookNotFound))
async def list_messages(
    webhook_id: WebhookId, database: RunningDatabase, tenant: MayAdminister
) -> WaitingMessages:
    """What has not arrived yet, or is no longer tried, and why."""
    async with database.read() as connection:
        webhook = await webhook_store.webhook(connection, tenant, webhook_id)
        if webhook is None:
            raise WebhookNotFound(f"There is no webhook {webhook_id!r}.")
        found = await webhook_store.waiting(connection, tenant, webhook_id, SHOWN)
    return WaitingMessages(data=[_message(webhook, message) for message in found])


def _state(row: Webhook) -> WebhookState:
    return WebhookState(
        id=row.id,
        url=row.url,
        events=[event for event in EVENTS if event in row.events.split()],
        created_at=text_of(row.created_at_us),
        disabled_at=None if row.disabled_at_us is None else text_of(row.disabled_at_us),
        disabled_reason=row.disabled_reason,
    )


def _new(row: Webhook) -> NewWebhook:
    return NewWebhook(**_state(row).model_dump(), secret=row.secret)


def _message(webhook: Webhook, row: Message) -> WaitingMessage:
    next_at = None
    if row.next_at_us is not None and webhook.disabled_at_us is None:
        next_at = text_of(max(row.next_at_us, webhook.paused_until_us or 0))
    return WaitingMessage.model_validate(
        {
            "id": row.id,
            "event": row.event,
            "created_at": text_of(row.created_at_us),
            "attempts": row.attempts,
            "next_attempt_at": next_at,
            "last_error": row.last_error,
            "body": json.loads(row.body),
        }
    )

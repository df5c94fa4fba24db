"""Webhooks and their outbox."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, delete, func, or_, select, update

from app.db.connection import Connection
from app.db.schema import outbox
from app.db.schema import webhooks as table
from app.db.statements import columns
from app.times import now_us, text_of
from app.webhooks.records import Message, Webhook
from app.webhooks.schemas import Event

# What has happened, and its facts.
News = tuple[Event, Mapping[str, Any]]

_WEBHOOKS = (
    select(*columns(table, Webhook))
    .where(table.c.tenant == bindparam("of_tenant"))
    .order_by(table.c.created_at_us, table.c.id)
)
_IS_WAITING = outbox.c.next_at_us.is_not(None)


class Due(NamedTuple):
    """A webhook that has messages to be delivered now, and since when."""

    tenant: str
    webhook_id: str
    since_us: int


class Claim(NamedTuple):
    """Messages that nobody else delivers meanwhile; their webhook is None where it was removed."""

    webhook: Webhook | None
    messages: list[Message]


async def webhooks(connection: Connection, tenant: str) -> list[Webhook]:
    """A tenant's, the oldest first."""
    return await connection.fetch(Webhook._make, _WEBHOOKS, tenant)


async def webhook(
    connection: Connection, tenant: str, webhook_id: str, locked: bool = False
) -> Webhook | None:
    """One of them; `locked` keeps others from changing it until the transaction ends."""
    query = select(*columns(table, Webhook)).where(
        table.c.tenant == tenant, table.c.id == webhook_id
    )
    if locked:
        query = query.with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return Webhook._make(row) if row else None


async def save_webhook(connection: Connection, row: Webhook) -> None:
    """Insert or overwrite."""
    await connection.write_rows(table, [row], ("tenant", "id"))


async def change_webhook(
    connection: Connection, tenant: str, webhook_id: str, **values: Any
) -> None:
    """Set these columns of it, where it is there."""
    change = update(table).where(table.c.tenant == tenant, table.c.id == webhook_id)
    await connection.execute(change.values(**values))


async def delete_webhook(connection: Connection, tenant: str, webhook_id: str) -> None:
    """Delete it with its messages."""
    await connection.execute(
        delete(outbox).where(outbox.c.tenant == tenant, outbox.c.webhook_id == webhook_id)
    )
    await connection.execute(
        delete(table).where(table.c.tenant == tenant, table.c.id == webhook_id)
    )


async def announce(connection: Connection, tenant: str, news: Sequence[News]) -> None:
    """Queue a message for each piece of news, to every webhook that wants to know of its event.

    An `account_id` in it is erased with its account.
    """
    if not news:
        return
    enabled = [
        webhook for webhook in await webhooks(connection, tenant) if webhook.disabled_at_us is None
    ]
    messages = []
    # A time for each, by which they can be distinguished and put in order.
    for at_us, (event, data) in enumerate(news, now_us()):
        interested = [webhook for webhook in enabled if event in webhook.events.split()]
        if not interested:
            continue
        body = json.dumps({"type": event, "timestamp": text_of(at_us), "data": data})
        account_id = data.get("account_id")
        messages += [
            Message(
                f"msg_{secrets.token_hex(12)}",
                tenant,
                webhook.id,
                event,
                account_id,
                at_us,
                body,
                next_at_us=at_us,
            )
            for webhook in interested
        ]
    await _add_messages(connection, messages)


async def _add_messages(connection: Connection, rows: Iterable[Message]) -> None:
    """Insert new messages."""
    await connection.write_rows(outbox, rows)


async def due(connection: Connection, at_us: int) -> list[Due]:
    """The webhooks that have messages to be delivered now, the disabled and paused left out.

    A webhook that was removed is among them where it still has messages.
    """
    # From one webhook to the next in the index, however many messages wait for each.
    first = select(func.min(outbox.c.webhook_id).label("id")).where(_IS_WAITING)
    walk = first.cte("walk", recursive=True)
    following = select(func.min(outbox.c.webhook_id)).where(
        outbox.c.webhook_id > walk.c.id, _IS_WAITING
    )
    walk = walk.union_all(select(following.scalar_subquery()).where(walk.c.id.is_not(None)))
    tenant = (
        select(outbox.c.tenant)
        .where(outbox.c.webhook_id == walk.c.id, outbox.c.next_at_us <= at_us)
        .order_by(outbox.c.next_at_us)
        .limit(1)
        .scalar_subquery()
    )
    since = (
        select(func.min(outbox.c.next_at_us))
        .where(outbox.c.webhook_id == walk.c.id, _IS_WAITING)
        .scalar_subquery()
    )
    found = select(
        tenant.label("tenant"), walk.c.id.label("id"), since.label("since_us")
    ).subquery()
    is_its = and_(table.c.tenant == found.c.tenant, table.c.id == found.c.id)
    query = (
        select(found.c.tenant, found.c.id, found.c.since_us)
        .outerjoin_from(found, table, is_its)
        # Of a webhook that was removed all of these are null, too.
        .where(
            found.c.tenant.is_not(None),
            table.c.disabled_at_us.is_(None),
            or_(table.c.paused_until_us.is_(None), table.c.paused_until_us <= at_us),
        )
    )
    return await connection.read(Due._make, query)


async def claim(
    connection: Connection, chosen: Iterable[Due], at_us: int, until_us: int, limit: int
) -> list[Claim]:
    """Up to `limit` messages of each of these webhooks that are due, the oldest first.

    Nobody else gets them before `until_us`.
    """
    claims = []
    for due in chosen:
        query = (
            select(*columns(outbox, Message))
            .where(outbox.c.webhook_id == due.webhook_id, outbox.c.next_at_us <= at_us)
            .order_by(outbox.c.next_at_us)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        messages = await connection.read(Message._make, query)
        if messages:
            found = await webhook(connection, due.tenant, due.webhook_id)
            claims.append(Claim(found, messages))
    ids = [message.id for claim in claims for message in claim.messages]
    if ids:
        leased = update(outbox).where(outbox.c.id.in_(ids))
        await connection.execute(leased.values(next_at_us=until_us))
    return claims


async def delete_messages(connection: Connection, ids: Iterable[str]) -> None:
    """They have arrived, or nobody wants them any more."""
    await connection.execute(delete(outbox).where(outbox.c.id.in_(list(ids))))


async def change_message(connection: Connection, row: Message) -> None:
    """Note an attempt, unless the message has been erased meanwhile."""
    change = update(outbox).where(outbox.c.id == row.id)
    await connection.execute(
        change.values(attempts=row.attempts, next_at_us=row.next_at_us, last_error=row.last_error)
    )


async def waiting(
    connection: Connection, tenant: str, webhook_id: str, limit: int
) -> list[Message]:
    """What has not arrived yet, or was given up, the oldest first."""
    query = (
        select(*columns(outbox, Message))
        .where(outbox.c.tenant == tenant, outbox.c.webhook_id == webhook_id)
        .order_by(outbox.c.created_at_us, outbox.c.id)
        .limit(limit)
    )
    return await connection.read(Message._make, query)


async def erase_messages(connection: Connection, tenant: str, account_id: str) -> None:
    """Delete the events of an account that are still to be delivered."""
    await connection.execute(
        delete(outbox).where(outbox.c.tenant == tenant, outbox.c.account_id == account_id)
    )

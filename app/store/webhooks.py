"""Webhooks and their outbox."""

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rows import Message, Webhook
from app.store.statements import ask, columns, read, save
from app.tables import outbox
from app.tables import webhooks as table

_WEBHOOKS = (
    select(*columns(table, Webhook))
    .where(table.c.tenant == bindparam("of_tenant"))
    .order_by(table.c.created_at_us, table.c.id)
)


async def webhooks(connection: AsyncConnection, tenant: str) -> list[Webhook]:
    """A tenant's, the oldest first."""
    return await ask(connection, Webhook._make, _WEBHOOKS, tenant)


async def webhook(connection: AsyncConnection, tenant: str, webhook_id: str) -> Webhook | None:
    """One of them."""
    query = select(*columns(table, Webhook)).where(
        table.c.tenant == tenant, table.c.id == webhook_id
    )
    row = (await connection.execute(query)).one_or_none()
    return Webhook._make(row) if row else None


async def save_webhook(connection: AsyncConnection, row: Webhook) -> None:
    """Insert or overwrite."""
    await save(connection, table, ("tenant", "id"), [row])


async def delete_webhook(connection: AsyncConnection, tenant: str, webhook_id: str) -> bool:
    """Delete it with its messages; whether it was there."""
    await connection.execute(
        delete(outbox).where(outbox.c.tenant == tenant, outbox.c.webhook_id == webhook_id)
    )
    done = await connection.execute(
        delete(table).where(table.c.tenant == tenant, table.c.id == webhook_id)
    )
    return done.rowcount > 0


async def save_messages(connection: AsyncConnection, rows: Iterable[Message]) -> None:
    """Insert or overwrite messages."""
    await save(connection, outbox, ("id",), rows)


async def any_due(connection: AsyncConnection, at_us: int) -> bool:
    """Whether a message waits for its delivery."""
    query = select(outbox.c.id).where(outbox.c.next_at_us <= at_us).limit(1)
    return (await connection.execute(query)).first() is not None


async def claim(
    connection: AsyncConnection, at_us: int, until_us: int, limit: int
) -> list[Message]:
    """Messages that are due, the oldest first; nobody else gets them before `until_us`."""
    query = (
        select(*columns(outbox, Message))
        .where(outbox.c.next_at_us <= at_us)
        .order_by(outbox.c.next_at_us)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = await read(connection, Message._make, query)
    if rows:
        change = update(outbox).where(outbox.c.id.in_([row.id for row in rows]))
        await connection.execute(change.values(next_at_us=until_us))
    return rows


async def delete_message(connection: AsyncConnection, message_id: str) -> None:
    """It has arrived."""
    await connection.execute(delete(outbox).where(outbox.c.id == message_id))


async def waiting(
    connection: AsyncConnection, tenant: str, webhook_id: str, limit: int
) -> list[Message]:
    """What has not arrived yet, or was given up, the oldest first."""
    query = (
        select(*columns(outbox, Message))
        .where(outbox.c.tenant == tenant, outbox.c.webhook_id == webhook_id)
        .order_by(outbox.c.created_at_us, outbox.c.id)
        .limit(limit)
    )
    return await read(connection, Message._make, query)


async def erase_messages(connection: AsyncConnection, tenant: str, account_id: str) -> None:
    """Delete what would still be told of an account."""
    await connection.execute(
        delete(outbox).where(outbox.c.tenant == tenant, outbox.c.account_id == account_id)
    )

"""The audit log: added to, read by page, erased with an account."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.audit import Entry
from app.store.pages import page
from app.store.statements import add, ask, columns, read
from app.tables import audit_log


class EntryFilters(NamedTuple):
    """Of which entries a list consists; None does not filter."""

    action: str | None = None
    subject: str | None = None
    account_id: str | None = None
    actor: str | None = None


# What rolling back does to each label is one change together, which has an entry of its own.
_CHANGES = (
    select(audit_log.c.at_us)
    .where(
        audit_log.c.tenant == bindparam("of_tenant"),
        audit_log.c.account_id == bindparam("of_account"),
        audit_log.c.actor == bindparam("by"),
        audit_log.c.at_us > bindparam("since_us"),
        audit_log.c.action != "label.rolled_back",
    )
    .order_by(audit_log.c.at_us.desc())
    .limit(1)
    .offset(bindparam("rank"))
)


async def save_entries(connection: AsyncConnection, entries: Iterable[Entry]) -> None:
    """Add to the log."""
    await add(connection, audit_log, entries)


async def listed_entries(
    connection: AsyncConnection,
    tenant: str,
    filters: EntryFilters,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> list[Entry]:
    """A tenant's entries, the newest first."""
    query = select(*columns(audit_log, Entry)).where(audit_log.c.tenant == tenant)
    for name, value in filters._asdict().items():
        if value is not None:
            query = query.where(audit_log.c[name] == value)
    chosen = page(query, [audit_log.c.at_us, audit_log.c.id], after, limit, descending=True)
    return await read(connection, Entry._make, chosen)


async def change_of_rank(
    connection: AsyncConnection, tenant: str, account_id: str, by: str, since_us: int, rank: int
) -> int | None:
    """When this actor made its newest change (rank 0) of an account's labels, or one before it.

    None where there are not so many since then.
    """
    given: dict[str, Any] = {"of_account": account_id, "by": by, "since_us": since_us, "rank": rank}
    found = await ask(connection, tuple[int], _CHANGES, tenant, **given)
    return found[0][0] if found else None


async def erase_entries(connection: AsyncConnection, tenant: str, account_id: str) -> None:
    """Delete what the log says of an account."""
    await connection.execute(
        delete(audit_log).where(audit_log.c.tenant == tenant, audit_log.c.account_id == account_id)
    )

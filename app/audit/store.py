"""The audit log: added to, read by page, erased with an account."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, or_, select

from app.audit.entries import Entry
from app.db.connection import Connection
from app.db.pages import Part, read_page, unserved
from app.db.schema import audit_log
from app.db.statements import columns


class EntryFilters(NamedTuple):
    """Of which entries a list consists; None does not filter. The fewest have the first."""

    subject: str | None = None
    account_id: str | None = None
    actor: str | None = None
    action: str | None = None


# What rolling back does to each label is one change together, which has an entry of its own. What
# becomes of reviews, and of payments, is no change of labels.
_OF_LABELS = ("label.set", "label.removed", "account.rolled_back")
_CHANGES = (
    select(audit_log.c.at_us)
    .where(
        audit_log.c.tenant == bindparam("of_tenant"),
        audit_log.c.account_id == bindparam("of_account"),
        audit_log.c.actor == bindparam("by"),
        audit_log.c.at_us > bindparam("since_us"),
        or_(*(audit_log.c.action == action for action in _OF_LABELS)),
    )
    .order_by(audit_log.c.at_us.desc())
    .limit(1)
    .offset(bindparam("rank"))
)


async def save_entries(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add to the log."""
    await connection.write_rows(audit_log, entries)


async def listed_entries(
    connection: Connection,
    tenant: str,
    filters: EntryFilters,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[Entry]:
    """A tenant's entries, the newest first."""
    order = [audit_log.c.at_us, audit_log.c.id]
    wanted = [
        (audit_log.c[name], value) for name, value in filters._asdict().items() if value is not None
    ]
    # There is an index for each filter; of several, that of the first leaves the fewest.
    served = [audit_log.c.tenant == tenant, *(column == value for column, value in wanted[:1])]
    others = [unserved(*condition) for condition in wanted[1:]]
    query = select(*columns(audit_log, Entry)).where(*served, *others)
    walked = select(*order).where(*served) if others else None
    return await read_page(
        connection, Entry._make, query, order, after, limit, descending=True, walked=walked
    )


async def change_of_rank(
    connection: Connection, tenant: str, account_id: str, by: str, since_us: int, rank: int
) -> int | None:
    """When this actor made its newest change (rank 0) of an account's labels, or one before it.

    None where there are not so many since then.
    """
    counted: dict[str, Any] = {"of_account": account_id, "by": by, "since_us": since_us}
    found = await connection.fetch(tuple[int], _CHANGES, tenant, rank=rank, **counted)
    return found[0][0] if found else None


async def erase_entries(
    connection: Connection, tenant: str, account_id: str, most: int | None = None
) -> bool:
    """Delete what the log says of an account, or about so many of the oldest entries.

    Returns whether there may be more.
    """
    of_account = audit_log.c.tenant == tenant, audit_log.c.account_id == account_id
    until_us = None
    if most is not None:
        # Entries of one moment go together.
        time_us = select(audit_log.c.at_us).where(*of_account).order_by(audit_log.c.at_us)
        found = await connection.execute(time_us.offset(most - 1).limit(1))
        until_us = found.scalar_one_or_none()
    until = [] if until_us is None else [audit_log.c.at_us <= until_us]
    await connection.execute(delete(audit_log).where(*of_account, *until))
    return until_us is not None


async def pruned_before(connection: Connection, tenant: str) -> str | None:
    """Before when payments of the tenant were last pruned, if ever."""
    filters = EntryFilters(action="payments.pruned")
    rows = (await listed_entries(connection, tenant, filters, None, 1)).rows
    return json.loads(rows[0].after or "{}").get("before") if rows else None

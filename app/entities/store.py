"""Entities and their links with accounts: read by page, and counted."""

from typing import NamedTuple

from sqlalchemy import bindparam, func, select

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import label_entities, labels, links
from app.db.statements import by_key, columns
from app.entities.states import Link

# Where more accounts or labels than these share an entity, a count ends: a few milliseconds each.
MOST_COUNTED, MOST_COUNTED_OF_EACH = 10_000, 1_000


class SharedLink(NamedTuple):
    """A link, and how many accounts have used the entity, as far as they are counted."""

    tenant: str
    kind: str
    entity_id: str
    account_id: str
    first_use_us: int
    accounts: int


class Evidence(NamedTuple):
    """How many matured labels an entity has, and how many of them say fraud."""

    labels: int
    frauds: int


_USER = links.alias("user")
# The accounts that have used an entity.
USERS = select(links.c.account_id).where(
    links.c.tenant == bindparam("of_tenant"),
    links.c.kind == bindparam("of_kind"),
    links.c.entity_id == bindparam("of_id"),
)
_COUNT = select(func.count()).select_from(USERS.limit(MOST_COUNTED).subquery())
_USERS_OF_EACH = (
    select(_USER.c.account_id)
    .where(*(_USER.c[name] == links.c[name] for name in ("tenant", "kind", "entity_id")))
    .limit(MOST_COUNTED_OF_EACH)
    .correlate(links)
    .subquery()
)
_COUNT_OF_EACH = select(func.count()).select_from(_USERS_OF_EACH).correlate(links)
_MATURED = (
    select(labels.c.is_fraud)
    .select_from(
        label_entities.join(
            labels,
            by_key(labels, label_entities, "transaction_id"),
        )
    )
    .where(
        label_entities.c.tenant == bindparam("of_tenant"),
        label_entities.c.kind == bindparam("of_kind"),
        label_entities.c.entity_id == bindparam("of_id"),
        label_entities.c.folded.is_not(None),
        label_entities.c.matures_at_us <= bindparam("by_us"),
    )
    .limit(MOST_COUNTED)
)


async def links_of_account(
    connection: Connection,
    tenant: str,
    account_id: str,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[SharedLink]:
    """What an account has used, in the order of kinds and ids.

    Of each, MOST_COUNTED_OF_EACH accounts are counted at most.
    """
    query = select(*columns(links, Link), _COUNT_OF_EACH.scalar_subquery()).where(
        links.c.tenant == tenant, links.c.account_id == account_id
    )
    order = [links.c.kind, links.c.entity_id]
    return await read_page(connection, SharedLink._make, query, order, after, limit)


async def links_of_entity(
    connection: Connection,
    tenant: str,
    kind: str,
    entity_id: str,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[Link]:
    """Who has used an entity, in the order of the accounts' ids."""
    query = select(*columns(links, Link)).where(
        links.c.tenant == tenant, links.c.kind == kind, links.c.entity_id == entity_id
    )
    return await read_page(connection, Link._make, query, [links.c.account_id], after, limit)


async def users(connection: Connection, tenant: str, kind: str, entity_id: str) -> int:
    """How many accounts have used an entity, MOST_COUNTED at most."""
    [(count,)] = await connection.fetch(tuple[int], _COUNT, tenant, of_kind=kind, of_id=entity_id)
    return count


async def evidence(
    connection: Connection, tenant: str, kind: str, entity_id: str, by_us: int
) -> Evidence:
    """The labels of an entity that matured by then, MOST_COUNTED at most."""
    rows = await connection.fetch(
        tuple[bool], _MATURED, tenant, of_kind=kind, of_id=entity_id, by_us=by_us
    )
    return Evidence(len(rows), sum(is_fraud for (is_fraud,) in rows))

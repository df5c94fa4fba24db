"""Entities and links as scores and labels change them: locked and saved.

Entities are locked in the order of kinds and ids, after accounts. A link has no lock of its own:
who writes it has locked its account.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, delete, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.schema import entities, links
from app.db.statements import IsWanted, alter, ask, columns, lock, save
from app.entities.records import EntityKey, EntityState, Link, LinkKey

_ENTITIES = select(*columns(entities, EntityState)).where(
    entities.c.tenant == bindparam("of_tenant"), IsWanted(entities.c.kind, entities.c.entity_id)
)
_LINKS = select(*columns(links, Link)).where(
    links.c.tenant == bindparam("of_tenant"),
    IsWanted(links.c.kind, links.c.entity_id, links.c.account_id),
)
_USED = select(links.c.kind, links.c.entity_id).where(
    links.c.tenant == bindparam("of_tenant"), links.c.account_id == bindparam("of_account")
)
_USERS = (
    select(links.c.account_id)
    .where(
        links.c.tenant == bindparam("of_tenant"),
        IsWanted(links.c.kind, links.c.entity_id),
        links.c.account_id != bindparam("of_account"),
    )
    .distinct()
    .limit(bindparam("most"))
)
_UNUSED = delete(entities).where(
    entities.c.tenant == bindparam("of_tenant"),
    IsWanted(entities.c.kind, entities.c.entity_id),
    ~exists().where(
        *(links.c[name] == entities.c[name] for name in ("tenant", "kind", "entity_id"))
    ),
)


async def lock_entities(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, EntityState]:
    """These entities, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(keys))
    found = {row.key: row for row in await lock(connection, entities, EntityState, tenant, wanted)}
    return {key: found.get(key) or EntityState(tenant, *key) for key in wanted}


async def states_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, EntityState]:
    """These entities as they stand, without locking them."""
    wanted = sorted(set(keys))
    rows = await ask(connection, EntityState._make, _ENTITIES, tenant, wanted) if wanted else []
    return {row.key: row for row in rows}


async def save_entities(connection: AsyncConnection, rows: Iterable[EntityState]) -> None:
    """Insert or overwrite entities that the transaction has locked."""
    await save(connection, entities, ("tenant", "kind", "entity_id"), rows)


async def delete_unused(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> None:
    """Delete those of these locked entities that no account has used."""
    await alter(connection, _UNUSED, tenant, sorted(set(keys)))


async def links_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[LinkKey]
) -> dict[LinkKey, int]:
    """When each of these pairs first came, where it has."""
    wanted = list(keys)
    rows = await ask(connection, Link._make, _LINKS, tenant, wanted) if wanted else []
    return {row.key: row.first_use_us for row in rows}


async def save_links(connection: AsyncConnection, rows: Iterable[Link]) -> None:
    """Insert links of locked accounts, or overwrite since when they are."""
    await save(connection, links, ("tenant", "kind", "entity_id", "account_id"), sorted(rows))


async def used_by(connection: AsyncConnection, tenant: str, account_id: str) -> set[EntityKey]:
    """The entities that an account has used."""
    rows = await ask(connection, tuple[Any, ...], _USED, tenant, of_account=account_id)
    return {(kind, entity_id) for kind, entity_id in rows}


async def users_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey], without: str, most: int
) -> set[str]:
    """Other accounts that have used any of these entities, so many at most."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    rows = await ask(connection, tuple[str], _USERS, tenant, wanted, of_account=without, most=most)
    return {account_id for (account_id,) in rows}

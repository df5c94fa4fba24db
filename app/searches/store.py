"""Saved searches: each of a person or a key, under a name."""

from collections.abc import Iterable

from sqlalchemy import and_, delete, exists, or_, select, tuple_

from app.db.connection import Connection
from app.db.schema import links, searches
from app.db.statements import columns
from app.entities.states import EntityKey
from app.searches.records import StoredSearch


async def listed_searches(connection: Connection, tenant: str, owner: str) -> list[StoredSearch]:
    """What somebody has saved, by name."""
    query = (
        select(*columns(searches, StoredSearch))
        .where(searches.c.tenant == tenant, searches.c.owner == owner)
        .order_by(searches.c.name)
    )
    return await connection.read(StoredSearch._make, query)


async def save_search(connection: Connection, row: StoredSearch) -> None:
    """Keep a search in place of the one of this name."""
    await connection.write_rows(searches, [row], ("tenant", "owner", "name"))


async def delete_search(connection: Connection, tenant: str, owner: str, name: str) -> bool:
    """Forget a search; says whether there was one."""
    gone = await connection.execute(
        delete(searches).where(
            searches.c.tenant == tenant, searches.c.owner == owner, searches.c.name == name
        )
    )
    return gone.rowcount > 0


async def erase_searches(
    connection: Connection, tenant: str, account_id: str, used: Iterable[EntityKey]
) -> None:
    """Forget the searches for an erased account, and for what nobody else has used."""
    table = searches.c
    is_used = exists().where(
        links.c.tenant == table.tenant,
        links.c.kind == table.entity_kind,
        links.c.entity_id == table.entity_id,
    )
    is_of_nobody = and_(tuple_(table.entity_kind, table.entity_id).in_(sorted(used)), ~is_used)
    await connection.execute(
        delete(searches).where(
            table.tenant == tenant, or_(table.account_id == account_id, is_of_nobody)
        )
    )

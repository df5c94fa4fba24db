"""Saved searches: each of a person or a key, under a name."""

from collections.abc import Iterable

from sqlalchemy import bindparam, delete, exists, select

from app.db.connection import Connection
from app.db.schema import links, searches
from app.db.statements import IsWanted, columns
from app.entities.states import EntityKey
from app.searches.records import StoredSearch

# Of entities that nobody uses any more. An account may have used more of them than a statement has
# parameters.
_OF_NOBODY = delete(searches).where(
    searches.c.tenant == bindparam("of_tenant"),
    IsWanted(searches.c.entity_kind, searches.c.entity_id),
    ~exists().where(
        links.c.tenant == searches.c.tenant,
        links.c.kind == searches.c.entity_kind,
        links.c.entity_id == searches.c.entity_id,
    ),
)


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


async def delete_searches(connection: Connection, tenant: str, owner: str) -> None:
    """Forget all that somebody has saved, which nobody could find any more."""
    await connection.execute(
        delete(searches).where(searches.c.tenant == tenant, searches.c.owner == owner)
    )


async def erase_searches(
    connection: Connection, tenant: str, account_id: str, used: Iterable[EntityKey]
) -> None:
    """Forget the searches for an erased account, and for what nobody else has used."""
    table = searches.c
    await connection.execute(
        delete(searches).where(table.tenant == tenant, table.account_id == account_id)
    )
    await connection.change(_OF_NOBODY, tenant, sorted(used))

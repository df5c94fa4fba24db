"""Certificates of erasures: added to and read, by page or one by one."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, select, update

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import erasures, links
from app.db.statements import IsWanted, columns
from app.entities.states import EntityKey, LinkKey
from app.erasures.rebuilding import Remainder
from app.erasures.records import Erasure

_LINK = links.c.kind, links.c.entity_id, links.c.account_id
_REMAINDERS = select(*_LINK, links.c.remainder).where(
    links.c.tenant == bindparam("of_tenant"), links.c.remainder.is_not(None)
)
_OF_LINKS = _REMAINDERS.where(IsWanted(*_LINK))
_OF_ENTITIES = _REMAINDERS.where(
    IsWanted(links.c.kind, links.c.entity_id), links.c.account_id != bindparam("of_account")
)
_KEEP = (
    update(links)
    .where(
        links.c.tenant == bindparam("of_tenant"),
        *(column == bindparam(f"of_{column.name}") for column in _LINK),
    )
    .values(remainder=bindparam("new_remainder"))
)


async def save_erasure(connection: Connection, row: Erasure) -> None:
    """Keep a certificate."""
    await connection.write_rows(erasures, [row])


async def erasure(connection: Connection, tenant: str, erasure_id: str) -> Erasure | None:
    """The certificate with this id."""
    query = select(*columns(erasures, Erasure)).where(
        erasures.c.tenant == tenant, erasures.c.id == erasure_id
    )
    return next(iter(await connection.read(Erasure._make, query)), None)


async def listed_erasures(
    connection: Connection, tenant: str, after: tuple[Any, ...] | None, limit: int
) -> Part[Erasure]:
    """A tenant's certificates, the newest first."""
    query = select(*columns(erasures, Erasure)).where(erasures.c.tenant == tenant)
    order = [erasures.c.at_us, erasures.c.id]
    return await read_page(connection, Erasure._make, query, order, after, limit, descending=True)


async def remainders(
    connection: Connection, tenant: str, keys: Iterable[LinkKey]
) -> list[Remainder]:
    """What is left of payments that were pruned, of these links that have any."""
    wanted = list(keys)
    if not wanted:
        return []
    return await connection.fetch(_remainder, _OF_LINKS, tenant, wanted, are_many=True)


async def remainders_of(
    connection: Connection, tenant: str, keys: Iterable[EntityKey], without: str
) -> list[Remainder]:
    """The same of all links of these entities but those of one account."""
    wanted = list(keys)
    return await connection.fetch(
        _remainder, _OF_ENTITIES, tenant, wanted, are_many=True, of_account=without
    )


async def save_remainders(connection: Connection, tenant: str, rows: Iterable[Remainder]) -> None:
    """Keep what is left of payments with their links, whose accounts the transaction has locked."""
    await connection.update_rows(
        _KEEP,
        (
            {
                "of_tenant": tenant,
                **dict(zip(("of_kind", "of_entity_id", "of_account_id"), row.key, strict=True)),
                "new_remainder": row.packed,
            }
            for row in rows
        ),
    )


def _remainder(row: Iterable[Any]) -> Remainder:
    kind, entity_id, account_id, packed = row
    return Remainder((kind, entity_id, account_id), packed)

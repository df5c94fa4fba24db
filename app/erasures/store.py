"""Certificates of erasures: added to and read, by page or one by one."""

from typing import Any

from sqlalchemy import select

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import erasures
from app.db.statements import columns
from app.erasures.records import Erasure


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

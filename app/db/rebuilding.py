"""While a tenant's states are being rebuilt, servers that run already store nothing of it."""

from typing import Any

from sqlalchemy import bindparam, exists, select

from app.db.connection import Connection
from app.db.errors import DatabaseUnavailable
from app.db.schema import rebuilds

IS_REBUILDING = exists().where(rebuilds.c.tenant == bindparam("of_tenant"))
_REBUILDING = select(IS_REBUILDING)


async def refuse_while_rebuilding(connection: Connection, tenant: str) -> None:
    """Raises DatabaseUnavailable while the tenant's states are being rebuilt."""
    [(is_rebuilding,)] = await connection.fetch(tuple[Any, ...], _REBUILDING, tenant)
    refuse_if(is_rebuilding)


def refuse_if(is_rebuilding: bool) -> None:
    """Raises DatabaseUnavailable where that was found."""
    if is_rebuilding:
        raise DatabaseUnavailable(
            "The states are being rebuilt: nothing was stored, and nothing is until "
            "`quickstudy db rebuild` has ended and the servers are started again."
        )

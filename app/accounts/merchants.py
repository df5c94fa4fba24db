"""Merchants: locked and saved."""

from collections.abc import Iterable

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.accounts.records import Merchant
from app.db.schema import merchants
from app.db.statements import IsWanted, ask, columns, lock, save

_MERCHANTS = select(*columns(merchants, Merchant)).where(
    merchants.c.tenant == bindparam("of_tenant"), IsWanted(merchants.c.merchant_id)
)


async def lock_merchants(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> dict[str, Merchant]:
    """These merchants, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(merchant_ids))
    rows = await lock(connection, merchants, Merchant, tenant, wanted)
    found = {row.merchant_id: row for row in rows}
    return {key: found.get(key) or Merchant(tenant, key) for key in wanted}


async def merchants_of(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> dict[str, Merchant]:
    """These merchants as they stand, without locking them."""
    wanted = sorted(set(merchant_ids))
    rows = await ask(connection, Merchant._make, _MERCHANTS, tenant, wanted) if wanted else []
    return {row.merchant_id: row for row in rows}


async def save_merchants(connection: AsyncConnection, rows: Iterable[Merchant]) -> None:
    """Insert or overwrite merchants that the transaction has locked."""
    await save(connection, merchants, ("tenant", "merchant_id"), rows)

"""Merchants: locked, saved, and made to forget their labels."""

from collections.abc import Iterable

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rows import Merchant
from app.store.statements import IsWanted, alter, lock, save
from app.tables import labels, merchants

_UNFOLDED = (
    update(merchants)
    .where(merchants.c.tenant == bindparam("of_tenant"), IsWanted(merchants.c.merchant_id))
    .values(label_state=None)
)
_TO_FOLD = (
    update(labels)
    .where(labels.c.tenant == bindparam("of_tenant"), IsWanted(labels.c.merchant_id))
    .values(folded=False)
)


async def lock_merchants(
    connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]
) -> dict[str, Merchant]:
    """These merchants, ours alone until the transaction ends; new ones are empty."""
    wanted = sorted(set(merchant_ids))
    rows = await lock(connection, merchants, Merchant, tenant, wanted)
    found = {row.merchant_id: row for row in rows}
    return {key: found.get(key) or Merchant(tenant, key) for key in wanted}


async def save_merchants(connection: AsyncConnection, rows: Iterable[Merchant]) -> None:
    """Insert or overwrite merchants that the transaction has locked."""
    await save(connection, merchants, ("tenant", "merchant_id"), rows)


async def unfold(connection: AsyncConnection, tenant: str, merchant_ids: Iterable[str]) -> None:
    """Forget what locked merchants know of labels: the next score folds the live ones anew."""
    wanted = sorted(set(merchant_ids))
    await alter(connection, _UNFOLDED, tenant, wanted)
    await alter(connection, _TO_FOLD, tenant, wanted)

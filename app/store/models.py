"""Which checkpoint has which role for a tenant: every change is kept, the newest counts."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rows import ModelChange
from app.store.statements import columns
from app.tables import model_changes


async def model_change(connection: AsyncConnection, tenant: str, role: str) -> ModelChange | None:
    """The newest change of a role; None before the first."""
    found = await model_history(connection, tenant, role, 1)
    return found[0] if found else None


async def model_history(
    connection: AsyncConnection, tenant: str, role: str, limit: int
) -> list[ModelChange]:
    """The changes of a role, the newest first."""
    query = (
        select(*columns(model_changes, ModelChange))
        .where(model_changes.c.tenant == tenant, model_changes.c.role == role)
        .order_by(model_changes.c.at_us.desc())
        .limit(limit)
    )
    return [ModelChange._make(row) for row in await connection.execute(query)]


async def save_model_change(connection: AsyncConnection, row: ModelChange) -> None:
    """Add a change; those of before stay as history."""
    await connection.execute(model_changes.insert(), row._asdict())

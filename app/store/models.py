"""Which checkpoint has which role for a tenant: every change is kept, the newest counts."""

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rows import ModelChange
from app.store.statements import ask, columns
from app.tables import model_changes

_HISTORY = (
    select(*columns(model_changes, ModelChange))
    .where(
        model_changes.c.tenant == bindparam("of_tenant"),
        model_changes.c.role == bindparam("of_role"),
    )
    .order_by(model_changes.c.at_us.desc())
    .limit(bindparam("most"))
)


async def model_change(connection: AsyncConnection, tenant: str, role: str) -> ModelChange | None:
    """The newest change of a role; None before the first."""
    found = await model_history(connection, tenant, role, 1)
    return found[0] if found else None


async def model_history(
    connection: AsyncConnection, tenant: str, role: str, limit: int
) -> list[ModelChange]:
    """The changes of a role, the newest first."""
    return await ask(connection, ModelChange._make, _HISTORY, tenant, of_role=role, most=limit)


async def save_model_change(connection: AsyncConnection, row: ModelChange) -> None:
    """Add a change; those of before stay as history."""
    await connection.execute(model_changes.insert(), row._asdict())

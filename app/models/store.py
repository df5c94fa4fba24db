"""Which checkpoint has which role for a tenant, and checkpoints that may have scored."""

from typing import Any

from sqlalchemy import bindparam, func, literal, select, true
from sqlalchemy.dialects import postgresql, sqlite

from app.db.connection import Connection
from app.db.database import IS_REBUILDING, refuse_if
from app.db.schema import checkpoints, model_changes
from app.db.statements import columns
from app.models.records import KeptCheckpoint, ModelChange
from app.thresholds.records import TenantThresholds
from app.thresholds.store import IN_FORCE

_HISTORY = (
    select(*columns(model_changes, ModelChange))
    .where(
        model_changes.c.tenant == bindparam("of_tenant"),
        model_changes.c.role == bindparam("of_role"),
    )
    .order_by(model_changes.c.at_us.desc())
    .limit(bindparam("most"))
)
_NEWEST, _THRESHOLDS = _HISTORY.subquery(), IN_FORCE.subquery()
# A row, whether there is either or not.
_ONE = select(literal(1).label("one")).subquery()
_DECIDING = select(*_NEWEST.c, *_THRESHOLDS.c, IS_REBUILDING).select_from(
    _ONE.outerjoin(_NEWEST, true()).outerjoin(_THRESHOLDS, true())
)


async def deciding_at(
    connection: Connection, tenant: str, at_us: int
) -> tuple[ModelChange | None, TenantThresholds | None]:
    """The newest change of the active model, and the thresholds in force at a time.

    Raises DatabaseUnavailable while the tenant's states are being rebuilt.
    """
    parameters: dict[str, Any] = {"of_role": "active", "most": 1, "at_us": at_us}
    [row] = await connection.fetch(tuple[Any, ...], _DECIDING, tenant, **parameters)
    *found, is_rebuilding = row
    refuse_if(is_rebuilding)
    change = ModelChange._make(found[: len(ModelChange._fields)])
    own = TenantThresholds._make(found[len(ModelChange._fields) :])
    # Where there is none, a row of nothing stands for it.
    return change if change.tenant else None, own if own.tenant else None


async def model_change(connection: Connection, tenant: str, role: str) -> ModelChange | None:
    """The newest change of a role; None before the first."""
    found = await model_history(connection, tenant, role, 1)
    return found[0] if found else None


async def model_history(
    connection: Connection, tenant: str, role: str, limit: int
) -> list[ModelChange]:
    """The changes of a role, the newest first."""
    return await connection.fetch(ModelChange._make, _HISTORY, tenant, of_role=role, most=limit)


async def save_model_change(connection: Connection, row: ModelChange) -> None:
    """Add a change; those of before stay as history."""
    await connection.execute(model_changes.insert(), row._asdict())


async def activated(connection: Connection) -> dict[str, str]:
    """The names of the checkpoints that any tenant has ever activated, by digest."""
    query = (
        select(model_changes.c.digest, model_changes.c.name)
        .where(model_changes.c.role == "active", model_changes.c.digest.is_not(None))
        .distinct()
    )
    return {row.digest: row.name for row in await connection.execute(query)}


async def oldest_shadow(connection: Connection) -> int | None:
    """Since when a checkpoint is in shadow, of the tenant that has tried one longest."""
    later = model_changes.alias()
    is_last = ~(
        select(later.c.at_us)
        .where(
            later.c.tenant == model_changes.c.tenant,
            later.c.role == "shadow",
            later.c.at_us > model_changes.c.at_us,
        )
        .exists()
    )
    query = select(func.min(model_changes.c.at_us)).where(
        model_changes.c.role == "shadow", model_changes.c.name.is_not(None), is_last
    )
    found: int | None = (await connection.execute(query)).scalar_one()
    return found


async def kept_digests(connection: Connection) -> set[str]:
    """The digests of the checkpoints that are kept."""
    return set((await connection.execute(select(checkpoints.c.digest))).scalars())


async def keep_checkpoint(connection: Connection, row: KeptCheckpoint) -> None:
    """Keep a checkpoint's files, if nobody has yet."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # The files are no part of the statement, which SQLAlchemy remembers.
    await connection.execute(insert(checkpoints).on_conflict_do_nothing(), row._asdict())


async def kept_checkpoint(connection: Connection, model: str) -> KeptCheckpoint | None:
    """The checkpoint that scores name so; None where it is not kept."""
    query = select(*columns(checkpoints, KeptCheckpoint)).where(checkpoints.c.model == model)
    found = await connection.read(KeptCheckpoint._make, query.limit(1))
    return found[0] if found else None

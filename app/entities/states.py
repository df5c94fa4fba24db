"""Entities and links as scores and labels change them: locked and saved.

Entities are locked in the order of kinds and ids, after accounts. A score takes one slot of each
and reads the others, labels and erasures take all of them. A link has no lock of its own: who
writes it has locked its account.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Text, bindparam, column, delete, exists, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from app.db.database import Raced
from app.db.postgres import Straight
from app.db.schema import entities, links
from app.db.statements import IsWanted, add, alter, ask, columns, erased, prepare, save
from app.entities.records import EntityKey, EntityState, Link, LinkKey

# Of an entity: where so many payments are scored at once, others wait for the first.
MOST_SLOTS = 16

_SLOTS = (
    select(*columns(entities, EntityState))
    .where(
        entities.c.tenant == bindparam("of_tenant"),
        IsWanted(entities.c.kind, entities.c.entity_id),
    )
    .order_by(entities.c.kind, entities.c.entity_id, entities.c.slot)
)
_LOCKED_SLOTS = _SLOTS.with_for_update()
_EACH = (
    func.unnest(bindparam("wanted_0", type_=ARRAY(Text)), bindparam("wanted_1", type_=ARRAY(Text)))
    .table_valued(column("kind", Text), column("entity_id", Text))
    .render_derived()
)
_OF_EACH = select(*columns(entities, EntityState)).where(
    entities.c.tenant == bindparam("of_tenant"),
    entities.c.kind == _EACH.c.kind,
    entities.c.entity_id == _EACH.c.entity_id,
)
_FREE = (
    _OF_EACH.order_by(entities.c.slot)
    .limit(1)
    .with_for_update(skip_locked=True)
    .correlate(_EACH)
    .lateral("free")
)
_ALL_TAKEN = _OF_EACH.where(entities.c.slot == 0, _FREE.c.slot.is_(None)).correlate(_EACH, _FREE)
_FIRST = _ALL_TAKEN.with_for_update().lateral("first")
# Without a lock it is read as it was before it was waited for.
_BEFORE = _ALL_TAKEN.lateral("before")
# One entity after another, in the order in which they are asked for.
_TAKEN = select(
    *(func.coalesce(_FREE.c[name], _FIRST.c[name]) for name in EntityState._fields),
    _FIRST.c.slots == _BEFORE.c.slots,
).select_from(_EACH.outerjoin(_FREE, true()).outerjoin(_FIRST, true()).outerjoin(_BEFORE, true()))
_FURTHER = delete(entities).where(
    entities.c.tenant == bindparam("of_tenant"),
    IsWanted(entities.c.kind, entities.c.entity_id),
    entities.c.slot > 0,
)
_LINKS = select(*columns(links, Link)).where(
    links.c.tenant == bindparam("of_tenant"),
    IsWanted(links.c.kind, links.c.entity_id, links.c.account_id),
)
_USED = select(links.c.kind, links.c.entity_id).where(
    links.c.tenant == bindparam("of_tenant"), links.c.account_id == bindparam("of_account")
)
_USERS = (
    select(links.c.account_id)
    .where(
        links.c.tenant == bindparam("of_tenant"),
        IsWanted(links.c.kind, links.c.entity_id),
        links.c.account_id != bindparam("of_account"),
    )
    .distinct()
    .limit(bindparam("most"))
)
_UNUSED = delete(entities).where(
    entities.c.tenant == bindparam("of_tenant"),
    IsWanted(entities.c.kind, entities.c.entity_id),
    ~exists().where(
        *(links.c[name] == entities.c[name] for name in ("tenant", "kind", "entity_id"))
    ),
)


async def take_slots(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, EntityState]:
    """A slot of each of these entities, ours alone until the transaction ends; new ones are empty.

    It is the first that nobody has. Where others have all of them, the first is waited for, and
    there is one more from then on, unless another has made it meanwhile. What was taken is to be
    saved. Raises Raced where an entity has just been erased.
    """
    wanted = sorted(set(keys))
    if not isinstance(connection, Straight):
        return {
            key: rows[0] for key, rows in (await lock_entities(connection, tenant, wanted)).items()
        }
    if not wanted:
        return {}
    await prepare(connection, entities, tenant, wanted)
    taken, further = {}, []
    for *values, is_short in await ask(connection, tuple[Any, ...], _TAKEN, tenant, wanted):
        row = EntityState._make(values)
        if row.tenant is None:
            raise erased(connection, entities, tenant, wanted)
        if is_short and row.slots < MOST_SLOTS:
            further.append(EntityState(tenant, *row.key, slot=row.slots, slots=row.slots + 1))
            row = row._replace(slots=row.slots + 1)
        taken[row.key] = row
    await add(connection, entities, further)
    return taken


async def lock_entities(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, list[EntityState]]:
    """All slots of these entities, ours alone until the transaction ends; new ones are empty.

    Raises Raced where an entity has just been erased, or has got another slot meanwhile.
    """
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    await prepare(connection, entities, tenant, wanted)
    found = await _slots(connection, _LOCKED_SLOTS, tenant, wanted)
    if isinstance(connection, Straight):
        if len(found) < len(wanted):
            raise erased(connection, entities, tenant, wanted)
        if any(rows[0].slots != len(rows) for rows in found.values()):
            raise Raced
    return {key: found.get(key) or [EntityState(tenant, *key)] for key in wanted}


async def lock_only(connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]) -> None:
    """The same; what is known of them is not read."""
    if isinstance(connection, Straight):
        await lock_entities(connection, tenant, keys)


async def states_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, list[EntityState]]:
    """All slots of these entities as they stand, without locking them."""
    wanted = sorted(set(keys))
    return await _slots(connection, _SLOTS, tenant, wanted) if wanted else {}


async def _slots(
    connection: AsyncConnection, query: Any, tenant: str, wanted: list[EntityKey]
) -> dict[EntityKey, list[EntityState]]:
    found: dict[EntityKey, list[EntityState]] = defaultdict(list)
    for row in await ask(connection, EntityState._make, query, tenant, wanted):
        found[row.key].append(row)
    return dict(found)


async def save_entities(connection: AsyncConnection, rows: Iterable[EntityState]) -> None:
    """Insert or overwrite slots of entities that the transaction has locked."""
    await save(connection, entities, ("tenant", "kind", "entity_id", "slot"), rows)


async def replace_states(
    connection: AsyncConnection,
    tenant: str,
    locked: Mapping[EntityKey, list[EntityState]],
    states: Mapping[EntityKey, bytes | None],
) -> None:
    """Give locked entities these sums, in one slot, in the place of those of all their slots."""
    await alter(
        connection, _FURTHER, tenant, [key for key, rows in locked.items() if len(rows) > 1]
    )
    await save_entities(
        connection,
        [first._replace(state=states[key], slots=1) for key, (first, *_) in locked.items()],
    )


async def delete_unused(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey]
) -> None:
    """Delete those of these locked entities that no account has used."""
    await alter(connection, _UNUSED, tenant, sorted(set(keys)))


async def links_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[LinkKey]
) -> dict[LinkKey, int]:
    """When each of these pairs first came, where it has."""
    wanted = list(keys)
    rows = await ask(connection, Link._make, _LINKS, tenant, wanted) if wanted else []
    return {row.key: row.first_use_us for row in rows}


async def save_links(connection: AsyncConnection, rows: Iterable[Link]) -> None:
    """Insert links of locked accounts, or overwrite since when they are."""
    await save(connection, links, ("tenant", "kind", "entity_id", "account_id"), sorted(rows))


async def used_by(connection: AsyncConnection, tenant: str, account_id: str) -> set[EntityKey]:
    """The entities that an account has used."""
    rows = await ask(connection, tuple[Any, ...], _USED, tenant, of_account=account_id)
    return {(kind, entity_id) for kind, entity_id in rows}


async def users_of(
    connection: AsyncConnection, tenant: str, keys: Iterable[EntityKey], without: str, most: int
) -> set[str]:
    """Other accounts that have used any of these entities, so many at most."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    rows = await ask(connection, tuple[str], _USERS, tenant, wanted, of_account=without, most=most)
    return {account_id for (account_id,) in rows}

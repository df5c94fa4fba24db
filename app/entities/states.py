"""Entities and links as scores and labels change them: locked and saved.

Entities are locked in the order of kinds and ids, after accounts. A score takes one slot of each
and reads the others, labels and erasures take all of them. A link has no lock of its own: who
writes it has locked its account.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import bindparam, delete, exists, select

from app.db.connection import Connection
from app.db.errors import Raced
from app.db.schema import entities, links
from app.db.statements import IsWanted, columns

# Of an entity among a tenant's: its kind and its id; of a link, also the account's.
EntityKey: TypeAlias = tuple[str, str]
LinkKey: TypeAlias = tuple[str, str, str]
# Of an entity: where so many payments are scored at once, others wait for the first.
MOST_SLOTS = 16


class EntityState(NamedTuple):
    """A row of `entities`: what features remember of it, in one of its slots.

    Sums of slots add up. Of the first one, the `label_state`, and how many slots there are.
    """

    tenant: str
    kind: str
    entity_id: str
    state: bytes | None = None
    label_state: bytes | None = None
    slot: int = 0
    slots: int = 1

    @property
    def key(self) -> EntityKey:
        return self.kind, self.entity_id


class Link(NamedTuple):
    """A row of `links`: since when an account has used an entity."""

    tenant: str
    kind: str
    entity_id: str
    account_id: str
    first_use_us: int

    @property
    def key(self) -> LinkKey:
        return self.kind, self.entity_id, self.account_id


_SLOTS = (
    select(*columns(entities, EntityState))
    .where(
        entities.c.tenant == bindparam("of_tenant"),
        IsWanted(entities.c.kind, entities.c.entity_id),
    )
    .order_by(entities.c.kind, entities.c.entity_id, entities.c.slot)
)
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
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, EntityState]:
    """A slot of each of these entities, ours alone until the transaction ends; new ones are empty.

    It is the first that nobody has. Where others have all of them, the first is waited for, and
    there is one more from then on, unless another has made it meanwhile. What was taken is to be
    saved. Raises Raced where an entity has just been erased.
    """
    wanted = sorted(set(keys))
    taken = {key: EntityState(tenant, *key) for key in wanted}
    further = []
    for row, before in await connection.lock_one_each(entities, EntityState, tenant, wanted):
        taken[row.key] = row
        is_short = before is not None and before.slots == row.slots
        if is_short and row.slots < MOST_SLOTS:
            slots = row.slots + 1
            further.append(
                EntityState(tenant, row.kind, row.entity_id, slot=row.slots, slots=slots)
            )
            taken[row.key] = row._replace(slots=slots)
    await connection.write_rows(entities, further)
    return taken


async def lock_entities(
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, list[EntityState]]:
    """All slots of these entities, ours alone until the transaction ends; new ones are empty.

    Raises Raced where an entity has just been erased, or has got another slot meanwhile.
    """
    wanted = sorted(set(keys))
    found = _by_key(await connection.lock(entities, EntityState, tenant, wanted))
    if any(rows[0].slots != len(rows) for rows in found.values()):
        raise Raced
    return {key: found.get(key) or [EntityState(tenant, *key)] for key in wanted}


async def lock_only(connection: Connection, tenant: str, keys: Iterable[EntityKey]) -> None:
    """The same; what is known of them is not read."""
    if connection.dialect.name != "sqlite":
        await lock_entities(connection, tenant, keys)


async def states_of(
    connection: Connection, tenant: str, keys: Iterable[EntityKey]
) -> dict[EntityKey, list[EntityState]]:
    """All slots of these entities as they stand, without locking them."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    return _by_key(await connection.fetch(EntityState._make, _SLOTS, tenant, wanted))


def _by_key(rows: Iterable[EntityState]) -> dict[EntityKey, list[EntityState]]:
    found: dict[EntityKey, list[EntityState]] = defaultdict(list)
    for row in rows:
        found[row.key].append(row)
    return dict(found)


async def save_entities(connection: Connection, rows: Iterable[EntityState]) -> None:
    """Insert or overwrite slots of entities that the transaction has locked."""
    await connection.write_rows(entities, rows, ("tenant", "kind", "entity_id", "slot"))


async def replace_states(
    connection: Connection,
    tenant: str,
    locked: Mapping[EntityKey, list[EntityState]],
    states: Mapping[EntityKey, bytes | None],
) -> None:
    """Give locked entities these sums, in one slot, in the place of those of all their slots."""
    await connection.change(
        _FURTHER, tenant, [key for key, rows in locked.items() if len(rows) > 1]
    )
    await save_entities(
        connection,
        [first._replace(state=states[key], slots=1) for key, (first, *_) in locked.items()],
    )


async def delete_unused(connection: Connection, tenant: str, keys: Iterable[EntityKey]) -> None:
    """Delete those of these locked entities that no account has used."""
    await connection.change(_UNUSED, tenant, sorted(set(keys)))


async def links_of(
    connection: Connection, tenant: str, keys: Iterable[LinkKey]
) -> dict[LinkKey, int]:
    """When each of these pairs first came, where it has."""
    wanted = list(keys)
    rows = await connection.fetch(Link._make, _LINKS, tenant, wanted) if wanted else []
    return {row.key: row.first_use_us for row in rows}


async def save_links(connection: Connection, rows: Iterable[Link]) -> None:
    """Insert links of locked accounts, or overwrite since when they are."""
    await connection.write_rows(links, sorted(rows), ("tenant", "kind", "entity_id", "account_id"))


async def used_by(connection: Connection, tenant: str, account_id: str) -> set[EntityKey]:
    """The entities that an account has used."""
    rows = await connection.fetch(tuple[Any, ...], _USED, tenant, of_account=account_id)
    return {(kind, entity_id) for kind, entity_id in rows}


async def users_of(
    connection: Connection, tenant: str, keys: Iterable[EntityKey], without: str, most: int
) -> set[str]:
    """Other accounts that have used any of these entities, so many at most."""
    wanted = sorted(set(keys))
    if not wanted:
        return set()
    rows = await connection.fetch(tuple[str], _USERS, tenant, wanted, of_account=without, most=most)
    return {account_id for (account_id,) in rows}

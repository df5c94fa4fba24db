"""The rows of entities and links, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple, TypeAlias

# Of an entity among a tenant's: its kind and its id; of a link, also the account's.
EntityKey: TypeAlias = tuple[str, str]
LinkKey: TypeAlias = tuple[str, str, str]


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


class SharedLink(NamedTuple):
    """The same, and how many accounts have used the entity, as far as they are counted."""

    tenant: str
    kind: str
    entity_id: str
    account_id: str
    first_use_us: int
    accounts: int


class Evidence(NamedTuple):
    """How many matured labels an entity has, and how many of them say fraud."""

    labels: int
    frauds: int

"""The rows of people, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple

from app.http.authentication import Caller
from app.keys.scopes import ROLES, Role

# Before a person's id, where a key's could be.
PERSON = "person:"


class Person(NamedTuple):
    """A row of `people`."""

    id: str
    tenant: str
    name: str
    email: str | None
    role: Role
    password: str | None
    created_at_us: int
    disabled_at_us: int | None

    @property
    def actor(self) -> str:
        """What the audit log calls them."""
        return f"{PERSON}{self.id}"

    @property
    def caller(self) -> Caller:
        """What they may do."""
        return Caller(self.tenant, self.actor, frozenset(ROLES[self.role]), self.name)


class SetupLink(NamedTuple):
    """A row of `setup_links`; without a person it makes the tenant's first."""

    digest: str
    tenant: str
    person_id: str | None
    ends_at_us: int


class Attempts(NamedTuple):
    """A row of `sign_in_attempts`."""

    digest: str
    attempts: int
    until_us: int

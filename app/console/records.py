"""The rows of sessions, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple

from app.http.authentication import Caller

# What a verdict needs.
DECIDING = ("label", "decide")


class StoredSession(NamedTuple):
    """A row of `sessions`."""

    digest: str
    tenant: str
    key_id: str
    person: str
    created_at_us: int
    idle_until_us: int
    ends_at_us: int


class Viewer(NamedTuple):
    """Who looks at a page, and what they, or the key of their session, may do."""

    person: str
    caller: Caller

    @property
    def tenant(self) -> str:
        return self.caller.tenant

    @property
    def may_decide(self) -> bool:
        return self.caller.scopes.issuperset(DECIDING)

    @property
    def may_manage(self) -> bool:
        return "manage" in self.caller.scopes

    @property
    def may_administer(self) -> bool:
        return "admin" in self.caller.scopes

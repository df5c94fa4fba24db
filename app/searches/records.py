"""The rows of saved searches, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class StoredSearch(NamedTuple):
    """A row of `searches`."""

    tenant: str
    owner: str
    name: str
    account_id: str | None
    entity_kind: str | None
    entity_id: str | None
    content: str
    saved_at_us: int

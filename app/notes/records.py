"""The rows of notes, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class StoredNote(NamedTuple):
    """A row of `notes`."""

    tenant: str
    account_id: str
    at_us: int
    id: str
    transaction_id: str | None
    author: str | None
    actor: str
    text: str

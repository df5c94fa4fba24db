"""The rows of rebuilds, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class Rebuild(NamedTuple):
    """A row of `rebuilds`: how far the states of a tenant are those of other features.

    First those of before are cleared, then its `payments` are replayed in the order of time, of
    which `last_us` and `last_id` are the last one so far.
    """

    tenant: str
    features_digest: str
    payments: int
    is_cleared: bool = False
    replayed: int = 0
    last_us: int | None = None
    last_id: str | None = None
    is_done: bool = False

"""The rows of erasures, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class Erasure(NamedTuple):
    """A row of `erasures`: a certificate, as JSON without the account's id, and its digest."""

    tenant: str
    at_us: int
    id: str
    actor: str
    content: str
    digest: str

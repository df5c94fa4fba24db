"""The rows of figures, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class OpenedReviews(NamedTuple):
    """How many reviews of a kind a day opened; days count from 1970."""

    day: int
    kind: str
    reviews: int


class DecidedReviews(NamedTuple):
    """Reviews that were decided on a day, alike in who did, what it was, and how long it took."""

    day: int
    hours: int | None
    analyst: str | None
    is_fraud: bool
    reviews: int


class StoredFigures(NamedTuple):
    """A row of `figures`."""

    tenant: str
    name: str
    counted_at_us: int
    took_us: int
    content: str

"""The rows of reviews, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class Review(NamedTuple):
    """A row of `reviews`."""

    tenant: str
    transaction_id: str
    account_id: str
    occurred_at_us: int
    opened_at_us: int
    probability: float
    risk_score: float
    status: str
    revision: int
    assignee: str | None = None
    assigned_at_us: int | None = None
    resolved_at_us: int | None = None
    kind: str = "review"
    assigned_by: str | None = None
    snoozed_until_us: int | None = None


class ReviewCount(NamedTuple):
    """How many reviews of a kind were opened in a time, and how many of them have which label."""

    kind: str
    opened: int
    frauds: int
    legitimates: int


class OldestReview(NamedTuple):
    """When the review of a kind that has waited longest was opened."""

    kind: str
    opened_at_us: int


class LongestQueue(NamedTuple):
    """Of a kind, over all tenants: how many are open where most are, at most so many as are
    counted, and when the first one was opened; None and 0 where none is."""

    kind: str
    reviews: int | None
    opened_at_us: int | None


class WaitingReviews(NamedTuple):
    """How many reviews there are of a kind and a status, at most so many as are counted."""

    kind: str
    status: str
    reviews: int

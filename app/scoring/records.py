"""The rows of transactions, as the code passes them on: plain tuples, no ORM."""

from collections.abc import Mapping
from typing import NamedTuple

from app.learner.transaction import Status, Type, standing_of

# The status that stands for an outcome where no status is known. What waits for review is no
# habit yet, and nobody has refused it either: if a doubt of ours counted as a refusal, it would
# make the next payment more doubtful still. So it is an attempt whose money came back.
COUNTED_AS: Mapping[str, Status] = {
    "approve": "authorised",
    "review": "reversed",
    "decline": "declined",
}


class Scored(NamedTuple):
    """A row of `transactions`: what was posted and what was answered."""

    tenant: str
    transaction_id: str
    account_id: str
    occurred_at_us: int
    content: str
    content_digest: bytes
    features: bytes
    features_digest: str
    probability: float
    risk_score: float
    risk_level: str
    outcome: str
    used: str
    labels: int
    revision: int
    model: str
    evaluated_at_us: int
    review_from: float | None = None
    decline_from: float | None = None
    reasons: str | None = None
    status: Status | None = None
    rebuilt_at_us: int | None = None

    @property
    def computed_at_us(self) -> int:
        """When its features were computed: as it was evaluated, or anew since then."""
        return self.rebuilt_at_us or self.evaluated_at_us

    @property
    def counted_as(self) -> Status:
        """The status that it counts with in the sums of its account."""
        return self.status or COUNTED_AS[self.outcome]

    def standing(self, type_: Type) -> int:
        """How it counts in the sums of its account: by its status, or else by its outcome."""
        return standing_of(type_, self.counted_as)


def decided(type_: Type, outcome: str) -> int:
    """How a transaction without a status counts in the sums of its account."""
    return standing_of(type_, COUNTED_AS[outcome])


class Arrived(NamedTuple):
    """What was paid, and when it came, or was counted anew."""

    content: str
    computed_at_us: int


class Past(NamedTuple):
    """What reasons read of a transaction before the one that they are about."""

    occurred_at_us: int
    transaction_id: str
    content: str
    features: bytes

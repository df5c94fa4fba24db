"""The rows of transactions, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple

from app.learner.transaction import Type, standing_of


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
    status: str | None = None
    rebuilt_at_us: int | None = None

    @property
    def computed_at_us(self) -> int:
        """When its features were computed: as it was evaluated, or anew since then."""
        return self.rebuilt_at_us or self.evaluated_at_us

    def standing(self, type_: Type) -> int:
        """How it counts in the sums of its account: by its status, or else by its outcome."""
        return (
            decided(type_, self.outcome) if self.status is None else standing_of(type_, self.status)
        )


def decided(type_: Type, outcome: str) -> int:
    """How a transaction without a status counts in the sums of its account."""
    return standing_of(type_, "authorised" if outcome == "approve" else "declined")


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

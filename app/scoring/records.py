"""The rows of transactions, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class Scored(NamedTuple):
    """A row of `transactions`: what was posted and what was answered."""

    tenant: str
    transaction_id: str
    account_id: str
    merchant_id: str | None
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


class Past(NamedTuple):
    """What reasons read of a transaction before the one that they are about."""

    occurred_at_us: int
    transaction_id: str
    content: str
    features: bytes

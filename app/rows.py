"""The rows of the tables, as the code hands them around: plain tuples, no ORM."""

from typing import NamedTuple


class Account(NamedTuple):
    """A row of `accounts`."""

    tenant: str
    account_id: str
    revision: int = 0
    transactions: int = 0
    fraud_labels: int = 0
    legitimate_labels: int = 0
    state: bytes | None = None

    @property
    def has_labels(self) -> bool:
        return self.fraud_labels + self.legitimate_labels > 0


class Merchant(NamedTuple):
    """A row of `merchants`."""

    tenant: str
    merchant_id: str
    state: bytes | None = None
    label_state: bytes | None = None


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


class StoredLabel(NamedTuple):
    """A row of `labels`."""

    tenant: str
    transaction_id: str
    account_id: str
    merchant_id: str | None
    is_fraud: bool
    occurred_at_us: int
    labelled_at_us: int
    matures_at_us: int
    folded: bool = False


class SupportRow(NamedTuple):
    """A labelled transaction with the features of its moment."""

    features: bytes
    is_fraud: bool
    occurred_at_us: int

"""The rows of accounts, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class ErasedRows(NamedTuple):
    """How many rows of an erased account there were."""

    transactions: int
    labels: int
    label_events: int
    reviews: int


class Account(NamedTuple):
    """A row of `accounts`."""

    tenant: str
    account_id: str
    revision: int = 0
    transactions: int = 0
    fraud_labels: int = 0
    legitimate_labels: int = 0
    state: bytes | None = None
    created_at_us: int = 0

    @property
    def has_labels(self) -> bool:
        return self.fraud_labels + self.legitimate_labels > 0

"""The rows of labels, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


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
    source: str = "analyst"
    analyst: str | None = None
    note: str | None = None
    recorded_at_us: int = 0
    features: bytes | None = None


class MerchantLabel(NamedTuple):
    """What a merchant's record keeps of a row of `labels`."""

    transaction_id: str
    merchant_id: str
    matures_at_us: int
    is_fraud: bool


class LabelEvent(NamedTuple):
    """A row of `label_events`: a label set, changed or removed, by which revision of its account.

    `is_fraud` is None where it was removed.
    """

    tenant: str
    account_id: str
    revision: int
    transaction_id: str
    merchant_id: str | None
    is_fraud: bool | None
    occurred_at_us: int
    labelled_at_us: int
    matures_at_us: int
    source: str
    analyst: str | None
    note: str | None
    recorded_at_us: int
    features: bytes | None = None


class LabelChange(NamedTuple):
    """What features may have seen of a row of `label_events`.

    `is_corrected` is whether it has features of its own.
    """

    merchant_id: str
    transaction_id: str
    account_id: str
    revision: int
    is_fraud: bool | None
    matures_at_us: int
    recorded_at_us: int
    is_corrected: bool


class Witness(NamedTuple):
    """A labelled transaction that may have seen other labels: as scored, and as corrected."""

    transaction_id: str
    account_id: str
    merchant_id: str | None
    occurred_at_us: int
    evaluated_at_us: int
    features: bytes
    corrected: bytes | None = None


class SupportRow(NamedTuple):
    """A labelled transaction with the features of its moment."""

    transaction_id: str
    features: bytes
    is_fraud: bool
    occurred_at_us: int

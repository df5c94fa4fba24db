"""The rows of the tables, as the code hands them around: plain tuples, no ORM."""

from typing import Literal, NamedTuple


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
    review_from: float | None = None
    decline_from: float | None = None
    reasons: str | None = None


class Past(NamedTuple):
    """What reasons read of a transaction before the one that they are about."""

    occurred_at_us: int
    transaction_id: str
    content: str
    features: bytes


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


class Erasure(NamedTuple):
    """A row of `erasures`: a certificate, as JSON without the account's id, and its digest."""

    tenant: str
    at_us: int
    id: str
    actor: str
    content: str
    digest: str


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


class ReviewCount(NamedTuple):
    """How many reviews of a kind were opened in a time, and how many of them have which label."""

    kind: str
    opened: int
    frauds: int
    legitimates: int


class TenantThresholds(NamedTuple):
    """A row of `thresholds`; those of a reset are the model's own at that time."""

    tenant: str
    effective_at_us: int
    recorded_at_us: int
    review: float
    decline: float
    reviews_per_day: float | None = None
    chosen_on: int | None = None
    chosen_on_days: float | None = None
    note: str | None = None
    floor: float | None = None
    is_reset: bool = False


class ModelChange(NamedTuple):
    """A row of `model_changes`."""

    tenant: str
    role: str
    at_us: int
    name: str | None
    digest: str | None


class KeptCheckpoint(NamedTuple):
    """A row of `checkpoints`: the bytes of a checkpoint's two files."""

    digest: str
    model: str
    description: bytes
    weights: bytes
    kept_at_us: int


class Webhook(NamedTuple):
    """A row of `webhooks`."""

    tenant: str
    id: str
    url: str
    events: str
    secret: str
    old_secret: str | None
    old_until_us: int | None
    created_at_us: int
    # Nothing is delivered to it from then on, and why; or not before then.
    disabled_at_us: int | None = None
    disabled_reason: str | None = None
    paused_until_us: int | None = None


class Message(NamedTuple):
    """A row of `outbox`; `next_at_us` is None where it was given up."""

    id: str
    tenant: str
    webhook_id: str
    event: str
    account_id: str | None
    created_at_us: int
    body: str
    attempts: int = 0
    next_at_us: int | None = None
    last_error: str | None = None


class Job(NamedTuple):
    """A row of `jobs`."""

    tenant: str
    id: str
    kind: Literal["comparison", "drift"]
    model: str
    days: float
    status: Literal["queued", "running", "done", "failed"] = "queued"
    slot: int | None = None
    attempts: int = 0
    created_at_us: int = 0
    started_at_us: int | None = None
    finished_at_us: int | None = None
    lease_until_us: int | None = None
    result: str | None = None
    error: str | None = None


class SupportRow(NamedTuple):
    """A labelled transaction with the features of its moment."""

    transaction_id: str
    features: bytes
    is_fraud: bool
    occurred_at_us: int

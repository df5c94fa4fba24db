"""Transactions as they are posted, their scores, and what is read back."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import (
    Amount,
    Attribute,
    AttributeValue,
    Body,
    CardFingerprint,
    Currency,
    Email,
    Figure,
    Id,
    Instant,
    IpAddress,
    LabelName,
    OrInvalid,
    OtherKind,
    Value,
    few,
)
from app.learner.decisions import Level, Outcome, Used
from app.learner.spec import MOST_ENTITIES
from app.learner.transaction import MOST_ITEMS, Status, Transaction, Type
from app.learner.validity import MOST_ATTRIBUTES

EXAMPLE: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "occurred_at": "2026-01-31T12:00:00+01:00",
    "amount": "412.00",
    "currency": "EUR",
    "merchant_id": "m-5",
    "merchant_category": "electronics",
    "channel": "online",
    "country": "DE",
    "attributes": {"device_age_days": 3},
    "device_id": "d-9f2c",
    "ip_address": "203.0.113.7",
    "card_fingerprint": "c-41aa07",
    "email": "mia@example.com",
    "entities": {"wallet": "w-8"},
    "type": "payment",
}

REASON: JsonDict = {
    "code": "amount",
    "sentence": (
        "amount 412.00 EUR, 5.09 times the median 81.00 EUR of this account's last 8 payments"
    ),
    "observed": 412.0,
    "usual": 81.0,
    "share": 1.83,
}
LABELLED_PAYMENT: JsonDict = {
    "transaction_id": "t-0990",
    "label": "fraud",
    "labelled_at": "2026-01-29T09:30:00.000000Z",
    "in_common": ["merchant", "merchant_category", "country"],
}
REASON_OF_LABELS: JsonDict = {
    "code": "labels",
    "sentence": (
        "like t-0990, reported as fraud on 2026-01-29: same merchant, category and country"
    ),
    "observed": "2+1",
    "usual": None,
    "share": 0.91,
    "labelled_payment": LABELLED_PAYMENT,
}
ADAPTATION_USED: JsonDict = {"used": "adapted", "labels": 3, "revision": 1}
SCORE: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "probability": 0.0118,
    "risk_score": 29.06,
    "risk_level": "medium",
    "outcome": "approve",
    "adaptation": ADAPTATION_USED,
    "reasons": [REASON, REASON_OF_LABELS],
    "model": "default@ee2277d1f564",
    "evaluated_at": "2026-01-31T11:00:00.120000Z",
}


NOT_SCORED: JsonDict = {
    "transaction_id": "t-1002",
    "error": {
        "code": "transaction_conflict",
        "title": "A transaction with this id and other content is stored.",
        "detail": "Transaction 't-1002' is stored with another amount.",
    },
}
STORED: JsonDict = {
    **EXAMPLE,
    "occurred_at": "2026-01-31T11:00:00.000000Z",
    "amount": "412",
    "status": "authorised",
    "score": SCORE,
    "label": "fraud",
}


def _map_of_values(schema: dict[str, Any]) -> None:
    """`patternProperties` as what generators know: a map of texts to values."""
    [(pattern, values)] = schema.pop("patternProperties").items()
    schema |= {"additionalProperties": values, "propertyNames": {"pattern": pattern}}


class PostedTransaction(Body):
    """One payment. Its id is the caller's; posting it again returns the stored score."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    transaction_id: Id
    account_id: Id
    occurred_at: Instant
    amount: Amount
    currency: Currency
    merchant_id: Id | None = None
    merchant_category: Id | None = None
    channel: Id | None = None
    country: Id | None = None
    attributes: Annotated[
        dict[Id, Attribute],
        Field(max_length=MOST_ATTRIBUTES, default_factory=dict, json_schema_extra=_map_of_values),
        few(MOST_ATTRIBUTES),
    ]
    device_id: Id | None = None
    ip_address: IpAddress | None = None
    card_fingerprint: CardFingerprint | None = None
    email: Email | None = None
    entities: Annotated[
        dict[OtherKind, Id],
        Field(
            max_length=MOST_ENTITIES,
            default_factory=dict,
            json_schema_extra=_map_of_values,
            description="Ids of further kinds of entities, such as a wallet or a phone, by kind.",
        ),
        few(MOST_ENTITIES),
    ]
    type: Type = "payment"
    status: Annotated[
        Status | None,
        Field(description="What became of it; without one the outcome of its score decides."),
    ] = None

    def transaction(self) -> Transaction:
        # Its fields have the names and the order of the transaction's, but for the unit of time.
        return Transaction._make(self.__dict__.values())


class PostedBatch(Body):
    """Payments of any accounts, each scored as if it had been posted alone."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"transactions": [EXAMPLE]}]})

    transactions: Annotated[
        list[Annotated[PostedTransaction, OrInvalid]], Field(min_length=1, max_length=MOST_ITEMS)
    ]


class AdaptationUsed(BaseModel):
    """Which network scored: the account's own copy, from how many labels, or the base.

    `base` where the account's labels do not support its copy, `insufficient_labels` where it has
    none to learn from.
    """

    used: Used
    labels: int
    revision: int


class LabelledPayment(BaseModel):
    """The account's labelled payment that a payment is most like, and what they share."""

    model_config = ConfigDict(json_schema_extra={"examples": [LABELLED_PAYMENT]})

    transaction_id: str
    label: Annotated[
        LabelName,
        Field(description="As the score knew it: fraud where labels raise it, else legitimate."),
    ]
    labelled_at: Annotated[str, Field(description="When it was found out; a sentence has the day.")]
    in_common: Annotated[
        list[str],
        Field(description="Kinds of entities and categorical fields that are the same."),
    ]


class Reason(BaseModel):
    """One thing that a score rests on; docs/reasons.md explains every code."""

    model_config = ConfigDict(json_schema_extra={"examples": [REASON, REASON_OF_LABELS]})

    code: str
    sentence: str
    observed: Value
    usual: Annotated[Value, Field(description="Of the account's own payments before this one.")]
    share: Annotated[
        Figure, Field(description="In log-odds, by exact integrated gradients; above 0 it raises.")
    ]
    labelled_payment: Annotated[
        LabelledPayment | None,
        Field(
            default=None,
            exclude_if=lambda value: value is None,
            description="Only of the code `labels`, and only where a labelled payment is like this "
            "one: the one that the sentence names.",
        ),
    ]


class Score(BaseModel):
    """A score as it was decided. Only risks above low come with reasons; all have some at
    `/v1/transactions/{id}/reasons`."""

    model_config = ConfigDict(json_schema_extra={"examples": [SCORE]})

    transaction_id: str
    account_id: str
    probability: Annotated[float, Field(ge=0, le=1, description="Calibrated.")]
    risk_score: Annotated[float, Field(ge=0, le=100)]
    risk_level: Level
    outcome: Outcome
    adaptation: AdaptationUsed
    reasons: Annotated[
        list[Reason], Field(description="Up to five that raise it, the largest first.")
    ]
    model: str
    evaluated_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class ItemProblem(BaseModel):
    """Why one item of a batch failed; the code is one that a whole request could fail with."""

    code: str
    title: str
    detail: str


class NotStored(BaseModel):
    """An item of a batch that was not stored, while its neighbours may have been.

    Its transaction's id is null where the item has none that can be read.
    """

    transaction_id: str | None
    error: ItemProblem


class NotScored(NotStored):
    """A transaction of a batch that has no score, while its neighbours have theirs.

    Its id is null where the item has none that can be read.
    """


class BatchResult(BaseModel):
    """In the order of the request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"results": [SCORE, NOT_SCORED]}]})

    results: list[Annotated[Score | NotScored, Field(title="ScoreOrProblem")]]


class StoredTransaction(BaseModel):
    """What was posted, the score it had, and its label, if any."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED]})

    transaction_id: str
    account_id: str
    occurred_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    amount: str
    currency: str
    merchant_id: str | None
    merchant_category: str | None
    channel: str | None
    country: str | None
    attributes: dict[str, AttributeValue]
    device_id: str | None
    ip_address: str | None
    card_fingerprint: str | None
    email: str | None
    entities: dict[str, str]
    type: Type
    status: Annotated[
        Status | None,
        Field(description="The newest; null where the outcome of its score decides."),
    ]
    score: Score
    label: LabelName | None


class Explanation(BaseModel):
    """A score taken apart: `baseline` and all shares add up to `log_odds`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "t-1001",
                    "account_id": "a-17",
                    "probability": 0.0118,
                    "log_odds": -4.428,
                    "baseline": -6.258,
                    "past": 12,
                    "reasons": [REASON],
                    "model": "default@ee2277d1f564",
                }
            ]
        }
    )

    transaction_id: str
    account_id: str
    probability: float
    log_odds: Annotated[Figure, Field(description="Of the probability, calibrated.")]
    baseline: Annotated[
        Figure,
        Field(description="What the account's usual payment gets from a network without labels."),
    ]
    past: Annotated[
        int,
        Field(description="Payments that the usual one was taken from; at 0, the population's."),
    ]
    reasons: Annotated[
        list[Reason], Field(description="All of them, those that lower the risk included.")
    ]
    model: str

"""For auditors: scores replayed, copies of the past, influence of labels, certificates."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.schemas.accounts import LabelCounts
from app.schemas.fields import Figure, LabelName
from app.schemas.labels import ADAPTATION, DECISION, AdaptationMade, DecisionMade
from app.schemas.transactions import STORED, StoredTransaction

REPLAYED: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "match": True,
    "differs": [],
    "stored": DECISION,
    "recomputed": DECISION,
    "stored_model": "default@ee2277d1f564",
    "model": "default@ee2277d1f564",
    "review_from": 0.0123,
    "decline_from": 0.2,
    "adaptation": ADAPTATION,
}


class Replayed(BaseModel):
    """A score computed again, and whether it is the stored one within 1e-6."""

    model_config = ConfigDict(json_schema_extra={"examples": [REPLAYED]})

    transaction_id: str
    account_id: str
    match: bool
    differs: Annotated[list[str], Field(description="What is not as it was stored.")]
    stored: DecisionMade
    recomputed: DecisionMade
    stored_model: str
    model: Annotated[str, Field(description="The one that recomputed: the model served now.")]
    review_from: float | None
    decline_from: float | None
    adaptation: AdaptationMade


class LabelledTransaction(BaseModel):
    """A label that a copy has learned."""

    transaction_id: str
    label: LabelName


class AccountRevision(BaseModel):
    """An account's copy at a revision, made again from the labels of then."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "a-17",
                    "revision": 1,
                    "adaptation": ADAPTATION,
                    "labels": [{"transaction_id": "t-1001", "label": "fraud"}],
                    "changed": ["t-1001"],
                }
            ]
        }
    )

    account_id: str
    revision: int
    adaptation: AdaptationMade
    labels: list[LabelledTransaction]
    changed: Annotated[list[str], Field(description="Transactions whose label this revision set.")]


class LabelInfluence(BaseModel):
    """What one label does: the account with it, and without."""

    transaction_id: str
    label: LabelName
    learned: Annotated[
        bool, Field(description="False where newer labels have taken its place in the copy.")
    ]
    shift: Annotated[
        Figure,
        Field(
            description="Mean absolute change of the recent transactions' log-odds "
            "when this label is left out."
        ),
    ]
    furthest: Annotated[
        str | None, Field(description="The recent transaction that it moves furthest.")
    ]
    without: DecisionMade | None
    with_label: DecisionMade | None


class Influence(BaseModel):
    """How far each label moves its account, the furthest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "a-17",
                    "adaptation": ADAPTATION,
                    "labels": [
                        {
                            "transaction_id": "t-1001",
                            "label": "fraud",
                            "learned": True,
                            "shift": 0.84,
                            "furthest": "t-1004",
                            "without": DECISION,
                            "with_label": DECISION,
                        }
                    ],
                }
            ]
        }
    )

    account_id: str
    adaptation: AdaptationMade
    labels: list[LabelInfluence]


class Suggestion(BaseModel):
    """A transaction to label next, and how far its label can be expected to move the account."""

    transaction: StoredTransaction
    now: DecisionMade
    shift: Annotated[
        Figure,
        Field(
            description="Expected mean absolute change of the recent transactions' log-odds, "
            "fraud being as likely as the account's copy says."
        ),
    ]
    shift_if_fraud: Figure
    shift_if_legitimate: Figure


class AskNext(BaseModel):
    """The unlabelled transactions whose label would move the account most, the first the most."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "a-17",
                    "revision": 1,
                    "labels": {"fraud": 2, "legitimate": 1},
                    "suggestions": [
                        {
                            "transaction": {**STORED, "label": None},
                            "now": DECISION,
                            "shift": 0.21,
                            "shift_if_fraud": 1.9,
                            "shift_if_legitimate": 0.19,
                        }
                    ],
                }
            ]
        }
    )

    account_id: str
    revision: int
    labels: LabelCounts
    suggestions: list[Suggestion]


class ErasedRows(BaseModel):
    """How many rows are gone."""

    transactions: int
    labels: int
    label_events: int
    reviews: int


ERASURE: JsonDict = {
    "id": "5f0c8a9d1b2e3f4a5b6c7d8e",
    "erased_at": "2026-03-01T08:00:00.000000Z",
    "account_digest": "ac" * 32,
    "salt": "0f" * 16,
    "erased": {"transactions": 41, "labels": 3, "label_events": 4, "reviews": 2},
    "merchants_rebuilt": 12,
    "labels_corrected": 1,
    "features": "3b1f5c0e9a7d2468",
    "model": "default@ee2277d1f564",
    "training_data_sha256": "5e" * 32,
    "not_covered": ["The model's own weights."],
    "digest": "d1" * 32,
}


class ErasureFacts(BaseModel):
    """What was erased, what was made as if it had never been, and what this does not cover."""

    id: str
    erased_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    account_digest: Annotated[
        str,
        Field(
            description="Of the account's id in UTF-8: scrypt with n = 2**15, r = 8, p = 1 and "
            "32 bytes, in hexadecimal. Whoever has the id can match it."
        ),
    ]
    salt: Annotated[str, Field(description="Of that digest, in hexadecimal.")]
    erased: ErasedRows
    merchants_rebuilt: Annotated[
        int, Field(description="Whose counts and amounts were summed anew without the account.")
    ]
    labels_corrected: Annotated[
        int, Field(description="Labelled transactions of others that had seen its labels.")
    ]
    features: Annotated[str, Field(description="The digest of the features' definition.")]
    model: Annotated[str | None, Field(description="Null where it could not be loaded.")]
    training_data_sha256: str | None
    not_covered: list[str]
    digest: Annotated[
        str,
        Field(
            description="SHA-256 of the certificate without this, as canonical JSON: with the "
            "account's id, sorted, without spaces, in ASCII."
        ),
    ]


class Certificate(ErasureFacts):
    """The certificate of an erasure; it is kept without the account's id."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account_id": "a-17", **ERASURE}]})

    account_id: str


class Erasure(ErasureFacts):
    """The certificate of an erasure as it is kept: without the account's id."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"actor": "3c81463f5052", **ERASURE}]}
    )

    actor: Annotated[str, Field(description="The id of the key that erased.")]

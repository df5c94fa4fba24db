"""For auditors: scores replayed, copies of the past, influence of labels, certificates."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.accounts.schemas import LabelCounts
from app.http.fields import Figure, LabelName
from app.labels.schemas import (
    ADAPTATION,
    DECISION,
    EVENT,
    AdaptationMade,
    DecisionMade,
    LabelEvent,
)
from app.scoring.schemas import STORED, StoredTransaction

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


LABEL_CHANGE: JsonDict = {
    **EVENT,
    "revision": 1,
    "recorded_at": "2026-02-03T09:30:02.250000Z",
    "corrected": False,
    "transaction_id": "t-1001",
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


class LabelChange(LabelEvent):
    """A change of a label of an account, by which revision."""

    model_config = ConfigDict(json_schema_extra={"examples": [LABEL_CHANGE]})

    transaction_id: str


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


SUGGESTION: dict[str, Any] = {
    "transaction": {**STORED, "label": None},
    "now": DECISION,
    "shift": 0.21,
    "shift_if_fraud": 1.9,
    "shift_if_legitimate": 0.19,
}


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


class Question(Suggestion):
    """A suggestion of some account."""

    account_id: str


class Questions(BaseModel):
    """Payments of several accounts whose label would move their account most, these first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"accounts": 1, "data": [{**SUGGESTION, "account_id": "a-17"}]}]
        }
    )

    accounts: Annotated[int, Field(description="That were looked at.")]
    data: list[Question]


class AskNext(BaseModel):
    """The unlabelled transactions whose label would move the account most, the first the most."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "account_id": "a-17",
                    "revision": 1,
                    "labels": {"fraud": 2, "legitimate": 1},
                    "suggestions": [SUGGESTION],
                }
            ]
        }
    )

    account_id: str
    revision: int
    labels: LabelCounts
    suggestions: list[Suggestion]

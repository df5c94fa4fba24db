"""The review queue."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.schemas.fields import Body, Id
from app.schemas.transactions import STORED, StoredTransaction

Status = Literal["open", "cleared", "resolved"]
Order = Literal["risk", "age"]
REVIEW: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "status": "open",
    "risk_score": 61.2,
    "probability": 0.034,
    "revision": 2,
    "occurred_at": "2026-01-31T11:00:00.000000Z",
    "opened_at": "2026-01-31T11:00:00.120000Z",
    "assignee": "mia",
    "assigned_at": "2026-01-31T11:20:00.000000Z",
    "resolved_at": None,
}
WAITING: JsonDict = {**STORED, "label": None}


class Review(BaseModel):
    """A transaction that somebody is to look at; risk is as its account's newest copy sees it.

    It is `cleared` while that copy would approve it, `resolved` while it has a label.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [REVIEW]})

    transaction_id: str
    account_id: str
    status: Status
    risk_score: float
    probability: float
    revision: Annotated[int, Field(description="Of the account, when its risk was looked at.")]
    occurred_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    opened_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    assignee: str | None
    assigned_at: str | None
    resolved_at: str | None


class ReviewedTransaction(Review):
    """A review with the transaction as it was posted and scored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**REVIEW, "transaction": WAITING}]})

    transaction: StoredTransaction


class Assignment(Body):
    """Who takes a review."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"assignee": "mia"}]})

    assignee: Id

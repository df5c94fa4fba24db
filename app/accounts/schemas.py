"""Accounts, and what they learn."""

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.http.fields import Body, Id, LabelName
from app.labels.schemas import CHANGED, Changed
from app.learner.transaction import MOST_ITEMS

STATE: JsonDict = {
    "account_id": "a-17",
    "revision": 1,
    "transactions": 41,
    "labels": {"fraud": 2, "legitimate": 1},
}


class LabelCounts(BaseModel):
    """An account's labels."""

    fraud: int
    legitimate: int


class AccountState(BaseModel):
    """What is known of an account."""

    model_config = ConfigDict(json_schema_extra={"examples": [STATE]})

    account_id: str
    revision: Annotated[int, Field(description="Counts the changes of the account's labels.")]
    transactions: int
    labels: LabelCounts


class LabelledAccount(AccountState, Changed):
    """An account after labels, and what they did."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**STATE, **CHANGED, "stored": 3, "unchanged": 0}]}
    )

    stored: Annotated[int, Field(description="Labels that were new or other than before.")]
    unchanged: int


class Hypothesis(Body):
    """A label that might be given to a stored transaction."""

    transaction_id: Id
    label: LabelName


class RollbackRequest(Body):
    """The revision whose labels the account is to have again; `dry_run` stores nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"revision": 1}]})

    revision: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)]
    dry_run: Annotated[bool, Field(strict=True)] = False


class RolledBack(AccountState, Changed):
    """An account whose labels are what they were at a revision, and what that did.

    `labelled` are the transactions whose label is another than before, or is none. In a dry run
    the account is as it is, and the answer is what would be.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**STATE, **CHANGED, "as_of": 1, "dry_run": False}]}
    )

    as_of: Annotated[int, Field(description="The revision that the labels are of.")]
    dry_run: bool


class AdaptRequest(Body):
    """Nothing, to adapt now; or, with `dry_run`, labels to try out without storing anything."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"dry_run": True, "labels": [{"transaction_id": "t-1001", "label": "fraud"}]}
            ]
        }
    )

    dry_run: Annotated[bool, Field(strict=True)] = False
    labels: Annotated[list[Hypothesis], Field(max_length=MOST_ITEMS, default_factory=list)]

    @model_validator(mode="after")
    def _stores_nothing(self) -> Self:
        if self.labels and not self.dry_run:
            raise ValueError(
                "set dry_run: true to preview labels; to store them, POST /v1/accounts/{id}/labels"
            )
        return self


class Adapted(Changed):
    """The account's copy: before is the base, or, in a dry run, the copy of today."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**CHANGED, "account_id": "a-17", "dry_run": True}]}
    )

    account_id: str
    dry_run: bool

"""Statuses as they are put, and what that changed."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Id, OrInvalid
from app.learner.transaction import MOST_ITEMS, Status
from app.scoring.schemas import NOT_SCORED, NotStored

STORED: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "status": "declined",
    "changed": True,
}


class NewStatus(Body):
    """What became of a transaction."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "declined"}]})

    status: Status


class StatusOfTransaction(NewStatus):
    """What became of a stored transaction."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"transaction_id": "t-1001", "status": "declined"}]}
    )

    transaction_id: Id


class StatusBatch(Body):
    """Statuses of any transactions, each with its own outcome."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"statuses": [{"transaction_id": "t-1001", "status": "declined"}]}]
        }
    )

    statuses: Annotated[
        list[Annotated[StatusOfTransaction, OrInvalid]],
        Field(min_length=1, max_length=MOST_ITEMS),
    ]


class StatusStored(BaseModel):
    """A status that the account's next score goes by."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED]})

    transaction_id: str
    account_id: str
    status: Status
    changed: Annotated[bool, Field(description="False where it had been so already.")]


class StatusNotStored(NotStored):
    """A status of a batch that was not stored, while its neighbours may have been.

    Its transaction's id is null where the item has none that can be read.
    """


class StatusBatchResult(BaseModel):
    """In the order of the request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"results": [STORED, NOT_SCORED]}]})

    results: list[Annotated[StatusStored | StatusNotStored, Field(title="StatusOrProblem")]]

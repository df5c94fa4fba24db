"""Notes on accounts."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Id
from app.http.fields import Note as Text

NOTE: JsonDict = {
    "id": "5b1f0a9c33de7c21",
    "account_id": "a-17",
    "transaction_id": "t-1001",
    "text": "Cardholder is abroad until Friday.",
    "author": "mia",
    "actor": "person:8d2f41c07ab3",
    "at": "2026-02-03T09:30:02.250000Z",
}


class PostedNote(Body):
    """Something to write down about an account, perhaps about one payment of it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"text": "Cardholder is abroad until Friday.", "author": "mia"}]
        }
    )

    text: Text
    author: Id | None = None
    transaction_id: Id | None = None


class Note(BaseModel):
    """A note. It cannot be changed, and goes with its account."""

    model_config = ConfigDict(json_schema_extra={"examples": [NOTE]})

    id: str
    account_id: str
    transaction_id: str | None
    text: str
    author: Annotated[str | None, Field(description="As the caller named them.")]
    actor: Annotated[
        str, Field(description="The id of the key, or `person:` and of the person: this is proven.")
    ]
    at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]

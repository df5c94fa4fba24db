"""Entities as they are answered."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.entities.store import MOST_COUNTED, MOST_COUNTED_OF_EACH
from app.http.pages import Page

LINK: JsonDict = {
    "kind": "device",
    "entity_id": "d-9f2c",
    "first_used_at": "2026-01-03T18:20:00.000000Z",
    "accounts": 2,
}
USE: JsonDict = {"account_id": "a-17", "first_used_at": "2026-01-03T18:20:00.000000Z"}


class AccountLink(BaseModel):
    """A device, an address, a card, … that an account has used."""

    model_config = ConfigDict(json_schema_extra={"examples": [LINK]})

    kind: str
    entity_id: str
    first_used_at: Annotated[str, Field(description="By this account.")]
    accounts: Annotated[
        int,
        Field(
            description="How many accounts have used it, this one among them; "
            f"counted up to {MOST_COUNTED_OF_EACH:,}."
        ),
    ]


class EntityUse(BaseModel):
    """An account that has used an entity."""

    model_config = ConfigDict(json_schema_extra={"examples": [USE]})

    account_id: str
    first_used_at: Annotated[str, Field(description="By this account.")]


class Entity(Page[EntityUse]):
    """What is known of an entity, and a page of the accounts that have used it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "data": [USE],
                    "has_more": False,
                    "next_cursor": None,
                    "kind": "device",
                    "entity_id": "d-9f2c",
                    "accounts": 1,
                    "labels": 3,
                    "frauds": 2,
                }
            ]
        }
    )

    kind: str
    entity_id: str
    accounts: Annotated[int, Field(description=f"Counted up to {MOST_COUNTED:,}.")]
    labels: Annotated[
        int,
        Field(
            description="Of its payments: those that have matured, which the score sees; "
            f"counted up to {MOST_COUNTED:,}."
        ),
    ]
    frauds: Annotated[int, Field(description="How many of these labels say fraud.")]

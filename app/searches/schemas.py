"""Searches as they are saved and listed."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.config import JsonDict

from app.http.fields import Amount, Body, Id, InstantBound
from app.learner.decisions import Level, Outcome
from app.learner.spec import EntityKind
from app.scoring.store import LabelFilter
from app.times import text_of

FILTERS: JsonDict = {
    "account_id": None,
    "occurred_from": "2026-01-01T00:00:00.000000Z",
    "occurred_to": None,
    "outcome": "approve",
    "risk_level": None,
    "entity_kind": "merchant",
    "entity_id": "m-7",
    "amount_from": "500",
    "amount_to": None,
    "label": "fraud",
}
SEARCH: JsonDict = {
    "name": "missed at m-7",
    "filters": FILTERS,
    "saved_at": "2026-02-01T09:30:00.000000Z",
}
Moment = Annotated[
    InstantBound,
    PlainSerializer(text_of, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


class SearchFilters(Body):
    """Filters as `GET /v1/transactions` takes them; null is any."""

    model_config = ConfigDict(json_schema_extra={"examples": [FILTERS]})

    account_id: Id | None = None
    occurred_from: Moment | None = None
    occurred_to: Moment | None = None
    outcome: Outcome | None = None
    risk_level: Level | None = None
    entity_kind: EntityKind | None = None
    entity_id: Id | None = None
    amount_from: Amount | None = None
    amount_to: Amount | None = None
    label: LabelFilter | None = None


class SavedSearch(BaseModel):
    """A search, under the name that its owner gave it."""

    model_config = ConfigDict(json_schema_extra={"examples": [SEARCH]})

    name: str
    filters: SearchFilters
    saved_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class SearchList(BaseModel):
    """What a person, or a key, has saved, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [SEARCH]}]})

    data: list[SavedSearch]

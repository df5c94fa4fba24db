"""What became of reviews: by day, by how long they waited, by who decided."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Figure as Number

DAY: JsonDict = {
    "start": "2026-01-31T00:00:00.000000Z",
    "opened": 84,
    "declined": 11,
    "decided": 61,
    "frauds": 14,
    "legitimates": 47,
    "precision": 0.229508,
}
WAITING: JsonDict = {"hours": 4, "decided": 51}
PERSON: JsonDict = {"analyst": "mia", "decided": 40, "frauds": 9, "legitimates": 31}
TEAM: JsonDict = {
    "since": "2026-01-04T00:00:00.000000Z",
    "days": [DAY],
    "waiting": [WAITING],
    "people": [PERSON],
}


class FigureDay(BaseModel):
    """A day in UTC: alerts that it opened, and what was decided on it."""

    model_config = ConfigDict(json_schema_extra={"examples": [DAY]})

    start: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    opened: Annotated[int, Field(description="Held up for a review.")]
    declined: int
    decided: Annotated[int, Field(description="Of both kinds, labelled on this day.")]
    frauds: int
    legitimates: int
    precision: Annotated[Number | None, Field(description="Of those decided, fraud.")]


class WaitingFigure(BaseModel):
    """How many alerts were decided within so many hours, and not within fewer."""

    model_config = ConfigDict(json_schema_extra={"examples": [WAITING]})

    hours: Annotated[int | None, Field(description="null: longer than all others.")]
    decided: int


class PersonFigure(BaseModel):
    """What somebody has decided."""

    model_config = ConfigDict(json_schema_extra={"examples": [PERSON]})

    analyst: Annotated[str | None, Field(description="As the labels name them.")]
    decided: int
    frauds: int
    legitimates: int


class TeamFigures(BaseModel):
    """Alerts that were opened in the last 28 days with today, by the labels they have by now."""

    model_config = ConfigDict(json_schema_extra={"examples": [TEAM]})

    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    days: list[FigureDay]
    waiting: list[WaitingFigure]
    people: Annotated[list[PersonFigure], Field(description="Who decided most comes first.")]


class CountedFigures(TeamFigures):
    """The same, with the time at which they were counted."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**TEAM, "counted_at": "2026-01-31T11:00:00.000000Z"}]}
    )

    counted_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]

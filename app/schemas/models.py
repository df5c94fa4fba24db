"""Models: what there is, which decides, and how two of them compare."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.decisions import Outcome
from app.schemas.fields import Figure

MODEL: JsonDict = {
    "name": "default",
    "digest": "76" * 32,
    "active": True,
    "shadow": False,
    "refused": None,
}
QUALITY: JsonDict = {
    "held_up": 41,
    "precision": 0.58,
    "recall": 0.62,
    "average_precision": 0.49,
}
COMPARISON: JsonDict = {
    "name": "spring",
    "since": "2026-02-01T00:00:00.000000Z",
    "transactions": 5000,
    "agreement": 0.994,
    "changes": [{"active": "approve", "shadow": "review", "transactions": 30}],
    "shift": 0.21,
    "frauds": 38,
    "legitimates": 112,
    "active": QUALITY,
    "shadow": QUALITY,
    "better": True,
}


class ModelState(BaseModel):
    """A checkpoint, and what it does for this tenant."""

    model_config = ConfigDict(json_schema_extra={"examples": [MODEL]})

    name: str
    digest: Annotated[str | None, Field(description="Of the checkpoint that is there now.")]
    active: bool
    shadow: bool
    refused: Annotated[str | None, Field(description="Why it cannot be served.")]


class ModelList(BaseModel):
    """The checkpoints that there are, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [MODEL]}]})

    data: list[ModelState]


class OutcomeChange(BaseModel):
    """How many transactions the active model gave one outcome and the shadow would the other."""

    active: Outcome
    shadow: Outcome
    transactions: int


class ModelQuality(BaseModel):
    """On labelled transactions, which are not a sample of all: somebody chose to label them."""

    held_up: Annotated[int, Field(description="Labelled ones to be reviewed or declined.")]
    precision: Annotated[Figure | None, Field(description="Frauds among those.")]
    recall: Annotated[Figure | None, Field(description="Of the labelled frauds, held up.")]
    average_precision: Figure | None


class ModelComparison(BaseModel):
    """What the active model answered, beside what this one would have, by the labels of then."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPARISON]})

    name: str
    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    transactions: int
    agreement: Annotated[Figure | None, Field(description="Share with the same outcome.")]
    changes: list[OutcomeChange]
    shift: Annotated[Figure | None, Field(description="Mean absolute difference of the log-odds.")]
    frauds: int
    legitimates: int
    active: ModelQuality
    shadow: ModelQuality
    better: Annotated[
        bool | None,
        Field(description="Average precision at least the active one's; null: too few frauds."),
    ]

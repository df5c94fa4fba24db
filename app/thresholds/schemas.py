"""Thresholds of review and decline, and from when they are in force."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.http.fields import Body, Figure, FutureInstant, Note, without_default

LOWEST = 1e-8
Probability = Annotated[float, Field(ge=LOWEST, lt=1, strict=True)]
STATED: JsonDict = {"review": 0.01, "decline": 0.2, "effective_at": "2027-01-01T00:00:00Z"}
BUDGET: JsonDict = {"reviews_per_day": 50, "note": "Two analysts."}
KEPT: JsonDict = {
    "review": 0.0123,
    "decline": 0.2,
    "effective_at": "2026-02-01T00:00:00Z",
    "recorded_at": "2026-02-01T00:00:00Z",
    "reviews_per_day": 50.0,
    "chosen_on": 41_000,
    "chosen_on_days": 28.0,
    "note": "Two analysts.",
    "floor": 0.012,
    "source": "tenant",
}
SET: JsonDict = {
    **KEPT,
    "expected_reviews_per_day": 49.7,
    "expected_declines_per_day": 3.1,
    "floor_reached": False,
    "notice": None,
    "dry_run": False,
}
PREVIEW: JsonDict = {"reviews_per_day": 50, "floor": 0.01, "dry_run": True}

BIN: JsonDict = {"probability": 0.012, "transactions": 310, "frauds": 3, "legitimates": 120}
EFFECT: JsonDict = {
    "review": 0.012,
    "decline": 0.2,
    "reviews_per_day": 83.1,
    "declines_per_day": 11.1,
    "precision": 0.224,
    "recall": 0.718,
    "legitimate_share": 0.017,
}
HISTOGRAM: JsonDict = {
    "since": "2026-01-03T11:00:00.000000Z",
    "days": 28.0,
    "transactions": 116_497,
    "sampled_one_in": 1,
    "bins": [BIN],
}


class PostedThresholds(Body):
    """Either both thresholds, or a budget of reviews that the threshold of review keeps to."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [BUDGET, STATED, PREVIEW],
        }
    )

    review: Annotated[
        Probability,
        Field(
            default=None,
            json_schema_extra=without_default,
            description="From this probability on: review.",
        ),
    ]
    decline: Annotated[
        Probability,
        Field(
            default=None,
            json_schema_extra=without_default,
            description="From this probability on: decline. With a budget by default the one in "
            "force.",
        ),
    ]
    reviews_per_day: Annotated[
        float,
        Field(
            default=None,
            json_schema_extra=without_default,
            gt=0,
            le=1e6,
            strict=True,
            description="Choose the threshold of review by the scores of the last 28 days: at "
            "least 100, of a day or more.",
        ),
    ]
    floor: Annotated[
        Probability,
        Field(
            default=None,
            json_schema_extra=without_default,
            description="With a budget: never review below this probability. By default a tenth "
            "of the model's own threshold of review.",
        ),
    ]
    dry_run: Annotated[
        bool, Field(strict=True, description="Set nothing: answer what would be.")
    ] = False
    effective_at: Annotated[
        FutureInstant | None, Field(default=None, description="From when on; now by default.")
    ]
    note: Annotated[Note | None, Field(default=None, description="Why, for auditors.")]

    @property
    def has_budget(self) -> bool:
        return "reviews_per_day" in self.model_fields_set

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        sent = self.model_fields_set
        if ("review" in sent) == self.has_budget:
            raise ValueError("either review and decline, or reviews_per_day")
        if "review" in sent and "decline" not in sent:
            raise ValueError("with review, decline is needed too")
        if "review" in sent and self.review > self.decline:
            raise ValueError("review may not be above decline")
        if "floor" in sent and not self.has_budget:
            raise ValueError("floor is for reviews_per_day: leave it out")
        if {"floor", "decline"} <= sent and self.floor > self.decline:
            raise ValueError("floor may not be above decline")
        return self


class ThresholdsKept(BaseModel):
    """Thresholds of a tenant, and what they were chosen for."""

    model_config = ConfigDict(json_schema_extra={"examples": [KEPT]})

    review: float
    decline: float
    effective_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    recorded_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    reviews_per_day: float | None
    chosen_on: Annotated[
        int | None, Field(description="How many transactions the budget was reckoned with.")
    ]
    chosen_on_days: float | None
    note: str | None
    floor: Annotated[
        float | None, Field(description="With a budget: below which it does not choose.")
    ]
    source: Annotated[
        Literal["tenant", "model"],
        Field(description="`model` for a reset: from then on the active model's own decide."),
    ]


class ThresholdsSet(ThresholdsKept):
    """Thresholds that were just kept; in a dry run those that would be."""

    model_config = ConfigDict(json_schema_extra={"examples": [SET]})

    expected_reviews_per_day: Annotated[
        float | None,
        Field(
            description="With a budget or a dry run: reviews a day by the last 28 days' scores; "
            "null where there are none."
        ),
    ]
    expected_declines_per_day: Annotated[float | None, Field(description="The same for declines.")]
    floor_reached: Annotated[
        bool,
        Field(description="The budget cannot be spent above the floor: fewer reviews will come."),
    ]
    notice: Annotated[str | None, Field(description="What to know about these, in a sentence.")]
    dry_run: Annotated[bool, Field(description="True: nothing was set.")]


class ThresholdsInForce(BaseModel):
    """What decides now, and what will next."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"review": 0.0123, "decline": 0.2, "source": "tenant", "own": KEPT, "next": None}
            ]
        }
    )

    review: float
    decline: float
    source: Annotated[
        Literal["tenant", "model"], Field(description="Stated by the tenant, or the model's.")
    ]
    own: ThresholdsKept | None
    next: ThresholdsKept | None


class HistogramBin(BaseModel):
    """Scores from a probability to the next one of two digits, and the labels that they have."""

    model_config = ConfigDict(json_schema_extra={"examples": [BIN]})

    probability: Annotated[Figure, Field(description="0 for all that is below 1e-8.")]
    transactions: int
    frauds: int
    legitimates: int


class ScoreHistogram(BaseModel):
    """A tenant's scores of the last 28 days."""

    model_config = ConfigDict(json_schema_extra={"examples": [HISTOGRAM]})

    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    days: Annotated[Figure, Field(description="From the oldest of these scores to now, 1 or more.")]
    transactions: int
    sampled_one_in: Annotated[
        int, Field(description="Bins are counted in a sample of about one in so many, and scaled.")
    ]
    bins: Annotated[list[HistogramBin], Field(description="Those that have scores.")]


class Effect(BaseModel):
    """What thresholds would have made of the scores of the last 28 days."""

    model_config = ConfigDict(json_schema_extra={"examples": [EFFECT]})

    review: Annotated[Figure, Field(description="Rounded to two digits, as it was counted with.")]
    decline: Annotated[Figure, Field(description="The same.")]
    reviews_per_day: Figure | None
    declines_per_day: Figure | None
    precision: Annotated[
        Figure | None,
        Field(description="Frauds among the labelled payments to be reviewed or declined."),
    ]
    recall: Annotated[Figure | None, Field(description="Of the labelled frauds, so held up.")]
    legitimate_share: Annotated[
        Figure | None, Field(description="Of the payments labelled legitimate, so held up.")
    ]


class ThresholdEffects(ScoreHistogram):
    """What thresholds would have done of late, and the histogram that says so for all others."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {**HISTOGRAM, "counted_at": "2026-01-31T11:00:00.000000Z", "effect": EFFECT}
            ]
        }
    )

    counted_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    effect: Effect

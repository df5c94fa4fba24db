"""Models: what there is, which decides, how two compare, and how far traffic is from one's data."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Figure
from app.learner.decisions import Outcome

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
    "digest": "a1" * 32,
    "active_digest": "76" * 32,
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


DRIFT: JsonDict = {
    "name": "default",
    "days": [
        {
            "start": "2026-02-01T00:00:00.000000Z",
            "transactions": 10400,
            "labelled": 61,
            "frauds": 40,
        }
    ],
    "transactions": 10400,
    "sampled": 10400,
    "profile": {
        "first": "2025-12-01T00:00:00.000000Z",
        "last": "2025-12-28T23:59:59.000000Z",
        "transactions": 176000,
        "frauds": 1100,
    },
    "drifted": ["log_amount"],
    "fraud_share": {"trained": 0.00625, "now": 0.0041, "drifted": False},
    "score": {
        "name": "score",
        "psi": 0.08,
        "drifted": False,
        "fraud_psi": 0.11,
        "frauds_drifted": False,
        "by_day": [0.08],
    },
    "features": [
        {
            "name": "log_amount",
            "psi": 0.44,
            "drifted": True,
            "fraud_psi": 0.12,
            "frauds_drifted": False,
            "by_day": [0.44],
        }
    ],
}

DONE: JsonDict = {
    "id": "5f3c9a0b12d4e678",
    "status": "done",
    "days": 28,
    "created_at": "2026-02-28T09:00:00.000000Z",
    "started_at": "2026-02-28T09:00:00.120000Z",
    "finished_at": "2026-02-28T09:00:05.400000Z",
    "error": None,
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
    digest: Annotated[str, Field(description="Of the checkpoint that was compared.")]
    active_digest: Annotated[str, Field(description="Of the one that was active then.")]
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


class DriftDay(BaseModel):
    """A day by the time of its transactions, with the labels that they have by now."""

    start: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    transactions: int
    labelled: int
    frauds: int


class DriftProfile(BaseModel):
    """The newest four weeks of the training data whose labels had come."""

    first: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    last: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    transactions: int
    frauds: int


class FraudShareDrift(BaseModel):
    """The share of frauds among all transactions older than labels take to come."""

    trained: Figure
    now: Annotated[Figure | None, Field(description="null: nothing so old has a label.")]
    drifted: Annotated[bool, Field(description="By a half or more, and not by chance.")]


class Drifted(BaseModel):
    """How the values of a feature, or of the score, are spread, against the training data's."""

    name: str
    psi: Annotated[
        Figure | None,
        Field(description="Population stability index; null: fewer than 100 transactions."),
    ]
    drifted: Annotated[bool, Field(description="`psi` is at least .2, and not by chance.")]
    fraud_psi: Annotated[
        Figure | None,
        Field(description="The same of transactions labelled fraud; null: fewer than 30 of them."),
    ]
    frauds_drifted: bool
    by_day: Annotated[list[Figure | None], Field(description="`psi` of each of `days`.")]


class ModelDrift(BaseModel):
    """A tenant's traffic beside what a checkpoint was trained on, in a sample of 20,000."""

    model_config = ConfigDict(json_schema_extra={"examples": [DRIFT]})

    name: str
    days: Annotated[list[DriftDay], Field(description="Those with transactions, in UTC.")]
    transactions: int
    sampled: int
    profile: DriftProfile
    drifted: Annotated[list[str], Field(description="What has drifted, the furthest first.")]
    fraud_share: FraudShareDrift
    score: Annotated[Drifted, Field(description="Of transactions that this model scored.")]
    features: Annotated[list[Drifted], Field(description="The furthest first.")]


class ComparisonRequest(Body):
    """On which transactions two models are compared."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"days": 28}]})

    days: Annotated[
        float, Field(gt=0, le=365, strict=True, description="How far back, at most 5,000.")
    ] = 28.0


class DriftRequest(Body):
    """On which transactions drift is measured."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"days": 28}]})

    days: Annotated[int, Field(ge=1, le=365, strict=True, description="With today, in UTC.")] = 28


class Promotion(Body):
    """By which comparison a model is activated."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"comparison": "5f3c9a0b12d4e678"}]})

    comparison: Annotated[
        str, Field(min_length=1, max_length=32, description="The id of one that is done.")
    ]


class JobError(BaseModel):
    """Why nothing came of it, as the `code` and `detail` of a problem."""

    code: str
    detail: str


class Job(BaseModel):
    """Something that is computed beside requests; its result is kept for a week."""

    id: str
    name: Annotated[str, Field(description="Of the model.")]
    status: Literal["queued", "running", "done", "failed"]
    created_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    started_at: str | None
    finished_at: str | None
    error: Annotated[JobError | None, Field(description="Where it failed.")]


COMPARISON_JOB = {**DONE, "name": "spring", "result": COMPARISON}
DRIFT_JOB = {**DONE, "name": "default", "result": DRIFT}


class ComparisonJob(Job):
    """A comparison of a model with the active one."""

    model_config = ConfigDict(json_schema_extra={"examples": [COMPARISON_JOB]})

    days: float
    result: Annotated[ModelComparison | None, Field(description="Once it is done.")]


class ComparisonJobs(BaseModel):
    """The newest comparisons of a model."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [COMPARISON_JOB]}]})

    data: list[ComparisonJob]


class DriftJob(Job):
    """A measurement of how far traffic is from a model's training data."""

    model_config = ConfigDict(json_schema_extra={"examples": [DRIFT_JOB]})

    days: int
    result: Annotated[ModelDrift | None, Field(description="Once it is done.")]


class DriftJobs(BaseModel):
    """The newest measurements of a model's drift."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"data": [DRIFT_JOB]}]})

    data: list[DriftJob]


class ModelReport(BaseModel):
    """The report of a model's training."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "spring", "html": "<!DOCTYPE html>…"}]}
    )

    name: str
    html: Annotated[str, Field(description="A page of its own, which loads nothing.")]

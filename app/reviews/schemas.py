"""The review queue."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app.http.fields import Body, Figure, FutureInstant, Id
from app.learner.transaction import DAY_US
from app.scoring.schemas import STORED, StoredTransaction
from app.times import now_us

Kind = Literal["review", "decline", "sample"]
Status = Literal["open", "cleared", "resolved"]
Order = Literal["risk", "age"]
REVIEW: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "kind": "review",
    "status": "open",
    "risk_score": 61.2,
    "probability": 0.034,
    "revision": 2,
    "occurred_at": "2026-01-31T11:00:00.000000Z",
    "opened_at": "2026-01-31T11:00:00.120000Z",
    "assignee": "mia",
    "assigned_at": "2026-01-31T11:20:00.000000Z",
    "assigned_by": "3c81463f5052",
    "snoozed_until": None,
    "resolved_at": None,
}
FIGURES: JsonDict = {
    "since": "2026-01-03T11:00:00.000000Z",
    "data": [
        {"kind": "review", "opened": 700, "frauds": 61, "legitimates": 439, "fraud_share": 0.122},
        {"kind": "decline", "opened": 90, "frauds": 70, "legitimates": 5, "fraud_share": 0.933333},
        {"kind": "sample", "opened": 210, "frauds": 0, "legitimates": 0, "fraud_share": None},
    ],
}
COUNTS: JsonDict = {
    "data": [
        {
            "kind": "review",
            "open": 84,
            "cleared": 12,
            "resolved": 1000,
            "snoozed": 0,
            "oldest_opened_at": "2026-01-31T05:12:00.000000Z",
        },
        {
            "kind": "decline",
            "open": 21,
            "cleared": 0,
            "resolved": 70,
            "snoozed": 0,
            "oldest_opened_at": "2026-01-31T08:00:00.000000Z",
        },
        {
            "kind": "sample",
            "open": 210,
            "cleared": 0,
            "resolved": 4,
            "snoozed": 0,
            "oldest_opened_at": "2026-01-31T09:00:00.000000Z",
        },
    ],
    "most_counted": 1000,
    "oldest_opened_at": "2026-01-31T05:12:00.000000Z",
}
WAITING: JsonDict = {**STORED, "label": None}


def _soon(until_us: int) -> int:
    if until_us > now_us() + MOST_SNOOZED_DAYS * DAY_US:
        raise ValueError(f"a review sleeps for {MOST_SNOOZED_DAYS} days at most")
    return until_us


MOST_SNOOZED_DAYS = 90
SnoozeEnd = Annotated[FutureInstant, AfterValidator(_soon)]


class Review(BaseModel):
    """A transaction that somebody is to look at; risk is as its account's newest copy sees it.

    It was decided to be reviewed, was declined, or is one of a sample of approvals, whose risk
    stays as it was. It is `cleared` while that copy would approve what was to be reviewed, and
    `resolved` while it has a label.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [REVIEW]})

    transaction_id: str
    account_id: str
    kind: Kind
    status: Status
    risk_score: float
    probability: float
    revision: Annotated[int, Field(description="Of the account, when its risk was looked at.")]
    occurred_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    opened_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    assignee: Annotated[
        str | None, Field(description="Who has it, as the caller named them; for 24 hours.")
    ]
    assigned_at: str | None
    assigned_by: Annotated[
        str | None,
        Field(
            description="The id of the key, or of the first of those that it has replaced, or "
            "`person:` and of the person: this is proven."
        ),
    ]
    snoozed_until: Annotated[
        str | None, Field(description="Left out of the queue until then. null: it is awake.")
    ]
    resolved_at: str | None


class ReviewedTransaction(Review):
    """A review with the transaction as it was posted and scored."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**REVIEW, "transaction": WAITING}]})

    transaction: StoredTransaction


class Assignment(Body):
    """Who takes a review. Who has it may `hand_over`, the scope `manage` lets `take_over`."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"assignee": "mia"}]})

    assignee: Id
    take_over: Annotated[bool, Field(strict=True)] = False
    hand_over: Annotated[bool, Field(strict=True)] = False


class NextAssignment(Body):
    """Who takes the next review that nobody has."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"assignee": "mia"}]})

    assignee: Id
    kind: Kind = "review"
    order: Order = "risk"


class Snooze(Body):
    """Until when a review is left out of the queue: 90 days at most."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"until": "2027-02-01T08:00:00Z"}]})

    until: SnoozeEnd


class ReviewFigure(BaseModel):
    """What labels say of the reviews of a kind."""

    kind: Kind
    opened: int
    frauds: Annotated[int, Field(description="Of those opened, labelled fraud by now.")]
    legitimates: Annotated[int, Field(description="Of those opened, labelled legitimate by now.")]
    fraud_share: Annotated[
        Figure | None,
        Field(
            description="Of those with a label: the precision of reviews and of declines, and the "
            "share of fraud among what was approved. null: none has a label."
        ),
    ]


class ReviewFigures(BaseModel):
    """How right reviews, declines and approvals were, by the labels of those opened lately.

    Of reviews and declines somebody chose what to label; of the sample chance chose.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [FIGURES]})

    since: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    data: list[ReviewFigure]


class QueueCount(BaseModel):
    """How many reviews of a kind there are, by status."""

    kind: Kind
    open: Annotated[int, Field(description="Without those that sleep.")]
    cleared: int
    resolved: int
    snoozed: Annotated[int, Field(description="Open, and asleep.")]
    oldest_opened_at: Annotated[
        str | None, Field(description="Of the open ones that are awake; null: nothing waits.")
    ]


class ReviewCounts(BaseModel):
    """What is in the queue, of one assignee or of all; each count ends at `most_counted`."""

    model_config = ConfigDict(json_schema_extra={"examples": [COUNTS]})

    data: list[QueueCount]
    most_counted: int
    oldest_opened_at: Annotated[
        str | None,
        Field(description="Of all that is open of the kind `review`; null: nothing waits."),
    ]

"""Labels as they are posted, and what they did."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.http.fields import Body, Figure, Id, Instant, LabelName, Note, OrInvalid, without_default
from app.learner.transaction import MOST_ITEMS
from app.scoring.schemas import AdaptationUsed, NotStored, PostedTransaction

Source = Literal["analyst", "chargeback", "dispute", "early_fraud_warning", "refund", "customer"]
EVENT: JsonDict = {
    "label": "fraud",
    "labelled_at": "2026-02-03T09:30:00Z",
    "source": "analyst",
    "analyst": "mia",
    "note": "Cardholder called.",
}
DECISION: JsonDict = {
    "probability": 0.0118,
    "risk_score": 29.06,
    "risk_level": "medium",
    "outcome": "approve",
}
ADAPTATION: JsonDict = {
    "used": "adapted",
    "labels": 3,
    "revision": 1,
    "weight": 0.98,
    "evidence": 1.7,
    "steps": 5,
    "loss_before": 7.9,
    "loss_after": 4.6,
    "drift": 0.04,
    "adapter": "3d1f0c9b8a7e6d5c",
}
EFFECT: JsonDict = {
    "transaction_id": "t-1001",
    "before": {"probability": 0.0005, "risk_score": 2.1, "risk_level": "low", "outcome": "approve"},
    "after": DECISION,
}


CHANGED: JsonDict = {
    "adaptation": ADAPTATION,
    "labelled": [EFFECT],
    "recent": [EFFECT],
    "alerts": [],
    "guard": [],
    "cleared": [],
    "raised": [],
}


class LabelGiven(Body):
    """What somebody found out about a transaction."""

    model_config = ConfigDict(json_schema_extra={"examples": [EVENT]})

    label: LabelName
    labelled_at: Annotated[
        Instant | None, Field(default=None, description="When it was found out; now by default.")
    ]
    source: Annotated[Source, Field(default="analyst", description="How it was found out.")]
    analyst: Annotated[Id | None, Field(default=None, description="Who says so.")]
    note: Annotated[Note | None, Field(default=None, description="For colleagues and auditors.")]


class PostedLabel(LabelGiven):
    """A label for a transaction: a stored one by its id, or a whole one, which is scored first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"transaction_id": "t-1001", **EVENT}],
        }
    )

    transaction_id: Annotated[Id, Field(default="", json_schema_extra=without_default)]
    transaction: Annotated[PostedTransaction, Field(default=None)]

    @model_validator(mode="after")
    def _names_one_transaction(self) -> Self:
        if ("transaction" in self.model_fields_set) == ("transaction_id" in self.model_fields_set):
            raise ValueError("a label has either a transaction_id or a transaction")
        return self


class PostedLabels(Body):
    """Labels of one account, stored together or not at all."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"labels": [{"transaction_id": "t-1001", **EVENT}]}]}
    )

    labels: Annotated[list[PostedLabel], Field(min_length=1, max_length=MOST_ITEMS)]


class LabelOfTransaction(LabelGiven):
    """A label for a stored transaction."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"transaction_id": "t-1001", **EVENT}]}
    )

    transaction_id: Id


class LabelBatch(Body):
    """Labels of any accounts, each with its own outcome."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"labels": [{"transaction_id": "t-1001", **EVENT}]}]}
    )

    labels: Annotated[
        list[Annotated[LabelOfTransaction, OrInvalid]], Field(min_length=1, max_length=MOST_ITEMS)
    ]


class DecisionMade(BaseModel):
    """What a score comes to."""

    model_config = ConfigDict(json_schema_extra={"examples": [DECISION]})

    probability: float
    risk_score: float
    risk_level: str
    outcome: str


class Effect(BaseModel):
    """A transaction as it was decided before, and as it would be now."""

    model_config = ConfigDict(json_schema_extra={"examples": [EFFECT]})

    transaction_id: str
    before: DecisionMade
    after: DecisionMade


class AdaptationMade(AdaptationUsed):
    """The copy that an account's labels make, and whether the gate follows it."""

    model_config = ConfigDict(json_schema_extra={"examples": [ADAPTATION]})

    weight: Annotated[
        Figure, Field(description="How far the gate follows the copy: 0, the base, to 1.")
    ]
    evidence: Annotated[
        Figure,
        Field(
            description="How much better than the base copies predict labels they did not see: "
            "log-likelihood in nats, summed over the labels. What the gate decides by."
        ),
    ]
    steps: Annotated[int, Field(description="Inner steps taken.")]
    loss_before: Annotated[
        Figure | None, Field(description="Mean cross-entropy of the labels by the base.")
    ]
    loss_after: Annotated[Figure | None, Field(description="The same as served now.")]
    drift: Annotated[
        Figure, Field(description="How far the adapted layers moved, relative to their size.")
    ]
    adapter: Annotated[
        str, Field(description="Digest of the copy's bits: equal labels, equal adapter.")
    ]


class Changed(BaseModel):
    """What labels do: the copy, and its decisions before and after.

    Of `recent`, `alerts` and `guard`, payments that are most like the labelled ones come first.
    """

    adaptation: AdaptationMade
    labelled: Annotated[list[Effect], Field(description="The transactions that were labelled.")]
    recent: Annotated[list[Effect], Field(description="The account's newest transactions.")]
    alerts: Annotated[list[Effect], Field(description="Transactions that wait for a review.")]
    guard: Annotated[
        list[Effect], Field(description="Earlier approved ones, which nothing should alarm.")
    ]
    cleared: Annotated[
        list[str], Field(description="Alerts that the account's copy would now approve.")
    ]
    raised: Annotated[
        list[str], Field(description="Transactions that would now be held up, and were not.")
    ]


class TransactionLabelled(Changed):
    """One label, and what it did."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **CHANGED,
                    "transaction_id": "t-1001",
                    "account_id": "a-17",
                    "label": "fraud",
                    "changed": True,
                }
            ]
        }
    )

    transaction_id: str
    account_id: str
    label: LabelName | None
    changed: Annotated[bool, Field(description="False where it had been there already.")]


class LabelStored(BaseModel):
    """The outcome of one label of a batch."""

    transaction_id: str
    account_id: str
    changed: bool
    adaptation: AdaptationMade
    before: DecisionMade
    after: DecisionMade


class LabelNotStored(NotStored):
    """A label of a batch that was not stored, while its neighbours may have been.

    Its transaction's id is null where the item has none that can be read.
    """


class LabelBatchResult(BaseModel):
    """In the order of the request."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "results": [
                        {
                            **EFFECT,
                            "account_id": "a-17",
                            "changed": True,
                            "adaptation": ADAPTATION,
                        },
                        {
                            "transaction_id": "t-9999",
                            "error": {
                                "code": "transaction_not_found",
                                "title": "No such transaction.",
                                "detail": "There is no transaction 't-9999'.",
                            },
                        },
                    ]
                }
            ]
        }
    )

    results: list[Annotated[LabelStored | LabelNotStored, Field(title="LabelOrProblem")]]


class LabelEvent(BaseModel):
    """A label set, changed or removed (null), by which revision of its account."""

    label: LabelName | None
    revision: int
    labelled_at: str
    recorded_at: str
    source: str
    analyst: str | None
    note: str | None
    corrected: Annotated[
        bool,
        Field(description="The transaction's features no longer hold a label since forgotten."),
    ]


class LabelHistory(BaseModel):
    """The label of a transaction now, and every change of it, the oldest first."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "transaction_id": "t-1001",
                    "account_id": "a-17",
                    "label": "fraud",
                    "history": [
                        {
                            **EVENT,
                            "revision": 1,
                            "recorded_at": "2026-02-03T09:30:02.250000Z",
                            "corrected": False,
                        }
                    ],
                }
            ]
        }
    )

    transaction_id: str
    account_id: str
    label: LabelName | None
    history: list[LabelEvent]


IMPORTED: JsonDict = {
    "dry_run": False,
    "rows": 6,
    "stored": 2,
    "changed": 1,
    "unchanged": 1,
    "superseded": 0,
    "not_yet_known": 0,
    "unmatched": [{"row": 4, "line": 5, "transaction_id": "t-9999"}],
    "refused": [
        {
            "row": 6,
            "line": 7,
            "column": "date",
            "value": "31.02.2026",
            "code": "validation_failed",
            "message": "a date is such as 2026-02-03, 2026-02-03T09:30:00Z or whole seconds since "
            "1970",
        }
    ],
}
LABEL_FILE = "transaction,label,date\nt-1001,fraud,2026-02-03T09:30:00Z\n"
LABEL_OBJECT = '{"transaction": "t-1001", "label": "fraud", "date": "2026-02-03T09:30:00Z"}'


class UnmatchedRow(BaseModel):
    """A row whose transaction is not stored."""

    row: Annotated[int, Field(description="From 1, below the header.")]
    line: Annotated[int, Field(description="From 1, of the whole file.")]
    transaction_id: str


class RefusedLabelRow(BaseModel):
    """A row that was not stored, while its neighbours may have been."""

    row: Annotated[int, Field(description="From 1, below the header.")]
    line: Annotated[int, Field(description="From 1, of the whole file.")]
    column: Annotated[str | None, Field(description="Null where the row as a whole is wrong.")]
    value: str | None
    code: Annotated[str, Field(description="One that a request for this label could fail with.")]
    message: str


class LabelsImported(BaseModel):
    """What became of each row of a file: the counts and the lists add up to `rows`."""

    model_config = ConfigDict(json_schema_extra={"examples": [IMPORTED]})

    dry_run: Annotated[bool, Field(description="True: nothing was stored.")]
    rows: int
    stored: Annotated[int, Field(description="Labels of transactions that had none.")]
    changed: Annotated[int, Field(description="Labels that replaced another.")]
    unchanged: Annotated[int, Field(description="Labels that were there already.")]
    superseded: Annotated[
        int, Field(description="Labels that differ from others which were known later.")
    ]
    not_yet_known: Annotated[int, Field(description="Labels whose date lies in the future.")]
    unmatched: list[UnmatchedRow]
    refused: list[RefusedLabelRow]

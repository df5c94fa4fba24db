"""What is posted and what is answered."""

# Written by `make client`; do not edit.
# ruff: noqa: E501

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quickstudy_client.types import Amount


class AccountLink(BaseModel):
    """A device, an address, a card, … that an account has used."""

    kind: str
    entity_id: str
    first_used_at: str
    """By this account."""
    accounts: int
    """How many accounts have used it, this one among them; counted up to 1,000."""


class AdaptationMade(BaseModel):
    """The copy that an account's labels make, and whether the gate follows it."""

    used: Literal["adapted", "base", "insufficient_labels"]
    labels: int
    revision: int
    weight: float
    """How far the gate follows the copy: 0, the base, to 1."""
    evidence: float
    """How much better than the base copies predict labels they did not see: log-likelihood in nats, summed over the labels. What the gate decides by."""
    steps: int
    """Inner steps taken."""
    loss_before: float | None
    """Mean cross-entropy of the labels by the base."""
    loss_after: float | None
    """The same as served now."""
    drift: float
    """How far the adapted layers moved, relative to their size."""
    adapter: str
    """Digest of the copy's bits: equal labels, equal adapter."""


class AdaptationUsed(BaseModel):
    """
    Which network scored: the account's own copy, from how many labels, or the base.

    `base` where the account's labels do not support its copy, `insufficient_labels` where it has
    none to learn from.
    """

    used: Literal["adapted", "base", "insufficient_labels"]
    labels: int
    revision: int


class ApiKeyState(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    scopes: list[Literal["score", "label", "decide", "read", "manage", "admin"]]
    created_at: str
    expires_at: str | None
    """Where it has been replaced."""
    last_used_at: str | None
    """To the minute."""
    revoked_at: str | None


class ApiKeys(BaseModel):
    """A tenant's keys, the oldest first."""

    data: list[ApiKeyState]


class Assignment(BaseModel):
    """Who takes a review. Who has it may `hand_over`, the scope `manage` lets `take_over`."""

    model_config = ConfigDict(
        extra="forbid",
    )
    assignee: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    take_over: bool = False
    hand_over: bool = False


class ComparisonRequest(BaseModel):
    """On which transactions two models are compared."""

    model_config = ConfigDict(
        extra="forbid",
    )
    days: Annotated[float, Field(gt=0.0, le=365.0)] = 28.0
    """How far back, at most 5,000."""


class DecisionMade(BaseModel):
    """What a score comes to."""

    probability: float
    risk_score: float
    risk_level: str
    outcome: str


class DemoLoaded(BaseModel):
    """What there is to look at."""

    payments: int
    labels: int
    reviews: int
    """Payments of the last week that wait."""
    declines: int


class DemoState(BaseModel):
    """Whether demonstration payments are being loaded."""

    status: Literal["none", "queued", "running", "done", "failed"]
    """`none` where nobody has asked for them, or they came a week ago."""
    loaded: DemoLoaded | None = None
    """Once it is done."""


class DriftDay(BaseModel):
    """A day by the time of its transactions, with the labels that they have by now."""

    start: str
    transactions: int
    labelled: int
    frauds: int


class DriftProfile(BaseModel):
    """The newest four weeks of the training data whose labels had come."""

    first: str
    last: str
    transactions: int
    frauds: int


class DriftRequest(BaseModel):
    """On which transactions drift is measured."""

    model_config = ConfigDict(
        extra="forbid",
    )
    days: Annotated[int, Field(ge=1, le=365)] = 28
    """With today, in UTC."""


class Drifted(BaseModel):
    """How the values of a feature, or of the score, are spread, against the training data's."""

    name: str
    psi: float | None
    """Population stability index; null: fewer than 100 transactions."""
    drifted: bool
    """`psi` is at least .2, and not by chance."""
    fraud_psi: float | None
    """The same of transactions labelled fraud; null: fewer than 30 of them."""
    frauds_drifted: bool
    by_day: list[float | None]
    """`psi` of each of `days`."""


class EntityUse(BaseModel):
    """An account that has used an entity."""

    account_id: str
    first_used_at: str
    """By this account."""


class ErasedRows(BaseModel):
    """How many rows are gone."""

    transactions: int
    labels: int
    label_events: int
    reviews: int


class Erasure(BaseModel):
    """The certificate of an erasure as it is kept: without the account's id."""

    id: str
    erased_at: str
    account_digest: str
    """Of the account's id in UTF-8: scrypt with n = 2**15, r = 8, p = 1 and 32 bytes, in hexadecimal. Whoever has the id can match it."""
    salt: str
    """Of that digest, in hexadecimal."""
    erased: ErasedRows
    merchants_rebuilt: int
    """Merchants, devices and other entities whose counts and amounts were summed anew without the account."""
    labels_corrected: int
    """Labelled transactions of others that had seen its labels."""
    features: str
    """The digest of the features' definition."""
    model: str | None
    """Null where it could not be loaded."""
    training_data_sha256: str | None
    not_covered: list[str]
    digest: str
    """SHA-256 of the certificate without this, as canonical JSON: with the account's id, sorted, without spaces, in ASCII."""
    actor: str
    """The id of the key that erased."""


class FigureDay(BaseModel):
    """A day in UTC: alerts that it opened, and what was decided on it."""

    start: str
    opened: int
    """Held up for a review."""
    declined: int
    decided: int
    """Of both kinds, labelled on this day."""
    frauds: int
    legitimates: int
    precision: float | None
    """Of those decided, fraud."""


class FraudShareDrift(BaseModel):
    """The share of frauds among all transactions older than labels take to come."""

    trained: float
    now: float | None
    """null: nothing so old has a label."""
    drifted: bool
    """By a half or more, and not by chance."""


class HistogramBin(BaseModel):
    """Scores from a probability to the next one of two digits, and the labels that they have."""

    probability: float
    """0 for all that is below 1e-8."""
    transactions: int
    frauds: int
    legitimates: int


class Hypothesis(BaseModel):
    """A label that might be given to a stored transaction."""

    model_config = ConfigDict(
        extra="forbid",
    )
    transaction_id: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    label: Literal["fraud", "legitimate"]


class InvitedPerson(BaseModel):
    """With the link by which they choose a password: it is good once, and shown once."""

    id: str
    name: str
    email: str | None
    role: Literal["auditor", "analyst", "lead", "admin"]
    """An auditor reads; an analyst labels and decides, too; a lead also manages thresholds and models; an admin may do everything."""
    state: Literal["invited", "active", "removed"]
    """Invited: without a password so far."""
    created_at: str
    removed_at: str | None
    setup_path: str
    """Below the address of the service."""
    setup_ends_at: str


class ItemProblem(BaseModel):
    """Why one item of a batch failed; the code is one that a whole request could fail with."""

    code: str
    title: str
    detail: str


class JobError(BaseModel):
    """Why nothing came of it, as the `code` and `detail` of a problem."""

    code: str
    detail: str


class LabelChange(BaseModel):
    """A change of a label of an account, by which revision."""

    label: Literal["fraud", "legitimate"] | None
    revision: int
    labelled_at: str
    recorded_at: str
    source: str
    analyst: str | None
    note: str | None
    corrected: bool
    """The transaction's features no longer hold a label since forgotten."""
    transaction_id: str


class LabelCounts(BaseModel):
    """An account's labels."""

    fraud: int
    legitimate: int


class LabelEvent(BaseModel):
    """A label set, changed or removed (null), by which revision of its account."""

    label: Literal["fraud", "legitimate"] | None
    revision: int
    labelled_at: str
    recorded_at: str
    source: str
    analyst: str | None
    note: str | None
    corrected: bool
    """The transaction's features no longer hold a label since forgotten."""


class LabelGiven(BaseModel):
    """What somebody found out about a transaction."""

    model_config = ConfigDict(
        extra="forbid",
    )
    label: Literal["fraud", "legitimate"]
    labelled_at: str | None = None
    """When it was found out; now by default."""
    source: Literal[
        "analyst", "chargeback", "dispute", "early_fraud_warning", "refund", "customer"
    ] = "analyst"
    """How it was found out."""
    analyst: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """Who says so."""
    note: Annotated[
        str | None,
        Field(
            max_length=2000,
            min_length=1,
            pattern="^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]+$",
        ),
    ] = None
    """For colleagues and auditors."""


class LabelHistory(BaseModel):
    """The label of a transaction now, and every change of it, the oldest first."""

    transaction_id: str
    account_id: str
    label: Literal["fraud", "legitimate"] | None
    history: list[LabelEvent]


class LabelInfluence(BaseModel):
    """What one label does: the account with it, and without."""

    transaction_id: str
    label: Literal["fraud", "legitimate"]
    learned: bool
    """False where newer labels have taken its place in the copy."""
    shift: float
    """Mean absolute change of the recent transactions' log-odds when this label is left out."""
    furthest: str | None
    """The recent transaction that it moves furthest."""
    without: DecisionMade | None
    with_label: DecisionMade | None


class LabelNotStored(BaseModel):
    """
    A label of a batch that was not stored, while its neighbours may have been.

    Its transaction's id is null where the item has none that can be read.
    """

    transaction_id: str | None
    error: ItemProblem


class LabelOfTransaction(BaseModel):
    """A label for a stored transaction."""

    model_config = ConfigDict(
        extra="forbid",
    )
    label: Literal["fraud", "legitimate"]
    labelled_at: str | None = None
    """When it was found out; now by default."""
    source: Literal[
        "analyst", "chargeback", "dispute", "early_fraud_warning", "refund", "customer"
    ] = "analyst"
    """How it was found out."""
    analyst: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """Who says so."""
    note: Annotated[
        str | None,
        Field(
            max_length=2000,
            min_length=1,
            pattern="^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]+$",
        ),
    ] = None
    """For colleagues and auditors."""
    transaction_id: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]


class LabelStored(BaseModel):
    """The outcome of one label of a batch."""

    transaction_id: str
    account_id: str
    changed: bool
    adaptation: AdaptationMade
    before: DecisionMade
    after: DecisionMade


class LabelledPayment(BaseModel):
    """The account's labelled payment that a payment is most like, and what they share."""

    transaction_id: str
    label: Literal["fraud", "legitimate"]
    """As the score knew it: fraud where labels raise it, else legitimate."""
    labelled_at: str
    """When it was found out; a sentence has the day."""
    in_common: list[str]
    """Kinds of entities and categorical fields that are the same."""


class LabelledTransaction(BaseModel):
    """A label that a copy has learned."""

    transaction_id: str
    label: Literal["fraud", "legitimate"]


class LogEntry(BaseModel):
    """A change: who made it, when, of what, and what was there before and after."""

    at: str
    actor: str
    """The id of a key; `person:` and a person's id; or `command line`."""
    action: Literal[
        "label.set",
        "label.removed",
        "label.rolled_back",
        "account.rolled_back",
        "account.erased",
        "status.set",
        "review.claimed",
        "review.handed_over",
        "review.released",
        "review.snoozed",
        "review.woken",
        "review.resolved",
        "review.reopened",
        "note.added",
        "thresholds.set",
        "thresholds.reset",
        "key.created",
        "key.rotated",
        "key.revoked",
        "webhook.created",
        "webhook.rotated",
        "webhook.enabled",
        "webhook.removed",
        "person.added",
        "person.password_set",
        "person.role_set",
        "person.reset",
        "person.removed",
        "model.activated",
        "model.shadowed",
        "demo.loaded",
        "tenant.exported",
        "tenant.imported",
        "payments.pruned",
    ]
    subject: str
    """A transaction, a key, a model, an erasure, or `thresholds`."""
    account_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ModelDrift(BaseModel):
    """A tenant's traffic beside what a checkpoint was trained on, in a sample of 20,000."""

    name: str
    days: list[DriftDay]
    """Those with transactions, in UTC."""
    transactions: int
    sampled: int
    profile: DriftProfile
    drifted: list[str]
    """What has drifted, the furthest first."""
    fraud_share: FraudShareDrift
    score: Drifted
    """Of transactions that this model scored."""
    features: list[Drifted]
    """The furthest first."""


class ModelQuality(BaseModel):
    """On labelled transactions, which are not a sample of all: somebody chose to label them."""

    held_up: int
    """Labelled ones to be reviewed or declined."""
    precision: float | None
    """Frauds among those."""
    recall: float | None
    """Of the labelled frauds, held up."""
    average_precision: float | None


class ModelReport(BaseModel):
    """The report of a model's training."""

    name: str
    html: str
    """A page of its own, which loads nothing."""


class ModelState(BaseModel):
    """A checkpoint, and what it does for this tenant."""

    name: str
    digest: str | None
    """Of the checkpoint that is there now."""
    active: bool
    shadow: bool
    refused: str | None
    """Why it cannot be served."""


class NewKey(BaseModel):
    """A key's text, shown once: it is stored nowhere."""

    id: str
    key: str


class NewRole(BaseModel):
    """What somebody may do from now on."""

    model_config = ConfigDict(
        extra="forbid",
    )
    role: Literal["auditor", "analyst", "lead", "admin"]


class NewStatus(BaseModel):
    """What became of a transaction."""

    model_config = ConfigDict(
        extra="forbid",
    )
    status: Literal["authorised", "declined", "reversed", "refunded"]


class NewWebhook(BaseModel):
    """With the secret that messages are signed with, which is shown once."""

    id: str
    url: str
    events: list[
        Literal["transaction.flagged", "label.changed", "adaptation.done", "model.activated"]
    ]
    created_at: str
    disabled_at: str | None
    disabled_reason: str | None
    secret: str


class NextAssignment(BaseModel):
    """Who takes the next review that nobody has."""

    model_config = ConfigDict(
        extra="forbid",
    )
    assignee: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    kind: Literal["review", "decline", "sample"] = "review"
    order: Literal["risk", "age"] = "risk"


class NotScored(BaseModel):
    """
    A transaction of a batch that has no score, while its neighbours have theirs.

    Its id is null where the item has none that can be read.
    """

    transaction_id: str | None
    error: ItemProblem


class Note(BaseModel):
    """A note. It cannot be changed, and goes with its account."""

    id: str
    account_id: str
    transaction_id: str | None
    text: str
    author: str | None
    """As the caller named them."""
    actor: str
    """The id of the key, or `person:` and of the person: this is proven."""
    at: str


class OutcomeChange(BaseModel):
    """How many transactions the active model gave one outcome and the shadow would the other."""

    active: Literal["approve", "review", "decline"]
    shadow: Literal["approve", "review", "decline"]
    transactions: int


class PasswordChange(BaseModel):
    """A person's present password, and the one to have from now on."""

    model_config = ConfigDict(
        extra="forbid",
    )
    password: Annotated[str, Field(max_length=200)]
    new_password: Annotated[str, Field(max_length=200, min_length=12)]


class PersonFigure(BaseModel):
    """What somebody has decided."""

    analyst: str | None
    """As the labels name them."""
    decided: int
    frauds: int
    legitimates: int


class PersonState(BaseModel):
    """A person. The audit log calls them `person:` and the id."""

    id: str
    name: str
    email: str | None
    role: Literal["auditor", "analyst", "lead", "admin"]
    """An auditor reads; an analyst labels and decides, too; a lead also manages thresholds and models; an admin may do everything."""
    state: Literal["invited", "active", "removed"]
    """Invited: without a password so far."""
    created_at: str
    removed_at: str | None


class PostedKey(BaseModel):
    """A key to make."""

    model_config = ConfigDict(
        extra="forbid",
    )
    name: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    scopes: Annotated[
        list[Literal["score", "label", "decide", "read", "manage", "admin"]],
        Field(max_length=6, min_length=1),
    ]


class PostedNote(BaseModel):
    """Something to write down about an account, perhaps about one payment of it."""

    model_config = ConfigDict(
        extra="forbid",
    )
    text: Annotated[
        str,
        Field(
            max_length=2000,
            min_length=1,
            pattern="^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]+$",
        ),
    ]
    author: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    transaction_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None


class PostedPerson(BaseModel):
    """A person to add."""

    model_config = ConfigDict(
        extra="forbid",
    )
    name: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    """What their verdicts bear, for good."""
    role: Literal["auditor", "analyst", "lead", "admin"]
    email: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """With an @; kept in lower case."""


class PostedThresholds(BaseModel):
    """Either both thresholds, or a budget of reviews that the threshold of review keeps to."""

    model_config = ConfigDict(
        extra="forbid",
    )
    review: Annotated[float | None, Field(ge=1e-08, lt=1.0)] = None
    """From this probability on: review."""
    decline: Annotated[float | None, Field(ge=1e-08, lt=1.0)] = None
    """From this probability on: decline. With a budget by default the one in force."""
    reviews_per_day: Annotated[float | None, Field(gt=0.0, le=1000000.0)] = None
    """Choose the threshold of review by the scores of the last 28 days: at least 100, of a day or more."""
    floor: Annotated[float | None, Field(ge=1e-08, lt=1.0)] = None
    """With a budget: never review below this probability. By default a tenth of the model's own threshold of review."""
    dry_run: bool = False
    """Set nothing: answer what would be."""
    effective_at: str | None = None
    """From when on; now by default."""
    note: Annotated[
        str | None,
        Field(
            max_length=2000,
            min_length=1,
            pattern="^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]+$",
        ),
    ] = None
    """Why, for auditors."""


class PostedTransaction(BaseModel):
    """One payment. Its id is the caller's; posting it again returns the stored score."""

    model_config = ConfigDict(
        extra="forbid",
    )
    transaction_id: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    account_id: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]
    occurred_at: str
    amount: Amount
    """A decimal text, which is exact. A JSON number is accepted too, and rounded to 8 decimals, half to even."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    merchant_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    merchant_category: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    channel: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    country: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    attributes: Annotated[
        dict[
            Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f]+$")],
            str | float | bool,
        ]
        | None,
        Field(max_length=64),
    ] = None
    device_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    ip_address: Annotated[str | None, Field(max_length=128)] = None
    """IPv4 or IPv6, kept in its shortest spelling."""
    card_fingerprint: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """A token or a keyed hash; a full card number is refused."""
    email: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """With an @; kept in lower case."""
    entities: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")], str] | None,
        Field(max_length=8),
    ] = None
    """Ids of further kinds of entities, such as a wallet or a phone, by kind."""
    type: Literal["payment", "refund", "withdrawal", "transfer", "verification"] = "payment"
    status: Literal["authorised", "declined", "reversed", "refunded"] | None = None
    """What became of it; without one the outcome of its score decides."""


class PostedWebhook(BaseModel):
    """Where to send which events. The host must have public addresses only."""

    model_config = ConfigDict(
        extra="forbid",
    )
    url: Annotated[str, Field(max_length=2000, min_length=1, pattern="^[\\x21-\\x7e]+$")]
    events: Annotated[
        list[Literal["transaction.flagged", "label.changed", "adaptation.done", "model.activated"]],
        Field(max_length=4, min_length=1),
    ]


class Promotion(BaseModel):
    """By which comparison a model is activated."""

    model_config = ConfigDict(
        extra="forbid",
    )
    comparison: Annotated[str, Field(max_length=32, min_length=1)]
    """The id of one that is done."""


class QueueCount(BaseModel):
    """How many reviews of a kind there are, by status."""

    kind: Literal["review", "decline", "sample"]
    open: int
    """Without those that sleep."""
    cleared: int
    resolved: int
    snoozed: int
    """Open, and asleep."""
    oldest_opened_at: str | None
    """Of the open ones that are awake; null: nothing waits."""


class Readiness(BaseModel):
    """The database answers too, and the model is loaded."""

    status: str
    model: str


class Reason(BaseModel):
    """One thing that a score rests on; docs/reasons.md explains every code."""

    code: str
    sentence: str
    observed: float | str | None
    """A number, a text or null."""
    usual: float | str | None
    """Of the account's own payments before this one."""
    share: float
    """In log-odds, by exact integrated gradients; above 0 it raises."""
    labelled_payment: LabelledPayment | None = None
    """Only of the code `labels`, and only where a labelled payment is like this one: the one that the sentence names."""


class RefusedLabelRow(BaseModel):
    """A row that was not stored, while its neighbours may have been."""

    row: int
    """From 1, below the header."""
    line: int
    """From 1, of the whole file."""
    column: str | None
    """Null where the row as a whole is wrong."""
    value: str | None
    code: str
    """One that a request for this label could fail with."""
    message: str


class Replayed(BaseModel):
    """A score computed again, and whether it is the stored one within 1e-6."""

    transaction_id: str
    account_id: str
    match: bool
    differs: list[str]
    """What is not as it was stored."""
    stored: DecisionMade
    recomputed: DecisionMade
    stored_model: str
    model: str
    """The one that recomputed: the model served now."""
    review_from: float | None
    decline_from: float | None
    adaptation: AdaptationMade


class Review(BaseModel):
    """
    A transaction that somebody is to look at; risk is as its account's newest copy sees it.

    It was decided to be reviewed, was declined, or is one of a sample of approvals, whose risk
    stays as it was. It is `cleared` while that copy would approve what was to be reviewed, and
    `resolved` while it has a label.
    """

    transaction_id: str
    account_id: str
    kind: Literal["review", "decline", "sample"]
    status: Literal["open", "cleared", "resolved"]
    risk_score: float
    probability: float
    revision: int
    """Of the account, when its risk was looked at."""
    occurred_at: str
    opened_at: str
    assignee: str | None
    """Who has it, as the caller named them; for 24 hours."""
    assigned_at: str | None
    assigned_by: str | None
    """The id of the key, or of the first of those that it has replaced, or `person:` and of the person: this is proven."""
    snoozed_until: str | None
    """Left out of the queue until then. null: it is awake."""
    resolved_at: str | None


class ReviewCounts(BaseModel):
    """What is in the queue, of one assignee or of all; each count ends at `most_counted`."""

    data: list[QueueCount]
    most_counted: int
    oldest_opened_at: str | None
    """Of all that is open of the kind `review`; null: nothing waits."""


class ReviewFigure(BaseModel):
    """What labels say of the reviews of a kind."""

    kind: Literal["review", "decline", "sample"]
    opened: int
    frauds: int
    """Of those opened, labelled fraud by now."""
    legitimates: int
    """Of those opened, labelled legitimate by now."""
    fraud_share: float | None
    """Of those with a label: the precision of reviews and of declines, and the share of fraud among what was approved. null: none has a label."""


class ReviewFigures(BaseModel):
    """
    How right reviews, declines and approvals were, by the labels of those opened lately.

    Of reviews and declines somebody chose what to label; of the sample chance chose.
    """

    since: str
    data: list[ReviewFigure]


class RollbackRequest(BaseModel):
    """The revision whose labels the account is to have again; `dry_run` stores nothing."""

    model_config = ConfigDict(
        extra="forbid",
    )
    revision: Annotated[int, Field(ge=0, le=9223372036854776000)]
    dry_run: bool = False


class Rotation(BaseModel):
    """How long the old key is still good, so that nobody is locked out meanwhile."""

    model_config = ConfigDict(
        extra="forbid",
    )
    hours: Annotated[float, Field(ge=0.0, le=8760.0)] = 24.0


class Score(BaseModel):
    """
    A score as it was decided. Only risks above low come with reasons; all have some at
    `/v1/transactions/{id}/reasons`.
    """

    transaction_id: str
    account_id: str
    probability: Annotated[float, Field(ge=0.0, le=1.0)]
    """Calibrated."""
    risk_score: Annotated[float, Field(ge=0.0, le=100.0)]
    risk_level: Literal["low", "medium", "high", "critical"]
    outcome: Literal["approve", "review", "decline"]
    adaptation: AdaptationUsed
    reasons: list[Reason]
    """Up to five that raise it, the largest first."""
    model: str
    evaluated_at: str


class SearchFilters(BaseModel):
    """Filters as `GET /v1/transactions` takes them; null is any."""

    model_config = ConfigDict(
        extra="forbid",
    )
    account_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    occurred_from: str | None = None
    occurred_to: str | None = None
    outcome: Literal["approve", "review", "decline"] | None = None
    risk_level: Literal["low", "medium", "high", "critical"] | None = None
    entity_kind: Annotated[str | None, Field(pattern="^[a-z][a-z0-9_]{0,31}$")] = None
    entity_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    amount_from: Annotated[str | None, Field(pattern="^\\d{1,15}(\\.\\d{1,8})?$")] = None
    """A decimal text, which is exact. A JSON number is accepted too, and rounded to 8 decimals, half to even."""
    amount_to: Annotated[str | None, Field(pattern="^\\d{1,15}(\\.\\d{1,8})?$")] = None
    """A decimal text, which is exact. A JSON number is accepted too, and rounded to 8 decimals, half to even."""
    label: Literal["fraud", "legitimate", "none"] | None = None


class Snooze(BaseModel):
    """Until when a review is left out of the queue: 90 days at most."""

    model_config = ConfigDict(
        extra="forbid",
    )
    until: str


class Status(BaseModel):
    """The process answers."""

    status: str


class StatusNotStored(BaseModel):
    """
    A status of a batch that was not stored, while its neighbours may have been.

    Its transaction's id is null where the item has none that can be read.
    """

    transaction_id: str | None
    error: ItemProblem


class StatusOfTransaction(BaseModel):
    """What became of a stored transaction."""

    model_config = ConfigDict(
        extra="forbid",
    )
    status: Literal["authorised", "declined", "reversed", "refunded"]
    transaction_id: Annotated[
        str, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ]


class StatusStored(BaseModel):
    """A status that the account's next score goes by."""

    transaction_id: str
    account_id: str
    status: Literal["authorised", "declined", "reversed", "refunded"]
    changed: bool
    """False where it had been so already."""


class StoredTransaction(BaseModel):
    """What was posted, the score it had, and its label, if any."""

    transaction_id: str
    account_id: str
    occurred_at: str
    amount: str
    currency: str
    merchant_id: str | None
    merchant_category: str | None
    channel: str | None
    country: str | None
    attributes: dict[str, str | float | bool]
    device_id: str | None
    ip_address: str | None
    card_fingerprint: str | None
    email: str | None
    entities: dict[str, str]
    type: Literal["payment", "refund", "withdrawal", "transfer", "verification"]
    status: Literal["authorised", "declined", "reversed", "refunded"] | None
    """The newest; null where the outcome of its score decides."""
    score: Score
    label: Literal["fraud", "legitimate"] | None


class Suggestion(BaseModel):
    """A transaction to label next, and how far its label can be expected to move the account."""

    transaction: StoredTransaction
    now: DecisionMade
    shift: float
    """Expected mean absolute change of the recent transactions' log-odds, fraud being as likely as the account's copy says."""
    shift_if_fraud: float
    shift_if_legitimate: float


class ThresholdsKept(BaseModel):
    """Thresholds of a tenant, and what they were chosen for."""

    review: float
    decline: float
    effective_at: str
    recorded_at: str
    reviews_per_day: float | None
    chosen_on: int | None
    """How many transactions the budget was reckoned with."""
    chosen_on_days: float | None
    note: str | None
    floor: float | None
    """With a budget: below which it does not choose."""
    source: Literal["tenant", "model"]
    """`model` for a reset: from then on the active model's own decide."""


class ThresholdsSet(BaseModel):
    """Thresholds that were just kept; in a dry run those that would be."""

    review: float
    decline: float
    effective_at: str
    recorded_at: str
    reviews_per_day: float | None
    chosen_on: int | None
    """How many transactions the budget was reckoned with."""
    chosen_on_days: float | None
    note: str | None
    floor: float | None
    """With a budget: below which it does not choose."""
    source: Literal["tenant", "model"]
    """`model` for a reset: from then on the active model's own decide."""
    expected_reviews_per_day: float | None
    """With a budget or a dry run: reviews a day by the last 28 days' scores; null where there are none."""
    expected_declines_per_day: float | None
    """The same for declines."""
    floor_reached: bool
    """The budget cannot be spent above the floor: fewer reviews will come."""
    notice: str | None
    """What to know about these, in a sentence."""
    dry_run: bool
    """True: nothing was set."""


class UnmatchedRow(BaseModel):
    """A row whose transaction is not stored."""

    row: int
    """From 1, below the header."""
    line: int
    """From 1, of the whole file."""
    transaction_id: str


class WaitingFigure(BaseModel):
    """How many alerts were decided within so many hours, and not within fewer."""

    hours: int | None
    """null: longer than all others."""
    decided: int


class WaitingMessage(BaseModel):
    """
    A message that has not arrived.

    Without a next attempt it was given up, or waits for its webhook to be enabled.
    """

    id: str
    event: Literal["transaction.flagged", "label.changed", "adaptation.done", "model.activated"]
    created_at: str
    attempts: int
    next_attempt_at: str | None
    last_error: str | None
    body: dict[str, Any]


class WaitingMessages(BaseModel):
    """The oldest 100 first."""

    data: list[WaitingMessage]


class WebhookState(BaseModel):
    """A webhook without its secret. Nothing is delivered to it while it is disabled."""

    id: str
    url: str
    events: list[
        Literal["transaction.flagged", "label.changed", "adaptation.done", "model.activated"]
    ]
    created_at: str
    disabled_at: str | None
    disabled_reason: str | None


class AppLabelsSchemasEffect(BaseModel):
    """A transaction as it was decided before, and as it would be now."""

    transaction_id: str
    before: DecisionMade
    after: DecisionMade


class AppThresholdsSchemasEffect(BaseModel):
    """What thresholds would have made of the scores of the last 28 days."""

    review: float
    """Rounded to two digits, as it was counted with."""
    decline: float
    """The same."""
    reviews_per_day: float | None
    declines_per_day: float | None
    precision: float | None
    """Frauds among the labelled payments to be reviewed or declined."""
    recall: float | None
    """Of the labelled frauds, so held up."""
    legitimate_share: float | None
    """Of the payments labelled legitimate, so held up."""


class AccountRevision(BaseModel):
    """An account's copy at a revision, made again from the labels of then."""

    account_id: str
    revision: int
    adaptation: AdaptationMade
    labels: list[LabelledTransaction]
    changed: list[str]
    """Transactions whose label this revision set."""


class AccountState(BaseModel):
    """What is known of an account."""

    account_id: str
    revision: int
    """Counts the changes of the account's labels."""
    transactions: int
    labels: LabelCounts


class AdaptRequest(BaseModel):
    """Nothing, to adapt now; or, with `dry_run`, labels to try out without storing anything."""

    model_config = ConfigDict(
        extra="forbid",
    )
    dry_run: bool = False
    labels: Annotated[list[Hypothesis] | None, Field(max_length=1000)] = None


class Adapted(BaseModel):
    """The account's copy: before is the base, or, in a dry run, the copy of today."""

    adaptation: AdaptationMade
    labelled: list[AppLabelsSchemasEffect]
    """The transactions that were labelled."""
    recent: list[AppLabelsSchemasEffect]
    """The account's newest transactions."""
    alerts: list[AppLabelsSchemasEffect]
    """Transactions that wait for a review."""
    guard: list[AppLabelsSchemasEffect]
    """Earlier approved ones, which nothing should alarm."""
    cleared: list[str]
    """Alerts that the account's copy would now approve."""
    raised: list[str]
    """Transactions that would now be held up, and were not."""
    account_id: str
    dry_run: bool


class AskNext(BaseModel):
    """The unlabelled transactions whose label would move the account most, the first the most."""

    account_id: str
    revision: int
    labels: LabelCounts
    suggestions: list[Suggestion]


class BatchResult(BaseModel):
    """In the order of the request."""

    results: list[Score | NotScored]


class Certificate(BaseModel):
    """The certificate of an erasure; it is kept without the account's id."""

    id: str
    erased_at: str
    account_digest: str
    """Of the account's id in UTF-8: scrypt with n = 2**15, r = 8, p = 1 and 32 bytes, in hexadecimal. Whoever has the id can match it."""
    salt: str
    """Of that digest, in hexadecimal."""
    erased: ErasedRows
    merchants_rebuilt: int
    """Merchants, devices and other entities whose counts and amounts were summed anew without the account."""
    labels_corrected: int
    """Labelled transactions of others that had seen its labels."""
    features: str
    """The digest of the features' definition."""
    model: str | None
    """Null where it could not be loaded."""
    training_data_sha256: str | None
    not_covered: list[str]
    digest: str
    """SHA-256 of the certificate without this, as canonical JSON: with the account's id, sorted, without spaces, in ASCII."""
    account_id: str


class CountedFigures(BaseModel):
    """The same, with the time at which they were counted."""

    since: str
    days: list[FigureDay]
    waiting: list[WaitingFigure]
    people: list[PersonFigure]
    """Who decided most comes first."""
    counted_at: str


class DriftJob(BaseModel):
    """A measurement of how far traffic is from a model's training data."""

    id: str
    name: str
    """Of the model."""
    status: Literal["queued", "running", "done", "failed"]
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: JobError | None
    """Where it failed."""
    days: int
    result: ModelDrift | None
    """Once it is done."""


class DriftJobs(BaseModel):
    """The newest measurements of a model's drift."""

    data: list[DriftJob]


class Entity(BaseModel):
    """What is known of an entity, and a page of the accounts that have used it."""

    data: list[EntityUse]
    has_more: bool
    next_cursor: str | None
    kind: str
    entity_id: str
    accounts: int
    """Counted up to 10,000."""
    labels: int
    """Of its payments: those that have matured, which the score sees; counted up to 10,000."""
    frauds: int
    """How many of these labels say fraud."""


class Explanation(BaseModel):
    """A score taken apart: `baseline` and all shares add up to `log_odds`."""

    transaction_id: str
    account_id: str
    probability: float
    log_odds: float
    """Of the probability, calibrated."""
    baseline: float
    """What the account's usual payment gets from a network without labels."""
    past: int
    """Payments that the usual one was taken from; at 0, the population's."""
    reasons: list[Reason]
    """All of them, those that lower the risk included."""
    model: str


class Influence(BaseModel):
    """How far each label moves its account, the furthest first."""

    account_id: str
    adaptation: AdaptationMade
    labels: list[LabelInfluence]


class LabelBatch(BaseModel):
    """Labels of any accounts, each with its own outcome."""

    model_config = ConfigDict(
        extra="forbid",
    )
    labels: Annotated[list[LabelOfTransaction], Field(max_length=1000, min_length=1)]


class LabelBatchResult(BaseModel):
    """In the order of the request."""

    results: list[LabelStored | LabelNotStored]


class LabelledAccount(BaseModel):
    """An account after labels, and what they did."""

    adaptation: AdaptationMade
    labelled: list[AppLabelsSchemasEffect]
    """The transactions that were labelled."""
    recent: list[AppLabelsSchemasEffect]
    """The account's newest transactions."""
    alerts: list[AppLabelsSchemasEffect]
    """Transactions that wait for a review."""
    guard: list[AppLabelsSchemasEffect]
    """Earlier approved ones, which nothing should alarm."""
    cleared: list[str]
    """Alerts that the account's copy would now approve."""
    raised: list[str]
    """Transactions that would now be held up, and were not."""
    account_id: str
    revision: int
    """Counts the changes of the account's labels."""
    transactions: int
    labels: LabelCounts
    stored: int
    """Labels that were new or other than before."""
    unchanged: int


class LabelsImported(BaseModel):
    """What became of each row of a file: the counts and the lists add up to `rows`."""

    dry_run: bool
    """True: nothing was stored."""
    rows: int
    stored: int
    """Labels of transactions that had none."""
    changed: int
    """Labels that replaced another."""
    unchanged: int
    """Labels that were there already."""
    superseded: int
    """Labels that differ from others which were known later."""
    not_yet_known: int
    """Labels whose date lies in the future."""
    unmatched: list[UnmatchedRow]
    refused: list[RefusedLabelRow]


class ModelComparison(BaseModel):
    """What the active model answered, beside what this one would have, by the labels of then."""

    name: str
    digest: str
    """Of the checkpoint that was compared."""
    active_digest: str
    """Of the one that was active then."""
    since: str
    transactions: int
    agreement: float | None
    """Share with the same outcome."""
    changes: list[OutcomeChange]
    shift: float | None
    """Mean absolute difference of the log-odds."""
    frauds: int
    legitimates: int
    active: ModelQuality
    shadow: ModelQuality
    better: bool | None
    """Average precision at least the active one's; null: too few frauds."""


class ModelList(BaseModel):
    """The checkpoints that there are, by name."""

    data: list[ModelState]


class PeopleList(BaseModel):
    """A tenant's people by name, also those who have been removed."""

    data: list[PersonState]


class PostedBatch(BaseModel):
    """Payments of any accounts, each scored as if it had been posted alone."""

    model_config = ConfigDict(
        extra="forbid",
    )
    transactions: Annotated[list[PostedTransaction], Field(max_length=1000, min_length=1)]


class PostedLabel(BaseModel):
    """A label for a transaction: a stored one by its id, or a whole one, which is scored first."""

    model_config = ConfigDict(
        extra="forbid",
    )
    label: Literal["fraud", "legitimate"]
    labelled_at: str | None = None
    """When it was found out; now by default."""
    source: Literal[
        "analyst", "chargeback", "dispute", "early_fraud_warning", "refund", "customer"
    ] = "analyst"
    """How it was found out."""
    analyst: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    """Who says so."""
    note: Annotated[
        str | None,
        Field(
            max_length=2000,
            min_length=1,
            pattern="^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f]+$",
        ),
    ] = None
    """For colleagues and auditors."""
    transaction_id: Annotated[
        str | None, Field(max_length=128, min_length=1, pattern="^[^\\x00-\\x1f\\x7f-\\x9f]+$")
    ] = None
    transaction: PostedTransaction | None = None


class PostedLabels(BaseModel):
    """Labels of one account, stored together or not at all."""

    model_config = ConfigDict(
        extra="forbid",
    )
    labels: Annotated[list[PostedLabel], Field(max_length=1000, min_length=1)]


class Question(BaseModel):
    """A suggestion of some account."""

    transaction: StoredTransaction
    now: DecisionMade
    shift: float
    """Expected mean absolute change of the recent transactions' log-odds, fraud being as likely as the account's copy says."""
    shift_if_fraud: float
    shift_if_legitimate: float
    account_id: str


class Questions(BaseModel):
    """Payments of several accounts whose label would move their account most, these first."""

    accounts: int
    """That were looked at."""
    data: list[Question]


class ReviewedTransaction(BaseModel):
    """A review with the transaction as it was posted and scored."""

    transaction_id: str
    account_id: str
    kind: Literal["review", "decline", "sample"]
    status: Literal["open", "cleared", "resolved"]
    risk_score: float
    probability: float
    revision: int
    """Of the account, when its risk was looked at."""
    occurred_at: str
    opened_at: str
    assignee: str | None
    """Who has it, as the caller named them; for 24 hours."""
    assigned_at: str | None
    assigned_by: str | None
    """The id of the key, or of the first of those that it has replaced, or `person:` and of the person: this is proven."""
    snoozed_until: str | None
    """Left out of the queue until then. null: it is awake."""
    resolved_at: str | None
    transaction: StoredTransaction


class RolledBack(BaseModel):
    """
    An account whose labels are what they were at a revision, and what that did.

    `labelled` are the transactions whose label is another than before, or is none. In a dry run
    the account is as it is, and the answer is what would be.
    """

    adaptation: AdaptationMade
    labelled: list[AppLabelsSchemasEffect]
    """The transactions that were labelled."""
    recent: list[AppLabelsSchemasEffect]
    """The account's newest transactions."""
    alerts: list[AppLabelsSchemasEffect]
    """Transactions that wait for a review."""
    guard: list[AppLabelsSchemasEffect]
    """Earlier approved ones, which nothing should alarm."""
    cleared: list[str]
    """Alerts that the account's copy would now approve."""
    raised: list[str]
    """Transactions that would now be held up, and were not."""
    account_id: str
    revision: int
    """Counts the changes of the account's labels."""
    transactions: int
    labels: LabelCounts
    as_of: int
    """The revision that the labels are of."""
    dry_run: bool


class SavedSearch(BaseModel):
    """A search, under the name that its owner gave it."""

    name: str
    filters: SearchFilters
    saved_at: str


class SearchList(BaseModel):
    """What a person, or a key, has saved, by name."""

    data: list[SavedSearch]


class StatusBatch(BaseModel):
    """Statuses of any transactions, each with its own outcome."""

    model_config = ConfigDict(
        extra="forbid",
    )
    statuses: Annotated[list[StatusOfTransaction], Field(max_length=1000, min_length=1)]


class StatusBatchResult(BaseModel):
    """In the order of the request."""

    results: list[StatusStored | StatusNotStored]


class ThresholdEffects(BaseModel):
    """What thresholds would have done of late, and the histogram that says so for all others."""

    since: str
    days: float
    """From the oldest of these scores to now, 1 or more."""
    transactions: int
    sampled_one_in: int
    """Bins are counted in a sample of about one in so many, and scaled."""
    bins: list[HistogramBin]
    """Those that have scores."""
    counted_at: str
    effect: AppThresholdsSchemasEffect


class ThresholdsInForce(BaseModel):
    """What decides now, and what will next."""

    review: float
    decline: float
    source: Literal["tenant", "model"]
    """Stated by the tenant, or the model's."""
    own: ThresholdsKept | None
    next: ThresholdsKept | None


class TransactionLabelled(BaseModel):
    """One label, and what it did."""

    adaptation: AdaptationMade
    labelled: list[AppLabelsSchemasEffect]
    """The transactions that were labelled."""
    recent: list[AppLabelsSchemasEffect]
    """The account's newest transactions."""
    alerts: list[AppLabelsSchemasEffect]
    """Transactions that wait for a review."""
    guard: list[AppLabelsSchemasEffect]
    """Earlier approved ones, which nothing should alarm."""
    cleared: list[str]
    """Alerts that the account's copy would now approve."""
    raised: list[str]
    """Transactions that would now be held up, and were not."""
    transaction_id: str
    account_id: str
    label: Literal["fraud", "legitimate"] | None
    changed: bool
    """False where it had been there already."""


class WebhookList(BaseModel):
    """A tenant's webhooks, the oldest first."""

    data: list[WebhookState]


class ComparisonJob(BaseModel):
    """A comparison of a model with the active one."""

    id: str
    name: str
    """Of the model."""
    status: Literal["queued", "running", "done", "failed"]
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: JobError | None
    """Where it failed."""
    days: float
    result: ModelComparison | None
    """Once it is done."""


class ComparisonJobs(BaseModel):
    """The newest comparisons of a model."""

    data: list[ComparisonJob]

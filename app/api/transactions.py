"""Transactions: scored one by one or up to 1,000 at once, and read back."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from app import store
from app.api.authentication import RunningService, Tenant
from app.api.fields import Amount, Attribute, Body, Currency, Id, Instant, LabelName
from app.batching import MOST_ITEMS
from app.content import amount_text, transaction_of
from app.errors import (
    BodyTooLarge,
    DatabaseUnavailable,
    MalformedBody,
    Problem,
    TransactionConflict,
    TransactionNotFound,
    Unauthenticated,
    ValidationFailed,
    documented,
)
from app.pipeline import Posted
from app.rows import Scored
from app.scoring import Used
from app.times import text_of
from app.transactions import Transaction

EXAMPLE: JsonDict = {
    "transaction_id": "t-1001",
    "account_id": "a-17",
    "occurred_at": "2026-01-31T12:00:00+01:00",
    "amount": "412.00",
    "currency": "EUR",
    "merchant_id": "m-5",
    "merchant_category": "electronics",
    "channel": "online",
    "country": "DE",
    "attributes": {"device_age_days": 3},
}


class PostedTransaction(Body):
    """One payment. Its id is the caller's; posting it again returns the stored score."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXAMPLE]})

    transaction_id: Id
    account_id: Id
    occurred_at: Instant
    amount: Amount
    currency: Currency
    merchant_id: Id | None = None
    merchant_category: Id | None = None
    channel: Id | None = None
    country: Id | None = None
    attributes: Annotated[dict[Id, Attribute], Field(max_length=64, default_factory=dict)]

    def transaction(self) -> Transaction:
        return Transaction(
            transaction_id=self.transaction_id,
            account_id=self.account_id,
            occurred_at_us=self.occurred_at,
            amount=self.amount,
            currency=self.currency,
            merchant_id=self.merchant_id,
            merchant_category=self.merchant_category,
            channel=self.channel,
            country=self.country,
            attributes=self.attributes,
        )


class PostedBatch(Body):
    transactions: Annotated[list[PostedTransaction], Field(min_length=1, max_length=MOST_ITEMS)]


class AdaptationUsed(BaseModel):
    """Which network scored: the account's own copy, from how many labels, or the base.

    `base` where the account's labels do not bear its copy out, `insufficient_labels` where it
    has none to learn from.
    """

    used: Used
    labels: int
    revision: int


class Score(BaseModel):
    transaction_id: str
    account_id: str
    probability: Annotated[float, Field(ge=0, le=1, description="Calibrated.")]
    risk_score: Annotated[float, Field(ge=0, le=100)]
    risk_level: Literal["low", "medium", "high", "critical"]
    outcome: Literal["approve", "review", "decline"]
    adaptation: AdaptationUsed
    model: str
    evaluated_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class ItemProblem(BaseModel):
    code: str
    title: str
    detail: str


class NotScored(BaseModel):
    """A transaction of a batch that has no score, while its neighbours have theirs."""

    transaction_id: str
    error: ItemProblem


class BatchResult(BaseModel):
    results: list[Score | NotScored]


class StoredTransaction(BaseModel):
    """What was posted, the score it had, and its label, if any."""

    transaction_id: str
    account_id: str
    occurred_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})]
    amount: str
    currency: str
    merchant_id: str | None
    merchant_category: str | None
    channel: str | None
    country: str | None
    attributes: dict[str, str | float | bool]
    score: Score
    label: LabelName | None


router = APIRouter(
    prefix="/v1/transactions",
    tags=["transactions"],
    responses=documented(Unauthenticated, ValidationFailed, DatabaseUnavailable),
)
WRITES = documented(MalformedBody, BodyTooLarge)


@router.post("", responses={**WRITES, **documented(TransactionConflict)})
async def score_transaction(
    posted: PostedTransaction, service: RunningService, tenant: Tenant
) -> Score:
    """Score one transaction and remember it."""
    [answer] = await service.score([Posted(tenant, posted.transaction())])
    if isinstance(answer, Problem):
        raise answer
    return score_of(answer)


@router.post("/batch", responses=WRITES)
async def score_batch(posted: PostedBatch, service: RunningService, tenant: Tenant) -> BatchResult:
    """Score up to 1,000 transactions; the results come in their order."""
    transactions = [one.transaction() for one in posted.transactions]
    answers = await service.score([Posted(tenant, one) for one in transactions])
    pairs = zip(transactions, answers, strict=True)
    return BatchResult(results=[_result(one, answer) for one, answer in pairs])


@router.get("/{transaction_id:path}", responses=documented(TransactionNotFound))
async def read_transaction(
    transaction_id: Id, service: RunningService, tenant: Tenant
) -> StoredTransaction:
    """A transaction as it was posted and scored."""
    async with service.database.read() as connection:
        found = await store.scored(connection, tenant, [transaction_id])
        labels = await store.labels_of(connection, tenant, [transaction_id])
    if transaction_id not in found:
        raise TransactionNotFound(f"There is no transaction {transaction_id!r}.")
    label = labels.get(transaction_id)
    return _stored(found[transaction_id], None if label is None else label.is_fraud)


def score_of(row: Scored) -> Score:
    """The answer that a stored row stands for: equal rows, equal bytes."""
    return Score(
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        probability=row.probability,
        risk_score=row.risk_score,
        risk_level=row.risk_level,
        outcome=row.outcome,
        adaptation=AdaptationUsed(
            used=row.used,
            labels=row.labels,
            revision=row.revision,
        ),
        model=row.model,
        evaluated_at=text_of(row.evaluated_at_us),
    )


def _result(transaction: Transaction, answer: Scored | Problem) -> Score | NotScored:
    if isinstance(answer, Scored):
        return score_of(answer)
    error = ItemProblem(code=answer.code, title=answer.title, detail=answer.detail)
    return NotScored(transaction_id=transaction.transaction_id, error=error)


def _stored(row: Scored, is_fraud: bool | None) -> StoredTransaction:
    transaction = transaction_of(row.content)
    return StoredTransaction(
        transaction_id=transaction.transaction_id,
        account_id=transaction.account_id,
        occurred_at=text_of(transaction.occurred_at_us),
        amount=amount_text(transaction.amount),
        currency=transaction.currency,
        merchant_id=transaction.merchant_id,
        merchant_category=transaction.merchant_category,
        channel=transaction.channel,
        country=transaction.country,
        attributes=dict(transaction.attributes),
        score=score_of(row),
        label=None if is_fraud is None else ("fraud" if is_fraud else "legitimate"),
    )

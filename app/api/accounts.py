"""Accounts: their labels, and what those make of their scores."""

from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app import store
from app.api.authentication import RunningService, Tenant
from app.api.fields import Body, Id, LabelName
from app.api.transactions import WRITES, AdaptationUsed, PostedTransaction
from app.batching import MOST_ITEMS
from app.errors import (
    AccountNotFound,
    DatabaseUnavailable,
    FieldError,
    LabelNotFound,
    TransactionConflict,
    TransactionNotFound,
    Unauthenticated,
    ValidationFailed,
    WrongAccount,
    documented,
)
from app.labelling import Adaptation, Effect, Verdict
from app.rows import Account


class PostedLabel(Body):
    """A label for a transaction: a stored one by its id, or a whole one, which is scored first."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": ["transaction_id"]}, {"required": ["transaction"]}]
        }
    )

    transaction_id: Annotated[Id, Field(default="")]
    transaction: Annotated[PostedTransaction, Field(default=None)]
    label: LabelName

    @model_validator(mode="after")
    def _names_one_transaction(self) -> Self:
        if ("transaction" in self.model_fields_set) == ("transaction_id" in self.model_fields_set):
            raise ValueError("a label has either a transaction_id or a transaction")
        return self

    def verdict(self) -> Verdict:
        is_fraud = self.label == "fraud"
        if "transaction_id" in self.model_fields_set:
            return Verdict(self.transaction_id, is_fraud)
        return Verdict(self.transaction.transaction_id, is_fraud, self.transaction.transaction())


class PostedLabels(Body):
    labels: Annotated[list[PostedLabel], Field(min_length=1, max_length=MOST_ITEMS)]


class LabelCounts(BaseModel):
    fraud: int
    legitimate: int


class ScoreChange(BaseModel):
    """A labelled transaction by the copy of the previous revision, and by that of now."""

    transaction_id: str
    probability_before: float
    probability_after: float


class AccountState(BaseModel):
    account_id: str
    revision: Annotated[int, Field(description="Counts the changes of the account's labels.")]
    transactions: int
    labels: LabelCounts


class AdaptedAccount(AccountState):
    adaptation: AdaptationUsed


class LabelledAccount(AdaptedAccount):
    stored: int
    unchanged: int
    scores: list[ScoreChange]


router = APIRouter(
    prefix="/v1/accounts",
    tags=["accounts"],
    responses=documented(Unauthenticated, ValidationFailed, DatabaseUnavailable),
)
Conflicting = documented(TransactionNotFound, TransactionConflict, ValidationFailed, WrongAccount)


@router.post("/{account_id:path}/labels", responses={**WRITES, **Conflicting})
async def label_transactions(
    account_id: Id, posted: PostedLabels, service: RunningService, tenant: Tenant
) -> LabelledAccount:
    """Store labels, all or none; the account's very next score uses them."""
    verdicts = _distinct([label.verdict() for label in posted.labels])
    done = await service.labelling.store(tenant, account_id, verdicts)
    return LabelledAccount(
        **_state(done.account),
        adaptation=_adaptation(done.adaptation),
        stored=done.stored,
        unchanged=done.unchanged,
        scores=[_change(effect) for effect in done.effects],
    )


@router.delete(
    "/{account_id:path}/labels/{transaction_id:path}", responses=documented(LabelNotFound)
)
async def remove_label(
    account_id: Id, transaction_id: Id, service: RunningService, tenant: Tenant
) -> AdaptedAccount:
    """Unlearn a label: the account's copy becomes what it would be had it never been there."""
    account, adaptation = await service.labelling.remove(tenant, account_id, transaction_id)
    return AdaptedAccount(**_state(account), adaptation=_adaptation(adaptation))


@router.post("/{account_id:path}/adapt", responses=documented(AccountNotFound))
async def adapt_account(account_id: Id, service: RunningService, tenant: Tenant) -> AdaptationUsed:
    """Adapt now, ahead of the next score, and say which network will give it."""
    return _adaptation(await service.labelling.adapt(tenant, account_id))


@router.get("/{account_id:path}", responses=documented(AccountNotFound))
async def read_account(account_id: Id, service: RunningService, tenant: Tenant) -> AccountState:
    """What is known of an account."""
    async with service.database.read() as connection:
        account = await store.account(connection, tenant, account_id)
    if account is None:
        raise AccountNotFound(f"There is no account {account_id!r}.")
    return AccountState(**_state(account))


def _distinct(verdicts: list[Verdict]) -> list[Verdict]:
    """Each transaction once; raises ValidationFailed where one is given two labels."""
    distinct: dict[str, Verdict] = {}
    for position, verdict in enumerate(verdicts):
        first = distinct.setdefault(verdict.transaction_id, verdict)
        if first.is_fraud != verdict.is_fraud:
            message = "This transaction has another label earlier in the same request."
            raise ValidationFailed(message, [FieldError(f"labels[{position}].label", message)])
        if first.transaction != verdict.transaction:
            message = "This transaction is told differently earlier in the same request."
            raise ValidationFailed(message, [FieldError(f"labels[{position}]", message)])
    return list(distinct.values())


def _state(account: Account) -> dict[str, object]:
    counts = LabelCounts(fraud=account.fraud_labels, legitimate=account.legitimate_labels)
    return {
        "account_id": account.account_id,
        "revision": account.revision,
        "transactions": account.transactions,
        "labels": counts,
    }


def _adaptation(adaptation: Adaptation) -> AdaptationUsed:
    return AdaptationUsed.model_validate(adaptation._asdict())


def _change(effect: Effect) -> ScoreChange:
    return ScoreChange(
        transaction_id=effect.transaction_id,
        probability_before=effect.before.probability,
        probability_after=effect.after.probability,
    )

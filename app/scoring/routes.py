"""Transactions: scored one by one or up to 1,000 at once, and read back."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic_core import from_json

from app.errors import Problem
from app.explanations.replay import Replay
from app.http.authentication import Admission, MayRead, RunningAdmission, ScorePlace
from app.http.batching import Place
from app.http.fields import Amount, Id, InstantBound, InvalidItem, LabelName
from app.http.keyed import KeyedRoute
from app.http.lean import ScoringRoute
from app.http.pages import Page
from app.http.paging import BY_TIME, Paging
from app.http.parts import RunningDatabase, part
from app.http.paths import TransactionId, stored_entity
from app.http.problems import (
    EVERYWHERE,
    BodyTooLarge,
    MalformedBody,
    UnsupportedEncoding,
    documented,
)
from app.labels import store as label_store
from app.labels.records import StoredLabel
from app.learner.decisions import Level, Outcome
from app.learner.spec import EntityKind
from app.learner.transaction import Transaction, amount_text, transaction_of
from app.ops.actor import actor
from app.scoring import store as transaction_store
from app.scoring.errors import TransactionConflict, TransactionNotFound
from app.scoring.items import problem_of, why_invalid
from app.scoring.pipeline import Posted
from app.scoring.records import Scored
from app.scoring.schemas import (
    BatchResult,
    Explanation,
    PostedBatch,
    PostedTransaction,
    Reason,
    Score,
    StoredTransaction,
)
from app.scoring.store import Filters, LabelFilter
from app.times import text_of

router, scoring = (
    APIRouter(
        prefix="/v1/transactions",
        tags=["transactions"],
        responses=documented(*EVERYWHERE),
        route_class=kind,
    )
    for kind in (KeyedRoute, ScoringRoute)
)
RunningReplay = Annotated[Replay, part(Replay)]
WRITES = documented(MalformedBody, BodyTooLarge, UnsupportedEncoding)


@scoring.post("", response_model=Score, responses={**WRITES, **documented(TransactionConflict)})
async def score_transaction(
    posted: PostedTransaction, admission: RunningAdmission, place: ScorePlace
) -> dict[str, Any]:
    """Score one transaction and remember it."""
    [answer] = await _scored(admission, place, [posted.transaction()])
    if isinstance(answer, Problem):
        raise answer
    return score_of(answer)


@scoring.post("/batch", response_model=BatchResult, responses=WRITES)
async def score_batch(
    posted: PostedBatch, admission: RunningAdmission, place: ScorePlace
) -> dict[str, Any]:
    """Score up to 1,000 transactions; the results come in their order."""
    items = posted.transactions
    admission.rates.owe(actor.get(), len(items) - 1)
    valid = [item.transaction() for item in items if not isinstance(item, InvalidItem)]
    # Where it is answered in parts, the earlier payments of an account come first.
    order = sorted(range(len(valid)), key=lambda n: valid[n].occurred_at_us)
    answers = await _scored(admission, place, [valid[n] for n in order])
    answer_of = dict(zip(order, answers, strict=True))
    results = (_result(payment, answer_of[n]) for n, payment in enumerate(valid))
    return {
        "results": [
            {"transaction_id": item.transaction_id, "error": why_invalid(item)}
            if isinstance(item, InvalidItem)
            else next(results)
            for item in items
        ]
    }


async def _scored(
    admission: Admission, place: Place, transactions: Iterable[Transaction]
) -> Sequence[Scored | Problem]:
    """Score in the next batch, beside whoever else is waiting."""
    posted = [Posted(place.tenant, transaction) for transaction in transactions]
    return await admission.queue.submit(place, posted)


@router.get("")
async def list_transactions(
    database: RunningDatabase,
    tenant: MayRead,
    paging: Paging,
    account_id: Annotated[Id | None, Query(description="Of this account only.")] = None,
    occurred_from: Annotated[
        InstantBound | None, Query(description="At this time or later.")
    ] = None,
    occurred_to: Annotated[InstantBound | None, Query(description="Before this time.")] = None,
    outcome: Annotated[Outcome | None, Query(description="With this outcome.")] = None,
    risk_level: Annotated[Level | None, Query(description="Of this level.")] = None,
    entity_kind: Annotated[
        EntityKind | None,
        Query(description="merchant, device, ip, card, email, or another; with entity_id."),
    ] = None,
    entity_id: Annotated[
        Id | None, Query(description="That named this entity; with entity_kind.")
    ] = None,
    amount_from: Annotated[
        Amount | None, Query(description="Of this amount or more, in whatever currency.")
    ] = None,
    amount_to: Annotated[
        Amount | None, Query(description="Of this amount or less, in whatever currency.")
    ] = None,
    label: Annotated[LabelFilter | None, Query(description="With this label, or none.")] = None,
) -> Page[StoredTransaction]:
    """Transactions with their scores, the newest first.

    By an amount, an entity or the lack of a label 2,000 are looked at for a page, which may have
    few or none of them and still go on.
    """
    filters = Filters(
        account_id,
        occurred_from,
        occurred_to,
        outcome,
        risk_level,
        stored_entity(entity_kind, entity_id),
        None if amount_from is None else float(amount_from),
        None if amount_to is None else float(amount_to),
        label,
    )
    listed = paging.of(BY_TIME, "transactions", *filters)
    async with database.read() as connection:
        found = await transaction_store.listed(
            connection, tenant, filters, listed.after, listed.rows
        )
        ids = [row.transaction_id for row in found.rows]
        labels = await label_store.labels_of(connection, tenant, ids)
        return await listed.page(
            found,
            lambda row: stored_of(row, labels.get(row.transaction_id)),
            lambda row: (row.occurred_at_us, row.transaction_id),
        )


@router.get("/{transaction_id}", responses=documented(TransactionNotFound))
async def read_transaction(
    transaction_id: TransactionId, database: RunningDatabase, tenant: MayRead
) -> StoredTransaction:
    """A transaction as it was posted and scored."""
    async with database.read() as connection:
        row = await transaction_store.require_scored(connection, tenant, transaction_id)
        labels = await label_store.labels_of(connection, tenant, [transaction_id])
    return stored_of(row, labels.get(transaction_id))


@router.get("/{transaction_id}/reasons", responses=documented(TransactionNotFound))
async def explain_transaction(
    transaction_id: TransactionId, replay: RunningReplay, tenant: MayRead
) -> Explanation:
    """Why a transaction has its score: all shares, by the copy that scored it."""
    explained = await replay.explain(tenant, transaction_id)
    return Explanation(
        transaction_id=explained.transaction.transaction_id,
        account_id=explained.transaction.account_id,
        probability=explained.probability,
        log_odds=explained.log_odds,
        baseline=explained.baseline,
        past=explained.past,
        reasons=[Reason.model_validate(reason.answered()) for reason in explained.reasons],
        model=explained.model,
    )


def score_of(row: Scored) -> dict[str, Any]:
    """The answer that a stored row stands for, in the shape of `Score`: equal rows, equal bytes."""
    return {
        "transaction_id": row.transaction_id,
        "account_id": row.account_id,
        "probability": row.probability,
        "risk_score": row.risk_score,
        "risk_level": row.risk_level,
        "outcome": row.outcome,
        "adaptation": {"used": row.used, "labels": row.labels, "revision": row.revision},
        "reasons": from_json(row.reasons) if row.reasons else [],
        "model": row.model,
        "evaluated_at": text_of(row.evaluated_at_us),
    }


def _result(transaction: Transaction, answer: Scored | Problem) -> dict[str, Any]:
    if isinstance(answer, Scored):
        return score_of(answer)
    return {"transaction_id": transaction.transaction_id, "error": problem_of(answer)}


def label_name(is_fraud: bool) -> LabelName:
    """The name that a label has for people."""
    return "fraud" if is_fraud else "legitimate"


def stored_of(row: Scored, label: StoredLabel | None) -> StoredTransaction:
    """The answer that a stored transaction and its label stand for."""
    transaction = transaction_of(row.content)
    return StoredTransaction.model_validate(
        {
            **transaction._asdict(),
            "occurred_at": text_of(transaction.occurred_at_us),
            "amount": amount_text(transaction.amount),
            "status": row.status,
            "score": score_of(row),
            "label": label_name(label.is_fraud) if label else None,
        }
    )

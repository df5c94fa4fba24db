"""For auditors: scores replayed, copies of the past, what each label does, and erasure."""

import json
from typing import Annotated

from fastapi import APIRouter, Path, Query

from app import store
from app.api.authentication import MayAdminister, MayRead, RunningService
from app.api.keyed import KeyedRoute
from app.api.labels import adaptation_of, decision_of, state_of
from app.api.pages import BY_TIME, Paging
from app.api.paths import AccountId, ErasureId, TransactionId
from app.api.transactions import label_name, stored_of
from app.decisions import Decision
from app.errors import (
    EVERYWHERE,
    AccountNotFound,
    ErasureNotFound,
    RevisionNotFound,
    TransactionNotFound,
    documented,
)
from app.questions import Influence as Influential
from app.rows import Erasure as Kept
from app.schemas.audit import (
    AccountRevision,
    AskNext,
    Certificate,
    Erasure,
    Influence,
    LabelInfluence,
    LabelledTransaction,
    Replayed,
    Suggestion,
)
from app.schemas.labels import DecisionMade
from app.schemas.pages import Page

router = APIRouter(
    prefix="/v1",
    tags=["audit"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.post("/transactions/{transaction_id}/replay", responses=documented(TransactionNotFound))
async def replay_transaction(
    transaction_id: TransactionId, service: RunningService, tenant: MayRead
) -> Replayed:
    """Compute a score again from checkpoint, labels and features of then, and compare."""
    row, decision, copy, model, differs = await service.replay.replay(tenant, transaction_id)
    return Replayed(
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        match=not differs,
        differs=differs,
        stored=DecisionMade(
            probability=row.probability,
            risk_score=row.risk_score,
            risk_level=row.risk_level,
            outcome=row.outcome,
        ),
        recomputed=decision_of(decision),
        stored_model=row.model,
        model=model,
        review_from=row.review_from,
        decline_from=row.decline_from,
        adaptation=adaptation_of(row.revision, copy),
    )


@router.get(
    "/accounts/{account_id}/revisions/{revision}",
    responses=documented(AccountNotFound, RevisionNotFound),
)
async def read_revision(
    account_id: AccountId,
    revision: Annotated[int, Path(ge=0, le=2**63 - 1, examples=[1])],
    service: RunningService,
    tenant: MayRead,
) -> AccountRevision:
    """The copy of any past revision, made again."""
    found = await service.replay.revision(tenant, account_id, revision)
    return AccountRevision(
        account_id=account_id,
        revision=revision,
        adaptation=adaptation_of(revision, found.copy),
        labels=[
            LabelledTransaction(transaction_id=row.transaction_id, label=label_name(row.is_fraud))
            for row in found.support
        ],
        changed=[event.transaction_id for event in found.changes],
    )


@router.get("/accounts/{account_id}/influence", responses=documented(AccountNotFound))
async def read_influence(
    account_id: AccountId, service: RunningService, tenant: MayRead
) -> Influence:
    """How far each label moves the account: the copy that leaves it out, beside the one that
    has it."""
    account, copy, found = await service.questions.influence(tenant, account_id)
    return Influence(
        account_id=account_id,
        adaptation=adaptation_of(account.revision, copy),
        labels=[_influence(one) for one in found],
    )


@router.get("/accounts/{account_id}/ask-next", responses=documented(AccountNotFound))
async def ask_next(
    account_id: AccountId,
    service: RunningService,
    tenant: MayRead,
    limit: Annotated[int, Query(ge=1, le=50, description="Suggestions at most.")] = 5,
) -> AskNext:
    """Which transactions to label next: those that would move the account most."""
    account, found = await service.questions.ask_next(tenant, account_id, limit)
    state = state_of(account)
    return AskNext(
        account_id=account_id,
        revision=account.revision,
        labels=state["labels"],
        suggestions=[
            Suggestion(
                transaction=stored_of(one.transaction, None),
                now=decision_of(one.decision),
                shift=one.shift,
                shift_if_fraud=one.if_fraud,
                shift_if_legitimate=one.if_legitimate,
            )
            for one in found
        ],
    )


@router.delete("/accounts/{account_id}", responses=documented(AccountNotFound))
async def erase_account(
    account_id: AccountId, service: RunningService, tenant: MayAdminister
) -> Certificate:
    """Erase an account: its transactions, labels, their history and reviews. There is no way
    back."""
    row = await service.erasing.erase(tenant, account_id)
    return Certificate(account_id=account_id, digest=row.digest, **json.loads(row.content))


@router.get("/erasures")
async def list_erasures(service: RunningService, tenant: MayRead, paging: Paging) -> Page[Erasure]:
    """The certificates of erasures, without the accounts' ids, the newest first."""
    after = paging.after(BY_TIME, "erasures")
    async with service.database.read() as connection:
        found = await store.listed_erasures(connection, tenant, after, paging.limit + 1)
        return await paging.page(found, _erasure, lambda row: (row.at_us, row.id), "erasures")


@router.get("/erasures/{erasure_id}", responses=documented(ErasureNotFound))
async def read_erasure(erasure_id: ErasureId, service: RunningService, tenant: MayRead) -> Erasure:
    """One certificate, without the account's id."""
    async with service.database.read() as connection:
        row = await store.erasure(connection, tenant, erasure_id)
    if row is None:
        raise ErasureNotFound(f"There is no erasure {erasure_id!r}.")
    return _erasure(row)


def _erasure(row: Kept) -> Erasure:
    return Erasure(actor=row.actor, digest=row.digest, **json.loads(row.content))


def _influence(one: Influential) -> LabelInfluence:
    return LabelInfluence(
        transaction_id=one.label.transaction_id,
        label=label_name(one.label.is_fraud),
        learned=one.is_learned,
        shift=one.shift,
        furthest=one.furthest,
        without=_perhaps(one.before),
        with_label=_perhaps(one.after),
    )


def _perhaps(decision: Decision | None) -> DecisionMade | None:
    return None if decision is None else decision_of(decision)

"""For auditors: scores replayed, copies of the past, what each label does, and erasure."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from app.accounts import store as account_store
from app.accounts.errors import AccountNotFound
from app.explanations.questions import Influence as Influential
from app.explanations.questions import Questions
from app.explanations.questions import Suggestion as Suggested
from app.explanations.replay import Replay
from app.explanations.schemas import (
    AccountRevision,
    AskNext,
    Influence,
    LabelChange,
    LabelInfluence,
    LabelledTransaction,
    Question,
    Replayed,
    Suggestion,
)
from app.explanations.schemas import Questions as ManyQuestions
from app.http.authentication import MayRead
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_TIME, Paging
from app.http.parts import RunningDatabase, part
from app.http.paths import AccountId, TransactionId
from app.http.problems import EVERYWHERE, documented
from app.labels import store as label_store
from app.labels.errors import RevisionNotFound
from app.labels.records import LabelEvent
from app.labels.routes import adaptation_of, decision_of, event_of, state_of
from app.labels.schemas import DecisionMade
from app.learner.decisions import Decision
from app.scoring.errors import TransactionNotFound
from app.scoring.routes import label_name, stored_of

router = APIRouter(
    prefix="/v1",
    tags=["audit"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)
RunningQuestions = Annotated[Questions, part(Questions)]
RunningReplay = Annotated[Replay, part(Replay)]


@router.post("/transactions/{transaction_id}/replay", responses=documented(TransactionNotFound))
async def replay_transaction(
    transaction_id: TransactionId, replay: RunningReplay, tenant: MayRead
) -> Replayed:
    """Compute a score again from checkpoint, labels and features of then, and compare."""
    row, decision, copy, model, differs = await replay.replay(tenant, transaction_id)
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


@router.get("/accounts/{account_id}/revisions", responses=documented(AccountNotFound))
async def list_revisions(
    account_id: AccountId, database: RunningDatabase, tenant: MayRead, paging: Paging
) -> Page[LabelChange]:
    """Every change of an account's labels, the newest revision first."""
    listed = paging.of(BY_TIME, "revisions", account_id)
    async with database.read() as connection:
        await account_store.require_account(connection, tenant, account_id)
        found = await label_store.listed_events(
            connection, tenant, account_id, listed.after, listed.rows
        )
        return await listed.page(found, _change, lambda row: (row.revision, row.transaction_id))


@router.get(
    "/accounts/{account_id}/revisions/{revision}",
    responses=documented(AccountNotFound, RevisionNotFound),
)
async def read_revision(
    account_id: AccountId,
    revision: Annotated[int, Path(ge=0, le=2**63 - 1, examples=[1])],
    replay: RunningReplay,
    tenant: MayRead,
) -> AccountRevision:
    """The copy of any past revision, made again."""
    found = await replay.revision(tenant, account_id, revision)
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
    account_id: AccountId, questions: RunningQuestions, tenant: MayRead
) -> Influence:
    """How far each label moves the account: the copy that leaves it out, beside the one that
    has it."""
    found = await questions.influence(tenant, account_id)
    return Influence(
        account_id=account_id,
        adaptation=adaptation_of(found.account.revision, found.copy),
        labels=[_influence(label) for label in found.labels],
    )


@router.get("/accounts/{account_id}/ask-next", responses=documented(AccountNotFound))
async def ask_next(
    account_id: AccountId,
    questions: RunningQuestions,
    tenant: MayRead,
    limit: Annotated[int, Query(ge=1, le=50, description="Suggestions at most.")] = 5,
) -> AskNext:
    """Which transactions to label next: those that would move the account most."""
    account, found = await questions.ask_next(tenant, account_id, limit)
    state = state_of(account)
    return AskNext(
        account_id=account_id,
        revision=account.revision,
        labels=state["labels"],
        suggestions=[_suggestion(suggested) for suggested in found],
    )


@router.get("/ask-next")
async def ask_next_of_all(
    questions: RunningQuestions,
    tenant: MayRead,
    limit: Annotated[int, Query(ge=1, le=50, description="Payments at most.")] = 5,
) -> ManyQuestions:
    """Which payments to label next, of the 4 accounts with the riskiest open reviews.

    Each would move its account as far as `shift` says, the furthest first.
    """
    accounts, found = await questions.ask_next_of_all(tenant, limit)
    return ManyQuestions(
        accounts=accounts,
        data=[
            Question(**dict(_suggestion(suggested)), account_id=suggested.transaction.account_id)
            for suggested in found
        ],
    )


def _suggestion(suggested: Suggested) -> Suggestion:
    return Suggestion(
        transaction=stored_of(suggested.transaction, None),
        now=decision_of(suggested.decision),
        shift=suggested.shift,
        shift_if_fraud=suggested.if_fraud,
        shift_if_legitimate=suggested.if_legitimate,
    )


def _change(row: LabelEvent) -> LabelChange:
    return LabelChange(**event_of(row).model_dump(), transaction_id=row.transaction_id)


def _influence(influential: Influential) -> LabelInfluence:
    return LabelInfluence(
        transaction_id=influential.label.transaction_id,
        label=label_name(influential.label.is_fraud),
        learned=influential.is_learned,
        shift=influential.shift,
        furthest=influential.furthest,
        without=_perhaps(influential.before),
        with_label=_perhaps(influential.after),
    )


def _perhaps(decision: Decision | None) -> DecisionMade | None:
    return None if decision is None else decision_of(decision)

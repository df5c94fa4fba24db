"""Reviews: what waits for a person, who has it; a label resolves it."""

from collections.abc import Callable, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from app import store
from app.api.authentication import MayLabel, MayRead, RunningService
from app.api.bodies import JSONRoute
from app.api.pages import BY_RISK, BY_TIME, Paging
from app.api.paths import TransactionId
from app.api.transactions import WRITES, stored_of
from app.errors import (
    EVERYWHERE,
    ReviewNotFound,
    ReviewTaken,
    documented,
)
from app.rows import Review as Row
from app.schemas.fields import Id
from app.schemas.pages import Page
from app.schemas.reviews import Assignment, Order, Review, ReviewedTransaction, Status
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1/reviews",
    tags=["reviews"],
    responses=documented(*EVERYWHERE),
    route_class=JSONRoute,
)


@router.get("")
async def list_reviews(
    service: RunningService,
    tenant: MayRead,
    paging: Paging,
    status: Annotated[Status, Query(description="Cleared ones their account's copy approves.")] = (
        "open"
    ),
    account_id: Annotated[Id | None, Query(description="Of this account only.")] = None,
    assignee: Annotated[Id | None, Query(description="Of this person only.")] = None,
    order: Annotated[Order, Query(description="Highest risk or oldest first.")] = "risk",
) -> Page[ReviewedTransaction]:
    """The review queue, each with its transaction and the score it had."""
    listed = "reviews", status, account_id, assignee, order
    by_risk = order == "risk"
    after = paging.after(BY_RISK if by_risk else BY_TIME, *listed)
    async with service.database.read() as connection:
        found = await store.listed_reviews(
            connection, tenant, status, account_id, assignee, by_risk, after, paging.limit + 1
        )
        reviewed_of = await _reviewed(connection, tenant, found)
    return paging.page(
        found,
        reviewed_of,
        lambda row: (row.risk_score if by_risk else row.opened_at_us, row.transaction_id),
        *listed,
    )


@router.get("/{transaction_id}", responses=documented(ReviewNotFound))
async def read_review(
    transaction_id: TransactionId, service: RunningService, tenant: MayRead
) -> ReviewedTransaction:
    """A review with its transaction, the score it had, and why."""
    async with service.database.read() as connection:
        row = await _review(connection, tenant, transaction_id)
        reviewed_of = await _reviewed(connection, tenant, [row])
    return reviewed_of(row)


@router.put(
    "/{transaction_id}/assignee", responses={**WRITES, **documented(ReviewNotFound, ReviewTaken)}
)
async def assign_review(
    transaction_id: TransactionId, posted: Assignment, service: RunningService, tenant: MayLabel
) -> Review:
    """Take a review; of two who try at once, one gets it."""

    async def work(connection: AsyncConnection) -> Row:
        if not await store.assign(connection, tenant, transaction_id, posted.assignee, now_us()):
            row = await _review(connection, tenant, transaction_id)
            raise _taken(row)
        return await _review(connection, tenant, transaction_id)

    return review_of(await service.database.run(work))


@router.delete("/{transaction_id}/assignee", responses=documented(ReviewNotFound, ReviewTaken))
async def release_review(
    transaction_id: TransactionId, service: RunningService, tenant: MayLabel
) -> Review:
    """Give a review back to the queue."""

    async def work(connection: AsyncConnection) -> Row:
        released = await store.release(connection, tenant, transaction_id)
        row = await _review(connection, tenant, transaction_id)
        if not released:
            raise _taken(row)
        return row

    return review_of(await service.database.run(work))


async def _review(connection: AsyncConnection, tenant: str, transaction_id: str) -> Row:
    found = await store.reviews_of(connection, tenant, [transaction_id])
    if transaction_id not in found:
        raise ReviewNotFound(f"Transaction {transaction_id!r} is not up for review.")
    return found[transaction_id]


async def _reviewed(
    connection: AsyncConnection, tenant: str, rows: Sequence[Row]
) -> Callable[[Row], ReviewedTransaction]:
    """What answers these reviews with their transactions, which are read here."""
    ids = [row.transaction_id for row in rows]
    scored = await store.scored(connection, tenant, ids)
    labels = await store.labels_of(connection, tenant, ids)

    def reviewed_of(row: Row) -> ReviewedTransaction:
        stored = stored_of(scored[row.transaction_id], labels.get(row.transaction_id))
        return ReviewedTransaction(**review_of(row).model_dump(), transaction=stored)

    return reviewed_of


def _taken(row: Row) -> ReviewTaken:
    if row.status == "resolved":
        return ReviewTaken("This review is resolved: its transaction has a label.")
    return ReviewTaken(f"{row.assignee!r} has this review.")


def review_of(row: Row) -> Review:
    """The answer that a stored review stands for."""
    return Review(
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        status=row.status,
        risk_score=row.risk_score,
        probability=row.probability,
        revision=row.revision,
        occurred_at=text_of(row.occurred_at_us),
        opened_at=text_of(row.opened_at_us),
        assignee=row.assignee,
        assigned_at=text_of(row.assigned_at_us) if row.assigned_at_us is not None else None,
        resolved_at=text_of(row.resolved_at_us) if row.resolved_at_us is not None else None,
    )

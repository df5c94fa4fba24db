"""Reviews: what waits for a person, who has it; a label resolves it."""

from collections.abc import Callable, Sequence
from typing import Annotated, get_args

from fastapi import APIRouter, Query

from app.db.connection import Connection
from app.http.authentication import DecidingCaller, MayRead
from app.http.fields import Id
from app.http.keyed import KeyedRoute
from app.http.pages import Page
from app.http.paging import BY_RISK, BY_TIME, Paging
from app.http.parts import RunningDatabase
from app.http.paths import TransactionId
from app.http.problems import EVERYWHERE, documented
from app.labels import store as label_store
from app.learner.transaction import DAY_US
from app.reviews import service as claims
from app.reviews import store as review_store
from app.reviews.errors import QueueEmpty, ReviewNotFound, ReviewTaken
from app.reviews.records import Review as Row
from app.reviews.records import ReviewCount
from app.reviews.schemas import (
    Assignment,
    Kind,
    NextAssignment,
    Order,
    QueueCount,
    Review,
    ReviewCounts,
    ReviewedTransaction,
    ReviewFigure,
    ReviewFigures,
    Snooze,
    Status,
)
from app.scoring import store as transaction_store
from app.scoring.routes import WRITES, stored_of
from app.times import now_us, text_of

router = APIRouter(
    prefix="/v1/reviews",
    tags=["reviews"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)

# Beside /v1/reviews, where every name may be a transaction's.
figures = APIRouter(
    prefix="/v1",
    tags=["reviews"],
    responses=documented(*EVERYWHERE),
    route_class=KeyedRoute,
)


@router.get("")
async def list_reviews(
    database: RunningDatabase,
    tenant: MayRead,
    paging: Paging,
    kind: Annotated[
        Kind,
        Query(description="To be reviewed, declined, or of the sample of what was approved."),
    ] = "review",
    status: Annotated[Status, Query(description="Cleared ones their account's copy approves.")] = (
        "open"
    ),
    account_id: Annotated[Id | None, Query(description="Of this account only.")] = None,
    assignee: Annotated[Id | None, Query(description="Of this person only.")] = None,
    order: Annotated[
        Order, Query(description="Highest risk first, of declines the lowest; or oldest first.")
    ] = "risk",
    snoozed: Annotated[
        bool, Query(description="Those that sleep, and no others; else none of the open does.")
    ] = False,
) -> Page[ReviewedTransaction]:
    """The review queue of a kind, each with its transaction and the score it had."""
    by_risk, now = order == "risk", now_us()
    asleep_at_us = now if snoozed else None
    awake_at_us = now if status == "open" and not snoozed else None
    listed = paging.of(
        *(BY_RISK if by_risk else BY_TIME, "reviews"),
        *(kind, status, account_id, assignee, order, snoozed),
    )
    async with database.read() as connection:
        found = await review_store.listed_reviews(
            connection,
            tenant,
            kind,
            status,
            account_id,
            assignee,
            asleep_at_us,
            awake_at_us,
            by_risk,
            listed.after,
            listed.rows,
        )
        reviewed_of = await _reviewed(connection, tenant, found.rows)
        return await listed.page(
            found,
            reviewed_of,
            lambda row: (row.risk_score if by_risk else row.opened_at_us, row.transaction_id),
        )


@router.get("/{transaction_id}", responses=documented(ReviewNotFound))
async def read_review(
    transaction_id: TransactionId, database: RunningDatabase, tenant: MayRead
) -> ReviewedTransaction:
    """A review with its transaction, the score it had, and why."""
    async with database.read() as connection:
        row = await claims.found(connection, tenant, transaction_id)
        reviewed_of = await _reviewed(connection, tenant, [row])
    return reviewed_of(row)


@router.put(
    "/{transaction_id}/assignee", responses={**WRITES, **documented(ReviewNotFound, ReviewTaken)}
)
async def assign_review(
    transaction_id: TransactionId,
    posted: Assignment,
    database: RunningDatabase,
    caller: DecidingCaller,
) -> Review:
    """Take a review; of two who try at once, one gets it. After 24 hours others may take it."""
    row = await database.run(
        lambda connection: claims.take(
            connection,
            caller,
            transaction_id,
            posted.assignee,
            posted.take_over,
            posted.hand_over,
        )
    )
    return review_of(row)


@router.delete("/{transaction_id}/assignee", responses=documented(ReviewNotFound, ReviewTaken))
async def release_review(
    transaction_id: TransactionId, database: RunningDatabase, caller: DecidingCaller
) -> Review:
    """Give a review back to the queue: by the key that took it, or one with the scope `manage`."""
    row = await database.run(lambda connection: claims.release(connection, caller, transaction_id))
    return review_of(row)


@router.post("/next", responses={**WRITES, **documented(QueueEmpty)})
async def take_next_review(
    posted: NextAssignment, database: RunningDatabase, caller: DecidingCaller
) -> ReviewedTransaction:
    """Take the most urgent open review that nobody has; two who ask at once get different ones."""
    by_risk = posted.order == "risk"

    async def take(connection: Connection) -> ReviewedTransaction:
        row = await claims.take_next(connection, caller, posted.assignee, posted.kind, by_risk)
        return (await _reviewed(connection, caller.tenant, [row]))(row)

    return await database.run(take)


@router.put(
    "/{transaction_id}/snooze", responses={**WRITES, **documented(ReviewNotFound, ReviewTaken)}
)
async def snooze_review(
    transaction_id: TransactionId, posted: Snooze, database: RunningDatabase, caller: DecidingCaller
) -> Review:
    """Leave a review out of the queue until a time, when it is back by itself."""
    row = await database.run(
        lambda connection: claims.snooze(connection, caller, transaction_id, posted.until)
    )
    return review_of(row)


@router.delete("/{transaction_id}/snooze", responses=documented(ReviewNotFound, ReviewTaken))
async def wake_review(
    transaction_id: TransactionId, database: RunningDatabase, caller: DecidingCaller
) -> Review:
    """Put a snoozed review back into the queue."""
    row = await database.run(
        lambda connection: claims.snooze(connection, caller, transaction_id, None)
    )
    return review_of(row)


@figures.get("/review-figures")
async def read_review_figures(
    database: RunningDatabase,
    tenant: MayRead,
    days: Annotated[int, Query(ge=1, le=365, description="Opened in so many last days.")] = 28,
) -> ReviewFigures:
    """How many reviews of each kind were opened, and what the labels say that they have by now."""
    since_us = now_us() - days * DAY_US
    async with database.read() as connection:
        counts = await review_store.count_reviews(connection, tenant, since_us)
    by_kind = {count.kind: count for count in counts}
    return ReviewFigures(
        since=text_of(since_us),
        data=[_figure(by_kind.get(kind, ReviewCount(kind, 0, 0, 0))) for kind in get_args(Kind)],
    )


@figures.get("/review-counts")
async def count_reviews(
    database: RunningDatabase,
    tenant: MayRead,
    assignee: Annotated[Id | None, Query(description="Of this person only.")] = None,
) -> ReviewCounts:
    """How many reviews are open, cleared and resolved, of each kind, and since when one waits."""
    now = now_us()
    async with database.read() as connection:
        counts = await review_store.count_waiting(connection, tenant, assignee, now)
        own = await review_store.oldest_open(connection, tenant, assignee, now)
        of_all = await review_store.oldest_open(connection, tenant, None, now) if assignee else own
    by_kind: dict[str, dict[str, int]] = {}
    for count in counts:
        by_kind.setdefault(count.kind, {})[count.status] = count.reviews
    oldest = {row.kind: text_of(row.opened_at_us) for row in own}
    return ReviewCounts(
        data=[
            QueueCount.model_validate(
                {"kind": kind, **by_kind[kind], "oldest_opened_at": oldest.get(kind)}
            )
            for kind in by_kind
        ],
        most_counted=review_store.MOST_COUNTED,
        oldest_opened_at=next(
            (text_of(row.opened_at_us) for row in of_all if row.kind == "review"), None
        ),
    )


def _figure(count: ReviewCount) -> ReviewFigure:
    labelled = count.frauds + count.legitimates
    share = count.frauds / labelled if labelled else None
    return ReviewFigure.model_validate({**count._asdict(), "fraud_share": share})


async def _reviewed(
    connection: Connection, tenant: str, rows: Sequence[Row]
) -> Callable[[Row], ReviewedTransaction]:
    """What answers these reviews with their transactions, which are read here."""
    ids = [row.transaction_id for row in rows]
    scored = await transaction_store.scored(connection, tenant, ids)
    labels = await label_store.labels_of(connection, tenant, ids)

    def reviewed_of(row: Row) -> ReviewedTransaction:
        stored = stored_of(scored[row.transaction_id], labels.get(row.transaction_id))
        return ReviewedTransaction(**review_of(row).model_dump(), transaction=stored)

    return reviewed_of


def review_of(row: Row) -> Review:
    """The answer that a stored review stands for."""
    until = row.snoozed_until_us
    return Review(
        transaction_id=row.transaction_id,
        account_id=row.account_id,
        kind=row.kind,
        status=row.status,
        risk_score=row.risk_score,
        probability=row.probability,
        revision=row.revision,
        occurred_at=text_of(row.occurred_at_us),
        opened_at=text_of(row.opened_at_us),
        assignee=row.assignee,
        assigned_at=text_of(row.assigned_at_us) if row.assigned_at_us is not None else None,
        assigned_by=row.assigned_by,
        snoozed_until=text_of(until) if until is not None and until > now_us() else None,
        resolved_at=text_of(row.resolved_at_us) if row.resolved_at_us is not None else None,
    )

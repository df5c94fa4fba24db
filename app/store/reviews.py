"""The review queue."""

from collections.abc import Iterable, Sequence

from sqlalchemy import bindparam, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.rows import Review
from app.store.pages import page
from app.store.statements import add, ask, columns, of_transactions, read, save
from app.tables import reviews

_OPEN = (
    select(*columns(reviews, Review))
    .where(
        reviews.c.tenant == bindparam("of_tenant"),
        reviews.c.account_id == bindparam("of_account"),
        or_(reviews.c.status == "open", reviews.c.status == "cleared"),
    )
    .order_by(reviews.c.occurred_at_us.desc(), reviews.c.transaction_id.desc())
    .limit(bindparam("most"))
)


async def open_reviews(connection: AsyncConnection, rows: Sequence[Review]) -> None:
    """Queue transactions that have just been scored."""
    await add(connection, reviews, rows)


async def reviews_of(
    connection: AsyncConnection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, Review]:
    """The reviews of these transactions, of those that were ever queued."""
    return await of_transactions(connection, reviews, Review, tenant, transaction_ids)


async def open_of_account(
    connection: AsyncConnection, tenant: str, account_id: str, limit: int
) -> list[Review]:
    """What waits for a review in an account, or was cleared by its copy, newest first."""
    return await ask(connection, Review._make, _OPEN, tenant, of_account=account_id, most=limit)


async def save_reviews(connection: AsyncConnection, rows: Iterable[Review]) -> None:
    """Overwrite reviews of accounts that the transaction has locked.

    But not who has them: people take and release reviews without a lock on the account, and may
    have done so since these rows were read.
    """
    kept = ("assignee", "assigned_at_us")
    await save(connection, reviews, ("tenant", "transaction_id"), rows, kept)


async def listed_reviews(
    connection: AsyncConnection,
    tenant: str,
    status: str,
    account_id: str | None,
    assignee: str | None,
    by_risk: bool,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> list[Review]:
    """The queue, highest risk first, or oldest first."""
    query = select(*columns(reviews, Review)).where(
        reviews.c.tenant == tenant, reviews.c.status == status
    )
    if account_id is not None:
        query = query.where(reviews.c.account_id == account_id)
    if assignee is not None:
        query = query.where(reviews.c.assignee == assignee)
    first = reviews.c.risk_score if by_risk else reviews.c.opened_at_us
    order = [first, reviews.c.transaction_id]
    chosen = page(query, order, after, limit, descending=by_risk)
    return await read(connection, Review._make, chosen)


async def assign(
    connection: AsyncConnection, tenant: str, transaction_id: str, assignee: str, at_us: int
) -> bool:
    """Give an unresolved review to somebody; False where it is resolved or another's.

    Who has it already keeps it, from when they took it.
    """
    given = await connection.execute(
        update(reviews)
        .where(
            reviews.c.tenant == tenant,
            reviews.c.transaction_id == transaction_id,
            reviews.c.status != "resolved",
            or_(reviews.c.assignee.is_(None), reviews.c.assignee == assignee),
        )
        .values(assignee=assignee, assigned_at_us=func.coalesce(reviews.c.assigned_at_us, at_us))
    )
    return given.rowcount == 1


async def release(connection: AsyncConnection, tenant: str, transaction_id: str) -> bool:
    """Take an unresolved review from whoever has it; False where it is resolved."""
    released = await connection.execute(
        update(reviews)
        .where(
            reviews.c.tenant == tenant,
            reviews.c.transaction_id == transaction_id,
            reviews.c.status != "resolved",
        )
        .values(assignee=None, assigned_at_us=None)
    )
    return released.rowcount == 1

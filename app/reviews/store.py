"""The review queue."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    text,
    union_all,
    update,
)

from app.db.connection import Connection
from app.db.pages import Part, read_page, unserved
from app.db.schema import ASSIGNED, SNOOZED, api_keys, labels, reviews
from app.db.statements import by_key, columns
from app.reviews.records import LongestQueue, OldestReview, Review, ReviewCount, WaitingReviews

# Of each kind and status: whoever sees so many waiting need not know how many more there are.
MOST_COUNTED = 1_000
KINDS, STATUSES = ("review", "decline", "sample"), ("open", "cleared", "resolved")

_AT_US: Any = bindparam("at_us", type_=BigInteger)
_OPEN = (
    select(*columns(reviews, Review))
    .where(
        reviews.c.tenant == bindparam("of_tenant"),
        reviews.c.account_id == bindparam("of_account"),
        or_(reviews.c.status == "open", reviews.c.status == "cleared"),
        reviews.c.kind != "sample",
    )
    # Those held up for a review first: many declines leave none of them out. Not by the column
    # itself: in its order SQLite would walk all of the tenant's reviews.
    .order_by(
        case((reviews.c.kind == "review", 0), else_=1),
        reviews.c.occurred_at_us.desc(),
        reviews.c.transaction_id.desc(),
    )
    .limit(bindparam("most"))
)


async def open_reviews(connection: Connection, rows: Sequence[Review]) -> None:
    """Queue transactions that have just been scored."""
    await connection.write_rows(reviews, rows)


async def reviews_of(
    connection: Connection, tenant: str, transaction_ids: Iterable[str]
) -> dict[str, Review]:
    """The reviews of these transactions, of those that were ever queued."""
    return await connection.by_transaction(reviews, Review, tenant, transaction_ids)


async def open_of_account(
    connection: Connection, tenant: str, account_id: str, limit: int
) -> list[Review]:
    """What was held up in an account and has no label, newest first, declines after the others."""
    return await connection.fetch(Review._make, _OPEN, tenant, of_account=account_id, most=limit)


async def save_reviews(connection: Connection, rows: Iterable[Review]) -> None:
    """Overwrite reviews of accounts that the transaction has locked.

    But not who has them, and until when they sleep: people take and release reviews without a
    lock on the account, and may have done so since these rows were read.
    """
    kept = ("assignee", "assigned_at_us", "assigned_by", "snoozed_until_us")
    await connection.write_rows(reviews, rows, ("tenant", "transaction_id"), kept)


async def listed_reviews(
    connection: Connection,
    tenant: str,
    kind: str,
    status: str,
    account_id: str | None,
    assignee: str | None,
    asleep_at_us: int | None,
    awake_at_us: int | None,
    by_risk: bool,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[Review]:
    """The queue of a kind, by risk or the oldest first: what sleeps or is awake at a time, or all.

    The highest risk comes first, but of declines the lowest: the one that is most likely wrong.
    """
    table = reviews.c
    # For each of these, with or without an account or an assignee, an index has both orders.
    served: list[Any] = [table.tenant == tenant, table.kind == kind, table.status == status]
    if account_id is not None:
        served.append(table.account_id == account_id)
    elif assignee is not None:
        served += [text(ASSIGNED), table.assignee == assignee]
    elif asleep_at_us is not None:
        served.append(text(SNOOZED))
    others: list[Any] = []
    if account_id is not None and assignee is not None:
        others.append(unserved(table.assignee, assignee))
    if asleep_at_us is not None:
        others.append(table.snoozed_until_us > asleep_at_us)
    if awake_at_us is not None:
        others.append(_awake(awake_at_us))
    query = select(*columns(reviews, Review)).where(*served, *others)
    order = [table.risk_score if by_risk else table.opened_at_us, table.transaction_id]
    walked = select(*order).where(*served) if others else None
    return await read_page(
        connection,
        Review._make,
        query,
        order,
        after,
        limit,
        descending=by_risk and kind != "decline",
        walked=walked,
    )


async def lock_review(connection: Connection, tenant: str, transaction_id: str) -> Review | None:
    """A review, which nobody else can assign until the transaction ends."""
    query = (
        select(*columns(reviews, Review))
        .where(reviews.c.tenant == tenant, reviews.c.transaction_id == transaction_id)
        .with_for_update()
    )
    rows = await connection.read(Review._make, query)
    return rows[0] if rows else None


async def lock_next(
    connection: Connection, tenant: str, kind: str, by_risk: bool, free_at_us: int, now_us: int
) -> Review | None:
    """The first open review of a kind that is awake, and that nobody has taken since `free_at_us`.

    Nobody else can assign it until the transaction ends; those that others have locked right now
    are passed over.
    """
    table = reviews.c
    order = [table.risk_score if by_risk else table.opened_at_us, table.transaction_id]
    is_descending = by_risk and kind != "decline"
    query = (
        select(*columns(reviews, Review))
        .where(
            table.tenant == tenant,
            table.kind == kind,
            table.status == "open",
            or_(table.assigned_at_us.is_(None), table.assigned_at_us <= free_at_us),
            _awake(now_us),
        )
        .order_by(*(column.desc() if is_descending else column.asc() for column in order))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return next(iter(await connection.read(Review._make, query)), None)


async def snooze_review(connection: Connection, row: Review) -> None:
    """Store until when a locked review sleeps, and nothing else of it."""
    await connection.execute(
        update(reviews)
        .where(reviews.c.tenant == row.tenant, reviews.c.transaction_id == row.transaction_id)
        .values(snoozed_until_us=row.snoozed_until_us)
    )


async def assign_review(connection: Connection, row: Review) -> None:
    """Store who has a locked review, and nothing else of it."""
    await connection.execute(
        update(reviews)
        .where(reviews.c.tenant == row.tenant, reviews.c.transaction_id == row.transaction_id)
        .values(
            assignee=row.assignee,
            assigned_at_us=row.assigned_at_us,
            assigned_by=row.assigned_by,
        )
    )


async def count_reviews(connection: Connection, tenant: str, since_us: int) -> list[ReviewCount]:
    """Of each kind that was opened since then: how many, and the labels that they have by now."""
    query = (
        select(
            reviews.c.kind,
            func.count(),
            func.count(case((labels.c.is_fraud, 1))),
            func.count(case((~labels.c.is_fraud, 1))),
        )
        .outerjoin_from(
            reviews,
            labels,
            by_key(labels, reviews, "transaction_id"),
        )
        .where(
            reviews.c.tenant == tenant,
            # All there are: so the index leads to those of this time.
            reviews.c.kind.in_(KINDS),
            reviews.c.status.in_(STATUSES),
            reviews.c.opened_at_us >= since_us,
        )
        .group_by(reviews.c.kind)
    )
    return await connection.read(ReviewCount._make, query)


async def count_waiting(
    connection: Connection, tenant: str, assignee: str | None, now_us: int
) -> list[WaitingReviews]:
    """How many reviews there are of each kind and status, of one assignee or of all.

    Open ones that sleep are counted as `snoozed`. Each count ends at MOST_COUNTED: what it costs
    does not grow with the table.
    """
    query = _waiting(assignee is not None)
    return await connection.fetch(
        WaitingReviews._make, query, tenant, of_assignee=assignee, at_us=now_us
    )


async def oldest_open(
    connection: Connection, tenant: str, assignee: str | None, now_us: int
) -> list[OldestReview]:
    """Of each kind, when the one that has waited longest was opened, of those that are awake."""
    query = _oldest(assignee is not None)
    return await connection.fetch(
        OldestReview._make, query, tenant, of_assignee=assignee, at_us=now_us
    )


# To put these together takes longer than to answer them.
@cache
def _waiting(is_of_assignee: bool) -> Any:
    def counted(kind: str, status: str) -> Select[str, str, int]:
        table, is_open = reviews.c, status in ("open", "snoozed")
        some = select(table.transaction_id).where(
            *_of(kind, "open" if is_open else status, is_of_assignee)
        )
        if status == "open":
            some = some.where(_awake(_AT_US))
        elif is_open:
            some = some.where(text(SNOOZED), table.snoozed_until_us > _AT_US)
        found = some.limit(MOST_COUNTED).subquery()
        return select(literal(kind), literal(status), func.count()).select_from(found)

    queries = [counted(kind, status) for kind in KINDS for status in (*STATUSES, "snoozed")]
    return select(*union_all(*queries).subquery().c)


@cache
def _oldest(is_of_assignee: bool) -> Any:
    def oldest(kind: str) -> Select[str, int]:
        found = (
            select(reviews.c.opened_at_us)
            .where(*_of(kind, "open", is_of_assignee), _awake(_AT_US))
            .order_by(reviews.c.opened_at_us)
            .limit(1)
            .subquery()
        )
        return select(literal(kind), found.c.opened_at_us)

    return select(*union_all(*map(oldest, KINDS)).subquery().c)


async def longest_waiting(connection: Connection, now_us: int) -> list[LongestQueue]:
    """Of each kind, the tenant that has most open reviews that are awake, and the oldest of all.

    By one statement, however many tenants there are; each count ends at MOST_COUNTED.
    """

    def of_tenants(kind: str) -> Select[str, int | None, int | None]:
        tenants = select(api_keys.c.tenant).distinct().subquery()
        is_its = (
            reviews.c.tenant == tenants.c.tenant,
            reviews.c.kind == kind,
            reviews.c.status == "open",
            _awake(now_us),
        )
        some = select(reviews.c.transaction_id).where(*is_its).limit(MOST_COUNTED)
        counted = select(func.count()).select_from(some.correlate(tenants).subquery())
        oldest = select(reviews.c.opened_at_us).where(*is_its)
        oldest = oldest.order_by(reviews.c.opened_at_us).limit(1)
        found = select(
            counted.correlate(tenants).scalar_subquery().label("reviews"),
            oldest.correlate(tenants).scalar_subquery().label("opened_at_us"),
        ).select_from(tenants)
        each = found.subquery()
        return select(literal(kind), func.max(each.c.reviews), func.min(each.c.opened_at_us))

    return await connection.read(LongestQueue._make, union_all(*map(of_tenants, KINDS)))


def _of(kind: str, status: str, is_of_assignee: bool) -> list[ColumnElement[bool]]:
    table = reviews.c
    found = [
        table.tenant == bindparam("of_tenant"),
        table.kind == kind,
        table.status == status,
    ]
    if is_of_assignee:
        found += [text(ASSIGNED), table.assignee == bindparam("of_assignee")]  # type: ignore[list-item]
    return found


def _awake(now_us: Any) -> ColumnElement[bool]:
    return or_(reviews.c.snoozed_until_us.is_(None), reviews.c.snoozed_until_us <= now_us)

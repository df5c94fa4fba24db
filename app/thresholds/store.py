"""A tenant's thresholds: each from its time until the next one's."""

from typing import Any, NamedTuple

from sqlalchemy import BigInteger, ColumnElement, bindparam, case, cast, func, select

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import labels, thresholds, transactions
from app.db.statements import by_key, columns, is_sampled
from app.learner.transaction import SECOND_US
from app.thresholds.records import TenantThresholds

# Bins of probabilities by their two first digits: so many in a decade, the first from 1e-8 on.
DECADES, PER_DECADE = range(-8, 0), 90
# What probabilities are counted in: whole numbers have the same first digits on each database.
PARTS_LOG10 = 11


class CountedBin(NamedTuple):
    """Scores of a bin, and what those of them that have a label were."""

    bin: int
    transactions: int
    frauds: int
    legitimates: int


IN_FORCE = (
    select(*columns(thresholds, TenantThresholds))
    .where(
        thresholds.c.tenant == bindparam("of_tenant"),
        thresholds.c.effective_at_us <= bindparam("at_us"),
    )
    .order_by(thresholds.c.effective_at_us.desc(), thresholds.c.recorded_at_us.desc())
    .limit(1)
)


async def thresholds_at(connection: Connection, tenant: str, at_us: int) -> TenantThresholds | None:
    """Those in force at a time; None before the first."""
    found = await connection.fetch(TenantThresholds._make, IN_FORCE, tenant, at_us=at_us)
    return found[0] if found else None


async def planned_thresholds(
    connection: Connection, tenant: str, at_us: int
) -> list[TenantThresholds]:
    """Those that will be in force after a time, in the order of theirs; without what was reset."""
    query = (
        select(*columns(thresholds, TenantThresholds))
        .where(thresholds.c.tenant == tenant, thresholds.c.effective_at_us > at_us)
        .order_by(thresholds.c.effective_at_us, thresholds.c.recorded_at_us)
    )
    rows = await connection.read(TenantThresholds._make, query)
    # Of the same time the one that was recorded last.
    last = {row.effective_at_us: row for row in rows}
    return [row for row in last.values() if not row.is_reset]


async def save_thresholds(connection: Connection, row: TenantThresholds) -> None:
    """Add thresholds; those of before stay as history."""
    await connection.execute(thresholds.insert(), row._asdict())


async def listed_thresholds(
    connection: Connection,
    tenant: str,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[TenantThresholds]:
    """All of a tenant's, the newest to take effect first."""
    query = select(*columns(thresholds, TenantThresholds)).where(thresholds.c.tenant == tenant)
    order = [thresholds.c.effective_at_us, thresholds.c.recorded_at_us]
    return await read_page(
        connection, TenantThresholds._make, query, order, after, limit, descending=True
    )


async def count_scores(
    connection: Connection, tenant: str, since_us: int, until_us: int
) -> tuple[int, int]:
    """How many transactions occurred in a time, and when the first of them did."""
    at_us = transactions.c.occurred_at_us
    query = select(func.count(), func.coalesce(func.min(at_us), until_us)).where(
        transactions.c.tenant == tenant, at_us >= since_us, at_us < until_us
    )
    [(scores, oldest_us)] = await connection.read(tuple[Any, ...], query)
    return scores, oldest_us


async def threshold_for(
    connection: Connection,
    tenant: str,
    since_us: int,
    until_us: int,
    decline: float,
    allowed: int,
) -> float:
    """The lowest probability that at most `allowed` of a time's scores reach, below `decline`.

    `decline` itself where even the highest is reached by too many.
    """
    probability, at_us = transactions.c.probability, transactions.c.occurred_at_us
    scores = (
        select(probability, func.count().label("equal"))
        .where(
            transactions.c.tenant == tenant,
            at_us >= since_us,
            at_us < until_us,
            probability < decline,
        )
        .group_by(probability)
        .subquery()
    )
    reached = func.sum(scores.c.equal).over(order_by=scores.c.probability.desc())
    ranked = select(scores.c.probability, reached.label("reached")).subquery()
    query = (
        select(ranked.c.probability)
        # A threshold of 0 would be reached by whatever comes.
        .where(ranked.c.reached <= allowed, ranked.c.probability > 0)
        .order_by(ranked.c.probability)
        .limit(1)
    )
    lowest = (await connection.execute(query)).scalar_one_or_none()
    return decline if lowest is None else lowest


async def count_reached(
    connection: Connection,
    tenant: str,
    since_us: int,
    until_us: int,
    review: float,
    decline: float,
) -> tuple[int, int]:
    """How many of a time's scores thresholds would review, and how many decline."""
    probability, at_us = transactions.c.probability, transactions.c.occurred_at_us
    declines = func.count(case((probability >= decline, 1)))
    query = select(func.count() - declines, declines).where(
        transactions.c.tenant == tenant,
        at_us >= since_us,
        at_us < until_us,
        probability >= review,
    )
    [(reviews, declined)] = await connection.read(tuple[Any, ...], query)
    return reviews, declined


async def histogram(
    connection: Connection, tenant: str, since_us: int, until_us: int, one_in: int
) -> list[CountedBin]:
    """A time's scores by bin, of about one second in `one_in`, with the labels that they have."""
    at_us = transactions.c.occurred_at_us
    ids = select(transactions.c.tenant, transactions.c.transaction_id).where(
        transactions.c.tenant == tenant, at_us >= since_us, at_us < until_us
    )
    if one_in > 1:
        ids = ids.where(is_sampled(at_us // SECOND_US, one_in))
    chosen = ids.subquery()
    number = _bin_of(transactions.c.probability).label("bin")
    query = (
        select(
            number,
            func.count(),
            func.count(case((labels.c.is_fraud, 1))),
            func.count(case((~labels.c.is_fraud, 1))),
        )
        # The index has the ids, so that only the rows of the sample are read.
        .join_from(chosen, transactions, by_key(transactions, chosen, "transaction_id"))
        .outerjoin(labels, by_key(labels, transactions, "transaction_id"))
        .group_by(number)
        .order_by(number)
    )
    return await connection.read(CountedBin._make, query)


def _bin_of(probability: ColumnElement[float]) -> ColumnElement[int]:
    """From 1 on; 0 for what is below the first decade."""
    parts = cast(func.round(probability * 10.0**PARTS_LOG10), BigInteger)
    first = PER_DECADE // 9
    whens = [
        (
            parts >= 10 ** (PARTS_LOG10 + decade),
            parts // 10 ** (PARTS_LOG10 + decade - 1)
            - first
            + 1
            + PER_DECADE * (decade - DECADES.start),
        )
        for decade in reversed(DECADES)
    ]
    return case(*whens, else_=0)

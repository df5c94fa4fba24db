"""Figures that are kept, a row for each tenant and name; and what they are counted from."""

from sqlalchemy import ColumnElement, and_, case, func, null, select

from app.db.connection import Connection
from app.db.schema import figures, labels, reviews
from app.db.statements import by_key, columns
from app.figures.records import DecidedReviews, OpenedReviews, StoredFigures
from app.learner.transaction import DAY_US, HOUR_US

# What was held up or declined; and how long a review may wait to count as decided so soon.
ALERTS, STATUSES = ("review", "decline"), ("open", "cleared", "resolved")
HOURS = (1, 4, 24, 72)


async def figures_of(connection: Connection, tenant: str, name: str) -> StoredFigures | None:
    """A tenant's figures of this name; None where they were never counted."""
    query = select(*columns(figures, StoredFigures)).where(
        figures.c.tenant == tenant, figures.c.name == name
    )
    rows = await connection.read(StoredFigures._make, query)
    return rows[0] if rows else None


async def save_figures(connection: Connection, row: StoredFigures) -> None:
    """Keep figures in place of those of before."""
    await connection.write_rows(figures, [row], ("tenant", "name"))


async def opened_by_day(connection: Connection, tenant: str, since_us: int) -> list[OpenedReviews]:
    """How many reviews of each kind each day has opened since then."""
    day = (reviews.c.opened_at_us // DAY_US).label("day")
    query = (
        select(day, reviews.c.kind, func.count())
        .where(_opened(tenant, since_us))
        .group_by(day, reviews.c.kind)
    )
    return await connection.read(OpenedReviews._make, query)


async def decided(connection: Connection, tenant: str, since_us: int) -> list[DecidedReviews]:
    """What was decided of the reviews that were opened since then."""
    waited_us = reviews.c.resolved_at_us - reviews.c.opened_at_us
    day = (reviews.c.resolved_at_us // DAY_US).label("day")
    whens = [(waited_us <= hours * HOUR_US, hours) for hours in HOURS]
    hours = case(*whens, else_=null()).label("hours")
    query = (
        select(day, hours, labels.c.analyst, labels.c.is_fraud, func.count())
        .join_from(reviews, labels, by_key(labels, reviews, "transaction_id"))
        .where(_opened(tenant, since_us), reviews.c.status == "resolved")
        .group_by(day, hours, labels.c.analyst, labels.c.is_fraud)
    )
    return await connection.read(DecidedReviews._make, query)


def _opened(tenant: str, since_us: int) -> ColumnElement[bool]:
    return and_(
        reviews.c.tenant == tenant,
        reviews.c.kind.in_(ALERTS),
        # All there are: so the index leads to those of this time.
        reviews.c.status.in_(STATUSES),
        reviews.c.opened_at_us >= since_us,
    )

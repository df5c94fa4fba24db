"""What a tenant's traffic looked like, by day and in a sample."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Integer, cast, func, select, text

from app.db.connection import Connection
from app.db.schema import api_keys, labels, transactions
from app.db.statements import by_key, is_sampled
from app.learner.transaction import DAY_US, SECOND_US


class Sampled(NamedTuple):
    """A transaction of the sample; `is_fraud` is None without a label."""

    account_id: str
    occurred_at_us: int
    features: bytes
    probability: float
    model: str
    is_fraud: bool | None


async def tenants(connection: Connection) -> list[str]:
    """Everybody who ever had a key."""
    query = select(api_keys.c.tenant).distinct().order_by(api_keys.c.tenant)
    return list((await connection.execute(query)).scalars())


async def transactions_by_day(
    connection: Connection, tenant: str, since_us: int
) -> Mapping[int, int]:
    """How many transactions each day has, by the number of the day since 1970."""
    table = transactions.c
    day = (table.occurred_at_us // DAY_US).label("day")
    query = (
        select(day, func.count())
        .where(table.tenant == tenant, table.occurred_at_us >= since_us)
        .group_by(text("day"))
    )
    return dict(await connection.read(tuple[Any, ...], query))


async def labels_by_day(
    connection: Connection, tenant: str, since_us: int
) -> Mapping[int, tuple[int, int]]:
    """How many labels, and labels of fraud, the transactions of each day have."""
    table = labels.c
    day = (table.occurred_at_us // DAY_US).label("day")
    query = (
        select(day, func.count(), func.sum(cast(table.is_fraud, Integer)))
        .where(table.tenant == tenant, table.occurred_at_us >= since_us)
        .group_by(text("day"))
    )
    rows = await connection.read(tuple[Any, ...], query)
    return {day: (count, fraud) for day, count, fraud in rows}


async def sampled(connection: Connection, tenant: str, since_us: int, one_in: int) -> list[Sampled]:
    """The transactions of about one second in `one_in`: always the same seconds."""
    ids = select(transactions.c.tenant, transactions.c.transaction_id).where(
        transactions.c.tenant == tenant, transactions.c.occurred_at_us >= since_us
    )
    if one_in > 1:
        ids = ids.where(is_sampled(transactions.c.occurred_at_us // SECOND_US, one_in))
    chosen = ids.subquery()
    query = (
        select(
            transactions.c.account_id,
            transactions.c.occurred_at_us,
            transactions.c.features,
            transactions.c.probability,
            transactions.c.model,
            labels.c.is_fraud,
        )
        # The index has the ids, so that only the rows of the sample are read.
        .join_from(chosen, transactions, by_key(transactions, chosen, "transaction_id"))
        .outerjoin(
            labels,
            by_key(labels, transactions, "transaction_id"),
        )
    )
    return await connection.read(Sampled._make, query)

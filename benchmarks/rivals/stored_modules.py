"""What a user would write instead: FastAPI, SQLAlchemy, and a PyTorch module for each account.

As much of the service as an engineer has after a week: a key that is looked up, a payment that is
validated, features of what the account and the merchant paid before, the account's module, a row
for each payment in a durable commit, and the first answer again where a payment is posted twice.
Neither labels nor reasons, and no states: features are counted anew for each payment.

`STORED_URL=sqlite:///payments.db uvicorn benchmarks.rivals.stored_modules:app`
"""

import asyncio
import hashlib
import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import Annotated, Any

import torch
from fastapi import FastAPI, Header, HTTPException
from sqlalchemy import DateTime, Float, Index, String, event, func, make_url, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.rivals.fastapi_modules import Score, Transaction
from benchmarks.rivals.modules import FEATURES, model_of

URL = make_url(os.environ["STORED_URL"])
IS_SQLITE = URL.get_backend_name() == "sqlite"
DRIVER = "sqlite+aiosqlite" if IS_SQLITE else "postgresql+asyncpg"
# The key that callers have.
KEY = "rival"
# Payments that an account's features look back on.
PAST = 50
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)


class Table(DeclarativeBase):
    """The tables."""


class Key(Table):
    __tablename__ = "keys"
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(64))


class Payment(Table):
    __tablename__ = "payments"
    tenant: Mapped[str] = mapped_column(String(64), primary_key=True)
    transaction_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    account_id: Mapped[str] = mapped_column(String(128))
    merchant_id: Mapped[str | None] = mapped_column(String(128))
    occurred_at: Mapped[Any] = mapped_column(DateTime(timezone=True))
    amount: Mapped[float] = mapped_column(Float)
    country: Mapped[str | None] = mapped_column(String(8))
    content: Mapped[str]
    probability: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        Index("of_account", "tenant", "account_id", "occurred_at"),
        Index("of_merchant", "tenant", "merchant_id", "occurred_at"),
    )


POOL = {} if IS_SQLITE else {"pool_size": 16, "max_overflow": 0}
engine = create_async_engine(URL.set(drivername=DRIVER), **POOL)
sessions = async_sessionmaker(engine, expire_on_commit=False)
# SQLite has one writer: whoever finds it busy would wait by polling.
turn = asyncio.Lock() if IS_SQLITE else nullcontext()

if IS_SQLITE:

    @event.listens_for(engine.sync_engine, "connect")
    def durable(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")


@asynccontextmanager
async def opened(_: FastAPI) -> AsyncIterator[None]:
    async with engine.begin() as connection:
        await connection.run_sync(Table.metadata.create_all)
    async with sessions() as session:
        await session.merge(Key(digest=digest_of(KEY), tenant="default"))
        await session.commit()
    yield
    await engine.dispose()


app = FastAPI(lifespan=opened)


@app.post("/v1/transactions")
async def score(transaction: Transaction, authorization: Annotated[str, Header()]) -> Score:
    async with turn, sessions() as session:
        key = await session.get(Key, digest_of(authorization.removeprefix("Bearer ")))
        if key is None:
            raise HTTPException(401)
        stored = await session.get(Payment, (key.tenant, transaction.transaction_id))
        content = transaction.model_dump_json()
        if stored is not None:
            if stored.content != content:
                raise HTTPException(409)
            return Score(transaction_id=stored.transaction_id, probability=stored.probability)
        features = await features_of(session, key.tenant, transaction)
        model = model_of(transaction.account_id)._replace(features_1F=torch.tensor([features]))
        answer = model.score({"transaction_id": transaction.transaction_id})
        session.add(
            Payment(
                tenant=key.tenant,
                transaction_id=transaction.transaction_id,
                account_id=transaction.account_id,
                merchant_id=transaction.merchant_id,
                occurred_at=transaction.occurred_at,
                amount=float(transaction.amount),
                country=transaction.country,
                content=content,
                probability=answer["probability"],
            )
        )
        await session.commit()
    return Score(**answer)


async def features_of(session: AsyncSession, tenant: str, new: Transaction) -> list[float]:
    """What the account paid lately, and how many paid at the merchant."""
    own = (
        select(Payment.occurred_at, Payment.amount, Payment.merchant_id, Payment.country)
        .where(
            Payment.tenant == tenant,
            Payment.account_id == new.account_id,
            Payment.occurred_at < new.occurred_at,
        )
        .order_by(Payment.occurred_at.desc())
        .limit(PAST)
    )
    past = (await session.execute(own)).all()
    at_merchant = select(func.count(), func.avg(Payment.amount)).where(
        Payment.tenant == tenant,
        Payment.merchant_id == new.merchant_id,
        Payment.occurred_at >= new.occurred_at - DAY,
        Payment.occurred_at < new.occurred_at,
    )
    paid, mean = (await session.execute(at_merchant)).one()
    values = [*of_past(past, new), math.log1p(paid), math.log1p(mean or 0)]
    return values + [0.0] * (FEATURES - len(values))


def of_past(past: Sequence[Any], new: Transaction) -> list[float]:
    amount = float(new.amount)
    ages = [new.occurred_at.replace(tzinfo=None) - row[0].replace(tzinfo=None) for row in past]
    values = [math.log1p(amount), new.occurred_at.hour / 24, new.occurred_at.weekday() / 7]
    for window in (HOUR, DAY, WEEK):
        amounts = [row[1] for row, age in zip(past, ages, strict=True) if age <= window]
        values += [math.log1p(len(amounts)), math.log1p(sum(amounts))]
    mean = sum(row[1] for row in past) / len(past) if past else amount
    values += [
        math.log1p(ages[0].total_seconds()) if ages else 0.0,
        amount / (mean + 1),
        math.log1p(sum(row[2] == new.merchant_id for row in past)),
        math.log1p(sum(row[3] == new.country for row in past)),
    ]
    return values


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()

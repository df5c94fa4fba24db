"""The plainest server: FastAPI, a request at a time.

`uvicorn benchmarks.rivals.fastapi_modules:app`
"""

from datetime import datetime
from decimal import Decimal

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.rivals.modules import model_of


class Transaction(BaseModel):
    transaction_id: str
    account_id: str
    occurred_at: datetime
    amount: Decimal
    currency: str
    merchant_id: str | None = None
    merchant_category: str | None = None
    channel: str | None = None
    country: str | None = None
    attributes: dict[str, str | float | bool]


class Score(BaseModel):
    transaction_id: str
    probability: float


app = FastAPI()


@app.post("/v1/transactions")
async def score(transaction: Transaction) -> Score:
    answer = model_of(transaction.account_id).score({"transaction_id": transaction.transaction_id})
    return Score(**answer)

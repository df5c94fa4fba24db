"""What one would write first: FastAPI with a PyTorch module for each account, nothing stored.

A network of 30 features and 64-64 units an account, smaller than Quickstudy's; features are not
computed but at hand; no key, no database. `uvicorn benchmarks.rivals.fastapi_modules:app`.
"""

from datetime import datetime
from decimal import Decimal

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from torch import nn

ACCOUNTS, FEATURES, UNITS = 256, 30, 64

torch.set_num_threads(1)
torch.manual_seed(0)


def network() -> nn.Sequential:
    """A copy for one account."""
    return nn.Sequential(
        nn.Linear(FEATURES, UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, 1),
    )


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


modules = [network() for _ in range(ACCOUNTS)]
features = torch.randn(ACCOUNTS, 1, FEATURES)
app = FastAPI()


@app.get("/readyz")
async def ready() -> bool:
    return True


@app.post("/v1/transactions")
async def score(transaction: Transaction) -> Score:
    account = int(transaction.account_id[1:]) % ACCOUNTS
    with torch.inference_mode():
        probability = modules[account](features[account]).sigmoid().item()
    return Score(transaction_id=transaction.transaction_id, probability=probability)

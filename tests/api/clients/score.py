"""By the generated client: score a payment, then a batch of it and of one in conflict with it."""

import sys
from datetime import UTC, datetime

from openapi_client import ApiClient, Configuration, PostedBatch, PostedTransaction
from openapi_client.api.transactions_api import TransactionsApi

url, key = sys.argv[1:]


def payment(amount: str) -> PostedTransaction:
    return PostedTransaction(
        transaction_id="t-python",
        account_id="a-1",
        occurred_at=datetime(2026, 1, 31, 12, tzinfo=UTC),
        amount=amount,
        currency="EUR",
        attributes={"device_age_days": 3},
    )


with ApiClient(Configuration(host=url, access_token=key)) as client:
    api = TransactionsApi(client)
    score = api.score_transaction(payment("12.50"))
    batch = api.score_batch(PostedBatch(transactions=[payment("12.5"), payment("13")]))
    same, other = batch.results
    print(score.probability, same.probability, other.error.code)

"""Simulated payments as request bodies: what is imported, what is labelled, what is scored."""

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import nlargest
from itertools import chain
from typing import Any, NamedTuple

import polars as pl

from app.simulator.simulate import simulate

# So long ago that no payment lies in the future.
START = datetime(2016, 1, 1, tzinfo=UTC)
# Of an account in a day, or a little more.
PAYMENTS = 1.0
LABELS_AN_ACCOUNT = 8
ATTRIBUTES = ("device_age_days", "distance_from_home_km")


class Payment(NamedTuple):
    """A payment of the load, as JSON."""

    account_id: str
    body: str


class Traffic(NamedTuple):
    """Payments before the load, labels of some of them, and the payments of the load in order."""

    past: list[dict[str, Any]]
    labels: list[dict[str, str]]
    payments: list[Payment]


def traffic(accounts: int, past_days: int, count: int, seed: int = 0) -> Traffic:
    """At least so many payments of so many accounts after so many days, and a few labels each."""
    days = past_days + math.ceil(count / (accounts * PAYMENTS))
    frame = simulate(accounts, days, seed, START)
    before = pl.col("occurred_at") < START + timedelta(days=past_days)
    past = frame.filter(before)
    # By account: a request of labels costs by the accounts that it is about.
    labels: dict[str, list[dict[str, str]]] = {}
    for row in past.iter_rows(named=True):
        own = labels.setdefault(row["account_id"], [])
        if len(own) < LABELS_AN_ACCOUNT:
            name = "fraud" if row["is_fraud"] else "legitimate"
            own.append({"transaction_id": row["transaction_id"], "label": name})
    payments = [
        Payment(body["account_id"], json.dumps(body)) for body in bodies(frame.filter(~before))
    ]
    return Traffic(list(bodies(past)), list(chain(*labels.values())), payments[:count])


def bodies(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """Payments as the API takes them."""
    texts = frame.select(
        "transaction_id",
        "account_id",
        pl.col("occurred_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
        pl.col("amount").round(2).cast(pl.String),
        "currency",
        "merchant_id",
        "merchant_category",
        "channel",
        "country",
        *ATTRIBUTES,
    )
    for row in texts.iter_rows(named=True):
        found = {name: row.pop(name) for name in ATTRIBUTES}
        yield row | {"attributes": {name: v for name, v in found.items() if v is not None}}


def batches(payments: Sequence[Payment], size: int) -> Iterator[str]:
    """Bodies of so many payments of as many accounts, each the account's next one."""
    queues: dict[str, list[str]] = {}
    for account_id, body in reversed(payments):
        queues.setdefault(account_id, []).append(body)
    while True:
        fullest = nlargest(size, queues.values(), key=len)
        if not fullest[-1]:
            return
        yield f'{{"transactions": [{", ".join(queue.pop() for queue in fullest)}]}}'

"""The requests of a run of `benchmarks.throughput`, in files that are written once."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.rivals.environment import RIVALS
from benchmarks.rivals.modules import ACCOUNTS
from benchmarks.serving.driving import WARM_SECONDS, written
from benchmarks.serving.traffic import Payment, Traffic, batches, traffic

SCORE, SCORE_BATCH, LABEL = "/v1/transactions", "/v1/transactions/batch", "/v1/labels"
PAST_DAYS, BATCHED_PAST_DAYS = 60, 20
# More than a second can use up: single payments and batches.
SINGLES, BATCHES = 10_000, 30
AT_ONCE = 1000
# Of whom the thousand with most payments left are in the next batch.
BATCHED_ACCOUNTS = 1500
# The payments left in the end are of accounts that pay more often than others.
LEFT_OVER = 1.3
# Loads of single payments in a round: with labels beside and without. One after another, they are
# fewer than these leave.
LOADS = 2
REPEATED = 10_000


class Prepared(NamedTuple):
    """What a service stores before the load, and files of the requests, labels apart."""

    past: list[dict[str, Any]]
    labels: list[dict[str, str]]
    requests: Path
    labelling: Path


@dataclass(frozen=True)
class Material:
    """Enough for so many rounds of so many seconds, with `loads` of single payments in each."""

    folder: Path
    rounds: int
    seconds: float
    singles_a_second: int = SINGLES
    batches_a_second: int = BATCHES
    loads: int = LOADS

    @property
    def whole_seconds(self) -> float:
        return self.rounds * (WARM_SECONDS + self.seconds)

    @cached_property
    def singles(self) -> Prepared:
        """Payments of the accounts that the rivals have a module for."""
        found = self._single_traffic
        return Prepared(
            found.past,
            found.labels,
            written(self.folder / "singles", SCORE, found.payments),
            written(self.folder / "labels", LABEL, labelling(found)),
        )

    def templates(self, part: int, parts: int) -> list[str]:
        """One of so many parts of the single payments as bodies, `@` in the place of their ids."""
        payments = self._single_traffic.payments
        size = len(payments) // parts
        own = payments[part * size : (part + 1) * size]
        return [json.dumps(json.loads(row.body) | {"transaction_id": "@"}) for row in own]

    @cached_property
    def _single_traffic(self) -> Traffic:
        count = round(self.loads * self.singles_a_second * self.whole_seconds)
        return traffic(ACCOUNTS, PAST_DAYS, count)

    @cached_property
    def batches(self) -> Prepared:
        """Payments in thousands, each of another account."""
        count = round(LEFT_OVER * AT_ONCE * self.batches_a_second * self.whole_seconds)
        found = traffic(BATCHED_ACCOUNTS, BATCHED_PAST_DAYS, count, seed=1)
        bodies = (Payment("", body) for body in batches(found.payments, AT_ONCE))
        return Prepared(
            found.past,
            found.labels,
            written(self.folder / "batches", SCORE_BATCH, bodies),
            written(self.folder / "batches-labels", LABEL, labelling(found)),
        )

    @cached_property
    def for_rivals(self) -> dict[str, Path]:
        """Payments for each of them, with the account in the header that it reads."""
        payments = traffic(ACCOUNTS, 0, REPEATED).payments
        return {
            name: written(self.folder / name, SCORE, payments, rival.account_header)
            for name, rival in RIVALS.items()
        }


def labelling(found: Traffic) -> Iterator[Payment]:
    """A label for each payment of the past that has none."""
    labelled = {label["transaction_id"] for label in found.labels}
    for body in found.past:
        if body["transaction_id"] not in labelled:
            label = {"transaction_id": body["transaction_id"], "label": "legitimate"}
            yield Payment(body["account_id"], json.dumps({"labels": [label]}))

"""Load on a service of your own, by Locust (https://locust.io): payments, and labels as they come.

    QUICKSTUDY_KEY=qs_… uvx locust -f deploy/locustfile.py --headless \\
        --host http://127.0.0.1:8000 --users 32 --run-time 60s

Each user lives through the five weeks of the simulated payments that the demonstration has, with
accounts of its own at merchants of all: a payment when the one before is answered, a label when it
became known, then the five weeks anew with other accounts. Use a tenant made for it: what is sent
is stored. 503 with Retry-After counts as refused, and is sent again after that time; any other
answer than 200 is a failure.
"""

import gzip
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from locust import FastHttpUser, constant, task

PAYMENTS = Path(__file__).parents[1] / "app" / "demo" / "payments.jsonl.gz"
KEY = os.environ.get("QUICKSTUDY_KEY", "")
if not KEY:
    raise SystemExit("QUICKSTUDY_KEY is not set: `quickstudy keys create load` prints a key")
_lives = count(int(time.time()) << 16)


class Event(NamedTuple):
    """A payment, or a label of one, so many seconds before the end."""

    before: float
    name: str
    path: str
    body: dict[str, Any]


def events() -> list[Event]:
    """Of one life, in the order of time."""
    found = []
    with gzip.open(PAYMENTS, "rt") as lines:
        for line in lines:
            row = json.loads(line)
            payment, before = row["payment"], float(row["before"])
            found.append(Event(before, "payment", "/v1/transactions", payment))
            known = before - 86_400 * row.get("days", 0)
            if row.get("fraud") is not None and known > 0:
                label = "fraud" if row["fraud"] else "legitimate"
                labelled = {"transaction_id": payment["transaction_id"], "label": label}
                found.append(Event(known, "label", "/v1/labels", labelled))
    return sorted(found, key=lambda event: -event.before)


EVENTS = events()


class Holder(FastHttpUser):
    """A user of Locust's: some hundred accounts, one request at a time."""

    wait_time = constant(0)

    def on_start(self) -> None:
        self._requests = self._lived()

    @task
    def go_on(self) -> None:
        name, path, body = next(self._requests)
        while not self._sent(name, path, body):
            pass

    def _sent(self, name: str, path: str, body: dict[str, Any]) -> bool:
        headers = {"Authorization": f"Bearer {KEY}"}
        with self.client.post(
            path, json=body, headers=headers, name=name, catch_response=True
        ) as answer:
            wait = answer.headers.get("Retry-After") if answer.status_code == 503 else None
            if wait is not None:
                answer.failure("refused: 503 with Retry-After")
            elif answer.status_code == 200:
                answer.success()
            else:
                answer.failure(f"{answer.status_code} {answer.text[:200]}")
        if wait is not None:
            time.sleep(float(wait))
        return wait is None

    def _lived(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        while True:
            life, end = f"{next(_lives):x}", datetime.now(UTC)
            for event in EVENTS:
                key = f"{event.body['transaction_id']}-{life}"
                if event.name == "label":
                    yield "label", event.path, {"labels": [{**event.body, "transaction_id": key}]}
                    continue
                yield (
                    "payment",
                    event.path,
                    {
                        **event.body,
                        "transaction_id": key,
                        "account_id": f"{event.body['account_id']}-{life}",
                        "occurred_at": (end - timedelta(seconds=event.before)).isoformat(),
                    },
                )

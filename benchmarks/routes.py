"""What each route costs where much is stored: `python -m benchmarks.routes [--labels 15000]`.

A merchant with so many labels, seen by one another, and an account with as many payments and a
tenth as many labels. Each route is called in turn, while threads of another process request
`/livez` and scores without a pause. Printed are a route's seconds (of several requests the
longest), the longest that `/livez` was silent meanwhile, and the 99th percentile and the slowest of
the scores; the first line is of a time when nothing else is called. On SQLite, and on PostgreSQL
with `--postgresql`. `--only` leaves out the routes of other names, as in
`--only "label removed" "roll back at merchant" "erase at merchant"`.
"""

import argparse
import asyncio
import gc
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.database import Database
from app.db.migrating import upgrade
from app.entities import states as entity_store
from app.entities.states import EntityState, Link, LinkKey
from app.labels import store as label_store
from app.labels.forgetting import event_of, refold
from app.labels.records import LabelEntity, StoredLabel
from app.learner.checkpoint import Checkpoint
from app.learner.features import FeatureSet
from app.learner.transaction import DAY_US, Transaction, content_of, digest_of
from app.main import SWITCH_SECONDS
from app.scoring import store as transaction_store
from app.scoring.records import Scored
from app.settings import SHIPPED_MODEL
from app.times import now_us
from tests.postgres import DURABLE, postgres_server
from tests.servers import new_key, server

TENANT, KIND = "default", "merchant"
DAYS, KNOWN_AFTER_DAYS = 300, 20
CHUNK, ALONE_SECONDS, SCORERS = 1000, 8.0, 4
# What follows a request is its own for so long. What lets others forget is requested several times,
# as one alone takes hardly longer than a hundred scores.
REST_SECONDS, TIMES = 0.2, 3
# As in a PostgreSQL that has run for a while, whose log goes into files that are there: a new one
# fills each of them with zeros first, 16 MB, and all commits wait for 60 ms.
KEPT_LOG = ("wal_init_zero=off",)
# Payments at the merchant, and accounts, without a label.
NEW = 2100


class Filler:
    """Rows as the service would have stored them, by the thousand."""

    def __init__(
        self, database: Database, features: FeatureSet, model: str, tenant: str = TENANT
    ) -> None:
        self._database, self._features, self._model = database, features, model
        self._tenant = tenant
        self._random = np.random.default_rng(0)
        # The last label has matured by now.
        self._first_us = now_us() - (DAYS + KNOWN_AFTER_DAYS) * DAY_US
        self._state = features.empty(1, 1, 0)

    async def fill(self, labels: int) -> None:
        """The merchant `big`, the account `heavy`, and new payments at the merchant."""
        accounts = max(labels // 10, 1)
        await self._store("p", labels, 1, lambda n: f"a-{n % accounts}", lambda n: "big")
        await self._store("h", labels, 10, lambda n: "heavy", lambda n: f"m-{n % 50}")
        await self._store("n", NEW, 0, lambda n: f"new-{n}", lambda n: "big")

    async def _store(
        self,
        name: str,
        size: int,
        one_in: int,
        account_of: Callable[[int], str],
        merchant_of: Callable[[int], str],
    ) -> None:
        accounts: dict[str, Account] = {}
        for first in range(0, size, CHUNK):
            rows, labels, events, named = [], [], [], []
            links: dict[LinkKey, Link] = {}
            for n in range(first, min(first + CHUNK, size)):
                merchant_id = merchant_of(n)
                row = self._row(f"{name}-{n}", account_of(n), merchant_id, n / size)
                link = Link(self._tenant, KIND, merchant_id, row.account_id, row.occurred_at_us)
                links.setdefault(link.key, link)
                account = accounts.get(row.account_id) or self._account(row)
                account = account._replace(transactions=account.transactions + 1)
                if one_in and n % one_in == 0:
                    is_fraud = bool(self._random.random() < 0.2)
                    label = self._label(row, is_fraud)
                    account = account._replace(
                        revision=account.revision + 1,
                        fraud_labels=account.fraud_labels + is_fraud,
                        legitimate_labels=account.legitimate_labels + (not is_fraud),
                    )
                    labels.append(label)
                    named.append(self._named(label, merchant_id))
                    events.append(event_of(label, account.revision))
                accounts[row.account_id] = account
                rows.append(row)
            async with self._database.write() as connection:
                await transaction_store.save_scored(connection, rows)
                await label_store.save_labels(connection, labels, named)
                await label_store.save_label_events(connection, events)
                await entity_store.save_links(connection, links.values())
        merchants = [(KIND, merchant_of(n)) for n in range(min(size, 1000))]
        state = self._state.entities.to_bytes()[0]
        async with self._database.write() as connection:
            await account_store.save_accounts(connection, accounts.values())
            records = await refold(connection, self._features, self._tenant, merchants)
            await entity_store.save_entities(
                connection,
                [
                    EntityState(self._tenant, *key, state, label_state=record)
                    for key, record in records.items()
                ],
            )

    def _account(self, row: Scored) -> Account:
        state = self._state.accounts.to_bytes()[0]
        return Account(self._tenant, row.account_id, state=state, created_at_us=row.evaluated_at_us)

    def _row(self, name: str, account_id: str, merchant_id: str, share: float) -> Scored:
        at_us = self._first_us + int(share * DAYS * DAY_US)
        amount = Decimal(int(self._random.integers(1, 500)))
        payment = Transaction(name, account_id, at_us, amount, "EUR", merchant_id)
        content = content_of(payment)
        values_F = self._random.normal(0, 1, len(self._features.names)).astype(np.float32)
        return Scored(
            *(self._tenant, name, account_id, at_us, content, digest_of(content)),
            values_F.tobytes(),
            *(self._features.digest, 0.01, 1.0, "low", "approve", "base"),
            *(0, 0, self._model, at_us, 0.5, 0.9),
        )

    def _label(self, row: Scored, is_fraud: bool) -> StoredLabel:
        known_us = row.occurred_at_us + KNOWN_AFTER_DAYS * DAY_US
        return StoredLabel(
            *(self._tenant, row.transaction_id, row.account_id, is_fraud),
            *(row.occurred_at_us, known_us, known_us),
            recorded_at_us=known_us,
        )

    def _named(self, label: StoredLabel, merchant_id: str) -> LabelEntity:
        key = self._tenant, label.transaction_id, KIND, merchant_id
        return LabelEntity(*key, label.matures_at_us, folded=True)


class Meanwhile:
    """A process that requests `/livez` and scores without a pause, and when it had its answers.

    Each is when it began, on the clock of all processes, and how many seconds it took.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        context = get_context("spawn")
        here, there = context.Pipe(duplex=False)
        self._pipe = here
        self._process = context.Process(target=request_on, args=(url, headers, there), daemon=True)
        self.silences: list[tuple[float, float]] = []
        self.scores: list[tuple[float, float]] = []

    def __enter__(self) -> "Meanwhile":
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()

    def read(self) -> None:
        """Take what it has answers to."""
        while self._pipe.poll():
            silences, scores = self._pipe.recv()
            self.silences += silences
            self.scores += scores


def request_on(url: str, headers: dict[str, str], pipe: Connection) -> None:
    """Send when each answer had come, from time to time, for ever."""
    # What is measured is the service: not this process's own collector, which halts it for .1 s,
    # nor how long its threads wait for each other.
    gc.disable()
    sys.setswitchinterval(SWITCH_SECONDS)
    callers = Callers(url, headers)
    silences = scores = 0
    while True:
        time.sleep(0.05)
        some = callers.silences[silences:], callers.scores[scores:]
        silences, scores = silences + len(some[0]), scores + len(some[1])
        pipe.send(some)


class Callers:
    """Threads that request `/livez` and scores."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url, self._headers = url, headers
        self.silences: list[tuple[float, float]] = []
        self.scores: list[tuple[float, float]] = []
        threading.Thread(target=self._live, daemon=True).start()
        for n in range(SCORERS):
            threading.Thread(target=self._score, args=(n,), daemon=True).start()

    def _live(self) -> None:
        with httpx.Client(base_url=self._url, timeout=300) as client:
            while True:
                time.sleep(0.003)
                begun = time.perf_counter()
                client.get("/livez")
                self.silences.append((begun, time.perf_counter() - begun))

    def _score(self, number: int) -> None:
        count = 0
        with httpx.Client(base_url=self._url, headers=self._headers, timeout=300) as client:
            while True:
                time.sleep(0.02)
                body = payment(f"s-{number}-{count}", f"s-{number}-{count % 50}", f"s-{count % 9}")
                begun = time.perf_counter()
                answer = client.post("/v1/transactions", json=body)
                assert answer.status_code in (200, 503), answer.text
                self.scores.append((begun, time.perf_counter() - begun))
                count += 1


def payment(
    transaction_id: str, account_id: str, merchant_id: str, days_late: float = 0
) -> dict[str, Any]:
    return {
        "transaction_id": transaction_id,
        "account_id": account_id,
        "merchant_id": merchant_id,
        "occurred_at": (datetime.now(UTC) - timedelta(days_late)).isoformat(),
        "amount": 20,
        "currency": "EUR",
    }


class Route(NamedTuple):
    """Requests of a kind, one after another."""

    name: str
    method: str
    paths: Sequence[str]
    body: Any = None


def routes(labels: int) -> list[Route]:
    scored, revisions = labels // 2, max(labels // 10, 1)
    label = {"label": "fraud"}
    some = [{"transaction_id": f"n-{n}", "label": "fraud"} for n in range(1000)]
    others = [{"transaction_id": f"n-{n}", "label": "fraud"} for n in range(1100, 2100)]
    dry_run = {"dry_run": True, "labels": [{"transaction_id": "n-1001", "label": "fraud"}]}
    at_big = "/v1/transactions"
    return [
        Route("score at the merchant", "POST", [at_big], payment("x-1", "x", "big")),
        Route("score, 100 days late", "POST", [at_big], payment("x-4", "x", "big", 100)),
        Route("score of the account", "POST", [at_big], payment("x-2", "heavy", "m-1")),
        Route("account", "GET", ["/v1/accounts/heavy"]),
        Route("its transactions", "GET", ["/v1/transactions?account_id=heavy&limit=1000"]),
        Route("label history", "GET", [label_at(scored)]),
        Route("replay", "POST", [f"/v1/transactions/h-{scored // 10 * 10}/replay"]),
        Route("reasons", "GET", [f"/v1/transactions/h-{scored}/reasons"]),
        Route("influence", "GET", ["/v1/accounts/heavy/influence"]),
        Route("ask next", "GET", ["/v1/accounts/heavy/ask-next"]),
        Route("ask next of all", "GET", ["/v1/ask-next"]),
        Route("revisions", "GET", ["/v1/accounts/heavy/revisions?limit=1000"]),
        Route("revision", "GET", [f"/v1/accounts/heavy/revisions/{revisions}"]),
        Route("links", "GET", ["/v1/accounts/heavy/links"]),
        Route("notes", "GET", ["/v1/accounts/heavy/notes"]),
        Route("entity", "GET", ["/v1/entities/merchant/big"]),
        Route("accounts with labels", "GET", ["/v1/accounts?labelled=true&limit=1000"]),
        Route("accounts without", "GET", ["/v1/accounts?labelled=false&limit=1000"]),
        Route("audit log", "GET", ["/v1/audit-log?account_id=heavy"]),
        Route("reviews", "GET", ["/v1/reviews"]),
        Route("review counts", "GET", ["/v1/review-counts"]),
        Route("review figures", "GET", ["/v1/review-figures"]),
        Route("figures", "GET", ["/v1/figures"]),
        Route("effects of thresholds", "GET", ["/v1/thresholds/effects?review=0.1&decline=0.9"]),
        Route("thresholds of a budget", "POST", ["/v1/thresholds"], {"reviews_per_day": 50}),
        Route("drift", "POST", ["/v1/models/default/drift"], {"days": 28}),
        Route("preview of a label", "POST", ["/v1/accounts/new-1001/adapt"], dry_run),
        Route("label", "PUT", ["/v1/transactions/n-1002/label"], label),
        Route("1,000 labels", "POST", ["/v1/labels"], {"labels": some}),
        Route("label changed", "PUT", [label_at(scored)], label),
        Route("label removed", "DELETE", [label_at(scored + n) for n in range(1, TIMES + 1)]),
        Route("label after that", "PUT", ["/v1/transactions/n-1003/label"], label),
        Route("1,000 labels after that", "POST", ["/v1/labels"], {"labels": others}),
        Route("score after that", "POST", [at_big], payment("x-3", "x", "big")),
        Route(
            "roll back at merchant",
            "POST",
            [f"/v1/accounts/a-{n}/rollback" for n in range(10, 10 + TIMES)],
            {"revision": 1},
        ),
        Route(
            "roll back, dry run",
            "POST",
            ["/v1/accounts/heavy/rollback"],
            {"revision": 1, "dry_run": True},
        ),
        Route("roll back of all", "POST", ["/v1/accounts/heavy/rollback"], {"revision": 1}),
        Route(
            "erase at merchant", "DELETE", [f"/v1/accounts/a-{n}" for n in range(20, 20 + TIMES)]
        ),
        Route("erase the account", "DELETE", ["/v1/accounts/heavy"]),
    ]


def label_at(number: int) -> str:
    return f"/v1/transactions/p-{number}/label"


def measure(url: str, key: str, chosen: Sequence[Route]) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    print("| route | status | seconds | longest /livez ms | p99 of scores ms | slowest ms |")
    print("| --- | --- | --- | --- | --- | --- |")
    with (
        httpx.Client(base_url=url, headers=headers, timeout=300) as client,
        Meanwhile(url, headers) as others,
    ):
        time.sleep(2)
        alone(others)
        for route in chosen:
            spans = []
            for path in route.paths:
                begun = time.perf_counter()
                answer = client.request(route.method, path, json=route.body)
                time.sleep(REST_SECONDS)
                spans.append((begun, time.perf_counter()))
            report(route.name, str(answer.status_code), spans, others)
            if answer.is_error:
                print(f"  {answer.text[:200]}")
        alone(others)


def alone(others: Meanwhile) -> None:
    begun = time.perf_counter()
    time.sleep(ALONE_SECONDS)
    report("nothing", "", [(begun, time.perf_counter())], others)


def report(name: str, status: str, spans: Sequence[tuple[float, float]], others: Meanwhile) -> None:
    """A line about what ran in these spans of time."""
    ended = spans[-1][1]
    # A silence is recorded only once it has ended.
    while not (others.silences and others.scores) or (
        min(others.silences[-1][0], others.scores[-1][0]) < ended
    ):
        time.sleep(0.01)
        others.read()
    silences = within(spans, others.silences)
    scores = within(spans, others.scores)
    longest = max(ended - begun for begun, ended in spans) - (REST_SECONDS if status else 0)
    figures = max(silences), np.quantile(scores, 0.99), max(scores)
    shown = " | ".join(f"{1000 * seconds:.0f}" for seconds in figures)
    print(f"| {name} | {status} | {longest:.2f} | {shown} |", flush=True)


def within(
    spans: Iterable[tuple[float, float]], answers: Iterable[tuple[float, float]]
) -> list[float]:
    """How long those answers took that were waited for in one of these spans."""
    return [
        took for at, took in answers if any(begun - took <= at <= ended for begun, ended in spans)
    ]


@contextmanager
def database_url(is_postgresql: bool) -> Iterator[str]:
    if is_postgresql:
        with postgres_server([*DURABLE, *KEPT_LOG]) as postgres:
            yield postgres.create("routes")
    else:
        with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as folder:
            yield f"sqlite:///{Path(folder) / 'routes.db'}"


async def fill(url: str, labels: int) -> None:
    checkpoint = Checkpoint.load(SHIPPED_MODEL)
    database = Database(url)
    try:
        await Filler(database, checkpoint.features, checkpoint.model).fill(labels)
    finally:
        await database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=15_000)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    arguments = parser.parse_args()
    chosen = [
        route
        for route in routes(arguments.labels)
        if not arguments.only or route.name in arguments.only
    ]
    if len(chosen) < len(set(arguments.only or ())):
        parser.error("--only: no route has one of these names; a whole run prints them")
    with database_url(arguments.postgresql) as url:
        upgrade(url)
        begun = time.perf_counter()
        asyncio.run(fill(url, arguments.labels))
        print(f"filled in {time.perf_counter() - begun:.0f} s")
        key = new_key(url)
        with server(url, SHIPPED_MODEL, QUICKSTUDY_LABELS_PER_ACCOUNT="10000000") as service:
            measure(service, key, chosen)


if __name__ == "__main__":
    main()

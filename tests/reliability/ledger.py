"""Callers who write down their answers, and whether the database agrees with them."""

import asyncio
import json
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import httpx
import numpy as np
from pydantic_core import to_json
from sqlalchemy import Table, select

from app.accounts.store import Account
from app.audit.entries import Entry
from app.db import schema as tables
from app.db.connection import Connection
from app.db.database import Database
from app.db.statements import columns
from app.entities.states import EntityState, Link
from app.labels.records import LabelEntity, LabelEvent, StoredLabel
from app.learner.columns import columns_of
from app.learner.features import EntityLabels, FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.states import States
from app.learner.transaction import transaction_of
from app.reviews.records import Review
from app.scoring.records import Scored
from app.scoring.routes import label_name, score_of
from tests.api.requests import posted
from tests.servers import START_SECONDS

Json = dict[str, Any]

PAYERS, ACCOUNTS, MERCHANTS, DEVICES = 6, 12, 5, 7
BEGINNING = datetime.fromisoformat("2015-01-01T00:00:00+00:00")
# So far apart that labels mature while it goes on.
STEP = timedelta(days=3)
FIND_OUT = timedelta(hours=1)
# Sums of the same terms in another order: batches add their rows as they came.
ROUNDING = {"rtol": 1e-9, "atol": 1e-9}


class Ledger:
    """What callers were answered: the score and the label of each transaction.

    `unanswered` has why requests got no answer at all.
    """

    def __init__(self) -> None:
        self.scores: dict[str, Json] = {}
        self.labels: dict[str, str] = {}
        self.unanswered: list[str] = []

    def score(self, answer: Json) -> None:
        """Note a score; the same transaction gets the same one ever after."""
        first = self.scores.setdefault(answer["transaction_id"], answer)
        assert answer == first

    def label(self, transaction_id: str, name: str) -> None:
        assert self.labels.setdefault(transaction_id, name) == name


class Caller:
    """One connection; what is not answered is sent again, as whoever lost an answer would.

    Its answers go into the ledger.
    """

    def __init__(self, url: str, key: str, ledger: Ledger) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=START_SECONDS)
        self._ledger = ledger

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def score(self, body: Json) -> None:
        self._ledger.score(self.ask("POST", "/v1/transactions", body))

    def score_batch(self, bodies: Sequence[Json]) -> list[Json]:
        body = self.ask("POST", "/v1/transactions/batch", {"transactions": bodies})
        answers: list[Json] = body["results"]
        for answer in answers:
            self._ledger.score(answer)
        return answers

    def label(self, account_id: str, labels: Sequence[Json]) -> Json:
        """Labels of stored transactions, or of whole ones."""
        answer = self.ask("POST", f"/v1/accounts/{account_id}/labels", {"labels": labels})
        for label in labels:
            body = label.get("transaction", label)
            self._ledger.label(body["transaction_id"], label["label"])
        return answer

    def replay(self, transaction_id: str) -> None:
        """The score can be made again: from the stored features, by the copy of its revision."""
        assert self.ask("POST", f"/v1/transactions/{transaction_id}/replay")["match"]

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """The answer, however often it takes; raises for one that is not about being away."""
        until = time.monotonic() + 2 * START_SECONDS
        while True:
            try:
                answer = self._client.request(method, path, json=body)
            except httpx.TransportError as error:
                self._ledger.unanswered.append(f"{method} {path}: {error!r}")
                if time.monotonic() > until:
                    raise
            else:
                if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    assert answer.is_success, (answer.status_code, answer.text)
                    content: Json = answer.json()
                    return content
                assert "Retry-After" in answer.headers, answer.text
                assert time.monotonic() < until, answer.text
            time.sleep(0.05)


class Traffic:
    """Callers who score and label at once, from entering until leaving; then all have answers."""

    def __init__(self, url: str, key: str, ledger: Ledger) -> None:
        self._url, self._key, self._ledger = url, key, ledger
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(PAYERS)
        self._counting = threading.Lock()
        self._until, self._act = 0, lambda: None

    def __enter__(self) -> "Traffic":
        self._payers = [self._pool.submit(self._pay, payer) for payer in range(PAYERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._pool:
            for payer in self._payers:
                payer.result()

    def strike(self, answers: int, act: Callable[[], None]) -> None:
        """Do this the moment so many more answers have come, in the thread of who got the last."""
        struck = threading.Event()

        def once() -> None:
            act()
            struck.set()

        with self._counting:
            self._until, self._act = answers, once
        while not struck.wait(1):
            for payer in self._payers:
                if payer.done():
                    payer.result()

    def _answered(self) -> None:
        with self._counting:
            self._until -= 1
            act = self._act if self._until == 0 else None
        if act is not None:
            act()

    def _pay(self, payer: int) -> None:
        with Caller(self._url, self._key, self._ledger) as caller:
            for paid in payments(payer):
                self._turn(caller, *paid)
                if self._over.is_set():
                    return

    def _turn(
        self, caller: Caller, bodies: Sequence[Json], again: Json, labels: Sequence[Json]
    ) -> None:
        if len(bodies) > 1:
            caller.score_batch(bodies)
        else:
            caller.score(bodies[0])
        self._answered()
        if labels:
            caller.label(bodies[0]["account_id"], labels)
            self._answered()
            for whole in (label["transaction"] for label in labels if "transaction" in label):
                caller.score(whole)
        caller.score(again)


def payments(payer: int) -> Iterable[tuple[list[Json], Json, list[Json]]]:
    """Without an end: new payments, an earlier one, and labels for the first one's account."""
    draw = random.Random(payer)
    done: list[Json] = []
    turn = 0
    while True:
        turn += 1
        at = BEGINNING + turn * STEP
        size = 3 if draw.random() < 0.2 else 1
        bodies = [payment(f"{payer}-{turn}-{n}", draw, at) for n in range(size)]
        labels: list[Json] = []
        name = "fraud" if draw.random() < 0.4 else "legitimate"
        label = {"label": name, "labelled_at": (at + FIND_OUT).isoformat()}
        if draw.random() < 0.3:
            labels.append({"transaction_id": bodies[0]["transaction_id"], **label})
        if draw.random() < 0.1:
            whole = payment(f"{payer}-{turn}-whole", draw, at)
            labels.append(
                {"transaction": {**whole, "account_id": bodies[0]["account_id"]}, **label}
            )
        done += bodies
        yield bodies, draw.choice(done), labels


def payment(name: str, draw: random.Random, at: datetime) -> Json:
    return posted(
        name,
        account_id=f"account-{draw.randrange(ACCOUNTS)}",
        merchant_id=f"merchant-{draw.randrange(MERCHANTS)}",
        device_id=draw.choice([None, f"device-{draw.randrange(DEVICES)}"]),
        ip_address=f"192.0.2.{draw.randrange(DEVICES)}",
        type=draw.choice(["payment", "payment", "payment", "refund", "verification"]),
        status=draw.choice([None, None, "authorised", "declined", "reversed"]),
        amount=round(draw.uniform(1, 900), 2),
        occurred_at=at.isoformat(),
    )


class Stored(NamedTuple):
    """All rows, of all tenants."""

    transactions: list[Scored]
    labels: list[StoredLabel]
    events: list[LabelEvent]
    entries: list[Entry]
    reviews: list[Review]
    accounts: list[Account]
    entities: list[EntityState]
    links: list[Link]
    label_entities: list[LabelEntity]


def reconcile(database_url: str, ledger: Ledger) -> Stored:
    """All that was answered is stored once, nothing else is, and states are the rows' own."""
    stored = asyncio.run(_stored(database_url))
    answers = {
        row.transaction_id: json.loads(to_json(score_of(row))) for row in stored.transactions
    }
    assert answers == ledger.scores
    labels = {row.transaction_id: label_name(row.is_fraud) for row in stored.labels}
    assert labels == ledger.labels
    _check(stored)
    return stored


def kind_of(database_url: str) -> str:
    return "SQLite" if database_url.startswith("sqlite") else "PostgreSQL"


def _check(stored: Stored) -> None:
    """Counts, revisions, reviews and states are what transactions and labels make of them.

    No label of theirs was changed or removed.
    """
    labelled = {row.transaction_id for row in stored.labels}
    once = dict.fromkeys(labelled, 1)
    assert Counter(row.transaction_id for row in stored.events) == once
    assert Counter(row.subject for row in stored.entries if row.action == "label.set") == once
    revisions: dict[str, set[int]] = defaultdict(set)
    for row in stored.events:
        revisions[row.account_id].add(row.revision)
    paid = Counter(row.account_id for row in stored.transactions)
    counts_of = Counter((row.account_id, row.is_fraud) for row in stored.labels)
    for account in stored.accounts:
        key = account.account_id
        counts = account.transactions, account.fraud_labels, account.legitimate_labels
        assert counts == (paid[key], counts_of[key, True], counts_of[key, False])
        assert revisions[key] == set(range(1, account.revision + 1))
    held_up = {row.transaction_id for row in stored.transactions if row.outcome != "approve"}
    sampled = {row.transaction_id for row in stored.reviews if row.kind == "sample"}
    waiting = {row.transaction_id for row in stored.reviews}
    assert (waiting - sampled, sampled & held_up) == (held_up, set())
    resolved = {row.transaction_id for row in stored.reviews if row.status == "resolved"}
    assert resolved == waiting & labelled
    _check_states(stored)


def _check_states(stored: Stored) -> None:
    features = FeatureSet(DatasetSpec.load("simulated"))
    # As they were committed: what an account compares late payments with depends on it, and who
    # used an entity first. Sums do not, but for their last bits.
    rows = sorted(stored.transactions, key=lambda row: row.evaluated_at_us)
    payments = [transaction_of(row.content) for row in rows]
    paid, named = columns_of(features.spec, payments)
    paid.standing_N[:] = [
        row.standing(payment.type) for row, payment in zip(rows, payments, strict=True)
    ]
    assert {row.account_id for row in stored.accounts} == set(named.accounts)
    assert {row.key for row in stored.entities} == set(named.entities)
    memory = features.empty(len(named.accounts), len(named.entities), len(named.links))
    committed_us_N = np.array([row.evaluated_at_us for row in rows])
    _, first = np.unique(committed_us_N, return_index=True)
    for together in np.split(np.arange(len(rows)), first[1:]):
        features.serve(paid.take(together), memory, EntityLabels.none())
    entity_of = {key: position for position, key in enumerate(named.entities)}
    is_fraud = {row.transaction_id: row.is_fraud for row in stored.labels}
    folded = [row for row in stored.label_entities if row.folded]
    assert {row.transaction_id for row in stored.label_entities} <= is_fraud.keys()
    labels = EntityLabels(
        np.array([entity_of[row.key] for row in folded], np.int64),
        np.array([row.matures_at_us for row in folded], np.int64),
        np.array([is_fraud[row.transaction_id] for row in folded], np.float64),
    )
    features.serve(paid.take(np.arange(0)), memory, labels)
    accounts = {row.account_id: row.state for row in stored.accounts}
    _assert_equal(_states(accounts, named.accounts, features.account_sums), memory.accounts)
    first = {row.key: row for row in stored.entities if row.slot == 0}
    states = {key: row.state for key, row in first.items()}
    entities = _states(states, named.entities, features.entity_sums)
    others = [row for row in stored.entities if row.slot > 0]
    assert Counter(row.key for row in stored.entities) == {
        key: row.slots for key, row in first.items()
    }
    if others:
        entity_S = np.array([entity_of[row.key] for row in others])
        slots = States.from_bytes([row.state for row in others], features.entity_sums)
        entities = features.gather(entities, entity_S, slots)
    _assert_equal(entities, memory.entities)
    confirmed = {key: row.label_state for key, row in first.items()}
    _assert_equal(_states(confirmed, named.entities, features.confirmed_sums), memory.confirmed)
    since_us = dict(zip(named.links, memory.first_use_us_L.tolist(), strict=True))
    assert {row.key: row.first_use_us for row in stored.links} == since_us


def _states(found: Mapping[Any, bytes | None], keys: Sequence[Any], sums: int) -> States:
    return States.from_bytes([found[key] for key in keys], sums)


def _assert_equal(found: States, wanted: States) -> None:
    np.testing.assert_array_equal(found.time_us_G, wanted.time_us_G)
    np.testing.assert_array_equal(found.previous_us_G, wanted.previous_us_G)
    np.testing.assert_allclose(found.before_GD, wanted.before_GD, **ROUNDING)
    np.testing.assert_allclose(found.at_GD, wanted.at_GD, **ROUNDING)


async def _stored(database_url: str) -> Stored:
    database = Database(database_url)
    try:
        async with database.read() as connection:
            return Stored(
                await _all(connection, tables.transactions, Scored),
                await _all(connection, tables.labels, StoredLabel),
                await _all(connection, tables.label_events, LabelEvent),
                await _all(connection, tables.audit_log, Entry),
                await _all(connection, tables.reviews, Review),
                await _all(connection, tables.accounts, Account),
                await _all(connection, tables.entities, EntityState),
                await _all(connection, tables.links, Link),
                await _all(connection, tables.label_entities, LabelEntity),
            )
    finally:
        await database.close()


async def _all(connection: Connection, table: Table, kind: Any) -> list[Any]:
    return await connection.read(kind._make, select(*columns(table, kind)))

"""What lists take at a million rows, as `python -m benchmarks.lists [--rows 1000000]`.

A server on each database in turn, filled by SQL with copies of payments that it has scored: all of
them approved at low risk but the oldest, which were reviewed; one account has a tenth of them. All
accounts have labels, and so has each payment, one of about a hundred that of fraud; the audit log
has an entry for each payment. Then each list is read by
filters that match nothing, few rows far back, or most of them, and from a page in the middle on. At
the end payments are scored alone, and beside 20 callers who read lists without a pause.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import torch
from sqlalchemy import Table, make_url

from app.db.migrating import upgrade
from app.db.schema import accounts, audit_log, labels, links, reviews, transactions
from app.learner.transaction import DAY_US
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.schemas import PostedTransaction
from app.scoring.store import MOST_ACCOUNTS
from app.settings import Settings
from app.web.service import running
from benchmarks.filling import filling
from benchmarks.results import keep
from benchmarks.serving.postgres import postgres
from benchmarks.serving.traffic import traffic
from tests.servers import made_key, server

TENANT, MODEL = "default", Path(__file__).parents[1] / "models" / "default"
ROWS, SEEDS = 1_000_000, 1000
# How far apart the copies of a payment lie; one payment in BIG_ONE_IN is of the account BIG.
STEP_US, BIG, BIG_ONE_IN = DAY_US, "big", 10
# Devices that no payment names, but so many accounts have a link to.
FEW, MANY, USERS = "few", "many", {"few": MOST_ACCOUNTS, "many": 5 * MOST_ACCOUNTS}
TURNS, CALLERS, SCORES, WARM_SECONDS = 5, 20, 200, 5

Query = Mapping[str, str | int]
# By path: filters that match nothing, few rows, or most.
LISTS: Sequence[tuple[str, Query]] = (
    ("/v1/transactions", {}),
    ("/v1/transactions", {"limit": 1000}),
    ("/v1/transactions", {"outcome": "decline"}),
    ("/v1/transactions", {"outcome": "review"}),
    ("/v1/transactions", {"risk_level": "medium"}),
    ("/v1/transactions", {"outcome": "approve", "risk_level": "critical"}),
    ("/v1/transactions", {"outcome": "approve", "occurred_to": "2016-01-01T00:00:00Z"}),
    ("/v1/transactions", {"outcome": "decline", "occurred_from": "2000-01-01T00:00:00Z"}),
    ("/v1/transactions", {"account_id": BIG}),
    ("/v1/transactions", {"account_id": BIG, "outcome": "decline"}),
    ("/v1/transactions", {"account_id": BIG, "risk_level": "high"}),
    ("/v1/transactions", {"account_id": "nobody"}),
    ("/v1/transactions", {"label": "fraud"}),
    ("/v1/transactions", {"label": "fraud", "amount_from": "1000000000"}),
    ("/v1/transactions", {"label": "none", "outcome": "decline"}),
    ("/v1/transactions", {"amount_from": "1000000000"}),
    ("/v1/transactions", {"amount_from": "1000000000", "account_id": BIG}),
    ("/v1/transactions", {"entity_kind": "device", "entity_id": FEW}),
    ("/v1/transactions", {"entity_kind": "device", "entity_id": FEW, "label": "fraud"}),
    ("/v1/transactions", {"entity_kind": "device", "entity_id": MANY}),
    ("/v1/transactions", {"entity_kind": "device", "entity_id": "nobody"}),
    ("/v1/transactions", {"entity_kind": "device", "entity_id": MANY, "account_id": BIG}),
    ("/v1/transactions", {"entity_kind": "shoe", "entity_id": "nobody"}),
    ("/v1/transactions", {"amount_to": "0", "label": "legitimate"}),
    ("/v1/transactions", {"amount_to": "0", "label": "none"}),
    ("/v1/transactions", {"amount_to": "0", "label": "fraud", "account_id": BIG}),
    ("/v1/transactions", {"label": "none"}),
    ("/v1/transactions", {"label": "none", "account_id": BIG}),
    ("/v1/transactions", {"label": "legitimate", "outcome": "decline"}),
    ("/v1/transactions", {"label": "fraud", "occurred_to": "2000-01-01T00:00:00Z"}),
    ("/v1/transactions", {"occurred_to": "2000-01-01T00:00:00Z"}),
    ("/v1/transactions", {"amount_to": "0", "occurred_from": "2000-01-01T00:00:00Z"}),
    ("/v1/accounts", {}),
    ("/v1/accounts", {"labelled": "true"}),
    ("/v1/accounts", {"labelled": "false"}),
    ("/v1/reviews", {}),
    ("/v1/reviews", {"status": "resolved"}),
    ("/v1/reviews", {"status": "resolved", "order": "age"}),
    ("/v1/reviews", {"status": "resolved", "assignee": "nobody"}),
    ("/v1/reviews", {"status": "resolved", "assignee": "nobody", "order": "age"}),
    ("/v1/reviews", {"status": "resolved", "account_id": BIG}),
    ("/v1/reviews", {"status": "resolved", "account_id": BIG, "order": "age"}),
    ("/v1/reviews", {"status": "resolved", "account_id": BIG, "assignee": "nobody"}),
    ("/v1/reviews", {"status": "resolved", "snoozed": "true"}),
    ("/v1/reviews", {"status": "resolved", "kind": "decline"}),
    ("/v1/audit-log", {}),
    ("/v1/audit-log", {"action": "model.activated"}),
    ("/v1/audit-log", {"actor": "nobody"}),
    ("/v1/audit-log", {"actor": "importer"}),
    ("/v1/audit-log", {"actor": "importer", "action": "label.removed"}),
    ("/v1/audit-log", {"account_id": BIG}),
    ("/v1/audit-log", {"account_id": BIG, "action": "label.removed"}),
    ("/v1/audit-log", {"subject": "nothing"}),
    ("/v1/audit-log", {"account_id": BIG, "actor": "nobody", "subject": "nothing"}),
    ("/v1/erasures", {}),
    ("/v1/searches", {}),
    ("/v1/thresholds/history", {}),
    ("/v1/keys", {}),
    ("/v1/models", {}),
    ("/v1/webhooks", {}),
)
# What 20 callers read who leave no pause.
BESIDE: Query = {"outcome": "decline", "limit": 1000}


def main(rows: int) -> None:
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with databases() as urls:
        for kind, url in urls.items():
            print(kind, flush=True)
            upgrade(url)
            asyncio.run(fill(url, rows))
            found = figures[kind] = asyncio.run(measured(url))
            ratios[f"lists.{kind}.beside"] = found["beside_ms"] / found["alone_ms"]
    keep(ratios, rows=rows, **figures)


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    """An empty one of each kind, by its URL."""
    with tempfile.TemporaryDirectory(prefix="quickstudy-bench-") as name, postgres(None) as served:
        yield {
            "sqlite": f"sqlite:///{Path(name) / 'bench.db'}",
            "postgresql": served.create("bench"),
        }


async def fill(url: str, rows: int) -> None:
    """Score payments, and copy them by SQL until there are so many rows of everything."""
    seeds = [
        Posted(TENANT, PostedTransaction.model_validate(body).transaction())
        for body in traffic(SEEDS // 10, 11, SEEDS).past[:SEEDS]
    ]
    async with running(Settings(database_url=url, model=MODEL)) as service:
        await service.part(Pipeline).score(seeds)
    database = make_url(url)
    copies = rows // len(seeds)
    if database.get_backend_name() == "sqlite":
        numbers = (
            "WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c "
            f"WHERE n + 1 < {copies}) SELECT n FROM c"
        )
        with filling(Path(str(database.database))) as connection:
            for statement in copying(copies, numbers):
                connection.execute(statement)
        return
    postgresql = await asyncpg.connect(url)
    for statement in copying(copies, f"SELECT generate_series(0, {copies - 1}) AS n"):
        await postgresql.execute(statement)
    await postgresql.execute("VACUUM ANALYZE")
    await postgresql.close()


def copying(copies: int, numbers: str) -> Iterator[str]:
    """The statements that fill a database with copies of its own transactions."""
    yield "CREATE TEMP TABLE seeds AS SELECT * FROM transactions"
    yield "CREATE TEMP TABLE account AS SELECT * FROM accounts LIMIT 1"
    yield f"CREATE TEMP TABLE copies AS {numbers}"
    for name in ("transactions", "accounts", "reviews"):
        yield f"DELETE FROM {name}"
    number, oldest = "CAST(copies.n AS varchar)", f"copies.n = {copies - 1}"
    yield copied(
        transactions,
        "seeds CROSS JOIN copies ORDER BY copies.n DESC, occurred_at_us",
        transaction_id=f"transaction_id || '-' || {number}",
        account_id=f"CASE WHEN copies.n % {BIG_ONE_IN} = 0 THEN '{BIG}' "
        f"ELSE account_id || '-' || {number} END",
        occurred_at_us=f"occurred_at_us - copies.n * CAST({STEP_US} AS bigint)",
        risk_level=f"CASE WHEN {oldest} THEN 'high' ELSE 'low' END",
        outcome=f"CASE WHEN {oldest} THEN 'review' ELSE 'approve' END",
    )
    yield copied(
        accounts,
        "account CROSS JOIN seeds CROSS JOIN copies",
        account_id=f"transaction_id || '-' || {number}",
        legitimate_labels="1",
        **{name: f"account.{name}" for name in ("tenant", "revision", "fraud_labels")},
    )
    yield copied(
        labels,
        "transactions",
        is_fraud="occurred_at_us % 97 = 0",
        labelled_at_us="evaluated_at_us",
        matures_at_us="evaluated_at_us",
        source="'analyst'",
        analyst="NULL",
        note="NULL",
        recorded_at_us="evaluated_at_us",
        features="NULL",
    )
    for device, users in USERS.items():
        # One of them has a tenth of all payments.
        others = (
            f"SELECT DISTINCT tenant, account_id FROM transactions WHERE account_id <> '{BIG}' "
            f"LIMIT {users - 1}"
        )
        yield copied(
            links,
            f"(SELECT '{TENANT}' AS tenant, '{BIG}' AS account_id UNION ALL "
            f"SELECT * FROM ({others}) AS others) AS users",
            kind="'device'",
            entity_id=f"'{device}'",
            first_use_us="0",
            remainder="NULL",
        )
    yield copied(
        reviews,
        "transactions",
        opened_at_us="evaluated_at_us + occurred_at_us % 1000000",
        status="'resolved'",
        risk_score="(occurred_at_us % 10000) / 100.0",
        assignee="'ann'",
        assigned_at_us="evaluated_at_us",
        resolved_at_us="evaluated_at_us",
        kind="'review'",
        assigned_by="NULL",
        snoozed_until_us="NULL",
    )
    yield copied(
        audit_log,
        "transactions",
        at_us="occurred_at_us",
        id="substr(transaction_id, 1, 32)",
        actor="'importer'",
        action="'label.set'",
        subject="transaction_id",
        before="NULL",
        after="""'{"label": "legitimate"}'""",
    )


def copied(table: Table, source: str, /, **changed: str) -> str:
    names = [column.name for column in table.columns]
    values = ", ".join(changed.get(name, name) for name in names)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values} FROM {source}"


async def measured(url: str) -> dict[str, Any]:
    """Milliseconds of each list, at its slowest, and of scores alone and beside lists."""
    key = await made_key(url)
    with server(url, MODEL) as address:
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=address, headers=headers, limits=limits, timeout=120
        ) as client:
            found = []
            for path, query in LISTS:
                row = await listed(client, path, query)
                found.append(row)
                print(json.dumps(row), flush=True)
            names = (f"score-{n}" for n in count())
            alone = await scored(client, names)
            with readers(address, headers):
                await asyncio.sleep(WARM_SECONDS)
                beside = await scored(client, names)
    print(f"scores alone {alone:.1f} ms, beside lists {beside:.1f} ms", flush=True)
    return {"lists": found, "alone_ms": round(alone, 2), "beside_ms": round(beside, 2)}


async def listed(client: httpx.AsyncClient, path: str, query: Query) -> dict[str, Any]:
    """The slowest of some turns, of the first page and of one that follows some others."""
    took, status, body = await seconds_of(client, path, query)
    first = max([took, *[(await seconds_of(client, path, query))[0] for _ in range(TURNS - 1)]])
    following = 0.0
    for _ in range(TURNS):
        if status != 200 or not body.get("has_more"):
            break
        took, status, body = await seconds_of(
            client, path, {**query, "cursor": body["next_cursor"]}
        )
        following = max(following, took)
    return {
        "path": path,
        "query": dict(query),
        "status": status,
        "rows": len(body.get("data", ())),
        "has_more": body.get("has_more"),
        "first_ms": round(first, 1),
        "following_ms": round(following, 1),
    }


async def seconds_of(
    client: httpx.AsyncClient, path: str, query: Query
) -> tuple[float, int, dict[str, Any]]:
    begun = time.perf_counter()
    answer = await client.get(path, params=dict(query))
    return 1000 * (time.perf_counter() - begun), answer.status_code, answer.json()


@contextmanager
def readers(address: str, headers: Mapping[str, str]) -> Iterator[None]:
    """Callers in a process of their own, so that the scores' caller has nothing else to do."""
    process = get_context("spawn").Process(target=read_on, args=(address, headers), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def read_on(address: str, headers: Mapping[str, str]) -> None:
    def read() -> None:
        with httpx.Client(base_url=address, headers=headers, timeout=120) as client:
            while True:
                client.get("/v1/transactions", params=dict(BESIDE))

    with ThreadPoolExecutor(CALLERS) as threads:
        for _ in range(CALLERS):
            threads.submit(read)


async def scored(client: httpx.AsyncClient, names: Any) -> float:
    """The median of payments scored one after another."""
    took = []
    for _ in range(SCORES):
        body = {
            "transaction_id": next(names),
            "account_id": "scored",
            "amount": "12.00",
            "currency": "EUR",
            "occurred_at": "2026-01-01T00:00:00Z",
        }
        begun = time.perf_counter()
        answer = await client.post("/v1/transactions", json=body)
        took.append(1000 * (time.perf_counter() - begun))
        # Where nothing else runs at all, a stop of the machine may be taken for an outage.
        assert answer.status_code in (200, 503), answer.text
    return statistics.median(took)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of each table")
    main(parser.parse_args().rows)

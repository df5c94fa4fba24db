"""What the console takes at a million payments, as `python -m benchmarks.console [--rows 1000000]`.

A server on each database in turn, filled as `benchmarks.lists` fills it; the newest payments wait
for a review, and one account has a tenth of all. Each page is read as an analyst's browser does:
its median is printed, and the first time. Then payments are scored one after another, alone and
while ten analysts are at their desks: each looks at the queue, takes the next, looks at what a
verdict would do and at the payment, gives the verdict and takes it back, with a second between two
of these.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import count
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from typing import Any

import httpx
import numpy as np
import torch
from sqlalchemy import delete, select, update

from app.accounts import store as account_store
from app.db.database import Database
from app.db.migrating import upgrade
from app.db.schema import labels, reviews, transactions
from app.learner.transaction import content_of, digest_of, transaction_of
from benchmarks.lists import BIG, FEW, MODEL, ROWS, TENANT, databases, fill
from benchmarks.results import keep
from tests.console.people import HERE, forms
from tests.servers import made_key, server

WAITING, NOTHING = 2000, "nothing"
TURNS, ANALYSTS, PAUSE_SECONDS = 15, 10, 1.0
# Scores are sent at this pace, which leaves the service idle for most of the time.
ROUNDS, ROUND_SECONDS, SCORE_SECONDS = 4, 20.0, 0.01
# The scores of a round that come before it has begun in earnest.
WARM_SCORES = 50


def main(rows: int) -> None:
    torch.set_num_threads(1)
    figures: dict[str, Any] = {}
    ratios: dict[str, float] = {}
    with databases() as urls:
        for kind, url in urls.items():
            print(kind, flush=True)
            upgrade(url)
            asyncio.run(fill(url, rows))
            asyncio.run(leave_waiting(url))
            figures[kind] = measured(url)
            ratios[f"console.{kind}.p99_beside"] = figures[kind]["p99_ratio"]
    keep(ratios, rows=rows, **figures)


async def leave_waiting(url: str) -> None:
    """Let the newest payments wait for a review, by nobody, and have no label.

    Each is of an account of its own then, and its content is no copy any more. The account that has
    a tenth of all payments is there, too.
    """
    of, database = transactions.c, Database(url)
    newest = select(of.transaction_id, of.content).order_by(of.occurred_at_us.desc())
    facts = {"status": "open", "resolved_at_us": None, "assignee": None, "assigned_at_us": None}
    async with database.write() as connection:
        found = await connection.read(tuple[Any, ...], newest.limit(WAITING))
        for key, content in found:
            copy = transaction_of(content)._replace(transaction_id=key, account_id=key)
            written = content_of(copy)
            for table, values in (
                (transactions, {"content": written, "content_digest": digest_of(written)}),
                (reviews, facts),
            ):
                await connection.execute(
                    update(table)
                    .where(table.c.tenant == TENANT, table.c.transaction_id == key)
                    .values(values | {"account_id": key})
                )
        await connection.execute(
            delete(labels).where(
                labels.c.tenant == TENANT, labels.c.transaction_id.in_([key for key, _ in found])
            )
        )
        own = await account_store.require_account(connection, TENANT, found[0][0])
        await account_store.save_accounts(connection, [own._replace(account_id=BIG)])
    await database.close()


def measured(url: str) -> dict[str, Any]:
    """Milliseconds of each page, and the 99th percentile of scores alone and beside analysts."""
    key = asyncio.run(made_key(url))
    found: dict[str, Any] = {"pages": {}}
    with server(url, MODEL) as address:
        with analyst(address, key, "ann") as browser:
            queue = browser.get("/console", params={"order": "risk"})
            first = forms(queue.text)["/console/verdict"]["id"]
            for name, path, query in pages(first):
                took = [milliseconds(browser, path, query) for _ in range(1 + TURNS)]
                found["pages"][name] = row = [round(statistics.median(took[1:]), 1), took[0]]
                print(json.dumps({name: row}), flush=True)
        names = (f"score-{n}" for n in count())
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for is_beside in (False, True):
                with analysts(address, key) if is_beside else nullcontext():
                    times[is_beside] += scored(address, key, names)
    for is_beside, took in times.items():
        name = "beside" if is_beside else "alone"
        p50, p99 = (round(float(np.quantile(took, q)), 2) for q in (0.5, 0.99))
        found |= {f"{name}_p50_ms": p50, f"{name}_p99_ms": p99, f"{name}_scores": len(took)}
        print(f"scores {name}: {len(took)}, p50 {p50} ms, p99 {p99} ms", flush=True)
    found["p99_ratio"] = round(found["beside_p99_ms"] / found["alone_p99_ms"], 2)
    return found


def pages(waiting: str) -> list[tuple[str, str, dict[str, str]]]:
    """Pages by their names, with an account that has a tenth of all payments among them."""
    return [
        ("queue", "", {}),
        ("queue by age", "", {"order": "age"}),
        ("queue, one chosen", "", {"at": waiting}),
        ("resolved", "", {"tab": "resolved"}),
        ("what each verdict does", "/what-if", {"id": waiting}),
        ("payment", "/payment", {"id": waiting}),
        ("payment's replay", "/replay", {"id": waiting}),
        ("account of a tenth of all", "/account", {"id": BIG}),
        ("account", "/account", {"id": waiting}),
        ("find an account's payment", "/find", {"id": waiting}),
        ("find nothing", "/find", {"id": NOTHING}),
        ("payments by amount", "/payments", {"amount_from": "100"}),
        ("payments, frauds", "/payments", {"label": "fraud"}),
        ("payments that nothing matches", "/payments", {"amount_from": "1000000000"}),
        ("payments of an account", "/payments", {"account_id": BIG, "outcome": "review"}),
        ("device of many", "/entity", {"kind": "device", "id": FEW}),
        ("thresholds", "/thresholds", {}),
        ("thresholds moved", "/thresholds", {"review": "20", "decline": "60"}),
        ("figures", "/figures", {}),
        ("ask next", "/ask", {}),
        ("models", "/models", {}),
        ("drift", "/drift", {}),
        ("audit", "/audit", {}),
        ("keys", "/keys", {}),
        ("webhooks", "/webhooks", {}),
        ("people", "/people", {}),
    ]


@contextmanager
def analyst(address: str, key: str, name: str) -> Iterator[httpx.Client]:
    """The browser of somebody who has signed in."""
    with httpx.Client(base_url=address, headers=HERE, timeout=60) as browser:
        answer = browser.post("/console/sign-in", data={"person": name, "key": key, "back": ""})
        assert answer.status_code == 303, answer.text
        yield browser


def milliseconds(browser: httpx.Client, path: str, query: Mapping[str, str]) -> float:
    begun = time.perf_counter()
    answer = browser.get(f"/console{path}", params=dict(query), follow_redirects=True)
    took = round(1000 * (time.perf_counter() - begun), 1)
    assert answer.is_success or query.get("id") == NOTHING, answer.text
    return took


@contextmanager
def analysts(address: str, key: str) -> Iterator[None]:
    """Analysts at the queue, in a process of their own."""
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=decide_on, args=(address, key, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        process.kill()
        process.join()


def decide_on(address: str, key: str, ready: Event) -> None:
    def decide(n: int) -> None:
        with analyst(address, key, f"analyst-{n}") as browser:
            # Not all at the same moment.
            time.sleep(n * PAUSE_SECONDS / ANALYSTS)
            while True:
                browser.get("/console", params={"tab": "open"})
                time.sleep(PAUSE_SECONDS)
                form = forms(browser.post("/console/next", data={}, follow_redirects=True).text)
                verdict = form["/console/verdict"]
                browser.get("/console/what-if", params={"id": verdict["id"]})
                time.sleep(PAUSE_SECONDS)
                browser.get("/console/payment", params={"id": verdict["id"]})
                time.sleep(PAUSE_SECONDS)
                label = {**verdict, "label": "fraud" if n % 2 else "legitimate"}
                done = browser.post("/console/verdict", data=label, follow_redirects=True)
                assert done.status_code == 200, done.text
                ready.set()
                time.sleep(PAUSE_SECONDS)
                browser.post("/console/undo", data=forms(done.text)["/console/undo"])
                time.sleep(PAUSE_SECONDS)

    with ThreadPoolExecutor(ANALYSTS) as threads:
        for done in [threads.submit(decide, n) for n in range(ANALYSTS)]:
            done.result()


def scored(address: str, key: str, names: Iterator[str]) -> list[float]:
    """Milliseconds of payments that are scored one after another for a while."""
    took = []
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        until = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < until:
            body = {
                "transaction_id": next(names),
                "account_id": "scored",
                "amount": "12.00",
                "currency": "EUR",
                "occurred_at": "2026-01-01T00:00:00Z",
            }
            begun = time.perf_counter()
            answer = client.post("/v1/transactions", json=body)
            took.append(1000 * (time.perf_counter() - begun))
            assert answer.status_code == 200, answer.text
            time.sleep(SCORE_SECONDS)
    return took[WARM_SCORES:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition(",")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="payments in the database")
    main(parser.parse_args().rows)

"""Two server processes on one database, over real HTTP."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from app import keys
from app.database import Database
from tests.api.requests import label, posted
from tests.servers import server

Pair = tuple[httpx.Client, httpx.Client]


async def new_key(url: str) -> str:
    database = Database(url)
    try:
        return await keys.create(database, "tests")
    finally:
        await database.close()


@pytest.fixture
def pair(database_url: str, checkpoint: Path) -> Iterator[Pair]:
    key = asyncio.run(new_key(database_url))
    with (
        server(database_url, checkpoint, key) as one,
        server(database_url, checkpoint, key) as other,
    ):
        yield one, other


def probability(client: httpx.Client, transaction_id: str, account_id: str = "alice") -> float:
    body = posted(transaction_id, account_id=account_id)
    answer = client.post("/v1/transactions", json=body).raise_for_status()
    found: float = answer.json()["probability"]
    return found


def test_a_label_posted_to_one_worker_is_used_by_the_next_score_of_another(pair: Pair) -> None:
    one, other = pair
    before = probability(one, "t-1")
    assert probability(other, "t-2") == before
    bob = probability(other, "t-3", "bob")
    done = one.post("/v1/accounts/alice/labels", json={"labels": [label("t-1")]}).json()
    after = probability(other, "t-4")
    assert after == done["scores"][0]["probability_after"] != before
    assert probability(other, "t-5", "bob") == probability(one, "t-6", "bob") == bob
    # And back again, where the other one has a copy of the first revision in its bank.
    other.delete("/v1/accounts/alice/labels/t-1").raise_for_status()
    assert probability(one, "t-7") == probability(other, "t-8") == before


def test_a_transaction_posted_to_both_workers_at_once_is_scored_once(pair: Pair) -> None:
    posts = [(client, f"t-{n}") for n in range(25) for client in pair for _ in range(3)]
    with ThreadPoolExecutor(12) as threads:
        answers = list(
            threads.map(lambda post: post[0].post("/v1/transactions", json=posted(post[1])), posts)
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 25
    assert pair[0].get("/v1/accounts/alice").json()["transactions"] == 25


def test_an_id_posted_to_both_with_different_content_is_taken_by_one(pair: Pair) -> None:
    def post(turn: int) -> list[int]:
        bodies = [posted(f"t-{n}", account_id=f"account-{turn % 2}") for n in range(20)]
        bodies = bodies[::-1] if turn % 2 else bodies
        client = pair[turn % 2]
        return [client.post("/v1/transactions", json=body).status_code for body in bodies]

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(post, range(2))
    by_id = list(zip(first, reversed(second), strict=True))
    assert all(set(statuses) == {200, 409} for statuses in by_id)


def test_labels_and_scores_on_both_workers_at_once_are_all_there(pair: Pair) -> None:
    names = [f"t-{n}" for n in range(20)]
    body = {"transactions": [posted(name, merchant_id=f"m-{name[-1]}") for name in names]}
    pair[0].post("/v1/transactions/batch", json=body).raise_for_status()

    def work(n: int) -> None:
        labels = {"labels": [label(names[n], "fraud" if n % 2 else "legitimate")]}
        path = "/v1/accounts/alice/labels"
        pair[n % 2].post(path, json=labels).raise_for_status()
        probability(pair[(n + 1) % 2], f"u-{n}", account_id=f"a-{n % 3}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(20)))
    account = pair[1].get("/v1/accounts/alice").json()
    assert (account["revision"], account["labels"]) == (20, {"fraud": 10, "legitimate": 10})
    assert probability(pair[0], "v-1") == probability(pair[1], "v-2")

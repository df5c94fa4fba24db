"""Two server processes on one database, over real HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from quickstudy_client import LIMITS, ApiError, Client
from tests.api.requests import label, posted
from tests.servers import START_SECONDS, new_key, replicas

Pair = tuple[Client, Client]


@pytest.fixture(scope="module")
def urls(shared_database_url: str, checkpoint: Path) -> Iterator[tuple[str, str]]:
    with replicas(2, shared_database_url, checkpoint) as (first, other):
        yield first.url, other.url


@pytest.fixture
def key(shared_database_url: str, request: pytest.FixtureRequest) -> str:
    return new_key(shared_database_url, tenant=request.function.__name__)


@pytest.fixture
def pair(urls: tuple[str, str], key: str) -> Iterator[Pair]:
    with (
        Client(urls[0], key, timeout=START_SECONDS) as first,
        Client(urls[1], key, timeout=START_SECONDS) as other,
    ):
        yield first, other


def probability(client: Client, transaction_id: str, account_id: str = "alice") -> float:
    return client.score(posted(transaction_id, account_id=account_id)).probability


def test_a_label_posted_to_one_worker_is_used_by_the_next_score_of_another(pair: Pair) -> None:
    first, other = pair
    before = probability(first, "t-1")
    assert probability(other, "t-2") == before
    bob = probability(other, "t-3", "bob")
    done = first.label("t-1", "fraud")
    after = probability(other, "t-4")
    assert after == done.labelled[0].after.probability != before
    assert probability(other, "t-5", "bob") == probability(first, "t-6", "bob") == bob
    # And back again, where the other one has a copy of the first revision in its bank.
    other.remove_label("t-1")
    assert probability(first, "t-7") == probability(other, "t-8") == before


def test_a_transaction_posted_to_both_workers_at_once_is_scored_once(
    pair: Pair, urls: tuple[str, str], key: str
) -> None:
    posts = [(url, f"t-{n}") for n in range(25) for url in urls for _ in range(3)]
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(headers=headers, timeout=START_SECONDS, limits=LIMITS) as raw,
        ThreadPoolExecutor(12) as pool,
    ):

        def post(request: tuple[str, str]) -> httpx.Response:
            return raw.post(f"{request[0]}/v1/transactions", json=posted(request[1]))

        answers = list(pool.map(post, posts))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 25
    assert pair[0].account("alice").transactions == 25


def test_an_id_posted_to_both_with_different_content_is_taken_by_one(pair: Pair) -> None:
    def status(client: Client, body: dict[str, object]) -> int:
        try:
            client.score(body)
        except ApiError as error:
            return error.status
        return 200

    def post(turn: int) -> list[int]:
        bodies = [posted(f"t-{n}", account_id=f"account-{turn % 2}") for n in range(20)]
        bodies = bodies[::-1] if turn % 2 else bodies
        return [status(pair[turn % 2], body) for body in bodies]

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(post, range(2))
    by_id = list(zip(first, reversed(second), strict=True))
    assert all(set(statuses) == {200, 409} for statuses in by_id)


def test_labels_and_scores_on_both_workers_at_once_are_all_there(pair: Pair) -> None:
    names = [f"t-{n}" for n in range(20)]
    pair[0].score_batch([posted(name, merchant_id=f"m-{name[-1]}") for name in names])

    def call(n: int) -> None:
        name = "fraud" if n % 2 else "legitimate"
        pair[n % 2].label_account("alice", [label(names[n], name)])
        probability(pair[(n + 1) % 2], f"u-{n}", account_id=f"a-{n % 3}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(call, range(20)))
    account = pair[1].account("alice")
    assert (account.revision, account.labels.fraud, account.labels.legitimate) == (20, 10, 10)
    assert probability(pair[0], "v-1") == probability(pair[1], "v-2")

"""Ten posts of every transaction at once, on two replicas: one row, one answer."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from quickstudy_client import LIMITS
from tests.api.requests import posted, problem_of
from tests.conftest import mainly
from tests.reliability.conftest import Note
from tests.reliability.ledger import Ledger, kind_of, reconcile
from tests.servers import START_SECONDS, new_key, replicas

POSTS = 10
ACCOUNTS, MERCHANTS = 50, 7


@mainly("postgresql")
def test_ten_posts_of_an_id_at_once_are_one_row_and_one_answer(
    database_url: str, checkpoint: Path, torture: bool, noted: Note
) -> None:
    bodies = [
        posted(f"t-{n}", account_id=f"a-{n % ACCOUNTS}", merchant_id=f"m-{n % MERCHANTS}", amount=n)
        for n in range(1000 if torture else 50)
    ]
    headers = {"Authorization": f"Bearer {new_key(database_url)}"}
    with (
        replicas(2, database_url, checkpoint) as pair,
        httpx.Client(headers=headers, timeout=START_SECONDS, limits=LIMITS) as client,
        # Two ids are on their way together, so that batches of both replicas have both.
        ThreadPoolExecutor(2 * POSTS) as threads,
    ):

        def post(n: int, changes: dict[str, float]) -> httpx.Response:
            url = f"{pair[n % 2].url}/v1/transactions"
            return client.post(url, json=bodies[n // POSTS] | changes)

        turns = range(POSTS * len(bodies))
        answers = list(threads.map(lambda n: post(n, {}), turns))
        refused = list(threads.map(lambda n: post(n, {"amount": 0.5}), turns[:: POSTS // 2]))
    ledger = Ledger()
    for first in turns[::POSTS]:
        same = answers[first : first + POSTS]
        assert {answer.status_code for answer in same} == {200}
        assert len({answer.content for answer in same}) == 1
        ledger.score(same[0].json())
    assert set(map(problem_of, refused)) == {(409, "transaction_conflict")}
    assert len(reconcile(database_url, ledger).transactions) == len(bodies)
    noted(
        "one row and one answer, however often and wherever it is posted",
        kind_of(database_url),
        f"{len(bodies):,} ids, {len(answers):,} posts on 2 replicas: {len(ledger.scores):,} rows, "
        f"answers byte-equal; {len(refused):,} posts of other content: 409",
    )

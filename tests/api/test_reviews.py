"""The review queue over HTTP: who waits in it, in which order, and who has what."""

import asyncio
from typing import Any

import httpx
import pytest

from app.db.database import Database
from app.keys import service as keys
from app.keys.scopes import Scope
from app.learner.transaction import HOUR_US
from app.reviews import store as review_store
from app.reviews.service import CLAIM_HOURS
from app.scoring.pipeline import is_sampled
from app.settings import Settings
from app.times import now_us, parse_us, text_of
from tests.api.callers import app_of, calling, client_of, part_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio
KINDS = ("review", "decline", "sample")
STATUSES = ("open", "cleared", "resolved")


async def queued(client: httpx.AsyncClient, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores of transactions that thresholds around them send to the queue, one by one."""
    await decide_by(client, 0.01, 0.9)
    scores = [(await client.post("/v1/transactions", json=body)).json() for body in bodies]
    assert {score["outcome"] for score in scores} <= {"review"}
    return scores


async def decide_by(client: httpx.AsyncClient, review: float, decline: float) -> None:
    stated = await client.post("/v1/thresholds", json={"review": review, "decline": decline})
    assert stated.status_code == 200, stated.text


async def listed(client: httpx.AsyncClient, **query: str) -> list[str]:
    """The transactions of the queue's first page."""
    answer = await client.get("/v1/reviews", params=query)
    assert answer.status_code == 200, answer.text
    return [review["transaction_id"] for review in answer.json()["data"]]


async def review(client: httpx.AsyncClient, transaction_id: str = "t-1") -> dict[str, Any]:
    answer = await client.get(f"/v1/reviews/{transaction_id}")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def take(client: httpx.AsyncClient, assignee: str, name: str = "t-1") -> httpx.Response:
    return await client.put(f"/v1/reviews/{name}/assignee", json={"assignee": assignee})


async def give_back(client: httpx.AsyncClient, name: str = "t-1") -> httpx.Response:
    return await client.delete(f"/v1/reviews/{name}/assignee")


async def label(client: httpx.AsyncClient, name: str, transaction_id: str = "t-1") -> None:
    path = f"/v1/transactions/{transaction_id}/label"
    answer = await client.put(path, json={"label": name})
    assert answer.status_code == 200, answer.text


async def test_a_transaction_to_review_waits_in_the_queue_with_the_score_it_had(
    client: httpx.AsyncClient,
) -> None:
    [score] = await queued(client, posted("t-1"))
    found = await review(client)
    assert found == {
        "transaction_id": "t-1",
        "account_id": "alice",
        "kind": "review",
        "status": "open",
        "risk_score": score["risk_score"],
        "probability": score["probability"],
        "revision": 0,
        "occurred_at": "2026-01-31T12:00:00.000000Z",
        "opened_at": score["evaluated_at"],
        "assignee": None,
        "assigned_at": None,
        "assigned_by": None,
        "snoozed_until": None,
        "resolved_at": None,
        "transaction": (await client.get("/v1/transactions/t-1")).json(),
    }
    assert found["transaction"]["score"] == score
    answer = (await client.get("/v1/reviews")).json()
    assert answer == {"data": [found], "has_more": False, "next_cursor": None}


async def test_what_is_approved_is_not_queued(client: httpx.AsyncClient) -> None:
    await decide_by(client, 0.9, 0.95)
    await client.post("/v1/transactions", json=posted("t-1"))
    refused = await client.get("/v1/reviews/t-1")
    assert problem_of(refused) == (404, "review_not_found")
    assert [await listed(client, kind=kind) for kind in KINDS] == [[], [], []]
    assert problem_of(await take(client, "mia")) == (404, "review_not_found")
    assert problem_of(await give_back(client)) == (404, "review_not_found")


async def test_what_is_declined_waits_in_a_queue_of_its_own_the_most_doubtful_first(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await decide_by(client, 0.001, 0.002)
    scores = [
        (await client.post("/v1/transactions", json=body)).json()
        for body in (
            posted(f"t-{n}", account_id=f"a-{n}", merchant_id=None, amount=amount)
            for n, amount in enumerate((9000, 5, 700))
        )
    ]
    assert {score["outcome"] for score in scores} == {"decline"}
    doubtful = sorted(scores, key=lambda score: score["risk_score"])
    assert len({score["risk_score"] for score in scores}) == 3
    expected = [score["transaction_id"] for score in doubtful]
    assert await listed(client, kind="decline") == expected
    assert await listed(client, kind="decline", order="age") == ["t-0", "t-1", "t-2"]
    assert await listed(client) == await listed(client, kind="sample") == []
    assert await listed(stranger, kind="decline") == []
    # In pages too.
    first = (await client.get("/v1/reviews", params={"kind": "decline", "limit": 2})).json()
    rest = await listed(client, kind="decline", cursor=first["next_cursor"])
    assert [item["transaction_id"] for item in first["data"]] + rest == expected
    other = await client.get("/v1/reviews", params={"cursor": first["next_cursor"]})
    assert problem_of(other) == (422, "validation_failed")
    assert (await take(client, "mia", "t-1")).json()["kind"] == "decline"
    await label(client, "legitimate", "t-1")
    assert await listed(client, kind="decline", status="resolved") == ["t-1"]


async def test_a_decline_follows_the_accounts_newest_copy_and_is_never_cleared(
    client: httpx.AsyncClient,
) -> None:
    [score] = await queued(client, posted("t-1"))
    await decide_by(client, score["probability"] / 3, score["probability"] / 2)
    await client.post("/v1/transactions", json=posted("t-2"))
    await decide_by(client, 0.98, 0.99)
    declined = await review(client, "t-2")
    await label(client, "legitimate", "t-1")
    now = await review(client, "t-2")
    assert (now["kind"], now["status"], now["revision"]) == ("decline", "open", 1)
    assert now["risk_score"] < min(50, declined["risk_score"])
    assert await listed(client, kind="decline") == ["t-2"]


async def test_a_sample_of_what_is_approved_is_shown_and_stays_as_it_was_scored(
    service_settings: Settings, database: Database
) -> None:
    settings = service_settings.model_copy(update={"sampled_approvals": 1.0})
    async with calling(settings) as client:
        await decide_by(client, 0.9, 0.95)
        for n in range(2):
            await client.post("/v1/transactions", json=posted(f"t-{n}"))
        assert await listed(client, kind="sample", order="age") == ["t-0", "t-1"]
        assert await listed(client) == await listed(client, kind="decline") == []
        before = await review(client, "t-1")
        done = await client.put("/v1/transactions/t-0/label", json={"label": "legitimate"})
        # They are nothing that anybody was alarmed by.
        assert done.json()["alerts"] == []
        assert await review(client, "t-1") == before
        assert (await review(client, "t-0"))["status"] == "resolved"


def test_a_sample_is_by_chance_of_its_share_and_always_the_same() -> None:
    ids = [f"t-{n}" for n in range(40_000)]
    chosen = {key for key in ids if is_sampled("default", key, 0.05)}
    assert len(chosen) == pytest.approx(2000, rel=0.1)
    assert chosen == {key for key in ids if is_sampled("default", key, 0.05)}
    assert chosen > {key for key in ids if is_sampled("default", key, 0.01)}
    theirs = {key for key in ids if is_sampled("other", key, 0.05)}
    assert len(chosen & theirs) < 200
    assert not any(is_sampled("default", key, 0.0) for key in ids)
    assert all(is_sampled("default", key, 1.0) for key in ids)


async def test_the_figures_count_how_many_of_each_kind_were_right(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await queued(client, *(posted(f"r-{n}", account_id=f"r-{n}") for n in range(4)))
    await decide_by(client, 0.001, 0.002)
    for n in range(3):
        await client.post("/v1/transactions", json=posted(f"d-{n}", account_id=f"d-{n}"))
    for name in ("r-0", "r-1", "d-0"):
        await label(client, "legitimate", name)
    for name in ("r-2", "d-1", "d-2"):
        await label(client, "fraud", name)

    async def figures(caller: httpx.AsyncClient) -> dict[str, list[Any]]:
        answer = await caller.get("/v1/review-figures", params={"days": 7})
        assert answer.status_code == 200, answer.text
        return {item.pop("kind"): [*item.values()] for item in answer.json()["data"]}

    nothing = [0, 0, 0, None]
    assert await figures(client) == {
        "review": [4, 1, 2, pytest.approx(1 / 3)],
        "decline": [3, 2, 1, pytest.approx(2 / 3)],
        "sample": nothing,
    }
    assert await figures(stranger) == dict.fromkeys(KINDS, nothing)


async def test_the_queue_is_counted_by_kind_and_status_and_by_who_has_it(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    scores = await queued(client, *(posted(f"r-{n}", account_id=f"r-{n}") for n in range(4)))
    await decide_by(client, 0.001, 0.002)
    await client.post("/v1/transactions", json=posted("d-0", account_id="d-0"))
    await label(client, "fraud", "r-0")
    await take(client, "mia", "r-2")
    await take(client, "mia", "d-0")

    async def counts(caller: httpx.AsyncClient, **query: str) -> dict[str, list[int]]:
        answer = await caller.get("/v1/review-counts", params=query)
        assert answer.status_code == 200, answer.text
        return {item["kind"]: [item[s] for s in STATUSES] for item in answer.json()["data"]}

    nothing = [0, 0, 0]
    assert await counts(client) == {
        "review": [3, 0, 1],
        "decline": [1, 0, 0],
        "sample": nothing,
    }
    by_mia = {"review": [1, 0, 0], "decline": [1, 0, 0], "sample": nothing}
    assert await counts(client, assignee="mia") == by_mia
    assert await counts(client, assignee="noah") == dict.fromkeys(KINDS, nothing)
    assert await counts(stranger) == dict.fromkeys(KINDS, nothing)
    found = (await client.get("/v1/review-counts")).json()
    assert found["oldest_opened_at"] == scores[1]["evaluated_at"]
    assert (await stranger.get("/v1/review-counts")).json()["oldest_opened_at"] is None
    # Every name may be a transaction's.
    assert problem_of(await client.get("/v1/reviews/counts"))[1] == "review_not_found"


async def caller_with(client: httpx.AsyncClient, *scopes: Scope) -> tuple[httpx.AsyncClient, str]:
    """A caller with a key of its own, and the key's id."""
    key = await keys.create(part_of(client, Database), "tests", scopes=scopes)
    return client_of(app_of(client), key), key.split("_")[1]


async def logged(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """What the audit log has of reviews, the newest first: actions and actors."""
    answer = await client.get("/v1/audit-log", params={"subject": "t-1"})
    entries = answer.json()["data"]
    return [(e["action"], e["actor"]) for e in entries if e["action"].startswith("review.")]


async def test_only_the_key_that_took_a_review_or_an_administrator_may_release_it(
    sole: httpx.AsyncClient,
) -> None:
    await queued(sole, posted("t-1"))
    owner, owner_id = await caller_with(sole, "decide")
    other, _ = await caller_with(sole, "decide", "read", "score")
    admin, admin_id = await caller_with(sole, "decide", "manage")
    async with owner, other, admin:
        assert (await take(owner, "mia")).json()["assigned_by"] == owner_id
        for refused in (await give_back(other), await take(other, "mia"), await take(other, "eve")):
            assert problem_of(refused) == (409, "review_taken")
            assert "'mia'" in refused.json()["detail"]
            assert "manage" in refused.json()["detail"]
        over = {"assignee": "eve", "take_over": True}
        for refused in (
            await other.put("/v1/reviews/t-1/assignee", json=over),
            await owner.put("/v1/reviews/t-1/assignee", json=over),
        ):
            assert problem_of(refused) == (403, "missing_scope")
            assert "manage" in refused.json()["detail"]
        assert (await review(sole))["assigned_by"] == owner_id
        # Taking over is stated in the body, by an administrator too.
        assert problem_of(await take(admin, "eve")) == (409, "review_taken")
        taken = await admin.put("/v1/reviews/t-1/assignee", json=over)
        assert (taken.json()["assignee"], taken.json()["assigned_by"]) == ("eve", admin_id)
        assert problem_of(await give_back(owner)) == (409, "review_taken")
        assert (await give_back(admin)).json()["assigned_by"] is None
        await take(owner, "mia")
        assert (await give_back(admin)).status_code == 200
    assert await logged(sole) == [
        ("review.released", admin_id),
        ("review.claimed", owner_id),
        ("review.released", admin_id),
        ("review.claimed", admin_id),
        ("review.claimed", owner_id),
    ]


async def test_a_key_that_is_replaced_and_its_successors_hold_the_same_reviews(
    sole: httpx.AsyncClient,
) -> None:
    await queued(sole, posted("t-1"))
    first, first_id = await caller_with(sole, "decide", "label")
    other, _ = await caller_with(sole, "decide")

    async def successor_of(key_id: str) -> tuple[httpx.AsyncClient, str]:
        made = (await sole.post(f"/v1/keys/{key_id}/rotate", json={"hours": 1.0})).json()
        return client_of(app_of(sole), made["key"]), made["id"]

    async with first, other:
        await take(first, "mia")
        second, second_id = await successor_of(first_id)
        third, third_id = await successor_of(second_id)
        async with second, third:
            # Each holds what another of them has taken, before and after it was replaced.
            for owner, others in ((first, (second, third)), (third, (first, second))):
                for same in others:
                    kept = await take(owner, "mia")
                    assert kept.json()["assigned_by"] == first_id
                    assert (await take(same, "mia")).json() == kept.json()
                    assert problem_of(await take(same, "eve")) == (409, "review_taken")
                    assert problem_of(await give_back(other)) == (409, "review_taken")
                    assert (await give_back(same)).json()["assignee"] is None
            await take(first, "mia")
            over = {"assignee": "eve", "hand_over": True}
            handed = await third.put("/v1/reviews/t-1/assignee", json=over)
            assert handed.json()["assignee"] == "eve"
            # Proven is who did it.
            assert (await logged(sole))[0] == ("review.handed_over", third_id)
            await label(third, "fraud")


async def test_a_claim_ends_after_a_day(
    sole: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queued(sole, posted("t-1"))
    other, other_id = await caller_with(sole, "decide")
    begun = (await take(sole, "mia")).json()["assigned_at"]
    day_us = CLAIM_HOURS * HOUR_US

    def at(later_us: int) -> None:
        monkeypatch.setattr("app.reviews.service.now_us", lambda: parse_us(begun) + later_us)

    async with other:
        at(day_us - 1)
        assert problem_of(await give_back(other)) == (409, "review_taken")
        assert problem_of(await take(other, "noah")) == (409, "review_taken")
        at(day_us)
        taken = (await take(other, "noah")).json()
        assert (taken["assignee"], taken["assigned_by"]) == ("noah", other_id)
        assert taken["assigned_at"] > begun
        # From then on it is a day again.
        at(2 * day_us - 1)
        assert problem_of(await take(sole, "mia")) == (409, "review_taken")
        at(2 * day_us)
        assert (await take(other, "noah")).json()["assigned_at"] > taken["assigned_at"]


async def test_every_change_of_a_review_is_logged_with_key_and_analyst_and_nothing_else_is(
    client: httpx.AsyncClient,
) -> None:
    await queued(client, posted("t-1"))
    key_id = client.headers["Authorization"].split("_")[1]
    await give_back(client)
    await take(client, "mia")
    await take(client, "mia")
    await take(client, "noah")
    await give_back(client)
    await take(client, "noah")
    await label(client, "fraud")
    await label(client, "legitimate")
    await client.delete("/v1/transactions/t-1/label")
    actions = ["claimed", "released", "claimed", "resolved", "reopened"]
    assert await logged(client) == [(f"review.{action}", key_id) for action in reversed(actions)]
    answer = await client.get("/v1/audit-log", params={"account_id": "alice"})
    entries = [e for e in answer.json()["data"] if e["action"].startswith("review.")]
    states = [(e["before"], e["after"]) for e in reversed(entries)]
    empty = {"kind": "review", "status": "open", "assignee": None, "assigned_by": None}
    mia = {**empty, "assignee": "mia", "assigned_by": key_id}
    noah = {**mia, "assignee": "noah"}
    done = {**noah, "status": "resolved"}
    assert states == [(empty, mia), (mia, empty), (empty, noah), (noah, done), (done, noah)]
    # It is about the account, and is erased with it.
    await client.delete("/v1/accounts/alice")
    assert await logged(client) == []


async def test_the_queue_is_by_risk_or_by_age(client: httpx.AsyncClient) -> None:
    names = ["t-5", "t-9", "t-1", "t-7"]
    scores = await queued(
        client,
        *(
            # The oldest payment comes last: age is from when it was queued.
            posted(
                name,
                account_id=name,
                merchant_id=name,
                amount=amount,
                occurred_at=f"2026-01-{20 - n}T12:00:00Z",
            )
            for n, (name, amount) in enumerate(zip(names, (50, 9000, 1, 500), strict=True))
        ),
    )
    by_risk = sorted(scores, key=lambda score: score["risk_score"], reverse=True)
    assert len({score["risk_score"] for score in scores}) == 4
    assert await listed(client) == [score["transaction_id"] for score in by_risk]
    assert await listed(client, order="risk") == [score["transaction_id"] for score in by_risk]
    assert await listed(client, order="age") == names


async def test_the_queue_is_filtered_by_account_assignee_and_status(
    client: httpx.AsyncClient,
) -> None:
    names = {"t-1": "alice", "t-2": "alice", "t-3": "bob", "t-4": "bob"}
    await queued(client, *(posted(name, account_id=owner) for name, owner in names.items()))
    await take(client, "mia", "t-2")
    await take(client, "mia", "t-3")
    await take(client, "noah", "t-4")
    await label(client, "fraud", "t-1")

    async def queue(**query: str) -> set[str]:
        return set(await listed(client, **query))

    assert await queue() == await queue(status="open") == {"t-2", "t-3", "t-4"}
    assert await queue(status="resolved") == {"t-1"}
    assert await queue(status="cleared") == set()
    assert await queue(account_id="alice") == {"t-2"}
    assert await queue(assignee="mia") == {"t-2", "t-3"}
    assert await queue(assignee="mia", account_id="bob") == {"t-3"}
    assert await queue(assignee="nobody") == set()


@pytest.mark.parametrize(
    "wrong", [{"kind": "all"}, {"status": "closed"}, {"order": "amount"}, {"account_id": ""}]
)
async def test_a_wrong_filter_of_the_queue_is_refused_by_name(
    edge: httpx.AsyncClient, wrong: dict[str, str]
) -> None:
    refused = await edge.get("/v1/reviews", params=wrong)
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"].endswith(next(iter(wrong)))


@pytest.mark.parametrize("body", [{}, {"assignee": ""}, {"assignee": None}, {"assignee": "a\nb"}])
async def test_a_review_is_taken_by_somebody_with_a_name(
    edge: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    refused = await edge.put("/v1/reviews/t-1/assignee", json=body)
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "assignee"


async def test_a_taken_review_is_nobody_elses_until_it_is_released(
    client: httpx.AsyncClient,
) -> None:
    await queued(client, posted("t-1"))
    taken = await take(client, "mia")
    assert taken.status_code == 200
    assert (taken.json()["assignee"], taken.json()["status"]) == ("mia", "open")
    assert taken.json()["assigned_at"] >= taken.json()["opened_at"]
    refused = await take(client, "noah")
    assert problem_of(refused) == (409, "review_taken")
    assert "'mia'" in refused.json()["detail"]
    assert (await review(client))["assignee"] == "mia"
    given_back = await give_back(client)
    assert given_back.status_code == 200
    assert (given_back.json()["assignee"], given_back.json()["assigned_at"]) == (None, None)
    assert (await take(client, "noah")).json()["assignee"] == "noah"


async def test_taking_and_giving_back_twice_is_like_once(client: httpx.AsyncClient) -> None:
    await queued(client, posted("t-1"))
    first = await take(client, "mia")
    again = await take(client, "mia")
    assert (again.status_code, again.content) == (200, first.content)
    first = await give_back(client)
    again = await give_back(client)
    assert (again.status_code, again.content) == (200, first.content)


async def test_of_all_who_take_a_review_at_once_exactly_one_has_it(
    sole: httpx.AsyncClient, service_settings: Settings, database: Database
) -> None:
    names = [f"t-{n}" for n in range(6)]
    await queued(sole, *(posted(name) for name in names))
    async with calling(service_settings) as other:
        people = {f"analyst-{n}": (sole, other)[n % 2] for n in range(8)}
        tries = [(who, name) for name in names for who in people]
        answers = await asyncio.gather(*(take(people[who], who, name) for who, name in tries))
    for name in names:
        of_name = {
            who: answer
            for (who, taken), answer in zip(tries, answers, strict=True)
            if taken == name
        }
        [winner] = [who for who, answer in of_name.items() if answer.status_code == 200]
        assert (await review(sole, name))["assignee"] == winner
        assert of_name[winner].json()["assignee"] == winner
        losers = [problem_of(answer) for who, answer in of_name.items() if who != winner]
        assert losers == [(409, "review_taken")] * 7


async def test_a_label_resolves_a_review_for_everybody_until_it_is_removed(
    client: httpx.AsyncClient,
) -> None:
    await queued(client, posted("t-1"))
    await take(client, "mia")
    await label(client, "fraud")
    resolved = await review(client)
    assert (resolved["status"], resolved["assignee"]) == ("resolved", "mia")
    assert resolved["resolved_at"] >= resolved["assigned_at"]
    assert resolved["transaction"]["label"] == "fraud"
    for refused in (await take(client, "noah"), await take(client, "mia"), await give_back(client)):
        assert problem_of(refused) == (409, "review_taken")
        assert "resolved" in refused.json()["detail"]
    assert await review(client) == resolved
    await client.delete("/v1/transactions/t-1/label")
    reopened = await review(client)
    assert (reopened["status"], reopened["resolved_at"]) == ("open", None)
    assert (await give_back(client)).status_code == 200


async def test_a_review_is_cleared_while_the_accounts_copy_would_approve_it(
    client: httpx.AsyncClient,
) -> None:
    scores = await queued(client, posted("t-1"), posted("t-2"))
    # Just below.
    await decide_by(client, scores[1]["probability"] * 0.999, 0.9)
    await label(client, "legitimate", "t-1")
    cleared = await review(client, "t-2")
    assert (cleared["status"], cleared["revision"]) == ("cleared", 1)
    assert cleared["probability"] < scores[1]["probability"]
    assert cleared["risk_score"] < 50
    assert cleared["transaction"]["score"] == scores[1]
    assert await listed(client) == []
    assert await listed(client, status="cleared") == ["t-2"]
    await label(client, "fraud", "t-1")
    reopened = await review(client, "t-2")
    assert (reopened["status"], reopened["revision"]) == ("open", 2)
    assert reopened["probability"] > scores[1]["probability"]


async def test_what_a_label_makes_of_a_review_does_not_undo_who_took_it_meanwhile(
    sole: httpx.AsyncClient, database: Database
) -> None:
    await queued(sole, posted("t-1"))
    async with database.read() as connection:
        before = await review_store.reviews_of(connection, "default", ["t-1"])
    await take(sole, "mia")
    async with database.write() as connection:
        await review_store.save_reviews(connection, [before["t-1"]._replace(risk_score=61.5)])
    found = await review(sole)
    assert (found["risk_score"], found["assignee"]) == (61.5, "mia")
    assert found["assigned_at"] is not None


async def test_a_review_of_another_tenant_does_not_exist(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await queued(client, posted("t-1"))
    assert await listed(stranger) == []
    for refused in (
        await stranger.get("/v1/reviews/t-1"),
        await take(stranger, "mallory"),
        await give_back(stranger),
    ):
        assert problem_of(refused) == (404, "review_not_found")
    assert (await review(client))["assignee"] is None


async def test_a_review_of_an_id_with_slashes_is_found_and_taken(client: httpx.AsyncClient) -> None:
    await queued(client, posted("a/assignee"))
    assert (await review(client, "a%2Fassignee"))["transaction_id"] == "a/assignee"
    assert (await take(client, "mia", "a%2Fassignee")).json()["assignee"] == "mia"


async def take_next(client: httpx.AsyncClient, **body: str) -> httpx.Response:
    return await client.post("/v1/reviews/next", json={"assignee": "mia", **body})


async def test_whoever_takes_the_next_gets_what_nobody_has_and_the_most_urgent_first(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"t-{n}" for n in range(6)]
    await queued(client, *(posted(name, account_id=name) for name in names))
    order = await listed(client)
    assert sorted(order) == names
    taken = [(await take_next(client)).json()["transaction_id"] for _ in range(2)]
    assert taken == order[:2]
    # All at once: each gets another, and one nothing.
    answers = await asyncio.gather(*(take_next(client, assignee=f"p-{n}") for n in range(5)))
    bodies = [answer.json() for answer in answers if answer.status_code == 200]
    assert sorted(body["transaction_id"] for body in bodies) == sorted(order[2:])
    for body in bodies:
        assert await review(client, body["transaction_id"]) == body
    assert problem_of(await take_next(client)) == (404, "queue_empty")
    assert problem_of(await take_next(client, kind="decline")) == (404, "queue_empty")
    await give_back(client, order[4])
    assert (await take_next(client, order="age")).json()["transaction_id"] == order[4]
    await client.put(f"/v1/transactions/{order[0]}/label", json={"label": "fraud"})
    # A day later what was taken is anybody's; but not what is resolved.
    later = parse_us((await review(client, order[4]))["assigned_at"]) + CLAIM_HOURS * HOUR_US
    monkeypatch.setattr("app.reviews.service.now_us", lambda: later)
    assert (await take_next(client)).json()["transaction_id"] == order[1]


async def test_what_sleeps_is_in_no_other_list_and_back_by_itself(
    sole: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await queued(sole, *(posted(f"t-{n}", account_id=f"a-{n}") for n in range(3)))
    first, second, third = await listed(sole)
    await take(sole, "mia", first)
    until = text_of(now_us() + HOUR_US)
    for name in (first, second):
        slept = await sole.put(f"/v1/reviews/{name}/snooze", json={"until": until})
        assert slept.json()["snoozed_until"] == until
    assert await listed(sole) == [third]
    assert await listed(sole, assignee="mia") == []
    assert await listed(sole, snoozed="true") == [first, second]
    assert (await take_next(sole)).json()["transaction_id"] == third
    assert problem_of(await take_next(sole)) == (404, "queue_empty")
    counts = (await sole.get("/v1/review-counts")).json()["data"][0]
    assert (counts["open"], counts["snoozed"]) == (1, 2)
    assert counts["oldest_opened_at"] == (await review(sole, third))["opened_at"]
    # Labels of its account move its risk meanwhile, and do not wake it.
    await sole.post("/v1/transactions", json=posted("t-9", account_id="a-0"))
    await sole.put("/v1/transactions/t-9/label", json={"label": "fraud"})
    assert first not in await listed(sole)
    other, _ = await caller_with(sole, "decide")
    async with other:
        for change in (other.delete, lambda at: other.put(at, json={"until": until})):
            refused = await change(f"/v1/reviews/{first}/snooze")  # type: ignore[operator]
            assert problem_of(refused) == (409, "review_taken")
        woken = await other.delete(f"/v1/reviews/{second}/snooze")
        assert woken.json()["snoozed_until"] is None
    assert second in await listed(sole)
    for wrong in ("2020-01-01T00:00:00Z", text_of(now_us() + 91 * 24 * HOUR_US), "soon"):
        refused = await sole.put(f"/v1/reviews/{second}/snooze", json={"until": wrong})
        assert problem_of(refused) == (422, "validation_failed")
    monkeypatch.setattr("app.reviews.routes.now_us", lambda: parse_us(until))
    assert first in await listed(sole)
    assert first in await listed(sole, assignee="mia")
    assert await listed(sole, snoozed="true") == []


async def test_who_has_a_review_hands_it_over_and_nobody_else_does(
    sole: httpx.AsyncClient,
) -> None:
    await queued(sole, posted("t-1"))
    owner, owner_id = await caller_with(sole, "decide")
    other, _ = await caller_with(sole, "decide")
    async with owner, other:
        await take(owner, "mia")
        body = {"assignee": "noah", "hand_over": True}
        refused = await other.put("/v1/reviews/t-1/assignee", json=body)
        assert problem_of(refused) == (409, "review_taken")
        assert problem_of(await take(owner, "noah")) == (409, "review_taken")
        handed = (await owner.put("/v1/reviews/t-1/assignee", json=body)).json()
        assert handed["assignee"] == "noah"
    assert await logged(sole) == [("review.handed_over", owner_id), ("review.claimed", owner_id)]

"""Thresholds over HTTP: stated or chosen by a budget, from a time on, by tenant."""

from itertools import count
from typing import Any

import httpx
import pytest

from app.learner.transaction import DAY_US, HOUR_US
from app.times import now_us, text_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio

PATH = "/v1/thresholds"
MODEL_REVIEW = 0.12
MODEL = {"review": MODEL_REVIEW, "decline": 0.3, "source": "model", "own": None, "next": None}
OF_ANSWERS = {
    *("expected_reviews_per_day", "expected_declines_per_day"),
    *("floor_reached", "notice", "dry_run"),
}
_numbers = count()


async def put(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post(PATH, json=body)
    assert answer.status_code == 200, answer.text
    kept: dict[str, Any] = answer.json()
    return kept


def as_kept(answer: dict[str, Any]) -> dict[str, Any]:
    """What an answer says of thresholds that the history says too."""
    return {name: value for name, value in answer.items() if name not in OF_ANSWERS}


async def in_force(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(PATH)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def score(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """A score of an account that has done nothing else: equal content, equal probability."""
    body = posted(f"t-{(n := next(_numbers))}", account_id=f"a-{n}", merchant_id=None, **changes)
    answer = await client.post("/v1/transactions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def scores(client: httpx.AsyncClient, size: int) -> list[float]:
    """The probabilities of so many recent transactions, half of them two by two alike."""
    now = now_us()
    bodies = [
        posted(
            f"s-{n}",
            account_id=f"b-{n}",
            merchant_id=None,
            amount=3 * (n if n < size / 2 else n // 2 * 2) + 1,
            occurred_at=text_of(now - (5 * DAY_US if n == 0 else HOUR_US)),
        )
        for n in range(size)
    ]
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    return [result["probability"] for result in answer.json()["results"]]


async def history(client: httpx.AsyncClient, **query: Any) -> dict[str, Any]:
    answer = await client.get(f"{PATH}/history", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def test_without_thresholds_of_its_own_a_tenant_has_the_models(
    client: httpx.AsyncClient,
) -> None:
    assert await in_force(client) == MODEL


async def test_stated_thresholds_are_in_force_at_once(client: httpx.AsyncClient) -> None:
    before = now_us()
    kept = await put(client, review=0.05, decline=0.25, note="Two analysts.\nUntil May.")
    assert text_of(before) <= kept["effective_at"] == kept["recorded_at"] <= text_of(now_us())
    assert as_kept(kept) == {
        "review": 0.05,
        "decline": 0.25,
        "effective_at": kept["effective_at"],
        "recorded_at": kept["recorded_at"],
        "reviews_per_day": None,
        "chosen_on": None,
        "chosen_on_days": None,
        "note": "Two analysts.\nUntil May.",
        "floor": None,
        "source": "tenant",
    }
    assert {kept.pop(name) for name in OF_ANSWERS} == {None, False}
    found = await in_force(client)
    assert found == {"review": 0.05, "decline": 0.25, "source": "tenant", "own": kept, "next": None}


async def test_outcome_level_and_risk_of_the_next_score_follow_the_thresholds(
    client: httpx.AsyncClient,
) -> None:
    probability = (await score(client))["probability"]
    for review, decline, outcome, level, risk in (
        (probability, 0.99, "review", "high", 50),
        (probability / 2, probability, "decline", "critical", 75),
        (probability, probability, "decline", "critical", 75),
        (0.99, 0.999, "approve", None, None),
    ):
        await put(client, review=review, decline=decline)
        found = await score(client)
        assert found["probability"] == probability
        assert found["outcome"] == outcome
        if risk is None:
            assert found["risk_score"] < 50
        else:
            assert (found["risk_level"], found["risk_score"]) == (level, risk)


async def test_where_both_thresholds_are_equal_nothing_is_reviewed(
    client: httpx.AsyncClient,
) -> None:
    amounts = (1, 20, 500, 4000, 90000)
    middle = sorted([(await score(client, amount=value))["probability"] for value in amounts])[2]
    await put(client, review=middle, decline=middle)
    found = [await score(client, amount=value) for value in amounts]
    assert {payment["outcome"] for payment in found} == {"approve", "decline"}
    for payment in found:
        assert (payment["probability"] >= middle) == (payment["outcome"] == "decline")
        assert (payment["risk_score"] >= 75) == (payment["outcome"] == "decline")
        assert payment["risk_score"] < 50 or payment["risk_score"] >= 75


async def test_what_was_answered_before_stays_as_it_was(client: httpx.AsyncClient) -> None:
    body = posted("t-before")
    first = await client.post("/v1/transactions", json=body)
    await put(client, review=0.0001, decline=0.0002)
    assert (await score(client))["outcome"] == "decline"
    assert (await client.post("/v1/transactions", json=body)).content == first.content
    assert (await client.get("/v1/transactions/t-before")).json()["score"] == first.json()


async def test_another_tenant_keeps_its_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    theirs = await score(stranger)
    await put(client, review=0.0001, decline=0.0002)
    await put(client, review=0.001, decline=0.02, effective_at=text_of(now_us() + DAY_US))
    assert await in_force(stranger) == MODEL
    assert await history(stranger) == {"data": [], "has_more": False, "next_cursor": None}
    again = await score(stranger)
    unlike = {"transaction_id", "account_id", "evaluated_at"}
    assert {k: v for k, v in again.items() if k not in unlike} == {
        k: v for k, v in theirs.items() if k not in unlike
    }
    await put(stranger, review=0.5, decline=0.6)
    assert (await in_force(client))["review"] == 0.0001


async def test_planned_thresholds_decide_from_their_time_on(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(client, review=0.4, decline=0.9)
    from_us = now_us() + 3 * DAY_US
    planned = await put(client, review=0.0001, decline=0.0002, effective_at=text_of(from_us))
    later = await put(client, review=0.3, decline=0.9, effective_at=text_of(from_us + DAY_US))
    assert planned["effective_at"] == text_of(from_us)
    planned, later = as_kept(planned), as_kept(later)
    found = await in_force(client)
    assert (found["review"], found["next"]) == (0.4, planned)

    outcomes = []
    for at_us in (from_us - 1, from_us, from_us + DAY_US - 1, from_us + DAY_US):
        monkeypatch.setattr("app.scoring.pipeline.now_us", lambda at_us=at_us: at_us)
        monkeypatch.setattr("app.thresholds.service.now_us", lambda at_us=at_us: at_us)
        outcomes.append((await score(client))["outcome"])
        found = await in_force(client)
    assert outcomes == ["approve", "decline", "decline", "approve"]
    assert (found["own"], found["next"]) == (later, None)


async def test_a_time_of_now_by_a_clock_a_little_behind_is_taken_as_now(
    client: httpx.AsyncClient,
) -> None:
    before = now_us()
    kept = await put(client, review=0.1, decline=0.2, effective_at=text_of(before - 30_000_000))
    assert text_of(before) <= kept["effective_at"] <= text_of(now_us())


async def test_a_time_that_has_passed_is_refused(client: httpx.AsyncClient) -> None:
    body = {"review": 0.1, "decline": 0.2, "effective_at": text_of(now_us() - 61_000_000)}
    answer = await client.post(PATH, json=body)
    assert problem_of(answer) == (422, "validation_failed")
    assert answer.json()["errors"][0]["field"] == "effective_at"
    assert await in_force(client) == MODEL


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"review": 0.1},
        {"decline": 0.1},
        {"review": 0.3, "decline": 0.2},
        {"review": 0, "decline": 0.2},
        {"review": 0.1, "decline": 1},
        {"review": -0.1, "decline": 0.2},
        {"review": 0.1, "decline": None},
        {"review": "0.1", "decline": 0.2},
        {"review": True, "decline": 0.2},
        {"reviews_per_day": 0},
        {"reviews_per_day": -1},
        {"reviews_per_day": 1e300},
        {"reviews_per_day": None},
        {"reviews_per_day": "50"},
        {"reviews_per_day": 50, "review": 0.1},
        {"reviews_per_day": 50, "review": 0.1, "decline": 0.2},
        {"reviews_per_day": 50, "decline": 0},
        {"reviews_per_day": 50, "effective_at": "tomorrow"},
        {"review": 0.1, "decline": 0.2, "effective_at": 7},
        {"review": 0.1, "decline": 0.2, "note": ""},
        {"review": 0.1, "decline": 0.2, "tenant": "other"},
        {"review": 0.1, "decline": 0.2, "floor": 0.05},
        {"review": 0.1, "decline": 0.2, "dry_run": "true"},
        {"reviews_per_day": 50, "floor": 0},
        {"reviews_per_day": 50, "floor": 1},
        {"reviews_per_day": 50, "floor": None},
        {"reviews_per_day": 50, "floor": 0.3, "decline": 0.2},
        [],
    ],
    ids=str,
)
async def test_a_bad_statement_is_refused(edge: httpx.AsyncClient, body: Any) -> None:
    assert problem_of(await edge.post(PATH, json=body)) == (422, "validation_failed")


async def test_nan_is_no_threshold(edge: httpx.AsyncClient) -> None:
    for body in ('{"review": NaN, "decline": 0.2}', '{"reviews_per_day": NaN}'):
        answer = await edge.post(PATH, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in {400, 422}


@pytest.mark.parametrize("path", [PATH, f"{PATH}/history"])
async def test_without_a_key_nothing_is_answered(edge: httpx.AsyncClient, path: str) -> None:
    answer = await edge.get(path, headers={"Authorization": ""})
    assert problem_of(answer) == (401, "unauthenticated")


async def test_a_budget_chooses_a_threshold_that_would_have_kept_to_it(
    client: httpx.AsyncClient,
) -> None:
    probabilities = await scores(client, 120)
    top = max(probabilities)
    kept = await put(client, reviews_per_day=4, decline=top, note="One analyst.")
    reached = [probability for probability in probabilities if kept["review"] <= probability < top]
    assert 0 < len(reached) <= 20
    assert kept["review"] > kept["floor"] == pytest.approx(0.1 * MODEL_REVIEW)
    # One more would have been too many.
    lower = max(probability for probability in probabilities if probability < kept["review"])
    assert sum(lower <= probability < top for probability in probabilities) > 20
    assert kept["expected_reviews_per_day"] == pytest.approx(len(reached) / 5, rel=1e-3)
    assert kept["expected_reviews_per_day"] <= 4
    assert (kept["decline"], kept["reviews_per_day"], kept["chosen_on"]) == (top, 4.0, 120)
    assert kept["chosen_on_days"] == pytest.approx(5, rel=1e-3)
    assert kept["note"] == "One analyst."
    found = await in_force(client)
    assert (found["review"], found["own"]["chosen_on"]) == (kept["review"], 120)


async def test_a_budget_leaves_the_threshold_of_decline_as_it_is(
    client: httpx.AsyncClient,
) -> None:
    await scores(client, 100)
    assert (await put(client, reviews_per_day=4))["decline"] == 0.3
    await put(client, review=0.01, decline=0.04)
    kept = await put(client, reviews_per_day=4)
    assert kept["decline"] == 0.04
    assert kept["review"] <= 0.04


async def test_a_budget_too_small_for_the_highest_score_reviews_nothing(
    client: httpx.AsyncClient,
) -> None:
    await scores(client, 100)
    kept = await put(client, reviews_per_day=0.1)
    assert kept["review"] == kept["decline"]
    assert kept["expected_reviews_per_day"] == 0


async def test_a_budget_that_quiet_traffic_cannot_use_stays_above_its_floor(
    client: httpx.AsyncClient,
) -> None:
    probabilities = await scores(client, 120)
    low, high = sorted(probabilities)[60], sorted(probabilities)[115]
    free = await put(client, reviews_per_day=1e6, floor=1e-8, decline=0.9, dry_run=True)
    assert free["review"] == min(probabilities)
    assert (free["floor_reached"], free["notice"]) == (False, None)
    for floor in (low, high):
        kept = await put(client, reviews_per_day=1e6, floor=floor, decline=0.9)
        reached = sum(probability >= floor for probability in probabilities)
        assert (kept["review"], kept["floor"], kept["floor_reached"]) == (floor, floor, True)
        assert "cannot be spent above the floor" in kept["notice"]
        assert kept["expected_reviews_per_day"] == pytest.approx(reached / 5, rel=1e-3)
    assert (await in_force(client))["own"]["floor"] == high
    refused = await client.post(PATH, json={"reviews_per_day": 5, "floor": 0.95})
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"] == [
        {"field": "floor", "message": "floor may not be above decline, which is 0.9"}
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"reviews_per_day": 4.0, "note": "Try."},
        {"reviews_per_day": 1e6, "floor": 0.05, "decline": 0.06},
        {"review": 0.03, "decline": 0.06, "effective_at": "2090-01-01T00:00:00Z"},
    ],
    ids=str,
)
async def test_a_dry_run_shows_what_would_follow_and_sets_nothing(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    probabilities = await scores(client, 120)
    tried = await put(client, **body, dry_run=True)
    assert await in_force(client) == MODEL
    assert (await history(client))["data"] == []
    logged = await client.get("/v1/audit-log", params={"subject": "thresholds"})
    assert logged.json()["data"] == []
    review, decline = tried["review"], tried["decline"]
    assert tried["expected_reviews_per_day"] == pytest.approx(
        sum(review <= probability < decline for probability in probabilities) / 5, rel=1e-3
    )
    assert tried["expected_declines_per_day"] == pytest.approx(
        sum(decline <= probability for probability in probabilities) / 5, rel=1e-3
    )
    assert (tried["chosen_on"], tried["chosen_on_days"]) == (120, pytest.approx(5, rel=1e-3))
    kept = await put(client, **body)
    assert (tried["dry_run"], kept["dry_run"]) == (True, False)
    same = ("review", "decline", "floor", "note", "reviews_per_day", "source")
    assert [kept[name] for name in same] == [tried[name] for name in same]
    if "reviews_per_day" in body:
        same = ("floor_reached", "notice", "chosen_on")
        assert [kept[name] for name in same] == [tried[name] for name in same]


async def test_a_dry_run_without_scores_has_nothing_to_reckon_with(
    client: httpx.AsyncClient,
) -> None:
    tried = await put(client, review=0.1, decline=0.2, dry_run=True)
    assert tried["expected_reviews_per_day"] is tried["expected_declines_per_day"] is None
    assert tried["chosen_on"] is None
    refused = await client.post(PATH, json={"reviews_per_day": 5, "dry_run": True})
    assert problem_of(refused) == (409, "too_few_scores")


async def test_a_reset_goes_back_to_the_models_own_and_keeps_the_history(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    probability = (await score(client))["probability"]
    await put(client, review=1e-8, decline=2e-8)
    theirs = await put(stranger, review=0.3, decline=0.4)
    later_us = now_us() + 3 * DAY_US
    await put(client, review=1e-8, decline=2e-8, effective_at=text_of(later_us))
    assert (await score(client))["outcome"] == "decline"
    answer = await client.delete(PATH)
    assert (answer.status_code, answer.json()) == (200, MODEL)
    assert await in_force(client) == MODEL
    assert (await in_force(stranger))["own"] == as_kept(theirs)
    found = await score(client)
    assert (found["outcome"], found["probability"]) == ("approve", probability)
    kept = (await history(client))["data"]
    assert [version["source"] for version in kept] == ["model", "tenant", "model", "tenant"]
    assert (kept[0]["review"], kept[0]["decline"]) == (MODEL["review"], MODEL["decline"])
    logged = await client.get("/v1/audit-log", params={"subject": "thresholds"})
    [reset, *_] = logged.json()["data"]
    assert reset["action"] == "thresholds.reset"
    assert (reset["before"]["review"], reset["after"]["review"]) == (1e-8, MODEL["review"])

    # A second time there is nothing to take back.
    assert (await client.delete(PATH)).json() == MODEL
    assert (await history(client))["data"] == kept

    # What was planned is off; what is planned after it is not.
    planned = await put(client, review=0.2, decline=0.25, effective_at=text_of(later_us + DAY_US))
    assert (await in_force(client))["next"] == as_kept(planned)
    for at_us, source in ((later_us + 1, "model"), (later_us + DAY_US + 1, "tenant")):
        monkeypatch.setattr("app.scoring.pipeline.now_us", lambda at_us=at_us: at_us)
        monkeypatch.setattr("app.thresholds.service.now_us", lambda at_us=at_us: at_us)
        assert (await in_force(client))["source"] == source
    assert (await score(client))["risk_score"] < 50


async def test_a_budget_without_scores_to_choose_by_is_refused(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await scores(client, 99)
    await scores(stranger, 150)
    answer = await client.post(PATH, json={"reviews_per_day": 50})
    assert problem_of(answer) == (409, "too_few_scores")
    assert "99" in answer.json()["detail"]
    assert await in_force(client) == MODEL


async def test_the_history_has_all_that_ever_were_stated_newest_first(
    client: httpx.AsyncClient,
) -> None:
    assert await history(client) == {"data": [], "has_more": False, "next_cursor": None}
    planned = await put(
        client, review=0.1, decline=0.9, effective_at=text_of(now_us() + DAY_US), note="May."
    )
    rest = [await put(client, review=0.1 * n, decline=0.9) for n in range(1, 5)]
    stated = [as_kept(change) for change in (planned, *rest[::-1])]
    assert (await history(client))["data"] == stated

    first = await history(client, limit=2)
    assert (first["data"], first["has_more"]) == (stated[:2], True)
    # What comes in between two pages moves none of them.
    await put(client, review=0.2, decline=0.9)
    second = await history(client, limit=2, cursor=first["next_cursor"])
    assert (second["data"], second["has_more"]) == (stated[2:4], True)
    last = await history(client, limit=2, cursor=second["next_cursor"])
    assert last == {"data": stated[4:], "has_more": False, "next_cursor": None}


async def test_a_cursor_of_another_list_is_refused(client: httpx.AsyncClient) -> None:
    for n in range(3):
        await score(client, amount=n)
    other = (await client.get("/v1/transactions", params={"limit": 1})).json()["next_cursor"]
    for cursor in (other, "!", "bm9uZQ=="):
        answer = await client.get(f"{PATH}/history", params={"cursor": cursor})
        assert problem_of(answer) == (422, "validation_failed")

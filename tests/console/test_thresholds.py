"""The page of thresholds: what they would do, and setting them."""

from typing import Any

import httpx
import pytest

from app.learner.transaction import HOUR_US
from app.times import now_us, text_of
from tests.api.requests import posted
from tests.console.people import elements, person, send, sent_to, shown, text_in

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def probabilities(shared: httpx.AsyncClient) -> list[float]:
    """Of payments that are scored, the least first; one in two has a label."""
    now = now_us()
    bodies = [
        posted(
            f"p-{n}",
            account_id=f"p-account-{n}",
            amount=30.0 * 2**n,
            merchant_id=None,
            occurred_at=text_of(now - n * HOUR_US),
        )
        for n in range(8)
    ]
    answer = await shared.post("/v1/transactions/batch", json={"transactions": bodies})
    for n in range(0, 8, 2):
        name = "fraud" if n > 3 else "legitimate"
        done = await shared.put(f"/v1/transactions/p-{n}/label", json={"label": name})
        assert done.status_code == 200
    return sorted(result["probability"] for result in answer.json()["results"])


def fields(page: str) -> dict[str, str]:
    return {
        field["name"] or "": field.get("value") or ""
        for field in elements(page, "input")
        if field.get("name")
    }


async def in_force(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/v1/thresholds")).json()
    return found


async def test_it_says_what_thresholds_would_do_and_sets_what_it_has_shown(
    shared: httpx.AsyncClient, probabilities: list[float]
) -> None:
    async with person(shared) as lead:
        wanted = {"review": "0.0001", "decline": "99"}
        page = await shown(lead, "/thresholds", **wanted)
        assert "Reviews a day 8" in text_in(page)
        assert "Of all frauds, held up 100.0 %" in text_in(page)
        assert "Of honest payments, held up 100.0 %" in text_in(page)
        assert fields(page)["seen"] == "0.0001 99"
        before = await in_force(shared)
        # What nobody has looked at is shown, and not set.
        path, query = sent_to(await send(lead, "/thresholds", **wanted, seen="1 2"))
        assert (path, query) == ("/console/thresholds", {**wanted, "notice": "look"})
        assert await in_force(shared) == before
        form = {**wanted, "seen": "0.0001 99", "note": "Two more analysts."}
        assert sent_to(await send(lead, "/thresholds", **form))[1] == {"notice": "set"}
        now = await in_force(shared)
        assert (now["review"], now["decline"]) == (1e-6, 0.99)
        page = text_in(await shown(lead, "/thresholds", notice="set"))
        assert "review from 0.0001 %, decline from 99 % (your own)" in page
        assert "Two more analysts." in page
        assert sent_to(await send(lead, "/thresholds/reset"))[1] == {"notice": "reset"}
        assert (await in_force(shared))["source"] == "model"


async def test_planned_thresholds_stand_there_until_they_begin(shared: httpx.AsyncClient) -> None:
    async with person(shared) as lead:
        form = {"review": "2", "decline": "50", "seen": "2 50", "effective_at": "2099-01-01T10:00"}
        sent_to(await send(lead, "/thresholds", **form))
        assert (await in_force(shared))["next"]["effective_at"] == "2099-01-01T10:00:00.000000Z"
        page = text_in(await shown(lead, "/thresholds"))
        assert "Planned from 2099-01-01 10:00 UTC: 2 %, 50 %" in page
        sent_to(await send(lead, "/thresholds/reset"))


async def test_a_budget_is_tried_first(
    shared: httpx.AsyncClient, probabilities: list[float]
) -> None:
    async with person(shared) as lead:
        page = await shown(lead, "/thresholds", reviews_per_day="50")
        assert "a budget needs 100" in text_in(page)
        assert "Set this budget" not in page
        answer = await send(lead, "/thresholds", reviews_per_day="50")
        assert answer.status_code == 409


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"review": "five", "decline": "9", "seen": "five 9"}, "Review from: a number"),
        ({"review": "9", "decline": "5", "seen": "9 5"}, "review may not be above decline"),
        ({"reviews_per_day": "-1"}, "reviews_per_day"),
        ({"review": "1", "decline": "5", "seen": "1 5", "effective_at": "noon"}, "effective_at"),
    ],
)
async def test_what_is_wrong_with_a_form_is_said(
    mia: httpx.AsyncClient, form: dict[str, str], words: str
) -> None:
    answer = await send(mia, "/thresholds", **form)
    assert answer.status_code == 422
    assert words in text_in(answer.text)


async def test_who_may_only_read_sees_the_effect_and_sets_nothing(
    client: httpx.AsyncClient,
) -> None:
    async with person(client, "read", "label") as analyst:
        page = await shown(analyst, "/thresholds", review="1", decline="10")
        assert "You may look only" in page
        assert "Set these" not in page
        for path in ("/thresholds", "/thresholds/reset"):
            answer = await send(analyst, path, review="1", decline="10", seen="1 10")
            assert answer.status_code == 403

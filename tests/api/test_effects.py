"""What thresholds would have done: by a histogram that is counted, and kept meanwhile."""

import asyncio

import httpx
import pytest

from app.learner.transaction import HOUR_US
from app.times import now_us, text_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio

PATH = "/v1/thresholds/effects"


@pytest.fixture(scope="module")
async def scored(shared: httpx.AsyncClient) -> dict[str, float]:
    """Payments of the last hours, half of them with a label; their probabilities."""
    now = now_us()
    bodies = [
        posted(
            f"e-{n}",
            account_id=f"e-account-{n}",
            merchant_id=None,
            amount=20.0 + 90 * n,
            occurred_at=text_of(now - n * HOUR_US),
        )
        for n in range(12)
    ]
    answer = await shared.post("/v1/transactions/batch", json={"transactions": bodies})
    results = answer.json()["results"]
    for n in range(0, 12, 2):
        name = "fraud" if n % 4 == 0 else "legitimate"
        done = await shared.put(f"/v1/transactions/e-{n}/label", json={"label": name})
        assert done.status_code == 200, done.text
    return {result["transaction_id"]: result["probability"] for result in results}


async def effects(client: httpx.AsyncClient, **query: float) -> dict[str, object]:
    answer = await client.get(PATH, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


async def test_effects_are_those_of_counting_all_scores(
    shared: httpx.AsyncClient, scored: dict[str, float]
) -> None:
    review = sorted(scored.values())[6]
    found = await effects(shared, review=review, decline=0.99)
    assert (found["transactions"], found["sampled_one_in"]) == (12, 1)
    bins = found["bins"]
    assert isinstance(bins, list)
    assert sum(bin_["transactions"] for bin_ in bins) == 12
    assert sum(bin_["frauds"] for bin_ in bins) == 3
    assert sum(bin_["legitimates"] for bin_ in bins) == 3
    effect = found["effect"]
    assert isinstance(effect, dict)
    # Of two digits, and the nearest such: what reaches it is held up.
    assert effect["review"] == float(f"{review:.1e}")
    held = {name for name, probability in scored.items() if probability >= effect["review"]}
    frauds = {f"e-{n}" for n in range(0, 12, 4)}
    cleared = {f"e-{n}" for n in range(2, 12, 4)}
    assert effect["reviews_per_day"] == pytest.approx(len(held), rel=0.01)
    assert effect["declines_per_day"] == 0
    assert effect["recall"] == pytest.approx(len(held & frauds) / 3)
    assert effect["legitimate_share"] == pytest.approx(len(held & cleared) / 3)
    labelled = held & (frauds | cleared)
    expected = len(held & frauds) / len(labelled) if labelled else None
    assert effect["precision"] == pytest.approx(expected)


async def test_each_score_is_in_the_bin_of_its_first_two_digits(
    shared: httpx.AsyncClient, scored: dict[str, float]
) -> None:
    found = await effects(shared)
    edges = [bin_["probability"] for bin_ in found["bins"]]  # type: ignore[attr-defined]
    for probability in scored.values():
        digits = f"{probability:.12e}"
        cut = float(f"{digits[:3]}{digits[digits.index('e') :]}")
        assert cut in edges or probability < 1e-8


async def test_by_default_those_in_force_and_none_of_another_tenant(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient, scored: dict[str, float]
) -> None:
    now = (await shared.get("/v1/thresholds")).json()
    effect = (await effects(shared))["effect"]
    assert isinstance(effect, dict)
    assert effect["review"] == pytest.approx(now["review"], rel=0.06)
    assert effect["decline"] == pytest.approx(now["decline"], rel=0.06)
    theirs = await effects(shared_stranger)
    assert (theirs["transactions"], theirs["bins"], theirs["days"]) == (0, [], 0)
    assert theirs["effect"]["precision"] is None  # type: ignore[index]


async def test_figures_are_counted_anew_behind_an_answer(
    shared: httpx.AsyncClient, scored: dict[str, float]
) -> None:
    first = await effects(shared)
    await shared.post("/v1/transactions", json=posted("e-new", occurred_at=text_of(now_us())))
    assert await effects(shared) == first or first["transactions"] == 12
    for _ in range(100):
        await asyncio.sleep(0.1)
        later = await effects(shared)
        if later["transactions"] == 13:
            assert str(later["counted_at"]) > str(first["counted_at"])
            return
    raise AssertionError("the new payment was never counted")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"review": 0.3, "decline": 0.2}, "review"),
        ({"review": 0}, "review"),
        ({"decline": 1}, "decline"),
        ({"reviews": 1}, "reviews"),
    ],
)
async def test_what_is_no_threshold_is_refused(
    shared: httpx.AsyncClient, query: dict[str, float], field: str
) -> None:
    answer = await shared.get(PATH, params=query)
    assert problem_of(answer) == (422, "validation_failed")
    assert field in answer.json()["detail"]

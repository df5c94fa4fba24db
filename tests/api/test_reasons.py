"""Why a score is what it is: in words, with values, and in shares that add up."""

import asyncio
from typing import Any

import httpx
import numpy as np
import pytest

from tests.api.requests import posted, problem_of
from tests.api.test_labels import put, score
from tests.conftest import mainly

pytestmark = pytest.mark.anyio


async def reasons(client: httpx.AsyncClient, key: str) -> Any:
    answer = await client.get(f"/v1/transactions/{key}/reasons")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def habits(client: httpx.AsyncClient) -> None:
    days = range(1, 9)
    await score(
        client,
        *(posted(f"p-{d}", amount=80, occurred_at=f"2026-01-0{d}T14:00:00Z") for d in days),
    )


async def test_shares_and_baseline_add_up_to_the_score(client: httpx.AsyncClient) -> None:
    await habits(client)
    await put(client, "p-1", "legitimate")
    await put(client, "p-2")
    [scored] = await score(client, posted("x", amount=412, country="BR"))
    answer = await reasons(client, "x")
    total = answer["baseline"] + sum(reason["share"] for reason in answer["reasons"])
    assert total == pytest.approx(answer["log_odds"], abs=1e-9)
    assert answer["probability"] == pytest.approx(scored["probability"], abs=1e-7)
    odds = np.log(scored["probability"] / (1 - scored["probability"]))
    assert answer["log_odds"] == pytest.approx(odds, abs=1e-6)
    assert (answer["past"], answer["account_id"]) == (8, "alice")
    shares = [reason["share"] for reason in answer["reasons"]]
    assert shares == sorted(shares, reverse=True)


async def test_reasons_set_what_was_seen_beside_what_is_usual(client: httpx.AsyncClient) -> None:
    await habits(client)
    await put(client, "p-1", "legitimate")
    await put(client, "p-2")
    elsewhere = {"merchant_id": "elsewhere", "merchant_category": "travel", "country": "BR"}
    night = posted("x", amount="412.5", occurred_at="2026-01-09T03:12:00Z", **elsewhere)
    await score(client, night)
    by_code = {reason["code"]: reason for reason in (await reasons(client, "x"))["reasons"]}
    assert by_code["amount"]["sentence"] == (
        "amount 412.50 EUR, 5.16 times the median 80.00 EUR of this account's last 8 payments"
    )
    assert by_code["amount"]["observed"] == 412.5
    assert by_code["amount"]["usual"] == pytest.approx(80, abs=0.01)
    assert by_code["country"]["sentence"] == "country BR, in 0 of this account's last 8 payments"
    assert (by_code["country"]["observed"], by_code["country"]["usual"]) == ("BR", "DE")
    assert by_code["hour"]["sentence"] == (
        "at 03:12 UTC; 0 of this account's last 8 payments came within 2 hours of that time of day"
    )
    assert by_code["labels"]["sentence"] == (
        "1 fraud label and 1 legitimate label move all of this account's scores"
    )
    assert by_code["account_gap"]["observed"] == pytest.approx(13.2, abs=0.01)


async def test_a_risky_score_comes_with_reasons_and_a_low_one_without(
    client: httpx.AsyncClient,
) -> None:
    stated = await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.99})
    assert stated.status_code == 200
    [risky] = await score(client, posted("a", amount=900))
    assert risky["outcome"] == "review"
    assert 1 <= len(risky["reasons"]) <= 5
    whole = [
        reason for reason in (await reasons(client, "a"))["reasons"] if reason["share"] >= 0.01
    ]
    named = [(reason["code"], reason["sentence"]) for reason in risky["reasons"]]
    assert named == [(reason["code"], reason["sentence"]) for reason in whole[:5]]
    assert (await client.get("/v1/transactions/a")).json()["score"]["reasons"] == risky["reasons"]
    review = (await client.get("/v1/reviews/a")).json()
    assert review["transaction"]["score"]["reasons"] == risky["reasons"]
    await client.post("/v1/thresholds", json={"review": 0.99, "decline": 0.999})
    [low] = await score(client, posted("b", amount=900))
    assert (low["risk_level"], low["reasons"]) == ("low", [])


async def test_the_first_payment_of_an_account_is_set_against_the_population(
    client: httpx.AsyncClient,
) -> None:
    await score(client, posted("first"))
    answer = await reasons(client, "first")
    assert answer["past"] == 0
    by_code = {reason["code"]: reason for reason in answer["reasons"]}
    assert by_code["amount"]["sentence"] == (
        "amount 412.00 EUR; this account has no earlier payments"
    )
    assert all(
        reason["usual"] is None
        for reason in by_code.values()
        if reason["code"] in ("hour", "country")
    )


async def test_reasons_of_what_is_not_there_or_anothers_are_not_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await score(client, posted("a"))
    for caller, key in ((client, "b"), (stranger, "a")):
        refused = await caller.get(f"/v1/transactions/{key}/reasons")
        assert problem_of(refused) == (404, "transaction_not_found")


async def must_be_the_same(client: httpx.AsyncClient, answers: list[dict[str, Any]]) -> None:
    """The reasons that come with a score are the first of those of `/reasons` afterwards."""
    for answer in answers:
        whole = (await reasons(client, answer["transaction_id"]))["reasons"]
        raising = [reason for reason in whole if reason["share"] >= 0.01][:5]
        assert answer["reasons"] == raising


@mainly("sqlite", "shared_database_url")
async def test_reasons_are_the_same_whatever_shares_the_batch(client: httpx.AsyncClient) -> None:
    stated = await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.99})
    assert stated.status_code == 200
    payments = [
        posted(
            f"t-{n}",
            account_id=f"a-{n % 2}",
            # Some of one instant, and not in their order; more than what reasons look back to.
            occurred_at=f"2026-01-31T{n * 7 % 24:02}:{n % 3:02}:00Z",
            amount=f"{20 + 37 * n % 400}.{n:02}",
            merchant_id=f"m-{n % 5}",
            country=("DE", "BR", "FR")[n % 3],
            attributes={"device_age_days": n % 4},
        )
        for n in range(90)
    ]
    answers = await score(client, *payments[:80])
    assert sum(bool(answer["reasons"]) for answer in answers) > 40
    await must_be_the_same(client, answers)
    # As many requests at once, whichever of them share a batch.
    alone = await asyncio.gather(
        *(client.post("/v1/transactions", json=payment) for payment in payments[80:])
    )
    answers += [answer.json() for answer in alone]
    await must_be_the_same(client, answers)
    # What comes late changes nothing of what was known.
    for account in ("a-0", "a-1"):
        late = posted(f"late-{account}", account_id=account, occurred_at="2026-01-31T00:00:30Z")
        await score(client, late)
    await must_be_the_same(client, answers)

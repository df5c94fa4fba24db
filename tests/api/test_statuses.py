"""What became of payments after they were scored."""

from typing import Any

import httpx
import pytest

from tests.api.requests import posted, problem_of
from tests.api.test_labels import score

pytestmark = pytest.mark.anyio


async def set_status(client: httpx.AsyncClient, key: str, status: str) -> Any:
    answer = await client.put(f"/v1/transactions/{key}/status", json={"status": status})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def status_of(client: httpx.AsyncClient, key: str) -> Any:
    return (await client.get(f"/v1/transactions/{key}")).json()["status"]


async def test_a_status_is_stored_once_and_written_down(client: httpx.AsyncClient) -> None:
    await score(client, posted("t-1"), posted("t-2", status="authorised"))
    assert [await status_of(client, key) for key in ("t-1", "t-2")] == [None, "authorised"]
    stored = {"transaction_id": "t-1", "account_id": "alice", "status": "declined"}
    assert await set_status(client, "t-1", "declined") == {**stored, "changed": True}
    assert await set_status(client, "t-1", "declined") == {**stored, "changed": False}
    await set_status(client, "t-2", "refunded")
    assert [await status_of(client, key) for key in ("t-1", "t-2")] == ["declined", "refunded"]
    log = (await client.get("/v1/audit-log?action=status.set&account_id=alice")).json()["data"]
    assert [(entry["subject"], entry["before"], entry["after"]) for entry in log] == [
        ("t-2", {"status": "authorised"}, {"status": "refunded"}),
        ("t-1", None, {"status": "declined"}),
    ]


async def test_a_status_leaves_the_payment_and_its_score_as_they_were(
    client: httpx.AsyncClient,
) -> None:
    [first] = await score(client, posted("t-1"))
    await set_status(client, "t-1", "reversed")
    again = await client.post("/v1/transactions", json=posted("t-1"))
    assert again.json() == first
    other = await client.post("/v1/transactions", json=posted("t-1", status="reversed"))
    assert problem_of(other) == (409, "transaction_conflict")


async def test_the_next_score_goes_by_the_status(client: httpx.AsyncClient) -> None:
    """The same as if it had come with the payment, whatever it was before."""
    for account, status in (("early", "declined"), ("late", None), ("changed", "authorised")):
        paid = [of_account(account, day, amount=400 * day) for day in range(1, 5)]
        await score(client, *paid[:2], *(payment | {"status": status} for payment in paid[2:]))
    before = await next_of(client, 6)
    for account in ("late", "changed"):
        for day in (3, 4):
            await set_status(client, f"{account}-{day}", "declined")
    after = await next_of(client, 7)
    assert before["changed"] != pytest.approx(before["early"], abs=1e-4)
    # What came before a payment is kept in single precision.
    assert after == pytest.approx(dict.fromkeys(after, after["early"]), abs=1e-6)


def of_account(account: str, day: int, **changes: Any) -> dict[str, Any]:
    body = posted(f"{account}-{day}", account_id=account, occurred_at=f"2026-01-0{day}T12:00:00Z")
    return body | {"merchant_id": account} | changes


async def next_of(client: httpx.AsyncClient, day: int) -> dict[str, float]:
    """The next score of each account: of a refund, which counts for none of those after it."""
    accounts = ("early", "late", "changed")
    scores = await score(client, *(of_account(account, day, type="refund") for account in accounts))
    return {score["account_id"]: score["probability"] for score in scores}


async def test_many_statuses_have_an_outcome_each(client: httpx.AsyncClient) -> None:
    await score(client, posted("t-1"), posted("t-2"), posted("b-1", account_id="bob"))
    items: list[Any] = [
        {"transaction_id": "b-1", "status": "declined"},
        {"transaction_id": "t-1", "status": "refunded"},
        {"transaction_id": "nobody", "status": "refunded"},
        {"transaction_id": "t-1", "status": "declined"},
        {"transaction_id": "t-1", "status": "refunded"},
        {"transaction_id": "t-2", "status": "stolen"},
        7,
    ]
    answer = await client.put("/v1/transactions/statuses", json={"statuses": items})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["transaction_id"] for result in results] == [
        *("b-1", "t-1", "nobody", "t-1", "t-1", "t-2", None)
    ]
    changed = [result.get("changed") for result in results]
    assert changed == [True, True, None, None, True, None, None]
    codes = [result["error"]["code"] for result in results if "error" in result]
    assert codes == ["transaction_not_found", *["validation_failed"] * 3]
    assert "another status earlier" in results[3]["error"]["detail"]
    stored = [await status_of(client, key) for key in ("t-1", "t-2", "b-1")]
    assert stored == ["refunded", None, "declined"]


async def test_a_status_of_what_is_not_there_or_anothers_is_not_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await score(client, posted("t-1"))
    for caller, key in ((client, "t-2"), (stranger, "t-1")):
        refused = await caller.put(f"/v1/transactions/{key}/status", json={"status": "declined"})
        assert problem_of(refused) == (404, "transaction_not_found")
    assert await status_of(client, "t-1") is None


@pytest.mark.parametrize("body", [{}, {"status": None}, {"status": "Declined"}, {"state": "x"}])
async def test_what_is_no_status_is_refused(client: httpx.AsyncClient, body: Any) -> None:
    await score(client, posted("t-1"))
    refused = await client.put("/v1/transactions/t-1/status", json=body)
    assert problem_of(refused) == (422, "validation_failed")

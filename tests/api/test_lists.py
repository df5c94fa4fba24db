"""Lists over HTTP: in order, filtered, and in pages that rows coming in meanwhile do not move."""

import asyncio
from typing import Any

import asyncpg
import httpx
import pytest

from app.db.connections import CONNECT_SECONDS
from app.web.service import LISTS_AT_ONCE
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio

LISTS = ["/v1/transactions", "/v1/accounts", "/v1/reviews", "/v1/reviews?order=age"]
REVIEW = {"review": 0.01, "decline": 0.9}
LONG_ID = "🦊" * 128


async def decide_by(client: httpx.AsyncClient, thresholds: dict[str, float]) -> None:
    stated = await client.post("/v1/thresholds", json=thresholds)
    assert stated.status_code == 200, stated.text


async def score(client: httpx.AsyncClient, *bodies: dict[str, Any]) -> None:
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert answer.status_code == 200, answer.text
    assert all("probability" in result for result in answer.json()["results"])


async def page(client: httpx.AsyncClient, path: str, **query: str | int) -> dict[str, Any]:
    """A page, whose two ways to tell whether more follows agree."""
    answer = await client.get(httpx.URL(path).copy_merge_params(query))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["has_more"] is (body["next_cursor"] is not None)
    assert len(body["data"]) <= int(query.get("limit", 100))
    return body


async def rest(
    client: httpx.AsyncClient, path: str, first: dict[str, Any], **query: str | int
) -> list[dict[str, Any]]:
    """The rows of this page and of all that follow it."""
    rows, last = list(first["data"]), first
    while last["has_more"]:
        last = await page(client, path, **query, cursor=last["next_cursor"])
        assert last["data"]
        rows += last["data"]
    return rows


async def all_of(client: httpx.AsyncClient, path: str, **query: str | int) -> list[dict[str, Any]]:
    return await rest(client, path, await page(client, path, **query), **query)


def names_of(rows: list[dict[str, Any]]) -> list[str]:
    return [row.get("transaction_id", row["account_id"]) for row in rows]


def at(hour: int, name: str, **changes: Any) -> dict[str, Any]:
    return posted(name, occurred_at=f"2026-01-31T{hour:02}:00:00Z", **changes)


async def test_transactions_come_newest_first_as_each_is_read_alone(
    client: httpx.AsyncClient,
) -> None:
    await score(client, at(9, "b"), at(11, "c"), at(9, "a"), at(10, "d"), at(9, "c/2"))
    labelled = await client.put("/v1/transactions/a/label", json={"label": "fraud"})
    assert labelled.status_code == 200
    for limit in (1, 2, 5, 100):
        rows = await all_of(client, "/v1/transactions", limit=limit)
        assert names_of(rows) == ["c", "d", "c/2", "b", "a"]
    alone = [
        (await client.get(f"/v1/transactions/{name}")).json()
        for name in ("c", "d", "c%2F2", "b", "a")
    ]
    assert rows == alone
    assert [row["label"] for row in rows] == [None, None, None, None, "fraud"]


async def test_a_page_that_ends_with_the_last_row_has_no_more(
    client: httpx.AsyncClient,
) -> None:
    await score(client, at(9, "a"), at(10, "b"))
    assert (await page(client, "/v1/transactions", limit=2))["has_more"] is False
    assert (await page(client, "/v1/transactions", limit=1))["has_more"] is True


FILTERED: dict[str, tuple[dict[str, str], set[str]]] = {
    "an account": ({"account_id": "bob"}, {"declined", "noon"}),
    "an outcome": ({"outcome": "review"}, {"reviewed", "noon"}),
    "a level": ({"risk_level": "critical"}, {"declined"}),
    "from": ({"occurred_from": "2026-01-31T11:00:00Z"}, {"declined", "noon"}),
    "from, at another offset": (
        {"occurred_from": "2026-01-31T13:00:00+02:00"},
        {"declined", "noon"},
    ),
    "to": ({"occurred_to": "2026-01-31T11:00:00Z"}, {"approved", "reviewed"}),
    "to the future": (
        {"occurred_to": "2100-01-01T00:00:00Z"},
        {"approved", "reviewed", "declined", "noon"},
    ),
    "a span": (
        {"occurred_from": "2026-01-31T10:00:00Z", "occurred_to": "2026-01-31T12:00:00Z"},
        {"reviewed", "declined"},
    ),
    "several": ({"account_id": "bob", "outcome": "review"}, {"noon"}),
    "a merchant": ({"entity_kind": "merchant", "entity_id": "m-9"}, {"reviewed", "declined"}),
    "an address, spelled otherwise": (
        {"entity_kind": "ip", "entity_id": "2001:DB8::0:1"},
        {"declined"},
    ),
    "another kind": ({"entity_kind": "phone", "entity_id": "+1"}, {"noon"}),
    "a merchant of an account": (
        {"entity_kind": "merchant", "entity_id": "m-9", "account_id": "bob"},
        {"declined"},
    ),
    "an amount and more": ({"amount_from": "59.90"}, {"declined", "noon"}),
    "an amount and less": ({"amount_to": "59.9"}, {"approved", "reviewed", "declined"}),
    "amounts": ({"amount_from": "59.9", "amount_to": "59.9"}, {"declined"}),
    "fraud": ({"label": "fraud"}, {"reviewed"}),
    "legitimate": ({"label": "legitimate"}, {"noon"}),
    "no label": ({"label": "none"}, {"approved", "declined"}),
    "fraud that was approved": ({"label": "fraud", "outcome": "approve"}, set()),
    "fraud of a merchant": (
        {"label": "fraud", "entity_kind": "merchant", "entity_id": "m-9"},
        {"reviewed"},
    ),
    "nothing": ({"account_id": "nobody"}, set()),
}


async def test_transactions_are_filtered_by_whatever_people_look_for(
    client: httpx.AsyncClient,
) -> None:
    await decide_by(client, {"review": 0.9, "decline": 0.95})
    await score(client, at(9, "approved", amount=5))
    await decide_by(client, REVIEW)
    noon = {"amount": 1000, "entities": {"phone": "+1"}, "account_id": "bob"}
    await score(client, at(10, "reviewed", amount=50, merchant_id="m-9"), at(12, "noon", **noon))
    await decide_by(client, {"review": 0.001, "decline": 0.002})
    declined = {"merchant_id": "m-9", "ip_address": "2001:db8::1", "amount": "59.90"}
    await score(client, at(11, "declined", account_id="bob", **declined))
    for name, label in (("reviewed", "fraud"), ("noon", "legitimate")):
        await client.put(f"/v1/transactions/{name}/label", json={"label": label})
    found = {
        name: set(names_of(await all_of(client, "/v1/transactions", limit=1, **query)))
        for name, (query, _) in FILTERED.items()
    }
    assert found == {name: wanted for name, (_, wanted) in FILTERED.items()}


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("/v1/transactions", {"occurred_from": "2026-01-31"}),
        ("/v1/transactions", {"occurred_to": "2026-01-31T12:00:00"}),
        ("/v1/transactions", {"outcome": "allow"}),
        ("/v1/transactions", {"risk_level": "severe"}),
        ("/v1/transactions", {"account_id": "a\x00b"}),
        ("/v1/transactions", {"amount_from": "many"}),
        ("/v1/transactions", {"amount_to": "NaN"}),
        ("/v1/transactions", {"label": "perhaps"}),
        ("/v1/transactions", {"entity_kind": "Merchant", "entity_id": "m-1"}),
        ("/v1/transactions", {"entity_id": "not an address", "entity_kind": "ip"}),
        ("/v1/accounts", {"labelled": "perhaps"}),
        *((path, {"limit": limit}) for path in LISTS for limit in (0, 1001, "all")),
        *((path, {"cursor": text}) for path in LISTS for text in ("x", "é", "bnVsbA==", "e30=")),
    ],
    ids=str,
)
async def test_what_is_wrong_with_a_list_is_refused_by_name(
    edge: httpx.AsyncClient, path: str, wrong: dict[str, str]
) -> None:
    refused = await edge.get(httpx.URL(path).copy_merge_params(wrong))
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"].endswith(next(iter(wrong)))


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/v1/transactions", "/v1/transactions?account_id=alice"),
        ("/v1/transactions?outcome=review", "/v1/transactions?risk_level=high"),
        ("/v1/transactions", "/v1/transactions?occurred_to=2026-02-01T00:00:00Z"),
        ("/v1/transactions", "/v1/transactions?label=none"),
        ("/v1/transactions", "/v1/transactions?amount_from=1"),
        ("/v1/transactions", "/v1/transactions?entity_kind=merchant&entity_id=m-1"),
        ("/v1/transactions", "/v1/reviews?order=age"),
        ("/v1/transactions", "/v1/accounts"),
        ("/v1/accounts", "/v1/accounts?labelled=false"),
        ("/v1/accounts?labelled=false", "/v1/accounts?labelled=true"),
        ("/v1/reviews", "/v1/reviews?order=age"),
        ("/v1/reviews", "/v1/reviews?account_id=alice"),
        ("/v1/reviews", "/v1/reviews?assignee=mia"),
        ("/v1/reviews", "/v1/reviews?status=cleared"),
    ],
)
async def test_a_cursor_serves_the_list_and_the_filters_it_came_from_only(
    shared: httpx.AsyncClient, path: str, other: str
) -> None:
    await decide_by(shared, REVIEW)
    await score(shared, at(9, "a"), at(10, "b", account_id="bob"))
    cursor = (await page(shared, path, limit=1))["next_cursor"]
    assert len((await page(shared, path, limit=5, cursor=cursor))["data"]) == 1
    refused = await shared.get(httpx.URL(other).copy_merge_params({"cursor": cursor}))
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "cursor"


async def test_transactions_that_come_in_between_two_pages_move_nothing(
    client: httpx.AsyncClient,
) -> None:
    there = ["a", "c", "e", "g", "i"]
    await score(client, *(at(10, name) for name in there), at(8, "old"), at(12, "new"))
    first = await page(client, "/v1/transactions", limit=4)
    assert names_of(first["data"]) == ["new", "i", "g", "e"]
    # Newer, older, and at the very time of the page's last row, on both sides of it.
    meanwhile = [at(13, "newer"), at(7, "older"), at(10, "f"), at(10, "d"), at(9, "between")]
    await score(client, *meanwhile)
    rows = names_of(await rest(client, "/v1/transactions", first, limit=4))
    assert rows == ["new", "i", "g", "e", "d", "c", "a", "between", "old", "older"]


async def test_accounts_that_come_in_between_two_pages_move_nothing(
    client: httpx.AsyncClient,
) -> None:
    there = ["b", "d", "f", "h"]
    await score(client, *(posted(f"t-{name}", account_id=name) for name in there))
    first = await page(client, "/v1/accounts", limit=2)
    await score(client, *(posted(f"t-{name}", account_id=name) for name in ("a", "e", "i")))
    rows = names_of(await rest(client, "/v1/accounts", first, limit=2))
    assert rows == ["b", "d", "e", "f", "h", "i"]
    assert names_of(await all_of(client, "/v1/accounts", limit=2)) == ["a", *rows]


@pytest.mark.parametrize("order", ["risk", "age"])
async def test_reviews_that_come_in_between_two_pages_move_nothing(
    client: httpx.AsyncClient, order: str
) -> None:
    def alone(name: str, amount: float) -> dict[str, Any]:
        return posted(name, account_id=name, merchant_id=name, amount=amount)

    await decide_by(client, REVIEW)
    # Of one batch, so equally old; and pairs that are alike, so equally risky.
    amounts = {"a": 9000, "c": 9000, "e": 300, "g": 300, "i": 1, "k": 1}
    await score(client, *(alone(name, amount) for name, amount in amounts.items()))
    query: dict[str, str | int] = {"order": order, "limit": 3}
    first = await page(client, "/v1/reviews", **query)
    meanwhile = {"b": 9000, "d": 300, "f": 300, "h": 40, "l": 1}
    await score(client, *(alone(name, amount) for name, amount in meanwhile.items()))
    rows = names_of(await rest(client, "/v1/reviews", first, **query))
    assert len(set(rows)) == len(rows)
    assert [name for name in rows if name in amounts] == names_of(first["data"]) + [
        row
        for row in names_of(await all_of(client, "/v1/reviews", **query))
        if row in amounts and row not in names_of(first["data"])
    ]
    assert set(amounts) <= set(rows)


async def test_accounts_come_by_id_with_labels_or_without(client: httpx.AsyncClient) -> None:
    owners = {"t-1": "carol", "t-2": "alice", "t-3": "bob", "t-4": "alice"}
    await score(client, *(posted(name, account_id=owner) for name, owner in owners.items()))
    for name, label in {"t-2": "fraud", "t-3": "legitimate"}.items():
        await client.put(f"/v1/transactions/{name}/label", json={"label": label})
    rows = await all_of(client, "/v1/accounts", limit=1)
    assert rows == [
        (await client.get(f"/v1/accounts/{name}")).json() for name in ("alice", "bob", "carol")
    ]
    labelled = await all_of(client, "/v1/accounts", labelled="true", limit=1)
    assert names_of(labelled) == ["alice", "bob"]
    assert names_of(await all_of(client, "/v1/accounts", labelled="false")) == ["carol"]
    await client.delete("/v1/transactions/t-3/label")
    assert names_of(await all_of(client, "/v1/accounts", labelled="true")) == ["alice"]


async def test_the_longest_of_ids_fit_into_a_cursor(client: httpx.AsyncClient) -> None:
    await decide_by(client, REVIEW)
    ids = [LONG_ID, LONG_ID[:-1] + '"']
    await score(client, *(posted(name, account_id=name) for name in ids))
    for path in LISTS:
        assert set(names_of(await all_of(client, path, limit=1))) == set(ids)


async def test_another_tenant_sees_nothing_even_with_a_cursor(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await decide_by(client, REVIEW)
    await score(client, at(9, "a", account_id="a"), at(10, "b", account_id="b"))
    for path in LISTS:
        own = await page(client, path, limit=1)
        nothing = {"data": [], "has_more": False, "next_cursor": None}
        assert await page(stranger, path) == nothing
        assert await page(stranger, path, cursor=own["next_cursor"]) == nothing


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_lists_that_take_long_leave_connections_to_scores(
    sole: httpx.AsyncClient, database_url: str
) -> None:
    await decide_by(sole, {"review": 0.9999, "decline": 0.99999})
    await score(sole, at(9, "a"))
    holder = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    await holder.execute("BEGIN; LOCK TABLE reviews IN ACCESS EXCLUSIVE MODE")
    lists = [asyncio.create_task(sole.get("/v1/reviews")) for _ in range(40)]
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    try:
        async with asyncio.timeout(30):
            while not await holder.fetchval(waiting):
                await asyncio.sleep(0.01)
        # Sooner than one that waits for a connection gives up.
        async with asyncio.timeout(CONNECT_SECONDS * 0.8):
            for n in range(3):
                answer = await sole.post("/v1/transactions", json=at(10, f"b-{n}"))
                assert answer.status_code == 200, answer.text
        assert await holder.fetchval(waiting) <= LISTS_AT_ONCE
    finally:
        await holder.execute("ROLLBACK")
        answers = await asyncio.gather(*lists)
        await holder.close()
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert (await sole.get("/v1/reviews")).status_code == 200


async def test_an_entity_has_a_kind_and_an_id(edge: httpx.AsyncClient) -> None:
    for there, missing in (("entity_kind", "entity_id"), ("entity_id", "entity_kind")):
        refused = await edge.get("/v1/transactions", params={there: "merchant"})
        assert problem_of(refused) == (422, "validation_failed")
        assert refused.json()["errors"][0]["field"] == missing

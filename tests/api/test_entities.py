"""What an account has used, and who else has: links and entities over HTTP."""

from typing import Any

import httpx
import pytest

from app.learner.transaction import DAY_US
from app.times import now_us, text_of
from tests.api.requests import posted, problem_of
from tests.api.test_labels import put, score

pytestmark = pytest.mark.anyio


async def found(client: httpx.AsyncClient, path: str) -> Any:
    answer = await client.get(f"/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def walked(client: httpx.AsyncClient, path: str) -> list[Any]:
    """All rows of a list, read one a page."""
    rows, page = [], await found(client, f"{path}?limit=1")
    while True:
        rows += page["data"]
        assert len(page["data"]) == 1
        if not page["has_more"]:
            return rows
        page = await found(client, f"{path}?limit=1&cursor={page['next_cursor']}")


def at(day: int) -> str:
    return f"2026-01-{day:02}T12:00:00.000000Z"


async def used(client: httpx.AsyncClient) -> None:
    """Payments of three accounts, one of which came late, and one of another tenant's."""
    await score(
        client,
        posted("p-1", occurred_at=at(5), device_id="d/1", email="Mia@x.de", merchant_id=None),
        posted(
            "p-2", occurred_at=at(3), device_id="d/1", merchant_id="m", entities={"wallet": "w"}
        ),
        posted("p-3", account_id="bob", occurred_at=at(9), device_id="d/1", merchant_id=None),
        posted("p-4", account_id="carol", device_id="d/2", ip_address="2001:DB8::1"),
        posted("p-6", account_id="carol", card_fingerprint="d/1"),
        posted("p-5", account_id="bob", occurred_at=at(10), device_id="d/1", merchant_id=None),
    )


async def test_an_account_has_its_links_by_kind_and_id(client: httpx.AsyncClient) -> None:
    await used(client)
    links = await found(client, "accounts/alice/links")
    assert links["data"] == [
        {"kind": "device", "entity_id": "d/1", "first_used_at": at(3), "accounts": 2},
        {"kind": "email", "entity_id": "mia@x.de", "first_used_at": at(5), "accounts": 1},
        {"kind": "merchant", "entity_id": "m", "first_used_at": at(3), "accounts": 1},
    ]
    assert await walked(client, "accounts/alice/links") == links["data"]


async def test_an_entity_has_the_accounts_that_used_it_by_id(client: httpx.AsyncClient) -> None:
    await used(client)
    entity = await found(client, "entities/device/d%2F1")
    assert {name: value for name, value in entity.items() if name != "data"} == {
        "kind": "device",
        "entity_id": "d/1",
        "accounts": 2,
        "labels": 0,
        "frauds": 0,
        "has_more": False,
        "next_cursor": None,
    }
    assert entity["data"] == [
        {"account_id": "alice", "first_used_at": at(3)},
        {"account_id": "bob", "first_used_at": at(9)},
    ]
    assert await walked(client, "entities/device/d%2F1") == entity["data"]


async def test_an_entity_is_found_however_it_is_spelled(client: httpx.AsyncClient) -> None:
    await used(client)
    address = await found(client, "entities/ip/2001:db8:0::0001")
    assert (address["entity_id"], address["data"][0]["account_id"]) == ("2001:db8::1", "carol")
    assert (await found(client, "entities/email/MIA@x.de"))["entity_id"] == "mia@x.de"
    refused = await client.get("/v1/entities/ip/d-1")
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == "entity_id"


async def test_what_nobody_used_or_another_tenant_did_is_not_found(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    await used(client)
    # The model does not know wallets.
    for path in ("device/d", "card/d%2F2", "wallet/w"):
        assert problem_of(await client.get(f"/v1/entities/{path}")) == (404, "entity_not_found")
    path = "/v1/entities/device/d%2F1"
    assert problem_of(await stranger.get(path)) == (404, "entity_not_found")
    path = "/v1/accounts/alice/links"
    assert problem_of(await stranger.get(path)) == (404, "account_not_found")
    await score(stranger, posted("q-1", account_id="dave", device_id="d/1"))
    assert (await found(stranger, "entities/device/d%2F1"))["accounts"] == 1
    assert (await found(client, "entities/device/d%2F1"))["accounts"] == 2
    [device, *_] = (await found(client, "accounts/alice/links"))["data"]
    assert (device["kind"], device["accounts"]) == ("device", 2)


async def test_a_cursor_is_good_for_its_own_entity_only(client: httpx.AsyncClient) -> None:
    await used(client)
    cursor = (await found(client, "entities/device/d%2F1?limit=1"))["next_cursor"]
    refused = await client.get(f"/v1/entities/device/d%2F2?cursor={cursor}")
    assert problem_of(refused) == (422, "validation_failed")


async def test_an_entity_has_the_labels_that_have_matured(client: httpx.AsyncClient) -> None:
    """Those of the last two weeks are no evidence yet, as labels of training were not."""
    for n, days in enumerate((60, 40, 30, 1)):
        occurred_at = text_of(now_us() - days * DAY_US)
        await score(client, posted(f"p-{n}", occurred_at=occurred_at, card_fingerprint="c"))
    await put(client, "p-0")
    await put(client, "p-1", "legitimate")
    await put(client, "p-2")
    await put(client, "p-3")
    entity = await found(client, "entities/card/c")
    assert (entity["labels"], entity["frauds"]) == (3, 2)
    await client.delete("/v1/transactions/p-2/label")
    entity = await found(client, "entities/card/c")
    assert (entity["labels"], entity["frauds"]) == (2, 1)

"""Saved searches: each of whoever saved them, and gone with what they look for."""

import asyncio

import httpx
import pytest
from sqlalchemy import select

from app.db.database import Database
from app.db.schema import searches
from app.searches import store as search_store
from app.searches.records import StoredSearch
from tests.api.callers import app_of, client_of, part_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio

NAMES = (
    *("account_id", "occurred_from", "occurred_to", "outcome", "risk_level"),
    *("entity_kind", "entity_id", "amount_from", "amount_to", "label"),
)
NOTHING = dict.fromkeys(NAMES)
MISSED = {
    "outcome": "approve",
    "label": "fraud",
    "amount_from": "500.50",
    "occurred_from": "2026-01-01T01:00:00+01:00",
    "entity_kind": "email",
    "entity_id": "Ann@Example.com",
}
PATH = "/v1/searches/missed%2Fabroad"


async def names(client: httpx.AsyncClient) -> list[str]:
    answer = await client.get("/v1/searches")
    assert answer.status_code == 200, answer.text
    return [search["name"] for search in answer.json()["data"]]


async def test_a_search_is_kept_for_who_saved_it(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    saved = (await shared.put(PATH, json=MISSED)).json()
    assert saved["name"] == "missed/abroad"
    assert saved["filters"] == NOTHING | MISSED | {
        "amount_from": "500.5",
        "occurred_from": "2026-01-01T00:00:00.000000Z",
        "entity_id": "ann@example.com",
    }
    await shared.put("/v1/searches/all", json={})
    assert (await shared.get("/v1/searches")).json()["data"][1] == saved
    # As it is saved it is a query.
    query = {name: value for name, value in saved["filters"].items() if value is not None}
    assert (await shared.get("/v1/transactions", params=query)).status_code == 200
    replaced = (await shared.put(PATH, json={"label": "none"})).json()
    assert replaced["filters"] == NOTHING | {"label": "none"}
    assert await names(shared) == ["all", "missed/abroad"]
    assert await names(shared_stranger) == []
    refused = await shared_stranger.delete(PATH)
    assert problem_of(refused) == (404, "search_not_found")
    assert (await shared.delete(PATH)).json()["data"][0]["name"] == "all"
    assert problem_of(await shared.delete(PATH)) == (404, "search_not_found")
    for body in (
        {"amount": 1},
        {"label": "perhaps"},
        {"entity_kind": "device"},
        {"entity_kind": "ip", "entity_id": "x"},
        {"occurred_from": "yesterday"},
    ):
        assert problem_of(await shared.put(PATH, json=body)) == (422, "validation_failed")


async def test_a_caller_saves_fifty_at_most(shared: httpx.AsyncClient) -> None:
    there = await names(shared)
    # Also where they come at once.
    answers = await asyncio.gather(
        *(shared.put(f"/v1/searches/s-{n}", json={}) for n in range(59 - len(there)))
    )
    assert sorted(answer.status_code for answer in answers)[-9:] == [409] * 9
    assert len(await names(shared)) == 50
    assert problem_of(await shared.put("/v1/searches/more", json={})) == (409, "too_many_searches")
    again = f"/v1/searches/{(await names(shared))[0]}"
    assert (await shared.put(again, json={"label": "fraud"})).status_code == 200


async def test_searches_for_an_erased_account_and_what_it_alone_has_used_go_with_it(
    client: httpx.AsyncClient,
) -> None:
    used = {"device_id": "own", "email": "ann@example.com", "merchant_id": "shop"}
    await client.post("/v1/transactions", json=posted("t-1", account_id="a", **used))
    other = posted("t-2", account_id="b", merchant_id="shop", device_id="b-own")
    await client.post("/v1/transactions", json=other)
    for name, filters in {
        "account": {"account_id": "a"},
        "other": {"account_id": "b"},
        "device": {"entity_kind": "device", "entity_id": "own"},
        "email": {"entity_kind": "email", "entity_id": "Ann@example.com", "label": "none"},
        "shop": {"entity_kind": "merchant", "entity_id": "shop"},
        "not seen yet": {"entity_kind": "device", "entity_id": "nobody has it"},
    }.items():
        assert (await client.put(f"/v1/searches/{name}", json=filters)).status_code == 200
    assert (await client.delete("/v1/accounts/a")).status_code == 200
    assert await names(client) == ["not seen yet", "other", "shop"]
    async with part_of(client, Database).read() as connection:
        rows = (await connection.execute(select(searches.c.content))).scalars().all()
    assert not any("ann@" in content or '"own"' in content for content in rows)


async def test_an_account_that_has_used_ever_so_much_is_forgotten_too(database: Database) -> None:
    saved = StoredSearch("t", "key", "own", None, "device", "d-19999", "{}", 1)
    async with database.write() as connection:
        await search_store.save_search(connection, saved)
        await search_store.save_search(connection, saved._replace(name="other", entity_id="d"))
        used = [("device", f"d-{n}") for n in range(20_000)]
        await search_store.erase_searches(connection, "t", "a", used)
        left = await search_store.listed_searches(connection, "t", "key")
    assert [row.name for row in left] == ["other"]


async def test_a_key_that_is_replaced_and_its_successor_have_the_same_searches(
    sole: httpx.AsyncClient,
) -> None:
    made = (await sole.post("/v1/keys", json={"name": "desk", "scopes": ["read"]})).json()
    async with client_of(app_of(sole), made["key"]) as old:
        assert (await old.put(PATH, json={"account_id": "alice"})).status_code == 200
        await sole.put("/v1/searches/mine", json={})
        successor = (await sole.post(f"/v1/keys/{made['id']}/rotate", json={"hours": 1.0})).json()
        async with client_of(app_of(sole), successor["key"]) as new:
            assert (await new.put("/v1/searches/late", json={})).status_code == 200
            assert await names(new) == await names(old) == ["late", "missed/abroad"]
            assert (await sole.delete(f"/v1/keys/{made['id']}")).status_code == 200
            assert await names(new) == ["late", "missed/abroad"]
    # Nobody could find those of a key that has ended, or remove what they say of an account.
    assert (await sole.delete(f"/v1/keys/{successor['id']}")).status_code == 200
    async with part_of(sole, Database).read() as connection:
        left = (await connection.execute(select(searches.c.name))).scalars()
        assert list(left) == ["mine"]

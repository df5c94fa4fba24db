"""Keys over HTTP, and the log of who changed what."""

from typing import Any

import httpx
import pytest

from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio


async def log(client: httpx.AsyncClient, **filters: str) -> list[dict[str, Any]]:
    answer = await client.get("/v1/audit-log", params=filters)
    assert answer.status_code == 200, answer.text
    entries: list[dict[str, Any]] = answer.json()["data"]
    return entries


def key_id(client: httpx.AsyncClient) -> str:
    return client.headers["Authorization"].split("_")[1]


async def test_a_key_is_made_used_replaced_and_ended(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/keys", json={"name": "till", "scopes": ["read"]})).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    assert (await client.get("/v1/accounts", headers=headers)).status_code == 200
    refused = await client.post("/v1/transactions", json=posted(), headers=headers)
    assert problem_of(refused) == (403, "missing_scope")
    successor = (await client.post(f"/v1/keys/{made['id']}/rotate", json={"hours": 0.0})).json()
    listed = (await client.get("/v1/keys")).json()["data"]
    assert [key["scopes"] for key in listed[1:]] == [["read"], ["read"]]
    assert "key" not in listed[0]
    ended = (await client.delete(f"/v1/keys/{successor['id']}")).json()["data"]
    assert ended[-1]["revoked_at"] is not None
    again = await client.delete(f"/v1/keys/{successor['id']}")
    assert problem_of(again) == (404, "key_not_found")
    assert [entry["action"] for entry in await log(client, actor=key_id(client))] == [
        "key.revoked",
        "key.rotated",
        "key.created",
    ]
    assert made["key"] not in str(await log(client))


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("", {"name": "", "scopes": ["read"]}, "name"),
        ("", {"name": "a", "scopes": []}, "scopes"),
        ("", {"name": "a", "scopes": ["root"]}, "scopes[0]"),
        ("/000000000000/rotate", {"hours": -1.0}, "hours"),
        ("/not-an-id/rotate", None, "path.key_id"),
    ],
)
async def test_what_is_wrong_with_a_key_is_refused_by_name(
    edge: httpx.AsyncClient, path: str, body: dict[str, Any] | None, field: str
) -> None:
    refused = await edge.post(f"/v1/keys{path}", json=body)
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"] == field


async def test_a_key_may_be_named_in_any_script(edge: httpx.AsyncClient) -> None:
    for name in ("Kasse 1", "касса", "🦊", "\u200b", "\u2028"):
        made = await edge.post("/v1/keys", json={"name": name, "scopes": ["read"]})
        assert made.status_code == 200, made.text


async def test_every_change_is_logged_with_who_when_before_and_after(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/transactions", json=posted())
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud", "analyst": "mia"})
    await client.put("/v1/transactions/t-1/label", json={"label": "legitimate", "note": "Called."})
    await client.delete("/v1/transactions/t-1/label")
    await client.post("/v1/thresholds", json={"review": 0.2, "decline": 0.6})
    removed, changed, made = await log(client, subject="t-1")
    fraud = {"label": "fraud", "source": "analyst", "analyst": "mia", "note": None}
    legitimate = {"label": "legitimate", "source": "analyst", "analyst": None, "note": "Called."}
    assert (made["action"], made["before"], made["after"]) == ("label.set", None, fraud)
    assert (changed["action"], changed["before"], changed["after"]) == (
        "label.set",
        fraud,
        legitimate,
    )
    assert (removed["action"], removed["before"], removed["after"]) == (
        "label.removed",
        legitimate,
        None,
    )
    assert {change["actor"] for change in (removed, changed, made)} == {key_id(client)}
    assert made["at"] < changed["at"] < removed["at"]
    [stated] = await log(client, action="thresholds.set")
    assert (stated["after"]["review"], stated["before"]["review"] == 0.2) == (0.2, False)


async def test_what_changes_nothing_or_is_only_tried_is_not_logged(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/transactions", json=posted())
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    before = await log(client)
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    await client.post(
        "/v1/accounts/alice/adapt", json={"dry_run": True, "labels": [label("t-1", "legitimate")]}
    )
    await client.put("/v1/transactions/nothing/label", json={"label": "fraud"})
    await client.post("/v1/thresholds", json={"reviews_per_day": 5.0})
    assert await log(client) == before


async def test_an_erased_account_is_gone_from_the_log_but_for_that_it_was_erased(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/transactions", json=posted())
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    await client.delete("/v1/accounts/alice")
    remaining = await log(client)
    assert [entry["action"] for entry in remaining] == ["account.erased", "key.created"]
    assert "alice" not in str(remaining)
    assert "t-1" not in str(remaining)

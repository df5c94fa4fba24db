"""Another tenant's rows do not exist: asked of every operation that the document has."""

from typing import Any

import httpx
import pytest

from app.main import create_app
from app.scopes import SCOPES
from app.settings import Settings
from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio
DOCUMENT = create_app(Settings(database_url="sqlite:///unused.db")).openapi()
OPERATIONS = [
    (method.upper(), path)
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if path.startswith("/v1")
]
NAMED = [one for one in OPERATIONS if "{" in one[1]]
LISTS = [
    *("/v1/transactions", "/v1/accounts", "/v1/reviews", "/v1/thresholds/history"),
    "/v1/audit-log?action=label.set",
]
BODIES: dict[str, Any] = {
    "PUT /v1/transactions/{transaction_id}/label": {"label": "legitimate"},
    "POST /v1/accounts/{account_id}/labels": {"labels": [label("t-1", "legitimate")]},
    "POST /v1/accounts/{account_id}/adapt": {"dry_run": True, "labels": [label("t-1")]},
    "POST /v1/accounts/{account_id}/rollback": {"revision": 0},
    "PUT /v1/reviews/{transaction_id}/assignee": {"assignee": "eve"},
    "POST /v1/transactions": posted("t-1", amount=1),
    "POST /v1/transactions/batch": {"transactions": [posted("t-2", amount=1)]},
    "POST /v1/labels": {"labels": [label("t-1", "legitimate")]},
    "POST /v1/webhooks": {"url": "https://192.0.2.1/", "events": ["label.changed"]},
    "POST /v1/keys": {"name": "eve", "scopes": ["score"]},
    "POST /v1/thresholds": {"review": 0.5, "decline": 0.6},
}


@pytest.fixture
async def owner(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A tenant with something of everything."""
    await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    bodies = {"transactions": [posted(f"t-{n}", amount=50 + n) for n in range(4)]}
    await client.post("/v1/transactions/batch", json=bodies)
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    await client.put("/v1/reviews/t-2/assignee", json={"assignee": "mia"})
    return client


async def everything(client: httpx.AsyncClient) -> list[Any]:
    """All that a tenant can read of its rows."""
    paths = [
        *LISTS,
        "/v1/thresholds",
        "/v1/reviews?status=resolved",
        "/v1/accounts/alice/influence",
    ]
    paths += [f"/v1/transactions/t-{n}/label" for n in range(4)]
    return [(await client.get(path)).json() for path in paths]


def address(owner: httpx.AsyncClient, path: str) -> str:
    """Where the owner has something."""
    key_id = owner.headers["Authorization"].split("_")[1]
    return path.format(
        transaction_id="t-1",
        account_id="alice",
        revision=1,
        key_id=key_id,
        name="x",
        webhook_id="0" * 12,
    )


@pytest.mark.parametrize(("method", "path"), NAMED, ids=" ".join)
async def test_what_another_tenant_has_is_not_found(
    owner: httpx.AsyncClient, stranger: httpx.AsyncClient, method: str, path: str
) -> None:
    before = await everything(owner)
    body = BODIES.get(f"{method} {path}")
    own = await owner.request("GET", "/v1/transactions/t-1")
    assert own.status_code == 200
    refused = await stranger.request(method, address(owner, path), json=body)
    status, code = problem_of(refused)
    assert (status, code.endswith("_not_found")) == (404, True)
    assert await everything(owner) == before


async def test_lists_hold_the_rows_of_the_caller_alone(
    owner: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    for path in LISTS:
        assert (await owner.get(path)).json()["data"]
        assert (await stranger.get(path)).json()["data"] == []
    assert (await stranger.get("/v1/thresholds")).json()["source"] == "model"


async def test_ids_labels_and_thresholds_of_one_tenant_touch_no_other(
    owner: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    before = await everything(owner)
    labelled = await stranger.post("/v1/labels", json=BODIES["POST /v1/labels"])
    assert labelled.json()["results"][0]["error"]["code"] == "transaction_not_found"
    for method, path in OPERATIONS:
        if method == "POST" and "{" not in path:
            answer = await stranger.request(method, path, json=BODIES.get(f"{method} {path}"))
            # It has no past of its own, and the webhook is refused whoever asks.
            expected = {"/v1/models/rollback": 409, "/v1/webhooks": 422}.get(path, 200)
            assert answer.status_code == expected, answer.text
            assert "alice" in answer.text or "transactions" not in path
    assert await everything(owner) == before


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=" ".join)
async def test_nothing_is_told_without_a_key(
    edge: httpx.AsyncClient, method: str, path: str
) -> None:
    for header in ({"Authorization": ""}, {"Authorization": "Bearer qs_000000000000_wrong"}):
        body = BODIES.get(f"{method} {path}")
        refused = await edge.request(method, address(edge, path), json=body, headers=header)
        assert problem_of(refused) == (401, "unauthenticated")


SCOPED = [
    pytest.param(
        method.upper(), path, operation["security"][0]["API key"][0], id=f"{method} {path}"
    )
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if path.startswith("/v1")
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
async def test_a_key_without_the_scope_is_refused_by_every_operation(
    edge: httpx.AsyncClient, method: str, path: str, scope: str
) -> None:
    others = [one for one in SCOPES if one != scope]
    made = await edge.post("/v1/keys", json={"name": "limited", "scopes": others})
    headers = {"Authorization": f"Bearer {made.json()['key']}"}
    body = BODIES.get(f"{method} {path}")
    refused = await edge.request(method, address(edge, path), json=body, headers=headers)
    assert problem_of(refused) == (403, "missing_scope")
    assert scope in refused.json()["detail"]

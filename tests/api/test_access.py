"""Who may do what: every operation of the OpenAPI document, called by everyone who may not.

What a refused request leaves behind is looked for in the database itself.
"""

from typing import Any, NamedTuple

import httpx
import pytest

from app.db.connection import Connection
from app.db.database import Database
from app.http.keyed import KeyedRoute
from app.http.lean import ScoringRoute
from app.keys import service as keys
from app.keys.scopes import SCOPES
from app.learner.transaction import DAY_US
from app.main import ROUTES, create_app
from app.people import store as people_store
from app.people.records import Person
from app.settings import Settings
from app.times import now_us, text_of
from app.webhooks import store as webhook_store
from app.webhooks.records import Webhook
from app.webhooks.service import new_secret
from tests.api.callers import openapi_document, part_of
from tests.api.requests import label, posted, problem_of
from tests.reliability.stored import contents

pytestmark = pytest.mark.anyio
DOCUMENT = openapi_document()
# Each with the scope that it requires.
SCOPED = {
    (method.upper(), path): operation["security"][0]["api_key"][0]
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if path.startswith("/v1")
}
OPERATIONS = list(SCOPED)
# Names of searches are each caller's own: what another has saved is in nobody's way.
NAMED = [
    (method, path)
    for method, path in OPERATIONS
    if "{" in path and (method, path) != ("PUT", "/v1/searches/{name}")
]
WEBHOOK, PERSON = "feedfacecafe", "decafbadc0de"
LISTS = [
    *("/v1/transactions", "/v1/accounts", "/v1/reviews", "/v1/thresholds/history"),
    *("/v1/people", "/v1/webhooks", "/v1/searches"),
    "/v1/audit-log?action=label.set",
]
BODIES: dict[str, Any] = {
    "PUT /v1/transactions/{transaction_id}/label": {"label": "legitimate"},
    "PUT /v1/transactions/{transaction_id}/status": {"status": "declined"},
    "PUT /v1/transactions/statuses": {
        "statuses": [{"transaction_id": "t-1", "status": "declined"}]
    },
    "POST /v1/accounts/{account_id}/labels": {"labels": [label("t-1", "legitimate")]},
    "POST /v1/accounts/{account_id}/adapt": {"dry_run": True, "labels": [label("t-1")]},
    "POST /v1/accounts/{account_id}/rollback": {"revision": 0},
    "PUT /v1/reviews/{transaction_id}/assignee": {"assignee": "eve"},
    "PUT /v1/reviews/{transaction_id}/snooze": {"until": text_of(now_us() + 10 * DAY_US)},
    "POST /v1/accounts/{account_id}/notes": {"text": "Called."},
    "POST /v1/reviews/next": {"assignee": "eve"},
    "PUT /v1/searches/{name}": {"label": "none"},
    "POST /v1/transactions": posted("t-1", amount=1),
    "POST /v1/transactions/batch": {"transactions": [posted("t-2", amount=1)]},
    "POST /v1/labels": {"labels": [label("t-1", "legitimate")]},
    # CSV, and not JSON.
    "POST /v1/labels/import": "transaction,label\nt-1,legitimate\n",
    "POST /v1/webhooks": {"url": "https://192.0.2.1/", "events": ["label.changed"]},
    "POST /v1/keys": {"name": "eve", "scopes": ["score"]},
    "POST /v1/people": {"name": "eve", "role": "auditor"},
    "PUT /v1/people/{person_id}/role": {"role": "lead"},
    "PUT /v1/people/{person_id}/password": {
        "password": "correct horse battery",
        "new_password": "a stapled donkey",
    },
    "POST /v1/thresholds": {"review": 0.5, "decline": 0.6},
    "POST /v1/models/{name}/promote": {"comparison": "0" * 16},
}


def body_of(method: str, path: str) -> dict[str, Any]:
    """The body of a valid request, as an argument of httpx."""
    body = BODIES.get(f"{method} {path}")
    return {"content": body} if isinstance(body, str) else {"json": body}


async def furnish(client: httpx.AsyncClient) -> None:
    """Something of everything that a tenant can have."""
    await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    bodies = {"transactions": [posted(f"t-{n}", amount=50 + n) for n in range(4)]}
    await client.post("/v1/transactions/batch", json=bodies)
    await client.put("/v1/transactions/t-1/label", json={"label": "fraud"})
    await client.put("/v1/reviews/t-2/assignee", json={"assignee": "mia"})
    await client.put("/v1/searches/x", json={"label": "none"})
    # Past the route, which would look the host up; no event here is sent to it.
    webhook = Webhook(
        *("default", WEBHOOK, "https://service.example/", "model.activated", new_secret()),
        *(None, None, now_us()),
    )
    # Likewise, to have an id that is known.
    person = Person(PERSON, "default", "mia", None, "analyst", None, now_us(), None)

    async def save(connection: Connection) -> None:
        await webhook_store.save_webhook(connection, webhook)
        await people_store.add_person(connection, person)

    await part_of(client, Database).run(save)


@pytest.fixture
async def owner(sole: httpx.AsyncClient) -> httpx.AsyncClient:
    await furnish(sole)
    return sole


@pytest.fixture(scope="module")
async def shared_owner(shared: httpx.AsyncClient) -> httpx.AsyncClient:
    await furnish(shared)
    return shared


async def everything(client: httpx.AsyncClient) -> list[Any]:
    """All that a tenant can read of its rows."""
    paths = [
        *LISTS,
        "/v1/thresholds",
        "/v1/reviews?status=resolved",
        "/v1/accounts/alice/influence",
        "/v1/accounts/alice/links",
        "/v1/entities/merchant/gadgets",
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
        kind="merchant",
        entity_id="gadgets",
        key_id=key_id,
        name="x",
        webhook_id=WEBHOOK,
        person_id=PERSON,
        comparison_id="0" * 16,
        drift_id="0" * 16,
        erasure_id="0" * 24,
    )


@pytest.mark.parametrize(("method", "path"), NAMED, ids=map(" ".join, NAMED))
async def test_what_another_tenant_has_is_not_found(
    shared_owner: httpx.AsyncClient, shared_stranger: httpx.AsyncClient, method: str, path: str
) -> None:
    before = await contents(part_of(shared_owner, Database))
    body = BODIES.get(f"{method} {path}")
    own = await shared_owner.request("GET", "/v1/transactions/t-1")
    assert own.status_code == 200
    refused = await shared_stranger.request(method, address(shared_owner, path), json=body)
    status, code = problem_of(refused)
    assert (status, code.endswith("_not_found")) == (404, True)
    assert await contents(part_of(shared_owner, Database)) == before


async def test_lists_hold_the_rows_of_the_caller_alone(
    owner: httpx.AsyncClient, sole_stranger: httpx.AsyncClient
) -> None:
    for path in LISTS:
        assert (await owner.get(path)).json()["data"]
        assert (await sole_stranger.get(path)).json()["data"] == []
    assert (await sole_stranger.get("/v1/thresholds")).json()["source"] == "model"


async def test_ids_labels_and_thresholds_of_one_tenant_touch_no_other(
    owner: httpx.AsyncClient, sole_stranger: httpx.AsyncClient
) -> None:
    before = await everything(owner)
    labelled = await sole_stranger.post("/v1/labels", json=BODIES["POST /v1/labels"])
    assert labelled.json()["results"][0]["error"]["code"] == "transaction_not_found"
    for method, path in OPERATIONS:
        if method == "POST" and "{" not in path:
            answer = await sole_stranger.request(method, path, **body_of(method, path))
            # It has no past of its own, and the webhook is refused whoever asks.
            expected = {
                "/v1/models/rollback": 409,
                "/v1/webhooks": 422,
                "/v1/reviews/next": 404,
                "/v1/demo": 409,
            }.get(path, 200)
            assert answer.status_code == expected, answer.text
            assert "alice" in answer.text or "transactions" not in path
    assert await everything(owner) == before


UNKNOWN = [
    *("no key", "no secret", "wrong secret", "secret of another key", "unknown id"),
    *("malformed key", "malformed id", "other scheme", "revoked key", "expired key"),
]


class Intruders(NamedTuple):
    """What those who may not would send as `Authorization`."""

    unknown: dict[str, str]
    # Keys that may do all but what this scope lets do.
    lacking: dict[str, str]


@pytest.fixture(scope="module")
async def intruders(edge: httpx.AsyncClient) -> Intruders:
    """At the door of a tenant with something of everything."""
    await furnish(edge)
    database = part_of(edge, Database)
    whole = edge.headers["Authorization"]
    start, key_id, secret = whole.split("_", 2)
    public = f"{start}_{key_id}"
    revoked, replaced = [await keys.create(database, name) for name in ("revoked", "replaced")]
    await keys.revoke(database, revoked.split("_")[1])
    await keys.rotate(database, replaced.split("_")[1], hours=0)
    unknown = [
        "",
        f"{public}_",
        f"{public}_{secret[::-1]}",
        f"{public}_{revoked.split('_', 2)[2]}",
        f"Bearer qs_000000000000_{secret}",
        "Bearer \u00e9' OR 1=1 --",
        f"Bearer qs_%_{secret}",
        whole.replace("Bearer", "Basic"),
        f"Bearer {revoked}",
        f"Bearer {replaced}",
    ]
    lacking = {
        scope: await keys.create(
            database, scope, scopes=[allowed for allowed in SCOPES if allowed != scope]
        )
        for scope in SCOPES
    }
    return Intruders(dict(zip(UNKNOWN, unknown, strict=True)), lacking)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=map(" ".join, OPERATIONS))
async def test_nobody_without_a_live_key_and_its_scope_does_or_learns_anything(
    edge: httpx.AsyncClient, intruders: Intruders, method: str, path: str
) -> None:
    scope, body = SCOPED[method, path], BODIES.get(f"{method} {path}")
    before = await contents(part_of(edge, Database))
    for kind, header in intruders.unknown.items():
        # What is wrong with the body is nobody's business either.
        for content in (body, {"unheard of": 1}):
            refused = await edge.request(
                method,
                address(edge, path),
                json=content,
                headers={"Authorization": header.encode("latin-1")},
            )
            assert problem_of(refused) == (401, "unauthenticated"), kind
            assert refused.headers["www-authenticate"] == 'Bearer realm="quickstudy"'
    refused = await edge.request(
        method,
        address(edge, path),
        json=body,
        headers={"Authorization": f"Bearer {intruders.lacking[scope]}"},
    )
    assert problem_of(refused) == (403, "missing_scope")
    assert scope in refused.json()["detail"]
    assert await contents(part_of(edge, Database)) == before


def scope_for(method: str, path: str) -> str:
    """What a route ought to ask for: the document says what it does."""
    is_changed = method != "GET"
    is_for_admins = path.startswith(("/v1/people", "/v1/demo"))
    if path.startswith(("/v1/keys", "/v1/webhooks")) or (is_changed and is_for_admins):
        return "admin"
    if method == "GET" or path.endswith("/replay") or path.startswith("/v1/searches"):
        return "read"
    if path in ("/v1/transactions", "/v1/transactions/batch") or "/status" in path:
        return "score"
    if path.startswith(("/v1/models", "/v1/thresholds")):
        return "manage"
    if path.startswith("/v1/reviews") or path.endswith("/notes"):
        return "decide"
    return "admin" if path == "/v1/accounts/{account_id}" else "label"


def test_every_operation_requires_its_scope() -> None:
    assert {scope_for(*operation) for operation in OPERATIONS} == set(SCOPES)
    assert {operation: scope_for(*operation) for operation in OPERATIONS} == SCOPED


async def test_a_key_that_may_read_changes_nothing_but_its_own_searches(
    edge: httpx.AsyncClient, intruders: Intruders
) -> None:
    before = await contents(part_of(edge, Database))
    for (method, path), scope in SCOPED.items():
        if scope == "read" or method == "GET":
            body = body_of(method, path) if f"{method} {path}" in BODIES else {}
            answer = await edge.request(method, address(edge, path), **body)
            assert answer.status_code in {200, 404}, (method, path)
    # Figures are kept so that the next to read them need not wait: nothing decides by them.
    after = await contents(part_of(edge, Database))
    own = {name: before[name] for name in ("figures", "searches")}
    assert after | own == before


async def test_the_key_that_has_the_scope_is_let_in_by_every_operation(
    edge: httpx.AsyncClient, intruders: Intruders
) -> None:
    # Else the matrix would hold of a service that refuses everybody.
    for (method, path), scope in SCOPED.items():
        key = await keys.create(part_of(edge, Database), "alone", tenant="third", scopes=[scope])
        answer = await edge.request(
            method,
            address(edge, path),
            **body_of(method, path),
            headers={"Authorization": f"Bearer {key}"},
        )
        assert answer.status_code in {200, 202, 404, 409, 422}, (method, path)


def test_every_route_is_in_the_document_and_three_need_no_key() -> None:
    app = create_app(Settings(database_url="sqlite:///unused.db"))
    assert not any(getattr(route, "path", None) for route in app.routes)
    assert {route.path for route in ROUTES} == set(DOCUMENT["paths"])  # type: ignore[attr-defined]
    assert set(DOCUMENT["paths"]) - {path for _, path in OPERATIONS} == {
        *("/livez", "/readyz", "/metrics")
    }


def test_every_route_of_the_api_checks_the_key_before_the_body() -> None:
    routes = {type(route) for route in ROUTES if getattr(route, "path", "").startswith("/v1")}
    assert routes == {KeyedRoute, ScoringRoute}

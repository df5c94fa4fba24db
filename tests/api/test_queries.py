"""Query parameters and bodies that a route does not take are refused, on every route with a key."""

import re
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app.http.keyed import parameters_of
from app.main import ROUTES
from tests.api.requests import label, posted, problem_of

pytestmark = pytest.mark.anyio

OPEN = {"/livez", "/readyz", "/metrics"}
OPERATIONS = [
    pytest.param(method, re.sub(r"\{\w+\}", "1", route.path), route, id=f"{method} {route.path}")
    for route in ROUTES
    if isinstance(route, APIRoute) and route.path not in OPEN
    for method in sorted(route.methods)
]


def parameters(document: dict[str, Any], method: str, route: APIRoute) -> set[str]:
    """The query parameters of an operation, as the OpenAPI document has them."""
    found = document["paths"][route.path][method.lower()].get("parameters", [])
    return {parameter["name"] for parameter in found if parameter["in"] == "query"}


@pytest.mark.parametrize(("method", "path", "route"), OPERATIONS)
async def test_every_route_refuses_a_parameter_that_it_does_not_have_and_names_those_it_has(
    edge: httpx.AsyncClient, method: str, path: str, route: APIRoute
) -> None:
    document = (await edge.get("/openapi.json")).json()
    names = parameters(document, method, route)
    for query, wrong in [
        ("nonsense=1", "nonsense"),
        ("Limit=1", "Limit"),
        ("limit%20=1", "limit "),
        ("flag", "flag"),
        ("=1", ""),
        ("%F0%9F%A6%8A=%FF", "🦊"),
        *((f"{name}=1&{name}=1", name) for name in names),
    ]:
        answer = await edge.request(method, f"{path}?{query}")
        assert problem_of(answer) == (422, "validation_failed"), query
        errors = answer.json()["errors"]
        assert [error["field"] for error in errors] == [wrong]
        if wrong in names:
            assert "more than once" in errors[0]["message"]
        else:
            assert "unknown query parameter" in errors[0]["message"]
            assert all(name in errors[0]["message"] for name in names)
            assert names or "none" in errors[0]["message"]
        assert errors[0]["message"] in answer.json()["detail"]


async def test_no_route_looks_for_a_text_that_a_database_cannot_hold(
    shared: httpx.AsyncClient,
) -> None:
    for operation in OPERATIONS:
        method, path, route = operation.values
        spoilt = re.sub(r"\{\w+\}", "%00", route.path)
        addresses = [f"{path}?{name}=%00" for name in parameters_of(route)]
        if spoilt != path:
            addresses.append(spoilt)
        for address in addresses:
            answer = await shared.request(method, address)
            assert answer.status_code in (404, 422), (method, address, answer.text)


@pytest.mark.parametrize(("method", "path", "route"), OPERATIONS)
async def test_a_caller_without_a_key_learns_nothing_of_the_query(
    edge: httpx.AsyncClient, method: str, path: str, route: APIRoute
) -> None:
    answer = await edge.request(method, f"{path}?nonsense=1", headers={"Authorization": ""})
    assert problem_of(answer) == (401, "unauthenticated")


async def test_what_is_misplaced_in_the_query_stores_nothing(client: httpx.AsyncClient) -> None:
    for name in ("t-1", "t-2"):
        assert (await client.post("/v1/transactions", json=posted(name))).status_code == 200
    before = (await client.get("/v1/accounts/alice")).json()
    for method, path, body in (
        ("POST", "/v1/transactions", posted("t-3")),
        ("POST", "/v1/transactions/batch", {"transactions": [posted("t-3")]}),
        ("POST", "/v1/labels", {"labels": [label("t-1")]}),
        ("POST", "/v1/accounts/alice/labels", {"labels": [label("t-1")]}),
        ("POST", "/v1/accounts/alice/adapt", {"dry_run": True, "labels": [label("t-1")]}),
        ("PUT", "/v1/transactions/t-1/label", {"label": "fraud"}),
        ("DELETE", "/v1/accounts/alice", None),
    ):
        answer = await client.request(method, f"{path}?dry_run=true", json=body)
        assert problem_of(answer) == (422, "validation_failed")
    assert (await client.get("/v1/accounts/alice")).json() == before
    assert (await client.get("/v1/transactions/t-3")).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        pytest.param(*operation.values[:2], id=operation.id)
        for operation in OPERATIONS
        if operation.values[2].body_field is None
    ],
)
async def test_a_route_without_a_body_refuses_one_that_says_something(
    edge: httpx.AsyncClient, method: str, path: str
) -> None:
    for body in ('{"dry_run": true}', "dry_run=true", "[]"):
        answer = await edge.request(method, path, content=body)
        assert problem_of(answer) == (422, "validation_failed")
        assert "takes no body" in answer.json()["detail"]


async def test_a_body_that_would_not_be_heeded_changes_nothing(client: httpx.AsyncClient) -> None:
    await client.post("/v1/transactions", json=posted("t-1"))
    answer = await client.request("DELETE", "/v1/accounts/alice", json={"dry_run": True})
    assert problem_of(answer) == (422, "validation_failed")
    # Clients that send something with every request have nothing to say here.
    for nothing in (b"", b" {} ", b"null"):
        assert (await client.request("GET", "/v1/accounts/alice", content=nothing)).is_success
    assert (await client.request("DELETE", "/v1/accounts/alice", json={})).is_success


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_probes_may_add_what_they_like(edge: httpx.AsyncClient, path: str) -> None:
    assert (await edge.get(f"{path}?probe=1&probe=2")).status_code == 200


async def test_a_query_without_parameters_is_none(edge: httpx.AsyncClient) -> None:
    for query in ("?", "?&", "?&&"):
        assert (await edge.get(f"/v1/accounts{query}")).status_code == 200

"""Headers of every answer for browsers; no other origin is let in; pages can be switched off."""

from collections.abc import AsyncIterator

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from app.web.docs import POLICY
from app.web.observation import SECURITY_HEADERS
from tests.api.callers import app_of, client_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio
EXPECTED = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
PAGES = ["/docs", "/docs/page.js", "/docs/swagger-ui.js", "/docs/swagger-ui.css", "/openapi.json"]


async def answers(client: httpx.AsyncClient) -> AsyncIterator[httpx.Response]:
    """One of every kind, from every layer that answers."""
    yield await client.post("/v1/transactions", json=posted())
    yield await client.post("/v1/transactions/batch", json={"transactions": [posted()]})
    yield await client.post(
        "/v1/transactions", content="{", headers={"Content-Type": "application/json"}
    )
    yield await client.post("/v1/transactions", headers={"Content-Length": "9" * 12})
    yield await client.post("/v1/labels", json={})
    yield await client.get("/v1/accounts", headers={"Authorization": ""})
    yield await client.get("/v1/accounts")
    yield await client.get("/v1/accounts/nobody")
    yield await client.get("/nowhere")
    yield await client.put("/v1/transactions")
    for path in ("/livez", "/readyz", "/metrics", *PAGES):
        yield await client.get(path)
    pipeline, app_of(client).state.service = app_of(client).state.service, None
    try:
        yield await client.post("/v1/transactions", json=posted("t-2"))
        yield await client.get("/v1/accounts")
    finally:
        app_of(client).state.service = pipeline


async def test_every_answer_has_the_headers_once_and_an_id(edge: httpx.AsyncClient) -> None:
    assert {name.decode(): value.decode() for name, value in SECURITY_HEADERS} == EXPECTED
    seen = []
    async for answer in answers(edge):
        for name, value in EXPECTED.items():
            if (name, answer.request.url.path) == ("content-security-policy", "/docs"):
                value = POLICY
            assert answer.headers.get_list(name) == [value], (answer.request.url, name)
        assert len(answer.headers["x-request-id"]) == 16
        seen.append(answer.status_code)
    assert set(seen) == {200, 400, 401, 404, 405, 413, 422, 500}
    assert seen.count(500) == 2


async def test_no_other_origin_is_let_in(edge: httpx.AsyncClient) -> None:
    origin = {"Origin": "https://elsewhere.example", "Authorization": "Bearer x"}
    preflight_headers = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "*",
    }
    for path in ("/v1/transactions", "/v1/transactions/batch", "/v1/accounts", "/metrics"):
        preflight = await edge.options(path, headers={**origin, **preflight_headers})
        assert problem_of(preflight) == (405, "method_not_allowed")
        answer = await edge.get(path, headers=origin)
        for response in (preflight, answer):
            assert [name for name in response.headers if name.startswith("access-control")] == []


async def test_an_invented_method_is_logged_as_other(edge: httpx.AsyncClient) -> None:
    refused = await edge.request("CANARY", "/v1/accounts")
    assert problem_of(refused) == (405, "method_not_allowed")
    exposition = (await edge.get("/metrics")).text
    assert "CANARY" not in exposition
    assert 'method="other",route="/v1/accounts",status="405"' in exposition


async def test_the_pages_can_be_switched_off() -> None:
    settings = Settings(database_url="sqlite:///unused.db", docs=False)
    async with client_of(create_app(settings), "x") as client:
        for path in PAGES:
            assert problem_of(await client.get(path)) == (404, "not_found")
    async with client_of(create_app(settings.model_copy(update={"docs": True})), "x") as client:
        for path in PAGES:
            assert (await client.get(path)).status_code == 200

"""The scoring routes read and write bytes themselves: they answer as every other route does."""

import inspect
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from app.http.authentication import authenticated_caller
from app.main import ROUTES
from tests.api.callers import app_of
from tests.api.requests import posted, problem_of

pytestmark = pytest.mark.anyio

PATHS = ["/v1/transactions", "/v1/transactions/batch"]
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_body_of_another_content_type_is_refused(
    edge: httpx.AsyncClient, path: str, kind: str
) -> None:
    answer = await edge.post(
        path, content=json.dumps(posted()), headers={"Content-Type": kind} if kind else {}
    )
    assert problem_of(answer) == (422, "validation_failed")
    assert answer.json()["errors"][0]["field"] == "body"


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/ld+JSON"])
async def test_json_has_several_names(edge: httpx.AsyncClient, kind: str) -> None:
    content = json.dumps(posted())
    answer = await edge.post("/v1/transactions", content=content, headers={"Content-Type": kind})
    assert answer.status_code == 200


@pytest.mark.parametrize("path", PATHS)
async def test_an_empty_body_is_missing(edge: httpx.AsyncClient, path: str) -> None:
    answer = await edge.post(path, headers=JSON)
    assert problem_of(answer) == (422, "validation_failed")
    assert answer.json()["errors"] == [{"field": "body", "message": "Field required"}]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a": 1} x', b"[" * 10_000])
async def test_what_is_not_json_is_malformed(
    edge: httpx.AsyncClient, path: str, body: bytes
) -> None:
    answer = await edge.post(path, content=body, headers=JSON)
    assert problem_of(answer) == (400, "malformed_body")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer ", "Basic cXM6", "Token qs_1_2"])
async def test_a_caller_without_a_key_learns_nothing_of_the_body(
    edge: httpx.AsyncClient, path: str, authorization: str
) -> None:
    headers = {**JSON, "Authorization": authorization}
    answer = await edge.post(path, content=b"{", headers=headers)
    assert problem_of(answer) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_one_and_many_are_written_alike(client: httpx.AsyncClient) -> None:
    single = await client.post("/v1/transactions", json=posted())
    many = await client.post("/v1/transactions/batch", json={"transactions": [posted()]})
    stored = await client.get("/v1/transactions/t-1")
    assert single.headers["content-type"] == many.headers["content-type"] == "application/json"
    assert many.json()["results"] == [single.json()]
    assert stored.json()["score"] == single.json()
    assert single.content in many.content


async def test_a_service_below_a_path_of_a_proxy_answers_too(client: httpx.AsyncClient) -> None:
    transport = httpx.ASGITransport(app_of(client), root_path="/fraud")
    async with httpx.AsyncClient(transport=transport, base_url="http://proxy") as below:
        answer = await below.post(
            "/fraud/v1/transactions", json=posted(), headers=dict(client.headers)
        )
    assert answer.status_code == 200
    assert answer.json()["transaction_id"] == "t-1"


async def test_a_body_that_comes_in_chunks_is_read_whole_and_limited(
    client: httpx.AsyncClient,
) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        text = json.dumps(posted()).encode()
        yield text[:20]
        yield text[20:]
        for _ in range(size):
            yield b" " * (1 << 20)

    whole = await client.post("/v1/transactions", content=chunks(1), headers=JSON)
    assert whole.status_code == 200
    large = await client.post("/v1/transactions", content=chunks(5), headers=JSON)
    assert problem_of(large) == (413, "body_too_large")


async def test_a_wrong_method_is_answered_with_the_allowed_ones(edge: httpx.AsyncClient) -> None:
    answer = await edge.request("PUT", "/v1/transactions")
    assert problem_of(answer) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "GET, HEAD, POST"


def dependencies_of(dependant: Any) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from dependencies_of(dependency)


def test_no_request_waits_for_a_thread_to_look_up_what_it_depends_on() -> None:
    found = {
        call
        for route in ROUTES
        if isinstance(route, APIRoute)
        for call in dependencies_of(route.dependant)
    }
    assert authenticated_caller in found
    # FastAPI calls in a thread what is not asynchronous itself, or by its `__call__`.
    assert [dependency for dependency in found if not asynchronous(dependency)] == []


def asynchronous(call: Any) -> bool:
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(type(call).__call__)

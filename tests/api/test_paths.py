"""Ids in paths: whatever an id may hold, its address leads to it and to nothing else."""

import asyncio
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from starlette.types import Receive, Scope, Send

from app.http.paths import AccountId, EncodedSlashes
from tests.api.requests import posted, problem_of
from tests.conftest import mainly

# What Id allows: no control characters, no lone surrogates.
ids = st.text(
    st.characters(
        exclude_categories=["Cs"], exclude_characters=[*map(chr, [*range(32), *range(127, 160)])]
    ),
    min_size=1,
    max_size=128,
)
AWKWARD = [
    "a/b",
    "a/label",
    "/",
    "//",
    "a%2Fb",
    "%",
    "%25",
    "%2525",
    ".",
    "..",
    "../a",
    "batch",
    "a?b#c",
    "a+b c",
    ";a=b",
    "é",
    "e\u0301",
    "\u202eevil",
    "🦊",
    "\ufffd",
    "a:b@c",
]


ACCOUNT_ID = TypeAdapter[str](AccountId)


def routed_path(encoded: str) -> str:
    """The path that routes see of an address that ends with this segment."""
    seen: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["path"])

    async def pass_on() -> None:
        raw = f"/v1/accounts/{encoded}?limit=1".encode()
        path = unquote(raw.partition(b"?")[0])
        scope = {"type": "http", "path": path, "raw_path": raw}
        # Nothing is received or sent on the way there.
        await EncodedSlashes(application)(scope, pytest.fail, pytest.fail)

    asyncio.run(pass_on())
    return seen[0]


@given(ids)
def test_every_id_comes_out_of_its_segment_as_it_went_in(identifier: str) -> None:
    before, version, subject, segment = routed_path(quote(identifier, safe="")).split("/")
    assert (before, version, subject) == ("", "v1", "accounts")
    assert ACCOUNT_ID.validate_python(segment) == identifier


@mainly("sqlite", "shared_database_url")
@pytest.mark.anyio
async def test_awkward_ids_are_scored_read_labelled_and_erased_at_their_own_address(
    client: httpx.AsyncClient,
) -> None:
    bodies = [posted(name, account_id=name) for name in AWKWARD]
    scored = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert all("probability" in result for result in scored.json()["results"])
    for name in AWKWARD:
        # httpx would resolve a segment of dots, as clients do; they are encoded beyond need.
        path = quote(name, safe="").replace(".", "%2E")
        read = await client.get(f"/v1/transactions/{path}")
        assert read.json()["transaction_id"] == name
        account = await client.get(f"/v1/accounts/{path}")
        assert account.json()["account_id"] == name
        labelled = await client.put(f"/v1/transactions/{path}/label", json={"label": "fraud"})
        assert labelled.json()["account_id"] == name
        history = await client.get(f"/v1/transactions/{path}/label")
        assert [event["label"] for event in history.json()["history"]] == ["fraud"]
    for name in AWKWARD:
        path = quote(name, safe="").replace(".", "%2E")
        erased = await client.delete(f"/v1/accounts/{path}")
        assert erased.json()["account_id"] == name
        assert erased.json()["erased"]["transactions"] == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "segment", ["%00", "%1F", "%7F", "%C2%85", "a" * 129, "%F0%9F%A6%8A" * 129]
)
async def test_what_no_id_may_hold_is_refused_by_name(
    edge: httpx.AsyncClient, segment: str
) -> None:
    for path in ("/v1/transactions/{}", "/v1/transactions/{}/label", "/v1/accounts/{}/influence"):
        refused = await edge.get(path.format(segment))
        assert problem_of(refused) == (422, "validation_failed")
        assert refused.json()["errors"][0]["field"].endswith("_id")


@pytest.mark.anyio
@pytest.mark.parametrize("segment", ["%ff", "%C3", "%ED%A0%80", "%zz", "%"])
async def test_bytes_that_are_no_text_name_nothing(edge: httpx.AsyncClient, segment: str) -> None:
    request = httpx.Request("GET", "http://service/", headers=edge.headers)
    raw = b"/v1/transactions/" + segment.encode()
    request.url = httpx.URL("http://service").copy_with(raw_path=raw)
    assert problem_of(await edge.send(request)) == (404, "transaction_not_found")


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/transactions/a/b", "/v1/accounts/a/b/labels", "/v1/nothing"])
async def test_a_bare_slash_leads_nowhere(edge: httpx.AsyncClient, path: str) -> None:
    assert problem_of(await edge.get(path)) == (404, "not_found")


def test_what_is_no_utf8_reads_as_the_replacement_character() -> None:
    assert routed_path("%ff") == "/v1/accounts/\ufffd"

"""Ids in paths: whatever an id may hold, its address leads to it and to nothing else."""

from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.paths import _decoded, _segment
from tests.api.requests import posted, problem_of

# What Id allows: no control characters, no lone surrogates.
ids = st.text(
    st.characters(
        exclude_categories=["Cs"], exclude_characters=map(chr, [*range(32), *range(127, 160)])
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


@given(ids)
def test_every_id_comes_out_of_its_segment_as_it_went_in(identifier: str) -> None:
    assert _decoded(_segment(quote(identifier, safe=""))) == identifier


@given(ids)
def test_a_segment_never_holds_a_slash_that_could_split_it(identifier: str) -> None:
    assert "/" not in _segment(quote(identifier, safe=""))


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
    assert _decoded(_segment("%ff")) == unquote("%ff") == "\ufffd"

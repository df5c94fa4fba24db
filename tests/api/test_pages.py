"""Cursors are opaque, yet anybody can write one: each is refused, or pages on; none breaks."""

import base64
import json
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.db.pages import Part
from app.errors import ValidationFailed
from app.http.paging import BY_ID, BY_RISK, BY_TIME, BY_TIMES, Cursor, PageParams
from app.scoring.store import Filters
from tests.api.requests import posted, problem_of

KEYS: list[tuple[Cursor, tuple[Any, ...]]] = [
    (BY_ID, ("a-17",)),
    (BY_TIME, (-(2**63), "🦊" * 128)),
    (BY_RISK, (61.0, "t-1")),
    (BY_RISK, (0.1 + 0.2, "t-1")),
    (BY_TIMES, (0, 2**63 - 1)),
]
LISTS = {
    "/v1/accounts": ("accounts", None),
    "/v1/transactions": ("transactions", *Filters()),
    "/v1/reviews": ("reviews", "review", "open", None, None, "risk", False),
    "/v1/reviews?order=age": ("reviews", "review", "open", None, None, "age", False),
    "/v1/thresholds/history": ("thresholds",),
}


def cursor_of(*parts: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def digest_of(*listed: Any) -> str:
    """What the cursors of a list begin with."""
    return PageParams(1, None).of(BY_ID, *listed).digest


@pytest.mark.parametrize(("kind", "key"), KEYS)
def test_a_cursor_brings_back_the_very_key_that_it_was_made_of(
    kind: Cursor, key: tuple[Any, ...]
) -> None:
    listed = PageParams(1, None).of(kind, "list", "filter")
    cursor = listed.next_cursor(Part([1, 2], None), lambda _: key)
    assert cursor is not None
    assert len(cursor) <= 1000
    assert PageParams(1, cursor).of(kind, "list", "filter") == listed._replace(after=key)
    with pytest.raises(ValidationFailed, match="other filters"):
        PageParams(1, cursor).of(kind, "list", "another filter")


Anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)


@given(
    text=st.text() | Anything.map(json.dumps).map(lambda t: base64.urlsafe_b64encode(t.encode()))
)
def test_no_text_at_all_makes_a_cursor_do_anything_but_be_refused(text: str | bytes) -> None:
    cursor = text.decode() if isinstance(text, bytes) else text
    for kind in (BY_ID, BY_TIME, BY_RISK, BY_TIMES):
        with pytest.raises(ValidationFailed):
            PageParams(1, cursor).of(kind, "list")


FORGED = [
    (),
    (1,),
    ("a",),
    (1, "a", "b"),
    (True, "a"),
    ("1", "a"),
    (2**63, "a"),
    (-(2**63) - 1, "a"),
    (10**400, "a"),
    (float("nan"), "a"),
    (float("inf"), "a"),
    (1, ""),
    (1, "a" * 129),
    (1, "a\x00b"),
    (1, "\ud800"),
    (1, None),
    (1, ["a"]),
    (None, None),
    ({}, {}),
]


@pytest.mark.anyio
@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_with_the_right_digest_and_a_forged_key_is_refused_or_pages_on(
    edge: httpx.AsyncClient, path: str
) -> None:
    await edge.post("/v1/transactions", json=posted("forged"))
    for key in FORGED:
        forged = httpx.URL(path).copy_merge_params(
            {"cursor": cursor_of(digest_of(*LISTS[path]), *key)}
        )
        answer = await edge.get(forged)
        if answer.status_code != 200:
            assert problem_of(answer) == (422, "validation_failed"), key
            assert answer.json()["errors"][0]["field"] == "cursor"


@pytest.mark.anyio
@pytest.mark.parametrize("path", LISTS)
async def test_the_furthest_keys_page_to_nothing_or_to_all_on_both_databases(
    shared: httpx.AsyncClient, path: str
) -> None:
    await shared.post("/v1/transactions", json=posted())
    furthest = {
        "/v1/accounts": [("\u00a0",), ("\U0010ffff",)],
        "/v1/thresholds/history": [(-(2**63), 0), (2**63 - 1, 2**63 - 1)],
    }.get(
        path,
        [(-(2**63), "a"), (2**63 - 1, "a")] if "age" in path else [(-1e308, "a"), (1e308, "a")],
    )
    if path == "/v1/transactions":
        furthest = [(-(2**63), "a"), (2**63 - 1, "a")]
    for key in furthest:
        cursor = cursor_of(digest_of(*LISTS[path]), *key)
        answer = await shared.get(httpx.URL(path).copy_merge_params({"cursor": cursor}))
        assert answer.status_code == 200, answer.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.integers(1, 4),
    st.none() | st.just((7, "z")),
)
def test_a_page_has_more_just_where_a_further_row_was_read_or_rows_are_left_to_read(
    rows: list[int], limit: int, until: tuple[int, str] | None
) -> None:
    part = Part(rows, until)
    listed = PageParams(limit, None).of(BY_TIME, "list")
    page = anyio.run(lambda: listed.page(part, str, lambda row: (row, "a")))
    assert page.data == [str(row) for row in rows[:limit]]
    has_too_many = len(rows) > limit
    assert page.has_more is (has_too_many or until is not None)
    assert (page.next_cursor is not None) is page.has_more
    if page.next_cursor is not None:
        after = PageParams(limit, page.next_cursor).of(BY_TIME, "list").after
        assert after == ((rows[limit - 1], "a") if has_too_many else until)

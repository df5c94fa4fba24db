"""Addresses and forms of the console that its own pages would not send: refused, nothing done."""

import re

import httpx
import pytest
from fastapi.routing import APIRoute

from app.console.routes import ROUTERS
from app.console.viewing import ViewerRoute
from app.http.keyed import parameters_of
from tests.api.requests import posted
from tests.console.people import person, send, shown

pytestmark = pytest.mark.anyio

ROUTES = [
    pytest.param(method, route.path, id=f"{method} {route.path}")
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, ViewerRoute)
    for method in sorted(route.methods)
]


def refused(answer: httpx.Response) -> None:
    """It is a page that says what is wrong."""
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_page_refuses_a_parameter_that_it_does_not_have(
    mia: httpx.AsyncClient, method: str, path: str
) -> None:
    for query in ("nonsense=1", "Id=1", "flag"):
        answer = await mia.request(
            method, f"{path}?{query}", headers={"Sec-Fetch-Site": "same-origin"}
        )
        refused(answer)
        assert "unknown query parameter" in answer.text


# What the console's forms need before they look for anything, and what else they may hold.
NEEDED = {
    "id": "1",
    "account": "1",
    "name": "1",
    "person": "1",
    "tenant": "default",
    "key": "1",
    "role": "lead",
    "label": "fraud",
    "revision": "1",
    "was": "1",
    "email": "a@example.com",
}
FIELDS = (
    *NEEDED,
    *("ids", "shown", "value", "token", "password", "new_password", "assignee", "next", "note"),
    *("tab", "page", "order", "hours", "back", "url", "effective_at", "seen", "floor"),
)
# What ends the session, or takes a minute.
LEFT_OUT = {"/console/sign-out", "/console/demo"}


async def test_no_page_looks_for_a_text_that_a_database_cannot_hold(
    shared: httpx.AsyncClient,
) -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    async with person(shared) as browser:
        for route in routes:
            path = re.sub(r"\{[^}]+\}", "%00", route.path)
            if "GET" in route.methods:
                for query in ("", *(f"?{name}=%00" for name in parameters_of(route))):
                    answer = await browser.get(path + query)
                    assert answer.status_code < 500, (path, query)
            if "POST" in route.methods and path not in LEFT_OUT:
                for field in FIELDS:
                    form = {**NEEDED, field: "\0"}
                    answer = await send(browser, path.removeprefix("/console"), **form)
                    assert answer.status_code < 500, (path, field)


async def test_a_misspelled_filter_shows_and_sends_nothing(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await client.post("/v1/transactions", json=posted("seen-1", account_id="seen"))
    for path, query in (
        ("payments", "acount_id=seen"),
        ("payments.csv", "acount_id=seen"),
        ("payments.csv", "account_id=seen&account_id=other"),
        ("audit", "actor_id=x"),
        ("audit", "action=label.sett"),
    ):
        answer = await mia.get(f"/console/{path}?{query}")
        refused(answer)
        assert "seen-1" not in answer.text
    assert "seen-1" in await shown(mia, "/payments", account_id="seen", outcome="")
    assert "seen-1" in (await mia.get("/console/payments.csv?account_id=seen")).text


@pytest.mark.parametrize("share", ["nan", "-5", "0", "100", "1e400", "inf"])
async def test_thresholds_that_could_not_be_set_are_not_shown(
    mia: httpx.AsyncClient, share: str
) -> None:
    for query in (
        {"review": share},
        {"decline": share},
        {"reviews_per_day": "5", "floor": share},
    ):
        refused(await mia.get("/console/thresholds", params=query))


async def test_a_form_that_no_page_has_is_refused_as_one(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await client.post("/v1/transactions", json=posted("formed-1", account_id="formed"))
    account = {"account": "formed"}
    for path, form in (
        ("/roll-back", {**account, "revision": "9" * 5000}),
        ("/roll-back", {**account, "revision": str(2**63)}),
        ("/roll-back", {**account, "revision": "²"}),
        ("/label-chosen", {**account, "ids": "", "shown": "", "label": "fraud"}),
        ("/label-chosen", {**account, "ids": "formed-1\n\0", "shown": "\n", "label": "fraud"}),
        ("/models/promote", {"name": "tiny", "value": ""}),
        ("/models/promote", {"name": "tiny", "value": "0" * 33}),
        ("/people", {"name": "noah", "role": "owner"}),
        ("/webhooks", {"url": "x" * 5000, "tick-label.changed": "on"}),
    ):
        refused(await send(mia, path, **form))
    assert (await client.get("/v1/accounts/formed")).json()["labels"] == {
        "fraud": 0,
        "legitimate": 0,
    }

"""Signing in to the console: who may, for how long, and from which pages."""

import asyncio

import httpx
import pytest
from sqlalchemy import select, update

from app.console.sessions import IDLE_US, LONGEST_US
from app.db.database import Database
from app.db.schema import sessions
from app.keys import service as keys
from app.keys.service import CACHE_SECONDS
from app.main import create_app
from app.settings import Settings
from app.times import now_us
from tests.api.callers import part_of
from tests.api.requests import posted, problem_of
from tests.console.people import (
    HERE,
    app_of,
    browser_of,
    new_key,
    person,
    send,
    sent_to,
    shown,
    sign_in,
    text_in,
)

pytestmark = pytest.mark.anyio

PAGES = (
    "",
    "/account?id=a",
    "/payment?id=t",
    "/entity?kind=device&id=d",
    "/find?id=t",
    "/counts",
    "/payments.csv",
)
FORMS = ("/verdict", "/undo", "/take", "/give-back", "/sign-out", "/sign-in")


async def rows(client: httpx.AsyncClient) -> list[tuple[object, ...]]:
    async with part_of(client, Database).read() as connection:
        found = await connection.execute(select(sessions).order_by(sessions.c.created_at_us))
        return [tuple(row) for row in found]


async def change(client: httpx.AsyncClient, **values: int) -> None:
    """Make all sessions as old as a test needs them."""
    async with part_of(client, Database).write() as connection:
        await connection.execute(update(sessions).values(**values))


@pytest.mark.parametrize("page", PAGES)
async def test_whoever_has_not_signed_in_signs_in_and_comes_back(
    client: httpx.AsyncClient, page: str
) -> None:
    async with browser_of(app_of(client)) as browser:
        answer = await browser.get(f"/console{page}", headers={"Authorization": "Bearer qs_1_2"})
        path, query = sent_to(answer)
        assert (path, query["back"]) == ("/console/sign-in", f"/console{page}")
        form = {"person": "mia", "key": await new_key(client), **query}
        answer = await browser.post("/console/sign-in", data=form, headers=HERE)
        assert answer.headers["location"] == f"/console{page}"


@pytest.mark.parametrize(
    "elsewhere",
    ["https://example.com/", "//example.com", "/v1/keys", "/consoles", "/console\\@example.com"],
)
async def test_nobody_is_sent_elsewhere_by_signing_in(
    client: httpx.AsyncClient, elsewhere: str
) -> None:
    async with browser_of(app_of(client)) as browser:
        form = {"person": "mia", "key": await new_key(client), "back": elsewhere}
        answer = await browser.post("/console/sign-in", data=form, headers=HERE)
        assert answer.headers["location"] == "/console"


@pytest.mark.parametrize(
    ("base_url", "begin", "path"),
    [("http://127.0.0.1:8000", "qs", "/console"), ("https://fraud.example", "__Host-qs", "/")],
)
async def test_the_cookie_is_for_this_service_and_no_script(
    client: httpx.AsyncClient, base_url: str, begin: str, path: str
) -> None:
    async with browser_of(app_of(client), base_url) as browser:
        answer = await sign_in(browser, await new_key(client))
        name_value, *attributes = answer.headers["set-cookie"].split("; ")
        assert name_value.startswith(f"{begin}=")
        assert ("Secure" in attributes) == base_url.startswith("https")
        assert {"HttpOnly", f"Path={path}", "SameSite=lax"} <= set(attributes)
        assert not any(
            attribute.startswith(("Domain", "Max-Age", "expires")) for attribute in attributes
        )


async def test_the_database_has_neither_the_key_nor_what_the_browser_has(
    client: httpx.AsyncClient,
) -> None:
    async with browser_of(app_of(client)) as browser:
        key = await new_key(client)
        await sign_in(browser, key)
        stored = repr(await rows(client))
        assert browser.cookies["qs"] not in stored
        assert key.split("_", 2)[2] not in stored


async def test_a_session_ends_with_its_key(shared: httpx.AsyncClient) -> None:
    async with browser_of(app_of(shared)) as browser:
        key = await new_key(shared)
        await sign_in(browser, key)
        assert (await browser.get("/console")).status_code == 200
        await keys.revoke(part_of(shared, Database), key.split("_")[1])
        await asyncio.sleep(CACHE_SECONDS)
        path, _ = sent_to(await browser.get("/console"))
        assert path == "/console/sign-in"
        assert sent_to(await send(browser, "/verdict", id="t-1", label="fraud"))[0] == path


async def test_a_session_ends_after_twelve_hours_or_one_without_use(
    shared: httpx.AsyncClient,
) -> None:
    async with person(shared) as browser:
        *_, idle_until_us, ends_at_us = (await rows(shared))[-1]
        now = now_us()
        assert abs(idle_until_us - now - IDLE_US) < 60_000_000  # type: ignore[operator]
        assert abs(ends_at_us - now - LONGEST_US) < 60_000_000  # type: ignore[operator]
        # A page that looks for news by itself is no use of it.
        await change(shared, idle_until_us=now + 60_000_000)
        assert (await browser.get("/console/counts")).status_code == 200
        assert (await rows(shared))[-1][-2] == now + 60_000_000
        assert (await browser.get("/console")).status_code == 200
        assert (await rows(shared))[-1][-2] >= now + IDLE_US  # type: ignore[operator]
        await change(shared, ends_at_us=now_us())
        sent_to(await browser.get("/console"))
    async with person(shared) as browser:
        # Those that are over are forgotten when somebody signs in.
        assert len(await rows(shared)) == 1
        await change(shared, idle_until_us=now_us())
        sent_to(await browser.get("/console"))


async def test_a_part_of_a_page_sends_the_whole_page_to_sign_in(
    client: httpx.AsyncClient,
) -> None:
    async with browser_of(app_of(client)) as browser:
        of_htmx = {"HX-Request": "true", "HX-Current-URL": "http://127.0.0.1/console?tab=mine"}
        for answer in (
            await browser.get("/console/counts", headers=of_htmx),
            await browser.post("/console/verdict", headers=of_htmx | HERE),
        ):
            assert (answer.status_code, answer.text) == (200, "")
            back = answer.headers["hx-redirect"]
            assert back == "/console/sign-in?back=%2Fconsole%3Ftab%3Dmine"


async def test_signing_out_ends_the_session_for_whoever_has_its_cookie(
    client: httpx.AsyncClient,
) -> None:
    async with person(client) as browser, browser_of(app_of(client)) as thief:
        thief.cookies.set("qs", browser.cookies["qs"])
        assert (await thief.get("/console")).status_code == 200
        assert sent_to(await send(browser, "/sign-out"))[0] == "/console/sign-in"
        assert "qs" not in browser.cookies
        sent_to(await thief.get("/console"))


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1.evil.example"},
        {"Origin": "null"},
        {},
    ],
)
@pytest.mark.parametrize("form", FORMS)
async def test_a_form_of_another_page_changes_nothing(
    client: httpx.AsyncClient, mia: httpx.AsyncClient, form: str, headers: dict[str, str]
) -> None:
    await client.post("/v1/transactions", json=posted())
    fields = {"id": "t-1", "label": "fraud", "shown": "", "person": "eve", "key": "qs_1_2"}
    answer = await mia.post(f"/console{form}", data=fields, headers=headers)
    assert answer.status_code == 403
    assert "did not come from the console" in answer.text
    assert "set-cookie" not in answer.headers
    assert (await client.get("/v1/transactions/t-1")).json()["label"] is None
    assert (await mia.get("/console")).status_code == 200


async def test_a_browser_that_names_no_site_is_believed_its_origin(mia: httpx.AsyncClient) -> None:
    fields = {"id": "t-none", "label": "fraud", "shown": ""}
    headers = {"Origin": "http://127.0.0.1"}
    answer = await mia.post("/console/verdict", data=fields, headers=headers)
    assert answer.status_code == 404


async def test_the_api_knows_no_cookie_and_the_console_no_key(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    for method, path in (
        ("GET", "/v1/reviews"),
        ("DELETE", "/v1/accounts/alice"),
        ("POST", "/v1/transactions"),
        ("PUT", "/v1/transactions/t-1/label"),
    ):
        answer = await mia.request(method, path, json={}, headers=HERE)
        assert problem_of(answer) == (401, "unauthenticated")
    bearer = {"Authorization": f"Bearer {await new_key(client)}"}
    async with browser_of(app_of(client)) as browser:
        sent_to(await browser.get("/console", headers=bearer))
        sent_to(await browser.post("/console/verdict", data={}, headers={**bearer, **HERE}))


async def test_a_failed_sign_in_explains_itself_and_begins_no_session(
    client: httpx.AsyncClient,
) -> None:
    key = await new_key(client)
    async with browser_of(app_of(client)) as browser:
        for name, text, status in (
            ("mia", "qs_000000000000_x", 401),
            ("mia", "", 401),
            ("", key, 422),
            ("m" * 129, key, 422),
            ("mi\x00a", key, 422),
            ("mia", await new_key(client, "score"), 403),
        ):
            before = len(await rows(client))
            answer = await sign_in(browser, text, name)
            assert answer.status_code == status
            assert 'role="alert"' in answer.text
            # A name need not be typed again; a key is never sent back.
            assert f'value="{name}"' in answer.text or status == 422
            assert not text or text not in answer.text
            assert len(await rows(client)) == before
        too_long = await sign_in(browser, key * 1000)
        assert too_long.status_code == 422


async def test_nobody_signs_in_over_plain_http_from_elsewhere(client: httpx.AsyncClient) -> None:
    async with browser_of(app_of(client), "http://fraud.example") as browser:
        page = text_in((await browser.get("/console/sign-in")).text)
        assert "ssh -L" in page
        assert "API key" not in page
        answer = await sign_in(browser, await new_key(client))
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers


async def test_every_answer_keeps_scripts_out_that_are_not_ours(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    home = await shown(mia, "")
    [style] = [part for part in home.split('"') if part.endswith("console.css")]
    for path in (*(f"/console{page}" for page in PAGES), "/console/nothing", "/console/sign-in"):
        answer = await mia.get(path)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
    kept = await mia.get(style)
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-type"].startswith("text/css")
    assert (await mia.get(style.replace("console.css", "..%2Fpages.py"))).status_code == 404
    assert (await mia.get("/console/static/0000000000000000/console.css")).status_code == 404


async def test_a_tenants_pages_are_not_another_tenants(client: httpx.AsyncClient) -> None:
    await client.post("/v1/transactions", json=posted("t-secret", account_id="secret"))
    async with person(client, tenant="other") as stranger:
        for page in ("/payment?id=t-secret", "/account?id=secret", "/find?id=t-secret"):
            answer = await stranger.get(f"/console{page}")
            assert answer.status_code == 404
            assert "412" not in answer.text
        verdict = await send(stranger, "/verdict", id="t-secret", label="fraud", shown="")
        assert verdict.status_code == 404
        assert "Nothing has been scored yet" in await shown(stranger, "")


async def test_a_key_that_may_read_alone_has_no_buttons_and_no_verdict(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/v1/transactions", json=posted("t-read"))
    async with person(client, "read") as auditor:
        page = await shown(auditor, "/payment", id="t-read")
        assert "You may look only" in page
        assert 'value="fraud"' not in page
        for form in ("/verdict", "/undo", "/take", "/give-back"):
            answer = await send(auditor, form, id="t-read", label="fraud", shown="")
            assert answer.status_code == 403
        assert (await auditor.get("/console/what-if?id=t-read")).status_code == 403


async def test_without_the_setting_there_is_no_console(
    service_settings: Settings,
) -> None:
    app = create_app(service_settings.model_copy(update={"console": False}))
    async with app.router.lifespan_context(app), browser_of(app) as browser:
        assert (await browser.get("/console/sign-in")).status_code == 404

"""Pages of figures, questions, models, drift, keys, webhooks and the audit log."""

import asyncio
import re

import httpx
import pytest

from app.learner.transaction import HOUR_US
from app.times import now_us, text_of
from tests.api.callers import app_of, client_of
from tests.api.requests import posted
from tests.console.people import elements, forms, person, send, sent_to, shown, text_in

pytestmark = pytest.mark.anyio

LEADS = ("/keys", "/webhooks")
PAGES = ("/thresholds", "/figures", "/ask", "/models", "/drift", "/audit", "/demo", *LEADS)


async def review(client: httpx.AsyncClient, *names: str) -> None:
    """Payments of an account that wait for a review."""
    await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    for n, name in enumerate(names):
        at = text_of(now_us() - (len(names) - n) * HOUR_US)
        body = posted(name, account_id=names[0], occurred_at=at, amount=20 + 300 * n)
        assert (await client.post("/v1/transactions", json=body)).json()["outcome"] == "review"


async def test_figures_say_what_was_decided_by_day_and_by_person(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    await review(shared, "f-0", "f-1", "f-2", "f-3")
    for name, label, analyst in (
        ("f-0", "fraud", "mia"),
        ("f-1", "legitimate", "mia"),
        ("f-2", "legitimate", "noah"),
    ):
        body = {"label": label, "analyst": analyst}
        await shared.put(f"/v1/transactions/{name}/label", json=body)
    found = (await shared.get("/v1/figures")).json()
    assert len(found["days"]) == 28
    today = found["days"][-1]
    assert (today["opened"], today["declined"], today["decided"]) == (4, 0, 3)
    assert (today["frauds"], today["legitimates"]) == (1, 2)
    assert today["precision"] == pytest.approx(1 / 3)
    assert found["waiting"][0] == {"hours": 1, "decided": 3}
    assert [(person["analyst"], person["decided"]) for person in found["people"]] == [
        ("mia", 2),
        ("noah", 1),
    ]
    theirs = (await shared_stranger.get("/v1/figures")).json()
    assert (sum(day["opened"] for day in theirs["days"]), theirs["people"]) == (0, [])
    async with person(shared) as lead:
        page = text_in(await shown(lead, "/figures"))
        assert "mia" in page
        assert "33.3 %" in page
        answer = await lead.get("/console/figures.csv")
        assert answer.headers["content-type"].startswith("text/csv")
        lines = answer.text.splitlines()
        assert lines[0] == "start,opened,declined,decided,frauds,legitimates,precision"
        assert lines[-1].startswith(f"{today['start']},4,0,3,1,2,0.33")


async def test_the_next_question_is_the_most_telling_and_a_verdict_leads_to_another(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    await review(shared, "q-0", "q-1", "q-2")
    found = (await shared.get("/v1/ask-next", params={"limit": 50})).json()
    shifts = [question["shift"] for question in found["data"]]
    assert shifts == sorted(shifts, reverse=True)
    own = (await shared.get("/v1/accounts/q-0/ask-next", params={"limit": 50})).json()
    expected = {
        question["transaction"]["transaction_id"]: question["shift"]
        for question in own["suggestions"]
    }
    of_account = {
        question["transaction"]["transaction_id"]: question["shift"]
        for question in found["data"]
        if question["account_id"] == "q-0"
    }
    assert of_account == expected
    assert (await shared_stranger.get("/v1/ask-next")).json() == {"accounts": 0, "data": []}
    async with person(shared) as mia:
        page = await shown(mia, "/ask")
        form = forms(page)["/console/verdict"]
        assert form["id"] == found["data"][0]["transaction"]["transaction_id"]
        path, query = sent_to(await send(mia, "/verdict", **form, label="legitimate"))
        assert (path, query["done"]) == ("/console/ask", form["id"])
        after = await shown(mia, "/ask", **query)
        assert forms(after)["/console/verdict"]["id"] != form["id"]
        assert sent_to(await send(mia, "/undo", **forms(after)["/console/undo"]))[0] == path
        skipped = forms(await shown(mia, "/ask", skip=1))["/console/verdict"]
        assert skipped["id"] == found["data"][1]["transaction"]["transaction_id"]


async def until(browser: httpx.AsyncClient, path: str, words: str) -> str:
    for _ in range(600):
        page = await shown(browser, path)
        if words in page:
            return page
        await asyncio.sleep(0.1)
    raise AssertionError(f"{words!r} never came")


async def test_a_model_is_tried_out_and_compared_and_drift_is_measured(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await review(client, "m-0", "m-1")
    [model] = [model["name"] for model in (await client.get("/v1/models")).json()["data"]]
    sent_to(await send(mia, "/models/shadow", name=model))
    assert "End its shadow" in text_in(await shown(mia, "/models"))
    sent_to(await send(mia, "/models/shadow", name=model, value="end"))
    assert "End its shadow" not in text_in(await shown(mia, "/models"))
    sent_to(await send(mia, "/models/compare", name=model))
    page = text_in(await until(mia, "/models", "Same outcome"))
    assert "There are too few labelled frauds" in page
    assert "Both give every payment the same outcome." in page
    answer = await send(mia, "/models/roll-back", name=model)
    assert (answer.status_code, "No other model" in answer.text) == (409, True)
    answer = await send(mia, "/models/promote", name=model, value="0" * 16)
    assert answer.status_code == 404
    assert (await mia.get("/console/report", params={"name": model})).status_code == 404
    sent_to(await send(mia, "/drift", name=model))
    page = text_in(await until(mia, "/drift", "Heat map"))
    assert "Share of frauds in training" in page


async def test_a_new_key_is_shown_once_and_revoked(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    form = {"name": "<till>", "tick-score": "on", "tick-read": "on"}
    answer = await send(mia, "/keys", **form)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    [key] = re.findall(r'<code id="secret"[^>]*>([^<]+)</code>', answer.text)
    async with client_of(app_of(client), key) as till:
        assert (await till.get("/v1/transactions")).status_code == 200
        assert (await till.get("/v1/keys")).status_code == 403
    assert key not in await shown(mia, "/keys")
    key_id = key.split("_")[1]
    rotated = await send(mia, "/keys/rotate", id=key_id)
    assert "shown once" in rotated.text
    assert sent_to(await send(mia, "/keys/revoke", id=key_id))[0] == "/console/keys"
    [state] = [key for key in (await client.get("/v1/keys")).json()["data"] if key["id"] == key_id]
    assert state["revoked_at"] is not None
    assert (await send(mia, "/keys", name="nothing")).status_code == 422
    assert (await send(mia, "/keys/revoke", id="0" * 12)).status_code == 404


async def test_the_audit_log_is_filtered_and_shows_both_sides(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await client.post("/v1/thresholds", json={"review": 0.0123, "decline": 0.5})
    page = text_in(await shown(mia, "/audit", action="thresholds.set", subject="", actor=""))
    assert "0.0123" in page
    assert "key.created" not in text_in(page.partition("Before")[2])
    assert "Nothing matches." in await shown(mia, "/audit", subject="nobody")


async def test_webhooks_are_listed_and_what_is_no_address_is_refused(
    mia: httpx.AsyncClient,
) -> None:
    assert "There is none" in await shown(mia, "/webhooks")
    event = {"tick-label.changed": "on"}
    answer = await send(mia, "/webhooks", url="https://127.0.0.1/", **event)
    assert answer.status_code == 422
    assert (await send(mia, "/webhooks", url="https://example.com/")).status_code == 422
    for path in ("rotate", "enable", "remove"):
        assert (await send(mia, f"/webhooks/{path}", id="0" * 12)).status_code == 404


async def test_who_may_only_read_sees_no_button_and_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    async with person(client, "read") as auditor:
        for path in PAGES:
            answer = await auditor.get(f"/console{path}")
            assert answer.status_code == (403 if path in LEADS else 200), path
            changing = [
                form for form in elements(answer.text, "form") if form.get("method") == "post"
            ]
            actions = [form["action"] for form in changing if form["action"] != "/console/sign-out"]
            assert actions in ([], ["/console/thresholds"]), path
        for path in (
            *("/models/shadow", "/models/compare", "/models/promote", "/models/activate"),
            *("/models/roll-back", "/drift", "/demo", "/keys", "/keys/rotate", "/keys/revoke"),
            *("/webhooks", "/webhooks/rotate", "/webhooks/enable", "/webhooks/remove"),
        ):
            answer = await send(auditor, path, name="default", id="0" * 12, **{"tick-read": "on"})
            assert answer.status_code == 403, path

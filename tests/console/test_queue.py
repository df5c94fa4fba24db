"""The queue by HTTP: what it shows, what a verdict does, and that it is of what was shown."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.db.database import Database
from app.db.schema import reviews
from app.learner.transaction import HOUR_US
from app.reviews.service import CLAIM_HOURS
from tests.api.callers import app_of, part_of
from tests.api.requests import posted
from tests.console.people import (
    browser_of,
    elements,
    forms,
    new_key,
    person,
    send,
    sent_to,
    shown,
    text_in,
)

pytestmark = pytest.mark.anyio


async def queued(client: httpx.AsyncClient, *names: str, account: str = "alice") -> None:
    """Payments that wait for a review, whatever they are."""
    stated = await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
    assert stated.status_code == 200, stated.text
    for n, name in enumerate(names):
        body = posted(name, account_id=account, amount=100 + n)
        scored = (await client.post("/v1/transactions", json=body)).json()
        assert scored["outcome"] == "review"


async def payment(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    answer = await client.get(f"/v1/transactions/{name}")
    body: dict[str, Any] = answer.json()
    return body


async def review(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/v1/reviews/{name}")).json()
    return body


async def events(client: httpx.AsyncClient, name: str) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = (await client.get(f"/v1/transactions/{name}/label")).json()[
        "history"
    ]
    return history


def verdict_of(page: str) -> dict[str, str]:
    """What a page's form of a verdict sends, but for the verdict."""
    return forms(page)["/console/verdict"]


async def test_a_verdict_is_stored_as_its_persons_and_leads_on_to_the_next(
    shared: httpx.AsyncClient,
) -> None:
    await queued(shared, "v-1", "v-2", "v-3", account="v")
    async with person(shared, name="mia") as mia:
        page = await shown(mia, "", at="v-1")
        fields = verdict_of(page)
        assert (fields["id"], fields["shown"]) == ("v-1", "")
        answer = await send(mia, "/verdict", **fields, label="fraud", note="Card was stolen.")
        path, query = sent_to(answer)
        assert path == "/console"
        assert query["at"] == fields["next"] != "v-1"
        [event] = await events(shared, "v-1")
        assert (event["label"], event["analyst"], event["note"], event["source"]) == (
            *("fraud", "mia", "Card was stolen."),
            "analyst",
        )
        after = await shown(mia, "", **query)
        assert verdict_of(after)["id"] == fields["next"]
        done = text_in(after)
        assert f"Fraud: you labelled v-1, account v revision {event['revision']}:" in done
        log = (await shared.get("/v1/audit-log", params={"subject": "v-1"})).json()["data"]
        assert {entry["actor"] for entry in log} != {"command line"}

        undo = forms(after)["/console/undo"]
        path, query = sent_to(await send(mia, "/undo", **undo))
        assert (path, query["at"]) == ("/console", "v-1")
        assert (await payment(shared, "v-1"))["label"] is None
        assert verdict_of(await shown(mia, "", **query))["id"] == "v-1"


async def test_a_verdict_on_what_has_another_label_by_now_is_not_stored(
    shared: httpx.AsyncClient,
) -> None:
    await queued(shared, "s-1", account="s")
    async with person(shared, name="mia") as mia, person(shared, name="noah") as noah:
        fields = verdict_of(await shown(mia, "/payment", id="s-1"))
        sent_to(await send(noah, "/verdict", **fields, label="legitimate"))
        _, query = sent_to(await send(mia, "/verdict", **fields, label="fraud"))
        assert query == {"id": "s-1", "notice": "changed"}
        assert [event["label"] for event in await events(shared, "s-1")] == ["legitimate"]
        page = await shown(mia, "/payment", **query)
        assert "Nothing was stored" in page
        # Having seen the other's, one may change it; and take that back, to the other's.
        sent_to(await send(mia, "/verdict", **verdict_of(page), label="fraud"))
        page = await shown(mia, "/payment", id="s-1", done="s-1")
        undo = forms(page)["/console/undo"]
        assert undo["was"] == "legitimate"
        sent_to(await send(noah, "/verdict", **{**fields, "shown": "fraud"}, label="legitimate"))
        _, query = sent_to(await send(mia, "/undo", **undo))
        assert query["notice"] == "changed"
        analysts = [event["analyst"] for event in await events(shared, "s-1")]
        assert analysts == ["noah", "mia", "noah"]
        # Nobody undoes somebody else's verdict from the queue.
        assert "/console/undo" not in forms(await shown(mia, "/payment", id="s-1", done="s-1"))


@pytest.mark.parametrize("label", ["", "frauds", "Fraud"])
async def test_a_verdict_is_fraud_or_legitimate(
    client: httpx.AsyncClient, mia: httpx.AsyncClient, label: str
) -> None:
    await queued(client, "w-1", account="w")
    answer = await send(mia, "/verdict", id="w-1", shown="", label=label)
    assert answer.status_code == 422
    assert "press one of the two buttons" in answer.text
    long = await send(mia, "/verdict", id="w-1", shown="", label="fraud", note="n" * 2001)
    assert long.status_code == 422
    assert await events(client, "w-1") == []


async def test_a_review_is_taken_and_released_by_its_assignee(shared: httpx.AsyncClient) -> None:
    await queued(shared, "h-1", account="h")
    async with (
        person(shared, name="mia") as mia,
        person(shared, "read", "label", "decide", name="noah") as noah,
    ):
        fields = {"id": "h-1", "tab": "open", "order": "risk"}
        sent_to(await send(mia, "/take", **fields))
        review = (await shared.get("/v1/reviews/h-1")).json()
        assert review["assignee"] == "mia"
        assert "h-1" in await shown(mia, "", tab="mine")
        page = await shown(noah, "", at="h-1")
        assert "has this review" in text_in(page)
        # By a key one does not overrule somebody by accident.
        keyed = {element.get("data-key") for element in elements(page, "button")}
        assert not {"f", "l", "a"} & keyed
        for form in ("/take", "/give-back"):
            assert sent_to(await send(noah, form, **fields))[1]["notice"] == "taken"
        database = part_of(shared, Database)
        async with database.write() as connection:
            earlier = reviews.c.assigned_at_us - CLAIM_HOURS * HOUR_US
            await connection.execute(update(reviews).values(assigned_at_us=earlier))
        # A day later anybody may take it.
        page = await shown(noah, "", at="h-1")
        assert {"f", "l", "a"} <= {element.get("data-key") for element in elements(page, "button")}
        assert "notice" not in sent_to(await send(noah, "/take", **fields))[1]
        sent_to(await send(noah, "/give-back", **fields))
        assert (await shared.get("/v1/reviews/h-1")).json()["assignee"] is None
        gone = await send(mia, "/take", id="h-none")
        assert sent_to(gone)[1]["notice"] == "gone"


async def test_the_tabs_are_the_queue_of_the_api_with_its_counts(
    shared: httpx.AsyncClient,
) -> None:
    async with person(shared, tenant="tabs") as mia:
        assert "Nothing has been scored yet" in await shown(mia, "")
    await queued(shared, "c-1", "c-2", "c-3", account="c")
    await shared.put("/v1/transactions/c-3/label", json={"label": "legitimate"})
    async with person(shared, name="lea") as lea:
        sent_to(await send(lea, "/take", id="c-1"))
        counts = (await shared.get("/v1/review-counts")).json()
        own = (await shared.get("/v1/review-counts", params={"assignee": "lea"})).json()
        by_kind = {item["kind"]: item for item in counts["data"]}
        page = text_in(await shown(lea, "/counts"))
        reviews = by_kind["review"]
        assert f"Open {reviews['open']} Mine 1 Declined {by_kind['decline']['open']} " in page
        assert f"Cleared {reviews['cleared']} Resolved {reviews['resolved']}" in page
        mine = own["data"][0]
        assert [mine[name] for name in ("open", "cleared", "resolved", "snoozed")] == [1, 0, 0, 0]
        assert mine["oldest_opened_at"] == (await review(shared, "c-1"))["opened_at"]
        assert "oldest: open 0 min, mine 0 min" in page
        for tab, status in (("open", "open"), ("cleared", "cleared"), ("resolved", "resolved")):
            listed = (await shared.get("/v1/reviews", params={"status": status})).json()["data"]
            rows = elements(await shown(lea, "", tab=tab), "a")
            links = [row["href"] for row in rows if row.get("class") == "row"]
            assert len(links) == min(len(listed), 30)
        oldest = (await shared.get("/v1/reviews", params={"order": "age"})).json()["data"]
        assert counts["oldest_opened_at"] == oldest[0]["opened_at"]


async def test_what_a_verdict_would_do_is_the_apis_dry_run_and_stores_nothing(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await queued(client, "d-1", "d-2", account="d")
    page = text_in(await shown(mia, "/what-if", id="d-1"))
    for label in ("fraud", "legitimate"):
        body = {"dry_run": True, "labels": [{"transaction_id": "d-1", "label": label}]}
        tried = (await client.post("/v1/accounts/d/adapt", json=body)).json()
        after = tried["labelled"][0]["after"]["risk_score"]
        assert f"→ {after:.0f}" in page
    assert (await client.get("/v1/accounts/d")).json()["revision"] == 0


async def test_a_page_of_many_reviews_goes_on_where_it_ended(client: httpx.AsyncClient) -> None:
    names = [f"m-{n:02}" for n in range(35)]
    async with person(client, tenant="many") as mia:
        key = await _key(client, "many")
        stated = {"review": 1e-8, "decline": 0.999}
        await client.post("/v1/thresholds", json=stated, headers=key)
        payments = {"transactions": [posted(name, account_id=name) for name in names]}
        await client.post("/v1/transactions/batch", json=payments, headers=key)
        page = await shown(mia, "", order="age")
        seen = rows_of(page)
        [more] = [
            element["href"]
            for element in elements(page, "a")
            if "cursor=" in (element["href"] or "") and element.get("class") != "row"
        ]
        answer = await mia.get(more or "")
        seen += rows_of(answer.text)
        assert sorted(seen) == names
        # A link to what is not here leads to where it is, with a notice.
        missing = text_in(await shown(mia, "", at="m-none"))
        assert "m-none is not in this list" in missing


async def _key(client: httpx.AsyncClient, tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {await new_key(client, tenant=tenant)}"}


def rows_of(page: str) -> list[str]:
    """The payments of a page's rows."""
    links = [
        element["href"] or "" for element in elements(page, "a") if element.get("class") == "row"
    ]
    return [link.rpartition("at=")[2] for link in links]


async def test_the_next_is_taken_handed_over_put_to_sleep_and_woken(
    shared: httpx.AsyncClient,
) -> None:
    await queued(shared, "x-1", "x-2", account="x")
    body = {"name": "noah", "role": "analyst"}
    token = (await shared.post("/v1/people", json=body)).json()["setup_path"].partition("=")[2]
    async with person(shared, name="mia") as mia, browser_of(app_of(shared)) as noah:
        fields = {"token": token, "person": "noah", "password": "correct horse battery"}
        sent_to(await send(noah, "/setup", **fields))
        path, query = sent_to(await send(mia, "/next", tab="open", order="risk"))
        assert (path, query["tab"]) == ("/console", "mine")
        name = query["at"]
        assert (await review(shared, name))["assignee"] == "mia"
        page = await shown(mia, "", **query)
        assert verdict_of(page)["id"] == name
        # Whom there is, and nobody else.
        assert 'value="noah"' in page
        assert (await send(mia, "/hand-over", id=name, assignee="eve")).status_code == 422
        sent_to(await send(mia, "/hand-over", id=name, assignee="noah"))
        assert (await review(shared, name))["assignee"] == "noah"
        # It is theirs, by their name.
        assert name in await shown(noah, "", tab="mine")
        _, query = sent_to(await send(noah, "/snooze", id=name, hours="24", tab="mine"))
        page = await shown(noah, "", **query)
        assert f"{name} is snoozed until" in text_in(page)
        assert name in await shown(noah, "", tab="snoozed")
        wake = forms(page)["/console/wake"]
        assert sent_to(await send(noah, "/wake", **wake))[1]["at"] == name
        assert name in await shown(noah, "", tab="mine")
        assert (await send(noah, "/snooze", id=name, hours="5")).status_code == 422
        while "at" in query:
            _, query = sent_to(await send(mia, "/next", tab="open", order="age"))
        assert query["notice"] == "empty"
        assert "Nothing waits here that nobody has" in await shown(mia, "", **query)


async def test_of_many_who_decide_at_once_one_does_and_the_others_see_what_has_changed(
    shared: httpx.AsyncClient,
) -> None:
    await queued(shared, "once-1", account="once")
    async with AsyncExitStack() as stack:
        people = [
            await stack.enter_async_context(person(shared, name=f"analyst-{n}")) for n in range(6)
        ]
        pages = [verdict_of(await shown(one, "", at="once-1")) for one in people]
        answers = await asyncio.gather(
            *(
                send(one, "/verdict", **fields, label=("fraud", "legitimate")[n % 2])
                for n, (one, fields) in enumerate(zip(people, pages, strict=True))
            )
        )
    notices = Counter(sent_to(answer)[1].get("notice") for answer in answers)
    assert notices == {None: 1, "changed": 5}
    assert len(await events(shared, "once-1")) == 1

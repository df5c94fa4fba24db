"""Payments by whatever is known of them: on a page, under a name, as a file."""

import asyncio
import csv
import io
from contextlib import AsyncExitStack

import httpx
import pytest

from app.http.authentication import Admission
from app.web.service import LISTS_AT_ONCE
from tests.api.callers import part_of
from tests.api.requests import posted
from tests.console.people import elements, person, send, sent_to, shown, text_in

pytestmark = pytest.mark.anyio

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\uff1d1+1")


async def pay(client: httpx.AsyncClient, *bodies: dict[str, object]) -> None:
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert all("probability" in result for result in answer.json()["results"]), answer.text


def paid(html: str) -> list[str]:
    """The payments that a page lists."""
    links = [link["href"] or "" for link in elements(html, "a")]
    return [link.rpartition("=")[2] for link in links if "/payment?" in link]


async def file_of(browser: httpx.AsyncClient, **query: str) -> list[list[str]]:
    answer = await browser.get("/console/payments.csv", params=query)
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.reader(io.StringIO(answer.text)))


async def test_payments_are_found_by_all_that_is_filled_in(
    shared: httpx.AsyncClient, shared_stranger: httpx.AsyncClient
) -> None:
    await pay(
        shared,
        *(
            posted(f"s-{n}", account_id=f"s-a{n % 2}", amount=100 * n, merchant_id="m/9")
            for n in range(1, 5)
        ),
        posted("s-late", amount=300, merchant_id="m/9", occurred_at="2026-01-31T14:00:00Z"),
    )
    await shared.put("/v1/transactions/s-3/label", json={"label": "fraud"})
    of_merchant = {"entity_kind": "merchant", "entity_id": "m/9"}
    async with person(shared) as mia, person(shared_stranger, tenant="strangers") as stranger:
        page = await shown(mia, "/payments", **of_merchant, amount_from="200", amount_to="300.0")
        assert set(paid(page)) == {"s-2", "s-3", "s-late"}
        # As a form sends it: all fields, and a time without a zone.
        empty = dict.fromkeys(("account_id", "amount_to", "outcome", "risk_level"), "")
        times = {"occurred_from": "2026-01-31T13:00", "occurred_to": ""}
        page = await shown(mia, "/payments", **of_merchant, **empty, **times)
        assert paid(page) == ["s-late"]
        inputs = elements(page, "input")
        [field] = [
            element
            for element in inputs
            if element.get("type") == "datetime-local" and element["value"]
        ]
        assert field["value"] == "2026-01-31T13:00"
        page = await shown(mia, "/payments", occurred_to="2026-01-31T13:00:30Z")
        assert "2026-01-31T13:00:30" in {
            element.get("value") for element in elements(page, "input")
        }
        assert paid(await shown(mia, "/payments", label="fraud", account_id="s-a1")) == ["s-3"]
        page = await shown(mia, "/payments", label="fraud", amount_from="1000")
        assert "No payment matches." in text_in(page)
        assert paid(await shown(stranger, "/payments", **of_merchant)) == []
        assert [row[0] for row in await file_of(mia, label="fraud")] == ["transaction_id", "s-3"]
        for wrong in ({"amount_from": "much"}, {"entity_kind": "ip", "entity_id": "x"}):
            answer = await mia.get("/console/payments", params=wrong)
            assert answer.status_code == 422
            assert 'role="alert"' in answer.text
            assert next(iter(wrong.values())) in answer.text
        wrong = {"amount_from": "much", "occurred_to": "2026-01-31T13:00"}
        answer = await mia.get("/console/payments", params=wrong)
        assert wrong["occurred_to"] in {
            element.get("value") for element in elements(answer.text, "input")
        }


async def test_what_is_few_among_many_is_looked_for_page_by_page(
    client: httpx.AsyncClient, mia: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.pages.MOST_READ", 2)
    monkeypatch.setattr("app.console.searching.LOOKING_SECONDS", 0)
    times = [f"2026-02-01T10:0{n}:00Z" for n in range(6)]
    await pay(client, *(posted(f"w-{n}", amount=n, occurred_at=at) for n, at in enumerate(times)))
    query = {"amount_to": "1", "occurred_from": times[0], "occurred_to": "2026-02-01T10:06:00Z"}
    pages = [await shown(mia, "/payments", **query)]
    assert "None so far" in text_in(pages[0])
    while further := [
        link["href"] for link in elements(pages[-1], "a") if "cursor=" in (link["href"] or "")
    ]:
        pages.append((await mia.get(further[0] or "")).text)
    assert [name for page in pages for name in paid(page)] == ["w-1", "w-0"]
    # The file goes on by itself, and says where it had to end.
    assert [row[0] for row in await file_of(mia, **query)] == ["transaction_id", "w-1", "w-0"]
    monkeypatch.setattr("app.console.searching.MOST_PAGES", 2)
    [header, last] = await file_of(mia, **query)
    assert (header[0], len(last)) == ("transaction_id", 1)
    assert "narrow the search" in last[0]
    monkeypatch.setattr("app.console.searching.MOST_PAGES", 100)
    monkeypatch.setattr("app.console.searching.MOST_IN_FILE", 1)
    assert [row[0][:7] for row in await file_of(mia, **query)] == [
        *("transac", "w-1"),
        "There m",
    ]


async def test_a_file_that_cannot_be_is_refused_before_it_begins(mia: httpx.AsyncClient) -> None:
    for wrong in ({"entity_id": "x"}, {"entity_kind": "ip", "entity_id": "x"}):
        answer = await mia.get("/console/payments.csv", params=wrong)
        assert answer.status_code == 422
        assert answer.headers["content-type"].startswith("text/html")


async def test_a_file_holds_a_place_of_its_tenant_while_it_waits_for_a_page(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    admission = part_of(client, Admission)
    async with AsyncExitStack() as stack:
        for _ in range(LISTS_AT_ONCE - 1):
            await stack.enter_async_context(admission.lists.one())
        async with AsyncExitStack() as last:
            await last.enter_async_context(admission.lists.one())
            request = asyncio.create_task(file_of(mia, account_id="nobody"))
            while admission.places.total == 0:
                await asyncio.sleep(0.01)
            # Between the beginning of the answer and its first page.
            again = asyncio.create_task(stack.enter_async_context(admission.lists.one()))
            await asyncio.sleep(0)
        await again
        for _ in range(10):
            await asyncio.sleep(0.01)
        held = admission.places.total
    assert len(await request) == 1
    assert held == 1
    assert admission.places.total == 0


async def test_no_cell_of_a_file_is_a_formula(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    bodies = [
        posted(text, account_id="formulas", merchant_id=text, merchant_category=f'{text},"x"')
        for text in FORMULAS
    ]
    await pay(client, *bodies)
    header, *rows = await file_of(mia, account_id="formulas")
    found = {row[0]: dict(zip(header, row, strict=True)) for row in rows}
    assert found.keys() == {f"'{text}" for text in FORMULAS}
    for row in found.values():
        assert row["merchant_id"] == row["transaction_id"]
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    assert found["'=1+1"]["merchant_category"] == '\'=1+1,"x"'
    read = (await client.get("/v1/transactions/=1+1")).json()
    assert float(found["'=1+1"]["probability"]) == read["score"]["probability"]
    assert (found["'=1+1"]["amount"], found["'=1+1"]["outcome"]) == (
        read["amount"],
        read["score"]["outcome"],
    )


async def test_a_search_is_kept_for_who_keeps_it(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    fields = {"name": "large <b>", "amount_from": "500", "entity_kind": "merchant", "label": "none"}
    path, query = sent_to(await send(mia, "/payments/save", **fields))
    assert (path, query) == ("/console/payments", {"amount_from": "500", "label": "none"})
    page = await shown(mia, "/payments")
    assert "large <b>" in text_in(page)
    links = [link["href"] for link in elements(page, "a")]
    assert "/console/payments?amount_from=500&label=none" in links
    async with person(client, "read", name="noah") as noah:
        assert "large" not in await shown(noah, "/payments")
        assert (await send(noah, "/payments/forget", name="large <b>")).status_code == 404
    assert (await send(mia, "/payments/save", name="", label="none")).status_code == 422
    await send(mia, "/payments/forget", name="large <b>")
    assert "large" not in await shown(mia, "/payments")

"""Pages to look around in, by HTTP: they say what the API says, and nothing runs in them."""

import csv
import io
import re

import httpx
import pytest

from app.console import pages
from app.scoring.schemas import EXAMPLE
from tests.api.requests import posted
from tests.console.people import elements, person, send, sent_to, shown, text_in

pytestmark = pytest.mark.anyio

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{7*7}}{% include 'keys.html' %}",
    "javascript:alert(1)",
    "a/7 ü%2F../..",
    "pay\u202eeel\u2066\u200bz",
    "..",
    "x" * 128,
)


@pytest.mark.parametrize("text", HOSTILE)
async def test_what_callers_write_is_text_on_every_page(
    client: httpx.AsyncClient, text: str
) -> None:
    body = posted(
        text,
        account_id=text,
        merchant_id=text,
        merchant_category=text,
        channel=text,
        device_id=text,
        attributes={text: text},
    )
    assert (await client.post("/v1/transactions", json=body)).status_code == 200
    async with person(client, name=text.strip() or "mia") as browser:
        form = {
            "id": text,
            "shown": "",
            "label": "fraud",
            "note": f"{text}\n{text}",
            "page": "payment",
        }
        path, query = sent_to(await send(browser, "/verdict", **form))
        assert (path, query["id"]) == ("/console/payment", text)
        for page in (
            await shown(browser, "/payment", id=text, done=text),
            await shown(browser, "/account", id=text),
            await shown(browser, "/entity", kind="merchant", id=text),
            await shown(browser, "/what-if", id=text),
            await shown(browser, "/replay", id=text),
            await shown(browser, "/payments", account_id=text),
            (await browser.get("/console/find", params={"id": f"{text[:120]} ?"})).text,
        ):
            # Of what is hidden in it the numbers are shown.
            assert pages.plain(text)[:120] in text_in(page)
            assert elements(page, "img") == []
            scripts = [script.get("src") or "" for script in elements(page, "script")]
            assert {source.split("/")[1] for source in scripts} == {"console"}
            assert not [element for element in elements(page, "svg") if "onload" in element]
            links = [link["href"] or "" for link in elements(page, "a")]
            assert not any(link.startswith("java") for link in links)
            assert not re.search(
                "[\u200b\u202e\u2066]", re.sub('(value|href|data-note|data-done)="[^"]*"', "", page)
            )
            assert "Something went wrong" not in page


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("a<b>&\"'", "<bdi>a&lt;b&gt;&amp;&#34;&#39;</bdi>"),
        ("a\u202eb", '<bdi>a<span class="hidden-character">U+202E</span>b</bdi>'),
        ("שלום", "<bdi>שלום</bdi>"),
        ("👩\u200d🔧", '<bdi>👩<span class="hidden-character">U+200D</span>🔧</bdi>'),
    ],
)
def test_a_text_stands_apart_and_shows_what_is_hidden_in_it(text: str, html: str) -> None:
    assert pages.shown(text) == html


async def test_a_payments_page_adds_up_and_has_its_whole_history(
    shared: httpx.AsyncClient,
) -> None:
    for n in range(3):
        await shared.post("/v1/transactions", json=posted(f"p-{n}", account_id="p", amount=9 + n))
    label = {"label": "fraud", "analyst": "mia", "note": "Called.", "source": "customer"}
    await shared.put("/v1/transactions/p-2/label", json=label)
    async with person(shared) as mia:
        page = await shown(mia, "/payment", id="p-2")
        shown_text = text_in(page)
        stored = (await shared.get("/v1/transactions/p-2")).json()
        assert "11.00 EUR" in shown_text
        assert stored["score"]["model"] in shown_text
        assert "by mia" in shown_text
        assert "Called." in shown_text
        assert "customer" in shown_text
        explained = (await shared.get("/v1/transactions/p-2/reasons")).json()
        shares_text = shown_text.replace("\N{MINUS SIGN}", "-")
        shares = [float(text) for text in re.findall(r"[+-]\d+\.\d\d(?=\s)", shares_text)]
        expected = explained["log_odds"] - explained["baseline"]
        assert sum(shares) == pytest.approx(expected, abs=0.005 * len(shares) + 1e-6)
        largest = max(explained["reasons"], key=lambda reason: abs(reason["share"]))
        assert largest["sentence"] in shown_text

        replayed = (await shared.post("/v1/transactions/p-2/replay")).json()
        again = text_in(await shown(mia, "/replay", id="p-2"))
        assert "The same again." in again
        assert replayed["adaptation"]["adapter"] in again


async def test_an_accounts_page_has_its_payments_entities_labels_and_log(
    shared: httpx.AsyncClient,
) -> None:
    for n in range(3):
        body = posted(f"q-{n}", account_id="q", device_id="d-both")
        await shared.post("/v1/transactions", json=body)
    await shared.post("/v1/transactions", json=posted("r-1", account_id="r", device_id="d-both"))
    await shared.put("/v1/transactions/q-1/label", json={"label": "fraud", "analyst": "mia"})
    await shared.delete("/v1/transactions/q-1/label")
    async with person(shared) as mia:
        page = await shown(mia, "/account", id="q")
        shown_text = text_in(page)
        assert "3 payments · 0 fraud, 0 legitimate · revision 2" in shown_text
        classes = [element.get("class") or "" for element in elements(page, "svg")]
        assert sum("mark " in names for names in classes) >= 3
        assert "d-both 2 accounts" in shown_text
        assert "revision 2: q-1 label removed" in shown_text
        assert "revision 1: q-1 Fraud" in shown_text
        assert "label.removed" in shown_text
        entity = text_in(await shown(mia, "/entity", kind="device", id="d-both"))
        assert "Accounts that have used it: 2" in entity


async def test_all_that_was_posted_is_on_the_page_and_in_the_file(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    body = {**EXAMPLE, "ip_address": "203.0.113.8", "type": "transfer", "status": "declined"}
    assert (await client.post("/v1/transactions", json=body)).status_code == 200
    read = (await client.get("/v1/transactions/t-1001")).json()
    page = text_in(await shown(mia, "/payment", id="t-1001"))
    file = await mia.get("/console/payments.csv", params={"account_id": read["account_id"]})
    [values] = csv.DictReader(io.StringIO(file.text))
    assert read.keys() - values.keys() == {"attributes", "entities", "score"}
    texts = {name: text for name, text in read.items() if isinstance(text, str)}
    assert texts.keys() == read.keys() - {"attributes", "entities", "score", "label"}
    assert {name: values[name] for name in texts} == texts
    for text in (*texts.values(), *read["entities"].values()):
        assert text in page or text in (read["occurred_at"], read["amount"])
    # A name and its value stand in two columns.
    for words in ("categoryelectronics", "IP address203.0.113.8", "device age days3"):
        assert words in page


@pytest.mark.parametrize(
    ("wanted", "page"),
    [("f-1", "/console/payment"), ("f", "/console/account"), ("f-device", "/console/entity")],
)
async def test_what_has_an_id_is_found_by_it(
    client: httpx.AsyncClient, mia: httpx.AsyncClient, wanted: str, page: str
) -> None:
    body = posted("f-1", account_id="f", device_id="f-device", email="f@example.com")
    await client.post("/v1/transactions", json=body)
    path, query = sent_to(await mia.get("/console/find", params={"id": f" {wanted} "}))
    assert (path, query["id"]) == (page, wanted)


async def test_a_search_lists_everything_with_the_id_or_says_that_there_is_nothing(
    client: httpx.AsyncClient, mia: httpx.AsyncClient
) -> None:
    await client.post("/v1/transactions", json=posted("same", account_id="same"))
    page = await shown(mia, "/find", id="same")
    assert "Several things have this id: same" in text_in(page)
    links = [element["href"] for element in elements(page, "a")]
    assert {"/console/payment?id=same", "/console/account?id=same"} <= set(links)
    for wanted in ("nothing", "", "x" * 200, "a\x00b", "\u202e"):
        answer = await mia.get("/console/find", params={"id": wanted})
        assert answer.status_code == 404
        assert "Nothing has this id" in answer.text


@pytest.mark.parametrize(
    "address",
    [
        "/payment?id=none",
        "/account?id=none",
        "/entity?kind=device&id=none",
        "/replay?id=none",
        "/what-if?id=none",
        "/nowhere",
    ],
)
async def test_an_unknown_id_is_a_page_that_says_so(mia: httpx.AsyncClient, address: str) -> None:
    answer = await mia.get(f"/console{address}")
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert 'href="/console"' in answer.text


async def test_the_services_own_address_leads_to_the_console(mia: httpx.AsyncClient) -> None:
    answer = await mia.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console")


@pytest.mark.parametrize("address", ["?tab=all", "?at=", "/payment", "?cursor=x", "/entity?id=x"])
async def test_a_wrong_address_is_a_page_that_says_so(
    client: httpx.AsyncClient, mia: httpx.AsyncClient, address: str
) -> None:
    answer = await mia.get(f"/console{address}")
    assert answer.status_code == 422
    assert answer.headers["content-type"].startswith("text/html")

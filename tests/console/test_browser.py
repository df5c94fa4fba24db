"""The console in a real browser: by the keyboard alone, and for everybody."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.api.requests import posted
from tests.browsers import Watch, chromium
from tests.servers import new_key, server

PEOPLE = ("mia", "noah")
# Of what it finds good, no selectors: they took it a fifth of its time.
FAULTS = {"resultTypes": ["violations"]}
OF_ALL = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WCAG = {**FAULTS, "runOnly": OF_ALL}
CSS = Path("app/console/static/console.css")
OF_COLOURS = {
    **FAULTS,
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}
HOSTILE = "<img src=x onerror=document.title='ran'>{{7*7}}\u202eb/'\""


class Console(NamedTuple):
    """A running service with payments that wait, and the address of its console."""

    url: str
    keys: dict[str, str]
    api: httpx.Client

    def labels(self, *names: str) -> list[str | None]:
        return [self.api.get(f"/v1/transactions/{name}").json()["label"] for name in names]

    def queue(self, *names: str) -> None:
        """Payments of an account each, which wait in this order."""
        for n, name in enumerate(names):
            body = posted(name, account_id=f"{name}-account", amount=900 - 5 * n, merchant_id=None)
            scored = self.api.post("/v1/transactions", json=body).json()
            assert scored["outcome"] == "review", scored


@pytest.fixture(scope="module")
def console(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path, checkpoint: Path
) -> Iterator[Console]:
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("console") / "quickstudy.db")
    database_url = f"sqlite:///{path}"
    with server(database_url, checkpoint) as url:
        keys = {name: new_key(database_url) for name in PEOPLE}
        headers = {"Authorization": f"Bearer {keys['mia']}"}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as api:
            stated = {"review": 1e-8, "decline": 0.999}
            assert api.post("/v1/thresholds", json=stated).status_code == 200
            yield Console(url, keys, api)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@contextmanager
def opened(browser: Browser, console: Console, path: str, **options: Any) -> Iterator[Page]:
    """A window of somebody who is new here; fails where anything was kept out of a page."""
    context: BrowserContext = browser.new_context(**options)
    tab = context.new_page()
    watch = Watch(tab, console.url)
    tab.goto(f"{console.url}{path}")
    yield tab
    context.close()
    assert watch.complaints == []


@contextmanager
def signed_in(
    browser: Browser, console: Console, person: str = "mia", **options: Any
) -> Iterator[Page]:
    """A window in which somebody has signed in; fails where anything was kept out of a page."""
    with opened(browser, console, "/console", **options) as tab:
        # Keys that come before the page has put the cursor there are lost, as anywhere.
        expect(tab.locator("#person")).to_be_focused()
        tab.keyboard.type(person)
        tab.keyboard.press("Tab")
        tab.keyboard.type(console.keys[person])
        tab.keyboard.press("Enter")
        expect(tab.get_by_role("button", name="Sign out")).to_be_visible()
        yield tab


def settled(tab: Page, payment: str) -> None:
    """Wait until the panel shows this payment, and all of it."""
    expect(tab.locator(".verdict [name=id]")).to_have_value(payment)
    ready(tab)
    expect(tab.locator("section#what-if")).to_be_visible()


def ready(tab: Page) -> None:
    """Wait until keys act on what is shown."""
    expect(tab.locator("#page[data-ready]:not([aria-busy])")).to_be_attached()


def press(tab: Page, *keys: str) -> None:
    """Press keys once the page is ready for them."""
    ready(tab)
    for key in keys:
        tab.keyboard.press(key)


def shown(tab: Page) -> str:
    return tab.locator(".verdict [name=id]").input_value()


def test_a_day_by_keys_alone(console: Console, browser: Browser) -> None:
    console.queue("d-1", "d-2", "d-3")
    with signed_in(browser, console) as tab:
        keys = tab.keyboard
        tab.goto(f"{console.url}/console?order=age&at=d-1")
        settled(tab, "d-1")
        press(tab, "j")
        settled(tab, "d-2")
        # Who listens hears what has come, and goes on from there.
        assert tab.evaluate("document.activeElement.id") == "panel-title"
        press(tab, "k")
        settled(tab, "d-1")
        # One key: fraud, and the next is there.
        press(tab, "f")
        settled(tab, "d-2")
        assert console.labels("d-1", "d-2") == ["fraud", None]
        expect(tab.locator(".done")).to_contain_text("Fraud: you labelled d-1")
        expect(tab.locator("#status")).to_contain_text("Fraud: you labelled d-1")
        press(tab, "u")
        settled(tab, "d-1")
        assert console.labels("d-1") == [None]
        press(tab, "s")
        settled(tab, "d-2")
        press(tab, "a")
        expect(tab.get_by_role("button", name="Give back")).to_be_visible()
        press(tab, "a")
        expect(tab.get_by_role("button", name="Take", exact=True)).to_be_visible()
        settled(tab, "d-2")
        # In a field keys are letters, and Escape leaves it.
        press(tab, "n")
        keys.type("flu: called")
        press(tab, "Escape")
        press(tab, "l")
        settled(tab, "d-3")
        assert console.labels("d-2") == ["legitimate"]
        history = console.api.get("/v1/transactions/d-2/label").json()["history"]
        assert (history[0]["note"], history[0]["analyst"]) == ("flu: called", "mia")
        press(tab, "t")
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Payment d-3")
        press(tab, "r")
        expect(tab.locator("#replay")).to_contain_text("The same again.")
        # Parts that come later do not call the window something else.
        expect(tab).to_have_title("Payment d-3 · Quickstudy")
        press(tab, "o")
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Account d-3-account")
        expect(tab.locator("section#ask-next")).to_be_visible()
        expect(tab).to_have_title("Account d-3-account · Quickstudy")
        press(tab, "/")
        keys.type("d-2")
        press(tab, "Enter")
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Payment d-2")
        press(tab, "?")
        expect(tab.get_by_role("dialog")).to_be_visible()
        press(tab, "f")
        press(tab, "Escape")
        expect(tab.get_by_role("dialog")).to_be_hidden()
        assert console.labels("d-2") == ["legitimate"]
        press(tab, "g", "q")
        expect(tab.locator(".tabs [aria-current]")).to_contain_text("Open")
        tab.go_back()
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Payment d-2")


class Hands:
    """Presses keys, and counts them: text that is typed counts as one."""

    def __init__(self, tab: Page) -> None:
        self._tab, self.keys = tab, 0

    def press(self, *keys: str) -> None:
        press(self._tab, *keys)
        self.keys += len(keys)

    def write(self, text: str) -> None:
        self._tab.keyboard.type(text)
        self.keys += 1

    def taken(self) -> int:
        """How many since this was last asked."""
        keys, self.keys = self.keys, 0
        return keys


def test_each_task_of_a_day_takes_few_keys_and_no_mouse(console: Console, browser: Browser) -> None:
    console.queue("k-1", "k-2", "k-3", "k-4")
    burst = [posted(f"b-{n}", account_id="k-burst", amount=30 + n) for n in range(4)]
    console.api.post("/v1/transactions/batch", json={"transactions": burst}).raise_for_status()
    invited = console.api.post("/v1/people", json={"name": "lea", "role": "analyst"}).json()
    needed: dict[str, int] = {}
    with signed_in(browser, console) as tab, opened(browser, console, invited["setup_path"]) as lea:
        # Somebody to hand over to, who has followed their link.
        expect(lea.locator("#password")).to_be_focused()
        lea.keyboard.type("correct horse battery")
        lea.keyboard.press("Enter")
        expect(lea.get_by_role("button", name="Sign out")).to_be_visible()
        hands, heading = Hands(tab), tab.get_by_role("heading", level=1)
        tab.goto(f"{console.url}/console/people")
        hands.press("g", "q")
        expect(tab.locator(".tabs [aria-current]")).to_contain_text("Open")
        needed["see what waits"] = hands.taken()
        tab.goto(f"{console.url}/console?order=age&at=k-1")
        settled(tab, "k-1")
        # Why, and what each verdict would do, are there without a key.
        expect(tab.locator("table.why")).to_be_visible()
        needed["why, and what if"] = hands.taken()
        hands.press("z")
        settled(tab, "k-2")
        expect(tab.locator(".done")).to_contain_text("k-1 is snoozed until")
        needed["snooze"] = hands.taken()
        hands.press("u")
        settled(tab, "k-1")
        needed["wake"] = hands.taken()
        hands.press("s")
        settled(tab, "k-2")
        needed["skip"] = hands.taken()
        hands.press("f")
        settled(tab, "k-3")
        needed["fraud"] = hands.taken()
        hands.press("u")
        settled(tab, "k-2")
        assert console.labels("k-2") == [None]
        needed["undo"] = hands.taken()
        hands.press("l")
        settled(tab, "k-3")
        assert console.labels("k-2") == ["legitimate"]
        needed["legitimate"] = hands.taken()
        hands.press("x")
        expect(tab.locator(".tabs [aria-current]")).to_contain_text("Mine 1")
        taken = shown(tab)
        assert console.api.get(f"/v1/reviews/{taken}").json()["assignee"] == "mia"
        needed["take the next"] = hands.taken()
        hands.press("h", "Tab", "Enter")
        expect(tab.get_by_role("heading", name="You have taken nothing")).to_be_visible()
        assert console.api.get(f"/v1/reviews/{taken}").json()["assignee"] == "lea"
        needed["hand over"] = hands.taken()
        hands.press("3")
        expect(tab.locator(".tabs [aria-current]")).to_contain_text("Declined")
        needed["declines"] = hands.taken()
        hands.press("/")
        hands.write("b-0")
        hands.press("Enter")
        expect(heading).to_contain_text("Payment b-0")
        needed["find by id"] = hands.taken()
        hands.press("r")
        expect(tab.locator("#replay")).to_contain_text("The same again.")
        needed["replay"] = hands.taken()
        hands.press("m")
        expect(heading).to_contain_text(burst[0]["merchant_id"])
        needed["others at the merchant"] = hands.taken()
        tab.goto(f"{console.url}/console/payment?id=b-0")
        hands.press("o")
        expect(heading).to_contain_text("Account k-burst")
        expect(tab.locator("section#ask-next")).to_contain_text("b-")
        needed["like this account, and what to ask next"] = hands.taken()
        hands.press("n")
        hands.write("Rang them up.")
        hands.press("Tab", "Enter")
        expect(tab.locator("blockquote")).to_contain_text("Rang them up.")
        assert tab.locator("[name=note]").input_value() == ""
        needed["note"] = hands.taken()
        hands.press("Shift+j", "Shift+j", "Shift+j", "f")
        expect(heading).to_contain_text("What these labels would do")
        assert console.labels("b-1", "b-2", "b-3") == [None, None, None]
        hands.press("f")
        expect(tab.locator(".match")).to_contain_text("3 labels are another now")
        assert console.labels("b-0", "b-1", "b-2", "b-3") == [None, "fraud", "fraud", "fraud"]
        needed["label three of a burst"] = hands.taken()
        hands.press("g", "p")
        expect(heading).to_contain_text("People")
        needed["who is here"] = hands.taken()
    assert needed == {
        "see what waits": 2,
        "why, and what if": 0,
        "snooze": 1,
        "wake": 1,
        "skip": 1,
        "fraud": 1,
        "undo": 1,
        "legitimate": 1,
        "take the next": 1,
        "hand over": 3,
        "declines": 1,
        "find by id": 3,
        "replay": 1,
        "others at the merchant": 1,
        "like this account, and what to ask next": 1,
        "note": 4,
        "label three of a burst": 5,
        "who is here": 2,
    }


def test_a_verdict_is_of_what_is_shown_or_none(console: Console, browser: Browser) -> None:
    console.queue("r-1", "r-2", "r-3", "r-4")
    with signed_in(browser, console) as tab:

        def late(route: Route) -> None:
            tab.wait_for_timeout(300)
            route.continue_()

        tab.goto(f"{console.url}/console?order=age&at=r-1")
        settled(tab, "r-1")
        tab.route(re.compile(r"/console(\?|/verdict)"), late)
        tab.keyboard.press("j")
        assert shown(tab) == "r-1"
        tab.keyboard.press("f")
        tab.keyboard.press("l")
        expect(tab.locator("#status")).to_contain_text("the page is changing")
        settled(tab, "r-2")
        assert console.labels("r-1", "r-2", "r-3") == [None, None, None]
        # Of two presses the second is not of the payment that comes after the first.
        tab.keyboard.press("f")
        tab.keyboard.press("f")
        settled(tab, "r-3")
        tab.unroute_all()
        assert console.labels("r-1", "r-2", "r-3", "r-4") == [None, "fraud", None, None]


def test_the_second_verdict_on_a_payment_is_warned_and_overwrites_nothing(
    console: Console, browser: Browser
) -> None:
    console.queue("w-1", "w-2")
    with (
        signed_in(browser, console) as mia,
        signed_in(browser, console, "noah") as noah,
    ):
        for tab in (mia, noah):
            tab.goto(f"{console.url}/console?order=age&at=w-1")
            settled(tab, "w-1")
        press(mia, "l")
        settled(mia, "w-2")
        press(noah, "f")
        expect(noah.get_by_role("alert")).to_contain_text("Nothing was stored")
        assert console.labels("w-1") == ["legitimate"]
        press(mia, "a")
        expect(mia.get_by_role("button", name="Give back")).to_be_visible()
        noah.goto(f"{console.url}/console?order=age&at=w-2")
        settled(noah, "w-2")
        expect(noah.locator(".panel")).to_contain_text("mia has this review")
        press(noah, "f")
        noah.wait_for_timeout(200)
        assert console.labels("w-2") == [None]


def test_a_note_outlives_the_session_and_keys_can_be_turned_off(
    console: Console, browser: Browser
) -> None:
    console.queue("n-1")
    with signed_in(browser, console) as tab:
        tab.goto(f"{console.url}/console/payment?id=n-1")
        settled(tab, "n-1")
        press(tab, "n")
        tab.keyboard.type("Half a thought")
        tab.keyboard.press("Escape")
        tab.context.clear_cookies()
        press(tab, "f")
        expect(tab.get_by_role("heading", level=1)).to_contain_text("Sign in")
        assert console.labels("n-1") == [None]
        expect(tab.locator("#person")).to_be_focused()
        tab.keyboard.type("mia")
        tab.keyboard.press("Tab")
        tab.keyboard.type(console.keys["mia"])
        tab.keyboard.press("Enter")
        settled(tab, "n-1")
        assert tab.locator("[name=note]").input_value() == "Half a thought"
        press(tab, "?")
        tab.get_by_role("checkbox").uncheck()
        tab.get_by_role("button", name="Close").click()
        press(tab, "f")
        tab.wait_for_timeout(200)
        assert console.labels("n-1") == [None]
        tab.get_by_role("button", name="Fraud").click()
        expect(tab.locator(".done")).to_be_visible()
        assert console.labels("n-1") == ["fraud"]


def test_links_and_forms_do_without_scripts(console: Console, browser: Browser) -> None:
    console.queue("s-1", "s-2")
    with signed_in(browser, console, java_script_enabled=False) as tab:
        tab.goto(f"{console.url}/console?order=age&at=s-1")
        tab.get_by_role("link", name="What each verdict would do").click()
        expect(tab.get_by_role("heading", name="If fraud")).to_be_visible()
        tab.go_back()
        tab.get_by_role("button", name="Legitimate").click()
        expect(tab.locator(".done")).to_contain_text("you labelled s-1")
        assert shown(tab) == "s-2"
        tab.get_by_role("button", name="Undo").click()
        assert console.labels("s-1") == [None]
        tab.get_by_role("link", name="Thresholds").click()
        tab.fill("#review", "2")
        tab.fill("#why", "Two more analysts.")
        tab.get_by_role("button", name="Show the effect").click()
        expect(tab.locator("[name=seen]")).to_have_value("2 99.9")
        expect(tab.locator("#why")).to_have_value("Two more analysts.")
        tab.fill("#review", "0.00001")
        tab.get_by_role("button", name="Set these").click()
        expect(tab.locator("p.problem")).to_contain_text("Nothing is set yet")
        expect(tab.locator("#why")).to_have_value("Two more analysts.")


def assert_for_everybody(tab: Page, page: str) -> None:
    """Axe finds nothing in either scheme, the second of which has other colours alone."""
    for scheme, rules in (("light", WCAG), ("dark", OF_COLOURS)):
        tab.emulate_media(color_scheme=scheme)
        found = Axe().run(tab, options=rules).response["violations"]
        assert [(violation["id"], violation["nodes"][0]["html"]) for violation in found] == [], (
            page,
            scheme,
        )


def test_the_dark_scheme_changes_nothing_but_colours() -> None:
    [block] = re.findall(
        r"prefers-color-scheme: dark\) \{ :root \{(.*?)\} \}", CSS.read_text(), re.S
    )
    assert re.fullmatch(r"(\s*--[\w-]+: (#[0-9a-f]{6}|none);)+\s*", block)
    assert CSS.read_text().count("prefers-color-scheme") == 1


def test_axe_finds_nothing_on_any_page_which_all_fit_into_320_pixels(
    console: Console, browser: Browser
) -> None:
    console.queue("x-1", "x-2")
    body = posted(HOSTILE, account_id=HOSTILE, merchant_id=HOSTILE, device_id="d")
    console.api.post("/v1/transactions", json=body).raise_for_status()
    first = "x-1"
    pages = [
        f"?order=age&at={first}",
        "?tab=mine",
        f"/payment?id={first}",
        f"/what-if?id={first}",
        f"/replay?id={first}",
        f"/account?id={first}-account",
        "/entity?kind=device&id=d",
        f"/find?id={first}-account",
        f"/try?account={first}-account&id={first}&label=fraud",
        "/payments?entity_kind=device&entity_id=d",
        "/people",
        "/password",
        "/ask",
        "/thresholds?review=1&decline=5",
        "/figures",
        "/models",
        "/drift",
        "/keys",
        "/webhooks",
        "/audit",
        "/demo",
        "/sign-in",
    ]
    with signed_in(browser, console) as tab:
        for page in pages:
            tab.set_viewport_size({"width": 1280, "height": 800})
            tab.goto(f"{console.url}/console{page}")
            if "at=" in page or "/payment?" in page:
                settled(tab, first)
            assert_for_everybody(tab, page)
            tab.set_viewport_size({"width": 320, "height": 640})
            over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert tab.evaluate(over) == 0, page
        tab.goto(f"{console.url}/console")
        press(tab, "?")
        assert_for_everybody(tab, "the list of keys")
        tab.goto(
            httpx.URL(
                f"{console.url}/console/payment", params={"id": body["transaction_id"]}
            ).__str__()
        )
        expect(tab.locator("section#what-if")).to_be_visible()
        assert tab.title() != "ran"
        expect(tab.locator("h1")).to_contain_text("onerror=document.title='ran'>{{7*7}}U+202Eb")


def test_a_first_visit_is_light(console: Console, browser: Browser) -> None:
    console.queue(*(f"l-{n}" for n in range(30)))
    with signed_in(browser, console) as tab:
        tab.context.new_page()
        sizes: list[int] = []
        fresh = browser.new_context(storage_state=tab.context.storage_state()).new_page()
        fresh.on("response", lambda answer: sizes.append(len(answer.body())))
        fresh.goto(f"{console.url}/console", wait_until="networkidle")
        assert len(sizes) >= 5
        assert sum(sizes) < 150_000
        fresh.context.close()

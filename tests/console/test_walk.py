"""From an empty service to a model promoted, by one person in a browser; each step is timed."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from app.settings import SHIPPED_MODEL
from tests.browsers import Watch, chromium
from tests.servers import new_key, server

# Loading and comparing give way to everything else that the machine does.
ASIDE_MILLISECONDS = 240_000


class Clock:
    """The steps of a walk, with the seconds that each took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.steps.append((name, time.monotonic() - began))
        print(f"{name}: {self.steps[-1][1]:.2f} s")


def test_from_an_empty_service_to_a_promoted_model(tmp_path: Path, migrated_sqlite: Path) -> None:
    shelf = tmp_path / "models"
    # The same network by two names: neither is worse.
    for name in ("default", "spring"):
        shutil.copytree(SHIPPED_MODEL, shelf / name)
    (shelf / "spring" / "report.html").write_text(
        "<!DOCTYPE html><title>spring</title><style>p { color: red }</style>"
        "<p>Average precision .5</p><script>parent.document.title = 'ran'</script>"
    )
    database_url = f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'quickstudy.db')}"
    clock, key = Clock(), new_key(database_url)
    with (
        server(database_url, shelf / "default") as url,
        chromium() as browser,
        httpx.Client(base_url=url, timeout=60) as api,
    ):
        api.headers["Authorization"] = f"Bearer {key}"
        tab = browser.new_page()
        watch = Watch(tab, url)
        with clock.step("signed in"):
            tab.goto(f"{url}/console")
            tab.fill("#person", "mia")
            tab.fill("#key", key)
            tab.press("#key", "Enter")
            expect(tab.get_by_role("heading", level=1)).to_contain_text("Nothing has been scored")
        with clock.step("demonstration loaded"):
            tab.get_by_role("button", name="Load demonstration payments").click()
            tab.get_by_role("link", name="To the first review").click(timeout=ASIDE_MILLISECONDS)
            expect(tab.locator(".verdict [name=id]")).to_be_attached()
        first = tab.locator(".verdict [name=id]").input_value()
        ready = tab.locator("#page[data-ready]:not([aria-busy])")
        with clock.step("first verdict"):
            expect(ready).to_be_attached()
            tab.keyboard.press("f")
            expect(tab.locator(".done")).to_contain_text(f"Fraud: you labelled {first}")
        with clock.step("taken back"):
            expect(ready).to_be_attached()
            tab.keyboard.press("u")
            expect(tab.locator(".verdict [name=id]")).to_have_value(first)
        assert api.get(f"/v1/transactions/{first}").json()["label"] is None
        with clock.step("thresholds moved"):
            expect(ready).to_be_attached()
            tab.keyboard.press("g")
            tab.keyboard.press("h")
            slider = tab.get_by_role("slider", name="Review from")
            reviews = tab.locator("[data-effect=reviews_per_day]")
            before = reviews.inner_text()
            slider.focus()
            # A tenth of the scale: of few payments, steps of one may hold up no other.
            tab.keyboard.press("PageDown")
            expect(reviews).not_to_have_text(before)
            shown = tab.locator("[data-effect]").all_inner_texts()
            live = [float(text.removesuffix(" %")) for text in shown]
            wanted = float(tab.locator("#review").input_value()) / 100
            # What is in the middle of two figures is rounded up here and down there.
            assert live == pytest.approx(effects_of(api, wanted), abs=0.051)
            tab.fill("#why", "More eyes.")
            tab.get_by_role("button", name="Set these").click()
            expect(tab.get_by_role("status")).to_contain_text(["Set. Scores from then on", ""])
        assert api.get("/v1/thresholds").json()["review"] == pytest.approx(wanted)
        with clock.step("model compared and promoted"):
            tab.goto(f"{url}/console/models?name=spring")
            report = tab.frame_locator("iframe.report").locator("p")
            expect(report).to_contain_text("Average precision .5")
            assert "ran" not in tab.title()
            # The frame runs nothing, and Chromium says so.
            watch.complaints = [
                complaint for complaint in watch.complaints if "sandboxed" not in complaint
            ]
            tab.get_by_role("button", name="Put in shadow").click()
            # The page that answers is there, and takes the next click.
            expect(tab.get_by_role("button", name="End its shadow")).to_be_visible()
            expect(ready).to_be_attached()
            tab.get_by_role("button", name="Compare with the active model").click()
            tab.get_by_role("button", name="Promote").click(timeout=ASIDE_MILLISECONDS)
            expect(tab.get_by_role("status").first).to_contain_text("Done")
        active = [
            model["name"] for model in api.get("/v1/models").json()["data"] if model["active"]
        ]
        assert active == ["spring"]
        with clock.step("replayed"):
            tab.goto(f"{url}/console/payment?id={first}")
            expect(ready).to_be_attached()
            tab.keyboard.press("r")
            expect(tab.locator("#replay")).to_contain_text("The same again.")
        api.close()
        tab.close()
        assert [complaint for complaint in watch.complaints if "sandboxed" not in complaint] == []


def effects_of(api: httpx.Client, review: float) -> list[float]:
    """What the API says of thresholds, in the page's units."""
    effect = api.get("/v1/thresholds/effects", params={"review": review}).json()["effect"]
    per_day = [effect["reviews_per_day"], effect["declines_per_day"]]
    shares = [effect["precision"], effect["recall"], effect["legitimate_share"]]
    return [*per_day, *(100 * share for share in shares)]

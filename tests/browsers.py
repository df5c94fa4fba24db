"""A real browser without the internet: the system's Chromium, by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
# Of a machine that is busy with other things, too.
MOST_MILLISECONDS = 60_000
ALONE = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
expect.set_options(timeout=MOST_MILLISECONDS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that reaches this machine alone; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ALONE)
        yield browser
        browser.close()


class Watch:
    """What a page requested elsewhere, and what its policy or its scripts complained of."""

    def __init__(self, tab: Page, own: str) -> None:
        self.complaints: list[str] = []
        tab.set_default_timeout(MOST_MILLISECONDS)
        tab.on("request", lambda request: self._note(request.url, own))
        tab.on("console", lambda line: self.complaints.append(f"{line.type}: {line.text}"))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:")):
            self.complaints.append(f"elsewhere: {url}")

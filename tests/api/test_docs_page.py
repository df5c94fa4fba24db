"""Behind a proxy that takes a prefix off: the page at /docs, in a real browser without the
internet, the addresses in answers, and the client."""

import http.client
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import httpx
import pytest
from playwright.sync_api import Page, expect
from pydantic import ValidationError

from app.settings import Settings
from quickstudy_client import Client
from tests.api.callers import openapi_document
from tests.api.requests import posted
from tests.browsers import Watch, chromium
from tests.servers import new_key, server

# It begins as our own paths do.
PREFIX = "/v1"


class Service(NamedTuple):
    url: str
    key: str


@contextmanager
def stripping_proxy(target: str) -> Iterator[str]:
    """The URL of a proxy that takes PREFIX off a request's path; other paths are 404."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404)
                return
            path = self.path.removeprefix(PREFIX)
            connection = http.client.HTTPConnection(target.removeprefix("http://"))
            connection.request(self.command, path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}"
        finally:
            proxy.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path, checkpoint: Path
) -> Iterator[Service]:
    """A service as callers see it."""
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("service") / "quickstudy.db")
    database_url = f"sqlite:///{path}"
    with (
        server(database_url, checkpoint, QUICKSTUDY_ROOT_PATH=PREFIX) as direct,
        stripping_proxy(direct) as origin,
    ):
        yield Service(origin + PREFIX, new_key(database_url))


@pytest.fixture
def page(service: Service) -> Iterator[Page]:
    """A browser that reaches this machine alone, and fails the test where it tried to reach more
    or where the page's policy kept anything out."""
    with chromium() as browser:
        tab = browser.new_page()
        watch = Watch(tab, service.url)
        yield tab
    assert watch.complaints == []


def test_the_page_shows_every_operation_and_scores_a_payment(service: Service, page: Page) -> None:
    paths = httpx.get(f"{service.url}/openapi.json").json()["paths"]
    page.goto(f"{service.url}/docs")
    expect(page.locator(".opblock")).to_have_count(sum(map(len, paths.values())))
    page.get_by_role("button", name="Authorize").first.click()
    page.locator(".modal-ux input").fill(service.key)
    page.locator(".modal-ux button.authorize").click()
    page.locator(".modal-ux button.btn-done").click()
    operation = page.locator(".opblock-post", has_text="/v1/transactions").first
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    answer = operation.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("200")
    expect(answer).to_contain_text("risk_score")


def test_addresses_in_answers_have_the_prefix(service: Service) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    assert document["servers"] == [{"url": PREFIX}]
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers) as caller:
        for kind in ("comparisons", "drift"):
            started = caller.post(f"/v1/models/tiny/{kind}")
            assert started.status_code == 202
            address = started.headers["Location"]
            assert address.startswith(f"{PREFIX}/v1/models/tiny/{kind}/")
            found = caller.get(urljoin(str(started.url), address))
            assert (found.status_code, found.json()["id"]) == (200, started.json()["id"])


def test_the_client_takes_a_url_with_a_prefix(service: Service) -> None:
    with Client(service.url, service.key) as client:
        for name in ("order/7", "p-1", "p-2"):
            client.score(posted(name))
        page = client.transactions(limit=1)
        found = [*page.data]
        while page.has_more:
            page = client.transactions(limit=1, cursor=page.next_cursor)
            found += page.data
        assert {"order/7", "p-1", "p-2"} <= {payment.transaction_id for payment in found}
        assert client.transaction("order/7").transaction_id == "order/7"


def test_without_a_prefix_addresses_begin_at_the_root() -> None:
    document = openapi_document()
    assert document["servers"] == [{"url": "/"}]


@pytest.mark.parametrize("path", ["fraud", "https://example.com/fraud", "/a b", "/a?b", "//a"])
def test_a_prefix_that_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="set QUICKSTUDY_ROOT_PATH to the prefix"):
        Settings(root_path=path)


def test_a_slash_at_the_end_of_a_prefix_does_not_matter() -> None:
    assert [Settings(root_path=path).prefix for path in ("", "/", "/a", "/a/b/")] == [
        *("", "", "/a", "/a/b")
    ]

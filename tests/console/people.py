"""People at the console, as HTTP sees them: a browser with a cookie, and no key."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from fastapi import FastAPI

from app.db.database import Database
from app.keys import service as keys
from app.keys.scopes import SCOPES, Scope
from tests.api.callers import ServiceClient, app_of, part_of

HERE = {"Sec-Fetch-Site": "same-origin"}


def browser_of(app: FastAPI, base_url: str = "http://127.0.0.1") -> httpx.AsyncClient:
    """A browser that nobody has signed in with."""
    return ServiceClient(app, base_url=base_url)


async def new_key(client: httpx.AsyncClient, *scopes: Scope, tenant: str = "default") -> str:
    return await keys.create(part_of(client, Database), "console", tenant, scopes or SCOPES)


async def sign_in(browser: httpx.AsyncClient, key: str, person: str = "mia") -> httpx.Response:
    form = {"person": person, "key": key, "back": ""}
    return await browser.post("/console/sign-in", data=form, headers=HERE)


@asynccontextmanager
async def person(
    client: httpx.AsyncClient, *scopes: Scope, name: str = "mia", tenant: str = "default"
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser in which somebody has signed in with a new key."""
    async with browser_of(app_of(client)) as browser:
        answer = await sign_in(browser, await new_key(client, *scopes, tenant=tenant), name)
        assert answer.status_code == 303, answer.text
        yield browser


async def shown(browser: httpx.AsyncClient, path: str, **query: Any) -> str:
    """The text of a page."""
    answer = await browser.get(f"/console{path}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.text


async def send(browser: httpx.AsyncClient, path: str, **form: str) -> httpx.Response:
    """A form of the console's own."""
    return await browser.post(f"/console{path}", data=form, headers=HERE)


def sent_to(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """The path that an answer leads on to, and its query."""
    assert answer.status_code == 303, answer.text
    address = urlsplit(answer.headers["location"])
    return address.path, {name: value for name, [value] in parse_qs(address.query).items()}


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def elements(html: str, name: str) -> list[dict[str, str | None]]:
    """The attributes of the elements of this name."""
    parser = _Elements()
    parser.feed(html)
    return [attributes for tag, attributes in parser.found if tag == name]


def text_in(html: str) -> str:
    """What can be read, in one line."""
    parser = _Elements()
    parser.feed(html)
    return re.sub(r"\s+", " ", parser.text)


def forms(html: str) -> dict[str, dict[str, str]]:
    """The hidden fields of each form, by its address."""
    found: dict[str, dict[str, str]] = {}
    parser = _Elements()
    parser.feed(html)
    for tag, attributes in parser.found:
        if tag == "form":
            fields = found[attributes.get("action") or ""] = {}
        elif tag == "input" and attributes.get("type") == "hidden":
            fields[attributes["name"] or ""] = attributes["value"] or ""
    return found

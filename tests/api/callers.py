"""Callers of an application in this process, over ASGI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from app.db.database import Database
from app.keys import service as keys
from app.main import create_app
from app.settings import Settings

Part = TypeVar("Part")


class ServiceClient(httpx.AsyncClient):
    """Calls an application, which tests may look into."""

    def __init__(self, app: FastAPI, **options: Any) -> None:
        # A 500 is an answer like any other: tests look at what a caller would see.
        super().__init__(transport=httpx.ASGITransport(app, raise_app_exceptions=False), **options)
        self.app = app


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI document, which takes most of a second to make."""
    return create_app(Settings(database_url="sqlite:///unused.db")).openapi()


def client_of(app: FastAPI, key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"}
    return ServiceClient(app, base_url="http://service", headers=headers)


def app_of(client: httpx.AsyncClient) -> FastAPI:
    """The application that a client of `client_of` calls."""
    assert isinstance(client, ServiceClient)
    return client.app


def part_of(client: httpx.AsyncClient, kind: type[Part]) -> Part:
    """A part of the service that a client calls."""
    part: Part = app_of(client).state.service.part(kind)
    return part


@asynccontextmanager
async def calling(settings: Settings, key: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of a new service, with this key or with a new one of the tenant `default`."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        key = key or await keys.create(app.state.service.part(Database), "tests")
        async with client_of(app, key) as client:
            yield client


async def of_another_tenant(client: httpx.AsyncClient, tenant: str = "other") -> httpx.AsyncClient:
    """A caller of the same service with a key of another tenant."""
    return client_of(app_of(client), await keys.create(part_of(client, Database), "tests", tenant))


def settings_of(database_url: str, checkpoint: Path) -> Settings:
    return Settings(database_url=database_url, model=checkpoint, device="cpu", bank_bytes=1 << 20)

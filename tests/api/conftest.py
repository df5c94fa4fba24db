"""The real application on each database, called over ASGI."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from app.db.database import Database
from app.keys import service as keys
from app.main import create_app
from app.settings import Settings
from tests.api.requests import client_of


@asynccontextmanager
async def calling(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of a new service with a key of the tenant `default`."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        database = app.state.service.part(Database)
        async with client_of(app, await keys.create(database, "tests")) as client:
            yield client


async def of_another_tenant(client: httpx.AsyncClient) -> httpx.AsyncClient:
    app = client._transport.app  # type: ignore[attr-defined]
    database = app.state.service.part(Database)
    return client_of(app, await keys.create(database, "tests", tenant="other"))


def settings_of(database_url: str, checkpoint: Path) -> Settings:
    return Settings(database_url=database_url, model=checkpoint, device="cpu", bank_bytes=1 << 20)


@pytest.fixture
async def client(service_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key of the tenant `default`."""
    async with calling(service_settings) as client:
        yield client


@pytest.fixture
async def stranger(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the same service with a key of another tenant."""
    async with await of_another_tenant(client) as stranger:
        yield stranger


@pytest.fixture(scope="module")
async def shared(shared_database_url: str, checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """`client` for all tests of a file that ask for it: those that leave each other be."""
    async with calling(settings_of(shared_database_url, checkpoint)) as client:
        yield client


@pytest.fixture(scope="module")
async def shared_stranger(shared: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the shared service with a key of another tenant."""
    async with await of_another_tenant(shared) as stranger:
        yield stranger


@pytest.fixture(scope="module")
async def edge(
    migrated_sqlite: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """`client` on SQLite alone, shared by the requests that end before the database."""
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("edge") / "quickstudy.db")
    async with calling(settings_of(f"sqlite:///{path}", checkpoint)) as client:
        yield client

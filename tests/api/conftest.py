"""The real application on each database, asked over ASGI."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from app.db.database import Database
from app.keys import service as keys
from app.main import create_app
from app.settings import Settings
from tests.api.requests import client_of


@pytest.fixture
async def client(service_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key of the tenant `default`."""
    app = create_app(service_settings)
    async with app.router.lifespan_context(app):
        database = app.state.service.part(Database)
        async with client_of(app, await keys.create(database, "tests")) as client:
            yield client


@pytest.fixture
async def stranger(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the same service with a key of another tenant."""
    app = client._transport.app  # type: ignore[attr-defined]
    key = await keys.create(app.state.service.part(Database), "tests", tenant="other")
    async with client_of(app, key) as stranger:
        yield stranger


@pytest.fixture(scope="module")
async def edge(
    migrated_sqlite: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """`client` on SQLite alone, shared by the requests that end before the database."""
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("edge") / "quickstudy.db")
    settings = Settings(
        database_url=f"sqlite:///{path}", model=checkpoint, device="cpu", bank_bytes=1 << 20
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        key = await keys.create(app.state.service.part(Database), "tests")
        async with client_of(app, key) as client:
            yield client

"""The real application on each database, called over ASGI."""

import shutil
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import httpx
import pytest

from app.settings import Settings
from tests.api.callers import calling, of_another_tenant, settings_of

_tenants = count(1)


@pytest.fixture
async def client(shared: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key of a tenant of its own, of a service that all tests of a file share."""
    async with await of_another_tenant(shared, f"tenant-{next(_tenants)}") as client:
        yield client


@pytest.fixture
async def stranger(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the same service with a key of another tenant."""
    async with await of_another_tenant(client, f"tenant-{next(_tenants)}") as stranger:
        yield stranger


@pytest.fixture
async def sole(service_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller with a key of the tenant `default`, of a service and a database of its own."""
    async with calling(service_settings) as client:
        yield client


@pytest.fixture
async def sole_stranger(sole: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of that service with a key of another tenant."""
    async with await of_another_tenant(sole) as stranger:
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

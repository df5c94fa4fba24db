"""The console on each database, and people who have signed in."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import calling, settings_of
from tests.console.people import person


@pytest.fixture(scope="module")
async def client(
    migrated_sqlite: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the API, on SQLite, for all tests of a file."""
    path = shutil.copy(migrated_sqlite, tmp_path_factory.mktemp("console") / "quickstudy.db")
    async with calling(settings_of(f"sqlite:///{path}", checkpoint)) as client:
        yield client


@pytest.fixture(scope="module")
async def shared(shared_database_url: str, checkpoint: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The same on each database."""
    async with calling(settings_of(shared_database_url, checkpoint)) as client:
        yield client


@pytest.fixture
async def mia(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of an analyst who may do everything."""
    async with person(client) as browser:
        yield browser

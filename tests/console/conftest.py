"""The console on each database, and people who have signed in."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.api.conftest import edge, shared, shared_stranger
from tests.console.people import person

__all__ = ["edge", "shared", "shared_stranger"]


@pytest.fixture(scope="module")
def client(edge: httpx.AsyncClient) -> httpx.AsyncClient:
    """A caller of the API, on SQLite, for all tests of a file."""
    return edge


@pytest.fixture
async def mia(client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The browser of an analyst who may do everything."""
    async with person(client) as browser:
        yield browser

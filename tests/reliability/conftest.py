"""Fixtures of the reliability suite: how much of it to run, and where to keep what it saw."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import IS_TORTURE
from tests.postgres import DURABLE, PostgresServer, postgres_server
from tests.reliability.figures import note

Note = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def torture() -> bool:
    """Whether to run the full form."""
    return IS_TORTURE


@pytest.fixture
def noted(request: pytest.FixtureRequest, torture: bool) -> Note:
    """Keeps a figure of the full form: promise, database, what was seen."""

    def keep(promise: str, database: str, seen: str) -> None:
        if torture:
            note(promise, database, seen, request.node.nodeid.removeprefix("tests/reliability/"))

    return keep


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A server with durable commits that a test may end: nobody else uses it."""
    with postgres_server(DURABLE) as server:
        yield server

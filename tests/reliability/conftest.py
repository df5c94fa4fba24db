"""Fixtures of the reliability suite: how much of it to run, and where to keep what it saw."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.postgres import DURABLE, PostgresServer, postgres_server
from tests.reliability.figures import note

Note = Callable[[str, str, str], None]


def is_torture() -> bool:
    """Whether the full form is asked for: `make torture`."""
    return os.environ.get("QUICKSTUDY_TORTURE") == "1"


@pytest.fixture(scope="session")
def torture() -> bool:
    """`is_torture`, for tests that ask while they run."""
    return is_torture()


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

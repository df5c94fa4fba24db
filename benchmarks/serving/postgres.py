"""PostgreSQL for the benchmarks: the one of the tests, with commits that are durable."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from benchmarks.serving.processors import pinned, started_by_us
from tests.postgres import execute, postgres_server

# PostgreSQL's own defaults, which the tests leave for speed.
DURABLE = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "max_connections=200")


class Postgres(NamedTuple):
    """A running server: the URL of its maintenance database, and its first process."""

    url: str
    pid: int

    def create(self, name: str) -> str:
        """The URL of a new database, as the service takes it."""
        execute(self.url, f"CREATE DATABASE {name}")
        return self.url.replace("+asyncpg", "").removesuffix("postgres") + name


@contextmanager
def postgres(core: int | None) -> Iterator[Postgres]:
    """A server on that core alone, or on all of them."""
    with ExitStack() as stack:
        with pinned(core):
            url = stack.enter_context(postgres_server(DURABLE))
        yield Postgres(url, started_by_us("postgres"))

"""PostgreSQL for the benchmarks: the one of the tests, with commits that are durable."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.serving.processors import pinned
from tests.postgres import DURABLE, PostgresServer, postgres_server


@contextmanager
def postgres(core: int | None) -> Iterator[PostgresServer]:
    """A server on that core alone, or on all of them."""
    with ExitStack() as stack:
        with pinned(core):
            server = stack.enter_context(postgres_server(DURABLE))
        yield server

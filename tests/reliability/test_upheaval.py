"""Three servers behind HAProxy and pgbouncer, a PostgreSQL with a standby: all goes down once.

Callers go on meanwhile. Nothing that was acknowledged is lost or stored twice, and whoever gets no
answer is told to come again.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import NamedTuple

from app.db.migrating import upgrade
from tests.api.requests import posted
from tests.balancers import NAMES, Balancer, balancer
from tests.postgres import PostgresServer, execute, pooler, standby_of
from tests.reliability.conftest import Note
from tests.reliability.ledger import Caller, Ledger, Traffic, reconcile
from tests.servers import Server, new_key, replicas

REPLICAS, CONNECTIONS = 3, 20
# Answers between one upheaval and the next.
BETWEEN = 100
PROBES = (f"probe-{n}" for n in count())
# How long the full form goes on before PostgreSQL fails over.
TORTURE_SECONDS = 600


class Probe(NamedTuple):
    """A caller who measures how long a payment waits while something goes down."""

    caller: Caller
    seconds: dict[str, list[float]]

    def during(self, name: str, act: Callable[[], None]) -> None:
        """The longest that any payment waits for its answer from before this until after it."""
        longest, is_over = 0.0, False
        with ThreadPoolExecutor(1) as threads:
            acting = threads.submit(act)
            while not is_over:
                is_over = acting.done()
                begun = time.monotonic()
                self.caller.score(posted(next(PROBES), account_id="probe"))
                longest = max(longest, time.monotonic() - begun)
            acting.result()
        self.seconds.setdefault(name, []).append(longest)


@contextmanager
def with_a_standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    """A standby of it that has whatever is acknowledged."""
    with standby_of(primary) as standby:
        execute(primary.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        execute(primary.url, "SELECT pg_reload_conf()")
        yield standby


def restarted(before: Balancer, name: str, server: Server) -> None:
    """As an upgrade does it: drained, ended, started, and back."""
    before.administer(f"set server servers/{name} state drain")
    server.stop()
    server.start()
    before.administer(f"set server servers/{name} state ready")


def test_everything_goes_down_once_and_nothing_is_lost_or_doubled(
    own_postgres: PostgresServer, checkpoint: Path, tmp_path: Path, torture: bool, noted: Note
) -> None:
    name = own_postgres.create("upheaval").rpartition("/")[2]
    ledger = Ledger()
    with (
        with_a_standby(own_postgres) as standby,
        pooler(own_postgres.port, "transaction", CONNECTIONS) as first,
        pooler(standby.port, "transaction", CONNECTIONS) as second,
    ):
        hosts = f"127.0.0.1:{first},127.0.0.1:{second}"
        url = f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"
        direct = f"{own_postgres.url.rpartition('/')[0]}/{name}"
        upgrade(direct)
        key = new_key(direct)
        with (
            replicas(REPLICAS, url, checkpoint, QUICKSTUDY_LABELS_PER_ACCOUNT="100000") as servers,
            balancer(servers, tmp_path) as before,
            Caller(before.url, key, ledger) as caller,
            Traffic(before.url, key, ledger) as traffic,
        ):
            probe = Probe(caller, {})
            until = time.monotonic() + (TORTURE_SECONDS if torture else 0)
            restarting = list(zip(NAMES, servers, strict=True))[: REPLICAS if torture else 1]
            is_over = False
            while not is_over:
                for place, server in restarting:
                    traffic.strike(BETWEEN, lambda: None)
                    probe.during("a server restarted", partial(restarted, before, place, server))
                traffic.strike(BETWEEN, lambda: None)
                probe.during("a server killed", servers[0].kill)
                servers[0].start()
                is_over = time.monotonic() > until
            # All that a server did not answer, another one did.
            assert ledger.unanswered == []
            traffic.strike(BETWEEN, lambda: None)

            def balancer_killed() -> None:
                before.kill()
                before.launch()

            probe.during("the balancer killed and started", balancer_killed)
            traffic.strike(BETWEEN, lambda: None)
            before_failover = len(ledger.unanswered)

            def failed_over() -> None:
                own_postgres.kill()
                execute(standby.url, "SELECT pg_promote()")

            probe.during("PostgreSQL failed over", failed_over)
            traffic.strike(BETWEEN, lambda: None)
            assert ledger.unanswered[before_failover:] == []
        reconcile(f"{standby.url.rpartition('/')[0]}/{name}", ledger)
    for what, seconds in probe.seconds.items():
        noted(
            f"{what}: nothing lost", "PostgreSQL", f"a payment waits {max(seconds):.2f} s at most"
        )

"""PostgreSQL becomes read-only, and another server the primary: refused, red, then served again."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

import httpx

from app.db.migrating import upgrade
from tests.api.requests import posted, problem_of
from tests.postgres import PostgresServer, execute, standby_of, value_of
from tests.servers import new_key, server_process

PATIENCE = 60


class Caller:
    """Somebody who sends payments, and keeps what was acknowledged."""

    def __init__(self, url: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._client = httpx.Client(base_url=url, headers=headers, timeout=PATIENCE)
        self._numbers = count()
        self.acknowledged: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def score(self) -> httpx.Response:
        body = posted(f"t-{next(self._numbers)}")
        answer = self._client.post("/v1/transactions", json=body)
        if answer.is_success:
            self.acknowledged[body["transaction_id"]] = answer.content
        return answer

    def label(self, name: str, label: str) -> Any:
        return self._client.put(f"/v1/transactions/{name}/label", json={"label": label}).json()

    def replay(self, name: str) -> Any:
        return self._client.post(f"/v1/transactions/{name}/replay").json()

    def get(self, path: str) -> httpx.Response:
        return self._client.get(path)

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def assert_refused(self) -> None:
        """Scores and readiness are both, and soon say why; the process is alive."""
        for ask in (self.score, lambda: self.get("/readyz")):
            assert problem_of(ask()) == (503, "database_unavailable")
            self.until(lambda ask=ask: "read-only" in ask().json()["detail"])
        assert self.get("/livez").status_code == 200

    def assert_all_there(self) -> None:
        for name, content in self.acknowledged.items():
            answer = self._client.post("/v1/transactions", json=posted(name))
            assert answer.content == content


def make_read_only(server: PostgresServer, *, is_so: bool) -> None:
    """As a demoted primary is, with its connections still open."""
    setting = f"ALTER SYSTEM SET default_transaction_read_only = {'on' if is_so else 'off'}"
    execute(f"{server.url}?options=-cdefault_transaction_read_only%3Doff", setting)
    execute(server.url, "SELECT pg_reload_conf()")


@contextmanager
def serving(url: str, checkpoint: Path) -> Iterator[Caller]:
    """A service on a new database, and somebody who calls it."""
    upgrade(url)
    with (
        server_process(url, checkpoint) as service,
        Caller(service.url, new_key(url)) as caller,
    ):
        yield caller


def test_a_server_that_becomes_read_only_is_not_ready_until_it_can_be_written_to(
    own_postgres: PostgresServer, checkpoint: Path
) -> None:
    with serving(own_postgres.create("readonly"), checkpoint) as caller:
        make_read_only(own_postgres, is_so=True)
        # Readiness finds out by itself, without any score before it.
        caller.until(lambda: not caller.get("/readyz").is_success)
        caller.assert_refused()
        make_read_only(own_postgres, is_so=False)
        caller.until(lambda: caller.get("/readyz").is_success)
        assert caller.score().is_success
        make_read_only(own_postgres, is_so=True)
        answers: list[int] = []
        caller.until(lambda: answers.append(caller.score().status_code) or answers[-1] != 200)
        # Never a fault of ours.
        assert answers[-1] == 503
        for _ in range(10):
            caller.assert_refused()
        make_read_only(own_postgres, is_so=False)
        caller.until(lambda: caller.score().is_success)
        caller.assert_all_there()


def test_a_standby_that_is_promoted_is_found(
    own_postgres: PostgresServer, checkpoint: Path
) -> None:
    name = own_postgres.create("failover").rpartition("/")[2]
    with standby_of(own_postgres) as standby:
        # What is acknowledged is there too.
        execute(own_postgres.url, "ALTER SYSTEM SET synchronous_standby_names = '*'")
        execute(own_postgres.url, "SELECT pg_reload_conf()")
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{own_postgres.port}"
        url = f"postgresql://postgres@{hosts}/{name}?target_session_attrs=read-write"
        try:
            with serving(url, checkpoint) as caller:
                assert {caller.score().status_code for _ in range(10)} == {200}
                # First the old one is still there, and holds on to its connections.
                make_read_only(own_postgres, is_so=True)
                caller.until(lambda: not caller.score().is_success)
                caller.assert_refused()
                execute(standby.url, "SELECT pg_promote()")
                caller.until(lambda: caller.score().is_success)
                own_postgres.stop()
                # Nothing was left on the old one.
                assert {caller.score().status_code for _ in range(10)} == {200}
                assert caller.get("/readyz").is_success
                caller.assert_all_there()
        finally:
            (own_postgres.home / "data" / "postgresql.auto.conf").write_text("")


def test_a_label_after_one_that_a_failover_lost_is_not_scored_by_its_copy(
    own_postgres: PostgresServer, checkpoint: Path
) -> None:
    if own_postgres.process is None or own_postgres.process.poll() is not None:
        own_postgres.start()
    name = own_postgres.create("behind").rpartition("/")[2]
    hosts = f"127.0.0.1:{own_postgres.port}"
    with standby_of(own_postgres) as standby:
        hosts += f",127.0.0.1:{standby.port}"
        with serving(f"postgresql://postgres@{hosts}/{name}", checkpoint) as caller:
            names = [caller.score().json()["transaction_id"] for _ in range(3)]
            behind = f"{standby.url.rpartition('/')[0]}/{name}"
            caller.until(lambda: value_of(behind, "SELECT count(*) FROM transactions") == 3)
            # From here on the standby gets nothing.
            execute(standby.url, "ALTER SYSTEM SET primary_conninfo = ''")
            execute(standby.url, "SELECT pg_reload_conf()")
            following = "SELECT count(*) FROM pg_stat_wal_receiver"
            caller.until(lambda: value_of(behind, following) == 0)
            lost = caller.label(names[0], "fraud")
            assert lost["adaptation"]["revision"] == 1
            own_postgres.stop()
            execute(standby.url, "SELECT pg_promote()")
            caller.until(lambda: caller.get("/readyz").is_success)
            # The account's first label, once more, and another one.
            assert caller.label(names[1], "legitimate")["adaptation"]["revision"] == 1
            scored = caller.score().json()
            assert scored["adaptation"]["labels"] == 1
            again = caller.replay(scored["transaction_id"])
            assert (again["match"], again["differs"]) == (True, [])


def test_of_several_hosts_one_that_is_off_holds_up_nobody(
    own_postgres: PostgresServer, checkpoint: Path
) -> None:
    # Packets to this address (RFC 5737) are answered by nobody.
    hosts = f"192.0.2.1:5432,127.0.0.1:{own_postgres.port}"
    if own_postgres.process is None or own_postgres.process.poll() is not None:
        own_postgres.start()
    name = own_postgres.create("off").rpartition("/")[2]
    with serving(f"postgresql://postgres@{hosts}/{name}", checkpoint) as caller:
        assert caller.score().is_success
        own_postgres.stop()
        caller.until(lambda: not caller.score().is_success)
        own_postgres.start()
        caller.until(lambda: caller.score().is_success)

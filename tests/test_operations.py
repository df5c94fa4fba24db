"""The commands of docs/operations.md, word for word: a backup beside traffic, restored, serves."""

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.db.migrating import upgrade
from tests.api.requests import posted
from tests.conftest import REPOSITORY
from tests.postgres import DURABLE, postgres_server
from tests.servers import new_key, server_process

PAGE = (REPOSITORY / "docs" / "operations.md").read_text()
TIMEOUT = 60


def commands_of(heading: str) -> list[str]:
    """The blocks of commands below a heading."""
    [section] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class Place(NamedTuple):
    """A database, what its commands run with, and where it is after it was restored."""

    heading: str
    url: str
    restored_url: str
    variables: dict[str, str]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/quickstudy.db"
        yield Place("Backup and restore on SQLite", url, url, {})
        return
    with postgres_server(DURABLE) as server:
        url = server.create("quickstudy")
        restored = f"{url}_restored"
        # The server's own tools, of its version.
        variables = {
            "PATH": f"{server.binaries}:{os.environ['PATH']}",
            "QUICKSTUDY_DATABASE_URL": url,
            "RESTORED_URL": restored,
        }
        yield Place("Backup and restore on PostgreSQL", url, restored, variables)


def run(commands: str, folder: Path, variables: dict[str, str]) -> None:
    environment = {**os.environ, **variables}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    subprocess.run(["bash", "-euc", commands], cwd=folder, env=environment, check=True)


class Traffic:
    """Payments one after another, in a thread, and the answers that came."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send)
        self.acknowledged: dict[str, bytes] = {}

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _send(self) -> None:
        for number in count():
            if self._ended.is_set():
                return
            body = posted(f"t-{number}", account_id=f"a-{number % 7}")
            answer = self._client.post("/v1/transactions", json=body)
            assert answer.is_success
            self.acknowledged[f"t-{number}"] = answer.content


def test_what_is_backed_up_beside_traffic_is_restored_and_serves(
    place: Place, checkpoint: Path, tmp_path: Path
) -> None:
    upgrade(place.url)
    backup, restore = commands_of(place.heading)
    headers = {"Authorization": f"Bearer {new_key(place.url)}"}
    with server_process(place.url, checkpoint) as service:
        with (
            httpx.Client(base_url=service.url, headers=headers, timeout=TIMEOUT) as client,
            Traffic(client) as traffic,
        ):
            while len(traffic.acknowledged) < 50:
                threading.Event().wait(0.01)
            before = dict(traffic.acknowledged)
            run(backup, tmp_path, place.variables)
        service.kill()
        service.process.wait()
    run(restore, tmp_path, place.variables)
    with (
        server_process(place.restored_url, checkpoint) as service,
        httpx.Client(base_url=service.url, headers=headers, timeout=TIMEOUT) as client,
    ):
        for name, content in before.items():
            body = posted(name, account_id=f"a-{int(name[2:]) % 7}")
            assert client.post("/v1/transactions", json=body).content == content
        replayed = client.post("/v1/transactions/t-49/replay").json()
        assert replayed["match"], replayed
        assert client.post("/v1/transactions", json=posted("new")).is_success


def test_the_upgrade_is_a_command_too_and_so_is_the_rebuild(
    tmp_path: Path, checkpoint: Path
) -> None:
    variables = {
        "QUICKSTUDY_DATABASE_URL": "sqlite:///quickstudy.db",
        "QUICKSTUDY_MODEL": str(checkpoint),
    }
    for heading in ("Upgrade", "Rebuild for other features"):
        [commands] = commands_of(heading)
        run(commands, tmp_path, variables)
    assert (tmp_path / "quickstudy.db").exists()


def test_a_backup_that_cannot_be_made_is_one_sentence_and_leaves_nothing(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sentence(url: str, target: Path) -> str:
        monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", url)
        ended = CliRunner().invoke(app, ["db", "backup", str(target)])
        assert ended.exit_code == 2
        return " ".join(ended.stderr.split())

    there = tmp_path / "there.db"
    there.write_text("precious")
    database = f"sqlite:///{migrated_sqlite}"
    assert "is there already" in sentence(database, there)
    assert there.read_text() == "precious"
    assert "there is no database" in sentence(f"sqlite:///{tmp_path}/no.db", tmp_path / "b.db")
    assert "No such file" in sentence(database, tmp_path / "nowhere" / "b.db")
    assert "pg_dump" in sentence("postgresql://db/quickstudy", tmp_path / "b.db")
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"no database at all" * 1000)
    assert "cannot be copied" in sentence(f"sqlite:///{damaged}", tmp_path / "b.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.db", "there.db"]


def test_a_backup_is_for_its_owner_alone(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", f"sqlite:///{migrated_sqlite}")
    target = tmp_path / "backup.db"
    assert CliRunner().invoke(app, ["db", "backup", str(target)]).exit_code == 0
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_backup_has_what_stands_in_the_log_alone_and_no_half_of_a_commit(
    migrated_sqlite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "quickstudy.db", tmp_path / "backup.db"
    source.write_bytes(migrated_sqlite.read_bytes())
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", f"sqlite:///{source}")
    with closing(sqlite3.connect(source, isolation_level=None)) as writer:
        for pragma in ("journal_mode=WAL", "wal_autocheckpoint=0"):
            writer.execute(f"PRAGMA {pragma}")
        rows = [("t", f"a-{n}", bytes(3000)) for n in range(500)]
        insert = "INSERT INTO accounts (tenant, account_id, state) VALUES (?, ?, ?)"
        writer.executemany(insert, rows)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute(insert, ("t", "not committed", b""))
        assert CliRunner().invoke(app, ["db", "backup", str(target)]).exit_code == 0
    with closing(sqlite3.connect(target)) as copy:
        found = copy.execute("SELECT account_id FROM accounts").fetchall()
        assert {name for (name,) in found} == {name for _, name, _ in rows}
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)

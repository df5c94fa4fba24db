"""A SQLite file is one server's, and a second one is refused with a sentence."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.db.holding import held
from app.errors import SetupError
from tests.postgres import free_port
from tests.servers import START_SECONDS, server_process, until_ready

END_SECONDS = 30
PROGRAM = Path(sys.executable).with_name("quickstudy")


def test_a_second_server_on_a_file_is_refused_until_the_first_is_gone(
    migrated_sqlite: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = tmp_path / "quickstudy.db"
    database.write_bytes(migrated_sqlite.read_bytes())
    url, port = f"sqlite:///{database}", free_port()
    command = [PROGRAM, "serve", "--port", str(port)]
    environment = {
        **os.environ,
        "QUICKSTUDY_DATABASE_URL": url,
        "QUICKSTUDY_MODEL": str(checkpoint),
        "QUICKSTUDY_DEVICE": "cpu",
    }
    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        until_ready(f"http://127.0.0.1:{port}", first)
        # On another port, which would not be taken.
        second = subprocess.run(
            [*command[:-1], str(free_port())],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
        )
        assert second.returncode == 2
        refusal = " ".join(second.stderr.split())
        assert f"another server has the database {database}" in refusal
        assert f"process {first.pid} on " in refusal
        # Commands go on beside it.
        monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", url)
        assert "first" in CliRunner().invoke(app, ["keys", "list"]).output
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").is_success
        with pytest.raises(SetupError), held(url):
            pass
    finally:
        first.kill()
        first.wait()
    with held(url):
        pass


def is_running(process: str) -> bool:
    try:
        # Of one that nobody has waited for, nothing but its end is left.
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())
    except OSError:
        return False


def test_workers_end_with_the_server_that_started_them(
    migrated_sqlite: Path, tmp_path: Path, checkpoint: Path
) -> None:
    database = tmp_path / "quickstudy.db"
    database.write_bytes(migrated_sqlite.read_bytes())
    with server_process(f"sqlite:///{database}", checkpoint, QUICKSTUDY_WORKERS="2") as server:
        pid = server.process.pid
        workers = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        server.kill()
        try:
            deadline = time.monotonic() + END_SECONDS
            while any(map(is_running, workers)):
                assert time.monotonic() < deadline, "workers go on without their server"
                time.sleep(0.05)
        finally:
            for worker in workers:
                with suppress(ProcessLookupError):
                    os.kill(int(worker), signal.SIGKILL)


def test_a_link_leads_to_the_same_lock_and_a_full_disk_is_no_reason_to_refuse(
    tmp_path: Path,
) -> None:
    database, link = tmp_path / "quickstudy.db", tmp_path / "link.db"
    database.touch()
    link.symlink_to(database)
    with held(f"sqlite:///{database}"), pytest.raises(SetupError), held(f"sqlite:///{link}"):
        pass
    # What is written there finds no room.
    (tmp_path / "full.db-server").symlink_to("/dev/full")
    with held(f"sqlite:///{tmp_path}/full.db"):
        pass


def test_postgresql_is_anybodys_and_a_place_that_is_not_there_is_left_to_the_database(
    tmp_path: Path,
) -> None:
    for url in ("postgresql://db/quickstudy", f"sqlite:///{tmp_path}/nowhere/quickstudy.db"):
        with held(url), held(url):
            pass

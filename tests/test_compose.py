"""Compose's profiles parse, take settings and models by environment, and backups come back."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY
from tests.postgres import PostgresServer, execute, free_port, postgres_server

BACKUP = REPOSITORY / "deploy" / "backup.sh"
PROFILES = {"monitoring": {"prometheus", "grafana"}, "backup": {"backup"}, "tls": {"tls"}}


def configured(*profiles: str, **variables: str) -> dict[str, Any]:
    """The services as compose understands them."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed (on Debian: apt-get install docker-compose)")
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    done = subprocess.run(
        [program, "--file", REPOSITORY / "docker-compose.yml", *chosen, "config"],
        capture_output=True,
        text=True,
        env={**os.environ, **variables},
    )
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


def test_every_profile_parses_and_hides_no_default_of_the_service() -> None:
    services = configured(*PROFILES)
    found = {
        profile: {n for n, service in services.items() if service.get("profiles") == [profile]}
        for profile in PROFILES
    }
    assert found == PROFILES
    assert set(services["service"]["environment"]) == {
        "FORWARDED_ALLOW_IPS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "QUICKSTUDY_DOCS",
        "QUICKSTUDY_TRACING",
    }


def test_the_service_believes_caddy_that_a_browser_came_by_https() -> None:
    services = configured("tls", FORWARDED_ALLOW_IPS="")
    assert services["service"]["environment"]["FORWARDED_ALLOW_IPS"] == "*"
    narrowed = configured("tls", FORWARDED_ALLOW_IPS="172.18.0.9")
    assert narrowed["service"]["environment"]["FORWARDED_ALLOW_IPS"] == "172.18.0.9"


def test_settings_and_models_are_taken_from_a_file_and_the_environment(tmp_path: Path) -> None:
    settings = tmp_path / "shop.env"
    settings.write_text(
        "QUICKSTUDY_LOG_LEVEL=warning\nQUICKSTUDY_MODEL=/models/shop\nQUICKSTUDY_DOCS=false\n"
    )
    checkpoints = str(tmp_path / "checkpoints")
    found = configured(QUICKSTUDY_SETTINGS=str(settings), QUICKSTUDY_CHECKPOINTS=checkpoints)
    for name in ("migrate", "service"):
        environment = found[name]["environment"]
        assert environment["QUICKSTUDY_LOG_LEVEL"] == "warning"
        assert environment["QUICKSTUDY_MODEL"] == "/models/shop"
        assert environment["QUICKSTUDY_DOCS"] == "false"
        assert f"{checkpoints}:/models:ro" in found[name]["volumes"]
    # And without a file, as before there could be one.
    found = configured(QUICKSTUDY_DOCS="false")
    assert found["service"]["environment"]["QUICKSTUDY_DOCS"] == "false"
    assert found["service"]["environment"]["QUICKSTUDY_TRACING"] == "false"


def test_caddy_takes_its_file() -> None:
    program = shutil.which("caddy")
    if program is None:
        pytest.skip("caddy is not installed (on Debian: apt-get install caddy)")
    file = REPOSITORY / "deploy" / "Caddyfile"
    done = subprocess.run(
        [program, "adapt", "--adapter", "caddyfile", "--validate", "--config", file],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"dial":"service:8000"' in done.stdout


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


def test_a_backup_comes_back_and_what_was_there_stays(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.create("quickstudy")
    (tmp_path / "quickstudy_database_url").write_text(url)
    environment = {
        **os.environ,
        "PATH": f"{server.binaries}:{os.environ['PATH']}",
        "QUICKSTUDY_SECRETS": str(tmp_path),
        "QUICKSTUDY_BACKUPS": str(tmp_path),
    }

    def backup(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([BACKUP, *arguments], capture_output=True, text=True, env=environment)

    def ask(query: str) -> str:
        command = [server.binaries / "psql", "--no-align", "--tuples-only", "--command", query, url]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    execute(url, "CREATE TABLE payments (id int); INSERT INTO payments VALUES (1), (2)")
    old = tmp_path / "quickstudy-20200101T000000Z.dump"
    kept = tmp_path / "quickstudy-before-the-move.dump"
    for path in (old, kept):
        path.touch()
        os.utime(path, (0, 0))
    made = backup("once")
    assert made.returncode == 0, made.stderr
    file = made.stdout.strip()
    # Whole: the old one has had its time, and what somebody has put beside it is left.
    assert {path.name for path in tmp_path.glob("quickstudy-*")} == {file, kept.name}

    execute(url, "INSERT INTO payments VALUES (3)")
    holding = subprocess.Popen(
        [server.binaries / "psql", url, "--command", "SELECT pg_sleep(60)"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while ask("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)'") == "0":
            time.sleep(0.1)
        refused = backup("restore", file)
        assert refused.returncode == 2
        assert "stop the service first" in refused.stderr
        assert ask("SELECT count(*) FROM payments") == "3"
    finally:
        execute(
            server.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query = 'SELECT pg_sleep(60)'",
        )
        holding.wait()

    restored = backup("restore", file)
    assert restored.returncode == 0, restored.stderr
    assert ask("SELECT count(*) FROM payments") == "2"
    before = ask("SELECT datname FROM pg_database WHERE datname LIKE 'quickstudy_before_%'")
    url = f"{url.rpartition('/')[0]}/{before}"
    assert ask("SELECT count(*) FROM payments") == "3"


def test_a_backup_that_fails_has_no_name_and_takes_no_other_away(
    server: PostgresServer, tmp_path: Path
) -> None:
    (tmp_path / "quickstudy_database_url").write_text(
        f"postgresql://nobody@127.0.0.1:{free_port()}/quickstudy"
    )
    environment = {
        **os.environ,
        "PATH": f"{server.binaries}:{os.environ['PATH']}",
        "QUICKSTUDY_SECRETS": str(tmp_path),
        "QUICKSTUDY_BACKUPS": str(tmp_path),
        "QUICKSTUDY_BACKUP_HOURS": "0",
    }
    old = tmp_path / "quickstudy-20200101T000000Z.dump"
    old.touch()
    os.utime(old, (0, 0))
    failed = subprocess.run([BACKUP, "once"], capture_output=True, env=environment)
    assert failed.returncode != 0
    assert list(tmp_path.glob("quickstudy-*")) == [old]
    with subprocess.Popen(
        [BACKUP, "forever"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        lines: list[str] = []
        # Until the second attempt: the first one is over.
        while sum("pg_dump: error" in line for line in lines) < 2:
            lines.append(process.stderr.readline())
        process.kill()
    assert any("the backup failed" in line for line in lines)
    assert list(tmp_path.glob("*.dump")) == [old]


def test_a_backup_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "quickstudy_database_url").write_text("postgresql://nowhere/quickstudy")
    environment = {
        **os.environ,
        "QUICKSTUDY_SECRETS": str(tmp_path),
        "QUICKSTUDY_BACKUPS": str(tmp_path),
    }
    done = subprocess.run(
        [BACKUP, "restore", "no.dump"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 2
    assert "there is no backup" in done.stderr

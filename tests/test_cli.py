"""The commands that run the service."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import httpx
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.cli.serve import address_of
from app.cli.terminal import console
from app.settings import Settings
from app.simulator.simulate import simulate
from quickstudy_client import Client
from quickstudy_client.models import DriftJob
from tests.postgres import free_port
from tests.servers import until_ready

runner = CliRunner()
# As people start it: with `python -m` the folder it runs in would be looked into on purpose.
SCRIPT = Path(sys.executable).with_name("quickstudy")
KEY = re.compile(r"qs_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, checkpoint: Path) -> None:
    for name, value in {
        "DATABASE_URL": f"sqlite:///{tmp_path / 'commands.db'}",
        "MODEL": str(checkpoint),
        "DEVICE": "cpu",
    }.items():
        monkeypatch.setenv(f"QUICKSTUDY_{name}", value)
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: str, status: int = 0) -> Result:
    result = runner.invoke(app, arguments)
    assert result.exit_code == status, result.output
    return result


def sentence(*arguments: str) -> str:
    """What a command says that ends with a user's error."""
    result = run(*arguments, status=2)
    assert "Traceback" not in result.output
    assert result.stderr.startswith("Error: ")
    return result.stderr


def test_help_lists_the_commands() -> None:
    output = run("--help").output
    assert all(name in output for name in ("serve", "demo", "import", "keys", "db"))


def test_a_key_is_printed_alone_and_listed_without_its_secret() -> None:
    run("db", "upgrade")
    key = run("keys", "create", "till", "--tenant", "acme").stdout
    assert KEY.fullmatch(key.strip())
    listed = run("keys", "list").output
    assert all(part in listed for part in ("till", "acme", key.split("_")[1]))
    assert key.strip().split("_", 2)[2] not in listed


def test_empty_lists_name_the_command_that_fills_them() -> None:
    run("db", "upgrade")
    empty = "There is no key: `quickstudy keys create NAME` makes one.\n"
    assert run("keys", "list").output == empty
    assert "quickstudy people add NAME" in run("people", "list").output
    run("keys", "create", "till")
    assert "There is no" not in run("keys", "list").output


def test_a_tenant_of_payments_alone_is_pruned(tmp_path: Path) -> None:
    run("db", "upgrade")
    data = tmp_path / "history.csv"
    data.write_text(
        "transaction_id,account_id,occurred_at,amount,currency\n"
        "t-1,a-1,2024-03-01T12:00:00Z,5.00,EUR\n"
    )
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "history"\n[columns]\ntransaction = "transaction_id"\naccount = "account_id"\n'
        'time = "occurred_at"\namount = "amount"\ncurrency = "currency"\n'
    )
    run("import", str(data), "--spec", str(spec), "--partial")
    assert "There is no key" in run("keys", "list").output
    assert "1 payments" in run("prune", "--keep-days", "30", "--dry-run").output


def test_lists_are_whole_in_a_narrow_terminal_whatever_things_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(console, "width", 80)
    run("db", "upgrade")
    # To Rich, the end of a tag that was not begun.
    name = "till [/bold]"
    key_id = run("keys", "create", name, "--tenant", "acme").stdout.split("_")[1]
    listed = run("keys", "list").output
    assert all(part in listed for part in (key_id, "[/bold]", "label", "decide"))
    assert "…" not in listed
    run("people", "add", "ann [/bold]")
    assert "[/bold]" in (listed := run("people", "list").output)
    assert "…" not in listed
    assert "ann [/bold] is auditor" in run("people", "role", "ann [/bold]", "auditor").output
    assert "ann [/bold] is removed" in run("people", "remove", "ann [/bold]").output


def test_a_key_is_revoked_once() -> None:
    run("db", "upgrade")
    key_id = run("keys", "create", "till").stdout.split("_")[1]
    run("keys", "revoke", key_id)
    assert f"no live key '{key_id}'" in sentence("keys", "revoke", key_id)


def test_keys_need_a_database_of_this_version() -> None:
    assert "quickstudy db upgrade" in sentence("keys", "create", "till")


def test_a_wrong_setting_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_PORT", "many")
    assert "port" in sentence("serve")


def test_a_checkpoint_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_MODEL", "/nowhere")
    assert "/nowhere" in sentence("serve")


def test_a_database_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    assert "cannot be migrated" in sentence("serve")


def test_a_file_that_cannot_be_is_one_sentence_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, why in (
        (tmp_path / "nowhere/quickstudy.db", "no folder"),
        (tmp_path, "is a folder"),
    ):
        monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", f"sqlite:///{path}")
        assert why in sentence("db", "upgrade")


def test_import_brings_a_file_into_the_database_and_again_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.parquet"
    frame = simulate(accounts=3, days=20, seed=5)
    frame.write_parquet(path)
    # The last part is a smaller one.
    monkeypatch.setattr("app.history.importing.CHUNK_OF_ONE_WRITER", frame.height - 1)
    first, again = (run("import", str(path), "--spec", "simulated").output for _ in range(2))
    assert f" {frame.height}/{frame.height} " in first
    assert "are in the database" in first
    assert re.search(
        r"Labels: [1-9]\d* stored, 0 changed, 0 already there, 0 not yet known\.$", first
    )
    assert "0 of them new" in again
    assert re.search(r"Labels: 0 stored, 0 changed, [1-9]\d* already there, 0 not", again)
    assert "keep the one" not in again
    frame.with_columns(is_fraud=pl.lit(None, pl.Boolean)).write_parquet(path)
    without = run("import", str(path), "--spec", "simulated").output
    labelled = frame["is_fraud"].count()
    assert f"{labelled} of its transactions have no label in the file and keep the one" in without


def test_import_lists_what_it_left_unchanged_and_ends_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    frame = simulate(accounts=3, days=20, seed=5)
    frame.write_csv(path)
    run("import", str(path), "--spec", "simulated")
    frame.with_columns(pl.col("amount") + 1).write_csv(path)
    result = run("import", str(path), "--spec", "simulated", status=2)
    assert "0 transactions of" in result.stdout
    assert f"{len(frame)} of its transactions differ" in result.stderr
    assert "'t00000000' (amount)" in result.stderr


def test_import_takes_other_columns_and_delays_and_refuses_other_features_by_name(
    tmp_path: Path,
) -> None:
    text = (files("app.learner") / "specs" / "simulated.toml").read_text()
    path, spec = tmp_path / "history.csv", tmp_path / "other.toml"
    frame = simulate(accounts=3, days=20, seed=5)
    frame.rename({"label_delay_days": "known_after"}).write_csv(path)
    spec.write_text(text.replace("label_delay_days", "known_after"))
    assert "are in the database" in run("import", str(path), "--spec", str(spec)).output
    spec.write_text(text.replace('delay_column = "label_delay_days"', "").replace("14", "30"))
    assert "are in the database" in run("import", str(path), "--spec", str(spec)).output
    for old, new, words in (
        ("[numeric]", '[numeric]\nage = "amount"', "[numeric] has age, which the model does not"),
        ("device_age_days =", "age =", "[numeric] lacks device_age_days; [numeric] has age,"),
        ('channel = "channel"', "", "[categorical] lacks channel"),
        ('merchant = "merchant_id"', "", "[entities] lacks merchant"),
    ):
        spec.write_text(text.replace(old, new))
        refused = sentence("import", str(path), "--spec", str(spec))
        assert words in refused
        assert "QUICKSTUDY_MODEL" in refused


def test_import_refuses_what_it_cannot_read(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert "no such file" in sentence("import", str(path), "--spec", "simulated")
    path.write_text("a,b\n1,2\n")
    assert "no column" in sentence("import", str(path), "--spec", "simulated")
    assert "built-in specs" in sentence("import", str(path), "--spec", "unknown")
    assert "QUICKSTUDY_MODEL" in sentence("import", str(path), "--spec", "handbook")


def test_import_refuses_a_history_from_the_future(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    simulate(accounts=3, days=5, seed=5, start=datetime(2090, 1, 1, tzinfo=UTC)).write_parquet(path)
    assert "more than a day ahead of now" in sentence("import", str(path), "--spec", "simulated")


# Whatever a folder holds: of its own, of libraries, and of what Python itself starts with.
HOSTILE = ("app", "migrations", "models", "torch", "uvicorn", "socket", "signal", "sitecustomize")


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A folder with modules and packages that end whoever imports them, and settings of others."""
    folder = tmp_path / "hostile"
    for name in HOSTILE:
        package = folder / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(f"raise SystemExit('a hostile {name}')\n")
    for name in ("pickle.py", "struct.py", "alembic.py"):
        (folder / name).write_text(f"raise SystemExit('a hostile {name}')\n")
    (folder / ".env").write_text("QUICKSTUDY_PORT=not-a-port\n")
    (folder / "alembic.ini").write_text("[alembic]\nscript_location = nowhere\n")
    (folder / "pyproject.toml").write_text("not = toml = at all\n")
    return folder


def test_the_demonstration_moves_one_account_and_not_the_other(hostile_folder: Path) -> None:
    result = subprocess.run(
        [SCRIPT, "demo"], capture_output=True, text=True, check=True, cwd=hostile_folder
    )
    rows = re.findall(r"(alice|bob).*?(before|after): (\d).*?(0\.\d+)", result.stdout)
    [alice, alice_after, bob, bob_after] = rows
    assert (alice[2], alice_after[2], bob[2], bob_after[2]) == ("0", "3", "0", "0")
    assert float(alice_after[3]) > float(alice[3])
    assert bob[3] == bob_after[3]


def test_a_demonstration_that_is_refused_says_why_in_a_sentence() -> None:
    # Settings are inherited; so is a disk that is full.
    environment = {**os.environ, "QUICKSTUDY_MAX_BODY_BYTES": "1024"}
    result = subprocess.run([SCRIPT, "demo"], capture_output=True, text=True, env=environment)
    assert result.returncode == 2
    assert result.stderr.endswith("refused a request: A body may have at most 1024 bytes.\n")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(("workers", "prefix"), [(1, ""), (2, "/fraud")])
def test_the_first_start_makes_everything_and_prints_a_line_that_works(
    tmp_path: Path,
    hostile_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    prefix: str,
) -> None:
    monkeypatch.setenv("QUICKSTUDY_ROOT_PATH", prefix)
    port = free_port()
    command = [SCRIPT, "serve", "--port", str(port), "--workers", str(workers)]
    output = tmp_path / "output"
    with output.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=hostile_folder)
    try:
        url = f"http://127.0.0.1:{port}"
        until_ready(url, process)
        shown = output.read_text()
        key = KEY.search(shown)
        assert key
        [body] = re.findall(r"-d '(.*?)'", shown, re.DOTALL)
        headers = {"Authorization": f"Bearer {key[0]}", "Content-Type": "application/json"}
        [address] = re.findall(r"curl -s (\S+)", shown)
        answer = httpx.post(address, headers=headers, content=body)
        assert answer.status_code == 200, answer.text
        # The proxy that takes the prefix off is not there.
        assert f"{url}{prefix}/console/setup?token=" in shown
        assert json.loads(body)["transaction_id"] == answer.json()["transaction_id"]
        assert "quickstudy_scored_transactions_total" in httpx.get(f"{url}/metrics").text
        # A job is computed in a process of its own, which has the same folder.
        if workers == 1:
            job = drift_of(url, key[0])
            assert job.status == "done", job.error
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert "Traceback" not in output.read_text()
    assert "first" in run("keys", "list").output


def test_an_address_of_ipv6_is_shown_in_brackets() -> None:
    assert address_of(Settings(host="::1", port=80)) == "http://[::1]:80"


def drift_of(url: str, key: str) -> DriftJob:
    """The active model's, once it has been measured."""
    with Client(url, key) as client:
        [model] = [model.name for model in client.models().data if model.active]
        job = client.measure_drift(model)
        while job.status in ("queued", "running"):
            time.sleep(0.1)
            job = client.drift(model, job.id)
    return job


def test_the_other_commands_work_in_any_folder_too(hostile_folder: Path) -> None:
    simulate(accounts=3, days=10, seed=1).write_csv(hostile_folder / "payments.csv")
    for arguments in (
        ("import", "payments.csv", "--spec", "simulated"),
        ("export", "payments.parquet"),
    ):
        done = subprocess.run(
            [SCRIPT, *arguments], capture_output=True, text=True, cwd=hostile_folder
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["app.py", "app/__init__.py"])
def test_the_client_serves_callers_who_have_an_app_of_their_own(tmp_path: Path, name: str) -> None:
    """Without any of the service."""
    theirs = tmp_path / name
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_text("NAME = 'theirs'\n")
    script = tmp_path / "score.py"
    script.write_text(
        "import sys\nimport app\nfrom quickstudy_client import Client\n"
        "print(app.NAME, Client.__name__, {'numpy', 'torch', 'fastapi'} & set(sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout == "theirs Client set()\n", done.stderr

"""A tenant goes to another database: what it was there, it is here, to the bit."""

import asyncio
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from app.cli.main import app
from app.db.database import Database
from app.db.holding import held
from app.db.migrating import upgrade
from app.db.patience import Patience
from app.db.schema import audit_log, checkpoints
from app.learner.spec import DatasetSpec
from app.tenants.moving import OF_TENANTS, export_tenant, import_tenant
from tests.api.requests import posted
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly, migrated_database
from tests.postgres import DURABLE, postgres_server
from tests.servers import new_key, server

TENANT, OTHER = "shop", "other"
PAYMENTS, ACCOUNTS = 60, 4
# As each server has them, beside what is stored.
TIMES = "evaluated_at", "replayed_at"


@pytest.fixture
def elsewhere(database_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the other kind."""
    request.param = "postgresql" if database_url.startswith("sqlite") else "sqlite"
    (tmp_path / "elsewhere").mkdir()
    with migrated_database(request, tmp_path / "elsewhere") as url:
        yield url


def run(url: str, *arguments: str) -> str:
    return command(url, "tenant", *arguments)


def command(url: str, *arguments: str, **variables: str) -> str:
    environment = {"QUICKSTUDY_DATABASE_URL": url, **variables}
    done = CliRunner().invoke(app, list(arguments), env=environment)
    assert done.exit_code == 0, done.output
    return done.output


def refused(url: str, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["tenant", *arguments], env={"QUICKSTUDY_DATABASE_URL": url})
    assert done.exit_code == 2, done.output
    return done.stderr.replace("\n", " ")


def caller(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def payment(n: int, begun: datetime) -> dict[str, Any]:
    return posted(
        f"t-{n}",
        account_id=f"a-{n % ACCOUNTS}",
        merchant_id=f"m-{n % 3}",
        device_id=f"d-{n % 7}",
        occurred_at=(begun + timedelta(days=n)).isoformat(),
        amount=20 + 900 * (n % 11 == 0),
    )


def live(client: httpx.Client, begun: datetime) -> None:
    """Payments, labels of which some have matured and one is gone, and what people do."""

    def done(method: str, path: str, body: Any = None) -> None:
        answer = client.request(method, f"/v1/{path}", json=body)
        assert answer.is_success, answer.text

    for n in range(PAYMENTS):
        done("POST", "transactions", payment(n, begun))
    for n in range(0, PAYMENTS, 3):
        label = "fraud" if n % 11 == 0 else "legitimate"
        done("PUT", f"transactions/t-{n}/label", {"label": label})
    done("DELETE", "transactions/t-9/label")
    done("POST", "accounts/a-1/rollback", {"revision": 1})
    done("PUT", "transactions/t-5/status", {"status": "refunded"})
    done("POST", "accounts/a-0/notes", {"text": "Called.", "transaction_id": "t-4"})
    done("POST", "thresholds", {"review": 0.3, "decline": 0.9})
    done("POST", "people", {"name": "Ann", "role": "analyst"})
    done("DELETE", "accounts/a-3")


def seen(client: httpx.Client) -> list[Any]:
    """What a tenant is answered about what there is."""
    answers = []
    for method, path in (
        *(
            ("GET", f"transactions/t-{n}/{what}")
            for n in (0, 4, 50)
            for what in ("reasons", "label")
        ),
        *(("POST", f"transactions/t-{n}/replay") for n in range(PAYMENTS) if n % ACCOUNTS != 3),
        *(("GET", f"accounts/a-{n}") for n in range(ACCOUNTS)),
        ("GET", "accounts/a-0/notes"),
        ("GET", "accounts/a-2/revisions"),
        ("GET", "accounts/a-2/influence"),
        ("GET", "entities/merchant/m-1"),
        ("GET", "reviews"),
        ("GET", "people"),
        ("GET", "erasures"),
    ):
        answer = client.request(method, f"/v1/{path}")
        assert method == "GET" or answer.json()["match"] is True
        answers.append((path, answer.status_code, plain(answer.json())))
    return answers


def plain(answer: Any) -> Any:
    if isinstance(answer, dict):
        return {name: plain(value) for name, value in answer.items() if name not in TIMES}
    return [plain(value) for value in answer] if isinstance(answer, list) else answer


async def rows(url: str, tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of a tenant, but for what the move itself writes down."""
    database = Database(url)
    try:
        async with database.read() as connection:
            found = {}
            for table in OF_TENANTS:
                query = select(table).where(table.c.tenant == tenant)
                if table is audit_log:
                    query = query.where(audit_log.c.action.not_like("tenant.%"))
                key = table.primary_key.columns
                found[table.name] = [
                    tuple(row) for row in await connection.execute(query.order_by(*key))
                ]
            return found
    finally:
        await database.close()


def test_a_moved_tenant_goes_on_as_if_nothing_had_happened(
    database_url: str, elsewhere: str, checkpoint: Path, tmp_path: Path
) -> None:
    key, other = new_key(database_url, TENANT), new_key(database_url, OTHER)
    begun = datetime.now(UTC) - timedelta(days=PAYMENTS + 1)
    file = tmp_path / "shop.db"
    with (
        server(database_url, checkpoint) as here,
        caller(here, key) as client,
        caller(here, other) as another,
    ):
        live(client, begun)
        another.post("/v1/transactions", json=posted("theirs")).raise_for_status()
        assert "60 payments" not in run(database_url, "export", TENANT, str(file))
        before = seen(client)
        assert "with rows in" in refused(database_url, "import", TENANT, str(file))
        run(elsewhere, "import", TENANT, str(file))
        moved, stored = (
            asyncio.run(rows(elsewhere, TENANT)),
            asyncio.run(rows(database_url, TENANT)),
        )
        assert len(stored["transactions"]) == 45
        assert sum(map(bool, stored.values())) >= 14
        left = {"api_keys", "figures"}
        for table, expected in stored.items():
            if table not in left:
                assert moved[table] == expected, table
        assert not any(asyncio.run(rows(elsewhere, OTHER)).values())
        with server(elsewhere, checkpoint) as there, caller(there, key) as moved_client:
            assert seen(moved_client) == before
            # What comes next has the same score in both.
            following = payment(PAYMENTS, begun)
            answers = [
                plain(each.post("/v1/transactions", json=following).json())
                for each in (client, moved_client)
            ]
            assert answers[0] == answers[1]
            assert answers[0]["adaptation"]["used"] == "adapted"
            with caller(there, other) as stranger:
                assert stranger.get("/v1/accounts").status_code == 401


def test_payments_are_pruned_while_the_service_scores(database_url: str, checkpoint: Path) -> None:
    begun = datetime.now(UTC) - timedelta(days=PAYMENTS + 1)
    model = {"QUICKSTUDY_MODEL": str(checkpoint)}
    options = ["prune", "--tenant", TENANT, "--keep-days"]
    with (
        server(database_url, checkpoint) as url,
        caller(url, new_key(database_url, TENANT)) as client,
        caller(url, new_key(database_url, OTHER)) as another,
    ):
        live(client, begun)
        another.post("/v1/transactions", json=payment(0, begun)).raise_for_status()
        # Of 30 days, each third payment was labelled once, and one account is erased.
        old = [n for n in range(31) if n % 3 and n % ACCOUNTS != 3]
        assert f"{len(old)} payments" in command(database_url, *options, "30", "--dry-run", **model)
        environment = {"QUICKSTUDY_DATABASE_URL": database_url, **model}
        declined = CliRunner().invoke(app, [*options, "30"], input="n\n", env=environment)
        assert declined.exit_code == 1
        assert f"Delete {len(old)} payments" in declined.output
        assert client.get("/v1/transactions/t-1").is_success
        assert f"{len(old)} payments" in command(database_url, *options, "30", "--yes", **model)
        assert "0 payments" in command(database_url, *options, "30", "--yes", **model)
        for n in old:
            answer = client.get(f"/v1/transactions/t-{n}")
            assert answer.status_code == 404
            assert "have been pruned" in answer.json()["detail"]
        for n in (12, 45, 50):
            assert client.post(f"/v1/transactions/t-{n}/replay").json()["match"] is True
        [logged] = client.get("/v1/audit-log", params={"action": "payments.pruned"}).json()["data"]
        assert logged["after"]["before"] < datetime.now(UTC).isoformat()
        assert another.get("/v1/transactions/t-0").is_success
        client.post("/v1/transactions", json=payment(PAYMENTS, begun)).raise_for_status()
        assert client.delete("/v1/accounts/a-1").is_success
    nobody = ["prune", "--tenant", "shpo", "--keep-days", "30", "--yes"]
    assert "no tenant 'shpo'" in CliRunner().invoke(app, nobody, env=environment).stderr
    refusal = CliRunner().invoke(app, [*options, "29", "--yes"], env=environment)
    assert refusal.exit_code == 2
    assert "30 days at least" in refusal.stderr


@mainly("sqlite")
def test_an_export_is_its_owners_and_has_nothing_of_others(
    database_url: str, checkpoint: Path, tmp_path: Path
) -> None:
    tenants = {tenant: new_key(database_url, tenant) for tenant in (TENANT, OTHER)}
    models = {
        tenant: tiny_checkpoint(tmp_path / "models" / tenant, seed=n)
        for n, tenant in enumerate(tenants)
    }
    for tenant, key in tenants.items():
        with server(database_url, models[tenant]) as url, caller(url, key) as client:
            client.post("/v1/transactions", json=posted()).raise_for_status()
    file = tmp_path / "shop.db"
    run(database_url, "export", TENANT, str(file))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert OTHER.encode() not in file.read_bytes()

    async def kept(url: str) -> int:
        database = Database(url)
        async with database.read() as connection:
            found = (await connection.execute(select(checkpoints.c.digest))).all()
        await database.close()
        return len(found)

    assert asyncio.run(kept(database_url)) == 2
    assert asyncio.run(kept(f"sqlite:///{file}")) == 1
    assert "exists" in refused(database_url, "export", TENANT, str(file))
    assert "no tenant 'nobody'" in refused(database_url, "export", "nobody", str(tmp_path / "n"))
    assert sorted(path.name for path in tmp_path.glob("n*")) == []


def test_an_import_is_whole_or_not_there(
    database_url: str, elsewhere: str, checkpoint: Path, tmp_path: Path
) -> None:
    key, file = new_key(database_url, TENANT), f"sqlite:///{tmp_path / 'shop.db'}"
    upgrade(file)
    with server(database_url, checkpoint) as url, caller(url, key) as client:
        live(client, datetime.now(UTC) - timedelta(days=PAYMENTS + 1))

    class Interrupted(Exception):
        pass

    def stop_amid(table: str, rows: int) -> None:
        if table == "transactions":
            raise Interrupted

    asyncio.run(move(database_url, file, export_tenant))
    with pytest.raises(Interrupted):
        asyncio.run(move(file, elsewhere, import_tenant, stop_amid))
    assert not any(asyncio.run(rows(elsewhere, TENANT)).values())
    asyncio.run(move(file, elsewhere, import_tenant))
    assert asyncio.run(rows(elsewhere, TENANT))["transactions"]


async def move(source: str, target: str, copy: Any, show: Any = lambda *_: None) -> list[str]:
    """Copy a tenant; why it waited meanwhile."""
    waits: list[str] = []
    reading, writing = Database(source), Database(target)
    try:
        await copy(reading, writing, TENANT, show, Patience(waits.append))
    finally:
        await reading.close()
        await writing.close()
    return waits


def test_a_move_outlasts_a_database_that_is_away(checkpoint: Path, tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path / 'shop.db'}"
    upgrade(file)
    with postgres_server(DURABLE) as postgres:
        source, target = postgres.create("here"), postgres.create("there")
        for url in (source, target):
            upgrade(url)
        key = new_key(source, TENANT)
        with server(source, checkpoint) as url, caller(url, key) as client:
            live(client, datetime.now(UTC) - timedelta(days=PAYMENTS + 1))
        for of, to, copy in ((source, file, export_tenant), (file, target, import_tenant)):
            ends = iter([True])

            def lose_once(table: str, rows: int, ends: Iterator[bool] = ends) -> None:
                if table == "transactions" and next(ends, False):
                    postgres.kill()
                    # Elsewhere than in this event loop, as it runs one of its own.
                    with ThreadPoolExecutor(1) as threads:
                        threads.submit(postgres.start).result()

            waits = asyncio.run(move(of, to, copy, lose_once))
            assert [bool(why) for why in waits] == [True, False]
        there = asyncio.run(rows(target, TENANT))
        here = asyncio.run(rows(source, TENANT))
    for table in ("transactions", "label_events"):
        assert there[table] == here[table]
        assert there[table]


def test_states_of_other_features_are_refused(
    database_url: str, elsewhere: str, checkpoint: Path, tmp_path: Path
) -> None:
    fewer = DatasetSpec.load("simulated").model_copy(update={"entities": {"merchant": "merchant"}})
    other = tiny_checkpoint(tmp_path / "other", fewer)
    for url, tenant, model in ((database_url, TENANT, checkpoint), (elsewhere, OTHER, other)):
        key = new_key(url, tenant)
        with server(url, model) as there, caller(there, key) as client:
            client.post("/v1/transactions", json=posted()).raise_for_status()
    file = str(tmp_path / "shop.db")
    run(database_url, "export", TENANT, file)
    assert "quickstudy db rebuild" in refused(elsewhere, "import", TENANT, file)
    assert not any(asyncio.run(rows(elsewhere, TENANT)).values())


@mainly("sqlite")
def test_what_is_no_export_or_in_use_is_refused(database_url: str, tmp_path: Path) -> None:
    new_key(database_url, TENANT)
    file, target = str(tmp_path / "shop.db"), f"sqlite:///{tmp_path / 'target.db'}"
    run(database_url, "export", TENANT, file)
    assert "no such file" in refused(target, "import", TENANT, str(tmp_path / "none"))
    assert "no tenant 'nobody'" in refused(target, "import", "nobody", file)
    (tmp_path / "text").write_text("not a database")
    assert refused(target, "import", TENANT, str(tmp_path / "text"))
    upgrade(target)
    with held(target):
        assert "stop it first" in refused(target, "import", TENANT, file)


def send_until_refused(url: str, key: str, begun: Event) -> int:
    """How many payments were stored until the key was refused."""
    with caller(url, key) as client:
        for n in count():
            answer = client.post("/v1/transactions", json=posted(f"late-{n}"))
            if answer.status_code == 401:
                return n
            answer.raise_for_status()
            begun.set()
    raise AssertionError


def test_a_removed_tenant_is_gone_whatever_it_still_sends(
    database_url: str, checkpoint: Path
) -> None:
    key, other = new_key(database_url, TENANT), new_key(database_url, OTHER)
    with (
        server(database_url, checkpoint) as url,
        caller(url, key) as client,
        caller(url, other) as another,
    ):
        live(client, datetime.now(UTC) - timedelta(days=PAYMENTS + 1))
        another.post("/v1/transactions", json=posted()).raise_for_status()
        before = asyncio.run(rows(database_url, OTHER))
        declined = CliRunner().invoke(
            app, ["tenant", "remove", TENANT], "n\n", env={"QUICKSTUDY_DATABASE_URL": database_url}
        )
        assert declined.exit_code == 1
        assert client.get("/v1/accounts/a-0").is_success
        with ThreadPoolExecutor(1) as threads:
            begun = Event()
            sent = threads.submit(send_until_refused, url, key, begun)
            assert begun.wait(60)
            assert " payments, " in run(database_url, "remove", TENANT, "--yes")
            assert sent.result() > 0
        assert client.get("/v1/accounts/a-0").status_code == 401
        assert not any(asyncio.run(rows(database_url, TENANT)).values())
        assert asyncio.run(rows(database_url, OTHER)) == before
        assert another.get("/v1/transactions/t-1").is_success
    assert "no tenant" in refused(database_url, "remove", TENANT, "--yes")

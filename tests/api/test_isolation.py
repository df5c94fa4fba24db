"""What is wrong with one tenant, account or merchant reaches nobody else."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import numpy as np
import pytest
from sqlalchemy import Table, update

from app.db.database import PG_SETTINGS, Database
from app.db.schema import accounts, entities, transactions
from app.keys import service as keys
from app.learner.checkpoint import WEIGHTS
from app.settings import MOST_CONNECTIONS, Settings
from tests.api.connections import Served, serving
from tests.api.requests import NOON, label, posted, problem_of
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly
from tests.servers import made_key, server

pytestmark = pytest.mark.anyio

ROUNDS = 6


def caller(served: Served, key: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    return httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{served.port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=60,
        limits=limits,
    )


async def score(client: httpx.AsyncClient, name: str, account: str, **more: Any) -> httpx.Response:
    body = posted(name, account_id=account, **more)
    return await client.post("/v1/transactions", json=body)


async def answers_to(count: int, send: Callable[[str], Awaitable[Any]]) -> list[Any]:
    """The answers to so many callers, each of whom sends request after request."""

    async def send_on(n: int) -> list[Any]:
        return [await send(f"{n}-{again}") for again in range(ROUNDS)]

    return [answer for some in await asyncio.gather(*map(send_on, range(count))) for answer in some]


@pytest.fixture
async def settings(service_settings: Settings, checkpoint: Path, tmp_path: Path) -> Settings:
    """Of a service that has scored `before`; then its first tenant chose another model."""
    shutil.copytree(checkpoint, tmp_path / "shelf" / "first")
    tiny_checkpoint(tmp_path / "shelf" / "second", seed=1)
    settings = service_settings.model_copy(update={"model": tmp_path / "shelf" / "first"})
    async with serving(settings) as served, caller(served, served.key) as client:
        assert (await score(client, "before", "a")).status_code == 200
        assert (await client.post("/v1/models/second/activate")).status_code == 200
    return settings


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The file of that model's weights."""
    return tmp_path / "shelf" / "second" / WEIGHTS


async def test_a_model_that_cannot_be_loaded_is_its_tenants_trouble_alone(
    settings: Settings, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    async with serving(settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            broken, well = await asyncio.gather(
                answers_to(16, lambda name: score(client, name, f"a-{name}")),
                answers_to(4, lambda name: score(stranger, name, f"a-{name}")),
            )
            assert {problem_of(answer) for answer in broken} == {(503, "model_unavailable")}
            assert [answer.status_code for answer in well] == [200] * len(well)
            assert not any("second" in answer.text for answer in well)
            # What is stored is answered whatever loads.
            assert (await score(client, "before", "a")).status_code == 200
            batch = {"transactions": [posted("before", account_id="a"), posted("t-1")]}
            [stored, new] = (await client.post("/v1/transactions/batch", json=batch)).json()[
                "results"
            ]
            assert stored["transaction_id"] == "before"
            assert new["error"]["code"] == "model_unavailable"
            # Once it can be loaded it is, a few seconds later.
            weights.write_bytes(whole)
            monkeypatch.setattr("app.models.service.RETRY_SECONDS", 0.0)
            await until_scored(client, "after")


async def until_scored(client: httpx.AsyncClient, name: str) -> None:
    """Send a payment until it is scored."""
    async with asyncio.timeout(20):
        while (answer := await score(client, name, "a")).status_code != 200:
            assert problem_of(answer) == (503, "model_unavailable")
            await asyncio.sleep(0.05)


async def test_a_model_that_never_ends_being_read_is_waited_for_by_nobody_else(
    settings: Settings, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights.read_bytes()
    # Who opens it waits until somebody writes into it.
    weights.unlink()
    os.mkfifo(weights)
    async with serving(settings) as served, caller(served, served.key) as client:
        try:
            async with asyncio.timeout(settings.deadline_seconds / 2):
                assert problem_of(await score(client, "t-1", "a")) == (503, "model_unavailable")
        finally:
            # Lets go whoever waits, so that a failure is one, and no hanging.
            with suppress(OSError):
                os.close(os.open(weights, os.O_WRONLY | os.O_NONBLOCK))
    weights.unlink()
    weights.write_bytes(whole)
    # However slow a disk is.
    monkeypatch.setattr("app.models.service.LOADING_SECONDS", 0.0)
    async with serving(settings) as served, caller(served, served.key) as client:
        refused = await score(client, "t-1", "a")
        assert problem_of(refused) == (503, "model_unavailable")
        assert "being loaded" in refused.json()["detail"]
        await until_scored(client, "t-1")


async def damage(served: Served, table: Table, key: str, name: str, **values: Any) -> None:
    async with served.app.state.service.part(Database).write() as connection:
        changed = await connection.execute(
            update(table).where(table.c.tenant == "default", table.c[key] == name).values(**values)
        )
        assert changed.rowcount == 1


Damage = Callable[[Served], Awaitable[None]]
DAMAGED: dict[str, Damage] = {
    "an account's state": lambda served: damage(
        served, accounts, "account_id", "bad", state=b"damaged"
    ),
    "an entity's state": lambda served: damage(
        served, entities, "entity_id", "bad", state=b"damaged"
    ),
    "an entity's labels": lambda served: damage(
        served, entities, "entity_id", "bad", label_state=b"damaged"
    ),
    "the content of a past payment": lambda served: damage(
        served, transactions, "transaction_id", "t-bad", content="{"
    ),
    "the features of a past payment": lambda served: damage(
        served, transactions, "transaction_id", "t-bad", features=b"123"
    ),
}


@pytest.mark.parametrize("harm", DAMAGED.values(), ids=DAMAGED)
async def test_what_is_damaged_fails_by_itself(service_settings: Settings, harm: Damage) -> None:
    async with serving(service_settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            # All are risky, so that all have reasons.
            for sender in (client, stranger):
                stated = {"review": 1e-8, "decline": 0.99}
                assert (await sender.post("/v1/thresholds", json=stated)).status_code == 200
                first = await score(sender, "t-bad", "bad", merchant_id="bad")
                assert first.status_code == 200
            await harm(served)
            later = {"merchant_id": "bad", "occurred_at": "2026-02-01T12:00:00Z"}
            bad, good, well = await asyncio.gather(
                answers_to(4, lambda name: score(client, f"b-{name}", "bad", **later)),
                answers_to(4, lambda name: score(client, f"g-{name}", f"good-{name}")),
                answers_to(4, lambda name: score(stranger, name, "bad", **later)),
            )
            # What is not looked at harms nobody.
            failed = [answer for answer in bad if answer.status_code != 200]
            assert {problem_of(answer) for answer in failed} <= {(500, "internal_error")}
            assert failed or harm is DAMAGED["the content of a past payment"]
            assert [answer.status_code for answer in good + well] == [200] * len(good + well)
            batch = [posted(f"x-{n}", account_id=f"x-{n}") for n in range(20)]
            batch[7] = posted("x-7", account_id="bad", **later)
            answer = await client.post("/v1/transactions/batch", json={"transactions": batch})
            results = answer.json()["results"]
            amiss = {
                n: result["error"]["code"] for n, result in enumerate(results) if "error" in result
            }
            assert amiss == ({7: "internal_error"} if failed else {})
            for n in range(20):
                stored = await client.get(f"/v1/transactions/x-{n}")
                assert stored.status_code == (404 if n in amiss else 200)


@asynccontextmanager
async def locked(url: str, table: str, where: str) -> AsyncIterator[None]:
    """Rows of the first tenant that somebody else holds, as a person in psql does."""
    other = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with other.transaction():
            query = f"SELECT 1 FROM {table} WHERE tenant = 'default' AND {where} FOR UPDATE"
            assert await other.fetch(query)
            yield
    finally:
        await other.close()


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("table", "where"),
    [("accounts", "account_id = 'held'"), ("entities", "entity_id = 'held'")],
    ids=["account", "entity"],
)
async def test_rows_that_somebody_else_has_locked_keep_nobody_else_waiting(
    service_settings: Settings, table: str, where: str
) -> None:
    async with serving(service_settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            for sender in (client, stranger):
                first = await score(sender, "t-held", "held", merchant_id="held")
                assert first.status_code == 200
                assert (await score(sender, "t-free", "free")).status_code == 200
            async with locked(service_settings.database_url, table, where):
                held, free, others = await asyncio.gather(
                    asyncio.gather(score(client, "t-1", "held", merchant_id="held")),
                    answers_to(4, lambda name: score(client, f"f-{name}", f"free-{name}")),
                    answers_to(4, lambda name: score(stranger, name, "held", merchant_id="held")),
                )
                assert {problem_of(answer) for answer in held} == {(503, "account_locked")}
                assert {answer.headers["Retry-After"] for answer in held} == {"1"}
                assert [answer.status_code for answer in free + others] == [200] * 48
            again = await score(client, "after", "held", merchant_id="held")
            assert again.status_code == 200


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_labels_that_wait_for_a_locked_account_leave_connections_to_others(
    service_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody gives up before the others have been answered, or have waited in vain.
    for limit in ("lock_timeout", "statement_timeout"):
        monkeypatch.setitem(PG_SETTINGS, limit, "60000")
    path = "/v1/accounts/{}/labels"
    async with serving(service_settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            for sender in (client, stranger):
                for account in ("held", "free"):
                    assert (await score(sender, f"t-{account}", account)).status_code == 200
            url = service_settings.database_url
            async with locked(url, "accounts", "account_id = 'held'"):
                body = {"labels": [label("t-held", "fraud")]}
                waiting = [
                    asyncio.create_task(client.post(path.format("held"), json=body))
                    for _ in range(2 * MOST_CONNECTIONS)
                ]
                await until_waiting(url, MOST_CONNECTIONS * 2 // 3)
                body = {"labels": [label("t-free", "fraud")]}
                stored = await stranger.post(path.format("free"), json=body)
                account = await stranger.get("/v1/accounts/free")
                own = await score(client, "t-1", "free")
                assert [answer.status_code for answer in (stored, account, own)] == [200] * 3
                assert account.json()["labels"]["fraud"] == 1
                assert not any(task.done() for task in waiting)
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} <= {200, 429}


async def until_waiting(url: str, count: int) -> None:
    """Return once so many sessions wait for a lock."""
    query = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    other = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        async with asyncio.timeout(30):
            while await other.fetchval(query) < count:
                await asyncio.sleep(0.05)
    finally:
        await other.close()


@pytest.mark.alone
@mainly("sqlite")
async def test_many_requests_of_a_tenant_take_no_place_from_another(
    service_settings: Settings,
) -> None:
    settings = service_settings.model_copy(update={"most_waiting": 16})
    async with serving(settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            flood, few = await asyncio.gather(
                answers_to(64, lambda name: score(client, name, f"a-{name}")),
                answers_to(4, lambda name: score(stranger, name, f"a-{name}")),
            )
    assert [answer.status_code for answer in few] == [200] * len(few)
    statuses = {answer.status_code for answer in flood}
    assert statuses == {200, 503}
    assert {problem_of(answer) for answer in flood if answer.status_code == 503} == {
        (503, "overloaded")
    }


# That take long to compute, by the address and the body; and how many of 32 still wait when three
# payments of another tenant are scored. Those that also read before they compute take less long.
QUESTIONS = {
    "which label is next": ("GET", "/v1/accounts/busy/ask-next", None, 16),
    "what labels would do": (
        "POST",
        "/v1/accounts/busy/adapt",
        {"dry_run": True, "labels": [label(f"t-{n}", "fraud") for n in range(40, 100)]},
        8,
    ),
}


@mainly("sqlite")
@pytest.mark.parametrize("request_of", QUESTIONS.values(), ids=QUESTIONS)
async def test_who_asks_what_labels_would_do_keeps_nobody_from_scoring(
    service_settings: Settings, request_of: tuple[str, str, Any, int]
) -> None:
    method, path, body, least_waiting = request_of
    async with serving(service_settings) as served:
        other = await keys.create(served.app.state.service.part(Database), "tests", "other")
        async with caller(served, served.key) as client, caller(served, other) as stranger:
            payments = [posted(f"t-{n}", account_id="busy", amount=n + 1) for n in range(100)]
            await client.post("/v1/transactions/batch", json={"transactions": payments})
            labels = [label(f"t-{n}", "fraud" if n % 2 else "legitimate") for n in range(16)]
            await client.post("/v1/labels", json={"labels": labels})
            # The first score of a tenant takes longer.
            await score(stranger, "o", "o")
            asking = [
                asyncio.create_task(client.request(method, path, json=body)) for _ in range(32)
            ]
            # Until they are being computed.
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for n in range(3):
                assert (await score(stranger, f"o-{n}", "o")).status_code == 200
            waiting = sum(not task.done() for task in asking)
            answers = await asyncio.gather(*asking)
    assert waiting > least_waiting
    assert {answer.status_code for answer in answers} == {200}


@mainly("sqlite")
async def test_a_batch_in_parts_has_the_scores_that_it_has_whole(
    database_url: str, checkpoint: Path
) -> None:
    """Beside another tenant it is answered in parts; what comes first in time is scored first."""
    random = np.random.default_rng(0)
    begun = datetime.fromisoformat(NOON)
    payments = [
        posted(
            f"t-{n}",
            account_id=f"a-{random.integers(5)}",
            merchant_id=f"m-{random.integers(3)}",
            # Some at one time.
            occurred_at=(begun + timedelta(minutes=int(random.integers(400)))).isoformat(),
            amount=float(random.integers(1, 2000)),
        )
        for n in range(300)
    ]
    keys = [await made_key(database_url, tenant) for tenant in ("first", "another", "second")]
    with server(database_url, checkpoint) as url:

        async def scores(key: str, some: list[dict[str, Any]]) -> list[dict[str, Any]]:
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
                answer = await client.post("/v1/transactions/batch", json={"transactions": some})
                answer.raise_for_status()
                return list(answer.json()["results"])

        whole = await scores(keys[0], payments)
        await scores(keys[1], payments[:1])
        parts = await scores(keys[2], payments)
    assert [row["transaction_id"] for row in parts] == [row["transaction_id"] for row in payments]
    for row in (*whole, *parts):
        del row["evaluated_at"]
    assert parts == whole
    assert len({row["probability"] for row in whole}) > len(payments) // 2

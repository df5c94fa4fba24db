"""States computed anew from stored payments: those of the same payments in a new database."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, select, text
from typer.testing import CliRunner

from app.cli.main import app
from app.db.database import Database
from app.db.errors import DatabaseUnavailable
from app.db.migrating import upgrade
from app.db.patience import Patience
from app.db.schema import checkpoints, past_features, rebuilds, transactions
from app.erasures.service import ErasureService
from app.errors import SetupError
from app.explanations.replay import Replay, Replayed
from app.history.importing import Importer, Past
from app.history.reading import History
from app.labels import store as label_store
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.checkpoint import Checkpoint, CheckpointError, Files
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, Transaction, transaction_of
from app.models.service import Models
from app.rebuilds.service import Progress, Rebuilder, check_states
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.settings import Settings
from app.simulator.simulate import simulate
from app.statuses.service import Statuses
from app.web.service import running
from tests.checkpoints import tiny_checkpoint
from tests.conftest import mainly, migrated_database
from tests.versions import database_of_0017

TENANTS = ("other", "shop")
# As the payments of `versions.database_of_0017` are, with entities of today.
SPEC = DatasetSpec.model_validate(
    {
        "name": "now",
        "columns": {
            "transaction": "id",
            "account": "account",
            "time": "time",
            "amount": "amount",
            "currency": "currency",
        },
        "label": {"delay_days": 3},
        "entities": {"merchant": "merchant", "device": "device"},
        "categorical": {"channel": "channel"},
        "numeric": {"distance": "distance"},
    }
)
STATES = {
    "accounts": "tenant, account_id, transactions, fraud_labels, legitimate_labels, state",
    "entities": "tenant, kind, entity_id, state, label_state",
    "links": "tenant, kind, entity_id, account_id, first_use_us",
    "label_entities": "tenant, transaction_id, kind, entity_id, matures_at_us, folded",
    "transactions": "tenant, transaction_id, features, features_digest",
    "labels": "tenant, transaction_id, is_fraud, matures_at_us, features",
}
# In steps of one payment, so that there is something to interrupt.
REBUILD = """
import asyncio, sys, time
from app.db.database import Database
from app.db.patience import Patience
from app.learner.checkpoint import Checkpoint
from app.models.service import Models
from app.rebuilds.service import Rebuilder

async def rebuild(url, model, pause):
    database = Database(url)
    features = Checkpoint.load(model).features
    rebuilder = Rebuilder(database, features, Patience(print), size=1)
    print(await rebuilder.run(lambda *_: time.sleep(float(pause))))
    await database.close()

asyncio.run(rebuild(*sys.argv[1:]))
"""
SECONDS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "now", SPEC)


@pytest.fixture
def upgraded(unmigrated_database_url: str, tmp_path: Path) -> str:
    """A database of the version with revision 0017, brought up to the schema of this one."""
    database_of_0017(unmigrated_database_url, tmp_path)
    upgrade(unmigrated_database_url)
    return unmigrated_database_url


@pytest.fixture
def new(
    unmigrated_database_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[str]:
    """A new, empty database of the same kind."""
    request.param = unmigrated_database_url.partition("+")[0]
    (tmp_path / "new").mkdir()
    with migrated_database(request, tmp_path / "new") as url:
        yield url


def settings(url: str, model: Path) -> Settings:
    return Settings(database_url=url, model=model, device="cpu", bank_bytes=1 << 20)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    try:
        yield database
    finally:
        await database.close()


async def rebuild(url: str, model: Path, size: int = 7, show: Progress = lambda *_: None) -> int:
    async with opened(url) as database:
        features = Checkpoint.load(model).features
        return await Rebuilder(database, features, Patience(print), size).run(show)


async def states(url: str) -> dict[str, list[Any]]:
    async with opened(url) as database, database.read() as connection:
        return {
            table: [
                tuple(row)
                for row in await connection.execute(
                    text(f"SELECT {columns} FROM {table} ORDER BY 1, 2, 3, 4")
                )
            ]
            for table, columns in STATES.items()
        }


async def pasts(url: str) -> dict[str, list[Past]]:
    """The stored payments of each tenant as a file would have them, in the order of time."""
    found = {}
    async with opened(url) as database, database.read() as connection:
        for tenant in TENANTS:
            ids = await connection.execute(
                select(transactions.c.transaction_id).where(transactions.c.tenant == tenant)
            )
            rows = await transaction_store.scored(connection, tenant, ids.scalars().all())
            labels = await label_store.labels_of(connection, tenant, rows)
            found[tenant] = [
                Past(
                    transaction_of(row.content)._replace(
                        status={"approve": "authorised", "review": "reversed"}.get(
                            row.outcome, "declined"
                        )
                    ),
                    label.is_fraud if (label := labels.get(key)) else None,
                    label.labelled_at_us if label else 0,
                )
                for key, row in sorted(
                    rows.items(), key=lambda item: (item[1].occurred_at_us, item[0])
                )
            ]
    return found


async def imported(url: str, model: Path, chunks: dict[str, list[Past]]) -> None:
    async with running(settings(url, model)) as service:
        importer = Importer(service.part(Database), service.part(Pipeline), Patience(print))
        for tenant, chunk in chunks.items():
            await importer.add(tenant, chunk)


def test_an_upgraded_database_is_as_if_its_payments_were_imported_into_a_new_one(
    upgraded: str, new: str, model: Path
) -> None:
    asyncio.run(imported(new, model, asyncio.run(pasts(upgraded))))
    assert asyncio.run(rebuild(upgraded, model)) == 24
    found, expected = asyncio.run(states(upgraded)), asyncio.run(states(new))
    # Of a label that was removed again.
    gone = [row for row in found["label_entities"] if row[-1] is None]
    assert gone == [("shop", "t-02", "merchant", "m-2", gone[0][-2], None)]
    found["label_entities"].remove(gone[0])
    assert len(found["links"]) > 5
    assert any(row[-1] for row in found["label_entities"])
    assert found == expected


@mainly("sqlite", "unmigrated_database_url")
def test_a_model_of_more_kinds_of_entities_gets_states_of_them_with_their_labels(
    unmigrated_database_url: str, new: str, tmp_path: Path
) -> None:
    url, whole = unmigrated_database_url, DatasetSpec.load("simulated")
    upgrade(url)
    few = whole.model_copy(update={"entities": {"ip": "ip_address", "merchant": "merchant_id"}})
    file = tmp_path / "history.parquet"
    simulate(accounts=8, days=40, seed=3).write_parquet(file)
    [chunk] = History(file, whole).chunks(1000)
    models = [
        tiny_checkpoint(tmp_path / spec, fields) for spec, fields in (("few", few), ("all", whole))
    ]
    asyncio.run(imported(url, models[0], {"shop": chunk}))
    asyncio.run(imported(new, models[1], {"shop": chunk}))
    assert asyncio.run(rebuild(url, models[1], size=100)) == len(chunk)
    found, expected = asyncio.run(states(url)), asyncio.run(states(new))
    kinds = {row[2] for row in expected["label_entities"]}
    assert kinds == {"card", "device", "email", "ip", "merchant"}
    assert found == expected
    # And back again, where scores find what they were made of.
    asyncio.run(rebuild(url, models[0]))
    assert asyncio.run(rebuild(url, models[0])) == 0


def begun(url: str, model: Path, pause: float = 0.0) -> "subprocess.Popen[str]":
    """A process that rebuilds, and rests for so many seconds after each payment."""
    command = [sys.executable, "-c", REBUILD, url, str(model), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def replayed(url: str) -> int:
    async with opened(url) as database, database.read() as connection:
        return sum((await connection.execute(select(rebuilds.c.replayed))).scalars())


def test_a_rebuild_that_is_killed_goes_on_where_it_was_and_two_at_once_do_it_once(
    upgraded: str, new: str, model: Path
) -> None:
    asyncio.run(imported(new, model, asyncio.run(pasts(upgraded))))
    rebuild = begun(upgraded, model, pause=0.1)
    while (count := asyncio.run(replayed(upgraded))) < 5:
        assert rebuild.poll() is None, rebuild.communicate()
        time.sleep(0.05)
    rebuild.kill()
    rebuild.communicate()
    assert count < 24
    with pytest.raises(SetupError, match=r"being rebuilt, \d+ of 24 payments.*run it again"):
        asyncio.run(checked(upgraded, model))
    for process in [begun(upgraded, model), begun(upgraded, model)]:
        _, problem = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, problem
    assert asyncio.run(replayed(upgraded)) == 0
    found, expected = asyncio.run(states(upgraded)), asyncio.run(states(new))
    found["label_entities"] = [row for row in found["label_entities"] if row[-1] is not None]
    assert found == expected


@mainly("sqlite", "unmigrated_database_url")
def test_a_rebuild_for_another_model_takes_the_place_of_one_that_is_unfinished(
    upgraded: str, new: str, model: Path, checkpoint: Path
) -> None:
    asyncio.run(imported(new, model, asyncio.run(pasts(upgraded))))

    def interrupt(_: int, replayed: int) -> None:
        if replayed >= 5:
            raise InterruptedError

    def replace(_: int, replayed: int) -> None:
        if replayed >= 5:
            with ThreadPoolExecutor() as thread:
                thread.submit(asyncio.run, rebuild(upgraded, model)).result()

    with pytest.raises(InterruptedError):
        asyncio.run(rebuild(upgraded, model, 1, interrupt))
    with pytest.raises(SetupError, match=r"another rebuild.*run `quickstudy db rebuild` for it"):
        asyncio.run(rebuild(upgraded, checkpoint, 1, replace))
    found, expected = asyncio.run(states(upgraded)), asyncio.run(states(new))
    found["label_entities"] = [row for row in found["label_entities"] if row[-1] is not None]
    assert found == expected


async def checked(url: str, model: Path) -> None:
    async with opened(url) as database:
        await check_states(database, Checkpoint.load(model).features)


@pytest.mark.parametrize("unmigrated_database_url", ["sqlite"], indirect=True)
def test_the_commands_say_what_to_do_until_the_states_are_those_of_the_model(
    upgraded: str, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", upgraded)
    monkeypatch.setenv("QUICKSTUDY_MODEL", str(model))
    monkeypatch.setenv("QUICKSTUDY_DEVICE", "cpu")
    run = CliRunner()
    refused = run.invoke(app, ["serve", "--port", "0"])
    assert refused.exit_code == 2
    assert "stop all servers and run `quickstudy db rebuild`" in refused.stderr
    rebuilt = run.invoke(app, ["db", "rebuild"])
    assert "The states of 24 payments are those of model tiny@" in rebuilt.stdout, rebuilt.output
    assert "Nothing to rebuild" in run.invoke(app, ["db", "rebuild"]).stdout
    asyncio.run(checked(upgraded, model))


async def replays(url: str, model: Path) -> dict[str, Replayed]:
    async with running(settings(url, model)) as service:
        # Why, by the model of today, with what it reads.
        why = await service.part(Replay).explain("shop", "t-23")
        assert why.model == service.part(Models).default.model
        ids = [(t, past.transaction_id) for t, some in (await pasts(url)).items() for past in some]
        return {key: await service.part(Replay).replay(tenant, key) for tenant, key in ids}


def test_scores_of_before_are_replayed_by_their_model_with_what_they_were_made_of(
    upgraded: str, model: Path, checkpoint: Path
) -> None:
    asyncio.run(rebuild(upgraded, model))
    found = asyncio.run(replays(upgraded, model))
    assert len(found) == 24
    assert {replay.row.used for replay in found.values()} == {"adapted", "insufficient_labels"}
    # One by a copy that had learned from corrected features.
    assert {key: replay.differs for key, replay in found.items() if replay.differs} == {}
    asyncio.run(rebuild(upgraded, checkpoint))
    assert not any(replay.differs for replay in asyncio.run(replays(upgraded, checkpoint)).values())
    with pytest.raises(CheckpointError, match=r"by an earlier version.*: train it anew"):
        asyncio.run(serve_the_model_of_before(upgraded))
    asyncio.run(executed(upgraded, "DELETE FROM checkpoints"))
    for replay in asyncio.run(replays(upgraded, checkpoint)).values():
        assert {"model", "features", "probability"} <= set(replay.differs)


async def serve_the_model_of_before(url: str) -> None:
    async with opened(url) as database, database.read() as connection:
        query = select(checkpoints).where(checkpoints.c.model.like("before@%"))
        row = (await connection.execute(query)).one()
    Checkpoint.of(Files(row.description, row.weights), Path(row.model))


@mainly("sqlite")
@pytest.mark.anyio
async def test_a_label_that_a_rebuild_has_seen_is_forgotten_wherever_it_was_seen(
    database_url: str, model: Path
) -> None:
    async with running(settings(database_url, model)) as service:
        pipeline, labelling = service.part(Pipeline), service.part(Labelling)
        for account, day in (("ana", 0), ("ben", 10), ("cem", 11)):
            await pipeline.score([Posted("shop", payment(account, day))])
        before = await features(database_url)
        for account, day in (("ana", 1), ("ben", 12)):
            verdict = Verdict(account, True, labelled_at_us=payment(account, day).occurred_at_us)
            await labelling.store_each("shop", [verdict])
    await executed(database_url, "UPDATE transactions SET features_digest = 'another'")
    await rebuild(database_url, model)
    rebuilt = await features(database_url)
    assert rebuilt["ben"] != before["ben"]
    assert rebuilt["cem"] != before["cem"]
    async with running(settings(database_url, model)) as service:
        labelling = service.part(Labelling)
        await labelling.remove("shop", "ana")
        # Labelled before the removal, and after it.
        await labelling.put("shop", Verdict("cem", False))
        assert await features(database_url) == before | {"ana": rebuilt["ana"]}
        # Nothing of an erased account is left, in the past either.
        assert await count(database_url, past_features) == 3
        await service.part(ErasureService).erase("shop", "ben")
        assert await count(database_url, past_features) == 2


def payment(account: str, day: float) -> Transaction:
    at_us = DAY_US * 20_000 + int(day * DAY_US)
    return Transaction(account, account, at_us, Decimal(10), "EUR", merchant_id="m")


async def features(url: str) -> dict[str, bytes]:
    """What is learned from each payment, or would be."""
    accounts = ("ana", "ben", "cem")
    async with opened(url) as database, database.read() as connection:
        found = await label_store.supports(connection, "shop", accounts)
        scored = await transaction_store.scored(connection, "shop", accounts)
    learned = {row.transaction_id: row.features for rows in found.values() for row in rows}
    return {key: row.features for key, row in scored.items()} | learned


async def count(url: str, table: Table) -> int:
    async with opened(url) as database, database.read() as connection:
        return len((await connection.execute(select(table))).all())


async def executed(url: str, statement: str) -> None:
    async with opened(url) as database, database.write() as connection:
        await connection.execute(text(statement))


@pytest.mark.anyio
async def test_a_server_that_runs_while_states_are_rebuilt_stores_nothing_and_is_not_ready(
    database_url: str, model: Path, checkpoint: Path
) -> None:
    def interrupt(*_: int) -> None:
        raise InterruptedError

    async with running(settings(database_url, model)) as service:
        pipeline = service.part(Pipeline)
        await pipeline.score([Posted("shop", payment("ana", 0))])
        with pytest.raises(InterruptedError):
            await rebuild(database_url, checkpoint, show=interrupt)
        before = await states(database_url)
        for change in (
            pipeline.score([Posted("shop", payment("ben", 1))]),
            service.part(Labelling).put("shop", Verdict("ana", True)),
            service.part(Statuses).put("shop", "ana", "reversed"),
            service.part(ErasureService).erase("shop", "ana"),
        ):
            with pytest.raises(DatabaseUnavailable, match="being rebuilt: nothing was stored"):
                await change
        assert await states(database_url) == before
        with pytest.raises(SetupError, match="being rebuilt, 0 of 1 payments"):
            await service.part(Database).check_ready()

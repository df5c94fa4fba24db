"""A history file in the database: as if it had been scored live, and only once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import text

from app import store
from app.database import Database
from app.errors import SetupError
from app.importing import Past, import_chunk
from app.labelling import Verdict
from app.pipeline import Posted
from app.service import Service, running
from app.settings import Settings
from app.training.dataset import read_transactions
from app.training.history import History
from app.training.simulator.simulate import simulate
from app.transactions import DatasetSpec

pytestmark = pytest.mark.anyio

TENANT = "t"
SPEC = DatasetSpec.load("simulated")
COLUMNS = {
    "accounts": "account_id, transactions, fraud_labels, legitimate_labels, state",
    "merchants": "merchant_id, state",
    "transactions": "transaction_id, content, features, probability",
    "labels": "transaction_id, is_fraud, matures_at_us",
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    simulate(accounts=6, days=40, seed=3).head(400).write_parquet(path)
    return path


@pytest.fixture
async def service(service_settings: Settings) -> AsyncIterator[Service]:
    async with running(service_settings) as service:
        yield service


async def imported(service: Service, chunks: list[list[Past]], tenant: str = TENANT) -> None:
    for chunk in chunks:
        await import_chunk(service.database, service.pipeline, tenant, chunk)


async def contents(database: Database, tenant: str = TENANT) -> dict[str, Any]:
    async with database.read() as connection:
        return {
            table: [
                tuple(row)
                for row in await connection.execute(
                    text(f"SELECT {columns} FROM {table} WHERE tenant = :tenant ORDER BY 1"),
                    {"tenant": tenant},
                )
            ]
            for table, columns in COLUMNS.items()
        }


async def test_every_row_of_a_file_is_stored_with_its_label(service: Service, file: Path) -> None:
    await imported(service, list(History(file, SPEC).chunks(100)))
    found = await contents(service.database)
    frame = pl.read_parquet(file)
    assert len(found["transactions"]) == len(frame)
    assert len(found["accounts"]) == frame["account_id"].n_unique()
    assert len(found["merchants"]) == frame["merchant_id"].n_unique()
    assert {name: bool(is_fraud) for name, is_fraud, _ in found["labels"]} == dict(
        frame.filter(pl.col("is_fraud").is_not_null())
        .select(pl.col("transaction_id").cast(str), pl.col("is_fraud").cast(bool))
        .iter_rows()
    )


async def test_an_interrupted_import_continues_to_the_same_end(
    service: Service, file: Path
) -> None:
    chunks = list(History(file, SPEC).chunks(100))
    await imported(service, chunks, tenant="whole")
    await imported(service, chunks[:2])
    await imported(service, chunks)
    await imported(service, chunks)
    assert await contents(service.database) == await contents(service.database, "whole")


@pytest.mark.parametrize("size", [1, 30, 400])
async def test_features_are_those_of_training_whatever_the_size_of_a_chunk(
    service: Service, file: Path, size: int
) -> None:
    await imported(service, list(History(file, SPEC).chunks(size)))
    data = read_transactions(file, SPEC)
    labels = data.merchant_labels(SPEC.label.delay_us)
    expected_NF = service.models.default.features.compute(data.columns, None, labels)
    async with service.database.read() as connection:
        rows = await store.scored(connection, TENANT, data.transaction_ids)
    imported_NF = np.stack([np.frombuffer(rows[t].features, "<f4") for t in data.transaction_ids])
    np.testing.assert_allclose(imported_NF, expected_NF, atol=1e-6)


async def test_states_are_those_of_scoring_live(service: Service, file: Path) -> None:
    chunks = list(History(file, SPEC).chunks(100))
    await imported(service, chunks)
    for chunk in chunks:
        await service.score([Posted("live", past.transaction) for past in chunk])
    found, live = [await contents(service.database, tenant) for tenant in (TENANT, "live")]
    assert [row[-1] for row in found["accounts"]] == [row[-1] for row in live["accounts"]]
    assert found["merchants"] == live["merchants"]


async def test_an_imported_account_is_adapted_from_its_next_score_on(
    service: Service, file: Path
) -> None:
    history = [past for chunk in History(file, SPEC).chunks(100) for past in chunk]
    await imported(service, [history])
    last = next(past for past in history if past.is_fraud)
    async with service.database.read() as connection:
        found = await store.scored(connection, TENANT, [last.transaction.transaction_id])
    assert {row.used for row in found.values()} == {"insufficient_labels"}
    done = await service.labelling.adapt(TENANT, last.transaction.account_id)
    assert (done.change.copy.used, done.change.copy.labels > 0) == ("adapted", True)


async def test_a_label_given_live_is_not_overwritten_by_the_file(
    service: Service, file: Path
) -> None:
    [chunk] = History(file, SPEC).chunks(400)
    past = next(past for past in chunk if past.is_fraud is not None)
    name, account_id = past.transaction.transaction_id, past.transaction.account_id
    verdict = Verdict(name, not past.is_fraud, past.transaction)
    await service.labelling.store(TENANT, account_id, [verdict])
    await imported(service, [chunk])
    async with service.database.read() as connection:
        labels = await store.labels_of(connection, TENANT, [name])
    assert labels[name].is_fraud is (not past.is_fraud)


async def test_a_file_that_contradicts_the_database_is_refused_by_id(
    service: Service, file: Path, tmp_path: Path
) -> None:
    await imported(service, list(History(file, SPEC).chunks(100)))
    changed = tmp_path / "changed.parquet"
    pl.read_parquet(file).with_columns(pl.col("amount") + 1).write_parquet(changed)
    with pytest.raises(SetupError, match="does not agree with the database: Transaction '"):
        await imported(service, list(History(changed, SPEC).chunks(100)))


def test_what_the_spec_names_arrives_as_it_is_spelled(tmp_path: Path) -> None:
    spec = DatasetSpec.model_validate(
        {
            "name": "shop",
            "columns": {
                "transaction": "id",
                "account": "card",
                "time": "at",
                "amount": "paid",
                "merchant": "shop",
                "label": "fraud",
            },
            "label": {"delay_days": 2},
            "categorical": {"channel": "channel", "colour": "colour"},
            "numeric": {"age": "age"},
        }
    )
    path = tmp_path / "shop.csv"
    path.write_text(
        "id,card,at,paid,shop,fraud,channel,colour,age\n"
        "t2,a,2024-01-02T00:00:00Z,3,,,,,\n"
        "t1,a,2024-01-01T00:00:00Z,10.50,s,1,online,007,1.5\n"
    )
    [[first, second]] = History(path, spec).chunks(10)
    assert first.transaction.transaction_id == "t1"
    assert str(first.transaction.amount) == "10.5"
    assert (first.transaction.channel, first.transaction.currency) == ("online", "XXX")
    assert first.transaction.attributes == {"age": 1.5, "colour": "007"}
    assert (first.is_fraud, first.known_at_us - first.transaction.occurred_at_us) == (
        True,
        2 * 24 * 3600 * 1_000_000,
    )
    assert (second.transaction.merchant_id, second.transaction.channel) == (None, None)
    assert (second.transaction.attributes, second.is_fraud) == ({}, None)


@pytest.mark.parametrize("bad", ["x" * 129, "a\tb"])
def test_an_id_that_the_service_could_not_take_is_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "bad.parquet"
    simulate(accounts=2, days=3, seed=1).with_columns(account_id=pl.lit(bad)).write_parquet(path)
    with pytest.raises(ValueError, match="128 printable characters"):
        History(path, SPEC)

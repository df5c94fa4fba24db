"""An export gives back what was scored: the same codes, numbers and features when it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import text

from app.db.database import Database
from app.db.patience import Patience
from app.history.exporting import export, export_spec
from app.history.importing import Importer
from app.history.reading import History
from app.http.parts import Service
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.columns import columns_of
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.states import Ints
from app.learner.transaction import DAY_US, transaction_of
from app.learner.validity import ID
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.scoring.schemas import PostedTransaction
from app.settings import Settings
from app.thresholds import store as threshold_store
from app.thresholds.records import TenantThresholds
from app.times import now_us, text_of
from app.training.dataset import Dataset, read_transactions
from app.web.service import running
from tests.api.requests import posted
from tests.checkpoints import tiny_checkpoint

pytestmark = pytest.mark.anyio

TENANT = "t"
# Names that the file has of its own, and ones that TOML would take for something else.
SPEC = DatasetSpec.model_validate(
    {
        "name": "attributes",
        "columns": {
            "transaction": "id",
            "account": "card",
            "time": "at",
            "amount": "paid",
            "label": "fraud",
        },
        "entities": {
            "merchant": "shop",
            "ip": "address",
            "card": "number",
            "email": "mail",
            "wallet": "w",
        },
        "label": {"delay_days": 7},
        "categorical": {
            "currency": "cur",
            "merchant_category": "mcc",
            "device": "device",
            "is_fraud": "looks_bad",
            "status": "state",
            "wallet": "purse",
            "pl\\an 😀": "plan",
        },
        "numeric": {"age": "age", "amount": "limit"},
    }
)
TYPES = ("payment", "payment", "refund", "transfer", "verification", "payment", "withdrawal")
STATUSES = (None, None, "declined", None, "reversed", "refunded", "authorised")
AMOUNTS = ("12.50", "0", 0.1 + 0.2, "0.00000001", 1e-9, "4711", "999999999999999.99999999")
CURRENCIES = ("EUR", "XXX", "JPY", "ZZZ")
VALUES: list[Any] = [
    *(0, 3, -7, 2**53 + 1, 10**22, -0.0, 3.0, 0.1, 1e-9, 123456.789, 1e299),
    *(True, False, "3", "3.0", "007", "true", "True", "false", "null", "None", "NaN", "inf"),
    *("1e999", "-inf", "", " ", " padded ", "a,b", 'a"b', "a;b\tc", "line\nbreak", "\r\n"),
    *("café", "cafe\u0301", "スターバックス　渋谷店", "😀", "\u00a0", "\ufeffx", "\u2028", None),
    *("a\u00a0b", "\u202e", "x" * 120, "\x7f", "\x85", "é" * 256),
]


def bodies() -> list[dict[str, Any]]:
    """A payment for each value, everywhere that it can stand."""
    start_us = now_us() - 20 * DAY_US
    found = []
    for n, value in enumerate(VALUES):
        attributes = {
            "device": value,
            "status": value,
            "wallet": value,
            "is_fraud": value,
            "pl\\an 😀": value,
            "unknown": value,
        }
        attributes |= {"age": value, "amount": value}
        attributes = {name: value for name, value in attributes.items() if value is not None}
        changes: dict[str, Any] = {"attributes": attributes}
        if isinstance(value, str) and ID.allows(value):
            changes |= {"transaction_id": f"t-{n} {value}", "channel": value, "country": value}
            changes |= {"merchant_category": value, "merchant_id": value, "account_id": value}
            changes |= {"device_id": value, "card_fingerprint": value, "email": f"{value}@X"}
            changes |= {"entities": {"wallet": value, "unknown": value}}
        elif value is None:
            changes |= {"merchant_category": None, "merchant_id": None}
        changes |= {"ip_address": f"10.0.0.{n % 7}", "type": TYPES[n % len(TYPES)]}
        changes |= {"status": STATUSES[n % len(STATUSES)]}
        # Also of one account, whose past has refunds and what was refused.
        changes |= {"account_id": "one"} if n % 3 else {}
        occurred_at = text_of(start_us + n * 3_600_000_001)
        changes |= {"amount": AMOUNTS[n % len(AMOUNTS)], "currency": CURRENCIES[n % 4]}
        found.append(posted(f"t-{n}", occurred_at=occurred_at) | changes)
    return found


async def served(service: Service) -> None:
    """All of them scored: what is even is approved, what is odd is to be reviewed."""
    for n, body in enumerate(bodies()):
        thresholds = TenantThresholds(TENANT, n, n, (0.999, 1e-9)[n % 2], 0.9999)
        await service.part(Database).run(
            lambda connection, stated=thresholds: threshold_store.save_thresholds(
                connection, stated
            )
        )
        transaction = PostedTransaction.model_validate(body).transaction()
        await service.part(Pipeline).score([Posted(TENANT, transaction)])


@pytest.mark.parametrize("kind", ["parquet", "csv"])
async def test_what_is_read_back_has_the_codes_numbers_and_features_that_were_served(
    database_url: str, tmp_path: Path, kind: str
) -> None:
    model = tiny_checkpoint(tmp_path / "model", SPEC)
    path = tmp_path / "production.parquet"
    async with running(Settings(database_url=database_url, model=model, device="cpu")) as service:
        await served(service)
        assert await export(
            service.part(Database), TENANT, export_spec(SPEC, "é"), path, Patience(print)
        ) == len(VALUES)
        async with service.part(Database).read() as connection:
            stored = await transaction_store.scored(
                connection, TENANT, [body["transaction_id"] for body in bodies()]
            )
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    if kind == "csv":
        frame, path = pl.read_parquet(path), tmp_path / "production.csv"
        frame.write_csv(path)
    data = read_transactions(path, spec)
    rows = [stored[key] for key in data.transaction_ids]
    columns, named = columns_of(SPEC, [transaction_of(row.content) for row in rows])
    np.testing.assert_array_equal(data.columns.categorical_NC, columns.categorical_NC)
    np.testing.assert_array_equal(data.columns.numeric_NM, columns.numeric_NM)
    np.testing.assert_array_equal(data.columns.amount_N, columns.amount_N)
    np.testing.assert_array_equal(data.columns.time_us_N, columns.time_us_N)
    assert ids(data.columns.entity_NK, data.entities) == ids(columns.entity_NK, named.entities)
    assert {row.outcome == "approve" for row in rows} == {True, False}
    served_NF = np.stack([np.frombuffer(row.features, "<f4") for row in rows])
    assert np.isfinite(served_NF).all()
    np.testing.assert_array_equal(FeatureSet(spec).compute(data.columns), served_NF)


def ids(entity_NK: Ints, entities: list[tuple[str, str]]) -> list[list[tuple[str, str] | None]]:
    return [
        [None if place < 0 else entities[place] for place in row_K] for row_K in entity_NK.tolist()
    ]


async def test_what_is_exported_and_imported_again_gives_the_same_sums(
    database_url: str, tmp_path: Path
) -> None:
    model = tiny_checkpoint(tmp_path / "model", SPEC)
    path, again = tmp_path / "production.parquet", "again"
    spec = export_spec(SPEC, "production")
    async with running(Settings(database_url=database_url, model=model, device="cpu")) as service:
        database = service.part(Database)
        await served(service)
        await export(database, TENANT, spec, path, Patience(print))
        importer = Importer(database, service.part(Pipeline), Patience(print))
        for chunk in History(path, DatasetSpec.load(path.with_suffix(".toml"))).chunks(7):
            assert not (await importer.add(again, chunk)).differing
        await export(database, again, spec, tmp_path / "again.parquet", Patience(print))
        async with database.read() as connection:
            first, second = [
                [list(await connection.execute(text(query), {"tenant": tenant})) for query in SUMS]
                for tenant in (TENANT, again)
            ]
    assert first == second
    assert all(first)
    # Devices the spec does not name: they are in the file, and nobody reads them from it.
    files = [pl.read_parquet(file).drop("device_id") for file in (path, tmp_path / "again.parquet")]
    assert files[0].equals(files[1])


SUMS = (
    "SELECT account_id, state FROM accounts WHERE tenant = :tenant ORDER BY 1",
    "SELECT kind, entity_id, state FROM entities WHERE tenant = :tenant ORDER BY 1, 2",
    "SELECT kind, entity_id, account_id, first_use_us FROM links WHERE tenant = :tenant"
    " ORDER BY 1, 2, 3",
    "SELECT transaction_id, features FROM transactions WHERE tenant = :tenant ORDER BY 1",
)


async def test_labels_are_read_back_with_the_delay_that_they_had(
    service_settings: Settings, tmp_path: Path
) -> None:
    """Also where the model's file had no delay by row: late labels would be known too early."""
    start_us = now_us() - 5000 * DAY_US
    delays_days = {"t-0": 0.0, "t-1": 45.125, "t-2": 400.0, "t-3": 4999.0}
    spec = export_spec(SPEC, "production")
    async with running(service_settings) as service:
        for name, days in delays_days.items():
            body = posted(name, occurred_at=text_of(start_us))
            transaction = PostedTransaction.model_validate(body).transaction()
            at_us = start_us + round(days * DAY_US)
            verdict = Verdict(name, name > "t-1", transaction, labelled_at_us=at_us)
            await service.part(Labelling).store(TENANT, "alice", [verdict])
        await export(
            service.part(Database), TENANT, spec, tmp_path / "production.parquet", Patience(print)
        )
    data: Dataset = read_transactions(tmp_path / "production.parquet", spec)
    known_days_N = (data.known_at_us_N - data.columns.time_us_N) / DAY_US
    found = dict(zip(data.transaction_ids, known_days_N, strict=True))
    assert found == {**delays_days, "t-3": 3650.0}
    assert data.is_fraud_N.tolist() == [0, 0, 1, 1]

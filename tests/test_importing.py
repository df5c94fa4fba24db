"""A history file in the database: as if it had been scored live, and only once."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sqlalchemy import select, text

from app.accounts import store as account_store
from app.audit import store as audit_store
from app.audit.store import EntryFilters
from app.db.connection import Connection
from app.db.database import Database
from app.db.patience import Patience
from app.db.schema import metadata
from app.history.importing import STEP, Importer, Past, Tally
from app.history.reading import History
from app.http.parts import Service
from app.labels import store as label_store
from app.labels.changes import Verdict
from app.labels.service import Labelling
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, Transaction
from app.models.service import Models
from app.reviews import store as review_store
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline, Posted
from app.settings import Settings
from app.simulator.simulate import simulate
from app.thresholds import store as threshold_store
from app.thresholds.records import TenantThresholds
from app.times import now_us
from app.training.dataset import read_transactions
from app.web.service import running
from app.webhooks import store as webhook_store
from app.webhooks.records import Webhook
from tests.conftest import mainly

pytestmark = pytest.mark.anyio

TENANT = "t"
SPEC = DatasetSpec.load("simulated")
COLUMNS = {
    "accounts": "account_id, transactions, fraud_labels, legitimate_labels, state",
    "entities": "kind, entity_id, state",
    "links": "kind, entity_id, account_id, first_use_us",
    "transactions": "transaction_id, content, features, probability, status",
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


async def imported(service: Service, chunks: list[list[Past]], tenant: str = TENANT) -> Tally:
    importer, tally = (
        Importer(service.part(Database), service.part(Pipeline), Patience(print)),
        Tally(),
    )
    for chunk in chunks:
        tally += await importer.add(tenant, chunk)
    return tally


async def contents(database: Database, tenant: str = TENANT) -> dict[str, Any]:
    async with database.read() as connection:
        return {
            table: [
                tuple(row)
                for row in await connection.execute(
                    text(
                        f"SELECT {columns} FROM {table} WHERE tenant = :tenant ORDER BY {columns}"
                    ),
                    {"tenant": tenant},
                )
            ]
            for table, columns in COLUMNS.items()
        }


async def test_every_row_of_a_file_is_stored_with_its_label(service: Service, file: Path) -> None:
    await imported(service, list(History(file, SPEC).chunks(100)))
    found = await contents(service.part(Database))
    frame = pl.read_parquet(file)
    assert len(found["transactions"]) == len(frame)
    assert len(found["accounts"]) == frame["account_id"].n_unique()
    named = {
        (kind, id_)
        for kind, column in SPEC.entities.items()
        for id_ in frame[column].drop_nulls().to_list()
    }
    assert {(kind, id_) for kind, id_, _ in found["entities"]} == named
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
    assert await contents(service.part(Database)) == await contents(service.part(Database), "whole")


@pytest.mark.parametrize("size", [1, 30, 400])
async def test_features_are_those_of_training_whatever_the_size_of_a_chunk(
    service: Service, file: Path, size: int
) -> None:
    await imported(service, list(History(file, SPEC).chunks(size)))
    data = read_transactions(file, SPEC)
    labels = data.entity_labels(SPEC.label.delay_us)
    expected_NF = service.part(Models).default.features.compute(data.columns, None, labels)
    async with service.part(Database).read() as connection:
        rows = await transaction_store.scored(connection, TENANT, data.transaction_ids)
    imported_NF = np.stack([np.frombuffer(rows[t].features, "<f4") for t in data.transaction_ids])
    np.testing.assert_allclose(imported_NF, expected_NF, atol=1e-6)


OF_THE_CLOCK = {"recorded_at_us", "evaluated_at_us", "created_at_us"}
OF_PAYMENTS = (*COLUMNS, "label_entities", "label_events")


async def rows_of(database: Database, tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row that tells of a tenant's payments, but for its tenant and times of the clock."""
    found = {}
    async with database.read() as connection:
        for name in OF_PAYMENTS:
            table = metadata.tables[name]
            left_out = {"tenant", *OF_THE_CLOCK}
            columns = [column for column in table.c if column.name not in left_out]
            rows = await connection.read(
                tuple[Any, ...], select(*columns).where(table.c.tenant == tenant)
            )
            found[name] = sorted(rows, key=repr)
    return found


async def test_a_part_of_a_file_by_copy_is_what_its_thousands_are(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "history.parquet"
    simulate(accounts=30, days=60, seed=3).head(1250).write_parquet(path)
    [whole] = History(path, SPEC).chunks(10_000)
    assert len(whole) > STEP
    database = service.part(Database)
    await imported(service, [whole], "whole")
    await imported(service, [whole[:STEP], whole[STEP:]], "thousands")
    found = await rows_of(database, "whole")
    assert {name: len(rows) > 0 for name, rows in found.items()} == dict.fromkeys(OF_PAYMENTS, True)
    # Some labels mature within the part, and some after it.
    place = list(metadata.tables["label_entities"].c.keys()).index("folded") - 1
    assert {row[place] for row in found["label_entities"]} == {True, False}
    assert found == await rows_of(database, "thousands")
    # None of a thousand has seen the labels that came with it.
    ids = [past.transaction_id for past in whole]
    async with database.read() as connection:
        stored = await transaction_store.scored(connection, "whole", ids)
    assert {stored[key].revision for key in ids[:STEP]} == {0}
    assert max(stored[key].revision for key in ids[STEP:]) == 1
    # Beside accounts, entities and links that are there already.
    await imported(service, [whole[:100]])
    await imported(service, [whole])
    assert await contents(database) == await contents(database, "whole")


def seen_by_writers(path: str, is_over: threading.Event) -> set[int]:
    """How many payments there are whenever another process that wants to write can."""
    seen: set[int] = set()
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        while not is_over.is_set():
            with suppress(sqlite3.OperationalError):
                other.execute("BEGIN IMMEDIATE")
                seen.update(*other.execute("SELECT count(*) FROM transactions"))
                other.execute("ROLLBACK")
            time.sleep(0.001)
    return seen


@mainly("sqlite")
async def test_an_import_lets_others_write_between_its_commits(
    service: Service, tmp_path: Path
) -> None:
    path = tmp_path / "history.parquet"
    simulate(accounts=40, days=120, seed=3).head(2500).write_parquet(path)
    importer = Importer(service.part(Database), service.part(Pipeline), Patience(print))
    file = service.part(Database).url.database
    assert file is not None
    is_over = threading.Event()
    seeing = asyncio.create_task(asyncio.to_thread(seen_by_writers, file, is_over))
    async for _ in importer.run(TENANT, History(path, SPEC).chunks(importer.chunk)):
        pass
    is_over.set()
    assert {1000, 2000} <= await seeing


async def test_states_are_those_of_scoring_live(service: Service, file: Path) -> None:
    chunks = list(History(file, SPEC).chunks(100))
    await imported(service, chunks)
    for chunk in chunks:
        await service.part(Pipeline).score([Posted("live", past.transaction) for past in chunk])
    found, live = [await contents(service.part(Database), tenant) for tenant in (TENANT, "live")]
    assert [row[-1] for row in found["accounts"]] == [row[-1] for row in live["accounts"]]
    for table in ("entities", "links"):
        assert found[table] == live[table]


async def test_an_imported_account_is_adapted_from_its_next_score_on(
    service: Service, file: Path
) -> None:
    history = [past for chunk in History(file, SPEC).chunks(100) for past in chunk]
    await imported(service, [history])
    last = next(past for past in history if past.is_fraud)
    async with service.part(Database).read() as connection:
        found = await transaction_store.scored(
            connection, TENANT, [last.transaction.transaction_id]
        )
    assert {row.used for row in found.values()} == {"insufficient_labels"}
    done = await service.part(Labelling).adapt(TENANT, last.transaction.account_id)
    assert (done.change.copy.used, done.change.copy.labels > 0) == ("adapted", True)


async def test_a_label_set_live_is_not_overwritten_by_the_file(
    service: Service, file: Path
) -> None:
    [chunk] = History(file, SPEC).chunks(400)
    past = next(past for past in chunk if past.is_fraud is not None)
    name, account_id = past.transaction.transaction_id, past.transaction.account_id
    verdict = Verdict(name, not past.is_fraud, past.transaction)
    await service.part(Labelling).store(TENANT, account_id, [verdict])
    await imported(service, [chunk])
    async with service.part(Database).read() as connection:
        labels = await label_store.labels_of(connection, TENANT, [name])
    assert labels[name].is_fraud is (not past.is_fraud)


OTHERWISE = {
    "amount": pl.col("amount") + 1,
    "account_id": pl.lit("another"),
    "occurred_at": pl.col("occurred_at") - pl.duration(days=30),
    "merchant_id": pl.lit(None, pl.String),
    "currency": pl.lit("ZZZ"),
    "device_id": pl.lit("another"),
    "channel": pl.lit("another"),
    "type": pl.lit("withdrawal"),
    "device_age_days": pl.lit(77.25),
}


async def test_what_is_stored_otherwise_is_named_and_the_rest_of_the_file_comes_in(
    service: Service, file: Path, tmp_path: Path
) -> None:
    frame = pl.read_parquet(file).sort("occurred_at").with_columns(is_fraud=True)
    half, changed = tmp_path / "half.parquet", tmp_path / "changed.parquet"
    frame.head(200).with_columns(is_fraud=False, label_delay_days=0.0).write_parquet(half)
    await imported(service, list(History(half, SPEC).chunks(100)))
    row_N = pl.int_range(pl.len())
    for n, (column, other) in enumerate(OTHERWISE.items()):
        frame = frame.with_columns(
            pl.when(row_N == n).then(other).otherwise(pl.col(column)).alias(column)
        )
    frame.with_columns(label_delay_days=1.0).write_parquet(changed)
    tally = await imported(service, list(History(changed, SPEC).chunks(100)))
    names = frame["transaction_id"].to_list()
    assert tally.differing == {
        name: [column] for name, column in zip(names, OTHERWISE, strict=False)
    }
    assert (tally.new, tally.labels["changed"]) == (len(frame) - 200, 200 - len(OTHERWISE))
    found = await contents(service.part(Database))
    assert len(found["transactions"]) == len(frame)
    # What differs keeps its label, too.
    assert {key for key, is_fraud, _ in found["labels"] if not is_fraud} == set(tally.differing)


NOW_US = now_us()


def past(
    name: str, days_ago: float, is_fraud: bool | None, known_days_ago: float, account: str = "a"
) -> Past:
    at_us = NOW_US - round(days_ago * DAY_US)
    attributes = {"device_age_days": 3.0}
    transaction = Transaction(
        name, account, at_us, Decimal(25), "EUR", "m", "food", "online", "DE", attributes
    )
    return Past(transaction, is_fraud, NOW_US - round(known_days_ago * DAY_US))


def counts(tally: Tally) -> dict[str, int]:
    found = {"new": tally.new, **tally.labels, "differing": len(tally.differing)}
    return {name: count for name, count in found.items() if count}


async def test_a_label_counts_from_when_it_is_known(service: Service) -> None:
    early = [past("p1", 60, False, 30), past("p2", 7, False, -23), past("p3", 6, True, -1)]
    assert counts(await imported(service, [early])) == {"new": 3, "stored": 1, "not_yet_known": 2}
    assert counts(await imported(service, [early])) == {"unchanged": 1, "not_yet_known": 2}
    found = await contents(service.part(Database))
    assert [name for name, *_ in found["labels"]] == ["p1"]
    assert [row[1:4] for row in found["accounts"]] == [(3, 0, 1)]
    # Time has passed.
    later = [label._replace(known_at_us=NOW_US - 1) for label in early[1:]]
    assert counts(await imported(service, [later])) == {"stored": 2}
    found = await contents(service.part(Database))
    assert [row[1:4] for row in found["accounts"]] == [(3, 1, 2)]


async def test_a_newer_file_changes_labels_as_if_they_were_put(service: Service) -> None:
    old = [past(f"p{n}", 100 - n, False, 90 - n, "ab"[n % 2]) for n in range(6)]
    await imported(service, [old])
    new = [label._replace(is_fraud=True, known_at_us=NOW_US - n) for n, label in enumerate(old[:2])]
    tally = await imported(service, [[*new, *old[2:]]])
    assert counts(tally) == {"changed": 2, "unchanged": 4}
    async with service.part(Database).read() as connection:
        labels = await label_store.labels_of(connection, TENANT, ["p0", "p1"])
        history = await label_store.label_history(connection, TENANT, "p0")
        account = await account_store.account(connection, TENANT, "a")
        logged = (
            await audit_store.listed_entries(connection, TENANT, EntryFilters(), None, 10)
        ).rows
    assert {name: (label.is_fraud, label.source) for name, label in labels.items()} == {
        "p0": (True, "import"),
        "p1": (True, "import"),
    }
    assert [(entry.is_fraud, entry.source) for entry in history] == [
        (False, "import"),
        (True, "import"),
    ]
    assert labels["p0"].matures_at_us == labels["p0"].labelled_at_us == NOW_US
    assert account is not None
    assert (account.revision, account.fraud_labels, account.legitimate_labels) == (2, 1, 2)
    assert {(entry.action, entry.subject, entry.actor) for entry in logged} == {
        ("label.set", "p0", "command line"),
        ("label.set", "p1", "command line"),
    }
    # The file of before is older, and changes nothing back.
    assert counts(await imported(service, [old])) == {"superseded": 2, "unchanged": 4}


async def test_labels_that_a_newer_file_has_no_more_stay_and_are_counted(service: Service) -> None:
    old = [past(f"p{n}", 100 - n, n == 1, 90 - n, "ab"[n % 2]) for n in range(4)]
    assert (await imported(service, [old])).kept == 0
    new = [label._replace(is_fraud=None) if n < 2 else label for n, label in enumerate(old)]
    tally = await imported(service, [[*new, past("p9", 50, None, 1)]])
    assert (counts(tally), tally.kept) == ({"new": 1, "unchanged": 2}, 2)
    assert (await imported(service, [new])).kept == 2
    async with service.part(Database).read() as connection:
        labels = await label_store.labels_of(connection, TENANT, ["p0", "p1", "p9"])
    assert {name: label.is_fraud for name, label in labels.items()} == {"p0": False, "p1": True}


async def test_an_older_and_a_newer_file_leave_what_the_newer_one_alone_leaves(
    service: Service,
) -> None:
    old = [past(f"p{n}", 100 - n, n % 4 == 0, 90 - n) for n in range(9)]
    new = [
        label._replace(is_fraud=True, known_at_us=NOW_US - 5) if n % 2 else label
        for n, label in enumerate(old)
    ]
    await imported(service, [old])
    await imported(service, [new])
    await imported(service, [new], tenant="whole")
    found, whole = [await contents(service.part(Database), tenant) for tenant in (TENANT, "whole")]
    assert found == whole


async def test_more_late_labels_than_a_key_may_set_come_in(service: Service) -> None:
    old = [past(f"p{n}", 100 - n / 10, None, 0) for n in range(250)]
    new = [
        label._replace(is_fraud=n % 2 == 0, known_at_us=NOW_US - 1) for n, label in enumerate(old)
    ]
    await imported(service, [old])
    assert counts(await imported(service, [new])) == {"stored": 250}


async def test_a_late_label_resolves_the_review_and_is_announced_like_any_other(
    service: Service,
) -> None:
    payment = past("p1", 3, None, 0)
    everything = TenantThresholds(TENANT, 0, 0, 1e-9, 0.999)
    hook = Webhook(
        TENANT, "hook", "https://nowhere.invalid/", "label.changed", "whsec_", None, None, 0
    )

    async def watched(connection: Connection) -> None:
        await threshold_store.save_thresholds(connection, everything)
        await webhook_store.save_webhook(connection, hook)

    await service.part(Database).run(watched)
    await service.part(Pipeline).score([Posted(TENANT, payment.transaction)])
    assert counts(await imported(service, [[payment._replace(is_fraud=True)]])) == {"stored": 1}
    async with service.part(Database).read() as connection:
        reviews = await review_store.reviews_of(connection, TENANT, ["p1"])
        messages = await webhook_store.waiting(connection, TENANT, "hook", 10)
    assert reviews["p1"].status == "resolved"
    assert [message.event for message in messages] == ["label.changed"]


async def test_payments_posted_with_more_than_the_file_has_are_the_same_payments(
    service: Service,
) -> None:
    payment = past("p1", 3, None, 0)
    posted = payment.transaction._replace(
        amount=Decimal("25.00"), attributes={"device_age_days": "3", "colour": "red"}
    )
    await service.part(Pipeline).score([Posted(TENANT, posted)])
    assert counts(await imported(service, [[payment._replace(is_fraud=True)]])) == {"stored": 1}
    other = payment.transaction._replace(currency="XXX")
    assert counts(await imported(service, [[Past(other, True, 1)]])) == {"unchanged": 1}


def test_what_the_spec_names_arrives_as_it_is_spelled(tmp_path: Path) -> None:
    spec = DatasetSpec.model_validate(
        {
            "name": "shop",
            "columns": {
                "transaction": "id",
                "account": "card",
                "time": "at",
                "amount": "paid",
                "type": "kind",
                "status": "state",
                "label": "fraud",
            },
            "entities": {"merchant": "shop", "ip": "address", "wallet": "wallet"},
            "label": {"delay_days": 2},
            "categorical": {"channel": "channel", "colour": "colour"},
            "numeric": {"age": "age"},
        }
    )
    path = tmp_path / "shop.csv"
    path.write_text(
        "id,card,at,paid,shop,fraud,channel,colour,age,kind,state,address,wallet\n"
        "t2,a,2024-01-02T00:00:00Z,3,,,,,,,,,\n"
        "t1,a,2024-01-01T00:00:00Z,10.50,s,1,online,007,1.5,refund,declined,2001:DB8::1,w\n"
    )
    [[first, second]] = History(path, spec).chunks(10)
    assert first.transaction.transaction_id == "t1"
    assert str(first.transaction.amount) == "10.50"
    assert (first.transaction.channel, first.transaction.currency) == ("online", "XXX")
    assert first.transaction.attributes == {"age": 1.5, "colour": "007"}
    assert (first.is_fraud, first.known_at_us - first.transaction.occurred_at_us) == (
        True,
        2 * 24 * 3600 * 1_000_000,
    )
    assert (second.transaction.merchant_id, second.transaction.channel) == (None, None)
    assert (second.transaction.attributes, second.is_fraud) == ({}, None)
    named = [
        (payment.merchant_id, payment.ip_address, payment.entities)
        for payment, *_ in (first, second)
    ]
    assert named == [("s", "2001:db8::1", {"wallet": "w"}), (None, None, {})]
    # In a file, what has no status went through.
    became = [(payment.type, payment.status) for payment, *_ in (first, second)]
    assert became == [("refund", "declined"), ("payment", "authorised")]


@pytest.mark.parametrize("bad", ["x" * 129, "a\tb"])
def test_an_id_that_the_service_could_not_take_is_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "bad.parquet"
    simulate(accounts=2, days=3, seed=1).with_columns(account_id=pl.lit(bad)).write_parquet(path)
    with pytest.raises(ValueError, match="1 to 128 characters and no control characters"):
        History(path, SPEC)

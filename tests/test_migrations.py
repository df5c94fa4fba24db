"""The schema's revisions: up, down, in step with the tables, and refused when they differ."""

from typing import Any

import anyio
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Table, insert, inspect, select, text

from app.database import MIGRATIONS, Database, downgrade, migration_config, upgrade
from app.errors import SetupError
from app.tables import label_events, labels, metadata, transactions


async def tables_of(url: str) -> set[str]:
    database = Database(url)
    try:
        async with database.read() as connection:
            return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))
    finally:
        await database.close()


def scored(transaction_id: str, used: str) -> dict[str, Any]:
    """A row of the transactions, as every revision takes it."""
    return {
        "tenant": "t",
        "transaction_id": transaction_id,
        "account_id": "a",
        "merchant_id": None,
        "occurred_at_us": 1,
        "content": "{}",
        "content_digest": b"digest",
        "features": b"features",
        "features_digest": "f",
        "probability": 0.25,
        "risk_score": 12.5,
        "risk_level": "low",
        "outcome": "approve",
        "used": used,
        "labels": 0,
        "revision": 0,
        "model": "m",
        "evaluated_at_us": 2,
    }


async def store_scored(url: str, *rows: dict[str, Any]) -> None:
    database = Database(url)
    try:
        async with database.write() as connection:
            await connection.execute(insert(transactions), list(rows))
    finally:
        await database.close()


async def stored(url: str) -> list[dict[str, Any]]:
    database = Database(url)
    try:
        async with database.read() as connection:
            # By name: the table may be of an older schema than `transactions` knows.
            names = scored("", "")
            asked = select(*(transactions.c[name] for name in names))
            rows = await connection.execute(asked.order_by(transactions.c.transaction_id))
            return [dict(row) for row in rows.mappings()]
    finally:
        await database.close()


async def execute(url: str, *statements: str) -> None:
    database = Database(url)
    async with database.write() as connection:
        for statement in statements:
            await connection.execute(text(statement))
    await database.close()


async def rows_of(url: str, table: Table) -> list[dict[str, Any]]:
    database = Database(url)
    try:
        async with database.read() as connection:
            return [dict(row) for row in (await connection.execute(select(table))).mappings()]
    finally:
        await database.close()


async def width_of_used(url: str) -> int:
    """How many characters the schema gives to what scored a transaction."""
    database = Database(url)
    try:
        async with database.read() as connection:
            columns = await connection.run_sync(
                lambda sync: inspect(sync).get_columns("transactions")
            )
    finally:
        await database.close()
    [width] = [column["type"].length for column in columns if column["name"] == "used"]
    return int(width)


async def revised(url: str, revision: str) -> None:
    database = Database(url)
    async with database.write() as connection:
        await connection.execute(
            text("UPDATE alembic_version SET version_num = :r"), {"r": revision}
        )
    await database.close()


async def check(url: str) -> None:
    database = Database(url)
    try:
        await database.check_revision()
    finally:
        await database.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    command.check(migration_config(database_url))


def test_every_revision_goes_up_and_down_and_up_again(unmigrated_database_url: str) -> None:
    for revision in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())):
        upgrade(unmigrated_database_url, revision.revision)
    downgrade(unmigrated_database_url, "base")
    upgrade(unmigrated_database_url)
    command.check(migration_config(unmigrated_database_url))


def test_0002_makes_room_for_insufficient_labels_and_keeps_what_is_stored(
    unmigrated_database_url: str,
) -> None:
    url = unmigrated_database_url
    old = [scored("t-1", "adapted"), scored("t-2", "base")]
    upgrade(url, "0001")
    assert anyio.run(width_of_used, url) < len("insufficient_labels")
    anyio.run(store_scored, url, *old)
    upgrade(url, "0002")
    assert anyio.run(width_of_used, url) >= len("insufficient_labels")
    new = scored("t-3", "insufficient_labels")
    anyio.run(store_scored, url, new)
    assert anyio.run(stored, url) == [*old, new]


def test_without_0002_an_account_of_insufficient_labels_is_one_of_the_base(
    unmigrated_database_url: str,
) -> None:
    url = unmigrated_database_url
    names = {"t-1": "adapted", "t-2": "base", "t-3": "insufficient_labels"}
    upgrade(url, "0002")
    anyio.run(store_scored, url, *(scored(key, used) for key, used in names.items()))
    downgrade(url, "0001")
    names["t-3"] = "base"
    expected = [scored(key, used) for key, used in names.items()]
    assert anyio.run(stored, url) == expected
    assert anyio.run(width_of_used, url) < len("insufficient_labels")
    upgrade(url)
    assert anyio.run(stored, url) == expected


LABELLED_AT_0002 = (
    "INSERT INTO accounts (tenant, account_id, revision, fraud_labels, legitimate_labels)"
    " VALUES ('t', 'a', 7, 1, 1), ('u', 'a', 2, 1, 0), ('t', 'b', 3, 0, 0)",
    "INSERT INTO labels (tenant, transaction_id, account_id, is_fraud, occurred_at_us,"
    " labelled_at_us, matures_at_us, folded) VALUES ('t', 't-1', 'a', true, 5, 6, 8, false),"
    " ('t', 't-2', 'a', false, 15, 16, 18, true), ('u', 't-1', 'a', true, 25, 26, 28, true)",
)


def test_0003_takes_the_labels_there_are_as_the_beginning_of_their_history(
    unmigrated_database_url: str,
) -> None:
    url = unmigrated_database_url
    upgrade(url, "0002")
    anyio.run(execute, url, *LABELLED_AT_0002)
    upgrade(url)
    names = ("tenant", "transaction_id", "account_id", "revision", "is_fraud")
    times = ("occurred_at_us", "labelled_at_us", "matures_at_us", "recorded_at_us")
    events = {
        tuple(event[name] for name in (*names, *times))
        for event in anyio.run(rows_of, url, label_events)
    }
    assert events == {
        ("t", "t-1", "a", 7, True, 5, 6, 8, 6),
        ("t", "t-2", "a", 7, False, 15, 16, 18, 16),
        ("u", "t-1", "a", 2, True, 25, 26, 28, 26),
    }
    for label in anyio.run(rows_of, url, labels):
        assert (label["source"], label["recorded_at_us"]) == ("analyst", label["labelled_at_us"])
        assert label["features"] is label["analyst"] is label["note"] is None


def test_without_0003_transactions_and_labels_are_still_there(unmigrated_database_url: str) -> None:
    url = unmigrated_database_url
    upgrade(url)
    rows = [scored("t-1", "adapted"), scored("t-2", "insufficient_labels")]
    anyio.run(store_scored, url, *rows)
    anyio.run(execute, url, *LABELLED_AT_0002)
    downgrade(url, "0002")
    assert "label_events" not in anyio.run(tables_of, url)
    assert anyio.run(stored, url) == rows
    upgrade(url)
    assert anyio.run(stored, url) == rows
    again = {
        (row["tenant"], row["transaction_id"], row["is_fraud"], row["folded"])
        for row in anyio.run(rows_of, url, labels)
    }
    assert again == {("t", "t-1", True, False), ("t", "t-2", False, True), ("u", "t-1", True, True)}
    assert len(anyio.run(rows_of, url, label_events)) == 3


def test_an_upgrade_of_an_upgraded_database_changes_nothing(database_url: str) -> None:
    upgrade(database_url)
    command.check(migration_config(database_url))


@pytest.mark.anyio
async def test_a_migrated_database_has_every_table(database_url: str) -> None:
    assert await tables_of(database_url) == {*metadata.tables, "alembic_version"}


@pytest.mark.anyio
async def test_the_schema_of_this_version_is_accepted(database_url: str) -> None:
    await check(database_url)


@pytest.mark.anyio
async def test_a_database_without_a_schema_is_refused_with_a_sentence(
    unmigrated_database_url: str,
) -> None:
    with pytest.raises(SetupError, match=r"revision none, this version needs .* db upgrade"):
        await check(unmigrated_database_url)


@pytest.mark.anyio
async def test_a_database_of_a_newer_version_is_refused_with_a_sentence(database_url: str) -> None:
    await revised(database_url, "9999")
    with pytest.raises(SetupError, match="revision 9999, this version needs"):
        await check(database_url)


def test_an_older_version_does_not_migrate_a_newer_database(
    database_url: str, anyio_backend: str
) -> None:
    anyio.run(revised, database_url, "9999")
    with pytest.raises(SetupError, match="unknown to this version"):
        upgrade(database_url)


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_another_kind_of_database_is_refused_with_a_sentence(url: str) -> None:
    with pytest.raises(SetupError, match="sqlite:///"):
        Database(url)


def test_a_postgresql_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(SetupError, match="cannot be migrated"):
        upgrade("postgresql://nobody@127.0.0.1:1/nothing")

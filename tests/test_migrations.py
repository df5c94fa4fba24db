"""The schema's revisions: up, down, in step with the tables, and refused when they differ."""

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import anyio
import numpy as np
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Connection,
    Engine,
    Table,
    UniqueConstraint,
    event,
    insert,
    inspect,
    select,
    text,
)

from app.db.database import PG_SETTINGS, Database
from app.db.indexing import PG_BUILD_LIMITS
from app.db.migrating import PG_MIGRATION_LIMITS, downgrade, migration_config, upgrade
from app.db.revisions import MIGRATIONS, newest_revision
from app.db.schema import (
    accounts,
    entities,
    label_entities,
    label_events,
    labels,
    metadata,
    transactions,
)
from app.errors import SetupError
from app.learner.states import States
from tests import postgres
from tests.conftest import IS_TORTURE, database_of


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
            query = select(*(transactions.c[name] for name in names))
            rows = await connection.execute(query.order_by(transactions.c.transaction_id))
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
        await database.check_schema()
    finally:
        await database.close()


def test_the_migrations_make_exactly_the_tables_that_the_code_knows(database_url: str) -> None:
    command.check(migration_config(database_url))


def test_the_newest_file_is_the_newest_revision() -> None:
    assert newest_revision() == ScriptDirectory(str(MIGRATIONS)).get_current_head()


def test_every_revision_goes_up_and_down_and_up_again(unmigrated_database_url: str) -> None:
    for revision in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())):
        upgrade(unmigrated_database_url, revision.revision)
    downgrade(unmigrated_database_url, "base")
    upgrade(unmigrated_database_url)
    command.check(migration_config(unmigrated_database_url))


@contextmanager
def noted() -> Iterator[list[str]]:
    """The statements that are executed meanwhile, on whichever connection."""
    statements: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


BUILT = re.compile(r"CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?\S+ ON (\w+)")
DROPPED = re.compile(r"DROP INDEX (CONCURRENTLY )?")


@pytest.mark.parametrize("unmigrated_database_url", ["postgresql"], indirect=True)
def test_no_migration_holds_up_a_table_in_use_for_an_index(unmigrated_database_url: str) -> None:
    url, built = unmigrated_database_url, 0
    for revision in reversed(list(ScriptDirectory(str(MIGRATIONS)).walk_revisions())):
        with noted() as statements:
            upgrade(url, revision.revision)
        made = {text for text_ in statements for text in re.findall(r"CREATE TABLE (\w+)", text_)}
        for statement in statements:
            if found := BUILT.search(statement):
                built += 1
                assert found[1] or found[2] in made, (revision.revision, statement)
            if found := DROPPED.search(statement):
                assert found[1], (revision.revision, statement)
    assert built > 10


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
    upgrade(url, "0017")
    rows = [scored("t-1", "adapted"), scored("t-2", "insufficient_labels")]
    anyio.run(store_scored, url, *rows)
    anyio.run(execute, url, *LABELLED_AT_0002)
    downgrade(url, "0002")
    assert "label_events" not in anyio.run(tables_of, url)
    assert anyio.run(stored, url) == rows
    upgrade(url, "0017")
    assert anyio.run(stored, url) == rows
    again = {
        (row["tenant"], row["transaction_id"], row["is_fraud"], row["folded"])
        for row in anyio.run(written, url, everything)["labels"]
    }
    assert again == {("t", "t-1", True, False), ("t", "t-2", False, True), ("u", "t-1", True, True)}
    upgrade(url)
    assert len(anyio.run(rows_of, url, label_events)) == 3


PAID_AT_0017 = (
    "INSERT INTO merchants (tenant, merchant_id, state, label_state) VALUES"
    " ('t', 'm', 'sums', 'labels'), ('t', 'shop', NULL, NULL)",
    "INSERT INTO labels (tenant, transaction_id, account_id, merchant_id, is_fraud,"
    " occurred_at_us, labelled_at_us, matures_at_us, folded) VALUES"
    " ('t', 't-1', 'a', 'm', true, 5, 6, 8, true), ('t', 't-2', 'a', NULL, true, 5, 6, 8, false)",
    "INSERT INTO label_events (tenant, account_id, revision, transaction_id, merchant_id, is_fraud,"
    " occurred_at_us, labelled_at_us, matures_at_us, source, recorded_at_us) VALUES"
    " ('t', 'a', 1, 't-1', 'm', false, 5, 6, 7, 'analyst', 10),"
    " ('t', 'a', 2, 't-1', 'm', NULL, 5, 6, 7, 'analyst', 20),"
    " ('t', 'a', 3, 't-1', 'm', true, 5, 6, 8, 'analyst', 30),"
    " ('t', 'a', 4, 't-2', NULL, true, 5, 6, 8, 'analyst', 40),"
    " ('t', 'a', 5, 't-3', 'shop', true, 5, 6, 9, 'analyst', 50),"
    " ('t', 'a', 6, 't-3', 'shop', NULL, 5, 6, 9, 'analyst', 60)",
)


def test_0018_makes_merchants_entities_whose_labels_are_yet_to_be_folded(
    unmigrated_database_url: str,
) -> None:
    url = unmigrated_database_url
    upgrade(url, "0017")
    paid = scored("t-1", "adapted") | {"content": '{"merchant_id":"m\\u00e9"}'}
    anyio.run(store_scored, url, paid)
    anyio.run(execute, url, *PAID_AT_0017)
    upgrade(url)
    named = {
        (row["kind"], row["entity_id"], row["state"], row["label_state"])
        for row in anyio.run(rows_of, url, entities)
    }
    assert named == {("merchant", "m", None, None), ("merchant", "shop", None, None)}
    names = ("transaction_id", "kind", "entity_id", "matures_at_us", "folded", "removed_at_us")
    rows = [tuple(row[name] for name in names) for row in anyio.run(rows_of, url, label_entities)]
    assert sorted(rows) == [
        ("t-1", "merchant", "m", 8, False, 20),
        ("t-3", "merchant", "shop", 9, None, 60),
    ]
    assert anyio.run(stored, url) == [paid]
    downgrade(url, "0017")
    back = anyio.run(written, url, everything)
    assert [row["merchant_id"] for row in back["merchants"]] == ["m", "shop"]
    assert [row["merchant_id"] for row in back["transactions"]] == ["m\u00e9"]
    assert {(row["transaction_id"], row["merchant_id"]) for row in back["labels"]} == {
        ("t-1", "m"),
        ("t-2", None),
    }
    named = {(row["revision"], row["merchant_id"]) for row in back["label_events"]}
    assert named == {(1, "m"), (2, "m"), (3, "m"), (4, None), (5, "shop"), (6, "shop")}


GIVES_UP_SECONDS = 60
# The short form goes all the way up from every so many-th revision.
SPARSE = 8
MADE_UP: dict[type, Any] = {int: 7, float: 0.25, bool: True, bytes: b"bytes", str: "text"}
Rows = dict[str, list[dict[str, Any]]]


def fill(connection: Connection) -> None:
    """Two rows in every table: one with all that it may hold, one with what it must."""
    for table in metadata.sorted_tables:
        full = {column.name: MADE_UP[column.type.python_type] for column in table.c}
        unique = [
            constraint
            for constraint in table.constraints
            if isinstance(constraint, UniqueConstraint)
        ]
        columns = [column for key in (table.primary_key, *unique) for column in key]
        keys = {
            column.name for column in columns if column.name != "tenant" and not column.nullable
        }
        bare = {column.name: full[column.name] for column in table.c if not column.nullable}
        other = {name: 8 if bare[name] == 7 else "other" for name in keys}
        connection.execute(table.delete())
        connection.execute(insert(table), full)
        connection.execute(insert(table), bare | other)


def everything(connection: Connection) -> Rows:
    """All rows of all tables that the database has, in the order of their texts."""
    found = {}
    for name in inspect(connection).get_table_names():
        if name != "alembic_version":
            rows = connection.execute(text(f"SELECT * FROM {name}")).mappings()
            found[name] = sorted(map(dict, rows), key=str)
    return found


async def written(url: str, call: Any) -> Any:
    database = Database(url)
    try:
        async with database.write() as connection:
            return await connection.run_sync(call)
    finally:
        await database.close()


def only(rows: Rows, of: Rows) -> Rows:
    """What of `rows` has a place in the tables and columns of others."""
    found = {}
    for name in rows.keys() & of.keys():
        # An older schema may have other columns, too, which nothing fills.
        columns = set(rows[name][0]) & set(of[name][0]) if rows[name] and of[name] else set()
        found[name] = sorted(
            ({column: row[column] for column in sorted(columns)} for row in rows[name]), key=str
        )
    return found


def test_without_0027_states_have_their_zeros_again(unmigrated_database_url: str) -> None:
    url = unmigrated_database_url
    upgrade(url)
    whole = np.array([7, 5], "<i8").tobytes() + np.array([1.5, 0, 0, 2.5], "<f8").tobytes()
    [packed] = States.from_bytes([whole], 2).to_bytes()
    # More than are read at once.
    keys = [{"tenant": "t", "account_id": f"a-{n:04}"} for n in range(2001)]
    paid = [{**key, "state": (packed, whole, None)[n % 3]} for n, key in enumerate(keys)]
    entity = {"tenant": "t", "kind": "ip", "entity_id": "i", "state": packed, "label_state": packed}

    async def fill_states() -> None:
        database = Database(url)
        async with database.write() as connection:
            await connection.execute(insert(accounts), paid)
            await connection.execute(insert(entities), [entity])
        await database.close()

    anyio.run(fill_states)
    downgrade(url, "0026")
    found = {row["account_id"]: row["state"] for row in anyio.run(rows_of, url, accounts)}
    assert found == {row["account_id"]: row["state"] and whole for row in paid}
    [row] = anyio.run(rows_of, url, entities)
    assert (row["state"], row["label_state"]) == (whole, whole)


def test_what_an_older_schema_has_a_place_for_survives_the_way_down_and_up_again(
    unmigrated_database_url: str,
) -> None:
    url = unmigrated_database_url
    upgrade(url)
    newest, *_ = revisions = [
        walk_revision.revision
        for walk_revision in ScriptDirectory(str(MIGRATIONS)).walk_revisions()
    ]
    anyio.run(written, url, fill)
    filled = above = anyio.run(written, url, everything)
    assert filled.keys() == metadata.tables.keys()
    assert {len(rows) for rows in filled.values()} == {2}
    for number, (newer, older) in enumerate(pairwise(revisions), 1):
        downgrade(url, older)
        down = anyio.run(written, url, everything)
        assert only(above, down) == only(down, above), older
        # Up again: the one step, and from every so many-th the whole way.
        is_whole = IS_TORTURE or number % SPARSE == 0 or older == revisions[-1]
        upgrade(url, newest if is_whole else newer)
        up = anyio.run(written, url, everything)
        assert only(up, down) == only(down, filled if is_whole else above), older
        downgrade(url, older)
        above = anyio.run(written, url, everything)
    downgrade(url, "base")
    assert anyio.run(written, url, everything) == {}
    upgrade(url)
    assert {len(rows) for rows in anyio.run(written, url, everything).values()} == {0}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("limit", "words"), [("lock_timeout", "lock timeout"), ("statement_timeout", "statement")]
)
async def test_a_migration_behind_a_long_transaction_gives_up_and_has_changed_nothing(
    unmigrated_database_url: str, monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    url = unmigrated_database_url
    await asyncio.to_thread(upgrade, url, "0002")
    database = Database(url)
    if database.is_sqlite and limit != "lock_timeout":
        pytest.skip("SQLite knows no timeout of statements")
    # The last upgrade, which nothing is in the way of, has the usual limits again: on a busy
    # machine a statement of it takes longer than these.
    async with database.write() as connection:
        await connection.execute(insert(transactions), [scored("t-1", "base")])
        with monkeypatch.context() as short:
            for limits in (PG_MIGRATION_LIMITS, PG_BUILD_LIMITS):
                for name in limits:
                    short.setitem(limits, name, "200" if name == limit else "0")
            short.setattr("app.db.sqlite.BUSY_MS", 200)
            begun = time.monotonic()
            with pytest.raises(SetupError, match=f"cannot be migrated: .*({words}|is locked)"):
                await asyncio.wait_for(asyncio.to_thread(upgrade, url), GIVES_UP_SECONDS)
            assert time.monotonic() - begun >= 0.2
    await database.close()
    assert "label_events" not in await tables_of(url)
    assert await stored(url) == [scored("t-1", "base")]
    await asyncio.to_thread(upgrade, url)
    assert await stored(url) == [scored("t-1", "base")]


def test_a_migration_waits_for_locks_for_less_long_than_the_service_behind_it_would() -> None:
    migration, service = PG_MIGRATION_LIMITS, PG_SETTINGS
    assert 0 < int(migration["lock_timeout"]) < int(service["lock_timeout"])
    assert int(migration["statement_timeout"]) > 0


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


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("DROP TABLE outbox", "outbox.id"),
        ("ALTER TABLE label_events DROP COLUMN note", "label_events.note"),
    ],
)
async def test_a_database_with_half_of_its_schema_is_refused_with_a_sentence(
    database_url: str, statement: str, lost: str
) -> None:
    await execute(database_url, statement)
    with pytest.raises(SetupError, match=f"has no {lost}: restore"):
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


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_new_database_that_cannot_hold_every_character_is_refused(
    postgres_url: str, encoding: str
) -> None:
    name = f"of_{encoding.lower()}"
    made = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    postgres.execute(postgres_url, made)
    try:
        with pytest.raises(SetupError, match=f"encoding is {encoding}.*ENCODING 'UTF8'"):
            upgrade(database_of(postgres_url, name))
    finally:
        postgres.execute(postgres_url, f"DROP DATABASE {name}")


def test_a_database_with_another_default_of_isolation_is_migrated(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With it each transaction keeps the snapshot of its first statement, which builds wait for.
    postgres.execute(postgres_url, "CREATE DATABASE isolated")
    default = "ALTER DATABASE isolated SET default_transaction_isolation = 'repeatable read'"
    postgres.execute(postgres_url, default)
    url = database_of(postgres_url, "isolated")
    monkeypatch.setitem(PG_BUILD_LIMITS, "lock_timeout", "10000")
    try:
        upgrade(url)
        newest = "SELECT version_num FROM alembic_version"
        assert postgres.value_of(url, newest) == newest_revision()
    finally:
        postgres.execute(postgres_url, "DROP DATABASE isolated WITH (FORCE)")

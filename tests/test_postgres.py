"""What goes straight to PostgreSQL's driver: when it is written, and what a failure leaves."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from inspect import CORO_CLOSED, getcoroutinestate
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from app.accounts import store as account_store
from app.accounts.store import Account
from app.db.connection import Connection
from app.db.database import FRESH_SECONDS, PG_SETTINGS, Database
from app.db.errors import DatabaseUnavailable, Raced
from app.entities import states as entity_states
from app.entities.states import EntityKey, EntityState, Link
from app.errors import SetupError
from app.labels import store as label_store
from app.labels.forgetting import event_of
from app.labels.records import LabelEntity
from app.reviews import store as review_store
from app.scoring import store as transaction_store
from tests.conftest import database_of
from tests.postgres import execute
from tests.test_store import TENANT, label_row, scored_row

pytestmark = pytest.mark.anyio

# That are cancelled, each a little later in its course.
GLANCES = 60


@pytest.fixture
def postgres_only(database: Database) -> Database:
    if database.is_sqlite:
        pytest.skip("SQLite's statements run where they are written")
    return database


@asynccontextmanager
async def heard(database: Database) -> AsyncIterator[tuple[Connection, list[str]]]:
    """A transaction, and the statements of its connection, listed a moment later."""
    statements: list[str] = []
    async with database.write() as connection:
        raw = await connection.run_sync(lambda sync: sync.connection.driver_connection)
        raw.add_query_logger(lambda record: statements.append(record.query))  # type: ignore[union-attr]
        yield connection, statements


async def inserts(statements: Sequence[str]) -> list[int]:
    """How many inserts there are in each statement of any; the driver logs a moment later."""
    await asyncio.sleep(0.01)
    return [
        statement.count("INSERT INTO") for statement in statements if "INSERT INTO" in statement
    ]


async def test_writes_go_together_once_their_table_is_read(postgres_only: Database) -> None:
    async with heard(postgres_only) as (connection, statements):
        await account_store.save_accounts(connection, [Account(TENANT, "a"), Account(TENANT, "b")])
        await entity_states.save_entities(
            connection, [EntityState(TENANT, "device", "d", b"state")]
        )
        await entity_states.save_links(connection, [Link(TENANT, "device", "d", "a", 5)])
        await transaction_store.save_scored(connection, [scored_row("t-1"), scored_row("t-2")])
        assert await label_store.labels_of(connection, TENANT, ["t-1"]) == {}
        assert await inserts(statements) == []
        assert len(await transaction_store.scored(connection, TENANT, ["t-1", "t-2"])) == 2
        assert await inserts(statements) == [4]
        # What changes a table again waits for what was to be written before.
        await account_store.count_labels(connection, TENANT, {"a": (1, 0), "b": (0, 1)})
    async with postgres_only.read() as connection:
        assert await account_store.account(connection, TENANT, "a") == Account(TENANT, "a", 1, 0, 1)
        assert await account_store.account(connection, TENANT, "b") == Account(
            TENANT, "b", 1, 0, 0, 1
        )


async def test_many_rows_come_some_at_a_time_and_all_of_them(postgres_only: Database) -> None:
    """What the driver has decoded at once kept the loop waiting for 100 ms."""
    size, key = 2500, ("merchant", "m")
    rows = [label_row(f"t-{n:04}", recorded_at_us=n) for n in range(size)]
    named = [LabelEntity(TENANT, row.transaction_id, *key, 0) for row in rows]

    async def found(connection: Connection) -> list[str]:
        changes = await label_store.label_changes(connection, TENANT, [key])
        return sorted(change.transaction_id for change in changes)

    expected = [row.transaction_id for row in rows]
    async with heard(postgres_only) as (connection, _):
        await label_store.save_labels(connection, rows, named)
        await label_store.save_label_events(
            connection, [event_of(row, n) for n, row in enumerate(rows)]
        )
        # What waits is written before it is read.
        assert await found(connection) == expected
        raw = await connection.run_sync(lambda sync: sync.connection.driver_connection)
        portals = "SELECT count(*) FROM pg_cursors WHERE name <> ''"
        assert await raw.fetchval(portals) == 1  # type: ignore[union-attr]
    async with postgres_only.read() as connection:
        assert await found(connection) == expected
    for _ in range(2):
        # Nothing is begun where somebody glances.
        async with postgres_only.glance() as connection:
            assert await found(connection) == expected
            assert await found(connection) == expected


@pytest.mark.parametrize("is_glance", [False, True])
@pytest.mark.parametrize("by_server", [False, True])
async def test_many_rows_of_a_connection_that_is_gone_are_those_of_a_database_that_is_away(
    postgres_only: Database, is_glance: bool, by_server: bool
) -> None:
    async def read_many() -> None:
        way = postgres_only.glance if is_glance else postgres_only.read
        async with way() as connection:
            raw: Any = await connection.run_sync(lambda sync: sync.connection.driver_connection)
            if by_server:
                async with postgres_only.read() as other:
                    end = text(f"SELECT pg_terminate_backend({raw.get_server_pid()})")
                    await other.execute(end)
                while not raw.is_closed():
                    await asyncio.sleep(0.01)
            else:
                # As the breaker cuts it.
                raw.terminate()
            await label_store.label_changes(connection, TENANT, [("merchant", "m")])

    with pytest.raises(DatabaseUnavailable):
        await read_many()


async def test_a_glance_that_is_cancelled_leaves_no_transaction(postgres_only: Database) -> None:
    """The pool would lend its connection to others, who could begin none of their own."""

    async def glance() -> bool:
        async with postgres_only.glance() as connection:
            await label_store.label_changes(connection, TENANT, [("merchant", "m")])
            raw: Any = await connection.run_sync(lambda sync: sync.connection.driver_connection)
            return not raw.is_in_transaction()

    # Whether a pooler stands between is known by the first connection.
    await glance()
    begun = time.monotonic()
    assert await glance()
    each = (time.monotonic() - begun) / GLANCES
    for number in range(GLANCES):
        cut = asyncio.create_task(glance())
        await asyncio.sleep(number * each)
        cut.cancel()
        await asyncio.gather(cut, return_exceptions=True)
        assert await glance()
    async with postgres_only.write() as connection:
        await connection.execute(text("SELECT 1"))


async def test_pasts_are_one_question_however_many_there_are(postgres_only: Database) -> None:
    async with heard(postgres_only) as (connection, statements):
        moments = [(f"a-{n}", n) for n in range(1000)]
        assert await transaction_store.pasts_of(connection, TENANT, moments, 32) == [[]] * 1000
        await asyncio.sleep(0.01)
    assert sum("LATERAL" in statement for statement in statements) == 1


async def test_questions_go_together_and_see_what_was_written(postgres_only: Database) -> None:
    async def twice(connection: Connection) -> list[Account | None]:
        return [await account_store.account(connection, TENANT, key) for key in ("b", "c")]

    saved = [Account(TENANT, "a", state=b"\x00"), Account(TENANT, "b")]
    async with heard(postgres_only) as (connection, statements):
        await account_store.save_accounts(connection, saved)
        await transaction_store.save_scored(connection, [scored_row("t-1"), scored_row("t-2")])
        account, others, found = await connection.together(
            account_store.account(connection, TENANT, "a"),
            twice(connection),
            transaction_store.scored(connection, TENANT, ["t-1", "t-2", "t-3"]),
        )
        assert await connection.together(
            label_store.labels_of(connection, TENANT, []),
            label_store.labels_of(connection, TENANT, []),
        ) == ({}, {})
        await asyncio.sleep(0.01)
    assert (account, others) == (saved[0], [saved[1], None])
    assert found == {"t-1": scored_row("t-1"), "t-2": scored_row("t-2")}
    assert [
        statement.count("array_agg") for statement in statements if "FROM accounts" in statement
    ] == [3, 0]


async def test_an_error_of_a_query_ends_all_that_go_together_and_later_ones_run(
    postgres_only: Database,
) -> None:
    async def raising() -> None:
        raise KeyError("a fault")

    async with postgres_only.write() as connection:
        other = transaction_store.scored(connection, TENANT, ["t-1"])
        with pytest.raises(KeyError):
            await connection.together(other, raising())
        assert getcoroutinestate(other) == CORO_CLOSED
        assert await account_store.account(connection, TENANT, "a") is None


async def test_a_write_that_waits_for_the_commit_can_still_be_raced(
    postgres_only: Database,
) -> None:
    names = ["t-1", "t-1", "t-2"]

    async def write(connection: Connection) -> None:
        await transaction_store.save_scored(connection, [scored_row(names.pop(0))])

    await postgres_only.run(write)
    await postgres_only.run(write)
    assert names == []
    async with postgres_only.read() as connection:
        assert set(await transaction_store.scored(connection, TENANT, ["t-1", "t-2"])) == {
            "t-1",
            "t-2",
        }


async def test_a_server_that_lets_nobody_in_is_a_database_that_is_away(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    role = "CREATE ROLE locked_out NOLOGIN"
    await asyncio.to_thread(execute, postgres_url, role)
    try:
        # Its rights were taken away, and its database was renamed.
        for url, why in (
            (postgres_url.replace("postgres@", "locked_out@"), '"locked_out" is not permitted'),
            (database_of(postgres_url, "renamed"), '"renamed" does not exist'),
        ):
            database = Database(url)
            for ask in (database.check_ready, database.check_revision):
                with pytest.raises(DatabaseUnavailable, match="refuses this service"):
                    await ask()
            await database.close()
            # For the operator, and for no caller.
            assert why in caplog.text
    finally:
        await asyncio.to_thread(execute, postgres_url, "DROP ROLE locked_out")


async def test_a_database_that_is_closed_for_a_while_is_away(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As where it is being restored."""
    await asyncio.to_thread(execute, postgres_url, "CREATE DATABASE closed ALLOW_CONNECTIONS false")
    database = Database(database_of(postgres_url, "closed"))
    try:
        for ask in (database.check_ready, database.check_revision):
            with pytest.raises(DatabaseUnavailable, match="takes no connections at the moment"):
                await ask()
        assert '"closed" is not currently accepting connections' in caplog.text
        await asyncio.to_thread(
            execute, postgres_url, "ALTER DATABASE closed ALLOW_CONNECTIONS true"
        )
        with pytest.raises(SetupError, match="schema revision none"):
            await database.check_revision()
    finally:
        await database.close()
        await asyncio.to_thread(execute, postgres_url, "DROP DATABASE closed WITH (FORCE)")


async def test_files_that_the_server_cannot_read_are_a_database_that_is_away(
    postgres_only: Database,
) -> None:
    raising = "DO $$ BEGIN RAISE 'could not read block 7' USING ERRCODE = 'io_error'; END $$"
    with pytest.raises(DatabaseUnavailable):
        async with postgres_only.read() as connection:
            await connection.execute(text(raising))


async def read_accounts(database: Database) -> None:
    """Without waiting for long."""
    async with database.read() as connection:
        await connection.execute(text("SET LOCAL lock_timeout = 10"))
        await connection.execute(text("SELECT 1 FROM accounts"))


@pytest.mark.parametrize(
    ("lock_timeout", "words"), [("1000", "has locked a table"), ("0", "has stored nothing for 2 s")]
)
async def test_a_table_that_somebody_has_locked_takes_no_scores_and_readers_learn_why(
    postgres_only: Database,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    lock_timeout: str,
    words: str,
) -> None:
    monkeypatch.setitem(PG_SETTINGS, "lock_timeout", lock_timeout)
    await postgres_only.check_ready()
    # Longer ago than a commit speaks for the next one.
    await asyncio.sleep(FRESH_SECONDS)
    other = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    try:
        async with other.transaction():
            # As an index does that is not built concurrently.
            await other.execute("LOCK TABLE accounts IN SHARE MODE")
            with pytest.raises(DatabaseUnavailable, match=words):
                await postgres_only.check_ready()
            await other.execute("LOCK TABLE accounts")
            with pytest.raises(DatabaseUnavailable, match="has locked a table"):
                await read_accounts(postgres_only)
    finally:
        await other.close()
    await postgres_only.check_ready()


async def test_a_text_too_long_for_its_column_is_refused_not_cut(postgres_only: Database) -> None:
    with pytest.raises(asyncpg.StringDataRightTruncationError):
        async with postgres_only.write() as connection:
            await account_store.save_accounts(connection, [Account(TENANT, "a" * 129)])


async def test_a_row_that_was_locked_before_and_erased_since_is_made_anew(
    postgres_only: Database,
) -> None:
    async def lock(connection: Connection) -> dict[str, Account]:
        return await account_store.lock_accounts(connection, TENANT, ["a", "b"])

    await postgres_only.run(lock)
    async with postgres_only.write() as other:
        await other.execute(text("DELETE FROM accounts WHERE account_id = 'a'"))
    with pytest.raises(Raced):
        async with postgres_only.write() as connection:
            await lock(connection)
    await postgres_only.run(lock)
    async with postgres_only.read() as connection:
        assert await account_store.account(connection, TENANT, "a") == Account(TENANT, "a")


async def test_a_row_whose_insert_was_rolled_back_is_not_known(postgres_only: Database) -> None:
    async def lock_and_fail() -> None:
        async with postgres_only.write() as connection:
            await account_store.lock_accounts(connection, TENANT, ["a"])
            raise KeyError("a fault")

    with pytest.raises(KeyError):
        await lock_and_fail()
    async with postgres_only.write() as connection:
        assert await account_store.lock_accounts(connection, TENANT, ["a"]) == {
            "a": Account(TENANT, "a")
        }


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.05])
async def test_a_transaction_that_is_cancelled_leaves_nothing_and_no_transaction(
    postgres_only: Database, seconds: float
) -> None:
    async def write() -> None:
        async with postgres_only.write() as connection:
            await account_store.lock_accounts(connection, TENANT, ["a"])
            await connection.execute(text("SELECT pg_sleep(10)"))

    writing = asyncio.create_task(write())
    await asyncio.sleep(seconds)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert writing.cancelled()
    # On the same connection, if it is still there.
    async with postgres_only.glance() as connection:
        assert await account_store.account(connection, TENANT, "a") is None
    async with postgres_only.glance() as connection:
        raw = await connection.run_sync(lambda sync: sync.connection.driver_connection)
        assert not raw.is_in_transaction()  # type: ignore[union-attr]
    async with asyncio.timeout(5), postgres_only.write() as connection:
        await account_store.lock_accounts(connection, TENANT, ["a"])


ENTITY = ("device", "d")


@pytest.fixture
async def shared(postgres_only: Database) -> Database:
    """A database that has the entity."""
    async with postgres_only.write() as connection:
        await entity_states.take_slots(connection, TENANT, [ENTITY])
    return postgres_only


async def until_waiting(database: Database, number: int) -> None:
    """Until so many transactions wait for a lock."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    found = -1
    while found != number:
        async with database.read() as connection:
            found = (await connection.execute(waiting)).scalar_one()
        await asyncio.sleep(0.01)


async def slots_of(database: Database) -> list[EntityState]:
    async with database.read() as connection:
        return (await entity_states.states_of(connection, TENANT, [ENTITY]))[ENTITY]


async def test_scores_at_once_have_slots_of_their_own_and_labels_wait_for_all(
    shared: Database,
) -> None:
    begun = [asyncio.Event() for _ in range(2)]
    order: list[str] = []

    async def score(name: str, slot: int, until: Awaitable[object] | None = None) -> None:
        async with shared.write() as connection:
            taken = await entity_states.take_slots(connection, TENANT, [ENTITY])
            assert taken[ENTITY].slot == slot
            begun[slot].set()
            if until is not None:
                await until
            await entity_states.save_entities(
                connection, [taken[ENTITY]._replace(state=name.encode())]
            )
            order.append(name)

    async def label() -> None:
        for task in begun:
            await task.wait()
        async with shared.write() as connection:
            locked = await entity_states.lock_entities(connection, TENANT, [ENTITY])
            order.append("label")
            assert [row.state for row in locked[ENTITY]] == [b"first", b"second"]

    async def after(slot: int, score: Awaitable[None]) -> None:
        await begun[slot].wait()
        await score

    async with asyncio.timeout(60):
        # Who comes second finds no other slot, waits, and leaves one more; the third does not.
        waiting = [after(0, score("waited", 0)) for _ in range(2)]
        await asyncio.gather(score("one", 0, until_waiting(shared, 2)), *waiting)
        assert order == ["one", "waited", "waited"]
        assert [(row.slot, row.slots, row.state) for row in await slots_of(shared)] == [
            (0, 2, b"waited"),
            (1, 2, None),
        ]
        order.clear()
        begun[0].clear()
        stored = asyncio.Event()

        async def second() -> None:
            await after(0, score("second", 1, until_waiting(shared, 1)))
            stored.set()

        # Both have a slot when the label comes, and the first keeps its own for longer.
        await asyncio.gather(score("first", 0, stored.wait()), second(), label())
        assert order == ["second", "first", "label"]


async def test_a_lock_that_has_missed_a_slot_is_taken_anew(shared: Database) -> None:
    locked = asyncio.Event()
    seen: list[int] = []

    async def hold() -> None:
        async with shared.write() as connection:
            await entity_states.take_slots(connection, TENANT, [ENTITY])
            locked.set()
            # The score, and behind it the label. Nothing is saved: who waits for a row that is
            # then written goes on to its new version, and loses its turn.
            await until_waiting(shared, 2)

    async def score() -> None:
        await locked.wait()
        async with shared.write() as connection:
            taken = await entity_states.take_slots(connection, TENANT, [ENTITY])
            await entity_states.save_entities(connection, list(taken.values()))

    async def label(connection: Connection) -> None:
        seen.append(0)
        found = await entity_states.lock_entities(connection, TENANT, [ENTITY])
        seen[-1] = len(found[ENTITY])

    async def last() -> None:
        await locked.wait()
        await until_waiting(shared, 1)
        await shared.run(label)

    async with asyncio.timeout(60):
        await asyncio.gather(hold(), score(), last())
    assert seen == [0, 2]


async def test_an_entity_has_no_more_slots_than_it_may(
    shared: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.entities.states.MOST_SLOTS", 2)

    async def score() -> None:
        async with shared.write() as connection:
            taken = await entity_states.take_slots(connection, TENANT, [ENTITY])
            await asyncio.sleep(0.02)
            await entity_states.save_entities(connection, list(taken.values()))

    for _ in range(3):
        await asyncio.gather(*(score() for _ in range(5)))
    assert [row.slot for row in await slots_of(shared)] == [0, 1]


@pytest.mark.parametrize("lock", [entity_states.take_slots, entity_states.lock_entities])
async def test_an_entity_that_was_erased_since_is_made_anew(
    shared: Database,
    lock: Callable[[Connection, str, list[EntityKey]], Awaitable[dict[EntityKey, object]]],
) -> None:
    wanted = [ENTITY, ("device", "e")]
    async with shared.write() as other:
        await other.execute(text("DELETE FROM entities"))
    with pytest.raises(Raced):
        async with shared.write() as connection:
            await lock(connection, TENANT, wanted)
    async with shared.write() as connection:
        assert list(await lock(connection, TENANT, wanted)) == wanted
    assert await slots_of(shared) == [EntityState(TENANT, *ENTITY)]


async def test_states_that_are_replaced_leave_one_slot(shared: Database) -> None:
    rows = [
        EntityState(TENANT, *ENTITY, b"a", b"labels", 0, 2),
        EntityState(TENANT, *ENTITY, b"b", None, 1, 2),
    ]
    async with shared.write() as connection:
        await entity_states.save_entities(connection, rows)
        locked = await entity_states.lock_entities(connection, TENANT, [ENTITY])
        await entity_states.replace_states(connection, TENANT, locked, {ENTITY: b"all"})
    assert await slots_of(shared) == [EntityState(TENANT, *ENTITY, b"all", b"labels")]


# All that an index has of a tenant, read for its keys, comes to some 350.
FEW_PAGES = 60


async def pages_read(database: Database) -> int:
    """Of all tables and their indexes, ever: what this connection did is counted at once."""
    async with database.write() as connection:
        await connection.execute(text("SELECT pg_stat_force_next_flush()"))
    async with database.write() as connection:
        fetched = text(
            "SELECT sum(pg_stat_get_blocks_fetched(oid)) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace"
        )
        return int((await connection.execute(fetched)).scalar_one())


async def pages_of_two(database: Database) -> int:
    """That are read to find two payments, and what is known of them and of an account."""
    before, keys = await pages_read(database), ["t-1", "t-2"]
    async with database.write() as connection:
        assert len(await transaction_store.scored(connection, TENANT, keys)) == 2
        assert len(await label_store.labels_of(connection, TENANT, keys)) == 2
        assert len(await label_store.supports(connection, TENANT, ["a-1"])) == 1
        assert await transaction_store.pasts_of(connection, TENANT, [("a-1", 1)], 32) == [[]]
        assert await review_store.reviews_of(connection, TENANT, keys) == {}
    return await pages_read(database) - before


async def fill(database: Database) -> None:
    """Many payments and labels, all of which nobody but autovacuum has counted."""
    keys = [(f"t-{n}", n, f"a-{n}") for n in range(10_000)]
    async with database.write() as connection:
        await transaction_store.save_scored(connection, [scored_row(*key) for key in keys])
        labels = [label_row(key, at, account_id=account) for key, at, account in keys]
        await label_store.save_labels(connection, labels, [])


async def test_a_new_database_finds_a_payment_by_its_key(postgres_only: Database) -> None:
    await fill(postgres_only)
    assert await pages_of_two(postgres_only) < FEW_PAGES


async def test_a_plan_for_an_empty_table_is_not_kept(
    postgres_only: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.connections.PLAN_SECONDS", 0.5)
    database = Database(database_url)
    try:
        async with database.write() as connection:
            await transaction_store.scored(connection, TENANT, ["t-1", "t-2"])
        await fill(postgres_only)
        async with asyncio.timeout(20):
            while await pages_of_two(database) >= FEW_PAGES:
                await asyncio.sleep(0.1)
    finally:
        await database.close()


async def test_only_readers_have_plans_made_for_what_they_ask(postgres_only: Database) -> None:
    modes = text("SELECT current_setting('plan_cache_mode'), current_setting('enable_seqscan')")
    by_keys = ("force_generic_plan", "off")
    for opened, expected in (
        (postgres_only.write, by_keys),
        (postgres_only.read, ("auto", "on")),
        (postgres_only.glance, by_keys),
    ):
        async with opened() as connection:
            assert (await connection.execute(modes)).one() == expected


async def test_a_role_or_a_database_may_have_another_default_of_isolation(
    postgres_only: Database, database_url: str
) -> None:
    name = database_url.rpartition("/")[2]
    default = f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    await asyncio.to_thread(execute, database_url, default)
    own = Database(database_url)
    async with own.write() as connection:
        shown = await connection.execute(text("SHOW transaction_isolation"))
        assert shown.scalar_one() == "read committed"
    await own.close()

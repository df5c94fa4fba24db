"""What a page of a list reads does not grow with the table, whatever its filters are."""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from itertools import product
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, event, insert, select, text

from app.accounts import store as account_store
from app.accounts.store import Account
from app.audit import store as audit_store
from app.audit.entries import entry
from app.audit.store import EntryFilters
from app.db.connection import Connection
from app.db.database import Database
from app.db.pages import Part
from app.db.schema import (
    accounts,
    audit_log,
    labels,
    links,
    metadata,
    reviews,
    transactions,
)
from app.entities.states import Link
from app.learner.decisions import Level, Outcome
from app.reviews import store as review_store
from app.reviews.records import Review
from app.scoring import store as transaction_store
from app.scoring.store import Filters
from tests.test_migrations import scored

pytestmark = pytest.mark.anyio

TENANT, ROWS, MOST_READ, LIMIT = "t", 20_000, 500, 50
# The keys, and then the rows; of SQLite's instructions, hundreds: it takes some 15 for a row.
MOST, MOST_STEPS = 2 * MOST_READ + 2 * LIMIT, 300
LOW = {"risk_level": "low", "outcome": "approve"}
LABELLED = {
    "transaction_id": "t",
    "account_id": "a",
    "is_fraud": False,
    "occurred_at_us": 1,
    "labelled_at_us": 1,
    "matures_at_us": 1,
}
LABEL_NAMES = {None: "none", True: "fraud", False: "legitimate"}
Statement = tuple[str, Any]
Listing = Callable[[Connection, Any], Awaitable[Part[Any]]]


def copies(table: str, **changed: str) -> str:
    """The statement that fills a table with copies of its only row."""
    names = [column.name for column in metadata.tables[table].columns]
    values = ", ".join(changed.get(name, name) for name in names)
    return f"""WITH RECURSIVE numbers(n) AS (
            SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS})
        INSERT INTO {table} ({", ".join(names)}) SELECT {values} FROM {table} CROSS JOIN numbers"""


@pytest.fixture
async def filled(database: Database) -> Database:
    """Payments of two accounts, all approved at low risk or all declined; accounts with labels."""
    one_of_two = "CASE WHEN n % 2 = 0 THEN 'big' ELSE 'a' END"
    number = "CAST(n AS varchar)"
    async with database.write() as connection:
        for table, row in (
            (transactions, scored("t", "base") | LOW),
            (accounts, Account(TENANT, "a", legitimate_labels=1)._asdict()),
            (reviews, Review(TENANT, "t", "a", 1, 1, 0.5, 60.0, "resolved", 1)._asdict()),
            (audit_log, entry(TENANT, "label.set", "s", account_id="a")._asdict()),
            (labels, LABELLED),
        ):
            await connection.execute(insert(table), row | {"tenant": TENANT})
        for statement in (
            copies(
                "transactions",
                transaction_id=f"'t-' || {number}",
                account_id=one_of_two,
                occurred_at_us="n * 1000",
                risk_level="CASE WHEN n % 2 = 0 THEN 'low' ELSE 'critical' END",
                outcome="CASE WHEN n % 2 = 0 THEN 'approve' ELSE 'decline' END",
            ),
            copies("accounts", account_id=f"'a-' || {number}"),
            copies(
                "reviews",
                transaction_id=f"'t-' || {number}",
                account_id=one_of_two,
                opened_at_us="n",
                risk_score="n / 1000.0",
                assignee="'ann'",
            ),
            copies("audit_log", at_us="n", id=f"'e' || {number}", account_id=one_of_two),
            copies(
                "labels",
                transaction_id=f"'t-' || {number}",
                account_id=one_of_two,
                occurred_at_us="n * 1000",
            ),
        ):
            await connection.execute(text(statement))
        used = [("of both", "a"), ("of both", "big"), *(("of many", f"a-{n}") for n in range(60))]
        await connection.write_rows(links, [Link(TENANT, "device", *pair, 1) for pair in used])
    if not database.is_sqlite:
        async with database.write() as connection:
            await connection.execute(text("ANALYZE"))
    return database


def listings() -> Iterator[tuple[str, Listing]]:
    """Every list by every combination of its filters: where both match nothing, and most rows."""
    outcomes, levels = ((None, *get_args(literal)) for literal in (Outcome, Level))
    for combined in product(
        (None, "big", "a"), (None, 5_000_000), (None, 9_000_000), outcomes, levels
    ):
        filters = Filters(*combined)
        yield (
            f"transactions by {combined}",
            lambda c, after, f=filters: transaction_store.listed(c, TENANT, f, after, LIMIT),
        )
    searched: tuple[dict[str, Any], ...] = (
        {"amount_from": 10.0},
        {"amount_to": 0.0, "outcome": "decline"},
        {"amount_to": 0.0, "outcome": "approve", "account_id": "big"},
        {"label": "fraud"},
        {"label": "legitimate"},
        {"label": "legitimate", "account_id": "big"},
        {"label": "legitimate", "outcome": "decline"},
        {"label": "legitimate", "risk_level": "medium", "account_id": "a"},
        {"label": "none"},
        {"label": "none", "risk_level": "critical"},
        {"entity": ("device", "of both")},
        {"entity": ("device", "of both"), "label": "legitimate"},
        {"entity": ("device", "of both"), "outcome": "decline", "occurred_from_us": 9_000_000},
        {"entity": ("device", "of both"), "occurred_to_us": 5_000_000},
        {"entity": ("device", "of many")},
        {"entity": ("device", "of many"), "amount_from": 1.0, "label": "none"},
        {"entity": ("merchant", "of nobody")},
    )
    for wanted in searched:
        yield (
            f"transactions by {wanted}",
            lambda c, after, by=wanted: transaction_store.listed(
                c, TENANT, Filters(**by), after, LIMIT
            ),
        )
    for labelled in (None, True, False):
        yield (
            f"accounts by {labelled}",
            lambda c, after, by=labelled: account_store.listed_accounts(
                c, TENANT, by, after, LIMIT
            ),
        )
    for who in product((None, "big", "nobody"), (None, "ann", "nobody"), (True, False)):
        yield (
            f"reviews by {who}",
            lambda c, after, w=who: review_store.listed_reviews(
                c, TENANT, "review", "resolved", *w[:2], None, None, w[2], after, LIMIT
            ),
        )
    for logged in product(
        (None, "s", "nothing"),
        (None, "big", "nobody"),
        (None, "command line", "nobody"),
        (None, "label.set", "key.created"),
    ):
        yield (
            f"entries by {logged}",
            lambda c, after, by=logged: audit_store.listed_entries(
                c, TENANT, EntryFilters(*by), after, LIMIT
            ),
        )


@contextmanager
def traced(raw: Any) -> Iterator[list[Statement]]:
    """What SQLite executes meanwhile, whoever asks it."""
    statements: list[Statement] = []
    raw.set_trace_callback(lambda statement: statements.append((statement, ())))
    try:
        yield statements
    finally:
        raw.set_trace_callback(None)


@contextmanager
def noted(engine: Engine) -> Iterator[list[Statement]]:
    """What is executed meanwhile by SQLAlchemy."""
    statements: list[Statement] = []

    def note(_: object, __: object, statement: str, parameters: Any, *___: object) -> None:
        statements.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


async def rows_read(connection: Connection, statement: str, parameters: Any) -> int:
    """How many rows PostgreSQL takes from tables and indexes for a statement."""
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    found = await connection.run_sync(
        lambda sync: sync.exec_driver_sql(explain, parameters).scalar_one()
    )
    [plan] = found if isinstance(found, list) else json.loads(found)

    def of(node: dict[str, Any]) -> int:
        own = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        below = sum(of(plan) for plan in node.get("Plans", ()))
        return max(int(own), below) if "Plans" in node else int(own)

    return of(plan["Plan"])


def steps(path: str, statement: str, parameters: Any) -> int:
    """How many hundreds of its instructions SQLite executes for a statement."""
    taken = 0

    def count() -> int:
        nonlocal taken
        taken += 1
        return 0

    with closing(sqlite3.connect(path)) as connection:
        connection.set_progress_handler(count, 100)
        connection.execute(statement, parameters).fetchall()
    return taken


async def test_a_page_reads_few_rows_whatever_its_filters_are_and_wherever_it_begins(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.db.pages.MOST_READ", MOST_READ)
    async with filled.read() as connection:
        engine = await connection.run_sync(lambda sync: sync.engine)
        raw = await connection.run_sync(lambda sync: sync.connection.driver_connection)
        for name, listing in listings():
            after: Any = None
            for _ in range(3):
                with traced(raw) if filled.is_sqlite else noted(engine) as statements:
                    part = await listing(connection, after)
                for statement, parameters in statements:
                    if filled.is_sqlite:
                        path = str(filled.url.database)
                        assert steps(path, statement, parameters) <= MOST_STEPS, (name, statement)
                    else:
                        assert await rows_read(connection, statement, parameters) <= MOST, name
                after = part.until
                if after is None:
                    break


async def paged(connection: Connection, filters: Filters) -> list[str]:
    """The ids of all payments that are found, two a page."""
    found: list[str] = []
    after, limit = None, 2
    while True:
        part = await transaction_store.listed(connection, TENANT, filters, after, limit)
        found += [row.transaction_id for row in part.rows]
        if len(part.rows) == limit:
            last = part.rows[-1]
            after = (last.occurred_at_us, last.transaction_id)
        elif part.until is None:
            return found
        else:
            after = part.until


@pytest.mark.parametrize("most_read", [1, 3, 7])
async def test_pages_that_read_a_part_each_have_the_same_rows_as_one_that_reads_all(
    database: Database, monkeypatch: pytest.MonkeyPatch, most_read: int
) -> None:
    levels = [
        ("approve", "low"),
        ("approve", "medium"),
        ("review", "high"),
        ("decline", "critical"),
    ]
    rows = []
    for n in range(40):
        outcome, level = levels[n * n % 4 if n % 3 else n % 4]
        row = scored(f"t-{n:02}", "base") | {"outcome": outcome, "risk_level": level}
        rows.append(row | {"occurred_at_us": n // 2, "account_id": f"a-{n % 2}"})
    async with database.write() as connection:
        await connection.execute(insert(transactions), rows)
    monkeypatch.setattr("app.db.pages.MOST_READ", most_read)
    async with database.read() as connection:
        for account, outcome, level in product(
            (None, "a-0", "a-1"), (None, *get_args(Outcome)), (None, *get_args(Level))
        ):
            filters = Filters(account, None, 18, outcome, level)
            expected = [
                row["transaction_id"]
                for row in sorted(rows, key=lambda row: row["transaction_id"], reverse=True)
                if account in (None, row["account_id"])
                and outcome in (None, row["outcome"])
                and level in (None, row["risk_level"])
                and row["occurred_at_us"] < 18
            ]
            assert await paged(connection, filters) == expected, filters


@pytest.mark.parametrize("most_read", [2, 7])
async def test_payments_are_found_by_what_no_index_has_and_none_is_left_out(
    database: Database, monkeypatch: pytest.MonkeyPatch, most_read: int
) -> None:
    rows, labelled, used = [], {}, set()
    for n in range(36):
        # Many of one time, whose ids a database's own order tells apart.
        name, account = f"{'tT'[n % 2]}-{n:02}", f"a-{n % 5}"
        device, amount = "d" if n % 3 else "other", n % 7 + 0.5
        fields = {"amount": f"{amount}", "device_id": device, "entities": {"phone": f"p-{n % 4}"}}
        row = scored(name, "base") | {"account_id": account, "occurred_at_us": n // 8}
        rows.append(row | {"content": json.dumps(fields)})
        # Of phones nobody's use is noted, as of kinds that no model knows.
        used.add(("device", device, account))
        if n % 4:
            labelled[name] = n % 4 == 1
    payments = {row["transaction_id"]: json.loads(row["content"]) for row in rows}
    async with database.write() as connection:
        await connection.execute(insert(transactions), rows)
        names = ("transaction_id", "account_id", "occurred_at_us")
        await connection.execute(
            insert(labels),
            [
                LABELLED
                | {"tenant": TENANT, "is_fraud": labelled[row["transaction_id"]]}
                | {name: row[name] for name in names}
                for row in rows
                if row["transaction_id"] in labelled
            ],
        )
        await connection.write_rows(links, [Link(TENANT, *link, 1) for link in sorted(used)])
        order = [transactions.c.occurred_at_us.desc(), transactions.c.transaction_id.desc()]
        by_key = select(transactions.c.transaction_id, transactions.c.account_id).order_by(*order)
        newest = list(await connection.execute(by_key))
    monkeypatch.setattr("app.db.pages.MOST_READ", most_read)
    async with database.read() as connection:
        for account, entity, amounts, label in product(
            (None, "a-1"),
            (None, ("device", "d"), ("phone", "p-2"), ("device", "none")),
            ((None, None), (2.5, 4.5)),
            (None, "fraud", "legitimate", "none"),
        ):
            filters = Filters(account, entity=entity, label=label)
            filters = filters._replace(amount_from=amounts[0], amount_to=amounts[1])
            field = None if entity is None else entity[0]
            expected = [
                name
                for name, owner in newest
                for payment in [payments[name]]
                if account in (None, owner)
                and (field != "device" or payment["device_id"] == entity[1])
                and (field != "phone" or payment["entities"]["phone"] == entity[1])
                and (amounts[0] or 0.0) <= float(payment["amount"]) <= (amounts[1] or 1e9)
                and label in (None, LABEL_NAMES[labelled.get(name)])
            ]
            assert await paged(connection, filters) == expected, filters

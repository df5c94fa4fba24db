"""SQLite databases filled in bulk: copies of a service's own accounts and transactions.

Copy 12 of account `a` is called `a-0000012`. Nothing is durable until a database is filled.
"""

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Table

from app.db.schema import accounts, transactions
from app.learner.transaction import DAY_US

# Of each account, how many of its transactions are copied, and how far before.
NEWEST, APART_US = 10, 30 * DAY_US
# Of five parts, how many come when there are indexes already: the pages of an index that was made
# at once have no room, and the first entry that comes to each would split it.
YOUNG = 2
# 1 GB, in KiB, of pages and of what is sorted.
CACHE_KIB = 1 << 20


class Filled(NamedTuple):
    """How many there are now, and how many bytes each takes on disk, indexes and all."""

    accounts: int
    account_bytes: int
    transactions: int
    transaction_bytes: int


def copy_of(account_id: str, copy: int) -> str:
    return f"{account_id}-{copy:07}"


def fill(path: Path, copies: int, times: int = 0, only: str | None = None) -> Filled:
    """Put so many copies of each account, or of one only, in its place, without labels.

    Of each copy, the newest transactions so many `times`; no other transaction is left.
    """
    with filling(path) as database:
        # In the order of the primary keys, so that their indexes only ever grow at the end.
        database.execute(
            """CREATE TEMP TABLE own_accounts AS SELECT * FROM accounts
            WHERE :only IS NULL OR account_id = :only ORDER BY account_id""",
            {"only": only},
        )
        database.execute(
            """CREATE TEMP TABLE own_transactions AS SELECT * FROM (
                SELECT *, ROW_NUMBER() OVER (
                    PARTITION BY account_id ORDER BY occurred_at_us DESC) AS place
                FROM transactions)
            WHERE place <= :newest ORDER BY transaction_id""",
            {"newest": NEWEST},
        )
        database.execute("DELETE FROM accounts")
        database.execute("DELETE FROM transactions")
        new_id = "account_id || printf('-%07d', copy)"
        unlabelled = {
            "account_id": new_id,
            "revision": "0",
            "fraud_labels": "0",
            "legitimate_labels": "0",
        }
        per_account = copied(database, accounts, unlabelled, copies, 1)
        moved = {
            "transaction_id": "transaction_id || printf('-%07d-%03d', copy, time)",
            "account_id": new_id,
            "occurred_at_us": f"occurred_at_us - time * {APART_US}",
        }
        per_transaction = copied(database, transactions, moved, copies, times)
    return Filled(*per_account, *per_transaction)


def copied(
    database: sqlite3.Connection,
    table: Table,
    changed: Mapping[str, str],
    copies: int,
    times: int,
) -> tuple[int, int]:
    """Fill an empty table from what was its own; gives its rows, and the bytes of each."""
    if not times:
        return 0, 0
    names = [column.name for column in table.columns]
    values = ", ".join(changed.get(name, name) for name in names)
    before, indexes = used(database), definitions(database, table)

    def fill_up(first: int, last: int) -> None:
        database.execute(
            f"""WITH RECURSIVE
            copies(copy) AS (
                SELECT 0 UNION ALL SELECT copy + 1 FROM copies WHERE copy + 1 < :copies),
            times(time) AS (
                SELECT :first UNION ALL SELECT time + 1 FROM times WHERE time + 1 < :last)
            INSERT INTO {table.name} ({", ".join(names)})
            SELECT {values} FROM own_{table.name} CROSS JOIN copies CROSS JOIN times""",
            {"copies": copies, "first": first, "last": last},
        )

    for name, _ in indexes:
        database.execute(f"DROP INDEX {name}")
    # The oldest first, as a table grows.
    young = times * YOUNG // 5
    if young < times:
        fill_up(young, times)
    for _, definition in indexes:
        database.execute(definition)
    if young:
        fill_up(0, young)
    (rows,) = database.execute(f"SELECT count(*) FROM {table.name}").fetchone()
    return rows, round((used(database) - before) / rows)


def definitions(database: sqlite3.Connection, table: Table) -> list[tuple[str, str]]:
    """The names and statements of the indexes beside the primary key's."""
    query = (
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql <> '' AND tbl_name = ?"
    )
    return database.execute(query, (table.name,)).fetchall()


@contextmanager
def filling(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=OFF")
        database.execute("PRAGMA synchronous=OFF")
        database.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        yield database
        database.execute("PRAGMA journal_mode=WAL")
    # Otherwise the first checkpoints of the service would wait for all of it.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def used(database: sqlite3.Connection) -> int:
    """Bytes of pages that hold something."""
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size

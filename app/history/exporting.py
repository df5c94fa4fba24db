"""A tenant's transactions and labels as a file that `quickstudy train` takes, with its spec.

Names are those of the API, so that one spec serves every export. What was scored before is
trained on as it was posted; labels have the delay that they really had.
"""

from collections.abc import AsyncIterator, Sequence
from math import isnan
from pathlib import Path
from typing import Any

import polars as pl

from app.db.database import Database
from app.db.patience import Patience
from app.errors import SetupError
from app.labels import store as label_store
from app.labels.records import StoredLabel
from app.learner.spec import Columns, DatasetSpec, LabelDelay, toml_of
from app.learner.transaction import (
    DAY_US,
    ENTITY_FIELDS,
    LONGEST_DELAY_DAYS,
    MOST_ITEMS,
    STANDARD_FIELDS,
    Transaction,
    attribute_number,
    category_text,
    transaction_of,
)
from app.scoring import store as transaction_store
from app.scoring.records import Scored
from app.times import text_of

LABEL, DELAY = "is_fraud", "label_delay_days"
# What every export has; kinds of entities that have no field of their own come by the spec.
TEXTS = (
    *("transaction_id", "account_id", "occurred_at", "amount", "currency", "type", "status"),
    *ENTITY_FIELDS.values(),
)


def export_spec(trained: DatasetSpec, name: str) -> DatasetSpec:
    """The spec of an export, with the features of the model that the service has been using."""
    return DatasetSpec(
        name=name,
        columns=Columns(
            transaction="transaction_id",
            account="account_id",
            time="occurred_at",
            amount="amount",
            currency="currency",
            type="type",
            status="status",
            label=LABEL,
        ),
        label=LabelDelay(delay_days=trained.label.delay_days, delay_column=DELAY),
        entities={kind: ENTITY_FIELDS.get(kind, f"entities.{kind}") for kind in trained.entities},
        categorical={name: _column(name) for name in trained.categorical},
        numeric={name: _column(name) for name in trained.numeric},
    )


def _column(name: str) -> str:
    """The column of a field: callers may call an attribute what the file calls something else."""
    is_taken = name in (*TEXTS, LABEL, DELAY) and name not in STANDARD_FIELDS
    return f"attributes.{name}" if is_taken else name


async def export(
    database: Database, tenant: str, spec: DatasetSpec, path: Path, patience: Patience
) -> int:
    """Write the transactions of a tenant as Parquet, and the spec beside them; returns how many.

    In the order of time. Raises SetupError where there are none, or the database stays away.
    """
    frames = [
        pl.DataFrame(_columns(rows, labels, spec), schema=_schema(spec))
        async for rows, labels in _pages(database, tenant, patience)
    ]
    if not frames:
        raise SetupError(f"tenant {tenant} has no transactions to export")
    written = pl.concat(frames).sort("occurred_at", "transaction_id")
    written.write_parquet(path)
    path.with_suffix(".toml").write_text(toml_of(spec), "utf-8")
    return len(written)


async def _pages(
    database: Database, tenant: str, patience: Patience
) -> AsyncIterator[tuple[Sequence[Scored], dict[str, StoredLabel]]]:
    """All transactions with their labels; a page a read, so that no writer waits for the end."""
    everything = transaction_store.Filters()
    after = None

    async def read() -> tuple[Sequence[Scored], dict[str, StoredLabel]]:
        async with database.read() as connection:
            rows = (
                await transaction_store.listed(connection, tenant, everything, after, MOST_ITEMS)
            ).rows
            ids = [row.transaction_id for row in rows]
            return rows, (await label_store.labels_of(connection, tenant, ids) if ids else {})

    while True:
        rows, labels = await patience.run(read)
        if not rows:
            return
        yield rows, labels
        after = (rows[-1].occurred_at_us, rows[-1].transaction_id)


def _schema(spec: DatasetSpec) -> dict[str, Any]:
    named = [*TEXTS, *spec.entities.values(), *spec.categorical.values()]
    kinds: dict[str, Any] = dict.fromkeys(named, pl.String)
    kinds |= dict.fromkeys(spec.numeric.values(), pl.Float64)
    return {**kinds, LABEL: pl.Boolean, DELAY: pl.Float64}


def _columns(
    rows: Sequence[Scored], labels: dict[str, StoredLabel], spec: DatasetSpec
) -> dict[str, list[Any]]:
    transactions = [transaction_of(row.content) for row in rows]
    label_of_row = [labels.get(row.transaction_id) for row in rows]
    found: dict[str, list[Any]] = {
        "transaction_id": [transaction.transaction_id for transaction in transactions],
        "account_id": [transaction.account_id for transaction in transactions],
        "occurred_at": [text_of(transaction.occurred_at_us) for transaction in transactions],
        "amount": [str(transaction.amount) for transaction in transactions],
        "currency": [transaction.currency for transaction in transactions],
        "type": [transaction.type for transaction in transactions],
        # In a file nothing else decides how a payment counts.
        "status": [row.counted_as for row in rows],
    }
    for kind, column in (ENTITY_FIELDS | spec.entities).items():
        found[column] = [transaction.entity(kind) for transaction in transactions]
    for name, column in spec.categorical.items():
        found[column] = [_text(transaction, name) for transaction in transactions]
    for name, column in spec.numeric.items():
        numbers = [
            attribute_number(transaction.attributes.get(name)) for transaction in transactions
        ]
        found[column] = [None if isnan(number) else number for number in numbers]
    found[LABEL] = [None if label is None else label.is_fraud for label in label_of_row]
    found[DELAY] = [
        None if label is None else _days(label.labelled_at_us - label.occurred_at_us)
        for label in label_of_row
    ]
    return found


def _text(transaction: Transaction, name: str) -> str | None:
    """A category as it was spelled when it was hashed, so that it gives the same code again."""
    if name in STANDARD_FIELDS:
        text: str | None = getattr(transaction, name)
        return text
    value = transaction.attributes.get(name)
    return None if value is None else category_text(value)


def _days(delay_us: int) -> float:
    return min(max(delay_us / DAY_US, 0.0), float(LONGEST_DELAY_DAYS))

"""A tenant's transactions and labels as a file that `quickstudy train` takes, with its spec.

Names are those of the API, so that one spec serves every export. What was scored before is
trained on as it was posted; labels are told with the delay that they really had.
"""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from app import store
from app.content import transaction_of
from app.database import Database
from app.errors import SetupError
from app.rows import Scored, StoredLabel
from app.times import text_of
from app.transactions import DAY_US, MOST_ITEMS, STANDARD_FIELDS, Columns, DatasetSpec, LabelDelay

LABEL, DELAY = "is_fraud", "label_delay_days"


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
            merchant="merchant_id" if trained.columns.merchant else None,
            label=LABEL,
        ),
        label=LabelDelay(
            delay_days=trained.label.delay_days,
            delay_column=DELAY if trained.label.delay_column else None,
        ),
        categorical={one: one for one in trained.categorical},
        numeric={one: one for one in trained.numeric},
    )


async def export(database: Database, tenant: str, spec: DatasetSpec, path: Path) -> int:
    """Write the transactions of a tenant as Parquet, and the spec beside them; returns how many.

    In the order of time. Raises SetupError where there are none.
    """
    frames = [
        pl.DataFrame(_columns(rows, labels, spec), schema=_schema(spec))
        async for rows, labels in _pages(database, tenant)
    ]
    if not frames:
        raise SetupError(f"tenant {tenant} has no transactions to export")
    written = pl.concat(frames).sort("occurred_at", "transaction_id")
    written.write_parquet(path)
    path.with_suffix(".toml").write_text(toml_of(spec))
    return len(written)


async def _pages(
    database: Database, tenant: str
) -> AsyncIterator[tuple[Sequence[Scored], dict[str, StoredLabel]]]:
    """All transactions with their labels; a page a read, so that no writer waits for the end."""
    nothing = store.Filters(None, None, None, None, None)
    after = None
    while True:
        async with database.read() as connection:
            rows = await store.listed(connection, tenant, nothing, after, MOST_ITEMS)
            ids = [row.transaction_id for row in rows]
            labels = await store.labels_of(connection, tenant, ids) if ids else {}
        if not rows:
            return
        yield rows, labels
        after = (rows[-1].occurred_at_us, rows[-1].transaction_id)


def _schema(spec: DatasetSpec) -> dict[str, Any]:
    texts = ["transaction_id", "account_id", "occurred_at", "amount", "currency", "merchant_id"]
    kinds: dict[str, Any] = dict.fromkeys([*texts, *spec.categorical], pl.String)
    kinds |= dict.fromkeys(spec.numeric, pl.Float64)
    return {**kinds, LABEL: pl.Boolean, DELAY: pl.Float64}


def _columns(
    rows: Sequence[Scored], labels: dict[str, StoredLabel], spec: DatasetSpec
) -> dict[str, list[Any]]:
    transactions = [transaction_of(row.content) for row in rows]
    told = [labels.get(row.transaction_id) for row in rows]
    found: dict[str, list[Any]] = {
        "transaction_id": [one.transaction_id for one in transactions],
        "account_id": [one.account_id for one in transactions],
        "occurred_at": [text_of(one.occurred_at_us) for one in transactions],
        "amount": [str(one.amount) for one in transactions],
        "currency": [one.currency for one in transactions],
        "merchant_id": [one.merchant_id for one in transactions],
    }
    for name in spec.categorical:
        if name in STANDARD_FIELDS:
            found[name] = [getattr(one, name) for one in transactions]
        else:
            values = [one.attributes.get(name) for one in transactions]
            found[name] = [None if value is None else str(value) for value in values]
    for name in spec.numeric:
        values = [one.attributes.get(name) for one in transactions]
        found[name] = [float(v) if isinstance(v, int | float) else None for v in values]
    found[LABEL] = [None if one is None else one.is_fraud for one in told]
    found[DELAY] = [
        None if one is None else max(one.labelled_at_us - one.occurred_at_us, 0) / DAY_US
        for one in told
    ]
    return found


def toml_of(spec: DatasetSpec) -> str:
    """A spec as the TOML that `DatasetSpec.load` reads."""
    told = spec.model_dump(exclude_none=True, exclude_defaults=True)
    lines = [f"name = {json.dumps(told.pop('name'))}"]
    for section, values in told.items():
        lines += ["", f"[{section}]"]
        lines += [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"

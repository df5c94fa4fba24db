"""Write the payments of the demonstration, as `python -m app.demo.generate`: needs `[train]`.

They are kept in a file, since the service itself has no simulator: a line for each payment, as the
API takes it, with the seconds that it lies before the end, and what it was once that is known.
"""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from app.demo.loading import FILE
from app.simulator.simulate import simulate

ACCOUNTS, DAYS, SEED = 70, 35, 1
END = datetime(2026, 1, 1, tzinfo=UTC)
# By their names in the file of the simulator; all other fields have those of the API.
NAMES = {"card": "card_fingerprint"}
ATTRIBUTES = ("distance_from_home_km", "device_age_days")
UNUSED = {"fraud_kind", "is_fraud", "label_delay_days", "occurred_at"}


def lines() -> str:
    """The file's text."""
    frame = simulate(ACCOUNTS, DAYS, SEED, END - timedelta(days=DAYS))
    rows = [_line(row) for row in frame.iter_rows(named=True) if row["occurred_at"] < END]
    return "".join(f"{json.dumps(row, separators=(',', ':'))}\n" for row in rows)


def _line(row: dict[str, Any]) -> dict[str, Any]:
    fields = {
        NAMES.get(name, name): value
        for name, value in row.items()
        if value is not None and name not in UNUSED and name not in ATTRIBUTES
    }
    attributes = {name: row[name] for name in ATTRIBUTES if row[name] is not None}
    found: dict[str, Any] = {"before": int((END - row["occurred_at"]).total_seconds())}
    if row["is_fraud"] is not None:
        found |= {"fraud": row["is_fraud"], "days": round(row["label_delay_days"], 3)}
    return {**found, "payment": {**fields, "attributes": attributes} if attributes else fields}


if __name__ == "__main__":
    # Without a time in its head: the same payments are the same bytes.
    FILE.write_bytes(gzip.compress(lines().encode(), 9, mtime=0))

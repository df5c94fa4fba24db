"""Simulated payments as request bodies: what is imported first, what is labelled, what is asked."""

from typing import Any, NamedTuple

from app.training.simulator.simulate import simulate

# Of the file's time, what happened before the load begins.
PAST_SHARE = 0.3
LABELS_AN_ACCOUNT = 8


class Traffic(NamedTuple):
    """Payments before the load, labels of some of them, and the payments of the load in order."""

    past: list[dict[str, Any]]
    labels: list[dict[str, str]]
    asked: list[dict[str, Any]]


def traffic(accounts: int, days: int, seed: int = 0) -> Traffic:
    """Payments of so many accounts over so many days, everyone with a few labels."""
    frame = simulate(accounts, days, seed)
    payments, labels, counts = [], [], dict[str, int]()
    past = int(len(frame) * PAST_SHARE)
    for n, row in enumerate(frame.iter_rows(named=True)):
        payments.append(body(row))
        if n < past and counts.setdefault(row["account_id"], 0) < LABELS_AN_ACCOUNT:
            counts[row["account_id"]] += 1
            name = "fraud" if row["is_fraud"] else "legitimate"
            labels.append({"transaction_id": row["transaction_id"], "label": name})
    return Traffic(payments[:past], labels, payments[past:])


def body(row: dict[str, Any]) -> dict[str, Any]:
    """A payment as the API takes it."""
    occurred_at = row["occurred_at"].isoformat()
    return {
        "transaction_id": row["transaction_id"],
        "account_id": row["account_id"],
        "occurred_at": occurred_at if "+" in occurred_at else f"{occurred_at}Z",
        "amount": f"{row['amount']:.2f}",
        "currency": row["currency"],
        "merchant_id": row["merchant_id"],
        "merchant_category": row["merchant_category"],
        "channel": row["channel"],
        "country": row["country"],
        "attributes": {
            name: row[name]
            for name in ("device_age_days", "distance_from_home_km")
            if row[name] is not None
        },
    }

"""What the tests post."""

from typing import Any

import httpx

NOON = "2026-01-31T12:00:00Z"


def posted(transaction_id: str = "t-1", **changes: Any) -> dict[str, Any]:
    """The body of a transaction."""
    return {
        "transaction_id": transaction_id,
        "account_id": "alice",
        "occurred_at": NOON,
        "amount": 412.0,
        "currency": "EUR",
        "merchant_id": "gadgets",
        "merchant_category": "electronics",
        "channel": "online",
        "country": "DE",
        "attributes": {"device_age_days": 3},
        **changes,
    }


def label(transaction_id: str, name: str = "fraud") -> dict[str, Any]:
    return {"transaction_id": transaction_id, "label": name}


def problem_of(answer: httpx.Response) -> tuple[int, str]:
    """Status and code, having checked that it is a whole problem document."""
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == answer.status_code
    assert document["type"] == f"urn:quickstudy:problem:{document['code']}"
    assert document["title"]
    assert document["detail"]
    return answer.status_code, document["code"]

"""What the tests post."""

from typing import Any

import httpx
from fastapi import FastAPI

NOON = "2026-01-31T12:00:00Z"


def client_of(app: FastAPI, key: str) -> httpx.AsyncClient:
    # A 500 is an answer like any other: tests look at what a caller would see.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers)


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

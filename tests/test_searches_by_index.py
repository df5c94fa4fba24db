"""On SQLite no statement of a payment or a label reads all that a tenant has."""

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.pool import Pool

from app.db.schema import metadata
from app.settings import Settings
from tests.api.callers import calling
from tests.api.requests import posted
from tests.servers import made_key

pytestmark = pytest.mark.anyio

# A row of these for each payment, account, entity or label.
LARGE = {
    *("accounts", "audit_log", "entities", "label_entities", "label_events", "labels", "links"),
    *("reviews", "transactions"),
}
TENANT_ALONE = re.compile(r"\(tenant=\?( AND tenant=\?)*\)$")

LABEL = {"transaction_id": "t-0", "label": "fraud"}
PREVIEW = {"labels": [LABEL], "dry_run": True}


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """What is executed on SQLite, with its values."""
    found: list[str] = []

    def trace(raw: Any, _: object) -> None:
        if isinstance(raw, sqlite3.Connection):
            raw.set_trace_callback(found.append)

    event.listen(Pool, "connect", trace)
    yield found
    event.remove(Pool, "connect", trace)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_payments_and_labels_are_found_by_an_index(
    database_url: str, checkpoint: Any, statements: list[str]
) -> None:
    key = await made_key(database_url)
    async with calling(Settings(database_url=database_url, model=checkpoint), key) as client:
        await client.post("/v1/thresholds", json={"review": 1e-8, "decline": 0.999})
        del statements[:]
        for n in range(4):
            body = posted(f"t-{n}", account_id="a", device_id="d", amount=10 + n)
            assert (await client.post("/v1/transactions", json=body)).is_success
        for method, path, body in (
            ("POST", "accounts/a/adapt", PREVIEW),
            ("PUT", "transactions/t-0/label", {"label": "fraud"}),
            ("PUT", "transactions/t-1/label", {"label": "legitimate"}),
            ("DELETE", "transactions/t-0/label", None),
            ("POST", "accounts/a/rollback", {"revision": 1}),
            ("PUT", "transactions/t-2/status", {"status": "refunded"}),
            ("POST", "transactions/t-1/replay", None),
            ("GET", "transactions/t-1/reasons", None),
            ("POST", "accounts/a/labels", {"labels": [LABEL]}),
            ("POST", "labels", {"labels": [LABEL]}),
            ("PUT", "reviews/t-3/assignee", {"assignee": "ann"}),
            ("GET", "reviews/t-3", None),
            ("GET", "accounts/a", None),
            ("GET", "accounts/a/links", None),
            ("GET", "accounts/a/revisions", None),
            ("GET", "accounts/a/influence", None),
            ("GET", "accounts/a/ask-next", None),
            ("GET", "entities/device/d", None),
        ):
            answer = await client.request(method, f"/v1/{path}", json=body)
            assert answer.is_success, answer.text
    with sqlite3.connect(database_url.partition("///")[2]) as connection:
        found = {
            (table, text)
            for text in dict.fromkeys(statements)
            if text.lstrip().startswith(("SELECT", "WITH", "UPDATE", "DELETE"))
            for table in walked(connection, text)
        }
    assert len(statements) > 50
    assert found == set()
    assert metadata.tables.keys() >= LARGE


def walked(connection: sqlite3.Connection, text: str) -> list[str]:
    """The large tables of which a statement reads all rows of a tenant, or all there are."""
    found = []
    for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {text}"):
        how = re.match(r"(SCAN|SEARCH) (\w+)(.*)", detail)
        if how and how[2] in LARGE and (how[1] == "SCAN" or TENANT_ALONE.search(how[3])):
            found.append(f"{how[2]}: {detail}")
    return found

"""Hostile input is refused as a problem with a code, and leaves nothing behind.

Every hostile value goes into every place; after each refusal the whole database is as it was.
"""

import gzip
import json
import re
import socket
import unicodedata
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.db.database import Database
from app.db.schema import accounts, entities, transactions
from app.http.keyed import KeyedRoute
from app.http.lean import ScoringRoute
from app.learner.states import States
from app.main import ROUTES
from app.scoring import store as transaction_store
from app.scoring.pipeline import Pipeline
from app.settings import Settings
from tests.api.callers import calling, of_another_tenant, openapi_document, part_of
from tests.api.contract import RUNS, tried
from tests.api.requests import posted, problem_of
from tests.conftest import IS_TORTURE, mainly
from tests.reliability.conftest import Note
from tests.reliability.hostile import (
    ADDRESSED,
    BODIES,
    LABEL,
    MARK,
    NUMBER,
    VALUES,
    ids,
)
from tests.reliability.stored import contents, kept_checkpoints, numbers_of
from tests.servers import made_key, server_process

JSON = {"Content-Type": "application/json"}
# The short form takes every so many-th of the values in a place, each place others.
SPARSE = 40
PROBABLE = [f"a-{n}" for n in range(3)]
_numbers = count()


@pytest.fixture
async def client(service_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A caller of the real application, who may do everything, with three transactions."""
    settings = service_settings.model_copy(update={"webhooks_private": True})
    async with calling(settings) as client:
        await score(client, *(posted(f"t-{n}") for n in range(3)))
        kept = await kept_checkpoints(part_of(client, Database))
        yield client
        assert kept == await kept_checkpoints(part_of(client, Database))


async def score(client: httpx.AsyncClient, *bodies: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores of transactions that are good."""
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert all("probability" in result for result in results), results
    return results


class Watch:
    """Sends requests, and sees to it that a refused one has changed nothing."""

    def __init__(self, client: httpx.AsyncClient, database: Database) -> None:
        self.client, self.database = client, database
        self.accepted = self.refused = 0

    async def __aenter__(self) -> "Watch":
        self.contents = await contents(self.database)
        return self

    async def __aexit__(self, *_: object) -> None:
        """And the next good request works."""
        await score(self.client, posted(f"after-{next(_numbers)}"))

    async def send(self, method: str, address: str, **options: Any) -> None:
        answer = await self.client.request(method, address, **options)
        exchange = (
            method,
            address,
            options.get("content", b"")[:500],
            answer.status_code,
            answer.text,
        )
        now = await contents(self.database)
        if answer.is_success and _refuses_an_item(answer):
            # Its neighbours may be stored.
            self.refused += 1
        elif answer.is_success:
            self.accepted += 1
        else:
            status, _ = problem_of(answer)
            assert 400 <= status < 500, exchange
            assert now == self.contents, exchange
            self.refused += 1
        self.contents = now


def _refuses_an_item(answer: httpx.Response) -> bool:
    """Whether an item of a batch is refused, as it would be alone, by a code of its own."""
    results = answer.json().get("results", []) if answer.content else []
    errors = [result["error"] for result in results if "error" in result]
    assert all(error["code"] for error in errors)
    return bool(errors)


def bodies_of(marked: bytes, values: list[bytes]) -> Iterator[bytes]:
    """A body with each of these values in its place."""
    for value in values:
        number = next(_numbers)
        label = "fraud" if number % 2 else "legitimate"
        body = marked.replace(NUMBER.encode(), b"%d" % number).replace(
            LABEL.encode(), label.encode()
        )
        yield body.replace(json.dumps(MARK).encode(), value)


@pytest.mark.anyio
async def test_a_hostile_value_in_any_place_of_any_body_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, database: Database, torture: bool, noted: Note
) -> None:
    step = 1 if torture else SPARSE
    places = [(operation, marked) for operation in BODIES for marked in BODIES[operation]]
    accepted = refused = 0
    for number, ((method, path), marked) in enumerate(places):
        async with Watch(client, database) as watch:
            for body in bodies_of(marked, [*VALUES.values()][number % step :: step]):
                await watch.send(method, path, content=body, headers=JSON)
        accepted, refused = accepted + watch.accepted, refused + watch.refused
    assert refused > 4 * accepted > 0
    noted(
        "A hostile value in a body is a 4xx with a code, and changes nothing",
        database.url.get_backend_name(),
        f"{len(VALUES)} values in {len(places)} places: {refused:,} refused, {accepted:,} not",
    )


@pytest.mark.anyio
async def test_a_request_that_is_refused_in_the_midst_of_its_work_leaves_nothing(
    client: httpx.AsyncClient, database: Database
) -> None:
    await score(client, posted("bob-1", account_id="bob"))
    new = {"transaction": posted("new"), "label": "fraud"}
    taken = {"transaction": posted("t-1", amount=7), "label": "fraud"}
    unknown, strange = ({"transaction_id": id_, "label": "fraud"} for id_ in ("nowhere", "bob-1"))
    async with Watch(client, database) as watch:
        for bad in (taken, unknown, strange):
            for labels in ([new, bad], [bad, new], [{**unknown, "transaction_id": "t-0"}, bad]):
                await watch.send("POST", "/v1/accounts/alice/labels", json={"labels": labels})
    assert (watch.refused, watch.accepted) == (9, 0)


def test_every_body_of_the_service_is_read_by_the_same_parser_and_is_among_those_tried() -> None:
    with_body = {
        (method, route.path): route
        for route in ROUTES
        if isinstance(route, APIRoute) and route.body_field
        for method in route.methods
    }
    assert all(isinstance(route, KeyedRoute | ScoringRoute) for route in with_body.values())
    tried = {
        (
            method,
            path.replace("t-0", "{transaction_id}")
            .replace("alice", "{account_id}")
            .replace("costly", "{name}"),
        )
        for method, path in BODIES
    }
    # Their addresses need what another request makes first.
    jobs = {("POST", f"/v1/models/{{name}}/{last}") for last in ("comparisons", "drift", "promote")}
    # CSV: tests/api/test_label_files.py tries it.
    files = ("POST", "/v1/labels/import")
    made = {
        ("POST", "/v1/keys/{key_id}/rotate"),
        *(("PUT", f"/v1/people/{{person_id}}/{last}") for last in ("role", "password")),
    }
    assert with_body.keys() - tried == {files, *jobs, *made}


def addresses() -> Iterator[tuple[str, str, str]]:
    """Method and address of every operation with a mark in each part and each parameter."""
    document = openapi_document()
    usual = {"account_id": "alice", "transaction_id": "t-0", "revision": "1", "name": "tiny"}
    usual |= {"kind": "merchant", "entity_id": "acme"}
    made = ("webhook_id", "key_id", "person_id", "erasure_id", "comparison_id", "drift_id")
    usual |= dict.fromkeys(made, "5f0c9d2e1a7b")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            plain = re.sub(r"\{(\w+)\}", lambda part: usual[part[1]], path)
            for part in re.findall(r"\{(\w+)\}", path):
                others = usual | {part: MARK}
                yield method, re.sub(r"\{(\w+)\}", lambda p, o=others: o[p[1]], path), part
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    yield method, f"{plain}?{parameter['name']}={MARK}", parameter["name"]


@pytest.mark.anyio
async def test_a_hostile_address_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, database: Database, torture: bool, noted: Note
) -> None:
    step = 1 if torture else SPARSE
    places = list(addresses())
    accepted = refused = 0
    for number, (method, address, _) in enumerate(places):
        async with Watch(client, database) as watch:
            for text in ADDRESSED[number % step :: step]:
                await watch.send(method.upper(), address.replace(MARK, text))
        accepted, refused = accepted + watch.accepted, refused + watch.refused
    assert refused > accepted > 0
    noted(
        "A hostile address or query is a 4xx with a code, and changes nothing",
        database.url.get_backend_name(),
        f"{len(ADDRESSED)} texts in {len(places)} places: {refused:,} refused, {accepted:,} not",
    )


# Whatever JSON there is, and some that there is not: NaN, halves of characters, huge numbers.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | st.decimals(0, 10**16, allow_nan=False).map(str)
    | st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: f"{at.isoformat()}Z")
    | st.text(st.characters(), max_size=140)
    | st.sampled_from(["fraud", "EUR", "t-0", "alice"])
)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)


@pytest.mark.anyio
@settings(
    max_examples=2000 if IS_TORTURE else 30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.dictionaries(st.sampled_from(sorted(posted())), ANY, min_size=1, max_size=3),
    st.booleans(),
)
@example({"attributes": {"a": float("inf")}}, True)
@example({"attributes": {"a": float("nan"), "b": -0.0}}, True)
@example({"attributes": {"a": 10**400}}, True)
@example({"amount": float("-inf"), "occurred_at": "9999-12-31T23:59:59Z"}, True)
async def test_any_json_in_any_field_is_a_problem_or_is_read_back_as_it_was_posted(
    client: httpx.AsyncClient, fields: dict[str, Any], ascii_only: bool
) -> None:
    body = {**posted(f"p-{next(_numbers)}"), **fields}
    text = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    answer = await client.post("/v1/transactions", content=text, headers=JSON)
    if not answer.is_success:
        assert 400 <= problem_of(answer)[0] < 500
        return
    scored = answer.json()
    assert 0 <= scored["probability"] <= 1
    assert 0 <= scored["risk_score"] <= 100
    read = await client.get(f"/v1/transactions/{quote(body['transaction_id'], safe='')}")
    stored = read.json()
    assert stored["score"] == scored
    for name in ("transaction_id", "account_id", "currency", "merchant_id", "channel", "country"):
        assert stored[name] == body[name]
    assert stored["attributes"] == body["attributes"]
    assert float(stored["amount"]) == float(body["amount"])
    again = await client.post("/v1/transactions", json={**body, "amount": stored["amount"]})
    assert again.json() == scored


EXTREME = {
    "amount": st.sampled_from(["0", "0.00000001", "999999999999999.99999999"])
    | st.decimals(0, 10**9, places=8).map("{:f}".format),
    "occurred_at": st.sampled_from(
        ["1970-01-01T00:00:00Z", "2026-01-31T12:00:00Z", "2000-02-29T23:59:59.999999+14:00"]
    )
    | st.datetimes(datetime(1970, 1, 2), datetime(2026, 1, 1)).map(lambda at: f"{at.isoformat()}Z"),
    "attributes": st.dictionaries(
        st.sampled_from(["device_age_days", "distance_km", "other"]),
        st.floats(-1e299, 1e299)
        | st.sampled_from([0.0, 5e-324, -1e299, "nan", "inf", "1e999", "-Infinity", "old", True]),
        max_size=3,
    ),
    "account_id": st.sampled_from(PROBABLE),
    "merchant_id": st.sampled_from([None, *PROBABLE]),
    "country": st.sampled_from([None, "DE", "\U0010ffff"]),
}


@pytest.mark.anyio
@settings(
    max_examples=400 if IS_TORTURE else 10,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.fixed_dictionaries(EXTREME), min_size=1, max_size=30))
async def test_every_history_that_is_accepted_gives_finite_features_and_probabilities(
    client: httpx.AsyncClient, database: Database, history: list[dict[str, Any]]
) -> None:
    bodies = [posted(f"x-{next(_numbers)}", **changes) for changes in history]
    for answer in await score(client, *bodies):
        assert 0 <= answer["probability"] <= 1
        assert 0 <= answer["risk_score"] <= 100
    names = [body["transaction_id"] for body in bodies]
    async with database.read() as connection:
        rows = await transaction_store.scored(connection, "default", names)
        states = await connection.execute(select(accounts.c.state))
        kept = [row.state for row in states] + [
            row.state for row in await connection.execute(select(entities.c.state))
        ]
    features = np.frombuffer(b"".join(row.features for row in rows.values()), "<f4")
    assert np.isfinite(features).all()
    for state in kept:
        assert np.isfinite(numbers_of(state)).all()


@pytest.mark.anyio
async def test_ids_of_every_kind_are_themselves_or_refused(
    client: httpx.AsyncClient, database: Database, noted: Note
) -> None:
    accepted: dict[str, str] = {}
    async with Watch(client, database) as watch:
        for kind, text in ids().items():
            body = posted(text, account_id=text, merchant_id=text)
            content = json.dumps(body).encode()
            await watch.send("POST", "/v1/transactions", content=content, headers=JSON)
            stored = await store_has(database, text)
            assert stored == (kind not in ("Cc", "Cs")), kind
            if stored:
                accepted[kind] = text
                encoded = quote(text, safe="")
                transaction = (await client.get(f"/v1/transactions/{encoded}")).json()
                assert (transaction["transaction_id"], transaction["account_id"]) == (text, text), (
                    kind
                )
                labelled = await client.put(
                    f"/v1/transactions/{encoded}/label", json={"label": "fraud", "analyst": text}
                )
                assert labelled.is_success, kind
                watch.contents = await contents(database)
    assert watch.refused == 2
    # Each of them is another: what looks alike, or is the same text to people, is not the same.
    twins = [unicodedata.normalize("NFC", text).casefold().strip() for text in accepted.values()]
    assert len(set(accepted.values())) == len(accepted) > len(set(twins))
    for text in accepted.values():
        account = (await client.get(f"/v1/accounts/{quote(text, safe='')}")).json()
        labels = {"fraud": 1, "legitimate": 0}
        assert account == {"account_id": text, "revision": 1, "transactions": 1, "labels": labels}
        listed = await client.get("/v1/transactions", params={"account_id": text})
        assert [item["transaction_id"] for item in listed.json()["data"]] == [text]
    listed_ids = await listed_in_pages(client, "/v1/accounts", "account_id")
    assert len(listed_ids) == len(set(listed_ids))
    assert set(listed_ids) == {"alice", *accepted.values()}
    for text in accepted.values():
        assert (await client.delete(f"/v1/accounts/{quote(text, safe='')}")).is_success
    assert await listed_in_pages(client, "/v1/accounts", "account_id") == ["alice"]
    noted(
        "Ids of every Unicode category are themselves: read back, listed, labelled, erased",
        database.url.get_backend_name(),
        f"{len(accepted)} kinds of ids, each another; control characters and halves refused",
    )


async def store_has(database: Database, transaction_id: str) -> bool:
    query = select(transactions.c.transaction_id)
    async with database.read() as connection:
        return transaction_id in {row[0] for row in await connection.execute(query)}


async def listed_in_pages(client: httpx.AsyncClient, path: str, name: str) -> list[str]:
    found: list[str] = []
    parameters: dict[str, Any] = {"limit": 3}
    while True:
        page = (await client.get(path, params=parameters)).json()
        found += [item[name] for item in page["data"]]
        if not page["has_more"]:
            return found
        parameters["cursor"] = page["next_cursor"]


def journey(size: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Transactions of few accounts and merchants, some at one instant, in their order.

    The first of all are apart. Merchants are known to accounts from these on, and nothing is part
    of a burst: on both it depends what a late payment is to its account or its merchant.
    """
    rng = np.random.default_rng(seed)
    days = np.arange(size) * 1.5
    days[1::6] = days[::6][: len(days[1::6])]
    first = datetime(2024, 1, 1, tzinfo=UTC)
    places = [(account, merchant) for account in PROBABLE for merchant in PROBABLE]
    established = [
        posted(
            f"k-{n}",
            account_id=account,
            merchant_id=merchant,
            status="authorised",
            occurred_at=(first - timedelta(days=2 * (len(places) - n))).isoformat(),
        )
        for n, (account, merchant) in enumerate(places)
    ]
    return established, [
        posted(
            f"j-{n}",
            account_id=PROBABLE[n % 3],
            merchant_id=[None, *PROBABLE][rng.integers(4)],
            amount=round(float(rng.lognormal(3, 2)), 2),
            status=["authorised", "authorised", "declined", "reversed"][rng.integers(4)],
            occurred_at=(first + timedelta(days=float(day))).isoformat(),
        )
        for n, day in enumerate(days)
    ]


async def states_of(client: httpx.AsyncClient, database: Database, tenant: str) -> list[States]:
    """What is remembered of a tenant's accounts and entities."""
    features = part_of(client, Pipeline).features
    found = []
    async with database.read() as connection:
        for table, key, sums in (
            (accounts, "account_id", features.account_sums),
            (entities, "entity_id", features.entity_sums),
        ):
            query = select(table.c.state).where(table.c.tenant == tenant).order_by(table.c[key])
            rows = [row.state for row in await connection.execute(query)]
            found.append(States.from_bytes(rows, sums))
    return found


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 13])
async def test_after_time_travel_the_states_are_those_of_the_order_of_time(
    client: httpx.AsyncClient, database: Database, size: int
) -> None:
    established, history = journey(60, seed=size)
    mixed = [history[n] for n in np.random.default_rng(size).permutation(len(history))]
    last = posted("last", account_id="a-0", merchant_id="a-1", occurred_at="2026-03-01T00:00:00Z")
    seen = {}
    for tenant, payments, at_once in (("ordered", history, 1), ("mixed", mixed, size)):
        async with await of_another_tenant(client, tenant) as caller:
            await score(caller, *established)
            for first in range(0, len(payments), at_once):
                await score(caller, *payments[first : first + at_once])
            states = await states_of(client, database, tenant)
            seen[tenant] = states, (await score(caller, last))[0]["probability"]
    for first, other in zip(*(seen[tenant][0] for tenant in seen), strict=True):
        np.testing.assert_array_equal(first.time_us_G, other.time_us_G)
        np.testing.assert_array_equal(first.previous_us_G, other.previous_us_G)
        np.testing.assert_allclose(first.before_GD, other.before_GD, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(first.at_GD, other.at_GD, rtol=1e-9, atol=1e-9)
    assert seen["mixed"][1] == pytest.approx(seen["ordered"][1], abs=1e-6)


@pytest.mark.anyio
async def test_a_late_transaction_does_not_see_the_newest_and_one_beside_it_sees_only_its_past(
    client: httpx.AsyncClient,
) -> None:
    first, late = (
        posted(name, occurred_at=f"2026-01-31T{hour}:00:00Z", account_id="late", merchant_id="m")
        for name, hour in (("first", "08"), ("late", "09"))
    )
    probabilities = {}
    for tenant, amount in (("small", 1), ("large", 9e9)):
        newest = {**first, "transaction_id": "newest", "amount": amount}
        newest["occurred_at"] = "2026-01-31T10:00:00Z"
        async with await of_another_tenant(client, tenant) as caller:
            await score(caller, first, newest)
            probabilities[tenant] = (await score(caller, late))[0]["probability"]
        async with await of_another_tenant(client, f"{tenant} in one request") as caller:
            results = await score(caller, newest, late, first)
            probabilities[tenant, "one request"] = results[1]["probability"]
        async with await of_another_tenant(client, f"{tenant} in order") as caller:
            [_, in_order] = await score(caller, first, late)
            probabilities[tenant, "in order"] = in_order["probability"]
    assert probabilities["small"] == probabilities["large"]
    for tenant in ("small", "large"):
        together = probabilities[tenant, "one request"]
        assert together == pytest.approx(probabilities[tenant, "in order"], abs=1e-9)


def answers(port: int, sent: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """All that a server says to these bytes until it hangs up: status, headers and body of each."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        heard = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    found = []
    while heard:
        head, _, heard = heard.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): its for name, _, its in (line.partition(": ") for line in lines)}
        size = int(headers.get("content-length", 0))
        found.append((int(first.split()[1]), headers, heard[:size]))
        heard = heard[size:]
    return found


class Raw:
    """Requests as bytes, with the headers of a caller who may do everything."""

    def __init__(self, key: str) -> None:
        self._usual = {
            "Host": "service",
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            # Else the server waits for the next one.
            "Connection": "close",
        }

    def __call__(
        self, body: bytes = b"", to: str = "POST /v1/transactions", **headers: str | None
    ) -> bytes:
        """A request; headers by their names with `_` for `-`, None for none of it."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        every = {**self._usual, "Content-Length": str(len(body)), **fields}
        lines = [f"{name}: {value}" for name, value in every.items() if value is not None]
        return "\r\n".join([f"{to} HTTP/1.1", *lines, "", ""]).encode("latin-1") + body

    def chunked(self, *chunks: bytes, **headers: str | None) -> bytes:
        framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
        framing = {"Content_Length": None, "Transfer_Encoding": "chunked"}
        return self(**{**framing, **headers}) + framed


def good() -> bytes:
    return json.dumps(posted(f"r-{next(_numbers)}")).encode()


THRESHOLDS = b'{"review": 0.1, "decline": 0.2}'
SET = "POST /v1/thresholds"


def refused_requests(raw: Raw) -> dict[str, tuple[bytes, int, str]]:
    """By name: the bytes of a request, and the status and the code that refuse it."""
    compressed = {
        "gzip": gzip.compress(good()),
        "deflate": zlib.compress(good()),
        "br": b"\x0b\x02\x80{}\x03",
        "zstd": b"\x28\xb5\x2f\xfd",
        "identity, gzip": gzip.compress(good()),
    }
    return {
        **{
            f"{kind} to {to}": (raw(body, to, Content_Encoding=kind), 415, "unsupported_encoding")
            for kind, body in compressed.items()
            for to in ("POST /v1/transactions", "POST /v1/transactions/batch", SET)
        },
        "gzip in chunks": (
            raw.chunked(b"\x1f\x8b", Content_Encoding="gzip"),
            415,
            "unsupported_encoding",
        ),
        "gzip of the transfer": (
            raw.chunked(b"\x1f\x8b", Transfer_Encoding="gzip, chunked"),
            415,
            "unsupported_encoding",
        ),
        "gzip unsaid": (raw(gzip.compress(good())), 400, "malformed_body"),
        **{
            f"{kind} to {to}": (raw(body.decode().encode(kind), to), 400, "malformed_body")
            for kind in ("utf-16", "utf-16-le", "utf-32", "utf-8-sig")
            for to, body in (("POST /v1/transactions", good()), (SET, THRESHOLDS))
        },
        **{
            f"{kind} to {to}": (raw(body, to, Content_Type=kind), 422, "validation_failed")
            for kind in ("text/plain", "multipart/form-data; boundary=a", "\xff;=", "", None)
            for to, body in (("POST /v1/transactions", good()), (SET, THRESHOLDS))
        },
        "nothing": (raw(), 422, "validation_failed"),
        "an end missing": (raw.chunked(good()[:-1]), 400, "malformed_body"),
        "more than one": (raw(good() + good()), 400, "malformed_body"),
        "a length beyond all": (raw(Content_Length="9" * 19), 413, "body_too_large"),
        "a length of 10,000 digits": (raw(Content_Length="9" * 10_000), 400, "malformed_request"),
        "a length below 0": (raw(Content_Length="-1"), 400, "malformed_request"),
        "a length with a sign": (raw(good(), Content_Length="+9"), 400, "malformed_request"),
        "two framings": (raw(good(), Transfer_Encoding="chunked"), 400, "malformed_request"),
        "two lengths": (raw(good(), content_length="5"), 400, "malformed_request"),
        "a chunk without a size": (
            raw.chunked()[:-5] + b"zz\r\n{}\r\n0\r\n\r\n",
            400,
            "malformed_request",
        ),
        "a chunk beyond all": (
            raw.chunked()[:-5] + b"f" * 18 + b"\r\n{}\r\n0\r\n\r\n",
            400,
            "malformed_request",
        ),
        "NUL in a header": (raw(good(), X_Said="\x00"), 400, "malformed_request"),
        "bytes in the address": (raw(to="GET /v1/accounts/\xff"), 400, "malformed_request"),
        "an address of 100,000": (
            raw(to="GET /v1/accounts/" + "a" * 100_000),
            431,
            "headers_too_large",
        ),
        "another protocol": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request"),
        "no key": (raw(good(), Authorization=None), 401, "unauthenticated"),
        "a key of bytes": (
            raw(good(), Authorization="Bearer qs_\xff_\xfe"),
            401,
            "unauthenticated",
        ),
        "no method of ours": (raw(good(), to="PATCH /v1/transactions"), 405, "method_not_allowed"),
        "an empty id": (raw(to="GET /v1/accounts/"), 404, "not_found"),
        "an address with an end": (raw(good(), "POST /v1/transactions/"), 404, "not_found"),
    }


async def contents_of(url: str) -> dict[str, tuple[Any, ...]]:
    database = Database(url)
    try:
        return await contents(database)
    finally:
        await database.close()


@pytest.mark.anyio
@mainly("sqlite")
async def test_bytes_that_are_no_good_request_are_refused_and_disturb_no_other(
    database_url: str, checkpoint: Path, noted: Note
) -> None:
    raw = Raw(await made_key(database_url))
    with server_process(database_url, checkpoint, QUICKSTUDY_LOG_LEVEL="error") as server:
        assert answers(server.port, raw(good()))[0][0] == 200
        before = await contents_of(database_url)
        requests = refused_requests(raw)
        for name, (sent, status, code) in requests.items():
            [(answered, headers, body)] = answers(server.port, sent)[:1]
            assert answered == status, (name, answered, body)
            assert headers["content-type"] == "application/problem+json", name
            assert json.loads(body)["code"] == code, name
            if code == "unsupported_encoding":
                assert headers["accept-encoding"] == "identity"
        assert await contents_of(database_url) == before
        # Good and bad ones on one connection, sent before any of them is answered.
        found = answers(
            server.port,
            raw(good(), Connection=None)
            + raw(b"{", Connection=None)
            + raw.chunked(*(bytes([byte]) for byte in good()), Connection=None)
            + raw(gzip.compress(good()), Content_Encoding="gzip", Connection=None)
            + raw(good(), Content_Encoding="Identity", Connection=None)
            + raw(THRESHOLDS, SET, Content_Type="application/json;charset=x", Connection=None)
            + raw(b"[" * 100_000, SET, Connection=None)
            + raw(good()),
        )
        assert [status for status, _, _ in found] == [200, 400, 200, 415, 200, 200, 400, 200]
    noted(
        "Compressed, misframed and misnamed bodies are refused by a real server; nothing changes",
        database_url.partition("+")[0],
        f"{len(requests)} requests as raw bytes",
    )


@pytest.mark.torture
@pytest.mark.parametrize(
    ("database_url", "run"),
    [*zip(["sqlite", "postgresql"], RUNS, strict=True)],
    indirect=["database_url"],
)
def test_a_thousand_examples_of_every_operation_find_nothing(
    database_url: str, checkpoint: Path, tmp_path: Path, run: str, noted: Note
) -> None:
    output, failed = tried(database_url, checkpoint, tmp_path, run, 1000)
    assert not failed, output
    [counted] = re.findall(r"Test cases:\n\s*(.*)", output)
    [linked] = re.findall(r"API Links:\s*(.*)", output)
    noted(
        f"schemathesis, 1,000 examples an operation and stateful, finds nothing ({run})",
        database_url.partition("+")[0],
        f"{counted}; links: {linked}",
    )

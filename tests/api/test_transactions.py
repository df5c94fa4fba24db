"""Transactions over HTTP: scored, scored once, refused, and read back."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.db.database import Database
from app.learner.transaction import DAY_US
from app.times import now_us, text_of
from tests.api.requests import NOON, posted, problem_of

pytestmark = pytest.mark.anyio


async def test_a_transaction_is_scored(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/transactions", json=posted())
    assert answer.status_code == 200
    score = answer.json()
    assert (score["transaction_id"], score["account_id"]) == ("t-1", "alice")
    assert 0 < score["probability"] < 1
    assert 0 <= score["risk_score"] <= 100
    assert score["risk_level"] in {"low", "medium", "high", "critical"}
    assert score["outcome"] in {"approve", "review", "decline"}
    assert score["adaptation"] == {
        "used": "insufficient_labels",
        "labels": 0,
        "revision": 0,
    }
    assert score["model"].startswith("tiny@")


async def test_a_score_is_committed_before_it_is_answered(
    sole: httpx.AsyncClient, database: Database
) -> None:
    score = (await sole.post("/v1/transactions", json=posted())).json()
    async with database.read() as connection:
        row = (await connection.execute(text("SELECT * FROM transactions"))).one()
    assert (row.tenant, row.transaction_id) == ("default", "t-1")
    assert (row.probability, row.risk_score) == (score["probability"], score["risk_score"])


async def test_a_score_depends_on_the_transaction_and_on_the_accounts_history(
    client: httpx.AsyncClient,
) -> None:
    async def probability(**changes: Any) -> float:
        body = posted(f"t-{json.dumps(changes)}", **changes)
        return (await client.post("/v1/transactions", json=body)).json()["probability"]

    first = await probability()
    assert await probability(amount=7) != first
    # One instant sees nothing of itself; the next day sees both.
    assert await probability(attributes={"device_age_days": 3.0}) == first
    assert await probability(occurred_at="2026-02-01T12:00:00Z") != first


@pytest.mark.parametrize(
    "spelling",
    [
        {},
        {"amount": "412.00"},
        {"amount": 412},
        {"occurred_at": "2026-01-31T13:00:00.000+01:00"},
        {"attributes": {"device_age_days": 3.0}},
    ],
    ids=str,
)
async def test_the_same_content_again_has_the_stored_score_byte_for_byte(
    shared: httpx.AsyncClient, spelling: dict[str, Any]
) -> None:
    first = await shared.post("/v1/transactions", json=posted())
    again = await shared.post("/v1/transactions", json=posted(**spelling))
    assert again.status_code == 200
    assert again.content == first.content


NAMED = {
    "device_id": "d-1",
    "ip_address": "::ffff:203.0.113.7",
    "card_fingerprint": "c-1",
    "email": "Mia@Example.com",
    "entities": {"wallet": "w-1", "phone": "p-1"},
    "type": "transfer",
    "status": "authorised",
}

NOTHING = {**dict.fromkeys(NAMED), "entities": {}, "type": "payment"}


async def test_what_a_payment_names_is_read_back_as_it_is_kept(client: httpx.AsyncClient) -> None:
    first = await client.post("/v1/transactions", json=posted(**NAMED))
    assert first.status_code == 200, first.text
    kept = NAMED | {"ip_address": "203.0.113.7", "email": "mia@example.com"}
    stored = (await client.get("/v1/transactions/t-1")).json()
    assert {name: stored[name] for name in kept} == kept
    again = await client.post("/v1/transactions", json=posted(**kept))
    assert again.content == first.content
    for name in NAMED:
        others = {name: {"wallet": "w-2"} if name == "entities" else None}
        others |= {"type": "payment"} if name == "type" else {}
        refused = await client.post("/v1/transactions", json=posted(**{**NAMED, **others}))
        assert problem_of(refused) == (409, "transaction_conflict"), name
    plain = {"transaction_id": "t-2", "account_id": "a", "amount": 1, "currency": "EUR"}
    await client.post("/v1/transactions", json=plain | {"occurred_at": NOON})
    stored = (await client.get("/v1/transactions/t-2")).json()
    assert {name: stored[name] for name in NAMED} == NOTHING


CARD = "4111 1111 1111 1111"


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"card_fingerprint": CARD}, "card_fingerprint", "full card number"),
        ({"ip_address": "203.0.113"}, "ip_address", "an IP address is"),
        ({"email": "mia"}, "email", "an @"),
        ({"email": f"{'İ' * 100}@x.de"}, "email", "at most 128 characters"),
        ({"entities": {"device": "d"}}, "entities", "send it as device_id"),
        ({"entities": {"Wallet": "d"}}, "entities", "a kind has 1 to 32 small letters"),
        ({"entities": {f"k{n}": "d" for n in range(9)}}, "entities", "at most 8"),
        ({"type": "gift"}, "type", "'payment', 'refund'"),
        ({"status": "pending"}, "status", "'authorised', 'declined'"),
    ],
    ids=str,
)
async def test_what_no_payment_may_name_is_refused(
    edge: httpx.AsyncClient, change: dict[str, Any], field: str, message: str
) -> None:
    refused = await edge.post("/v1/transactions", json=posted(**change))
    assert problem_of(refused) == (422, "validation_failed")
    [error] = refused.json()["errors"]
    assert error["field"].startswith(field)
    assert message in error["message"]
    bodies = {"transactions": [posted(**change)]}
    [result] = (await edge.post("/v1/transactions/batch", json=bodies)).json()["results"]
    assert message in result["error"]["detail"]
    # It must not be stored, in the logs of a caller either.
    assert CARD not in refused.text


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 412.01},
        {"account_id": "bob"},
        {"occurred_at": "2026-01-31T12:00:00.000001Z"},
        {"merchant_id": None},
        {"attributes": {"device_age_days": "3"}},
        {"attributes": {}},
    ],
    ids=str,
)
async def test_other_content_under_the_same_id_is_a_conflict_and_changes_nothing(
    shared: httpx.AsyncClient, change: dict[str, Any]
) -> None:
    first = await shared.post("/v1/transactions", json=posted())
    refused = await shared.post("/v1/transactions", json=posted(**change))
    assert problem_of(refused) == (409, "transaction_conflict")
    assert (await shared.post("/v1/transactions", json=posted())).content == first.content
    assert problem_of(await shared.get("/v1/accounts/bob")) == (404, "account_not_found")


async def test_the_same_transaction_from_many_at_once_is_stored_once(
    client: httpx.AsyncClient,
) -> None:
    posts = [client.post("/v1/transactions", json=posted(f"t-{n % 5}")) for n in range(50)]
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 5
    assert (await client.get("/v1/accounts/alice")).json()["transactions"] == 5


async def test_a_batch_is_answered_in_its_order(client: httpx.AsyncClient) -> None:
    bodies = [posted(f"t-{n}", account_id=f"a-{n % 7}", amount=n) for n in range(50)]
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["transaction_id"] for result in results] == [
        body["transaction_id"] for body in bodies
    ]
    alone = await client.post("/v1/transactions", json=bodies[17])
    assert alone.json() == results[17]


async def test_an_item_of_a_batch_that_conflicts_leaves_its_neighbours_their_scores(
    client: httpx.AsyncClient,
) -> None:
    stored = (await client.post("/v1/transactions", json=posted("t-2"))).json()
    bodies = [posted("t-1"), posted("t-2", amount=1), posted("t-2"), posted("t-1", amount=2)]
    bodies.append(posted("t-1"))
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    first, taken, same, differs, again = answer.json()["results"]
    assert first == again
    assert same == stored
    assert taken["transaction_id"] == "t-2"
    assert {taken["error"]["code"], differs["error"]["code"]} == {"transaction_conflict"}
    assert "probability" not in taken


async def test_an_invalid_item_of_a_batch_leaves_its_neighbours_their_scores(
    client: httpx.AsyncClient,
) -> None:
    wrong = [
        posted("t-2", amount=-1, currency="euro"),
        posted("x" * 129),
        {**posted("t-3"), "colour": "red"},
        7,
        None,
        {},
    ]
    bodies = [posted("t-1"), *wrong, posted("t-4", amount=5)]
    answer = await client.post("/v1/transactions/batch", json={"transactions": bodies})
    assert answer.status_code == 200
    first, *refused, last = answer.json()["results"]
    assert first == (await client.get("/v1/transactions/t-1")).json()["score"]
    assert last == (await client.get("/v1/transactions/t-4")).json()["score"]
    ids = [refusal["transaction_id"] for refusal in refused]
    assert ids == ["t-2", None, "t-3", None, None, None]
    assert {refusal["error"]["code"] for refusal in refused} == {"validation_failed"}
    for refusal, field in zip(
        refused, ["amount: ", "transaction_id: ", "colour: ", "item: ", "item: ", ""], strict=True
    ):
        assert refusal["error"]["detail"].startswith(field)
    assert "currency: " in refused[0]["error"]["detail"]
    assert problem_of(await client.get("/v1/transactions/t-2"))[0] == 404


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("currency", "euro", "a currency is three capital letters, such as EUR"),
        ("account_id", "a\nb", "an id has 1 to 128 characters and no control characters"),
    ],
)
async def test_a_text_of_another_form_is_refused_in_words_and_not_by_a_pattern(
    client: httpx.AsyncClient, field: str, value: str, message: str
) -> None:
    answer = await client.post("/v1/transactions", json=posted("t-1", **{field: value}))
    assert answer.json()["errors"] == [{"field": field, "message": message}]


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "message"),
    [
        ("DELETE", "/v1/keys/main", None, "path.key_id", "this is no id that the service has made"),
        ("GET", "/v1/entities/Wallet/w-1", None, "path.kind", "a kind has 1 to 32 small letters"),
        ("POST", "/v1/accounts/a/notes", {"text": "a\0b"}, "text", "a note has 1 to 2,000"),
        (
            "POST",
            "/v1/webhooks",
            {"url": "https://example.com/a b", "events": ["transaction.flagged"]},
            "url",
            "a URL has 1 to 2,000 characters of ASCII and no spaces",
        ),
    ],
)
async def test_no_refusal_shows_a_pattern(
    client: httpx.AsyncClient, method: str, path: str, body: Any, field: str, message: str
) -> None:
    answer = await client.request(method, path, json=body)
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"].startswith(message)


async def test_a_batch_of_invalid_items_alone_is_answered_item_by_item(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.post("/v1/transactions/batch", json={"transactions": [{}, []]})
    codes = [result["error"]["code"] for result in answer.json()["results"]]
    assert codes == ["validation_failed"] * 2


JUNK = {f"k{n}": {} for n in range(30_000)}


@pytest.mark.parametrize(
    ("path", "body", "why"),
    [
        ("", JUNK, "body: an object of 30,000 members has more than 100"),
        ("", posted(attributes=JUNK), "attributes: there are at most 64 of them, not 30,000"),
        ("", posted(entities=JUNK), "entities: there are at most 8 of them, not 30,000"),
        ("", posted(amount=[[]] * 100_000), "body: it holds more than 100,000 values"),
        ("/batch", {"transactions": [[]] * 100_000}, "body: it holds more than 100,000 values"),
        ("/batch", {"transactions": [], **JUNK}, "body: an object of 30,001 members"),
    ],
)
async def test_what_is_wrong_with_each_of_very_many_values_is_not_looked_for(
    edge: httpx.AsyncClient, path: str, body: Any, why: str
) -> None:
    answer = await edge.post(f"/v1/transactions{path}", json=body)
    assert problem_of(answer) == (422, "validation_failed")
    assert answer.json()["detail"].startswith(why)
    assert len(answer.json()["errors"]) == 1


@pytest.mark.parametrize("path", ["/v1/labels", "/v1/thresholds", "/v1/accounts/alice/labels"])
async def test_nor_is_it_in_the_bodies_of_other_routes(edge: httpx.AsyncClient, path: str) -> None:
    answer = await edge.post(path, json=JUNK)
    assert problem_of(answer) == (422, "validation_failed")
    assert answer.json()["detail"] == "body: an object of 30,000 members has more than 100"


async def test_an_item_with_very_many_members_is_refused_alone(client: httpx.AsyncClient) -> None:
    items = [posted("a"), posted("b", **JUNK), posted("c", attributes=JUNK)]
    answer = await client.post("/v1/transactions/batch", json={"transactions": items})
    scored, *refused = answer.json()["results"]
    assert scored["probability"]
    assert [(item["transaction_id"], item["error"]["detail"]) for item in refused] == [
        ("b", f"item: an item has at most 100 members, not {len(items[1]):,}"),
        ("c", "attributes: there are at most 64 of them, not 30,000"),
    ]


async def test_the_largest_batch_is_read_however_many_commas_its_texts_have(
    client: httpx.AsyncClient,
) -> None:
    attributes = {f"a{n}": ",[{" * 20 for n in range(64)}
    items = [posted(f"t-{n}", amount=-1, attributes=attributes) for n in range(600)]
    answer = await client.post("/v1/transactions/batch", json={"transactions": items})
    assert {item["error"]["detail"][:7] for item in answer.json()["results"]} == {"amount:"}


@pytest.mark.parametrize(
    "body", [{}, {"transactions": {}}, {"transactions": [posted()], "more": 1}, [posted()]]
)
async def test_a_batch_that_is_no_list_of_items_is_refused_whole(
    edge: httpx.AsyncClient, body: Any
) -> None:
    refused = await edge.post("/v1/transactions/batch", json=body)
    assert problem_of(refused) == (422, "validation_failed")


@pytest.mark.parametrize("size", [0, 1001])
async def test_a_batch_has_one_to_a_thousand_items(edge: httpx.AsyncClient, size: int) -> None:
    bodies = [posted(f"t-{n}") for n in range(size)]
    refused = await edge.post("/v1/transactions/batch", json={"transactions": bodies})
    assert problem_of(refused) == (422, "validation_failed")


async def test_a_transaction_is_read_back_as_posted_with_its_score(
    client: httpx.AsyncClient,
) -> None:
    body = posted("a/b?c#ü %2F", amount="0.10", occurred_at="2026-01-31T13:00:00+01:00")
    score = (await client.post("/v1/transactions", json=body)).json()
    answer = await client.get("/v1/transactions/a%2Fb%3Fc%23%C3%BC%20%252F")
    assert answer.json() == {
        **body,
        "amount": "0.1",
        "occurred_at": "2026-01-31T12:00:00.000000Z",
        **NOTHING,
        "score": score,
        "label": None,
    }


async def test_a_transaction_of_another_tenant_does_not_exist(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient
) -> None:
    own = await client.post("/v1/transactions", json=posted())
    assert problem_of(await stranger.get("/v1/transactions/t-1")) == (404, "transaction_not_found")
    theirs = await stranger.post("/v1/transactions", json=posted(amount=1))
    assert theirs.status_code == 200
    assert (await client.post("/v1/transactions", json=posted())).content == own.content


@pytest.mark.parametrize(
    ("amount", "stored"),
    [
        ("0.30000000000000004", "0.3"),
        ("33.339999999999996", "33.34"),
        ("1e2", "100"),
        ("1.5E+1", "15"),
        ("-0.0", "0"),
        ("0.000000005", "0"),
        ("0.000000015", "0.00000002"),
        ("1e-300", "0"),
        ("123456789012345.67", "123456789012345.67"),
        ('"10.00"', "10"),
        ('"0.00000001"', "0.00000001"),
    ],
)
async def test_an_amount_is_a_text_or_a_number_without_the_noise_of_binary(
    shared: httpx.AsyncClient, amount: str, stored: str
) -> None:
    head = {"content-type": "application/json"}
    name = amount.strip('"')
    body = json.dumps(posted(name, amount="AMOUNT")).replace('"AMOUNT"', amount)
    scored = await shared.post("/v1/transactions", content=body, headers=head)
    assert scored.status_code == 200
    assert (await shared.get(f"/v1/transactions/{name}")).json()["amount"] == stored
    again = await shared.post("/v1/transactions", json=posted(name, amount=stored))
    assert again.json() == scored.json()


INVALID: dict[str, Any] = {
    "amount": [
        -1,
        True,
        None,
        "1e3",
        "NaN",
        "-0.01",
        "1.123456789",
        "1,000",
        "+1",
        " 1",
        10**15,
        10**400,
        [],
        "٣",
    ],
    "occurred_at": [
        0,
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-02-30T12:00:00Z",
        "2026-01-31T12:00:00+99:99",
        "1969-12-31T23:59:59Z",
        "9999-12-31T23:59:59-01:00",
        # A day is the limit, and it may take hours from here to the request.
        text_of(now_us() + 2 * DAY_US),
        "not a time",
    ],
    "transaction_id": ["", "x" * 129, "a\x00b", "a\nb", "\x7f", 7, None],
    "account_id": ["", "a\x00b"],
    "merchant_id": ["", "a\x00b", 5],
    "currency": ["EURO", "eur", "", "€€€", 978],
    "attributes": [
        {"a": {"b": 1}},
        {"a": [1]},
        {"a": None},
        {"a": "x" * 257},
        {"a": 10**400},
        {"": 1},
        {f"a{n}": n for n in range(65)},
        [],
    ],
    "unknown": [1],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in INVALID.items() for value in values],
    ids=lambda part: repr(part)[:12],
)
async def test_an_invalid_field_is_refused_by_name(
    edge: httpx.AsyncClient, field: str, value: object
) -> None:
    refused = await edge.post("/v1/transactions", json=posted(**{field: value}))
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"][0]["field"].startswith(field)


@pytest.mark.parametrize("field", ["transaction_id", "account_id", "occurred_at", "amount"])
async def test_a_missing_field_is_refused_by_name(edge: httpx.AsyncClient, field: str) -> None:
    body = posted()
    del body[field]
    refused = await edge.post("/v1/transactions", json=body)
    assert problem_of(refused) == (422, "validation_failed")
    assert refused.json()["errors"] == [{"field": field, "message": "Field required"}]


HOSTILE = {
    "NaN": b'{"amount": NaN}',
    "infinity": b'{"amount": 1e400, "attributes": {"a": Infinity}}',
    "lone surrogates": b'{"account_id": "\\ud800", "\\udfff": 1, "attributes": {"a": "\\ud800"}}',
    "a long number": b'{"amount": ' + b"9" * 10_000 + b"}",
    "a number of 4000 digits": b'{"amount": ' + b"9" * 4000 + b"}",
    "deep nesting": b"[" * 100_000,
    "not JSON": b'{"amount": 1',
    "not UTF-8": b'{"amount": "\xff"}',
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("path", ["/v1/transactions", "/v1/transactions/batch"])
async def test_hostile_bodies_are_refused_as_problems(
    edge: httpx.AsyncClient, path: str, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    refused = await edge.post(path, content=body, headers=headers)
    assert problem_of(refused)[0] in {400, 422}


async def test_a_body_over_the_limit_is_refused_announced_or_not(
    edge: httpx.AsyncClient,
) -> None:
    async def chunks() -> Any:
        for _ in range(50):
            yield b" " * 100_000

    headers = {"Content-Type": "application/json"}
    for body in (b" " * 5_000_000, chunks()):
        refused = await edge.post("/v1/transactions", content=body, headers=headers)
        assert problem_of(refused) == (413, "body_too_large")


async def test_requests_without_a_live_key_are_refused(edge: httpx.AsyncClient) -> None:
    for headers in (
        {"Authorization": ""},
        {"Authorization": "Bearer qs_0_0"},
        {"Authorization": "x"},
    ):
        for path in ("/v1/transactions", "/v1/accounts/alice/labels", "/v1/transactions/batch"):
            refused = await edge.post(path, json={}, headers=headers)
            assert problem_of(refused) == (401, "unauthenticated")
            assert refused.headers["www-authenticate"].startswith("Bearer")


async def test_a_wrong_address_or_method_is_a_problem_too(edge: httpx.AsyncClient) -> None:
    assert problem_of(await edge.get("/v1/nothing")) == (404, "not_found")
    refused = await edge.put("/v1/transactions", json={})
    assert problem_of(refused) == (405, "method_not_allowed")
    assert refused.headers["allow"] == "GET, HEAD, POST"
    refused = await edge.post("/v1/transactions/t-1/label", json={})
    assert refused.headers["allow"] == "DELETE, GET, HEAD, PUT"

"""One text for every spelling of a transaction, and another for every other transaction."""

import json
from decimal import Decimal
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.learner.transaction import (
    Status,
    Transaction,
    Type,
    amount_text,
    content_of,
    digest_of,
    transaction_of,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
TRANSACTIONS = st.builds(
    Transaction,
    transaction_id=TEXT,
    account_id=TEXT,
    occurred_at_us=st.integers(0, 2**52),
    amount=st.decimals(0, 10**14, places=4),
    currency=st.sampled_from(["EUR", "USD"]),
    merchant_id=st.none() | TEXT,
    merchant_category=st.none() | TEXT,
    channel=st.none() | TEXT,
    country=st.none() | TEXT,
    attributes=st.dictionaries(
        TEXT, TEXT | st.booleans() | st.floats(allow_nan=False, allow_infinity=False), max_size=3
    ),
    device_id=st.none() | TEXT,
    ip_address=st.none() | TEXT,
    card_fingerprint=st.none() | TEXT,
    email=st.none() | TEXT,
    entities=st.dictionaries(TEXT, TEXT, max_size=3),
    type=st.sampled_from(get_args(Type)),
    status=st.none() | st.sampled_from(get_args(Status)),
)


def paid(**changes: Any) -> Transaction:
    fields: dict[str, Any] = {"transaction_id": "t", "account_id": "a", "occurred_at_us": 0}
    return Transaction(**{**fields, "amount": Decimal(10), "currency": "EUR", **changes})


@given(TRANSACTIONS)
def test_a_transaction_is_read_back_from_its_text(transaction: Transaction) -> None:
    read = transaction_of(content_of(transaction))
    assert read == transaction
    assert content_of(read) == content_of(transaction)


# What all texts begin with; what came later stands behind it by name, and then these two.
FIRST = [
    *("account_id", "amount", "attributes", "channel", "country", "currency"),
    *("merchant_category", "merchant_id", "occurred_at_us", "transaction_id"),
]
LAST = ["type", "entities"]


@given(TRANSACTIONS)
def test_a_text_is_canonical_json(transaction: Transaction) -> None:
    text = content_of(transaction)
    fields = json.loads(text)
    later = sorted(fields.keys() - {*FIRST, *LAST})
    ordered = {name: fields[name] for name in [*FIRST, *later, *LAST] if name in fields}
    for name in ("attributes", "entities"):
        if name in fields:
            ordered[name] = dict(sorted(fields[name].items()))
    assert json.dumps(ordered, separators=(",", ":")) == text


def test_a_text_of_what_is_old_is_as_it_always_was() -> None:
    """Golden: stored texts are compared with it for ever."""
    old = paid(merchant_id="m", channel="online", attributes={"n": 3, "b": True, "a": "é"})
    assert content_of(old) == (
        '{"account_id":"a","amount":"10","attributes":{"a":"\\u00e9","b":true,"n":3.0},'
        '"channel":"online","currency":"EUR","merchant_id":"m","occurred_at_us":0,'
        '"transaction_id":"t"}'
    )
    new = paid(device_id="d", type="refund", status="reversed", entities={"wallet": "w"})
    assert content_of(new) == (
        '{"account_id":"a","amount":"10","attributes":{},"currency":"EUR","occurred_at_us":0,'
        '"transaction_id":"t","device_id":"d","status":"reversed","type":"refund",'
        '"entities":{"wallet":"w"}}'
    )


@pytest.mark.parametrize("amount", ["10", "10.0", "10.00", "1E+1"])
def test_an_amount_is_a_number_however_it_is_spelled(amount: str) -> None:
    assert content_of(paid(amount=Decimal(amount))) == content_of(paid())


@pytest.mark.parametrize(
    ("amount", "text"), [("0", "0"), ("-0.00", "0"), ("100", "100"), ("1E-7", "0.0000001")]
)
def test_an_amount_has_one_text(amount: str, text: str) -> None:
    assert amount_text(Decimal(amount)) == text


@pytest.mark.parametrize(
    ("first", "other"),
    [({"n": 1.0}, {"n": True}), ({"n": 1.0}, {"n": "1"}), ({"n": 0.0}, {}), ({"n": ""}, {})],
)
def test_attributes_of_other_kinds_differ(first: dict[str, Any], other: dict[str, Any]) -> None:
    texts = [content_of(paid(attributes=attributes)) for attributes in (first, other)]
    assert digest_of(texts[0]) != digest_of(texts[1])


def test_a_whole_number_is_the_same_number_with_a_point() -> None:
    assert content_of(paid(attributes={"n": 3})) == content_of(paid(attributes={"n": 3.0}))


def test_an_absent_merchant_is_not_a_merchant_called_nothing() -> None:
    assert content_of(paid(merchant_id=None)) != content_of(paid(merchant_id=""))


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_number_that_json_cannot_express_has_no_text(number: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        content_of(paid(attributes={"n": number}))

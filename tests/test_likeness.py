"""How alike payments are: what they have in common, when that is enough, and in which order."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from app.learner.columns import columns_of
from app.learner.features import Features, FeatureSet
from app.learner.likeness import (
    LabelledPayments,
    fields_of,
    likeness,
    most_alike,
    most_alike_first,
    shared_fields,
)
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, Transaction

FEATURES = FeatureSet(DatasetSpec.load("simulated"))
FIELDS = fields_of(FEATURES)
# Of ten fields that are compared, these three are the same in all payments here.
SAME = ["country", "currency", "type"]


def payment(n: int, **changes: Any) -> Transaction:
    """A payment that has country, currency and type in common with every other."""
    named = {"merchant_id": f"m-{n}", "merchant_category": f"c-{n}", "channel": f"h-{n}"}
    fields: dict[str, Any] = {**named, "country": "DE", **changes}
    return Transaction(f"t-{n}", "a", n * DAY_US, Decimal(10), "EUR", **fields)


def features_of(*payments: Transaction) -> Features:
    columns, _ = columns_of(FEATURES.spec, payments)
    return FEATURES.compute(columns)


def codes_of(*payments: Transaction) -> Features:
    return FIELDS.codes(features_of(*payments))


def in_common(first: Transaction, other: Transaction) -> list[str]:
    [[is_same_E]] = shared_fields(codes_of(first), codes_of(other))
    return [name for name, is_same in zip(FIELDS.names, is_same_E, strict=True) if is_same]


def alike(first: Transaction, other: Transaction) -> int:
    return int(likeness(FIELDS, shared_fields(codes_of(first), codes_of(other)))[0, 0])


def labelled(*rows: tuple[Transaction, bool]) -> LabelledPayments:
    payments = [payment for payment, _ in rows]
    return LabelledPayments(
        [payment.transaction_id for payment in payments],
        np.array([payment.occurred_at_us + DAY_US for payment in payments], np.int64),
        np.array([is_fraud for _, is_fraud in rows], np.bool_),
        codes_of(*payments),
    )


def test_entities_come_before_categories_in_the_order_of_the_api() -> None:
    assert list(FIELDS.names) == [
        *("merchant", "device", "ip", "card", "email"),
        *("merchant_category", "channel", "country", "currency", "type"),
    ]
    assert FIELDS.is_identity_E.tolist() == [True] * 5 + [False] * 5
    for name, f in zip(FIELDS.names, FIELDS.position_E.tolist(), strict=True):
        assert FEATURES.names[f] in (f"{name}_identity", f"{name}_code")
    [field] = fields_of(FeatureSet(DatasetSpec.load("handbook"))).names
    assert field == "merchant"


def test_what_is_the_same_is_in_common_and_what_neither_names_is_not() -> None:
    assert in_common(payment(1), payment(2)) == SAME
    assert in_common(payment(1, device_id="d"), payment(2, device_id="d")) == ["device", *SAME]
    # Neither names a device, an address, a card, an e-mail; nor now a country.
    bare = {"country": None, "channel": None}
    assert in_common(payment(1, **bare), payment(2, **bare)) == SAME[1:]
    assert in_common(payment(1, country=None), payment(2)) == SAME[1:]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0),
        ({"channel": "online"}, 0),
        ({"channel": "online", "merchant_category": "toys"}, 5),
        ({"merchant_id": "m"}, 4),
        ({"card_fingerprint": "c", "country": None}, 3),
        ({"ip_address": "203.0.113.7", "email": "mia@example.com"}, 5),
    ],
    ids=repr,
)
def test_payments_are_alike_by_an_entity_or_by_half_of_all_fields(
    changes: dict[str, Any], expected: int
) -> None:
    assert alike(payment(1, **changes), payment(2, **changes)) == expected


def test_the_most_alike_of_a_class_is_found_and_the_newest_among_equals() -> None:
    payments = labelled(
        (payment(8, device_id="d"), False),
        (payment(7, device_id="d", merchant_id="m"), True),
        (payment(6, device_id="d"), True),
        (payment(5, device_id="d", merchant_id="m"), True),
    )

    def named(is_fraud: bool, **changes: Any) -> str | None:
        [features_F] = features_of(payment(9, **changes))
        found = most_alike(FIELDS, features_F, payments, is_fraud)
        return found and found.transaction_id

    assert named(True, device_id="d", merchant_id="m") == "t-7"
    assert named(True, device_id="d") == "t-7"
    assert named(True, merchant_id="m") == "t-7"
    assert named(False, device_id="d", merchant_id="m") == "t-8"
    assert named(False, merchant_id="m") is None
    assert named(True) is None
    # The first of equals is the newest, wherever a less alike one stands.
    [features_F] = features_of(payment(9, device_id="d", merchant_id="m"))
    found = most_alike(FIELDS, features_F, labelled((payment(6, device_id="d"), True)), True)
    assert found is not None
    assert found == ("t-6", True, 7 * DAY_US, ["device", *SAME])
    assert most_alike(FIELDS, features_F, labelled(), True) is None


def test_the_most_alike_come_first_and_the_others_stay_in_their_order() -> None:
    marked = [payment(20, device_id="d", merchant_id="m"), payment(21, card_fingerprint="c")]
    rows = [
        payment(9),
        payment(8, device_id="d"),
        marked[0],
        payment(7, card_fingerprint="c"),
        payment(6, device_id="d", merchant_id="m"),
        payment(5),
    ]
    is_itself_NK = np.array([[row is other for other in marked] for row in rows])
    order = most_alike_first(FIELDS, features_of(*rows), features_of(*marked), is_itself_NK)
    # A labelled payment is no more like itself than another that is like none.
    assert order == [4, 1, 3, 0, 2, 5]
    nothing = np.zeros((len(rows), 0), np.bool_)
    none_KF = features_of(*marked)[:0]
    assert most_alike_first(FIELDS, features_of(*rows), none_KF, nothing) == [*range(6)]
    no_rows = np.zeros((0, 2), np.bool_)
    assert most_alike_first(FIELDS, features_of(*rows)[:0], features_of(*marked), no_rows) == []

"""Every feature of every spec has a code, every code is documented, and sentences are true."""

import itertools
import re
import statistics
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.learner.attribution import Attribution
from app.learner.columns import columns_of
from app.learner.features import FeatureSet, without_identities
from app.learner.likeness import LabelledPayments
from app.learner.money import Rates
from app.learner.reasons import (
    CODES,
    CODES_OF_KIND,
    LABELS,
    MOST_REASONS,
    PAST,
    Reason,
    Share,
    code_of,
    raising,
    shares_of,
    worded_reasons,
)
from app.learner.spec import DatasetSpec
from app.learner.transaction import Transaction, content_of
from tests.test_likeness import codes_of

SPECS = [
    path.name.removesuffix(".toml")
    for path in files("app.learner.specs").iterdir()
    if path.name.endswith(".toml")
]
DOCUMENT = (Path(__file__).parents[1] / "docs" / "reasons.md").read_text()
DAY_US = 86_400_000_000
SIMULATED = DatasetSpec.load("simulated")
RATES = Rates(reference="EUR", per_unit={"JPY": 0.006, "USD": 0.9})


def payment(n: int, amount: str = "81.00", **changes: object) -> Transaction:
    fields = {"merchant_id": "m", "merchant_category": "food", "channel": "chip", "country": "DE"}
    fields |= {"attributes": {"device_age_days": 3.0}} | changes
    currency = fields.pop("currency", "EUR")
    return Transaction(f"t-{n}", "a", n * DAY_US, Decimal(amount), currency, **fields)  # type: ignore[arg-type]


def explained(
    now: Transaction,
    *past: Transaction,
    rates: Rates | None = None,
    spec: DatasetSpec = SIMULATED,
    labels: float = 0.5,
    labelled: LabelledPayments | None = None,
) -> dict[str, Reason]:
    features = FeatureSet(spec, rates)
    columns, _ = columns_of(features.spec, [*past, now], rates)
    features_NF = features.compute(columns)
    attribution = Attribution(0.0, 1.0, np.full(len(features.names), 0.01), labels)
    shares = shares_of(features, attribution, 2.0, has_labels=True)
    # Its account's, the newest first.
    own = [n for n, payment in enumerate(past) if payment.account_id == now.account_id][::-1]
    contents, past_KF = [content_of(past[n]) for n in own], features_NF[own]
    found = worded_reasons(
        shares, features, content_of(now), contents, features_NF[-1], past_KF, (1, 0), labelled
    )
    return {reason.code: reason for reason in found}


@pytest.mark.parametrize("name", SPECS)
def test_every_feature_has_a_code_that_is_documented(name: str) -> None:
    features = FeatureSet(DatasetSpec.load(name))
    for f in without_identities(features.kinds):
        feature = features.names[f]
        kinds = features.spec.entity_names
        code = code_of(feature, features.spec.categorical_names, kinds)
        named = "attribute_NAME" if code.startswith("attribute_") else code
        for kind in kinds:
            named = re.sub(f"^{kind}(?=_|$)|(?<=account_new_){kind}$", "KIND", named)
        assert f"`{named}`" in DOCUMENT.replace("`merchant_category`", "`KIND_category`"), feature


def test_every_code_there_can_be_is_documented() -> None:
    of_kinds = [f"KIND{of_kind}" for of_kind, *_ in CODES_OF_KIND]
    for code in [*(code for code, *_ in CODES), *of_kinds, "account_new_KIND", LABELS]:
        assert f"| `{code}` |" in DOCUMENT
    assert set(re.findall(r"^\| `(\w+)`", DOCUMENT, re.M)) >= {code for code, *_ in CODES}


def test_no_reason_is_of_an_identity() -> None:
    """Not even of one that had a share."""
    features = FeatureSet(SIMULATED)
    is_identity_F = np.array(features.kinds) == "identity"
    assert is_identity_F.sum() == len(SIMULATED.entity_names)
    attribution = Attribution(0.0, 1.0, is_identity_F.astype(float), 0.0)
    shares = shares_of(features, attribution, 2.0, has_labels=False)
    assert {share.share for share in shares} == {0.0}
    for kind in SIMULATED.entity_names:
        with pytest.raises(ValueError, match=f"{kind}_identity has no code"):
            code_of(f"{kind}_identity", SIMULATED.categorical_names, SIMULATED.entity_names)


def test_a_feature_that_nobody_gave_a_code_is_refused() -> None:
    with pytest.raises(ValueError, match="shoe_size has no code"):
        code_of("shoe_size", ("country",), ("device",))


def test_shares_of_a_code_are_those_of_its_features_and_the_slope_scales_them() -> None:
    features = FeatureSet(DatasetSpec.load("simulated"))
    found = explained(payment(9), payment(1))
    spec = features.spec
    coded = [features.names[f] for f in without_identities(features.kinds)]
    codes = [code_of(payment, spec.categorical_names, spec.entity_names) for payment in coded]
    assert found["amount"].share == pytest.approx(2 * 0.01 * codes.count("amount"))
    assert found[LABELS].share == pytest.approx(1.0)
    total = sum(reason.share for reason in found.values())
    assert total == pytest.approx(2 * (0.01 * len(coded) + 0.5))


def test_what_is_not_known_yet_is_one_reason_each() -> None:
    """Of an account without a past, and of what nobody has used or is not named."""
    features, kinds = FeatureSet(SIMULATED), SIMULATED.entity_names
    of_each = {
        features.names[f]: code_of(features.names[f], SIMULATED.categorical_names, kinds)
        for f in without_identities(features.kinds)
    }
    other = payment(1, device_id="d")._replace(account_id="b")
    found = explained(payment(9, device_id="d", card_fingerprint="c"), other)
    assert found["new_account"].rounded()[1:4] == (
        "this account has no earlier payments",
        0.0,
        None,
    )
    assert found["card"].sentence == "card c; used by no account before"
    assert found["email"].sentence == "no e-mail address named"
    one_account = "1 account used this device before, 0.00391 for the first time lately"
    assert found["device_accounts"].sentence.startswith(one_account)
    for kind in ("card", "ip", "email"):
        assert [code for code in found if code.startswith(kind)] == [kind]
        of_kind = [code for code in of_each.values() if code.startswith(kind)]
        assert found[kind].share == pytest.approx(2 * 0.01 * len(of_kind))
    assert not [code for code in found if code.startswith("account_")]
    of_past = [code for code in of_each.values() if code.startswith("account_")]
    assert found["new_account"].share == pytest.approx(2 * 0.01 * len(of_past))
    total = sum(reason.share for reason in found.values())
    assert total == pytest.approx(2 * (0.01 * len(of_each) + 0.5))
    shares = [reason.share for reason in found.values()]
    assert shares == sorted(shares, reverse=True)
    assert {"account_pace", "card_amount"} < set(
        explained(payment(9, card_fingerprint="c"), payment(8, card_fingerprint="c"))
    )


def test_no_more_than_five_reasons_raise_a_score() -> None:
    shares = [Share(str(n), 3.0 - n) for n in range(9)]
    assert [reason.code for reason in raising(shares)] == ["0", "1", "2"]
    assert (
        len(raising([payment_share._replace(share=1.0) for payment_share in shares]))
        == MOST_REASONS
        == 5
    )


@pytest.mark.parametrize(
    ("now", "code", "sentence"),
    [
        (
            payment(9, "412.00"),
            "amount",
            "amount 412.00 EUR, 5.09 times the median 81.00 EUR of this account's last 2 payments",
        ),
        (
            payment(9, "40.5"),
            "amount",
            "amount 40.50 EUR, 0.5 times the median 81.00 EUR of this account's last 2 payments",
        ),
        (payment(9, country="BR"), "country", "country BR, in 0 of this account's last 2 payments"),
        (
            payment(9, country=None),
            "country",
            "country missing, as in 0 of this account's last 2 payments; DE in 2",
        ),
        (
            payment(9),
            "account_gap",
            "7 days since this account's last earlier payment; the median time between "
            "this account's last 2 payments is 24 hours",
        ),
        (
            payment(9),
            "account_pace",
            "0 payments in the 24 hours before; 0.25 a day on average over this account's last 2 "
            "payments",
        ),
        (
            payment(9),
            "account_spending",
            "average amount 81.00 EUR over 2 payments in the 30 days before, 81.00 EUR over this "
            "account's last 2 payments",
        ),
        (
            payment(9, merchant_id=None),
            "merchant",
            "no merchant named, as in 0 of this account's last 2 payments",
        ),
        (
            payment(9),
            "labels",
            "1 fraud label and 0 legitimate labels move all of this account's scores",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_sentences_are_true(now: Transaction, code: str, sentence: str) -> None:
    assert explained(now, payment(1), payment(2))[code].sentence == sentence


# Newest first, each with whether it is a fraud.
LABELLED = [
    (payment(8, merchant_id="n", merchant_category="toys", country="BR", channel="online"), True),
    (payment(7, merchant_id="n"), False),
    (payment(6, device_id="d"), True),
    (payment(5, device_id="d"), True),
]
GENERAL = "1 fraud label and 0 legitimate labels move all of this account's scores"


def labelled_payments(*rows: tuple[Transaction, bool]) -> LabelledPayments:
    """Labels of payments, each found out ten days after its payment."""
    payments = [payment for payment, _ in rows]
    return LabelledPayments(
        [payment.transaction_id for payment in payments],
        np.array([payment.occurred_at_us + 10 * DAY_US for payment in payments], np.int64),
        np.array([is_fraud for _, is_fraud in rows], np.bool_),
        codes_of(*payments),
    )


@pytest.mark.parametrize(
    ("now", "labels", "sentence", "transaction_id", "in_common"),
    [
        # The newest of the two that are most like it.
        (
            payment(9),
            0.5,
            "like t-6, reported as fraud on 1970-01-17: same merchant, category, channel, country, "
            "currency and type",
            "t-6",
            ["merchant", "merchant_category", "channel", "country", "currency", "type"],
        ),
        (
            payment(9),
            -0.5,
            "like t-7, confirmed as legitimate on 1970-01-18: same category, channel, country, "
            "currency and type",
            "t-7",
            ["merchant_category", "channel", "country", "currency", "type"],
        ),
        (
            payment(9, "1", merchant_id="k", device_id="d", country="US", currency="USD"),
            0.5,
            "like t-6, reported as fraud on 1970-01-17: same device, category, channel and type",
            "t-6",
            ["device", "merchant_category", "channel", "type"],
        ),
        # Four fields of ten and no entity are too few.
        (payment(9, merchant_id="k", country="US"), -0.5, GENERAL, None, None),
        # Labels that hardly move a score are leant on by none.
        (payment(9), 0.004, GENERAL, None, None),
        (payment(9), -0.004, GENERAL, None, None),
        (payment(9), 0.0, GENERAL, None, None),
    ],
)
def test_a_reason_about_labels_names_the_payment_of_their_direction_that_is_most_alike(
    now: Transaction,
    labels: float,
    sentence: str,
    transaction_id: str | None,
    in_common: list[str] | None,
) -> None:
    reason = explained(now, labels=labels, labelled=labelled_payments(*LABELLED))[LABELS]
    assert reason.sentence == sentence
    assert (reason.observed, reason.usual) == ("1+0", None)
    answered = reason.answered().get("labelled_payment")
    if transaction_id is None:
        assert answered is None
        return
    day = 10 + int(transaction_id.removeprefix("t-"))
    assert answered == {
        "transaction_id": transaction_id,
        "label": "fraud" if labels > 0 else "legitimate",
        "labelled_at": f"1970-01-{day + 1}T00:00:00.000000Z",
        "in_common": in_common,
    }


def test_no_payment_of_the_other_class_is_named() -> None:
    frauds = [effect for effect in LABELLED if effect[1]]
    reason = explained(payment(9), labels=-0.5, labelled=labelled_payments(*frauds))[LABELS]
    assert reason.sentence == GENERAL
    assert "labelled_payment" not in reason.answered()


def test_no_other_reason_names_a_labelled_payment() -> None:
    found = explained(payment(9), payment(1), labelled=labelled_payments(*LABELLED))
    named = {code for code, reason in found.items() if "labelled_payment" in reason.answered()}
    assert named == {LABELS}


def at(second: float, n: int = 0, **changes: object) -> Transaction:
    """A payment so many seconds after the ninth day began."""
    return payment(9, **changes)._replace(  # type: ignore[arg-type]
        transaction_id=f"s-{n}-{second}", occurred_at_us=9 * DAY_US + round(second * 1e6)
    )


@pytest.mark.parametrize(
    ("now", "past", "code", "sentence", "observed"),
    [
        (
            at(9, device_id="d"),
            [payment(1, device_id="c"), payment(2, device_id="d"), payment(8)],
            "device",
            "device d, in 1 of this account's last 3 payments; first used by this account 7 days "
            "before",
            "d",
        ),
        (
            at(9, ip_address="10.0.0.1"),
            [payment(1, ip_address="10.0.0.2"), payment(2)],
            "ip",
            "IP address 10.0.0.1; used by no account before",
            "10.0.0.1",
        ),
        (
            at(9, ip_address="10.0.0.1"),
            [payment(1)._replace(account_id="b", ip_address="10.0.0.1"), payment(2)],
            "ip",
            "IP address 10.0.0.1, in 0 of this account's last 1 payment; never used by this "
            "account before",
            "10.0.0.1",
        ),
        (
            at(9),
            [payment(1, email="a@b.c"), payment(2)],
            "email",
            "no e-mail address named, as in 1 of this account's last 2 payments",
            None,
        ),
        (
            at(9, card_fingerprint="c"),
            [payment(1, card_fingerprint="c"), payment(2, card_fingerprint="d")],
            "card_accounts",
            "1 account used this card before, 0.00391 for the first time lately; the median of the "
            "cards of this account's last 2 payments was 0 (a first time counts half for every 24 "
            "hours of age)",
            1.0,
        ),
        (
            at(9, device_id="e"),
            [
                *(payment(1, device_id="b"), at(0, device_id="b"), at(0, 1, device_id="c")),
                *(at(1, device_id="d"), at(2, device_id="d")),
            ],
            "account_new_device",
            "2 devices first used by this account in the 24 hours before",
            2.0,
        ),
        (
            at(3700),
            [payment(1), at(0, 1), at(0, 2), at(3500)],
            "account_burst",
            "1 attempt in the hour before, 1 of them in the last 5 minutes; the median before this "
            "account's last 4 payments is 0",
            1.0,
        ),
        (
            at(9),
            [payment(8, status="declined"), payment(7, status="declined"), payment(6)],
            "account_refused",
            "0.75 attempts of this account declined or held up lately (an attempt counts half for "
            "every 24 hours of age)",
            0.75,
        ),
        (
            at(9),
            [payment(8)],
            "account_refused",
            "no attempt of this account was declined or held up lately",
            0.0,
        ),
        (
            at(9, country="BR"),
            [at(0, country="BR"), at(1, country="DE"), at(2, country="US")],
            "country",
            "country BR, in 1 of this account's last 3 payments; 3 values in the hour before",
            "BR",
        ),
        (
            at(9, type="transfer"),
            [payment(1), payment(2, type="withdrawal")],
            "type",
            "type transfer, in 0 of this account's last 2 payments",
            "transfer",
        ),
        # What came back is no payment, and nobody's usual amount.
        (
            at(9),
            [payment(1, "1000.00", type="refund"), payment(2)],
            "amount",
            "amount 81.00 EUR, 1 times the median 81.00 EUR of this account's last 1 payment",
            81.0,
        ),
        (
            at(9, device_id="d"),
            [at(0, device_id="d")],
            "device_activity",
            "0.998 payments from this device lately, the last 9 seconds before; 0.0231 a day over "
            "longer, 0 from the devices of this account's last 1 payment (a payment counts half "
            "for every hour of age, over longer for every 30 days)",
            0.0231,
        ),
        # What is left after hundreds of half-lives is nothing that a number says.
        (
            at(9, device_id="d"),
            [payment(-900, device_id="d")],
            "device_activity",
            "0 payments from this device lately, the last at least 365 days before; less than "
            "0.001 a day over longer, 0 from the devices of this account's last 1 payment (a "
            "payment counts half for every hour of age, over longer for every 30 days)",
            2**-30.3 * 0.0231,
        ),
        (
            at(9, card_fingerprint="c"),
            [payment(-10, card_fingerprint="c"), payment(-9)],
            "card_accounts",
            "1 account used this card before, less than 0.001 for the first time lately; the "
            "median of the cards of this account's last 1 payment that name one was 0 (a first "
            "time counts half for every 24 hours of age)",
            1.0,
        ),
        (
            at(9, card_fingerprint="c"),
            [payment(-10, card_fingerprint="c")],
            "card_fraud",
            "no confirmed fraud with this card lately; of the cards of this account's last 1 "
            "payment, frauds were 0 % on average (a label counts half for every 30 days of age)",
            0.0,
        ),
        (
            at(9),
            [payment(-5, status="declined")],
            "account_refused",
            "less than 0.001 attempts of this account declined or held up lately (an attempt "
            "counts half for every 24 hours of age)",
            2**-14.0,
        ),
    ],
)
def test_sentences_about_entities_and_attempts_are_true(
    now: Transaction,
    past: list[Transaction],
    code: str,
    sentence: str,
    observed: str | float | None,
) -> None:
    decided = [
        payment if payment.status else payment._replace(status="authorised") for payment in past
    ]
    reason = explained(now, *decided)[code]
    assert reason.sentence == sentence
    if isinstance(observed, float):
        assert reason.observed == pytest.approx(observed, rel=2e-3)
    else:
        assert reason.observed == observed


def test_counts_beyond_the_kept_past_are_at_least() -> None:
    past = [at(n, device_id=f"d-{n}")._replace(status="authorised") for n in range(PAST)]
    reasons = explained(at(PAST), *past)
    for code, counted in (
        ("account_burst", "at least 32 attempts in the hour before, 32 of them in the last 5 min"),
        ("account_new_device", "at least 32 devices first used"),
        ("account_pace", "at least 32 payments in the 24 hours before"),
    ):
        assert reasons[code].sentence.startswith(counted)
    # One of them is a refund, and there may still be more than are at hand.
    past[0] = past[0]._replace(type="refund")
    assert explained(at(PAST), *past)["account_pace"].sentence.startswith("at least 31 payments")


@pytest.mark.parametrize(
    ("now", "past", "code", "sentence", "observed", "usual"),
    [
        (
            ("5000", "JPY"),
            [("10", "EUR"), ("20", "EUR"), ("50", "USD")],
            "amount",
            "amount 5,000 JPY (30.00 EUR), 1.5 times the median 20.00 EUR of this account's last "
            "3 payments, at the model's rates",
            30.0,
            20.0,
        ),
        (
            ("5000", "JPY"),
            [("10", "EUR"), ("1000", "JPY"), ("1", "KWD")],
            "amount",
            "amount 5,000 JPY (30.00 EUR), 3.75 times the median 8.00 EUR of this account's last "
            "2 payments in a currency with a rate, at the model's rates",
            30.0,
            8.0,
        ),
        (
            ("5000", "JPY"),
            [("10", "EUR"), ("1000", "JPY"), ("1001", "JPY"), ("1003", "JPY")],
            "amount",
            "amount 5,000 JPY, 5 times the median 1,001 JPY of this account's last 3 payments in "
            "JPY",
            5000.0,
            1001.0,
        ),
        (
            ("12.5", "KWD"),
            [("10", "EUR"), ("1000", "JPY")],
            "amount",
            "amount 12.500 KWD; none of this account's last 2 payments was in KWD",
            12.5,
            None,
        ),
        (
            ("12.5", "KWD"),
            [("10", "EUR"), ("2", "KWD"), ("3", "KWD")],
            "amount",
            "amount 12.500 KWD, 5 times the median 2.500 KWD of this account's last 2 payments in "
            "KWD",
            12.5,
            2.5,
        ),
        (
            ("5000", "JPY"),
            [("10", "EUR"), ("1000", "JPY")],
            "account_spending",
            "average amount 8.00 EUR over 2 payments in the 30 days before, 8.00 EUR over this "
            "account's last 2 payments, at the model's rates",
            8.0,
            8.0,
        ),
        (
            ("5000", "JPY"),
            [("40", "EUR"), ("40", "EUR")],
            "merchant_amount",
            "amount 5,000 JPY (30.00 EUR); typical at this merchant: about 40.00 EUR (a geometric "
            "mean in which a payment counts half for every 30 days of age, at the model's rates)",
            30.0,
            40.0,
        ),
        (
            ("5000", "JPY"),
            [("40", "KWD"), ("40", "KWD")],
            "merchant_amount",
            "amount 5,000 JPY (30.00 EUR); too few recent amounts at this merchant to compare with",
            30.0,
            None,
        ),
        (
            ("12.5", "KWD"),
            [("40", "EUR"), ("40", "EUR")],
            "merchant_amount",
            "amount 12.500 KWD; KWD has no rate to compare amounts by",
            12.5,
            None,
        ),
    ],
)
def test_amounts_are_compared_in_one_currency(
    now: tuple[str, str],
    past: list[tuple[str, str]],
    code: str,
    sentence: str,
    observed: float,
    usual: float | None,
) -> None:
    before = [payment(n, amount, currency=of) for n, (amount, of) in enumerate(past)]
    reason = explained(payment(9, now[0], currency=now[1]), *before, rates=RATES)[code].rounded()
    assert reason.sentence == sentence
    assert reason.observed == pytest.approx(observed)
    assert reason.usual == (None if usual is None else pytest.approx(usual))


def test_a_model_without_rates_compares_no_amounts_at_merchants_unless_all_are_in_one() -> None:
    now, past = payment(9, "5000", currency="JPY"), [payment(1), payment(2)]
    reason = explained(now, *past)["merchant_amount"]
    assert reason.sentence == (
        "amount 5,000 JPY; this model has no rates, so amounts at this merchant are not compared"
    )
    assert reason.usual is None
    reason = explained(payment(9), *past, spec=DatasetSpec.load("handbook"))["merchant_amount"]
    assert reason.sentence.startswith(
        "amount 81.00 EUR; typical at this merchant: about 81.00 EUR (a geometric mean"
    )


CURRENCIES, MERCHANTS, PLACES = ("EUR", "USD", "JPY", "KWD"), ("m", "n", None), ("DE", "BR", None)
HOUR_US = 3_600_000_000
MINOR_UNITS = {"EUR": 2, "USD": 2, "JPY": 0, "KWD": 3}


@st.composite
def histories(draw: st.DrawFn) -> list[Transaction]:
    """Payments of an account in the order of time, some at one instant; the last is explained."""
    dense = draw(st.booleans())
    at_us, found = 1_700_000_000_000_000, []
    for n in range(draw(st.integers(1, 45))):
        at_us += draw(st.sampled_from([0, 1, HOUR_US, DAY_US if dense else 9 * DAY_US]))
        attributes = draw(st.sampled_from([{}, {"device_age_days": 3}, {"device_age_days": "4.5"}]))
        amount = Decimal(draw(st.integers(0, 10**7))) / draw(st.sampled_from([1, 100]))
        found.append(
            Transaction(
                *(f"t-{n:02}", "a", at_us, amount, draw(st.sampled_from(CURRENCIES))),
                merchant_id=draw(st.sampled_from(MERCHANTS)),
                country=draw(st.sampled_from(PLACES)),
                attributes=attributes,
            )
        )
    return found


def is_amount(text: str, currency: str, exact: float) -> bool:
    """Whether an amount is written to the last minor unit of its currency, and is this one."""
    decimals = MINOR_UNITS[currency]
    number = Decimal(text.replace(",", ""))
    is_near = abs(float(number) - exact) <= 0.5 * 10**-decimals * (1 + 1e-6)
    return is_near and text == f"{number:,.{decimals}f}"


def is_about(figure: str, exact: float) -> bool:
    """Whether a figure is a number to three digits."""
    return float(figure) == pytest.approx(exact, rel=6e-3, abs=1e-9)


def seconds(duration: str) -> float:
    number, unit = duration.split()
    of_unit = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
    return float(number) * of_unit[unit.removesuffix("s")]


class Story:
    """A payment, those before it, and what its reasons say."""

    def __init__(self, payments: list[Transaction], rates: Rates | None) -> None:
        self.now, self.rates = payments[-1], rates
        earlier = [
            payment for payment in payments if payment.occurred_at_us < self.now.occurred_at_us
        ]
        # All of them, and those that the reasons are made from.
        self.before = sorted(
            earlier,
            key=lambda payment: (payment.occurred_at_us, payment.transaction_id),
            reverse=True,
        )
        self.past = self.before[:PAST]
        self.reasons = explained(self.now, *self.past[::-1], rates=rates)
        self.last = f"this account's last {len(self.past)} payment{'s' * (len(self.past) != 1)}"

    def match(self, code: str, pattern: str) -> re.Match[str]:
        found = re.fullmatch(pattern, self.reasons[code].sentence)
        assert found, (code, pattern, self.reasons[code].sentence)
        return found

    def converted(self, payment: Transaction) -> float | None:
        rate = self.rates.per_unit.get(payment.currency) if self.rates else None
        return None if rate is None else float(payment.amount) * rate

    def age_us(self, payment: Transaction) -> int:
        return self.now.occurred_at_us - payment.occurred_at_us


# Beyond the payments at hand there are more, which a count must not leave out.
@given(histories(), st.sampled_from([RATES, None]))
@settings(max_examples=150)
def test_every_sentence_is_true_of_the_payments_as_they_are(
    payments: list[Transaction], rates: Rates | None
) -> None:
    story = Story(payments, rates)
    for reason in story.reasons.values():
        # Amounts are written to minor units; whatever else is worked out, with three digits.
        computed = re.sub(r"[\d.,]+ [A-Z]{3}\b|\d\d:\d\d", "", reason.sentence)
        for figure in re.findall(r"\d[\d.]*", computed):
            assert len(figure.replace(".", "").strip("0")) <= 3, reason.sentence
    merchant, of_merchants = story.now.merchant_id, []
    if merchant is None:
        assert story.reasons["merchant"].sentence.startswith("no merchant named")
    elif all(payment.merchant_id != merchant for payment in story.past):
        expected = f"merchant {merchant}; used by no account before"
        assert story.reasons["merchant"].sentence == expected
    else:
        of_merchants = [f"merchant{of_kind}" for of_kind, *_ in CODES_OF_KIND if of_kind]
    assert {code for code in story.reasons if code.startswith("merchant_")} == {
        "merchant_category",
        *of_merchants,
    }
    for code in of_merchants:
        # What is known of merchants as decayed sums is worded as that.
        said_to_be: tuple[str, ...] = ("recent payments", "recent amounts", "counts half for every")
        if code == "merchant_amount":
            said_to_be += ("has no rate", "this model has no rates")
        sentence = story.reasons[code].sentence
        assert any(words in sentence for words in said_to_be), sentence
    if not story.past:
        for code in ("amount", "new_account", "hour", "weekend"):
            assert "this account has no earlier payments" in story.reasons[code].sentence
        return
    for check in (amounts, times, clocks, places, attributes_of):
        check(story)


def amounts(story: Story) -> None:
    now, last = story.now, story.last
    posted = rf"amount ([\d.,]+) {now.currency}"
    found = story.match("amount", rf"{posted}\b.*")
    assert Decimal(found[1].replace(",", "")) == now.amount
    decimals = found[1].partition(".")[2]
    assert len(decimals) == MINOR_UNITS[now.currency] or not decimals.endswith("0")
    assert len(decimals) >= MINOR_UNITS[now.currency]
    # In its own currency, or, where few are in it, in the reference currency, if that has more.
    compared = [
        (payment, float(payment.amount))
        for payment in story.before
        if payment.currency == now.currency
    ]
    currency, amount, how = now.currency, float(now.amount), ""
    few = sum(payment.currency == now.currency for payment in story.past) < 3
    converted = [
        (payment, value)
        for payment in story.before
        if (value := story.converted(payment)) is not None
    ]
    others = sum(
        payment.currency != now.currency and story.converted(payment) is not None
        for payment in story.past
    )
    if few and others and (value := story.converted(now)) is not None:
        compared, currency, amount, how = converted, "EUR", value, ", at the model's rates"
    at_hand = [value for payment, value in compared if payment in story.past]
    if not at_hand:
        story.match("amount", rf".*; none of {last} was in {now.currency}")
        story.match("account_spending", rf"none of {last} was in {now.currency}")
        return
    which = rf"payments?(?: in (?:{currency}|a currency with a rate))?"
    subject = rf"{currency} of this account's last (\d+) {which}{how}"
    own = posted if currency == now.currency else rf"{posted} \(([\d.,]+) EUR\)"
    if currency != now.currency:
        assert is_amount(story.match("amount", rf"{own}.*")[2], currency, amount)
    against = r"(?:(?P<times>[\d.e+-]+) times|against) the median (?P<usual>[\d.,]+)"
    found = story.match("amount", rf"{own}, {against} {subject}")
    assert int(found[found.re.groups]) == len(at_hand)
    usual = statistics.median(at_hand)
    assert is_amount(found["usual"], currency, usual)
    assert is_about(found["times"], amount / usual) if usual else found["times"] is None
    assert story.reasons["amount"].observed == pytest.approx(amount)
    assert story.reasons["amount"].usual == pytest.approx(usual)
    whole = rf".*?([\d.,]+) {currency} over this account's last (\d+) {which}{how}"
    found = story.match("account_spending", whole)
    assert int(found[2]) == len(at_hand)
    assert is_amount(found[1], currency, statistics.fmean(at_hand))
    month = [value for payment, value in compared if story.age_us(payment) <= 30 * DAY_US]
    sentence = story.reasons["account_spending"].sentence
    if sentence.startswith("no payments"):
        assert month == []
    elif "30 days" in sentence:
        lately = rf"{currency} over (\d+) {which} in the 30 days before,.*"
        over = rf"average amount ([\d.,]+) {lately}"
        found = story.match("account_spending", over)
        assert int(found[2]) == len(month)
        assert is_amount(found[1], currency, statistics.fmean(month))


def times(story: Story) -> None:
    lately = sum(story.age_us(payment) <= DAY_US for payment in story.before)
    found = story.match("account_pace", r"(at least )?(\d+) payments? in the 24 hours before(;.*)?")
    assert int(found[2]) == (min(lately, PAST) if found[1] else lately)
    if found[3]:
        found = story.match("account_pace", rf".*; ([\d.]+) a day on average over {story.last}")
        assert is_about(found[1], len(story.past) / (story.age_us(story.past[-1]) / DAY_US))
    since = r"(\S+ \w+) since this account's last earlier payment(;.*)?"
    found = story.match("account_gap", since)
    assert seconds(found[1]) == pytest.approx(story.age_us(story.past[0]) / 1e6, rel=6e-3)
    if len(story.past) > 1:
        found = story.match("account_gap", rf".*; the median time between {story.last} is (.*)")
        ages = [story.age_us(payment) / 1e6 for payment in story.past]
        gaps = [older - newer for newer, older in itertools.pairwise(ages)]
        assert seconds(found[1]) == pytest.approx(statistics.median(gaps), rel=6e-3, abs=1e-6)


def clocks(story: Story) -> None:
    near = 0
    for payment in story.past:
        apart = story.age_us(payment) % DAY_US
        near += min(apart, DAY_US - apart) <= 2 * HOUR_US
    came = rf"{near} of {story.last} came within 2 hours of that time of day"
    story.match("hour", rf"at \d\d:\d\d UTC; {came}")
    weekend, *weekends = [
        datetime.fromtimestamp(payment.occurred_at_us // 10**6, UTC).weekday() >= 5
        for payment in (story.now, *story.past)
    ]
    day, same = "weekend" if weekend else "weekday", weekends.count(weekend)
    story.match("weekend", rf"on a {day} \(UTC\), as {same} of {story.last}")


def places(story: Story) -> None:
    merchants = [payment.merchant_id for payment in story.past]
    merchant = story.now.merchant_id
    # Where nobody has used it, that is all there is to say of it.
    if merchant is not None and (count := merchants.count(merchant)):
        since = r"first used by this account (.*) before"
        found = story.match(
            "merchant", rf"merchant {merchant}, in {count} of {story.last}; {since}"
        )
        # What came before those that are at hand was not remembered here.
        oldest = max(
            story.age_us(payment) for payment in story.past if payment.merchant_id == merchant
        )
        assert seconds(found[1]) == pytest.approx(oldest / 1e6, rel=6e-3)
    countries = [payment.country for payment in story.past]
    if (country := story.now.country) is not None:
        counted = rf"country {country}, in {countries.count(country)} of {story.last}"
        found = story.match(
            "country", rf"{counted}(?:; (?:at least )?(\d+) values in the hour before)?"
        )
        hour = [payment.country for payment in story.past if story.age_us(payment) <= HOUR_US]
        values = len(set(hour) - {None})
        assert found[1] == (str(values) if values > 1 else None)
        return
    missing = rf"country missing, as in {countries.count(None)} of {story.last}"
    found = story.match("country", rf"{missing}(?:; (\w+) in (\d+))?")
    present = [country for country in countries if country is not None]
    assert (
        int(found[2] or 0) == present.count(found[1]) == max(map(present.count, present), default=0)
    )


def attributes_of(story: Story) -> None:
    code = "attribute_device_age_days"
    ages = [payment.attributes.get("device_age_days") for payment in story.past]
    present = [float(age) for age in ages if age is not None]
    age = story.now.attributes.get("device_age_days")
    if age is None:
        missing = len(ages) - len(present)
        story.match(code, rf"device_age_days missing, as in {missing} of {story.last}")
    elif present:
        median = r"the median ([\d.]+) of this account's last (\d+) payments?(?: that have it)?"
        found = story.match(code, rf"device_age_days ([\d.]+), against {median}")
        assert (float(found[1]), int(found[3])) == (float(age), len(present))
        assert is_about(found[2], statistics.median(present))


def test_numbers_of_any_size_are_written() -> None:
    sizes = (1e308, -1e308, 1e-308, 0.1 + 0.2, 123456789.0)
    past = [payment(n, attributes={"device_age_days": size}) for n, size in enumerate(sizes)]
    for size in sizes:
        for reason in explained(payment(9, attributes={"device_age_days": size}), *past).values():
            assert not re.search(r"\b(inf|nan)\b|[^ ]{40}", reason.sentence), reason.sentence

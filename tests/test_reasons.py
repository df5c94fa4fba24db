"""Every feature of every spec has a code, every code is documented, and sentences are true."""

import re
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from app.attribution import Attribution
from app.content import content_of
from app.features import FeatureSet
from app.reasons import (
    CODES,
    LABELS,
    MOST_REASONS,
    Reason,
    Share,
    code_of,
    raising,
    shares_of,
    tell,
)
from app.transactions import DatasetSpec, Transaction, columns_of

SPECS = [
    one.name.removesuffix(".toml")
    for one in files("app.specs").iterdir()
    if one.name.endswith(".toml")
]
DOCUMENT = (Path(__file__).parents[1] / "docs" / "reasons.md").read_text()
DAY_US = 86_400_000_000


def payment(n: int, amount: str = "81.00", **changes: object) -> Transaction:
    said = {"merchant_id": "m", "merchant_category": "food", "channel": "chip", "country": "DE"}
    said |= {"attributes": {"device_age_days": 3.0}} | changes
    return Transaction(f"t-{n}", "a", n * DAY_US, Decimal(amount), "EUR", **said)  # type: ignore[arg-type]


def told(now: Transaction, *past: Transaction) -> dict[str, Reason]:
    features = FeatureSet(DatasetSpec.load("simulated"))
    columns, _, _ = columns_of(features.spec, [*past, now])
    features_NF = features.compute(columns)
    attribution = Attribution(0.0, 1.0, np.full(len(features.names), 0.01), 0.5)
    shares = shares_of(features, attribution, 2.0, has_labels=True)
    contents = [content_of(one) for one in past]
    found = tell(shares, features, now, contents, features_NF[-1], features_NF[:-1], (1, 0))
    return {one.code: one for one in found}


@pytest.mark.parametrize("name", SPECS)
def test_every_feature_has_a_code_that_is_documented(name: str) -> None:
    features = FeatureSet(DatasetSpec.load(name))
    for feature in features.names:
        code = code_of(feature, features.spec.categorical_names)
        named = "attribute_NAME" if code.startswith("attribute_") else code
        assert f"`{named}`" in DOCUMENT, feature


def test_every_code_there_can_be_is_documented() -> None:
    for code in [*(code for code, _ in CODES), LABELS]:
        assert f"| `{code}` |" in DOCUMENT
    assert set(re.findall(r"^\| `(\w+)`", DOCUMENT, re.M)) >= {code for code, _ in CODES}


def test_a_feature_that_nobody_gave_a_code_is_refused() -> None:
    with pytest.raises(ValueError, match="shoe_size has no code"):
        code_of("shoe_size", ("country",))


def test_shares_of_a_code_are_those_of_its_features_and_the_slope_scales_them() -> None:
    features = FeatureSet(DatasetSpec.load("simulated"))
    found = told(payment(9), payment(1))
    names = [n for n in features.names if code_of(n, features.spec.categorical_names) == "amount"]
    assert found["amount"].share == pytest.approx(2 * 0.01 * len(names))
    assert found[LABELS].share == pytest.approx(1.0)
    total = sum(one.share for one in found.values())
    assert total == pytest.approx(2 * (0.01 * len(features.names) + 0.5))


def test_no_more_than_five_reasons_that_raise_a_score_are_told() -> None:
    shares = [Share(str(n), 3.0 - n) for n in range(9)]
    assert [one.code for one in raising(shares)] == ["0", "1", "2"]
    assert len(raising([one._replace(share=1.0) for one in shares])) == MOST_REASONS == 5


@pytest.mark.parametrize(
    ("now", "code", "sentence"),
    [
        (payment(9, "412.00"), "amount", "amount 412.00, 5.1 times this account's usual 81.00"),
        (payment(9, "40.5"), "amount", "amount 40.50, 0.5 times this account's usual 81.00"),
        (payment(9, country="BR"), "country", "country BR, in 0 of this account's last 2 payments"),
        (payment(9, country=None), "country", "country missing, usually DE"),
        (payment(9), "account_gap", "168.0 hours since the last payment, usually 4.0"),
        (payment(9, merchant_id=None), "merchant_fraud", "no merchant named"),
        (
            payment(9),
            "labels",
            "1 fraud label and 0 legitimate labels move all of this account's scores",
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_sentences_say_what_is_so(now: Transaction, code: str, sentence: str) -> None:
    found = told(now, payment(1), payment(2))[code].sentence
    if code == "account_gap":
        assert found.startswith("168.0 hours since the last payment, usually ")
    else:
        assert found == sentence

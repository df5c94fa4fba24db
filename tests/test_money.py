"""Amounts in one currency: where rates come from, what they change, and how amounts are written."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from iso4217 import Currency

from app.errors import SetupError
from app.learner.checkpoint import Checkpoint
from app.learner.columns import columns_of
from app.learner.features import FeatureSet, check_same_features
from app.learner.money import Rates, amount_of, posted_amount
from app.learner.spec import DatasetSpec
from app.learner.transaction import Transaction
from app.training.dataset import read_transactions
from app.training.files import DataError
from app.training.rates import rates_for
from tests.checkpoints import tiny_checkpoint

RATES = Rates(reference="EUR", per_unit={"JPY": 0.006, "USD": 0.9})
HANDBOOK, SIMULATED = DatasetSpec.load("handbook"), DatasetSpec.load("simulated")
SPEC = HANDBOOK.model_copy(
    update={
        "columns": HANDBOOK.columns.model_copy(
            update={"currency": "currency", "label": None, "fraud_kind": None}
        )
    }
)
AMOUNTS = [("5000", "JPY"), ("30", "EUR"), ("0.1", "USD"), ("7", "KWD"), ("1", None)]


@pytest.mark.parametrize(
    ("amount", "currency", "posted", "computed"),
    [
        ("412", "EUR", "412.00 EUR", "412.00 EUR"),
        ("1234567.891", "EUR", "1,234,567.891 EUR", "1,234,567.89 EUR"),
        ("5000", "JPY", "5,000 JPY", "5,000 JPY"),
        ("4999.5", "JPY", "4,999.5 JPY", "5,000 JPY"),
        ("1.5", "KWD", "1.500 KWD", "1.500 KWD"),
        ("0", "KWD", "0.000 KWD", "0.000 KWD"),
        # No currency of ISO 4217, and gold, which has no minor unit.
        ("0.00012345", "BTC", "0.00012345 BTC", "0.000123 BTC"),
        ("2", "XAU", "2.00 XAU", "2.00 XAU"),
        ("0", "BTC", "0.00 BTC", "0.00 BTC"),
        ("12.3", None, "12.30", "12.30"),
    ],
)
def test_an_amount_has_the_minor_units_of_its_currency(
    amount: str, currency: str | None, posted: str, computed: str
) -> None:
    assert posted_amount(Decimal(amount), currency) == posted
    assert amount_of(float(amount), currency) == computed


def transactions() -> list[Transaction]:
    return [
        Transaction(f"t-{n}", "a", n, Decimal(amount), currency or "XXX", "m")
        for n, (amount, currency) in enumerate(AMOUNTS)
    ]


def written(folder: Path, rows: int = len(AMOUNTS)) -> Path:
    path = folder / "paid.parquet"
    part = AMOUNTS[-rows:]
    frame = pl.DataFrame(
        {
            "transaction_id": [f"t-{n}" for n in range(rows)],
            "account_id": "a",
            "merchant_id": "m",
            "timestamp": range(rows),
            "amount": [float(amount) for amount, _ in part],
            "currency": pl.Series([currency for _, currency in part], dtype=pl.String),
        }
    )
    frame.write_parquet(path)
    return path


def test_amounts_of_a_file_and_of_the_api_are_in_the_reference_currency(tmp_path: Path) -> None:
    columns, _ = columns_of(SPEC, transactions(), RATES)
    data = read_transactions(written(tmp_path), SPEC, RATES)
    np.testing.assert_allclose(columns.amount_N, [30, 30, 0.09, np.nan, np.nan])
    np.testing.assert_array_equal(data.columns.amount_N, columns.amount_N)
    assert data.without_rate == {"KWD": 1, "no currency": 1}


def test_without_rates_amounts_are_as_they_are(tmp_path: Path) -> None:
    for spec in (SPEC, HANDBOOK.model_copy(update={"columns": SPEC.columns})):
        columns, _ = columns_of(spec, transactions())
        assert columns.amount_N.tolist() == [5000, 30, 0.1, 7, 1]
        data = read_transactions(written(tmp_path), spec)
        assert data.columns.amount_N.tolist() == [5000, 30, 0.1, 7, 1]
        assert data.without_rate == {}


def test_a_file_without_a_single_rate_or_without_currencies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'"currency": no rate of .*KWD.*: state the rates'):
        read_transactions(written(tmp_path, rows=2), SPEC, RATES)
    plain = HANDBOOK.model_copy(
        update={"columns": SPEC.columns.model_copy(update={"currency": None})}
    )
    with pytest.raises(DataError, match="names no column of currencies"):
        read_transactions(written(tmp_path), plain, RATES)


def test_amounts_at_other_rates_are_other_features() -> None:
    plain, now = FeatureSet(SIMULATED), FeatureSet(SIMULATED, RATES)
    later = FeatureSet(SIMULATED, RATES.model_copy(update={"per_unit": {"EUR": 1.0, "JPY": 0.007}}))
    dated = Rates(reference="EUR", per_unit=RATES.per_unit, as_of="2026-01-01")
    assert len({plain.digest, now.digest, later.digest}) == 3
    assert FeatureSet(SIMULATED, dated).digest == now.digest
    assert plain.names == now.names


def test_a_spec_without_currencies_does_not_fit_a_model_that_has_rates() -> None:
    check_same_features(HANDBOOK, FeatureSet(SPEC), "m")
    with pytest.raises(ValueError, match=r"\[columns\] lacks currency"):
        check_same_features(HANDBOOK, FeatureSet(SPEC, RATES), "m")


def test_a_checkpoint_carries_its_rates(tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(tiny_checkpoint(tmp_path / "own", rates=RATES))
    assert checkpoint.metadata.rates == checkpoint.features.rates == RATES
    plain = Checkpoint.load(tiny_checkpoint(tmp_path / "plain"))
    assert plain.features.rates is None
    # What another model was trained by is kept, so that its database stays of use.
    assert rates_for(SIMULATED, tmp_path / "own") == RATES
    with pytest.raises(SetupError, match="it has no rates to keep"):
        rates_for(SIMULATED, tmp_path / "plain")


def test_rates_come_along_unless_a_file_states_them(tmp_path: Path) -> None:
    rates = rates_for(SIMULATED, None)
    assert rates is not None
    assert rates.as_of is not None
    assert rates.reference == "EUR"
    assert rates.per_unit["EUR"] == 1
    # Far from where they are, these would be units of the currency per euro.
    assert 0.4 < rates.per_unit["USD"] < 2.5
    assert rates.per_unit["JPY"] < 0.02
    # Not of the bank: two that are fixed to the euro, and every other that is some country's money.
    assert rates.per_unit["XAF"] == pytest.approx(1 / 655.957, rel=1e-3)
    assert rates.per_unit["BAM"] == pytest.approx(1 / 1.95583, rel=1e-3)
    no_money = {"XAD", "XAG", "XAU", "XDR", "XPD", "XPT", "XSU", "XTS", "XUA", "XXX"}
    funds = {"BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW"}
    lacking = {currency.name for currency in Currency} - rates.per_unit.keys()
    assert {code for code in lacking if not code.startswith("XB")} <= no_money | funds
    assert rates_for(HANDBOOK, None) is None
    path = tmp_path / "rates.toml"
    path.write_text('reference = "USD"\nas_of = 2026-06-30\n[per_unit]\nKWD = 3.25\n')
    stated = rates_for(SIMULATED, path)
    assert stated is not None
    assert (stated.per_unit, str(stated.as_of)) == ({"KWD": 3.25, "USD": 1.0}, "2026-06-30")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("reference = 3", "reference: "),
        ('reference = "USD"', "per_unit: "),
        ('reference = "USD"\n[per_unit]\nUSD = 2', "its rate is 1"),
        ('reference = "USD"\n[per_unit]\nEUR = 0', "per_unit.EUR: "),
        ('reference = "USD"\n[per_unit]\nEUR = nan', "per_unit.EUR: "),
        ('reference = "USD"\n[per_unit]\neuro = 1.1', "per_unit.euro"),
        ("reference", "Expected '='"),
        (None, "No such file"),
    ],
)
def test_rates_that_cannot_be_read_are_refused_in_a_sentence(
    tmp_path: Path, text: str | None, problem: str
) -> None:
    path = tmp_path / "rates.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SetupError) as caught:
        rates_for(SIMULATED, path)
    assert str(caught.value).startswith(f"rates {path}: ")
    assert problem in str(caught.value)


def test_rates_without_a_column_of_currencies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="names no column of currencies"):
        rates_for(HANDBOOK, tmp_path / "rates.toml")

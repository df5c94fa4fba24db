"""One gate: what the API takes, files to train on and to import may hold, and nothing else."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from app.history.reading import History
from app.learner.columns import columns_of
from app.learner.spec import DatasetSpec
from app.learner.transaction import Transaction
from app.learner.validity import amount_of
from app.scoring.schemas import PostedTransaction
from app.times import EPOCH, now_us, text_of
from app.training.dataset import read_transactions
from app.training.files import DataError
from app.training.gate import as_amounts
from app.training.table import Table
from tests.api.requests import posted

# The names of columns are those of the fields.
SPEC = DatasetSpec.model_validate(
    {
        "name": "fields",
        "columns": {
            "transaction": "transaction_id",
            "account": "account_id",
            "time": "occurred_at",
            "amount": "amount",
            "currency": "currency",
            "type": "type",
            "status": "status",
        },
        "entities": {
            "merchant": "merchant_id",
            "device": "device_id",
            "ip": "ip_address",
            "card": "card_fingerprint",
            "email": "email",
            "wallet": "wallet",
        },
        "categorical": {name: name for name in ("merchant_category", "channel", "country", "plan")},
        "numeric": {"age": "age"},
    }
)
IDS = ("transaction_id", "account_id", "merchant_id", "device_id", "card_fingerprint", "wallet")
TEXTS = (*IDS, "merchant_category", "channel", "country")
TODAY = text_of(now_us())
VALUES: dict[tuple[str, ...], tuple[tuple[Any, bool], ...]] = {
    TEXTS: (
        *(("a", True), ("x" * 128, True), (" ", True), (" a ", True), ("007", True)),
        *(("a\u00a0b", True), ("\u2028", True), ("\u202e", True), ("\ufeff", True), ("😀", True)),
        *(("café", True), ("cafe\u0301", True), ("é" * 128, True), ('a,"b', True)),
        *(
            ("x" * 129, False),
            ("é" * 129, False),
            ("a\tb", False),
            ("a\nb", False),
            ("\x00", False),
        ),
        *(("\x7f", False), ("\x85", False), ("\x9f", False)),
    ),
    ("card_fingerprint",): (("4111 1111 1111 1111", False), ("4111111111111112", True)),
    ("ip_address",): (
        *(("203.0.113.7", True), ("::ffff:203.0.113.7", True), ("2001:DB8::1", True)),
        *(("fe80::1%eth0", False), ("1.2.3", False), ("hash", False)),
    ),
    ("email",): (
        *(("Mia@Example.com", True), ("a@b", True), ("a\u00a0@b", True), ("@", False)),
        # 128 characters, and 130 in lower case.
        *((f"{'x' * 123}İİ@b.", False), ("a\n@b", False), (f"{'x' * 126}@b", True)),
    ),
    ("currency",): (
        *(("EUR", True), ("XXX", True), ("ZZZ", True)),
        *(("usd", False), ("EURO", False), ("E1R", False), ("EUR\n", False), ("ÄÖÜ", False)),
    ),
    ("type",): (("refund", True), ("verification", True), ("Refund", False), ("chargeback", False)),
    ("status",): (("reversed", True), ("authorised", True), ("authorized", False)),
    ("occurred_at",): (
        *(("1970-01-01T00:00:00Z", True), (TODAY, True), ("2024-02-29T23:59:59.999999Z", True)),
        *(("1969-12-31T23:59:59.999999Z", False), ("1900-01-01T00:00:00Z", False)),
        *(("2101-01-01T00:00:00Z", False), (text_of(now_us() + 2 * 86_400_000_000), False)),
        *(("9999-12-31T23:59:59Z", False), ("2024-02-30T00:00:00Z", False)),
    ),
    ("amount",): (
        *((0.0, True), (0.1, True), (0.1 + 0.2, True), (1e-9, True), (999_999_999_999_999.0, True)),
        *((1e15, False), (1e29, False), (-0.01, False), (float("inf"), False)),
        *(("12.50", True), ("999999999999999.99999999", True), ("-1", False), ("abc", False)),
    ),
    ("plan",): (
        *(("", True), ("x" * 256, True), ("\x00\n\x9f", True), ("😀" * 256, True), (" ", True)),
        *(("x" * 257, False), ("😀" * 257, False)),
        *((3.0, True), (1e22, True), (-1e299, True), (1e-300, True), (1e300, False), (True, True)),
    ),
    ("age",): (
        *((0.1, True), (-1e299, True), (5e-324, True), (1e300, False), (-1e300, False)),
        *((float("inf"), False),),
    ),
}
VALUES_OF: dict[str, list[tuple[Any, bool]]] = {}
for names, values in VALUES.items():
    for name in names:
        VALUES_OF.setdefault(name, []).extend(values)


def body(name: str, value: Any, number: int = 0) -> dict[str, Any]:
    """A payment with this value in this field."""
    found = posted(f"t-{number}", attributes={}, status="authorised", type="payment", amount="1")
    if name in ("plan", "age"):
        return {**found, "attributes": {name: value}}
    if name == "wallet":
        return {**found, "entities": {"wallet": value}}
    return {**found, name: value}


def taken(name: str, value: Any, number: int = 0) -> Transaction | None:
    """The payment, where the API takes it."""
    try:
        return PostedTransaction.model_validate(body(name, value, number)).transaction()
    except ValidationError:
        return None


def file_of(folder: Path, name: str, *values: Any) -> Path:
    """The payments as rows of a file; the values are of one type."""
    rows = []
    for number, value in enumerate(values):
        fields = body(name, value, number)
        inner = {**fields.pop("attributes"), **fields.pop("entities", {})}
        rows.append({**fields, **inner})
    unnamed = {*SPEC.categorical, *SPEC.numeric, *SPEC.entities.values()} - rows[0].keys()
    path = folder / "rows.parquet"
    frame = pl.DataFrame(rows).with_columns(
        pl.lit(None, pl.Float64 if name == "age" else pl.String).alias(name)
        for name in sorted(unnamed)
    )
    frame.write_parquet(path)
    return path


def refusal(read: Callable[[], object]) -> str:
    try:
        read()
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", VALUES_OF)
def test_a_value_is_valid_for_the_api_for_training_and_for_import_alike(
    tmp_path: Path, name: str
) -> None:
    valid: dict[type, list[Any]] = {}
    for value, is_valid in VALUES_OF[name]:
        assert (taken(name, value) is not None) == is_valid, value
        if is_valid:
            valid.setdefault(type(value), []).append(value)
        else:
            refused = refusal(lambda: History(file_of(tmp_path, name, value), SPEC))  # noqa: B023
            assert f'row 1, column "{name}": ' in refused
    for values in valid.values():
        check_agrees(file_of(tmp_path, name, *values), name, values)


def check_agrees(path: Path, name: str, values: list[Any]) -> None:
    """The file gives the columns that the API gives, and the same payments."""
    posted_ones = [taken(name, value, number) for number, value in enumerate(values)]
    by_id = {
        posted_one.transaction_id: posted_one
        for posted_one in posted_ones
        if posted_one is not None
    }
    data = read_transactions(path, SPEC)
    in_order = [by_id[key] for key in data.transaction_ids]
    columns = columns_of(SPEC, in_order)[0]
    for part in ("time_us_N", "amount_N", "standing_N", "categorical_NC", "numeric_NM"):
        np.testing.assert_array_equal(getattr(data.columns, part), getattr(columns, part), part)
    [imported] = History(path, SPEC).chunks(len(values))
    assert [payment.transaction._replace(attributes={}) for payment in imported] == [
        payment._replace(attributes={}) for payment in in_order
    ]


@settings(max_examples=60)
@given(st.sampled_from(TEXTS), st.text(max_size=140))
def test_any_text_is_an_id_for_all_or_for_none(
    tmp_path_factory: pytest.TempPathFactory, name: str, text: str
) -> None:
    if name not in ("transaction_id", "account_id") and not text:
        return  # In a file it is none at all.
    path = file_of(tmp_path_factory.mktemp("text"), name, text)
    assert (taken(name, text) is None) == bool(refusal(lambda: read_transactions(path, SPEC)))


AMOUNTS = st.floats(0, 1e15, exclude_max=True) | st.decimals(0, 10**9, places=9).map(float)


@settings(max_examples=50)
@given(st.lists(AMOUNTS, min_size=1, max_size=50))
def test_any_amount_of_a_file_is_the_one_that_the_api_keeps(
    tmp_path_factory: pytest.TempPathFactory, amounts: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("amount")
    table = Table.read(file_of(folder, "amount", 1.0), SPEC)
    nothing_written_N = pl.repeat(None, len(amounts), dtype=pl.String, eager=True)
    found = as_amounts(table, "amount", np.array(amounts), nothing_written_N)
    assert found.tolist() == [float(amount_of(amount)) for amount in amounts]


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("currency", "usd", """'usd': a currency is three capital letters, such as EUR"""),
        ("currency", "usd", """currencies = { "usd" = "USD" } under [amount] says which it is"""),
        ("currency", "¤", """currencies = { "¤" = "EUR" } under [amount] says which it is"""),
        ("account_id", "a\tb", "'a\\tb': an id has 1 to 128 characters and no control characters"),
        ("occurred_at", "1900-01-01", "1900-01-01: a time must lie in the years 1970 to 2100"),
        ("occurred_at", "2100-01-01", "more than a day ahead of now"),
        ("amount", "1e29", "1e+29: an amount is a decimal text such as"),
        ("plan", "x" * 300, f"'{'x' * 64}…': an attribute is a text of at most 256 characters"),
        ("age", "1e305", "'1e305': an attribute is a text of at most 256 characters, a finite"),
    ],
)
def test_what_is_not_valid_is_named_with_the_line_that_would_help(
    tmp_path: Path, column: str, value: str, words: str
) -> None:
    path = tmp_path / "rows.csv"
    good = pl.read_parquet(file_of(tmp_path, "channel", "online")).cast(pl.String)
    bad = good.with_columns(pl.lit(value).alias(column), transaction_id=pl.lit("t-1"))
    pl.concat([good, bad]).write_csv(path)
    refused = refusal(lambda: read_transactions(path, SPEC))
    assert f'row 2 (line 3), column "{column}": ' in refused
    assert words in refused
    # Such rows may be left out, where the spec says so.
    spec = SPEC.model_copy(update={"rows": SPEC.rows.model_copy(update={"leave_out": 0.5})})
    assert read_transactions(path, spec).transaction_ids == ["t-0"]


def test_a_history_of_more_attributes_than_a_payment_may_have_is_refused(tmp_path: Path) -> None:
    path = file_of(tmp_path, "amount", "1.00")
    numeric = {f"n{n}": "age" for n in range(64)}
    spec = DatasetSpec.model_validate({**SPEC.model_dump(), "numeric": numeric})
    assert "may have 64 attributes, and [categorical] and [numeric] name 65" in refusal(
        lambda: History(path, spec)
    )


def test_times_are_exact_to_the_microsecond(tmp_path: Path) -> None:
    at_us = now_us()
    path = file_of(tmp_path, "occurred_at", EPOCH + timedelta(microseconds=at_us))
    assert read_transactions(path, SPEC).columns.time_us_N.tolist() == [at_us]


def test_a_decimal_text_keeps_all_its_digits(tmp_path: Path) -> None:
    text = "123456789012345.12345678"
    [[past]] = History(file_of(tmp_path, "amount", text), SPEC).chunks(1)
    assert past.transaction.amount == Decimal(text)

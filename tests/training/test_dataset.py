"""Reading a transactions file: what is accepted, what is refused, and with which sentence."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import SetupError
from app.learner.columns import columns_of
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    ASIDE,
    DAY_US,
    REFUSED,
    SPENT,
    TRIED,
    UNDECIDED,
    Status,
    Transaction,
    Type,
    entity_code,
)
from app.learner.validity import LARGEST_ATTRIBUTE
from app.simulator.simulate import simulate
from app.times import FIRST_US
from app.training.dataset import NEVER_US, NO_KIND, UNLABELLED, read_transactions
from app.training.files import DataError
from tests.conftest import HANDBOOK

SPEC = DatasetSpec.model_validate(
    {
        "name": "shop",
        "columns": {
            "transaction": "id",
            "account": "card",
            "time": "at",
            "amount": "paid",
            "type": "type",
            "status": "status",
            "label": "fraud",
            "fraud_kind": "kind",
        },
        "entities": {"merchant": "shop", "wallet": "purse", "ip": "address"},
        "label": {"delay_days": 2},
        "categorical": {"channel": "channel", "colour": "colour"},
        "numeric": {"age": "age"},
    }
)
BY_ROW = SPEC.model_copy(update={"label": type(SPEC.label)(delay_column="delay")})

GOOD: dict[str, list[Any]] = {
    "id": ["t1", "t2", "t3"],
    "card": ["a", "b", "a"],
    "at": ["2024-01-01T10:00:00Z", "2024-01-01T09:00:00Z", "2024-01-03T00:00:00Z"],
    "paid": ["10.50", "0", "3"],
    "type": ["payment", "refund", None],
    "status": ["declined", None, "reversed"],
    "shop": ["s1", None, "s1"],
    "purse": ["w1", "w1", None],
    "address": ["10.0.0.1", "::ffff:10.0.0.1", None],
    "fraud": ["0", "1", None],
    "kind": [None, "theft", None],
    "channel": ["online", "shop", None],
    "colour": ["007", None, "red"],
    "age": ["1.5", None, "-2"],
    "delay": ["1", "0.5", None],
}


def written(tmp_path: Path, suffix: str = ".csv", **columns: Any) -> Path:
    """The good file with some columns replaced, or left out where given as None."""
    content = {**GOOD, **columns}
    frame = pl.DataFrame({name: values for name, values in content.items() if values is not None})
    path = tmp_path / f"transactions{suffix}"
    frame.write_csv(path) if suffix == ".csv" else frame.write_parquet(path)
    return path


def refusal(path: Path, spec: DatasetSpec = SPEC) -> str:
    with pytest.raises(DataError) as caught:
        read_transactions(path, spec)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_is_sorted_by_time_and_coded_by_first_appearance(
    tmp_path: Path, suffix: str
) -> None:
    data = read_transactions(written(tmp_path, suffix), SPEC)

    nine = int(datetime(2024, 1, 1, 9, tzinfo=UTC).timestamp()) * 1_000_000
    assert data.transaction_ids == ["t2", "t1", "t3"]
    assert data.accounts == ["b", "a"]
    assert data.entities == [("ip", "10.0.0.1"), ("merchant", "s1"), ("wallet", "w1")]
    assert data.columns.account_N.tolist() == [0, 1, 1]
    assert data.columns.entity_NK.tolist() == [[0, -1, 2], [0, 1, 2], [-1, 1, -1]]
    ip, merchant, wallet = (entity_code(*entity) for entity in data.entities)
    expected = [[ip, 0, wallet], [ip, merchant, wallet], [0, merchant, 0]]
    assert data.columns.entity_code_NK.tolist() == expected
    # An address and a wallet of each account, and a shop of one.
    assert ((data.columns.link_NK < 0) == (data.columns.entity_NK < 0)).all()
    (first, _, first_wallet), (second, shop, second_wallet), (_, shop_again, _) = (
        data.columns.link_NK.tolist()
    )
    assert sorted({first, first_wallet, second, shop, second_wallet}) == [0, 1, 2, 3, 4]
    assert shop_again == shop
    assert data.columns.standing_N.tolist() == [ASIDE, REFUSED, TRIED]
    assert data.columns.time_us_N[0] == nine
    assert data.columns.amount_N.tolist() == [0, 10.5, 3]
    np.testing.assert_array_equal(data.columns.numeric_NM, [[np.nan], [1.5], [-2]])
    assert data.is_fraud_N.tolist() == [1, 0, UNLABELLED]
    assert data.is_fraud_N.dtype == np.int8
    assert data.known_at_us_N.tolist() == [nine + 2 * DAY_US, nine + 49 * DAY_US // 24, NEVER_US]
    assert data.fraud_kinds == ["theft"]
    assert data.fraud_kind_N.tolist() == [0, NO_KIND, NO_KIND]


def test_what_has_no_status_in_a_file_went_through(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        path = written(tmp_path, suffix, status=None, type=[None, "verification", "withdrawal"])
        columns = SPEC.columns.model_copy(update={"status": None})
        found = read_transactions(path, SPEC.model_copy(update={"columns": columns}))
        assert found.columns.standing_N.tolist() == [TRIED, SPENT, SPENT]
        assert UNDECIDED not in found.columns.standing_N


def test_a_label_is_evidence_about_each_entity_that_its_row_names(tmp_path: Path) -> None:
    """Not before the delay of the service, and not before it is known."""
    path = written(tmp_path, fraud=["1", "0", None])
    data = read_transactions(path, SPEC)
    ten_us, nine_us = data.columns.time_us_N[1], data.columns.time_us_N[0]
    for delay_us in (0, 2 * DAY_US, 5 * DAY_US):
        labels = data.entity_labels(delay_us)
        wait_us = max(delay_us, 2 * DAY_US)
        parts = [getattr(labels, part).tolist() for part in labels.__slots__]
        found = sorted(zip(*parts, strict=True))
        ip, shop, wallet = range(3)
        expected = [(ip, nine_us, 0.0), (ip, ten_us, 1.0), (shop, ten_us, 1.0)]
        expected += [(wallet, nine_us, 0.0), (wallet, ten_us, 1.0)]
        assert found == [(entity, at_us + wait_us, label) for entity, at_us, label in expected]


def test_transactions_of_the_same_moment_keep_the_order_of_the_file(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "id": [f"t{row}" for row in range(1000)],
            "card": ["a"] * 1000,
            "at": [row % 2 for row in range(1000)],
            "paid": [1.0] * 1000,
        }
    )
    frame.write_parquet(tmp_path / "ties.parquet")
    columns = {"transaction": "id", "account": "card", "time": "at", "amount": "paid"}
    spec = DatasetSpec.model_validate({"name": "ties", "columns": columns})

    data = read_transactions(tmp_path / "ties.parquet", spec)

    assert data.transaction_ids == [f"t{row}" for row in (*range(0, 1000, 2), *range(1, 1000, 2))]
    assert data.entities == []
    assert data.columns.entity_NK.shape == data.columns.link_NK.shape == (1000, 0)
    assert data.columns.entity_code_NK.shape == (1000, 0)
    assert set(data.columns.standing_N) == {SPENT}
    assert data.columns.categorical_NC.shape == (1000, 0)
    assert data.columns.numeric_NM.shape == (1000, 0)
    assert set(data.is_fraud_N) == {UNLABELLED}


def test_a_delay_column_says_when_each_label_is_known(tmp_path: Path) -> None:
    data = read_transactions(written(tmp_path), BY_ROW)
    delay_us_N = data.known_at_us_N - data.columns.time_us_N
    assert delay_us_N[:2].tolist() == [DAY_US // 2, DAY_US]
    assert data.known_at_us_N[2] == NEVER_US


@pytest.mark.parametrize(
    "spelled",
    [
        "2024-02-29T23:30:00Z",
        "2024-02-29t23:30:00z",
        "2024-02-29 23:30:00",
        "2024-02-29T23:30",
        "2024-02-29 23:30:00.000",
        "2024-02-29 23:30:00 UTC",
        "2024-03-01T01:30:00+02:00",
        "2024-02-29T18:00:00.000000-0530",
        "2024-03-01T01:30+02:00",
        "1709249400",
        1709249400,
        datetime(2024, 2, 29, 23, 30),
        datetime(2024, 2, 29, 23, 30, tzinfo=UTC),
    ],
)
def test_a_time_may_be_iso_text_or_epoch_seconds_or_a_datetime(
    tmp_path: Path, spelled: object
) -> None:
    path = written(tmp_path, ".parquet", at=[spelled] * 3)
    expected = int(datetime(2024, 2, 29, 23, 30, tzinfo=UTC).timestamp()) * 1_000_000
    assert set(read_transactions(path, SPEC).columns.time_us_N) == {expected}


def test_a_datetime_column_may_have_any_zone_and_unit(tmp_path: Path) -> None:
    paris = pl.datetime_range(
        datetime(2024, 1, 1, 12),
        datetime(2024, 1, 1, 14),
        "1h",
        time_unit="ns",
        time_zone="Europe/Paris",
        eager=True,
    )
    data = read_transactions(written(tmp_path, ".parquet", at=paris), SPEC)
    eleven = int(datetime(2024, 1, 1, 11, tzinfo=UTC).timestamp()) * 1_000_000
    assert data.columns.time_us_N.tolist() == [eleven + hour * DAY_US // 24 for hour in range(3)]


def test_a_date_means_its_midnight(tmp_path: Path) -> None:
    midnight = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    for column in (["2024-01-01"] * 3, [datetime(2024, 1, 1).date()] * 3):
        data = read_transactions(written(tmp_path, ".parquet", at=column), SPEC)
        assert set(data.columns.time_us_N) == {midnight}


@pytest.mark.parametrize(
    "labels",
    [
        ["0", "1", None],
        ["0.0", "1.0", None],
        ["false", "TRUE", None],
        ["legitimate", "Fraud", None],
        [0, 1, None],
        [0.0, 1.0, float("nan")],
        [False, True, None],
    ],
)
def test_a_label_may_be_spelled_in_several_ways(tmp_path: Path, labels: list[object]) -> None:
    data = read_transactions(written(tmp_path, ".parquet", fraud=labels), SPEC)
    assert data.is_fraud_N.tolist() == [1, 0, UNLABELLED]


def test_a_number_for_an_identifier_is_the_text_of_that_number(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", id=[7, 8, 9], card=[1.0, 2.0, 1.0])
    data = read_transactions(path, SPEC)
    assert data.transaction_ids == ["8", "7", "9"]
    assert data.accounts == ["2", "1"]


def test_an_identifier_in_csv_stays_as_it_is_spelled(tmp_path: Path) -> None:
    assert read_transactions(written(tmp_path, card=["007", "7", "007"]), SPEC).accounts == [
        "7",
        "007",
    ]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"at": ["2024-01-01", "soon", "2024-01-03"]}, "'soon' is not a time"),
        ({"at": ["2024-01-01", "2024-02-30", "2024-01-03"]}, "'2024-02-30' is not a time"),
        ({"at": ["1", "1704067200000", "3"]}, "'1704067200000' is not a time"),
        ({"at": ["2024-01-01", None, "2024-01-03"]}, "the time is missing"),
        ({"paid": ["1", "nan", "1"]}, "the amount is NaN"),
        ({"paid": ["1", "inf", "1"]}, "it is infinite"),
        ({"paid": ["1", "1e999", "1"]}, "it is infinite"),
        ({"paid": ["1", "-0.01", "1"]}, "the amount -0.01 is negative"),
        ({"paid": ["1", None, "1"]}, "the amount is missing"),
        ({"paid": ["1", "12 EUR", "1"]}, "'12 EUR' is not a number"),
        ({"card": ["a", None, "a"]}, "it is missing"),
        ({"id": ["a", None, "c"]}, "it is missing"),
        ({"fraud": ["0", "2", "1"]}, "'2' is not a label (0, 1, true, false, fraud, legitimate"),
        ({"fraud": ["0", "maybe", "1"]}, "'maybe' is not a label"),
        ({"age": ["0", "old", "1"]}, "'old' is not a number"),
        ({"type": ["refund", "gift", None]}, "'gift' is not a type (payment, refund, withdrawal"),
        ({"status": ["declined", "lost", None]}, "'lost' is not a status (authorised, declined"),
        ({"age": ["0", "-inf", "1"]}, "it is infinite"),
    ],
)
def test_a_bad_value_is_refused_with_its_row_line_and_column(
    tmp_path: Path, columns: dict[str, list[str | None]], sentence: str
) -> None:
    (name,) = columns
    place = f'column "{name}": {sentence}'
    assert refusal(written(tmp_path, **columns)).startswith(f"row 2 (line 3), {place}")
    assert refusal(written(tmp_path, ".parquet", **columns)).startswith(f"row 2, {place}")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"paid": [1.0, float("nan"), 1.0]}, "the amount is NaN"),
        ({"paid": [1.0, float("inf"), 1.0]}, "it is infinite"),
        ({"paid": [1.0, None, 1.0]}, "the amount is missing"),
        ({"at": [0, 10**18, 0]}, "1000000000000000000 is not a time"),
        ({"fraud": [0, 7, 1]}, "7 is not a label"),
        ({"fraud": [0.0, 0.5, 1.0]}, "0.5 is not a label"),
        ({"card": [1.0, float("nan"), 1.0]}, "it is missing"),
        ({"card": ["a", "", "a"]}, "it is missing"),
    ],
)
def test_a_bad_typed_value_is_refused_with_its_row_and_column(
    tmp_path: Path, columns: dict[str, list[object]], sentence: str
) -> None:
    (name,) = columns
    message = refusal(written(tmp_path, ".parquet", **columns))
    assert message.startswith(f'row 2, column "{name}": {sentence}')


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"at": [1.5, 2.5, 3.5]}, 'row 1, column "at": 1.5 is not a time'),
        ({"paid": [True, False, True]}, 'row 1, column "paid": True is not an amount'),
        ({"paid": [[1], [2], [3]]}, 'column "paid" holds List(Int64), not plain values'),
        ({"paid": [datetime(2024, 1, 1)] * 3}, 'row 1, column "paid": datetime.datetime(2024'),
        ({"paid": pl.Series(["1"] * 3, dtype=pl.Categorical)}, None),
    ],
)
def test_a_column_of_the_wrong_type_is_refused(
    tmp_path: Path, columns: dict[str, Any], sentence: str | None
) -> None:
    path = written(tmp_path, ".parquet", **columns)
    if sentence is None:
        assert read_transactions(path, SPEC).columns.amount_N.tolist() == [1, 1, 1]
    else:
        assert refusal(path).startswith(sentence)


def test_a_duplicate_transaction_names_both_rows(tmp_path: Path) -> None:
    path = written(tmp_path, id=["t1", "t2", "t1"])
    place = "row 3 (line 4), column \"id\": 't1' is already in row 1 (line 2); "
    assert refusal(path).startswith(place)
    assert 'same_transaction = "first" or "sum" under [rows]' in refusal(path)
    path = written(tmp_path, ".parquet", id=[5, 6, 6])
    assert refusal(path).startswith('row 3, column "id": 6 is already in row 2; ')


@pytest.mark.parametrize(
    ("delay", "shown"), [("-1", "-1"), (None, "None"), ("nan", "nan"), ("99999", "99999")]
)
def test_a_label_without_a_possible_delay_is_refused(
    tmp_path: Path, delay: str | None, shown: str
) -> None:
    message = refusal(written(tmp_path, delay=["1", delay, None]), BY_ROW)
    assert message == (
        f'row 2 (line 3), column "delay": a label needs a delay from 0 to 3650 days, not {shown}; '
        "leave_out = 0.334 under [rows] leaves such rows out (1 of 3)"
    )


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        message = refusal(written(tmp_path, suffix, paid=None))
        assert message == (
            'there is no column "paid" (spec shop); the file has: '
            "id, card, at, type, status, shop, purse, address, fraud, kind, channel, colour, age, "
            "delay"
        )


def test_a_wide_file_is_not_listed_in_full(tmp_path: Path) -> None:
    extra = {f"v{number}": [1, 2, 3] for number in range(100)}
    message = refusal(written(tmp_path, ".parquet", paid=None, **extra))
    assert message.endswith("v25 and 74 more")


def test_a_line_break_inside_quotes_counts_as_a_line(tmp_path: Path) -> None:
    path = written(tmp_path, colour=["red\nor\nblue", None, None], paid=["1", "1", "x"])
    assert refusal(path).startswith("row 3 (line 6), column \"paid\": 'x' is not a number; ")


def test_blank_lines_of_csv_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "", *lines[2:], "", ""]))
    assert len(read_transactions(path, SPEC)) == 3
    path.write_text("\n".join([*lines[:2], "", lines[2].replace(",0,", ",x,", 1)]))
    assert refusal(path).startswith("row 3 (line 4), column \"paid\": 'x' is not a number")


def test_a_file_that_cannot_be_read_is_refused_with_a_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "absent.csv") == "there is no such file"
    (tmp_path / "folder.csv").mkdir()
    assert refusal(tmp_path / "folder.csv") == "there is no .csv, .parquet or .jsonl file in it"
    for name, content, start in [
        ("data.xlsx", b"x", ".xlsx is neither .csv, .parquet nor .jsonl"),
        ("data", b"x", "no suffix is neither .csv, .parquet nor .jsonl"),
        ("empty.csv", b"", "cannot be read: "),
        ("empty.parquet", b"", "cannot be read: "),
        ("text.parquet", b"id,card,at,paid\n", "cannot be read: "),
        (
            "latin.csv",
            ",".join(GOOD).encode() + b"\n" + b"\xe9," * 10 + b"1\n",
            "line 2, field 'é': ",
        ),
    ]:
        (tmp_path / name).write_bytes(content)
        assert refusal(tmp_path / name).startswith(start), name


def test_a_row_with_more_fields_than_the_header_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("10.50", "10,50"))
    assert refusal(path).startswith("row 1 (line 2) has 16 fields and the header 15; delimiter, ")


def test_a_cut_off_parquet_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet")
    whole = path.read_bytes()
    for size in (4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert refusal(path).startswith("cannot be read: ")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_file_without_transactions_is_refused(tmp_path: Path, suffix: str) -> None:
    empty: dict[str, list[str]] = {name: [] for name in GOOD}
    assert refusal(written(tmp_path, suffix, **empty)) == "there is no transaction in it"


def test_a_data_error_is_a_setup_error_and_a_value_error() -> None:
    assert issubclass(DataError, SetupError)
    assert issubclass(DataError, ValueError)


# A CSV file has no way to spell a carriage return or a NUL that every reader agrees on.
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
YEAR_2026_US = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
NUMBERS = st.floats(-LARGEST_ATTRIBUTE, LARGEST_ATTRIBUTE, exclude_min=True, exclude_max=True)


@st.composite
def transactions(draw: st.DrawFn) -> list[Transaction]:
    ids = draw(st.lists(TEXT, min_size=1, max_size=12, unique=True))
    return [
        Transaction(
            transaction_id=transaction_id,
            account_id=draw(st.sampled_from("abé日")),
            occurred_at_us=draw(st.integers(FIRST_US, YEAR_2026_US)),
            amount=draw(st.decimals(0, 10**9, places=2)),
            currency="EUR",
            merchant_id=draw(st.none() | st.sampled_from(["m", "n", "0"])),
            ip_address=draw(st.none() | st.sampled_from(["10.0.0.1", "::1"])),
            entities=draw(st.just({}) | st.builds(dict, wallet=st.sampled_from(["m", "w"]))),
            type=draw(st.sampled_from(get_args(Type))),
            # A file's rows have all gone through, or their status says how they ended.
            status=draw(st.sampled_from(get_args(Status))),
            channel=draw(st.none() | TEXT),
            attributes={
                name: value
                for name, value in {
                    "colour": draw(st.none() | TEXT),
                    "age": draw(st.none() | NUMBERS),
                }.items()
                if value is not None
            },
        )
        for transaction_id in ids
    ]


@settings(max_examples=60)
@given(transactions())
def test_a_file_and_the_api_agree_exactly_on_the_same_transactions(
    tmp_path_factory: pytest.TempPathFactory, posted: list[Transaction]
) -> None:
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "id": [t.transaction_id for t in posted],
            "card": [t.account_id for t in posted],
            "at": [epoch + timedelta(microseconds=t.occurred_at_us) for t in posted],
            "paid": [str(t.amount) for t in posted],
            "type": [t.type for t in posted],
            "status": [t.status for t in posted],
            "shop": [t.merchant_id for t in posted],
            "purse": [t.entities.get("wallet") for t in posted],
            "address": [t.ip_address for t in posted],
            "channel": [t.channel for t in posted],
            "colour": [t.attributes.get("colour") for t in posted],
            "age": [t.attributes.get("age") for t in posted],
        },
        schema_overrides=dict.fromkeys(("shop", "purse", "address", "channel", "colour"), pl.String)
        | {"age": pl.Float64},
    )
    folder = tmp_path_factory.mktemp("agree")
    frame.write_csv(folder / "t.csv")
    frame.with_columns(pl.col("paid").cast(pl.Decimal(38, 2))).write_parquet(folder / "t.parquet")
    unlabelled = {**SPEC.columns.model_dump(), "label": None, "fraud_kind": None}
    spec = SPEC.model_copy(update={"columns": type(SPEC.columns)(**unlabelled)})
    posted.sort(key=lambda t: t.occurred_at_us)
    columns, named = columns_of(spec, posted)

    for name in ("t.csv", "t.parquet"):
        data = read_transactions(folder / name, spec)
        assert data.transaction_ids == [t.transaction_id for t in posted]
        assert data.accounts == named.accounts
        assert data.entities == named.entities
        # Nothing looks a link up by its place: each has its own.
        pairs = zip(data.columns.link_NK.flat, columns.link_NK.flat, strict=True)
        places = set[tuple[int, int]](pairs)
        assert all(len(set(side)) == len(places) for side in zip(*places, strict=True))
        assert all((found < 0) == (other < 0) for found, other in places)
        for part in columns.__slots__:
            if part == "link_NK":
                continue
            got, expected = getattr(data.columns, part), getattr(columns, part)
            np.testing.assert_array_equal(got, expected, err_msg=f"{name} {part}")
            assert got.dtype == expected.dtype


def test_a_simulated_file_reads_the_same_from_csv_and_parquet(tmp_path: Path) -> None:
    frame = simulate(accounts=30, days=40, seed=3)
    frame.write_csv(tmp_path / "t.csv")
    frame.write_parquet(tmp_path / "t.parquet")
    spec = DatasetSpec.load("simulated")

    csv, parquet = (read_transactions(tmp_path / f"t.{kind}", spec) for kind in ("csv", "parquet"))

    assert len(csv) == len(frame)
    assert csv.transaction_ids == parquet.transaction_ids
    assert (csv.accounts, csv.entities) == (parquet.accounts, parquet.entities)
    assert csv.fraud_kinds == parquet.fraud_kinds
    for name in ("is_fraud_N", "known_at_us_N", "fraud_kind_N"):
        np.testing.assert_array_equal(getattr(csv, name), getattr(parquet, name))
    for name in csv.columns.__slots__:
        np.testing.assert_array_equal(getattr(csv.columns, name), getattr(parquet.columns, name))


def test_values_of_a_number_typed_category_agree_with_the_api(tmp_path: Path) -> None:
    path = written(tmp_path, ".parquet", colour=[3.0, 2.5, None], channel=[True, False, None])
    columns = read_transactions(path, SPEC).columns
    posted = [
        Transaction("t2", "b", 0, Decimal(0), "EUR", channel="false", attributes={"colour": 2.5}),
        Transaction(
            "t1", "a", 1, Decimal(1), "EUR", "s1", channel="true", attributes={"colour": 3}
        ),
        Transaction("t3", "a", 2, Decimal(1), "EUR", "s1"),
    ]
    np.testing.assert_array_equal(
        columns.categorical_NC, columns_of(SPEC, posted)[0].categorical_NC
    )


@pytest.mark.skipif(not HANDBOOK.exists(), reason="the Handbook file is not beside the clone")
def test_the_handbook_reads_whole_and_its_first_fold_has_the_published_sizes() -> None:
    data = read_transactions(HANDBOOK, DatasetSpec.load("handbook"))
    time_us_N, is_fraud_N = data.columns.time_us_N, data.is_fraud_N

    assert len(data) == 1_754_155
    assert (len(data.accounts), len(data.entities)) == (4_990, 10_000)
    assert int((is_fraud_N == 1).sum()) == 14_681
    np.testing.assert_array_equal(data.known_at_us_N, time_us_N + 7 * DAY_US)
    by_kind = {
        kind: int((data.fraud_kind_N[is_fraud_N == 1] == code).sum())
        for code, kind in enumerate(data.fraud_kinds)
    }
    assert by_kind == {"0": 0, "1": 973, "2": 9_077, "3": 4_631}

    start_us = int(datetime(2018, 7, 25, tzinfo=UTC).timestamp()) * 1_000_000
    day_N = (time_us_N - start_us) // DAY_US
    is_train_N = (day_N >= 0) & (day_N < 7)
    assert (is_train_N.sum(), is_fraud_N[is_train_N].sum()) == (67_240, 598)
    assert protocol_a_test_week(data.columns.account_N, day_N, is_fraud_N) == (58_264, 385)


def protocol_a_test_week(
    account_N: np.ndarray[Any, Any], day_N: np.ndarray[Any, Any], is_fraud_N: np.ndarray[Any, Any]
) -> tuple[int, int]:
    """Sizes of the test week of days 14 to 20, without the accounts known to be defrauded."""
    rows = frauds = 0
    defrauded = np.unique(account_N[(is_fraud_N == 1) & (day_N >= 0) & (day_N < 7)])
    for day in range(14, 21):
        arrived = account_N[(is_fraud_N == 1) & (day_N == day - 8)]
        defrauded = np.union1d(defrauded, arrived)
        tested_N = (day_N == day) & ~np.isin(account_N, defrauded)
        rows += int(tested_N.sum())
        frauds += int(is_fraud_N[tested_N].sum())
    return rows, frauds

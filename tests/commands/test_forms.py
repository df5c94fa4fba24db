"""How times, amounts, labels and files are written: `inspect` sees it, asks, or says what to do.

Each file is the same ten or twenty payments, written in another way.
"""

import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from babel.dates import format_datetime
from typer.testing import CliRunner, Result

from app.cli.main import app
from app.labels.files.dates import instant_of
from app.learner.spec import DatasetSpec
from app.learner.spelling import Amount, Time
from app.training.entries import Entries, read_entries
from app.training.files import DataError

runner = CliRunner()
QUESTION = re.compile(r"--answer '?([^='\n]+)=…")
# Every day later than the 12th, so that no other month can be meant, and every clock with a zero.
TIMES = [
    datetime(2024, 1 + n % 6, 13 + n, 9 - n % 3, 5 * n, 7 * n % 60, tzinfo=UTC) for n in range(10)
]


def inspected(path: Path, *answers: str) -> tuple[Result, set[str]]:
    """What `inspect` says with these answers, and what it asks beyond them."""
    options = [word for answer in answers for word in ("--answer", answer)]
    spec = path.with_suffix(".toml")
    result = runner.invoke(app, ["inspect", str(path), "--spec", str(spec), "--replace", *options])
    assert result.exit_code in (0, 2), result.output
    return result, set(QUESTION.findall(result.stderr))


def read(path: Path, answers: Mapping[str, str] = {}) -> Entries:
    """The entries by the spec that `inspect` writes after exactly these questions."""
    assert inspected(path)[1] == set(answers)
    result, _ = inspected(path, *(f"{name}={value}" for name, value in answers.items()))
    assert result.exit_code == 0, result.output
    return read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))


def rows_of(columns: Mapping[str, Sequence[object]], delimiter: str = ",") -> str:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(delimiter.join(map(str, row)) + "\n" for row in rows)


def payments(**columns: Sequence[object]) -> dict[str, Sequence[object]]:
    """The columns of as many payments, each but those here as programs write them."""
    count = len(next(iter(columns.values())))
    usual: dict[str, Sequence[object]] = {
        "order_id": [f"o-{n}" for n in range(count)],
        "customer_id": [f"c-{n % 3}" for n in range(count)],
        "created_at": [datetime(2024, 3, 13, 9) + timedelta(hours=7 * n) for n in range(count)],
        "amount": [f"{n + 1}.50" for n in range(count)],
    }
    return {**{name: column for name, column in usual.items() if name not in columns}, **columns}


WRITTEN = {
    "unix": "%a %b %d %H:%M:%S UTC %Y",
    "mail": "%a, %d %b %Y %H:%M:%S GMT",
    "long": "%A, %B %d, %Y %I:%M:%S %p",
    "day": "%d %B %Y %H:%M:%S",
    "oracle": "%d-%b-%y %I.%M.%S.000000 %p",
    "dots": "%d.%m.%Y, %H.%M.%S",
    "compact": "%Y%m%dT%H%M%SZ",
    "slashes": "%Y/%m/%d %H:%M:%S +0000",
    "java": "%Y-%m-%dT%H:%M:%SZ[UTC]",
    "log": "%Y-%m-%d %H:%M:%S,000",
    "mysql": "%Y-%m-%d %H%M%S",
    "week": "%G-W%V-%uT%H:%M:%S",
    "compact week": "%GW%V%u %H%M%S",
}


@pytest.mark.parametrize("form", WRITTEN.values(), ids=WRITTEN.keys())
def test_a_time_is_read_as_it_is_written(tmp_path: Path, form: str) -> None:
    path = tmp_path / "orders.tsv"
    at = [time.strftime(form) for time in TIMES]
    path.write_text(rows_of(payments(created_at=at), "\t"))
    assert times_of(read(path)) == sorted(TIMES)


def times_of(entries: Entries) -> list[datetime]:
    return [datetime.fromtimestamp(us / 1_000_000, UTC) for us in entries.time_us_N.tolist()]


MIXED: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "iso and german": (("%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S"), ["iso", "%d.%m.%Y %H:%M:%S"]),
    "a day without its time": (("%d/%m/%Y %H:%M:%S", "%d/%m/%Y"), ["%d/%m/%Y"]),
    "years of two digits": (("%d.%m.%Y %H:%M:%S", "%d.%m.%y %H:%M:%S"), ["%d.%m.%y %H:%M:%S"]),
    "with and without an offset": (("%Y/%m/%d %H:%M:%S +0000", "%Y/%m/%d %H:%M:%S"), []),
    "three": (("%Y-%m-%d %H:%M:%S", "%d %B %Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p"), []),
}


@pytest.mark.parametrize("name", MIXED)
def test_times_of_several_formats_stand_in_one_column(tmp_path: Path, name: str) -> None:
    forms, listed = MIXED[name]
    path = tmp_path / "orders.csv"
    at = [time.strftime(forms[n % len(forms)]) for n, time in enumerate(TIMES)]
    path.write_text(rows_of(payments(created_at=at)))
    found = read(path)
    is_day = [forms[n % len(forms)] == "%d/%m/%Y" for n in range(len(TIMES))]
    midnight = {"hour": 0, "minute": 0, "second": 0}
    expected = [
        time.replace(**midnight) if day else time for time, day in zip(TIMES, is_day, strict=True)
    ]
    assert times_of(found) == sorted(expected)
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert set(listed) <= set(spec.time.formats)
    assert len(spec.time.formats) == len(forms)
    # A row that fits none is a bad row.
    path.write_text(path.read_text().replace(at[3], "soon"))
    with pytest.raises(DataError, match=r"row 4 \(line 5\), column \"created_at\": 'soon' is not"):
        read_entries(path, spec)


def test_a_format_that_is_not_among_those_of_the_spec_is_named(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    at = [time.isoformat() for time in TIMES]
    path.write_text(rows_of(payments(created_at=at)))
    spec = read_spec(path)
    path.write_text(path.read_text().replace(at[3], TIMES[3].strftime("%d.%m.%Y")))
    with pytest.raises(DataError, match=r'; format = \["iso", "%d.%m.%Y"\] under \[time\] would'):
        read_entries(path, spec)
    several = spec.time.model_copy(update={"format": ("iso", "%d.%m.%Y")})
    assert len(read_entries(path, spec.model_copy(update={"time": several}))) == len(TIMES)


@pytest.mark.parametrize(
    ("answer", "may", "left_out"),
    [
        ("%d/%m/%Y or %m/%d/%Y", datetime(2024, 5, 3, tzinfo=UTC), 0),
        ("%m/%d/%Y or %d/%m/%Y", datetime(2024, 3, 5, tzinfo=UTC), 0),
        ("%d/%m/%Y", datetime(2024, 5, 3, tzinfo=UTC), 2),
    ],
)
def test_rows_with_the_day_first_among_others_are_asked_for(
    tmp_path: Path, answer: str, may: datetime, left_out: int
) -> None:
    path = tmp_path / "orders.csv"
    at = [*(time.strftime("%d/%m/%Y") for time in TIMES), "03/05/2024", "01/31/2024", "02/14/2024"]
    path.write_text(rows_of(payments(order_id=[f"o-{n}" for n in range(13)], created_at=at)))
    assert inspected(path)[1] == {"time.format"}
    options = (f"time.format={answer}", *["leave_out=yes"] * bool(left_out))
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    assert found.left_out.unread() == left_out
    assert may in times_of(found)


def test_days_that_may_be_months_are_asked_for_in_each_of_several_formats(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    at = [f"{n + 1:02}/03/2024{' 10:00' * (n % 2)}" for n in range(10)]
    path.write_text(rows_of(payments(created_at=at)))
    result, asked = inspected(path)
    assert asked == {"time.format"}
    # Nobody writes the day first in half of the rows.
    assert "Times can be read in 2 ways" in result.output
    found = times_of(read(path, {"time.format": "%d/%m/%Y or %d/%m/%Y %H:%M"}))
    assert {time.month for time in found} == {3}


def test_nanoseconds_are_read_to_the_microsecond(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    at = [f"{int(time.timestamp())}123456789" for time in TIMES]
    path.write_text(rows_of(payments(created_at=at)))
    microsecond = timedelta(microseconds=123_456)
    assert times_of(read(path)) == [time + microsecond for time in sorted(TIMES)]


@pytest.mark.parametrize("date", ["%Y%m%d", "%d%m%Y", "%d/%m/%Y", "%Y-%m-%d"])
@pytest.mark.parametrize("clock", ["%H%M%S", "%H:%M:%S", "%I:%M:%S %p"])
def test_the_clock_beside_a_date_counts_however_it_is_written(
    tmp_path: Path, date: str, clock: str
) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(created_at=[time.strftime(date) for time in TIMES])
    columns["trans_time"] = [time.strftime(clock) for time in TIMES]
    path.write_text(rows_of(columns))
    assert times_of(read(path)) == sorted(TIMES)


@pytest.mark.parametrize(
    ("form", "answer"), [("%Y%m%d", "date"), ("%d%m%Y", "%d%m%Y"), ("%m%d%Y", "%m%d%Y")]
)
def test_eight_digits_may_be_a_date_that_begins_with_the_day(
    tmp_path: Path, form: str, answer: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        rows_of(payments(day=[time.strftime(form) for time in TIMES], created_at=[""] * 10))
    )
    assert [time.date() for time in times_of(read(path, {"time.unit": answer}))] == sorted(
        time.date() for time in TIMES
    )


def test_the_days_of_a_spreadsheet_are_a_question_with_the_first_of_them(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    start = datetime(1899, 12, 30, tzinfo=UTC)
    path.write_text(
        rows_of(payments(created_at=[(time - start) / timedelta(days=1) for time in TIMES]))
    )
    assert (
        "days as spreadsheets count them: 13 January 2024 is the first" in inspected(path)[0].output
    )
    found = times_of(read(path, {"time.unit": "spreadsheet"}))
    assert [round(time.timestamp()) for time in found] == [
        round(time.timestamp()) for time in sorted(TIMES)
    ]


@pytest.mark.parametrize(
    ("column", "word", "zone"),
    [
        ("Created Timezone", "Asia/Kolkata", "Asia/Kolkata"),
        ("Time Zone", "Eastern Time (US & Canada)", "America/New_York"),
        ("record date time zone", "PDT", "-07:00"),
    ],
)
def test_a_column_of_zones_counts_whatever_its_name(
    tmp_path: Path, column: str, word: str, zone: str
) -> None:
    path = tmp_path / "orders.csv"
    offset = zone.startswith("-")
    there = [
        time - timedelta(hours=7) if offset else time.astimezone(ZoneInfo(zone)) for time in TIMES
    ]
    columns = payments(created_at=[time.strftime("%Y-%m-%d %H:%M:%S") for time in there])
    columns[column] = [word] * len(TIMES)
    path.write_text(rows_of(columns))
    assert times_of(read(path)) == sorted(TIMES)


CENTS = {"usd": 100, "jpy": 1, "kwd": 1000}


def test_whole_amounts_may_be_minor_units_and_these_are_each_currency_s_own(tmp_path: Path) -> None:
    path = tmp_path / "charges.csv"
    currencies = [list(CENTS)[n % 3] for n in range(30)]
    path.write_text(
        rows_of(payments(amount=[1999 + 1001 * n for n in range(30)], currency=currencies))
    )
    assert "All amounts of amount are whole" in inspected(path)[0].output
    found = read(path, {"amount.unit": "minor"})
    assert found.amount_N.tolist() == [
        (1999 + 1001 * n) / CENTS[currency] for n, currency in enumerate(currencies)
    ]
    assert found.currency_N.to_list() == [currency.upper() for currency in currencies]
    whole = read(path, {"amount.unit": "whole"})
    assert whole.amount_N.tolist() == [1999 + 1001 * n for n in range(30)]


def test_where_providers_have_decimals_of_their_own_these_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "charges.csv"
    currencies = ["isk", "clp", "usd"] * 10
    path.write_text(rows_of(payments(amount=[190000 + n for n in range(30)], currency=currencies)))
    assert inspected(path, "amount.unit=minor")[1] == {"amount.decimals.CLP", "amount.decimals.ISK"}
    options = ("amount.unit=minor", "amount.decimals.CLP=0", "amount.decimals.ISK=2")
    assert inspected(path, *options)[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert spec.amount.minor_units == {"ISK": 2}
    decimals = {"isk": 100, "clp": 1, "usd": 100}
    assert read_entries(path, spec).amount_N.tolist() == [
        (190000 + n) / decimals[currency] for n, currency in enumerate(currencies)
    ]


def test_a_column_called_after_minor_units_counts_those_of_each_currency(tmp_path: Path) -> None:
    path = tmp_path / "settled.csv"
    columns = payments(amount=[1999 + n for n in range(30)], currency=["GBP", "JPY"] * 15)
    columns["AmountMinorUnits"] = columns.pop("amount")
    path.write_text(rows_of(columns))
    found = read(path)
    assert found.amount_N.tolist() == [(1999 + n) / (1 if n % 2 else 100) for n in range(30)]


def test_an_export_of_sap_is_read_with_its_minus_behind(tmp_path: Path) -> None:
    path = tmp_path / "fbl5n.csv"
    columns: dict[str, Sequence[object]] = {
        "Belegnr": [f"18000{n}" for n in range(10)],
        "Debitor": [f"K{n % 3}" for n in range(10)],
        "Buch.dat.": [time.strftime("%d.%m.%Y") for time in TIMES],
        "Betrag in HW": [f"1.20{n},50{'-' * (n % 4 == 3)}" for n in range(10)],
    }
    path.write_text(rows_of(columns, ";"))
    found = read(path, {"amount.negative": "refund"})
    in_order = sorted(range(10), key=lambda n: TIMES[n].date())
    assert found.accounts_N.to_list() == [f"K{n % 3}" for n in in_order]
    assert found.amount_N.tolist() == [1200.5 + n for n in in_order]
    assert [kind == "refund" for kind in found.types_N] == [n % 4 == 3 for n in in_order]


@pytest.mark.parametrize("currency", ["EUR", None])
def test_minor_units_of_one_currency_are_hundredths(tmp_path: Path, currency: str | None) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(amount=[f"{1999 + n}.0" for n in range(30)])
    path.write_text(rows_of(columns if currency is None else {**columns, "ccy": [currency] * 30}))
    found = read(path, {"amount.unit": "minor"})
    assert found.amount_N.tolist() == [(1999 + n) / 100 for n in range(30)]


@pytest.mark.parametrize("currency", ["JPY", "KRW"])
def test_whole_amounts_of_a_currency_without_cents_are_no_question(
    tmp_path: Path, currency: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(
        rows_of(payments(amount=[1999 + n for n in range(30)], currency=[currency] * 30))
    )
    assert read(path).amount_N.tolist() == [1999 + n for n in range(30)]


@pytest.mark.parametrize(
    ("column", "currency"),
    [("Betrag (EUR)", "EUR"), ("amount_usd", "USD"), ("Amount (₹)", "INR"), ("Amount all", None)],
)
def test_the_name_of_a_column_may_name_the_currency(
    tmp_path: Path, column: str, currency: str | None
) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(amount=[n + 1.5 for n in range(9)])
    columns[column] = columns.pop("amount")
    path.write_text(rows_of(columns))
    found = read(path)
    assert set(found.currency_N) == {currency}
    assert found.amount_N.tolist() == [n + 1.5 for n in range(9)]


def test_an_order_s_total_is_its_amount_and_a_date_is_none(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=range(5000, 5010))
    columns["order_total"] = columns.pop("amount")
    columns |= {"order_number": range(5000, 5010), "amount_refunded": ["0.00"] * 10}
    path.write_text(rows_of({**columns, "valuta": ["13.01.2024"] * 10}))
    assert read(path).amount_N.tolist() == [n + 1.5 for n in range(10)]


USUAL = rows_of(payments(amount=[n + 1.5 for n in range(20)], is_fraud=[0, 0, 0, 1, 0] * 4))


def with_names_at_the_end(content: str, before: str = "", after: str = "") -> str:
    """The same with something after each row, but not after the names."""
    names, *rows = content.splitlines()
    return "\n".join([before + names, *(row + after for row in rows)]) + "\n"


def noted(content: str, note: str) -> str:
    names, *rows = content.splitlines()
    return "\n".join(["note," + names, *(f"{note},{row}" for row in rows)]) + "\n"


TEXTS = {
    "delimiter at the end": with_names_at_the_end(USUAL, after=","),
    "and a preamble": with_names_at_the_end(USUAL, "Orders of March\n\n", ","),
    "escaped": noted(USUAL, r'"she said \"1, 2\" and C:\\"'),
    "spaces": USUAL.replace(",", ", "),
    "padded": USUAL.replace(",", "     ,"),
    "a sum": USUAL + ",,,230.00,4\n",
    "a sum and a word": USUAL + ",,Total,230.00,4\n\n\n",
    "CR alone": noted(USUAL, '"of ""1""\r2, 3"').replace("\n", "\r"),
    "CR and more": with_names_at_the_end(f"Orders\n{USUAL},,Sum,230,4\n").replace("\n", "\r"),
    "mark and sep": "\ufeffsep=,\r\n" + USUAL.replace("\n", "\r\n"),
}


def same_as_usual(found: Entries) -> None:
    assert sorted(found.ids_N) == sorted(f"o-{n}" for n in range(20))
    assert set(found.accounts_N) == {"c-0", "c-1", "c-2"}
    assert found.amount_N.tolist() == [n + 1.5 for n in range(20)]
    assert found.is_fraud_N.sum() == 4


@pytest.mark.parametrize("content", TEXTS.values(), ids=TEXTS.keys())
def test_what_stands_around_values_is_no_part_of_them(tmp_path: Path, content: str) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(content.encode())
    same_as_usual(read(path))


def test_a_bad_row_of_escaped_quotes_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(TEXTS["escaped"])
    spec = read_spec(path)
    path.write_text(TEXTS["escaped"].replace(",4.5,", ",four,"))
    with pytest.raises(DataError, match=r"row 4 \(line 5\), column \"amount\": 'four'"):
        read_entries(path, spec)


def test_a_bad_row_is_named_by_its_line_where_lines_end_in_cr(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(USUAL.replace("\n", "\r").encode())
    spec = read_spec(path)
    path.write_bytes(USUAL.replace(",4.5,", ",four,").replace("\n", "\r").encode())
    with pytest.raises(DataError, match=r"row 4 \(line 5\), column \"amount\": 'four'"):
        read_entries(path, spec)
    path.write_bytes(USUAL.replace("o-3", "ö-3").replace("\n", "\r").encode("latin-1"))
    with pytest.raises(DataError, match=r"line 5, field 'ö-3': byte 0xf6 is not utf-8"):
        read_entries(path, spec)


def read_spec(path: Path) -> DatasetSpec:
    assert inspected(path)[0].exit_code == 0
    return DatasetSpec.load(path.with_suffix(".toml"))


def test_a_file_packed_by_zstd_is_read(tmp_path: Path) -> None:
    # Of a text without repetitions a frame is its bytes, between a head and a mark of the last.
    content = USUAL.encode()
    size = len(content) << 3 | 1
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + size.to_bytes(3, "little") + content
    path = tmp_path / "orders.csv.zst"
    path.write_bytes(frame)
    same_as_usual(read(path))
    # Nothing says the packing but the first bytes.
    other = tmp_path / "orders.dump"
    other.write_bytes(frame)
    same_as_usual(read(other))


def test_what_a_mac_adds_to_an_archive_is_not_its_file(tmp_path: Path) -> None:
    path = tmp_path / "orders.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("export/orders.csv", USUAL)
        archive.writestr("__MACOSX/export/._orders.csv", b"\x00\x05\x16\x07")
        archive.writestr("export/.DS_Store", b"\x00")
    same_as_usual(read(path))


def test_columns_of_lists_and_of_parts_are_left_aside(tmp_path: Path) -> None:
    path = tmp_path / "orders.parquet"
    frame = pl.read_csv(io.StringIO(USUAL)).with_columns(
        items=pl.Series([["a", "b"]] * 20),
        card=pl.Series([{"brand": "visa", "last4": n} for n in range(20)]),
        raw=pl.Series([b"\x00"] * 20),
    )
    frame.write_parquet(path)
    same_as_usual(read(path))
    assert (
        "# Left aside, as no plain values: items, card, raw."
        in path.with_suffix(".toml").read_text()
    )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<html><table><tr><td>1</td></tr></table></html>", "it is HTML or XML; save it as CSV"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive; take the file to read out of it"),
        (b"SQLite format 3\x00", "an SQLite database; write the table to read as CSV"),
    ],
    ids=["html", "7z", "sqlite"],
)
def test_what_is_no_table_of_text_is_refused_by_what_to_do(
    tmp_path: Path, content: bytes, what: str
) -> None:
    path = tmp_path / "orders.csv"
    path.write_bytes(content)
    result, _ = inspected(path)
    assert result.exit_code == 2
    assert what in result.stderr


@pytest.mark.parametrize(
    ("column", "filled", "other"),
    [
        ("chargeback_date", "{}", ""),
        ("Dispute date (UTC)", "{} 10:00:00", ""),
        ("Amount charged back", "1.{}", ""),
        ("Amount disputed", "1.{}", "0.00"),
        ("dispute id", "dp_{}", ""),
    ],
)
def test_a_column_that_only_disputes_fill_may_be_the_label(
    tmp_path: Path, column: str, filled: str, other: str
) -> None:
    path = tmp_path / "orders.csv"
    values = [other] * 60
    for n in range(60):
        if n % 4 == 0:
            digits = f"2024-05-{n % 27 + 1:02}" if "date" in column else f"{n:02}1"
            values[n] = filled.format(digits)
    path.write_text(rows_of(payments(order_id=[f"o-{n}" for n in range(60)], dispute=values)))
    path.write_text(path.read_text().replace("dispute", column, 1))
    found = read(path, {"label": column, "label.legitimate_after_days": "5"})
    is_old = [n for n in range(60) if n < 40]
    assert [found.is_fraud_N[n] for n in is_old] == [n % 4 == 0 for n in is_old]


def test_words_of_a_dispute_are_asked_for_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    words = ["none", "none", "lost", "won", "none"] * 8
    path.write_text(rows_of(payments(dispute_status=words)))
    answers = {"label": "dispute_status", "label.none": "legitimate", "label.lost": "fraud"}
    answers["label.won"] = "unknown"
    found = read(path, answers)
    assert found.is_fraud_N.tolist() == [0, 0, 1, -1, 0] * 8


@pytest.mark.parametrize(
    ("column", "fraud", "legitimate"),
    [
        ("Fraude", "Sim", "Não"),
        ("Fraude", "Oui", "Non"),
        ("Oszustwo", "TAK", "NIE"),
        ("Es fraude", "Sí", "No"),
        ("CBK", "Y", "N"),
        ("is_fraud", "t", "f"),
    ],
)
def test_labels_in_other_languages_are_known(
    tmp_path: Path, column: str, fraud: str, legitimate: str
) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(amount=[f"{n}.50" for n in range(20)])
    columns[column] = [fraud if n % 5 == 3 else legitimate for n in range(20)]
    path.write_text(rows_of(columns))
    assert read(path).is_fraud_N.tolist() == [n % 5 == 3 for n in range(20)]


def test_rows_without_an_id_are_rows_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    ids = ["" if n % 20 == 7 else f"o-{n}" for n in range(40)]
    path.write_text(rows_of(payments(order_id=ids)))
    found = read(path, {"leave_out": "yes"})
    assert len(found) == 38
    assert found.left_out.unread() == 2


def test_what_is_the_same_in_every_row_is_no_account_without_a_question(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(30)])
    columns = {**columns, "email": ["shop@example.com"] * 30}
    del columns["customer_id"]
    path.write_text(rows_of(columns))
    assert read(path, {"account": "none"}).accounts_N.n_unique() == 30
    assert read(path, {"account": "email"}).accounts_N.n_unique() == 1


def test_other_times_and_the_row_s_number_are_no_features(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(40)], amount=[f"{n}.5" for n in range(40)])
    columns = {"": range(40), **columns}
    columns |= {"payout day": [f"2024-04-{1 + n // 10:02}" for n in range(40)]}
    columns |= {"settled": [f"{1 + n // 10:02}.04.2024" for n in range(40)]}
    columns |= {"unix_time": [1_700_000_000 + 1000 * n * n for n in range(40)]}
    columns |= {"TX_TIME_DAYS": [n // 4 for n in range(40)]}
    columns |= {"items": [n * n % 17 for n in range(40)], "color": ["red", "blue"] * 20}
    path.write_text(rows_of(columns))
    assert inspected(path)[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert (list(spec.numeric), list(spec.categorical)) == (["items"], ["color"])


def test_names_in_another_script_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(40)])
    path.write_text(rows_of({**columns, "加盟店": ["a", "b"] * 20, "種類": ["c", "d"] * 20}))
    assert inspected(path)[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert spec.categorical == {"field": "加盟店", "field_2": "種類"}


def test_the_encoding_is_asked_for_before_what_depends_on_it(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(30)])
    columns["金額"] = [f"￥{amount}" for amount in ("1,007", "22,180", "350") * 10]
    del columns["amount"]
    path.write_bytes(rows_of(columns, "\t").encode("cp932"))
    assert inspected(path)[1] == {"encoding"}
    result, questions = inspected(path, "encoding=cp932")
    assert questions == {"amount", "currency.￥"} or questions == {"amount"}
    assert "金額" in result.output
    options = ("encoding=cp932", "amount=金額", "currency.￥=JPY")
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    # No amount of yen has three decimals.
    assert found.amount_N.tolist() == [1007, 22180, 350] * 10


def test_what_became_of_an_order_is_no_feature(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    statuses = ["completed", "processing", "on-hold", "refunded"] * 10
    path.write_text(rows_of(payments(order_status=statuses)))
    assert inspected(path)[0].exit_code == 0
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert (spec.columns.status, spec.categorical) == (None, {})


def test_labels_of_a_single_account_are_told_to_be_no_ground_for_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "orders.csv"
    columns = payments(is_fraud=[0, 0, 0, 1] * 20, customer_id=["c-1"] * 80)
    path.write_text(rows_of(columns))
    result, _ = inspected(path, "account=customer_id")
    assert "20 frauds in 1 account: training holds accounts out" in result.output
    assert "Next: quickstudy import" in result.output
    assert 'such as currency = "EUR" under [amount]' in result.output
    words = ["--data", "orders.csv", "--spec", "orders.toml", "--out", "model"]
    done = runner.invoke(app, ["train", *words])
    assert done.exit_code == 2
    assert "labels of 1 account are too few to hold some accounts out" in done.output


@pytest.mark.parametrize(
    ("names", "zone"), [({"PST", "PDT"}, "America/Los_Angeles"), ({"CET", "CEST"}, "Europe/Berlin")]
)
def test_the_name_of_a_zone_in_a_time_is_that_place(
    tmp_path: Path, names: set[str], zone: str
) -> None:
    path = tmp_path / "orders.tsv"
    there = [time.astimezone(ZoneInfo(zone)) for time in TIMES]
    assert {time.tzname() for time in there} == names
    written = [time.strftime("%b %d, %Y %I:%M:%S %p %Z") for time in there]
    path.write_text(rows_of(payments(created_at=written), "\t"))
    assert times_of(read(path)) == sorted(TIMES)


def test_a_name_of_a_zone_without_its_other_season_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "orders.tsv"
    at = [time.strftime("%Y-%m-%d %H:%M:%S IST") for time in TIMES]
    path.write_text(rows_of(payments(created_at=at), "\t"))
    found = times_of(read(path, {"time.zone": "+05:30"}))
    assert found == sorted(time - timedelta(hours=5, minutes=30) for time in TIMES)


@pytest.mark.parametrize("parts", [["hour"], ["hour", "minute"], ["Hora", "Minuto", "Segundo"]])
@pytest.mark.parametrize("date", ["%Y-%m-%d", "%d.%m.%Y", "%Y %m %d", "%Y %b %d"])
def test_hours_and_minutes_may_have_columns_of_their_own(
    tmp_path: Path, date: str, parts: list[str]
) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(amount=[n + 1.5 for n in range(10)])
    del columns["created_at"]
    dates = [time.strftime(date) for time in TIMES]
    if " " in date:
        for n, name in enumerate(("year", "month", "day")):
            columns[name] = [day.split()[n] for day in dates]
    else:
        columns["day of payment"] = dates
    clock = [(time.hour, time.minute, time.second)[: len(parts)] for time in TIMES]
    for n, name in enumerate(parts):
        columns[name] = [time[n] for time in clock]
    path.write_text(rows_of(columns))
    whole = [
        time.replace(minute=time.minute * (len(parts) > 1), second=time.second * (len(parts) > 2))
        for time in TIMES
    ]
    assert times_of(read(path)) == sorted(whole)


@pytest.mark.parametrize(
    ("amount", "answers"),
    [
        ("US $1,234.50", {}),
        ("Rs. 1,234.50", {"currency.Rs.": "INR"}),
        ("1.234,50 kr.", {"currency.kr.": "DKK"}),
        ("1 234,50 zł", {}),
        ("-R$ 1.234,50", {"amount.negative": "spending"}),
        ("(€1,234.50)", {"amount.negative": "spending"}),
    ],
)
def test_signs_of_currencies_are_known(
    tmp_path: Path, amount: str, answers: Mapping[str, str]
) -> None:
    path = tmp_path / "orders.tsv"
    path.write_text(rows_of(payments(amount=[amount] * 9), "\t"))
    found = read(path, answers)
    assert found.amount_N.tolist() == [1234.5] * 9
    assert found.currency_N.null_count() == 0


def test_inches_are_no_quotes(tmp_path: Path) -> None:
    path = tmp_path / "orders.tsv"
    path.write_text(noted(USUAL, '15" screen').replace(",", "\t"))
    same_as_usual(read(path))


def test_a_format_that_is_none_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(USUAL)
    spec = read_spec(path)
    how = spec.time.model_copy(update={"format": "%Y-%m-%d %M"})
    with pytest.raises(DataError, match=r"format '%Y-%m-%d %M' under \[time\]"):
        read_entries(path, spec.model_copy(update={"time": how}))


def test_a_folder_is_not_inspected_but_one_of_its_files(tmp_path: Path) -> None:
    result, _ = inspected(tmp_path)
    assert result.exit_code == 2
    assert "a folder; inspect one of its files" in result.stderr


@pytest.mark.parametrize("name", ["Unnamed: 0", "__index_level_0__", "index", "row_id"])
def test_what_programs_number_rows_by_is_no_feature(tmp_path: Path, name: str) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(40)])
    path.write_text(rows_of({name: [7 * n % 41 for n in range(40)], **columns}))
    assert inspected(path)[0].exit_code == 0
    assert not DatasetSpec.load(path.with_suffix(".toml")).numeric


@pytest.mark.parametrize(
    ("column", "own"),
    [("Type", "payout"), ("reporting_category", "fee"), ("Record Type", "MerchantPayout")],
)
def test_payouts_and_fees_are_no_payments(tmp_path: Path, column: str, own: str) -> None:
    path = tmp_path / "balance.csv"
    kinds = ["charge", "charge", "refund", own, "charge"] * 8
    columns = payments(
        amount=[f"{-9 if kind == own else n + 1}.50" for n, kind in enumerate(kinds)]
    )
    path.write_text(rows_of({**columns, column: kinds}))
    found = read(path, {f"rows.{column}": "leave_out"})
    assert (len(found), min(found.amount_N), set(found.types_N)) == (
        32,
        1.5,
        {"payment", "refund"},
    )
    assert found.left_out.unread() == 0


def test_words_for_currencies_are_asked_for_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    columns = payments(currency=["US Dollar", "€", "eur"] * 10)
    path.write_text(rows_of(columns))
    found = read(path, {"currency.US Dollar": "USD"})
    assert sorted(set(found.currency_N)) == ["EUR", "USD"]


@pytest.mark.parametrize(
    ("column", "debit", "credit"),
    [
        ("Dr/Cr", "Dr", "Cr"),
        ("DC", "D", "C"),
        ("Type", "Debit", "Credit"),
        ("Soll/Haben", "S", "H"),
        ("credit_debit_indicator", "DBIT", "CRDT"),
    ],
)
def test_which_side_of_a_ledger_has_the_payments_is_a_question(
    tmp_path: Path, column: str, debit: str, credit: str
) -> None:
    path = tmp_path / "bank.csv"
    sides = [debit if n % 3 else credit for n in range(10)]
    path.write_text(rows_of(payments(**{column: sides})))
    for answer, refund in (("debit", credit), ("credit", debit)):
        found = read(path, {"type": answer})
        assert [kind == "refund" for kind in found.types_N] == [side == refund for side in sides]
        assert found.amount_N.tolist() == [n + 1.5 for n in range(10)]


def test_a_column_of_two_letters_may_be_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "bank.csv"
    path.write_text(rows_of(payments(card_type=["Debit", "Credit"] * 5)))
    assert set(read(path, {"type": "none"}).types_N) == {"payment"}
    assert DatasetSpec.load(path.with_suffix(".toml")).categorical == {"card_type": "card_type"}


def test_a_row_of_neither_side_is_named_with_the_line_that_would_help(tmp_path: Path) -> None:
    path = tmp_path / "bank.csv"
    path.write_text(rows_of(payments(**{"Dr/Cr": ["Dr", "Cr"] * 5})))
    read(path, {"type": "debit"})
    path.write_text(path.read_text().replace("4.50,Cr", "4.50,Rev"))
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    with pytest.raises(DataError, match=r"row 4 \(line 5\), column \"Dr/Cr\": 'Rev' .* \[types"):
        read_entries(path, spec)


@pytest.mark.parametrize(
    ("paid", "received"),
    [("Withdrawal Amt.", "Deposit Amt."), ("Debit", "Credit"), ("Soll", "Haben")],
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_both_sides_of_a_ledger_may_be_columns_with_or_without_signs(
    tmp_path: Path, paid: str, received: str, sign: str
) -> None:
    path = tmp_path / "bank.csv"
    columns = payments(order_id=[f"o-{n}" for n in range(10)])
    del columns["amount"]
    columns[paid] = [f"{sign}{n + 1}.50" if n % 3 else "" for n in range(10)]
    columns[received] = ["0.00" if n % 3 else f"{n + 1}.50" for n in range(10)]
    path.write_text(rows_of(columns))
    found = read(path, {"amount": f"{paid}+{received}"})
    assert found.amount_N.tolist() == [n + 1.5 for n in range(10)]
    assert [kind == "refund" for kind in found.types_N] == [n % 3 == 0 for n in range(10)]


# As CLDR has them, each with a day later than the 12th.
LOCAL = {
    "fr": ("d MMMM y HH:mm:ss", {"janvier", "décembre"}),
    "fr_FR": ("EEE d MMM y HH:mm:ss", {"févr", "mar", "sam"}),
    "de": ("dd. MMM y, HH:mm:ss", {"Mai", "Dez"}),
    "de_AT": ("EEEE, d. MMMM y 'um' HH:mm:ss 'Uhr'", {"Jänner", "Uhr"}),
    "es": ("dd-MMM-y HH:mm:ss", {"ene", "dic"}),
    "es_MX": ("dd/MM/y hh:mm:ss a", {"a.m"}),
    "pt": ("d 'de' MMMM 'de' y HH:mm:ss", {"março", "dezembro"}),
    "it": ("dd/MMM/yy HH:mm:ss", {"gen", "dic"}),
    "pl": ("d MMMM y HH:mm:ss", {"stycznia"}),
    "ru": ("d MMMM y '\u0433.' HH:mm:ss", {"января"}),
    "tr": ("d MMMM y EEEE HH:mm:ss", {"Ocak", "Cumartesi"}),
    "hu": ("y. MMMM d. HH:mm:ss", {"január"}),
    "ja": ("y年M月d日 HH:mm:ss", set()),
    "en_GB": ("dMMMy:HH:mm:ss", set()),
}


@pytest.mark.parametrize("language", LOCAL)
def test_months_may_be_written_in_another_language(tmp_path: Path, language: str) -> None:
    form, words = LOCAL[language]
    path = tmp_path / "orders.tsv"
    at = [format_datetime(time, form, locale=language) for time in TIMES]
    path.write_text(rows_of(payments(created_at=at), "\t"))
    assert times_of(read(path)) == sorted(TIMES)
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert words <= set(spec.time.words)
    # A file of labels is read by the same words, without Polars.
    assert sorted(instant_of(text, spec.time) for text in at) == [
        int(time.timestamp()) * 1_000_000 for time in sorted(TIMES)
    ]


@pytest.mark.parametrize(
    ("month", "meanings"),
    [("listopada", {"pl": 11, "hr": 10}), ("sept", {"de": 9}), ("maig", {"ca": 5})],
)
def test_the_language_of_months_is_asked_for_where_several_have_them(
    tmp_path: Path, month: str, meanings: dict[str, int]
) -> None:
    path = tmp_path / "orders.csv"
    path.write_text(rows_of(payments(created_at=[f"{n + 13} {month} 2025" for n in range(10)])))
    for language, number in meanings.items():
        answers = {"time.language": language} if month != "maig" else {}
        assert {time.month for time in times_of(read(path, answers))} == {number}


def test_months_cut_off_or_with_other_letters_are_known_by_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    at = ["13. Mrz 2024", "14. MÄR. 2024", "15. Dezemb. 2024", "16. okt 2024"] * 3
    path.write_text(rows_of(payments(created_at=at)))
    assert {time.month for time in times_of(read(path))} == {3, 10, 12}


def test_a_word_that_the_spec_does_not_know_is_named_with_what_it_may_mean(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    written = rows_of(payments(created_at=[f"{n + 13} févr. 2024" for n in range(10)]))
    path.write_text(written)
    spec = read_spec(path)
    path.write_text(written.replace("16 févr.", "16 févier"))
    with pytest.raises(DataError, match=r"row 4 \(line 5\), column \"created_at\": '16 févier 2"):
        read_entries(path, spec)
    path.write_text(written.replace("16 févr.", "16 janvier"))
    cure = re.escape('; words = { "janvier" = "January" } under [time] would read it')
    with pytest.raises(DataError, match=rf"'16 janvier 2024' is not a time .*{cure}"):
        read_entries(path, spec)
    # Of another form, too.
    path.write_text(written.replace("16 févr.", "16. janvier"))
    cure = (
        '; format = ["%d %B %Y", "%d. %B %Y"] with words = { "janvier" = "January" } under [time]'
    )
    with pytest.raises(DataError, match=rf"'16. janvier 2024' is not a time .*{re.escape(cure)}"):
        read_entries(path, spec)
    path.write_text(written.replace("16 févr.", "16. févr."))
    cure = '; format = ["%d %B %Y", "%d. %B %Y"] under [time] would read it'
    with pytest.raises(DataError, match=rf"'16. févr. 2024' is not a time .*{re.escape(cure)}"):
        read_entries(path, spec)
    # English needs no words.
    path.write_text(written.replace("16 févr. ", "16-Mar-"))
    with pytest.raises(
        DataError, match=r'; format = \["%d %B %Y", "%d-%b-%Y"\] under \[time\] would'
    ):
        read_entries(path, spec)
    path.write_text(written)
    plain = spec.model_copy(update={"time": Time()})
    cure = re.escape('; format = "%d %B %Y" with words = { "févr" = "February" } under [time]')
    with pytest.raises(DataError, match=rf"'13 févr. 2024' is not a time .*{cure}"):
        read_entries(path, plain)


def test_other_times_in_another_language_are_no_features(tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    settled = [f"{n % 27 + 1} {('janvier', 'février', 'août')[n % 3]} 2024" for n in range(60)]
    columns = payments(order_id=[f"o-{n}" for n in range(60)], settled_on=settled)
    path.write_text(rows_of(columns))
    read_spec(path)
    assert DatasetSpec.load(path.with_suffix(".toml")).categorical == {}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"format": "%d %B %Y", "words": {"mars": "Mars"}}, "'Mars' is not an English month"),
        ({"format": "%d %B %Y", "words": {"mai": "May", "Mai.": "June"}}, "'mai' has two meanings"),
        ({"words": {"mars": "March"}}, "words of times need a format"),
    ],
)
def test_words_of_times_are_months_and_days_in_english(how: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Time.model_validate(how)


NEGATIVES = ["{}-", "({})", "-{}", "\u2212{}", "- {}", "{} -"]


@pytest.mark.parametrize("written", NEGATIVES)
@pytest.mark.parametrize("mark", [".", ","])
def test_a_negative_amount_may_be_written_as_accountants_and_sap_do(
    tmp_path: Path, written: str, mark: str
) -> None:
    path = tmp_path / "bank.tsv"
    amounts = [
        f"{n + 1}{mark}50" if n % 3 else written.format(f"{n + 1}{mark}50") for n in range(10)
    ]
    path.write_text(rows_of(payments(amount=amounts), "\t"))
    found = read(path, {"amount.negative": "refund"})
    assert found.amount_N.tolist() == [n + 1.5 for n in range(10)]
    assert [kind == "refund" for kind in found.types_N] == [n % 3 == 0 for n in range(10)]


@pytest.mark.parametrize(
    ("paid", "received", "answers"),
    [
        ("{} Dr", "{} Cr", {}),
        ("{}DR", "{}CR", {}),
        ("{} S", "{} H", {}),
        ("Dr. {}", "Cr. {}", {}),
        ("{} EUR S", "{} EUR H", {}),
        ("{}", "{} CR", {}),
        ("${} DB", "${}", {"currency.$": "USD"}),
    ],
)
def test_an_amount_may_have_its_side_of_the_ledger_beside_it(
    tmp_path: Path, paid: str, received: str, answers: dict[str, str]
) -> None:
    path = tmp_path / "bank.tsv"
    amounts = [(paid if n % 3 else received).format(f"{n + 1}.50") for n in range(10)]
    path.write_text(rows_of(payments(amount=amounts), "\t"))
    for answer in ("debit", "credit"):
        found = read(path, {"amount.side": answer, **answers})
        assert found.amount_N.tolist() == [n + 1.5 for n in range(10)]
        is_refund = [(n % 3 == 0) == (answer == "debit") for n in range(10)]
        assert [kind == "refund" for kind in found.types_N] == is_refund


def test_a_side_that_the_spec_does_not_know_is_named_with_the_line_that_would_help(
    tmp_path: Path,
) -> None:
    path = tmp_path / "bank.csv"
    path.write_text(rows_of(payments(order_id=[f"o-{n}" for n in range(10)])))
    spec = read_spec(path)
    path.write_text(path.read_text().replace("4.50", "4.50 Cr"))
    cure = re.escape('sides = { "Cr" = "payment" } under [amount] would read it, or "refund"')
    with pytest.raises(DataError, match=rf"row 4 \(line 5\), column \"amount\": '4.50 Cr'.*{cure}"):
        read_entries(path, spec)
    sides = Amount.model_validate({"sides": {"Cr": "refund"}})
    found = read_entries(path, spec.model_copy(update={"amount": sides}))
    assert found.types_N.to_list().count("refund") == 1
    # A minus beside a side may mean anything.
    path.write_text(path.read_text().replace("7.50", "-7.50 Cr"))
    with pytest.raises(DataError, match=r'row 7 .*negative = "refund"'):
        read_entries(path, spec.model_copy(update={"amount": sides}))


@pytest.mark.parametrize(("text", "is_mended"), [("$7.50", True), ("x7.50?", False)])
def test_a_currency_is_proposed_only_where_it_would_read_the_amount(
    tmp_path: Path, text: str, is_mended: bool
) -> None:
    path = tmp_path / "shop.csv"
    path.write_text(rows_of(payments(order_id=[f"o-{n}" for n in range(10)])))
    spec = read_spec(path)
    path.write_text(path.read_text().replace("7.50", text))
    with pytest.raises(DataError) as refused:
        read_entries(path, spec)
    assert f"row 7 (line 8), column \"amount\": '{text}'" in str(refused.value)
    assert ("currencies = {" in str(refused.value)) == is_mended
    if is_mended:
        amount = spec.amount.model_copy(update={"currencies": {"$": "USD"}})
        found = read_entries(path, spec.model_copy(update={"amount": amount}))
        assert found.amount_N[6] == 7.5


def test_amounts_with_sides_have_no_other_sign(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negative amounts are no spending where sides"):
        Amount.model_validate({"sides": {"Cr": "refund"}, "negative": "spending"})


DATEV = '"EXTF";700;21;"Buchungsstapel";13;20240130140440;;"RE";"";"";29098;55003;20230701;4\n'


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_days_of_datev_are_of_the_year_in_its_first_line(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "EXTF_Buchungsstapel.csv"
    days = [datetime(2023, 7, 1, tzinfo=UTC) + timedelta(days=9 * n) for n in range(40)]
    columns: dict[str, Sequence[object]] = {
        "Umsatz (ohne Soll/Haben-Kz)": [f"{1200 + n},50" for n in range(40)],
        "Soll/Haben-Kennzeichen": ["S" if n % 4 else "H" for n in range(40)],
        "WKZ Umsatz": ["EUR"] * 40,
        "Konto": [10000 + n % 5 for n in range(40)],
        "Gegenkonto (ohne BU-Schlüssel)": [8400] * 40,
        "Belegdatum": [f"{day.day}{day.month:02}" for day in days],
        **{f"Beleginfo - Art {n}": [""] * 40 for n in range(20)},
    }
    path.write_bytes((DATEV + rows_of(columns, ";")).encode(encoding))
    answers = {"type": "debit"}
    if encoding != "utf-8":
        assert inspected(path)[1] == {"encoding"}
    options = [f"{name}={value}" for name, value in answers.items()]
    options += [f"encoding={encoding}"] * (encoding != "utf-8")
    assert inspected(path, *options)[0].exit_code == 0
    found = read_entries(path, DatasetSpec.load(path.with_suffix(".toml")))
    assert times_of(found) == days
    assert found.amount_N.tolist() == [1200.5 + n for n in range(40)]
    assert found.types_N.to_list().count("refund") == 10
    assert set(found.currency_N) == {"EUR"}


@pytest.mark.parametrize("form", ["%d.%m.", "%d/%m", "%m-%d", "%d %b", "%B %d"])
def test_the_year_of_days_without_one_is_asked_for(tmp_path: Path, form: str) -> None:
    path = tmp_path / "statement.csv"
    at = [time.strftime(form) for time in TIMES]
    columns = payments(order_id=[f"o-{n}" for n in range(10)], booked_on=at)
    del columns["created_at"]
    path.write_text(rows_of(columns))
    found = read(path, {"time.year_from": "2023-04-01"})
    expected = [time.date().replace(year=2024 if time.month < 4 else 2023) for time in TIMES]
    assert [time.date() for time in times_of(found)] == sorted(expected)
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert [instant_of(text, spec.time) for text in at] == [
        int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000
        for day in expected
    ]


def test_days_without_a_year_that_may_be_months_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "statement.csv"
    columns = payments(booked_on=[f"{n + 1:02}/03" for n in range(10)])
    del columns["created_at"]
    path.write_text(rows_of(columns))
    found = read(path, {"time.format": "%d/%m", "time.year_from": "2024-01-01"})
    assert {time.month for time in times_of(found)} == {3}


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"format": "%d%m"}, "format '%d%m' has no year: year_from says"),
        (
            {"format": "%d%m%Y", "year_from": "2024-01-01"},
            "year_from needs a format without a year",
        ),
    ],
)
def test_a_format_without_a_year_needs_one(how: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Time.model_validate(how)

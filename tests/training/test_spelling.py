"""Files as other programs write them, read by what a spec says of them."""

import bz2
import gzip
import io
import lzma
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from app.learner.spec import DatasetSpec
from app.learner.transaction import ASIDE, DAY_US, SPENT, TRIED
from app.training.dataset import NEVER_US, UNLABELLED, Dataset, read_transactions
from app.training.entries import Entries, read_entries
from app.training.files import DataError

COLUMNS = {"transaction": "id", "account": "card", "time": "at", "amount": "paid"}
NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
GERMAN = "id;card;at;paid\nt1;café;2024-01-01 12:00;10,50\nt2;b;2024-01-02 12:00;3\n"
PLAIN = "id,card,at,paid\nt1,café,2024-01-01 12:00,10.50\nt2,b,2024-01-02 12:00,3\n"


def spec_of(columns: dict[str, Any] | None = None, **parts: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {"name": "shop", "columns": {**COLUMNS, **(columns or {})}, **parts}
    )


def written(folder: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def entries(folder: Path, content: str, columns: Any = None, **parts: Any) -> Entries:
    return read_entries(written(folder, content), spec_of(columns, **parts))


def dataset(folder: Path, content: str, columns: Any = None, **parts: Any) -> Dataset:
    return read_transactions(written(folder, content), spec_of(columns, **parts))


def refusal(folder: Path, content: str, columns: Any = None, **parts: Any) -> str:
    path = written(folder, content)
    with pytest.raises(DataError) as caught:
        read_entries(path, spec_of(columns, **parts))
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def seconds(found: Entries) -> list[float]:
    """From noon of 2024-01-01, in UTC."""
    noon_us = int(NOON.timestamp()) * 1_000_000
    return [(int(time_us) - noon_us) / 1e6 for time_us in found.time_us_N]


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("export.csv", content)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "form"),
    [
        ("a.csv", PLAIN.encode(), {}),
        ("a.csv", b"\xef\xbb\xbf" + PLAIN.encode(), {}),
        ("a.tsv", PLAIN.replace(",", "\t").encode(), {}),
        ("a.csv", PLAIN.replace(",", ";").encode(), {"delimiter": ";"}),
        ("a.txt", PLAIN.replace(",", "|").encode(), {"delimiter": "|"}),
        ("a.dat", PLAIN.encode(), {"format": "csv"}),
        ("a.csv", PLAIN.encode("latin-1"), {"encoding": "latin-1"}),
        ("a.csv", PLAIN.encode("utf-16"), {"encoding": "utf-16"}),
        ("a.csv.gz", gzip.compress(PLAIN.encode(), mtime=0), {}),
        ("a.csv.bz2", bz2.compress(PLAIN.encode("cp1252")), {"encoding": "cp1252"}),
        ("a.csv.xz", lzma.compress(PLAIN.encode()), {}),
        ("a.csv.zip", zipped(PLAIN.encode()), {}),
        ("a.csv", gzip.compress(PLAIN.encode(), mtime=0), {"compression": "gzip"}),
        (
            "a.csv",
            f"Export of May\n\n{PLAIN}Total,,,13.50\n".encode(),
            {"skip_lines": 2, "footer_lines": 1},
        ),
        ("a.csv", PLAIN.partition("\n")[2].encode(), {"header": list(COLUMNS.values())}),
        ("a.csv", PLAIN.replace("t1", "'t1'").encode(), {"quote": "'"}),
        ("a.csv", GERMAN.encode(), {"delimiter": ";", "decimal": ","}),
    ],
)
def test_a_file_may_be_of_any_form(
    tmp_path: Path, name: str, content: bytes, form: dict[str, Any]
) -> None:
    found = read_entries(written(tmp_path, content, name), spec_of(file=form))
    assert found.ids_N.to_list() == ["t1", "t2"]
    assert found.accounts_N.to_list() == ["café", "b"]
    assert found.amount_N.tolist() == [10.5, 3]
    assert seconds(found) == [0, 86400]


def test_a_row_is_named_by_its_line_in_the_file_itself(tmp_path: Path) -> None:
    content = f"Export\n\n{PLAIN.replace('3', 'x')}"
    path = written(tmp_path, gzip.compress(content.encode("utf-16")), "a.csv.gz")
    with pytest.raises(DataError, match=r"row 2 \(line 5\), column \"paid\": 'x' is not a number"):
        read_entries(path, spec_of(file={"encoding": "utf-16", "skip_lines": 2}))


def test_words_for_nothing_are_missing(tmp_path: Path) -> None:
    content = "id,card,at,paid,age\nt1,a,2024-01-01,1,NULL\nt2,a,2024-01-01,1,3\n"
    found = entries(tmp_path, content, numeric={"age": "age"}, file={"missing": ["NULL"]})
    assert found.numeric_NM[1] == 3
    assert found.numeric_NM[0] != found.numeric_NM[0]
    assert 'missing = ["NULL"]' in refusal(
        tmp_path, content.replace("3\n", "NULL\n"), numeric={"age": "age"}
    )


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("2024-01-01 12:00:00+00", {}),
        ("2024-01-01 16:00:00 +0400", {}),
        ("2024-01-01 07:00:00-05", {}),
        ("01/01/2024 12:00", {"format": "%d/%m/%Y %H:%M"}),
        ("1/1/24 12:00 PM", {"format": "%m/%d/%y %I:%M %p"}),
        ("01.01.2024 12:00:00.000", {"format": "%d.%m.%Y %H:%M:%S%.f"}),
        ("20240101120000", {"format": "%Y%m%d%H%M%S"}),
        ("Jan 1 2024 16:00 +0400", {"format": "%b %d %Y %H:%M %z"}),
        ("1704110400000", {"unit": "milliseconds"}),
        ("1704110400.0", {"unit": "seconds"}),
        ("36", {"unit": "hours", "origin": datetime(2023, 12, 31)}),
        ("0.5", {"unit": "days", "origin": datetime(2024, 1, 1)}),
        ("2024-01-01 13:00", {"zone": "Europe/Paris"}),
        ("2024-01-01 04:00", {"zone": "America/Los_Angeles"}),
        ("2024-01-01 17:30", {"zone": "+05:30"}),
        # A time that has an offset is where it says.
        ("2024-01-01 12:00Z", {"zone": "Europe/Paris"}),
    ],
)
def test_a_time_is_read_by_its_form_unit_and_zone(
    tmp_path: Path, text: str, how: dict[str, Any]
) -> None:
    found = entries(tmp_path, f"id,card,at,paid\nt1,a,{text},1\n", time=how)
    assert seconds(found) == [0]


def test_an_eight_digit_date_in_parquet_is_a_number_with_a_format(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"id": [1], "card": ["a"], "at": [20240102], "paid": [1.0]}).write_parquet(path)
    assert seconds(read_entries(path, spec_of(time={"format": "%Y%m%d"}))) == [43200]


def test_a_time_may_stand_in_several_columns_and_each_row_name_its_zone(tmp_path: Path) -> None:
    content = "id,card,y,m,d,at,paid,zone\n"
    rows = ["2024,1,1,06:00,1,CST", "2024,1,1,13:00,1,Europe/Paris", "2024,1,1,12:00,1,"]
    content += "".join(f"t{n},a,{row}\n" for n, row in enumerate(rows))
    columns = {"time": ["y", "m", "d", "at"]}
    how = {"format": "%Y %m %d %H:%M", "zone_column": "zone"}
    found = entries(tmp_path, content, columns, time={**how, "zones": {"CST": "-06:00"}})
    assert seconds(found) == [0, 0, 0]
    refused = refusal(tmp_path, content, columns, time=how)
    assert refused.startswith("row 1 (line 2), column \"zone\": 'CST' is not a time zone")
    assert 'zones = { "CST" = "+01:00" } under [time]' in refused
    refused = refusal(tmp_path, content.replace("1,06:00", "x,06:00"), columns, time=how)
    assert refused.startswith(
        'row 1 (line 2), columns "y", "m", "d", "at": '
        "'2024 1 x 06:00' is not a time (of the format %Y %m %d %H:%M); leave_out = 0.334"
    )


def test_an_hour_that_is_there_twice_or_never_is_refused_unless_the_spec_says(
    tmp_path: Path,
) -> None:
    twice = "id,card,at,paid\nt1,a,2024-10-27 02:30,1\n"
    refused = refusal(tmp_path, twice, time={"zone": "Europe/Berlin"})
    assert "2024-10-27 02:30:00 comes twice in Europe/Berlin" in refused
    assert 'ambiguous = "earlier"' in refused
    for ambiguous, hour in (("earlier", 0), ("later", 1)):
        how = {"zone": "Europe/Berlin", "ambiguous": ambiguous}
        [at] = entries(tmp_path, twice, time=how).time_us_N
        assert datetime.fromtimestamp(at / 1e6, UTC) == datetime(2024, 10, 27, hour, 30, tzinfo=UTC)
    never = twice.replace("10-27", "03-31")
    assert 'skipped = "shift"' in refusal(tmp_path, never, time={"zone": "Europe/Berlin"})
    [at] = entries(tmp_path, never, time={"zone": "Europe/Berlin", "skipped": "shift"}).time_us_N
    assert datetime.fromtimestamp(at / 1e6, UTC) == datetime(2024, 3, 31, 1, 30, tzinfo=UTC)
    assert "'Mars' is not a time zone" in refusal(tmp_path, never, time={"zone": "Mars"})


@pytest.mark.parametrize(
    ("text", "form", "currencies", "expected"),
    [
        ('"1,500.25"', {"thousands": ","}, {}, 1500.25),
        ('"1.500,25"', {"thousands": ".", "decimal": ","}, {}, 1500.25),
        ('"1\u202f500,25"', {"thousands": " ", "decimal": ","}, {}, 1500.25),
        ("1\u2019500.25", {"thousands": "'"}, {}, 1500.25),
        ('"1,00,500.5"', {"thousands": ","}, {}, 100500.5),
        ("$1500.25", {}, {"$": "USD"}, 1500.25),
        ('"1.500,25 €"', {"thousands": ".", "decimal": ","}, {"€": "EUR"}, 1500.25),
        ("EUR 12", {}, {"EUR": "EUR", "€": "EUR"}, 12),
        ("12 US$", {}, {"$": "CAD", "US$": "USD"}, 12),
    ],
)
def test_an_amount_is_read_by_its_marks_and_signs(
    tmp_path: Path, text: str, form: Any, currencies: Any, expected: float
) -> None:
    content = f"id,card,at,paid\nt1,a,2024-01-01,{text}\n"
    found = entries(tmp_path, content, file=form, amount={"currencies": currencies})
    assert found.amount_N.tolist() == [expected]
    codes = [code for sign, code in currencies.items() if sign in text][-1:]
    assert found.currency_N.to_list() == (codes or [None])


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('"1,50"', {"thousands": ","}),
        ('"1,2345"', {"thousands": ","}),
        ("1.500", {"decimal": ","}),
        ("-", {"decimal": ","}),
        ("12 EUR", {"decimal": ","}),
    ],
)
def test_a_number_by_other_marks_is_refused(tmp_path: Path, text: str, form: Any) -> None:
    refused = refusal(tmp_path, f"id,card,at,paid\nt1,a,2024-01-01,{text}\n", file=form)
    assert 'column "paid": ' in refused
    assert "is not a number" in refused


@pytest.mark.parametrize(
    ("negative", "expected"),
    [
        ("refund", [("payment", 5), ("refund", 3), ("payment", 0)]),
        ("spending", [("refund", 5), ("payment", 3), ("payment", 0)]),
        ("leave_out", [("payment", 5), ("payment", 0)]),
    ],
)
def test_the_sign_of_an_amount_says_what_the_spec_says(
    tmp_path: Path, negative: str, expected: list[tuple[str, float]]
) -> None:
    content = "id,card,at,paid\nt1,a,2024-01-01,5\nt2,a,2024-01-01,(3)\nt3,a,2024-01-01,0\n"
    how, file = {"negative": negative}, {"thousands": ","}
    found = entries(tmp_path, content, amount=how, file=file)
    assert list(zip(found.types_N, found.amount_N.tolist(), strict=True)) == expected
    refused = refusal(tmp_path, content, file=file)
    assert "is negative" in refused
    assert 'negative = "refund", "spending"' in refused
    checked = dataset(tmp_path, content, amount={**how, "zero": "verification"}, file=file)
    assert checked.columns.standing_N[-1] == TRIED
    assert {ASIDE, SPENT} >= set(checked.columns.standing_N[:-1])


def test_refunds_may_stand_in_a_column_of_their_own(tmp_path: Path) -> None:
    content = "id,card,at,out,paid\nt1,a,2024-01-01,,12.00\nt2,a,2024-01-02,4,\n"
    found = entries(tmp_path, content, {"refund": "out"})
    assert found.types_N.to_list() == ["payment", "refund"]
    assert found.amount_N.tolist() == [12, 4]
    assert "the amount is missing" in refusal(
        tmp_path, content.replace(",4,", ",,"), {"refund": "out"}
    )


def test_a_file_without_amounts_has_amounts_of_0_and_cents_are_divided(tmp_path: Path) -> None:
    content = "id,card,at,paid\nt1,a,2024-01-01,1999\n"
    assert entries(tmp_path, content, {"amount": None}).amount_N.tolist() == [0]
    assert entries(tmp_path, content, amount={"divide_by": 100}).amount_N.tolist() == [19.99]


def test_words_of_a_file_for_currencies_types_and_statuses_have_a_meaning(tmp_path: Path) -> None:
    content = (
        "id,card,at,paid,cur,kind,state\n"
        "t1,a,2024-01-01,1,eur,Sale,Paid\nt2,a,2024-01-01,1,USD,Return,\n"
    )
    found = entries(
        tmp_path,
        content,
        {"currency": "cur", "type": "kind", "status": "state"},
        amount={"currencies": {"eur": "EUR"}},
        types={"Sale": "payment", "Return": "refund"},
        statuses={"Paid": "authorised"},
        categorical={"currency": "cur"},
    )
    assert found.currency_N.to_list() == found.categories["currency"].to_list() == ["EUR", "USD"]
    assert found.types_N.to_list() == ["payment", "refund"]
    assert found.statuses_N.to_list() == ["authorised", None]
    refused = refusal(tmp_path, content, {"type": "kind"})
    assert '"Sale" = "payment" under [types] says which it is' in refused


def test_labels_may_be_words_of_the_file(tmp_path: Path) -> None:
    content = "id,card,at,paid,bad\n" + "".join(
        f"t{n},a,2024-01-01,1,{word}\n" for n, word in enumerate(["Yes", "no", "2", ""])
    )
    words = {"fraud": ["yes"], "legitimate": ["No"], "unknown": ["2"]}
    found = entries(tmp_path, content, {"label": "bad"}, label=words)
    assert found.is_fraud_N.tolist() == [1, 0, UNLABELLED, UNLABELLED]
    refused = refusal(tmp_path, content.replace("Yes", "1"), {"label": "bad"}, label=words)
    assert refused.startswith(
        "row 1 (line 2), column \"bad\": '1' is not a label (yes, No, 2 or null)"
    )
    assert 'unknown = ["1"]' in refused
    assert "fraud, legitimate and unknown under [label]" in refused


def test_of_chargebacks_alone_what_is_old_enough_is_legitimate(tmp_path: Path) -> None:
    content = "id,card,at,paid,bad\n" + "".join(
        f"t{n},a,2024-01-{day:02},1,{word}\n"
        for n, (day, word) in enumerate([(1, ""), (2, "1"), (21, ""), (31, "")])
    )
    how = {"delay_days": 5, "legitimate_after_days": 30}
    found = entries(tmp_path, content, {"label": "bad"}, label=how)
    assert found.is_fraud_N.tolist() == [0, 1, UNLABELLED, UNLABELLED]
    delay_days = (found.known_at_us_N - found.time_us_N)[:2] / DAY_US
    assert delay_days.tolist() == [30, 5]
    assert (found.known_at_us_N[2:] == NEVER_US).all()


def test_ids_come_from_several_columns_or_the_number_of_the_row(tmp_path: Path) -> None:
    content = "user,card,at,paid\n0,1,2024-01-02,1\n\n0,2,2024-01-01,1\n"
    columns = {"transaction": {"row_number": "may-"}, "account": ["user", "card"]}
    found = entries(tmp_path, content, columns)
    assert found.ids_N.to_list() == ["may-3", "may-1"]
    assert found.accounts_N.to_list() == ["0-2", "0-1"]
    alike = content.replace("0,1,", "0-2,3,").replace("0,2,", "0,2-3,")
    refused = refusal(tmp_path, alike, columns)
    assert refused.startswith(
        'row 3 (line 4), columns "user", "card": \'0-2-3\' is the text of another'
    )
    assert 'joined_by under [rows], such as "/"' in refused
    assert entries(tmp_path, alike, columns, rows={"joined_by": "/"}).accounts_N.n_unique() == 2
    refused = refusal(tmp_path, content.replace("0,2,", "0,,"), columns)
    assert 'columns "user", "card": it is missing' in refused


def test_rows_of_one_order_are_its_first_or_their_sum(tmp_path: Path) -> None:
    content = "id,card,at,paid\n#1,a,2024-01-01,0.1\n#2,b,2024-01-01,5\n#1,a,2024-01-01,0.2\n"
    for same, amounts in (("first", [0.1, 5]), ("sum", [0.3, 5])):
        found = entries(tmp_path, content, rows={"same_transaction": same})
        assert found.ids_N.to_list() == ["#1", "#2"]
        assert found.amount_N.tolist() == amounts
    # Shopify leaves all else out of the later rows.
    bare = content.replace("#1,a,2024-01-01,0.2", "#1,,,")
    assert len(entries(tmp_path, bare, rows={"same_transaction": "first"})) == 2
    other = content.replace("#1,a,2024-01-01,0.2", "#1,c,2024-01-01,0.2")
    refused = refusal(tmp_path, other, rows={"same_transaction": "sum"})
    assert (
        "row 3 (line 4), column \"card\": 'c' is another account than in the first row" in refused
    )


def test_only_rows_of_some_values_are_transactions(tmp_path: Path) -> None:
    content = "id,card,at,paid,kind\nt1,a,2024-01-01,1,Sale\np1,,,,Payout\n"
    found = entries(tmp_path, content, rows={"only": {"kind": ["Sale"]}})
    assert found.ids_N.to_list() == ["t1"]
    assert found.left_out.sentence() == "1 of 2 rows are left out: 1 not Sale (kind)"


BAD = "id,card,at,paid\n" + "".join(
    f"t{n},a,{at},{paid}\n"
    for n, (at, paid) in enumerate(
        [("2024-01-01", "1")] * 97 + [("soon", "1"), ("", "1"), ("2024-01-01", "x")]
    )
)


def test_bad_rows_are_left_out_up_to_a_share_counted_and_kept(tmp_path: Path) -> None:
    assert "leave_out = 0.01 under [rows] leaves such rows out (1 of 100)" in refusal(tmp_path, BAD)
    found = entries(tmp_path, BAD.replace("t0,a", "t0,a,a,a"), rows={"leave_out": 0.04})
    assert len(found) == 96
    assert found.left_out.sentence() == (
        "4 of 100 rows are left out: 1 more fields than the header (id), "
        "1 the time is missing (at), 1 not a time (at), 1 not a number (paid)"
    )
    kept = pl.read_csv(found.left_out.keep(), infer_schema=False)
    assert found.left_out.keep() == tmp_path / "file.left-out.csv"
    assert kept.select("row", "line", "reason").rows()[1:] == [
        ("98", "99", "not a time (at)"),
        ("99", "100", "the time is missing (at)"),
        ("100", "101", "not a number (paid)"),
    ]
    assert kept["paid"][-1] == "x"
    refused = refusal(tmp_path, BAD, rows={"leave_out": 0.02})
    assert "3 of 100 rows cannot be read, more than leave_out = 0.02 under [rows] allows" in refused


def test_an_order_that_has_a_bad_row_is_left_out_as_a_whole(tmp_path: Path) -> None:
    content = "id,card,at,paid\n#1,a,2024-01-01,1\n#1,a,2024-01-01,x\n#2,a,2024-01-01,1\n"
    rows = {"same_transaction": "sum", "leave_out": 0.7}
    found = entries(tmp_path, content, rows=rows)
    assert found.ids_N.to_list() == ["#2"]
    assert len(found.left_out) == 2


@pytest.mark.parametrize(
    ("content", "cure"),
    [
        (PLAIN.replace(",", ";"), 'delimiter = ";" under [file] would divide it'),
        (PLAIN.replace("paid", "Paid"), 'is it "Paid"?'),
        (
            PLAIN.replace("2024-01-01", "31/12/2023").replace("2024-01-02", "31/12/2023"),
            'format = "%d/%m/%Y %H:%M" under [time]',
        ),
        ("id,card,at,paid\nt1,a,1704110400000,1\n", 'unit = "milliseconds" under [time]'),
        ("id,card,at,paid\nt1,a,1.5,1\n", 'unit, such as "hours", and origin under [time]'),
        (PLAIN.replace("10.50", "$10.50"), 'currencies = { "$" = "USD" } under [amount]'),
        (PLAIN.replace("10.50", '"10,50"'), 'decimal = "," under [file]'),
        (PLAIN.replace("10.50", '"1.010,50"'), 'decimal = "," with thousands = "." under [file]'),
        (PLAIN.replace("10.50", "-3"), 'negative = "refund", "spending" or "leave_out"'),
    ],
)
def test_a_refusal_names_the_line_of_the_spec_that_would_help(
    tmp_path: Path, content: str, cure: str
) -> None:
    assert cure in refusal(tmp_path, content)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"file": {"encoding": "klingon"}}, "'klingon' is not an encoding"),
        ({"file": {"decimal": ",", "thousands": ","}}, "decimal and thousands are both ','"),
        ({"time": {"format": "%Y", "unit": "days"}}, "a format or a unit, not both"),
        ({"time": {"origin": NOON}}, "an origin needs a unit"),
        ({"label": {"fraud": ["1"], "legitimate": ["1"]}}, "the word '1' has two meanings"),
        ({"columns": {**COLUMNS, "amount": None, "currency": "c"}}, "amounts need a column"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        DatasetSpec.model_validate({"name": "shop", "columns": COLUMNS, **parts})

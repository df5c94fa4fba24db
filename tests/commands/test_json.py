"""Rows that are objects of JSON, as APIs, MongoDB, BigQuery and logs write them.

Each file is the same forty payments, and must be read as their CSV is.
"""

import gzip
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from app.cli.main import app
from app.learner.spec import DatasetSpec
from app.training.entries import Entries, read_entries
from app.training.files import DataError
from tests.commands.test_forms import read
from tests.conftest import sqlite_url

START = datetime(2024, 3, 13, 9)
ROWS: list[dict[str, Any]] = [
    {
        "order_id": f"o-{n}",
        "customer_id": f"c-{n % 3}",
        "created_at": (START + timedelta(hours=7 * n)).isoformat(),
        "amount": n + 0.25,
        "currency": "EUR",
        "device": {"id": f"d-{n % 4}", "os": {"name": ("ios", "android")[n % 2]}},
        "is_fraud": n % 8 == 3,
        "tags": ["new", n],
        "note": None if n % 2 else "",
    }
    for n in range(40)
]


def lines(rows: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def as_mongo(row: dict[str, Any]) -> dict[str, Any]:
    """Extended JSON, which says of numbers and times what type they are."""
    n = int(row["amount"])
    amount = {"$numberDecimal": f"{n}.25"} if n % 2 else {"$numberDouble": f"{n}.25"}
    at = datetime.fromisoformat(row["created_at"])
    return {
        "_id": {"$oid": row["order_id"]},
        **{key: row[key] for key in ("customer_id", "device", "is_fraud", "currency")},
        "created_at": {"$date": f"{at:%Y-%m-%dT%H:%M:%S}.000Z"},
        "amount": amount,
    }


def sparse(row: dict[str, Any]) -> dict[str, Any]:
    """Without what is false or nothing, as logs are written; a number may be a text."""
    kept = {key: value for key, value in row.items() if value}
    n = int(row["amount"])
    return {**kept, "amount": str(row["amount"]) if n % 5 else row["amount"]}


PAGE = {"object": "list", "has_more": False, "data": ROWS}
WRITTEN: dict[str, tuple[str, bytes]] = {
    "lines": ("orders.jsonl", lines(ROWS).encode()),
    "blank lines": ("orders.ndjson", lines(ROWS, "\r\n\r\n").encode()),
    "by another suffix": ("orders.log", lines(ROWS).encode()),
    "a mark before": ("orders.json", "\ufeff".encode() + lines(ROWS).encode()),
    "gzip": ("orders.jsonl.gz", gzip.compress(lines(ROWS).encode())),
    "a list": ("orders.json", json.dumps(ROWS).encode()),
    "a list, indented": ("orders.json", json.dumps(ROWS, indent=2).encode()),
    "long objects": ("orders.json", "\n".join(json.dumps(r, indent=1) for r in ROWS).encode()),
    "an answer of an API": ("orders.json", json.dumps(PAGE, indent=2).encode()),
    "pages of it": ("orders.jsonl", lines([{**PAGE, "data": [row]} for row in ROWS]).encode()),
    "mongo": ("orders.json", lines([as_mongo(row) for row in ROWS]).encode()),
    "in Latin-1": ("orders.jsonl", lines(ROWS).replace("o-0", "ö-0").encode("latin-1")),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_objects_of_json_are_read_however_they_stand(tmp_path: Path, name: str) -> None:
    file, content = WRITTEN[name]
    path = tmp_path / file
    path.write_bytes(content)
    same_as_usual(read(path, {"encoding": "latin-1"} if name == "in Latin-1" else {}))
    spec = DatasetSpec.load(path.with_suffix(".toml"))
    assert spec.entities == {"device": "device.id"}
    assert spec.categorical == {"device_os_name": "device.os.name"}


def same_as_usual(found: Entries) -> None:
    assert [id_.replace("ö", "o") for id_ in found.ids_N] == [row["order_id"] for row in ROWS]
    assert found.accounts_N.to_list() == [row["customer_id"] for row in ROWS]
    assert found.amount_N.tolist() == [row["amount"] for row in ROWS]
    at = [datetime.fromisoformat(f"{row['created_at']}+00:00").timestamp() for row in ROWS]
    assert (found.time_us_N / 1_000_000).tolist() == at
    assert found.is_fraud_N.tolist() == [row["is_fraud"] for row in ROWS]
    assert found.entities["device"].to_list() == [row["device"]["id"] for row in ROWS]


def test_a_file_packed_by_zstd_is_read(tmp_path: Path) -> None:
    content = lines(ROWS).encode()
    size = len(content) << 3 | 1
    path = tmp_path / "orders.jsonl.zst"
    path.write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + size.to_bytes(3, "little") + content)
    same_as_usual(read(path))


def test_what_an_object_lacks_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(lines([sparse(row) for row in ROWS]))
    # Only frauds have the field, and an amount of 0.25 is the least.
    found = read(path, {"label.legitimate_after_days": "2"})
    assert found.amount_N.tolist() == [row["amount"] for row in ROWS]
    assert [n for n, is_fraud in enumerate(found.is_fraud_N) if is_fraud == 1] == [
        n for n, row in enumerate(ROWS) if row["is_fraud"]
    ]


def test_lists_are_left_aside_and_named(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(lines(ROWS))
    read(path)
    spec = path.with_suffix(".toml")
    assert "# Left aside, as no plain values: tags." in spec.read_text()
    spec.write_text(spec.read_text() + '\ntags = "tags"\n')
    with pytest.raises(DataError, match='column "tags" holds List'):
        read_entries(path, DatasetSpec.load(spec))


def test_which_list_of_a_document_has_the_rows_may_be_a_question(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_text(json.dumps({"customers": [{"id": "c-1"}], "orders": ROWS}))
    same_as_usual(read(path, {"records": "orders"}))
    spec = path.with_suffix(".toml")
    spec.write_text(spec.read_text().replace('"orders"  # as', '"sales"  # as'))
    with pytest.raises(DataError, match='it has no list "sales", which records under'):
        read_entries(path, DatasetSpec.load(spec))


SPEC = {
    "name": "shop",
    "columns": {
        "transaction": "order_id",
        "account": "customer_id",
        "time": "created_at",
        "amount": "amount",
        "label": "is_fraud",
    },
    "entities": {"device": "device.id"},
}


def spec_of(**parts: object) -> DatasetSpec:
    return DatasetSpec.model_validate({**SPEC, **parts})


def refusal(path: Path, spec: DatasetSpec) -> str:
    with pytest.raises(DataError) as caught:
        read_entries(path, spec)
    return str(caught.value).removeprefix(f"{path}: ")


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "a value": (
        lambda text: text.replace('"amount": 3.25', '"amount": "three"'),
        "row 4 (line 4), column \"amount\": 'three' is not a number; leave_out = 0.025 under",
    ),
    "after a blank line": (
        lambda text: "\n\n" + text.replace("2024-03-13T09", "soon"),
        "row 1 (line 3), column \"created_at\": 'soon:00:00' is not a time",
    ),
    "cut off": (
        lambda text: text[:-30],
        "row 40 (line 40) is not JSON: Unterminated string",
    ),
    "no object": (
        lambda text: text.replace("\n", "\n17\n", 1),
        "row 2 (line 2) is not a JSON object: 17; leave_out under [rows] leaves such lines out",
    ),
    "NaN": (
        lambda text: text.replace("3.25", "NaN"),
        "row 4 (line 4) is not JSON: NaN is not a JSON value",
    ),
    "of another column": (
        lambda text: text.replace('"device": {"id"', '"device": {"ident"'),
        'there is no column "device.id" (spec shop); the file has: order_id, customer_id,',
    ),
    "of CSV": (lambda _: "order_id,amount\no-1,3\n", "line 1 is not JSON: Expecting value"),
    "empty": (lambda _: "\n", "there is no transaction in it"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    spoil, sentence = BAD[name]
    path = tmp_path / "orders.jsonl"
    path.write_text(spoil(lines(ROWS)))
    assert refusal(path, spec_of()).startswith(sentence)


def test_rows_of_a_list_have_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(ROWS).replace("3.25", '"three"', 1))
    assert refusal(path, spec_of()).startswith("row 4, column \"amount\": 'three' is not a number")
    path.write_text(json.dumps(ROWS, indent=2)[:-40])
    assert "is not JSON" in refusal(path, spec_of())
    path.write_text(json.dumps([*ROWS, 17]))
    assert refusal(path, spec_of()) == "row 41 is not an object: 17"


def test_bad_lines_are_left_out_by_reason_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    text = lines(ROWS).replace("5.25", '"five"', 1)
    path.write_text('{"order_id":\n' + text + "[1]\n")
    found = read_entries(path, spec_of(rows={"leave_out": 0.1}))
    assert len(found) == 39
    kept = found.left_out.frame().select("row", "line", "reason").rows()
    assert kept == [
        (1, 1, "not JSON (order_id)"),
        (7, 7, "not a number (amount)"),
        (42, 42, "not JSON (order_id)"),
    ]
    assert "not JSON" in refusal(path, spec_of(rows={"leave_out": 0.01}))


def test_inspect_asks_whether_bad_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_text(lines(ROWS) + '{"order_id": "o-40", "cust')
    assert len(read(path, {"leave_out": "yes"})) == len(ROWS)


def test_a_folder_and_a_pattern_of_json_are_one_file(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    (folder / "day=1").mkdir(parents=True)
    (folder / "day=1" / "a.jsonl").write_text(lines(ROWS[:9]))
    (folder / "day=2").mkdir()
    (folder / "day=2" / "b.ndjson.gz").write_bytes(gzip.compress(lines(ROWS[9:]).encode()))
    # Where there are rows of another suffix, this says something of them.
    (folder / "manifest.json").write_text('{"rows": 40}')
    same_as_usual(read_entries(folder, spec_of()))
    same_as_usual(read_entries(folder / "**" / "*json*[lz]", spec_of()))
    (folder / "[1].jsonl").write_text(lines(ROWS))
    same_as_usual(read_entries(folder / "[1].jsonl", spec_of()))


def test_a_folder_of_documents_alone_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    folder.mkdir()
    for n in range(4):
        (folder / f"page-{n}.json").write_text(json.dumps({"data": ROWS[10 * n : 10 * n + 10]}))
    same_as_usual(read_entries(folder, spec_of(file={"records": "data"})))


def test_json_is_imported_and_partitioned_as_its_spec_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATABASE_URL", sqlite_url(tmp_path / "shop.db"))
    path = tmp_path / "orders.jsonl"
    path.write_text(lines(ROWS))
    read(path)
    spec = str(path.with_suffix(".toml"))

    def run(*words: str) -> None:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output

    run("import", str(path), "--spec", spec, "--partial")
    run("export", str(tmp_path / "all.parquet"))
    written = pl.read_parquet(tmp_path / "all.parquet")
    assert written["amount"].cast(pl.Float64).to_list() == [row["amount"] for row in ROWS]
    assert written["device_id"].to_list() == [row["device"]["id"] for row in ROWS]
    out = tmp_path / "parts"
    run("partition", "--data", str(path), "--spec", spec, "--out", str(out), "--parts", "1")
    [part] = out.rglob("*.parquet")
    assert pl.read_parquet(part)["entity.device"].n_unique() == 4


@pytest.mark.parametrize("parent", ["", "payment.", "money."])
def test_the_currency_is_that_of_the_amount_s_own_object(tmp_path: Path, parent: str) -> None:
    path = tmp_path / "orders.jsonl"
    rows = []
    for n, row in enumerate(ROWS):
        currency = ("EUR", "USD")[n % 2]
        inner: dict[str, Any] = {"amount": {"value": row["amount"], "currency": currency}}
        rest = {key: value for key, value in row.items() if key not in ("amount", "currency")}
        rows.append({**rest, **({parent[:-1]: inner} if parent else inner)})
    path.write_text(lines(rows))
    found = read(path)
    assert found.currency_N.to_list() == ["EUR", "USD"] * 20
    assert found.amount_N.tolist() == [row["amount"] for row in ROWS]

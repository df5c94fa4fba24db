"""Transactions in several files: those of a folder or of a pattern are read as one."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.learner.spec import DatasetSpec
from app.training.dataset import read_transactions
from app.training.entries import read_entries
from app.training.files import DataError
from app.training.run import Source
from tests.training.files import SIMULATED, simulated_source

COLUMNS = {"transaction": "id", "account": "card", "time": "at", "amount": "paid"}
HEADER = "id,card,at,paid\n"


def spec_of(**parts: object) -> DatasetSpec:
    return DatasetSpec.model_validate({"name": "shop", "columns": COLUMNS, **parts})


def written(folder: Path, name: str, *rows: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))


def refusal(path: Path, spec: DatasetSpec) -> str:
    with pytest.raises(DataError) as caught:
        read_entries(path, spec)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Two months, a file that was left out of them earlier, and what is no data."""
    folder = tmp_path / "exports"
    written(folder, "2024-02.csv", "t3,b,2024-02-01,3", "t4,a,2024-02-02,4")
    written(folder, "2024-01.csv", "t1,a,2024-01-01,1", "", "t2,b,2024-01-02,2")
    written(folder, "left-out.csv", "t0,a,soon,1")
    written(folder, "_SUCCESS/part.csv", "t0,a,soon,1")
    (folder / "notes.md").write_text("# what these are")
    return folder


@pytest.mark.parametrize("pattern", ["", "*.csv", "2024-0[12].csv", "**/2024*"])
def test_a_folder_and_a_pattern_are_one_file_in_the_order_of_names(
    exports: Path, pattern: str
) -> None:
    found = read_entries(exports / pattern, spec_of())
    assert found.ids_N.to_list() == ["t1", "t2", "t3", "t4"]
    assert found.accounts_N.to_list() == ["a", "b", "b", "a"]
    # Rows are numbered on from file to file, blank lines too.
    numbered = {**COLUMNS, "transaction": {"row_number": "r-"}}
    by_row = read_entries(exports / pattern, spec_of(columns=numbered))
    assert by_row.ids_N.to_list() == ["r-1", "r-3", "r-4", "r-5"]


def test_a_part_of_the_files_is_what_the_pattern_says(exports: Path) -> None:
    assert read_entries(exports / "*02.csv", spec_of()).ids_N.to_list() == ["t3", "t4"]
    (exports / "a[1].csv").write_text(HEADER + "t9,a,2024-01-09,9\n")
    assert read_entries(exports / "a[1].csv", spec_of()).ids_N.to_list() == ["t9"]


def test_a_bad_row_is_named_with_its_file(exports: Path) -> None:
    written(exports, "2024-02.csv", "t3,b,2024-02-01,3", "t4,a,soon,4")
    because = refusal(exports, spec_of())
    assert because.startswith("2024-02.csv, row 2 (line 3), column \"at\": 'soon' is not a time")
    written(exports, "2024-02.csv", "t3,b,2024-02-01,3", "t1,a,2024-02-02,4")
    assert refusal(exports, spec_of()).startswith(
        "2024-02.csv, row 2 (line 3), column \"id\": 't1' is already in 2024-01.csv, row 1 (line 2)"
    )
    (exports / "2024-03.csv").write_text("id,card,paid\nt5,a,5\n")
    with pytest.raises(DataError, match=r'2024-03.csv: there is no column "at" .*; the file has'):
        read_entries(exports, spec_of())


def test_bad_rows_of_several_files_are_kept_with_their_files(exports: Path) -> None:
    written(exports, "2024-02.csv", "t3,b,later,3", "t4,a,2024-02-02,4,and more")
    written(exports, "2024-01.csv", "t1,a,2024-01-01,1", "", "t2,b,soon,2")
    spec = spec_of(rows={"leave_out": 0.8})
    left_out = read_entries(exports, spec).left_out
    assert left_out.sentence() == (
        "3 of 4 rows are left out: 2 not a time (at), 1 more fields than the header (id)"
    )
    assert left_out.keep() == exports.with_name("exports.left-out.csv")
    kept = pl.read_csv(left_out.keep(), infer_schema=False)
    assert kept.select("file", "row", "line", "id").rows() == [
        ("2024-01.csv", "3", "4", "t2"),
        ("2024-02.csv", "1", "2", "t3"),
        ("2024-02.csv", "2", "3", "t4"),
    ]
    # Those of a pattern stand where it begins, and the folder is read without them again.
    of_pattern = read_entries(exports / "*.csv", spec).left_out
    assert of_pattern.keep() == exports / "left-out.csv"
    assert read_entries(exports / "*.csv", spec).ids_N.to_list() == ["t1"]


def test_folders_that_name_a_column_give_it_to_their_files(tmp_path: Path) -> None:
    written(tmp_path, "shop=B%20%26%20C/day=1/a.csv", "t2,b,2024-01-02,2", "")
    written(tmp_path, "shop=A/day=2/a.csv", "t1,a,2024-01-01,1")
    written(tmp_path, "shop=__HIVE_DEFAULT_PARTITION__/day=3/a.csv", "t3,c,2024-01-03,3")
    spec = spec_of(entities={"merchant": "shop"}, numeric={"day": "day"})
    found = read_entries(tmp_path, spec)
    assert found.ids_N.to_list() == ["t1", "t2", "t3"]
    assert found.entities["merchant"].to_list() == ["A", "B & C", None]
    assert found.numeric_NM[:, 0].tolist() == [2, 1, 3]
    assert "there is no column" in refusal(tmp_path / "shop=A/day=2/a.csv", spec)


def test_a_folder_without_transactions_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, spec_of()) == "there is no .csv, .parquet or .jsonl file in it"
    assert "there is no such file" in refusal(tmp_path / "absent", spec_of())
    written(tmp_path, "a.csv")
    assert refusal(tmp_path, spec_of()) == "there is no transaction in it"


def test_files_whose_columns_differ_in_type_are_refused(tmp_path: Path) -> None:
    rows = {"id": ["t1"], "card": ["a"], "at": ["2024-01-01"]}
    pl.DataFrame({**rows, "paid": [1]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({**rows, "id": ["t2"], "paid": [1.5]}).write_parquet(tmp_path / "b.parquet")
    assert read_entries(tmp_path, spec_of()).amount_N.tolist() == [1, 1.5]
    pl.DataFrame({**rows, "paid": ["1"]}).write_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r'c\.parquet: column "paid" holds String'):
        read_entries(tmp_path, spec_of())


def test_a_file_in_pieces_gives_the_columns_of_the_whole(tmp_path: Path) -> None:
    whole = simulated_source(tmp_path, accounts=30, days=30)
    frame = pl.read_parquet(tmp_path / "simulated.parquet")
    for n in range(3):
        part = frame.slice(n * len(frame) // 3, (n + 1) * len(frame) // 3 - n * len(frame) // 3)
        folder = tmp_path / "pieces" / f"month={n}"
        folder.mkdir(parents=True)
        part.write_parquet(folder / "transactions.parquet")
    found = Source.read(tmp_path / "pieces", SIMULATED)
    assert found.sha256 != whole.sha256
    assert found.dataset.transaction_ids == whole.dataset.transaction_ids
    for name in whole.dataset.columns.__slots__:
        values = (getattr(source.dataset.columns, name) for source in (found, whole))
        np.testing.assert_array_equal(*values)
    again = read_transactions(tmp_path / "pieces", SIMULATED)
    assert again.is_fraud_N.tolist() == whole.dataset.is_fraud_N.tolist()

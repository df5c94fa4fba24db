"""Text in chunks, as `partition` reads it: the same rows as of the whole."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.spelling import File
from app.training import partition as partitioning
from app.training.dataset import read_transactions
from app.training.entries import entries_of
from app.training.files import DataError
from app.training.partition import partition
from app.training.table import Table

ROWS = 50
COLUMNS = {"transaction": "id", "account": "card.no", "time": "at", "amount": "paid"}


def document(n: int) -> dict[str, object]:
    return {
        "id": f"t{n}",
        "card": {"no": f"c{n % 7}"},
        "at": f"2024-01-{n % 27 + 1:02}",
        "paid": f"{n}.50",
        "note": None if n % 5 == 0 else f' of "{n}"\n, and more ',
    }


def csv(delimiter: str = ",", nothing: str = "") -> str:
    lines = [delimiter.join(("id", "card.no", "at", "paid", "note"))]
    for n in range(ROWS):
        row = document(n)
        note = row["note"]
        quoted = nothing if note is None else '"' + str(note).replace('"', '""') + '"'
        fields = (f"t{n}", f"c{n % 7}", str(row["at"]), str(row["paid"]), quoted)
        lines.append(delimiter.join(fields))
        if n % 9 == 4:
            lines.append("")
    return "\n".join(lines) + "\n"


def by_line() -> str:
    return "".join(json.dumps(document(n)) + "\n" for n in range(ROWS))


FILES: dict[str, tuple[str, str, File]] = {
    "csv": ("rows.csv", csv(), File()),
    "others": (
        "rows.txt",
        f"Rows of March\n{csv(';', 'NULL')}",
        File(delimiter=";", skip_lines=1, missing=("NULL",), trim=True),
    ),
    "without names": (
        "rows.csv",
        csv().partition("\n")[2],
        File(header=("id", "card.no", "at", "paid", "note")),
    ),
    "json": ("rows.jsonl", by_line(), File()),
}


def spec_of(form: File, leave_out: float = 0.0) -> DatasetSpec:
    return DatasetSpec.model_validate(
        {
            "name": "shop",
            "columns": COLUMNS,
            "file": form.model_dump(exclude_defaults=True),
            "categorical": {"note": "note"},
            "rows": {"leave_out": leave_out},
        }
    )


@pytest.mark.parametrize("name", FILES)
def test_text_in_chunks_has_the_rows_of_the_whole(tmp_path: Path, name: str) -> None:
    file, content, form = FILES[name]
    path, aside = tmp_path / file, tmp_path / "aside"
    path.write_text(content)
    aside.mkdir()
    spec = spec_of(form)
    whole, chunks = Table.read(path, spec), list[Table]()
    for chunk in Table.chunks(path, spec, 8, aside):
        chunks.append(chunk)
        assert len(chunk) <= 8
        assert list(aside.iterdir())
    assert len(chunks) > ROWS / 8
    assert pl.concat([chunk.frame for chunk in chunks]).equals(whole.frame)
    rows = [row for chunk in chunks for row in chunk.row_N.tolist()]
    assert rows == whole.row_N.tolist()
    assert [chunk.place(0) for chunk in chunks if len(chunk)][3] == whole.place(
        sum(len(chunk) for chunk in chunks[:3])
    )
    # What was put aside is gone.
    assert not list(aside.iterdir())
    # Without a folder for it, text is one table.
    assert len(list(Table.chunks(path, spec, 8))) == 1


@pytest.mark.parametrize("name", ["csv", "json"])
def test_a_bad_row_of_a_chunk_is_named_by_its_line_in_the_file(tmp_path: Path, name: str) -> None:
    file, content, form = FILES[name]
    path = tmp_path / file
    path.write_text(content.replace("2024-01-15", "soon", 1))
    with pytest.raises(DataError) as of_whole:
        entries_of(Table.read(path, spec_of(form)))
    chunks = Table.chunks(path, spec_of(form), 8, tmp_path)
    with pytest.raises(DataError) as of_chunk:
        list(map(entries_of, chunks))
    chunks.close()
    place = str(of_whole.value).partition(";")[0]
    assert "'soon' is not a time" in place
    assert str(of_chunk.value).startswith(place)


@pytest.mark.parametrize("name", ["csv", "json"])
def test_what_is_no_row_is_named_by_reading_the_whole(tmp_path: Path, name: str) -> None:
    file, content, form = FILES[name]
    path = tmp_path / file
    lines = content.split("\n")
    # A row whose value holds no line break.
    place = next(n for n, line in enumerate(lines) if line.startswith(("t10,", '{"id": "t10"')))
    lines[place] = "t10,c1,2024-01-01,1,,more" if name == "csv" else '{"id": "t10'
    path.write_text("\n".join(lines))
    what = rf"row \d+ \(line {place + 1}\) (has 6 fields|is not JSON)"
    with pytest.raises(DataError, match=what):
        list(Table.chunks(path, spec_of(form), 8, tmp_path))
    [only] = Table.chunks(path, spec_of(form, leave_out=0.1), 8, tmp_path)
    assert len(entries_of(only).left_out) == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["csv", "json"])
def test_a_file_of_text_is_partitioned_in_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, content, form = FILES[name]
    path = tmp_path / file
    path.write_text(content)
    sizes, read = list[int](), partitioning.entries_of
    monkeypatch.setattr(partitioning, "CHUNK_ROWS", 8)
    monkeypatch.setattr(
        partitioning, "entries_of", lambda table: sizes.append(len(table)) or read(table)
    )
    parts, left_out = partition(path, spec_of(form), None, tmp_path / "parts", 3)
    assert max(sizes) <= 8
    assert not left_out
    whole = read_transactions(path, spec_of(form))
    assert sum(parts.rows_of_part) == len(whole) == ROWS
    # Labels and features are those of the file read whole.
    features = FeatureSet(spec_of(form))
    rows = parts.rows(features)
    expected = features.compute(whole.columns, None, whole.entity_labels(0))
    in_order = np.lexsort(rows.features_NF.T)
    np.testing.assert_array_equal(rows.features_NF[in_order], expected[np.lexsort(expected.T)])


@pytest.mark.parametrize("name", ["csv", "json"])
def test_an_id_that_is_there_twice_is_named_in_whichever_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    file, content, form = FILES[name]
    path = tmp_path / file
    path.write_text(content.replace("t33", "t2"))
    monkeypatch.setattr(partitioning, "CHUNK_ROWS", 8)
    with pytest.raises(
        DataError, match=r": row \d+ \(line \d+\): the id 't2' is already in row 3 "
    ):
        partition(path, spec_of(form), None, tmp_path / "parts", 3)
    assert not (tmp_path / "parts").exists() or not list((tmp_path / "parts").iterdir())


def test_rows_of_one_order_are_not_cut_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, content, form = FILES["csv"]
    path = tmp_path / file
    path.write_text(content.replace("t33", "t2"))
    monkeypatch.setattr(partitioning, "CHUNK_ROWS", 8)
    spec = spec_of(form)
    rules = spec.rows.model_copy(update={"same_transaction": "first"})
    one = spec.model_copy(update={"rows": rules})
    parts, _ = partition(path, one, None, tmp_path / "parts", 3)
    assert sum(parts.rows_of_part) == ROWS - 1

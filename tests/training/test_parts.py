"""Parts of data larger than memory: what a whole file gives, to the bit, and the same training."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from app.errors import SetupError
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.simulator.simulate import simulate
from app.training import partition as partitioning
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.files import DataError
from app.training.left_out import LeftOutOfMany
from app.training.partition import partition
from app.training.parts import TRANSACTIONS, Parts
from app.training.ranks import Ranks
from app.training.rates import bundled_rates
from app.training.run import Source
from tests.training.files import SIMULATED

RATES = bundled_rates()
FEATURES = FeatureSet(SIMULATED, RATES)
COLUMNS = {"transaction": "id", "account": "card", "time": "at", "amount": "paid"}


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitioning, "CHUNK_ROWS", 700)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated file with many rows at one instant, so that chunks begin within some."""
    path = tmp_path_factory.mktemp("data") / "whole.parquet"
    frame = simulate(110, 60, 1)
    at = pl.col("occurred_at")
    coarse = at.dt.truncate("6h")
    frame.with_columns(pl.when(at.dt.day() % 3 == 0).then(coarse).otherwise(at)).write_parquet(path)
    return path


@pytest.fixture(scope="module")
def whole(file: Path) -> Source:
    return Source.read(file, SIMULATED, RATES)


@pytest.fixture(scope="module")
def parts(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partitioning, "CHUNK_ROWS", 700)
        folder = tmp_path_factory.mktemp("parts") / "parts"
        found, left_out = partition(file, SIMULATED, RATES, folder, 4)
        assert not left_out
        return found


def ids_of(parts: Parts) -> list[str]:
    files = sorted(parts.folder.glob(f"part=*/{TRANSACTIONS}"))
    return [id_ for path in files for id_ in pl.read_parquet(path)["transaction_id"]]


def sorted_by(ids: Any, rows: Rows) -> dict[str, Any]:
    order = np.argsort(ids)
    columns = ("time_us_N", "is_fraud_N", "known_at_us_N")
    bits = np.ascontiguousarray(rows.features_NF).view(np.int32)[order]
    return {"bits": bits} | {name: getattr(rows, name)[order] for name in columns}


def test_features_and_labels_of_parts_are_those_of_the_whole_file_to_the_bit(
    whole: Source, parts: Parts
) -> None:
    of_file, of_parts = whole.rows(FEATURES), parts.rows(FEATURES)
    ids = np.array(whole.dataset.transaction_ids)[of_file.position_N]
    found, expected = sorted_by(ids_of(parts), of_parts), sorted_by(ids, of_file)
    assert len(ids) > 4 * 700
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, name)
    assert parts.data == whole.data
    assert parts.without_rate == whole.without_rate
    # Whole accounts in each part, and no part without any.
    assert min(parts.rows_of_part) > 0
    assert len(np.unique(of_parts.account_N)) == parts.data.accounts


def test_parts_are_ordinary_files_with_a_spec(whole: Source, parts: Parts) -> None:
    spec = DatasetSpec.load(parts.folder / "spec.toml")
    again = Source.read(parts.folder, spec, RATES)
    order, expected = (np.argsort(source.dataset.transaction_ids) for source in (again, whole))
    for name in ("amount_N", "standing_N", "categorical_NC", "numeric_NM", "entity_code_NK"):
        found = getattr(again.dataset.columns, name)[order]
        np.testing.assert_array_equal(found, getattr(whole.dataset.columns, name)[expected])
    assert again.dataset.known_at_us_N[order].tolist() == (
        whole.dataset.known_at_us_N[expected].tolist()
    )


def test_ranks_have_all_parts_between_them(parts: Parts) -> None:
    whole = parts.rows(FEATURES)
    shares = [parts.rows(FEATURES, Ranks(rank, 3)) for rank in range(3)]
    assert len(shares) > 1 < min(len(share.account_N) for share in shares)
    for name in ("features_NF", "time_us_N", "is_fraud_N"):
        joined = np.concatenate([getattr(share, name) for share in shares])
        np.testing.assert_array_equal(joined, getattr(whole, name))


def test_parts_of_other_features_are_refused(parts: Parts) -> None:
    fewer = SIMULATED.model_copy(update={"numeric": {}})
    with pytest.raises(ValueError, match=r"\[numeric\] lacks"):
        Parts.load(parts.folder, fewer)
    other = RATES.model_copy(update={"per_unit": {**RATES.per_unit, "USD": 2.0}})
    with pytest.raises(SetupError, match="partition the files again"):
        Parts.load(parts.folder, SIMULATED, other)


def partitioned(folder: Path, spec: DatasetSpec) -> tuple[Parts, LeftOutOfMany]:
    return partition(folder / "exports", spec, None, folder / "parts", 2)


def test_the_gate_holds_for_all_files_together(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    months = {
        "01.csv": "t1,a,2024-01-01,1,\nt2,b,soon,2,\n",
        "02.csv": "t3,a,2024-02-01,3,1\nt4,b,2024-02-02,4,\nt5,c,2024-03-09,5,\n",
    }
    for name, rows in months.items():
        (exports / name).write_text(f"id,card,at,paid,bad\n{rows}")
    # Of the first file half is left out, of all a fifth. Legitimate is what the last file's newest
    # payment has left behind, also in the first.
    spec = DatasetSpec.model_validate(
        {
            "name": "shop",
            "columns": {**COLUMNS, "label": "bad"},
            "label": {"legitimate_after_days": 30},
            "rows": {"leave_out": 0.2},
        }
    )
    found, left_out = partitioned(tmp_path, spec)
    assert left_out.sentence() == "1 of 5 rows are left out: 1 not a time (at)"
    kept = pl.read_csv(left_out.keep(), infer_schema=False)
    assert left_out.keep() == tmp_path / "exports.left-out.csv"
    assert kept.select("file", "row", "line", "id").row(0) == ("01.csv", "2", "3", "t2")
    whole = Source.read(exports, spec)
    rows = found.rows(FeatureSet(spec))
    labels = dict(zip(ids_of(found), rows.is_fraud_N.tolist(), strict=True))
    assert labels == dict(
        zip(whole.dataset.transaction_ids, whole.dataset.is_fraud_N.tolist(), strict=True)
    )
    assert labels == {"t1": 0, "t3": 1, "t4": 0, "t5": UNLABELLED}
    with pytest.raises(SetupError, match="there is something in it already"):
        partitioned(tmp_path, spec)


@pytest.mark.parametrize(
    ("rows", "leave_out", "sentence"),
    [
        ("t9,a,soon,1\n", 0.0, "02.csv, row 1 (line 2), column"),
        ("t9,a,soon,1\n", 0.1, "1 of 2 rows cannot be read, more than leave_out = 0.1"),
        (
            "t1,a,2024-02-01,1\n",
            0.0,
            "02.csv, row 1 (line 2): the id 't1' is already in 01.csv, row 1 (line 2); where rows",
        ),
    ],
)
def test_bad_rows_leave_no_parts(
    tmp_path: Path, rows: str, leave_out: float, sentence: str
) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    for name, content in {"01.csv": "t1,a,2024-01-01,1\n", "02.csv": rows}.items():
        (exports / name).write_text(f"id,card,at,paid\n{content}")
    spec = DatasetSpec.model_validate(
        {"name": "shop", "columns": COLUMNS, "rows": {"leave_out": leave_out}}
    )
    with pytest.raises(DataError) as caught:
        partitioned(tmp_path, spec)
    assert sentence in str(caught.value)
    assert not list((tmp_path / "parts").iterdir())

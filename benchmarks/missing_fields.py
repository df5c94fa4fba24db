"""Frauds found by kind, without some fields: `python -m benchmarks.missing_fields FILE`.

Of a simulated file (with a seed that no training saw), average precision and recall at 1 % false
positives of a model, as served from the 45th day on: with all fields, without attributes, without
entities, and without both. Of a kind, the frauds of other kinds are left out.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import polars as pl

from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.saving import learner_of
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.settings import SHIPPED_MODEL
from app.training.dataset import UNLABELLED, read_transactions
from app.training.episodes import Rows
from app.training.evaluate import average_precision, predict, recall_at_false_positives

FIRST_DAYS = 45
# The parts of the spec whose columns are empty.
WITHOUT: dict[str, tuple[str, ...]] = {
    "all fields": (),
    "no attributes": ("numeric",),
    "no entities": ("entities",),
    "neither": ("numeric", "entities"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("file", type=Path, help="Parquet, as `quickstudy simulate` writes it")
    parser.add_argument("--model", type=Path, default=SHIPPED_MODEL)
    chosen = parser.parse_args()
    frame = pl.read_parquet(chosen.file).sort("occurred_at", maintain_order=True)
    checkpoint = Checkpoint.load(chosen.model)
    with tempfile.TemporaryDirectory() as folder:
        for name, parts in WITHOUT.items():
            path = Path(folder) / "file.parquet"
            _without(frame, checkpoint.metadata.spec, parts).write_parquet(path)
            print(name, *_figures(path, checkpoint), sep="\n  ", flush=True)


def _without(frame: pl.DataFrame, spec: DatasetSpec, parts: tuple[str, ...]) -> pl.DataFrame:
    named = [column for part in parts for kind, column in getattr(spec, part).items()]
    gone = [column for column in named if column != spec.entities.get("merchant")]
    return frame.with_columns(pl.lit(None, frame.schema[column]).alias(column) for column in gone)


def _figures(path: Path, checkpoint: Checkpoint) -> list[str]:
    """A line for all frauds, and for each kind: of the base, and of the adapted copies."""
    spec, rates = checkpoint.metadata.spec, checkpoint.metadata.rates
    data = read_transactions(path, spec, rates)
    rows = Rows.of(data, FeatureSet(spec, rates))
    first_us = int(rows.time_us_N.min()) + FIRST_DAYS * DAY_US
    query = np.flatnonzero((rows.is_fraud_N != UNLABELLED) & (rows.time_us_N >= first_us))
    scores = predict(learner_of(checkpoint), rows, query)
    is_fraud_A = rows.is_fraud_N[scores.rows] == 1
    kinds = [*data.fraud_kinds, "honest"]
    kind_A = np.array(kinds)[data.fraud_kind_N][rows.position_N][scores.rows]
    lines = []
    for kind in ("all", *sorted({*kind_A[is_fraud_A]})):
        use_A = ~is_fraud_A | (kind_A == kind) | (kind == "all")
        figures = [
            f"{average_precision(is_fraud_A[use_A], score_A[use_A]):.3f} "
            f"{recall_at_false_positives(is_fraud_A[use_A], score_A[use_A]):.3f}"
            for score_A in (scores.base_A, scores.adapted_A)
        ]
        frauds = int(is_fraud_A[use_A].sum())
        lines.append(f"{kind:20} base {figures[0]}, adapted {figures[1]}, {frauds} frauds")
    decisions, calibration = checkpoint.metadata.decisions, checkpoint.metadata.calibration
    held_A = calibration.probabilities(scores.adapted_A) >= decisions.review
    honest, frauds = held_A[~is_fraud_A].mean(), held_A[is_fraud_A].mean()
    return [*lines, f"held up: {honest:.2%} of the honest payments, {frauds:.1%} of the frauds"]


if __name__ == "__main__":
    main()

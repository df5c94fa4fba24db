"""What an evaluation computes its figures of."""

from pathlib import Path

import numpy as np
import pytest

from app.learner.checkpoint import Checkpoint
from app.training import figures
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.run import Source
from tests.checkpoints import tiny_checkpoint


def test_curves_of_labels_are_of_accounts_with_enough_rows_or_enough_frauds(
    source: Source, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Checkpoint.load(tiny_checkpoint(tmp_path / "tiny"))
    labelled = int((rows.is_fraud_N != UNLABELLED).sum())
    frauds = int((rows.is_fraud_N == 1).sum())
    assert frauds > 10
    # Each takes as long as the whole.
    monkeypatch.setattr(figures, "LABEL_COUNTS", (1,))
    monkeypatch.setattr(figures, "WRONG_SHARES", (0.5,))

    def sampled(most_rows: int, most_frauds: int) -> int:
        monkeypatch.setattr(figures, "CURVE_ROWS", most_rows)
        monkeypatch.setattr(figures, "CURVE_FRAUDS", most_frauds)
        found = figures.evaluation(checkpoint, source.dataset, rows)
        assert found["all"]["adapted"]["transactions"] == labelled
        counts = {
            curve["adapted"]["transactions"]
            for name in ("by_labels", "by_wrong_labels")
            for curve in found[name].values()
        }
        [count] = counts
        return int(count)

    half = sampled(labelled // 2, 1)
    assert np.isclose(half, labelled / 2, rtol=0.3)
    assert sampled(1, frauds) == labelled

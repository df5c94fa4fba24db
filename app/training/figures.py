"""The figures of a checkpoint on a file, every transaction scored as it would have been served.

Axes: A labelled rows.
"""

import numpy as np
from numpy.typing import NDArray

from app.checkpoint import Checkpoint, Metadata
from app.states import Floats
from app.training.backtest import LABEL_COUNTS, Metrics
from app.training.dataset import UNLABELLED, Dataset
from app.training.episodes import Rows
from app.training.evaluate import (
    Predictions,
    average_precision,
    by_kind,
    predict,
    recall_at_false_positives,
)

# The curve of labels scores the same rows again for every number of labels.
CURVE_ROWS = 50_000


def evaluation(checkpoint: Checkpoint, dataset: Dataset, rows: Rows) -> Metrics:
    """Average precision, recall at 1 % false positives and Brier score over all labelled rows.

    By method (`adapted`, `base`), for all of them, by kind of fraud (frauds of one kind against
    all legitimate rows) and, over a sample of accounts, by the number of labels an account may
    have. Where an account has no label, `adapted` is the base. Raises ValueError for a file
    without a label.
    """
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    if not len(labelled):
        raise ValueError("the file has no labels to evaluate on")
    predictions = predict(checkpoint.learner, rows, labelled)
    metadata = checkpoint.metadata
    sample = _sampled(rows, labelled)
    return {
        "spec": metadata.spec.name,
        "all": _by_method(metadata, rows, predictions),
        "by_kind": {
            name: _by_method(metadata, rows, chosen)
            for name, chosen in by_kind(dataset, rows, predictions)
        },
        "by_labels": {
            str(limit): _by_method(metadata, rows, predict(checkpoint.learner, rows, sample, limit))
            for limit in LABEL_COUNTS
        },
    }


def _sampled(rows: Rows, asked: NDArray[np.intp]) -> NDArray[np.intp]:
    """The asked rows of random accounts, about `CURVE_ROWS` of them."""
    accounts = np.unique(rows.account_N[asked])
    share = min(1.0, CURVE_ROWS / len(asked))
    chosen = np.random.default_rng(0).permutation(accounts)[: round(share * len(accounts))]
    return asked[np.isin(rows.account_N[asked], chosen)]


def _by_method(metadata: Metadata, rows: Rows, predictions: Predictions) -> Metrics:
    is_fraud_A = rows.is_fraud_N[predictions.rows] == 1
    methods = {"adapted": predictions.adapted_A, "base": predictions.base_A}
    return {
        name: _quality(is_fraud_A, metadata.calibration.probabilities(logit_A))
        for name, logit_A in methods.items()
    }


def _quality(is_fraud_A: NDArray[np.bool_], probability_A: Floats) -> Metrics:
    return {
        "transactions": len(is_fraud_A),
        "frauds": int(is_fraud_A.sum()),
        "average_precision": average_precision(is_fraud_A, probability_A),
        "recall_at_1_percent": recall_at_false_positives(is_fraud_A, probability_A),
        "brier": float(np.mean((probability_A - is_fraud_A) ** 2)),
    }

"""The figures of a checkpoint on a file, every transaction scored as it would have been served."""

import numpy as np
from numpy.typing import NDArray

from app.adaptation import SUPPORT_LIMIT
from app.checkpoint import Checkpoint
from app.training.dataset import UNLABELLED, Dataset
from app.training.episodes import Rows
from app.training.evaluate import predict
from app.training.methods import described
from app.training.results import LABEL_COUNTS, NETWORK, Metrics, Results, pooled_reliability

# The curve of labels scores the same rows again for every number of labels.
CURVE_ROWS = 50_000


def evaluation(checkpoint: Checkpoint, dataset: Dataset, rows: Rows) -> Metrics:
    """Ranking and calibration over all labelled rows, by method (`adapted`, `base`).

    For all of them, by kind of fraud (frauds of one kind against all legitimate rows) and, over
    a sample of accounts, by the number of labels an account may have. Where an account has no
    label, `adapted` is the base. Raises ValueError for a file without a label.
    """
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    if not len(labelled):
        raise ValueError("the file has no labels to evaluate on")

    def tested(asked: NDArray[np.intp], limit: int = SUPPORT_LIMIT) -> Results:
        predictions = predict(checkpoint.learner, rows, asked, limit)
        calibrations = dict.fromkeys(NETWORK, checkpoint.metadata.calibration)
        return Results.of(dataset, rows, predictions, calibrations)

    whole, sample = tested(labelled), _sampled(rows, labelled)
    return {
        "spec": checkpoint.metadata.spec.name,
        "methods": described(),
        "all": whole.figures(),
        "by_kind": {name: chosen.figures() for name, chosen in whole.kinds()},
        "by_labels": {str(limit): tested(sample, limit).figures() for limit in LABEL_COUNTS},
        "reliability": pooled_reliability([whole]),
    }


def _sampled(rows: Rows, asked: NDArray[np.intp]) -> NDArray[np.intp]:
    """The asked rows of random accounts, about `CURVE_ROWS` of them."""
    accounts = np.unique(rows.account_N[asked])
    share = min(1.0, CURVE_ROWS / len(asked))
    chosen = np.random.default_rng(0).permutation(accounts)[: round(share * len(accounts))]
    return asked[np.isin(rows.account_N[asked], chosen)]

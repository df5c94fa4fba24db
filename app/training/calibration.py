"""Whether probabilities mean what they say: the calibration error and the reliability diagram.

Axes: A rows, B bins.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import brier_score_loss

from app.learner.states import Floats, Ints

ERROR_BINS = 15
# The least rows whose share of frauds is worth a point in the diagram.
LEAST_ROWS = 100


def calibration_error(is_fraud_A: NDArray[np.bool_], probability_A: Floats) -> float:
    """How far the share of frauds lies from the mean probability, over bins of equal count.

    The expected calibration error (Naeini, Cooper and Hauskrecht, "Obtaining Well Calibrated
    Probabilities Using Bayesian Binning", AAAI 2015) with the bins of Nixon et al., "Measuring
    Calibration in Deep Learning" (CVPR Workshops 2019): bins of equal width would hold next to
    nothing but the first where fraud is rare. Rows of equal probability share a bin. NaN for
    no row.
    """
    if not len(is_fraud_A):
        return float("nan")
    levels = np.linspace(0.0, 1.0, ERROR_BINS + 1)[1:-1]
    rows_B, frauds_B, sum_B = _binned(is_fraud_A, probability_A, levels)
    return float(np.abs(frauds_B - sum_B).sum() / rows_B.sum())


def brier(is_fraud_A: NDArray[np.bool_], probability_A: Floats) -> float:
    """The mean squared distance of the probability from what came true; NaN for no row."""
    if not len(is_fraud_A):
        return float("nan")
    return float(brier_score_loss(is_fraud_A, probability_A, pos_label=True))


def reliability(is_fraud_A: NDArray[np.bool_], probability_A: Floats) -> dict[str, Any]:
    """The Brier score, the calibration error and the bins of the diagram.

    The lowest bin is the lower half of the probabilities, and each further one half of what is
    left: of equal count, one bin would hold nearly every fraud and all that is decided upon.
    """
    halvings = max(int(np.log2(max(len(is_fraud_A), 1) / LEAST_ROWS)), 0)
    levels: Floats = 1.0 - np.exp2(-np.arange(1.0, halvings + 1))
    bins = zip(*_binned(is_fraud_A, probability_A, levels), strict=True) if len(is_fraud_A) else ()
    return {
        "transactions": len(is_fraud_A),
        "frauds": int(is_fraud_A.sum()),
        "brier": brier(is_fraud_A, probability_A),
        "calibration_error": calibration_error(is_fraud_A, probability_A),
        "bins": [
            {
                "transactions": int(rows),
                "frauds": int(frauds),
                "probability": float(total / rows),
                "observed": float(frauds / rows),
            }
            for rows, frauds, total in bins
        ],
    }


def _binned(
    is_fraud_A: NDArray[np.bool_], probability_A: Floats, levels: Floats
) -> tuple[Ints, Ints, Floats]:
    """Rows, frauds and the sum of the probabilities by bin, between these quantiles."""
    edges = np.unique(np.quantile(probability_A, levels)) if len(levels) else np.zeros(0)
    bin_A = np.searchsorted(edges, probability_A, side="right")
    rows_B = np.bincount(bin_A).astype(np.int64)
    frauds_B = np.bincount(bin_A, weights=is_fraud_A).astype(np.int64)
    sum_B: Floats = np.bincount(bin_A, weights=probability_A).astype(np.float64)
    held = rows_B > 0
    return rows_B[held], frauds_B[held], sum_B[held]

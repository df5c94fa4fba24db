"""The scales, bins and known codes of an encoder, taken from training rows.

Edges stand at quantiles, finer towards both ends because what is rare stands there, and at the
thresholds of a small decision tree on each quantity alone (the target-aware bins of Gorishniy,
Rubachev and Babenko, NeurIPS 2022). A threshold stands twice and so makes a step: without it, a
rule such as "above 220" lies inside a bin that one transaction in a thousand reaches.

Axes: N rows, F features, Z quantities, T bins, V values of a code.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

from app.learner.differentiable.network import Encoder
from app.learner.features import Features
from app.learner.network import BINS, KNOWN_VALUES
from app.learner.states import Floats
from app.learner.transaction import MISSING

TAIL = (0.0005, 0.002, 0.01, 0.03)
INSIDE = np.linspace(0, 1, 17)[1:-1]
QUANTILES = np.sort([0.0, *TAIL, *INSIDE, *(1 - q for q in TAIL), 1.0])
THRESHOLDS = (BINS + 1 - len(QUANTILES)) // 2
LEAST_LEAF = 20
# Trees see all frauds and so many legitimate rows, which then count for all.
LEGITIMATE_ROWS = 60_000


def fit(encoder: Encoder, features_NF: Features, is_fraud_N: NDArray[np.bool_]) -> None:
    """Set an encoder's scales, edges and known codes from labelled rows [N, F]."""
    quantities_NZ = features_NF[:, encoder.quantities].astype(np.float64)
    encoder.mean_Z.copy_(torch.from_numpy(quantities_NZ.mean(0)))
    encoder.spread_Z.copy_(torch.from_numpy(quantities_NZ.std(0)).clamp_min(1e-3))
    quantiles_TZ = np.quantile(quantities_NZ, QUANTILES, axis=0)
    chosen, weight = rows_of_trees(is_fraud_N)
    for z, quantile_T in enumerate(quantiles_TZ.T):
        threshold_T = _thresholds(quantities_NZ[chosen, z], is_fraud_N[chosen], weight)
        # Where the tree has fewer, the last edge stands in, which nothing lies above.
        missing = np.full(THRESHOLDS - len(threshold_T), quantile_T[-1])
        edge_T = np.sort(np.concatenate([quantile_T, *[threshold_T, missing] * 2]))
        encoder.edges_ZT[z] = torch.from_numpy(edge_T)
    for position, code in enumerate(encoder.codes):
        values, counts = np.unique(features_NF[:, code], return_counts=True)
        present = values != MISSING
        frequent = values[present][np.argsort(-counts[present], kind="stable")][:KNOWN_VALUES]
        encoder.known_CV[position, : len(frequent)] = torch.from_numpy(frequent)


def rows_of_trees(is_fraud_N: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Floats]:
    """The rows that trees see: all frauds, and a share of the others that weigh as all of them.

    Their places among N rows, and what each weighs.
    """
    fraud, legitimate = np.flatnonzero(is_fraud_N), np.flatnonzero(~is_fraud_N)
    kept = legitimate[:: max(1, len(legitimate) // LEGITIMATE_ROWS)]
    weight = [np.ones(len(fraud)), np.full(len(kept), len(legitimate) / max(1, len(kept)))]
    return np.concatenate([fraud, kept]), np.concatenate(weight)


def _thresholds(value_N: Floats, is_fraud_N: NDArray[np.bool_], weight_N: Floats) -> Floats:
    tree = DecisionTreeClassifier(
        criterion="log_loss", max_leaf_nodes=THRESHOLDS + 1, min_samples_leaf=LEAST_LEAF
    )
    grown = tree.set_params(random_state=0).fit(value_N[:, None], is_fraud_N, weight_N).tree_
    thresholds: Floats = grown.threshold[grown.feature >= 0]
    return thresholds

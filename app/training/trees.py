"""Trees beside the network: grown on what it reads, and kept where held-out accounts gain by them.

Gradient boosting by Newton's steps (Friedman, Hastie and Tibshirani, Annals of Statistics 2000), of
scikit-learn's regression trees: each is fitted to -gradient / hessian, weighed by the hessian, so
that a leaf has the step that least loss asks for. They read the quantities as they are and an
account's labels as the network does, and may not fall where an amount rises.

Axes: A rows, C columns (the Z quantities, then the I inputs from labels), J trees, S splits and V
places of each (`app/learner/differentiable/trees.py`).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeRegressor

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.differentiable.adaptation import Learner
from app.learner.features import Features
from app.learner.network import NODES, SPLITS, TREE_DEPTH
from app.learner.states import Floats
from app.training.episodes import SUPPORT_SIZES, Episode, Rows, collate
from app.training.evaluate import (
    DECIDING_FRAUDS,
    SAMPLED_ROWS,
    Predictions,
    answers,
    cross_entropy,
    fit_gate,
    gated,
    whole_accounts,
)
from app.training.sampling import Sample, sampled
from app.training.train import Options, Split

TREES, RATE = 60, 0.1
# Of the rows and of the columns so many are drawn for each tree.
SHARE_OF_ROWS, SHARE_OF_COLUMNS = 0.8, 0.5
# The least sum of hessians in a leaf: 20 rows of which nothing is known.
LEAST_LEAF = 5.0
LEGITIMATE_ROWS = 40_000
ROWS_AT_ONCE = 2048
# The share of their loss that held-out accounts must gain with labels to be served by trees, and
# more than which they may not lose without any.
LEAST_GAIN = 0.02


def fit_held_out(learner: Learner, rows: Rows, split: Split, options: Options) -> Predictions:
    """Set all that training leaves to held-out accounts: whether there are trees, and the gate.

    Trees are grown on the split's training accounts, and kept where those held out gain by them
    with the labels that were known, and lose next to nothing without any (LEAST_GAIN). Fewer than
    DECIDING_FRAUDS frauds among them choose nothing: then there are none, as where the options want
    none. A training that began with another's learner keeps its gate, but for a stated heed. Gives
    their predictions.
    """
    seed, frauds = options.seed, int((rows.is_fraud_N[split.held_out] == 1).sum())
    if options.trees and frauds >= DECIDING_FRAUDS:
        judged = whole_accounts(rows, split.held_out, SAMPLED_ROWS)
        without = _losses(learner, rows, judged)
        grow(learner, sampled(rows, split.train, LEGITIMATE_ROWS, seed), rows, seed)
        labelled, base = _losses(learner, rows, judged)
        if labelled > (1 - LEAST_GAIN) * without[0] or base > (1 + LEAST_GAIN) * without[1]:
            none = (torch.zeros(0, size, device=learner.device) for size in (SPLITS, SPLITS, NODES))
            learner.network.trees.keep(*none)
    if options.start is None:
        return fit_gate(learner, rows, split.held_out, options.heed)
    if options.heed is not None:
        learner.gate.heed.fill_(options.heed)
    return gated(learner, answers(learner, rows, split.held_out))


def grow(learner: Learner, train: Sample, rows: Rows, seed: int) -> None:
    """Set trees beside the learner's network, grown on the sample.

    Each row sees at most a random number of its account's labels, as in episodes, so that the trees
    know few labels as well, and none.
    """
    limits = np.random.default_rng(seed).choice(SUPPORT_SIZES, len(train.rows))
    column_AC = _columns(learner, rows, train.rows, limits)
    rises_C = np.zeros(column_AC.shape[1], np.int8)
    rises_C[learner.network.amounts] = 1
    is_fraud_A, weight_A = train.is_fraud_A.astype(np.float64), train.weight_A
    frauds = np.average(is_fraud_A, weights=weight_A)
    usual = float(np.log(frauds) - np.log1p(-frauds))
    logit_A = np.full(len(is_fraud_A), usual)
    column_JS, edge_JS, value_JV = (
        np.zeros((TREES, size), np.float32) for size in (SPLITS, SPLITS, NODES)
    )
    for j in range(TREES):
        rng = np.random.default_rng([seed, j])
        drawn = np.flatnonzero(rng.random(len(logit_A)) < SHARE_OF_ROWS)
        count = max(1, round(SHARE_OF_COLUMNS * column_AC.shape[1]))
        columns = np.sort(rng.choice(column_AC.shape[1], count, replace=False))
        probability_A = 1 / (1 + np.exp(-logit_A[drawn]))
        hessian_A = np.maximum(probability_A * (1 - probability_A), 1e-6)
        part_A = weight_A[drawn] * hessian_A
        tree = DecisionTreeRegressor(
            max_depth=TREE_DEPTH,
            min_weight_fraction_leaf=min(0.5, LEAST_LEAF / part_A.sum()),
            monotonic_cst=rises_C[columns],
            random_state=j,
        )
        step_A = (is_fraud_A[drawn] - probability_A) / hessian_A
        tree.fit(column_AC[np.ix_(drawn, columns)], step_A, part_A)
        column_JS[j], edge_JS[j], value_JV[j] = _whole(tree, columns)
        logit_A += RATE * tree.predict(column_AC[:, columns])
    value_JV *= RATE
    # What all rows begin with is the first tree's.
    value_JV[0] += usual
    arrays = (torch.from_numpy(array) for array in (column_JS, edge_JS, value_JV))
    learner.network.trees.keep(*(array.to(learner.device) for array in arrays))


def _losses(learner: Learner, rows: Rows, scored: NDArray[np.intp]) -> tuple[float, float]:
    """The mean cross-entropy of rows with the labels that were known, and without any."""
    answered = answers(learner, rows, scored, SUPPORT_LIMIT, with_evidence=False)
    is_fraud_A = rows.is_fraud_N[scored] == 1
    with_labels, base = (
        float(cross_entropy(is_fraud_A, logit_A).mean())
        for logit_A in (answered.base_A + answered.move_A, answered.base_A)
    )
    return with_labels, base


@torch.inference_mode()
def _columns(
    learner: Learner, rows: Rows, scored: NDArray[np.intp], limits: NDArray[np.intp]
) -> Features:
    """What trees read of the scored rows, each with at most so many labels of its account."""
    network, pieces = learner.network, []
    for first in range(0, len(scored), ROWS_AT_ONCE):
        some = slice(first, first + ROWS_AT_ONCE)
        episodes = [
            Episode(rows.support_of(row, limit), np.array([row]))
            for row, limit in zip(scored[some].tolist(), limits[some].tolist(), strict=True)
        ]
        batch = collate(rows, episodes).to(learner.device)
        encoded = batch.encoded(network)
        context = network.context(batch.labelled(encoded), batch.legitimate_AK, batch.fraud_AK)
        pieces.append(network.label_inputs(batch.queries(encoded), context)[:, 0].cpu().numpy())
    quantities = np.array(network.encoder.quantities, np.intp)
    quantity_AZ = rows.features_NF[np.ix_(scored, quantities)]
    return np.concatenate([quantity_AZ, np.concatenate(pieces)], axis=1, dtype=np.float32)


def _whole(tree: DecisionTreeRegressor, columns: NDArray[np.intp]) -> tuple[Floats, Floats, Floats]:
    """The columns and edges of a tree's splits and the values of its places, in the whole tree."""
    grown = tree.tree_
    column_S, edge_S = np.zeros(SPLITS), np.full(SPLITS, np.inf)
    value_V = np.zeros(NODES)
    at = {0: 0}
    for place in range(NODES):
        node = at[place]
        value_V[place] = grown.value[node, 0, 0]
        if place >= SPLITS:
            continue
        left, right = grown.children_left[node], grown.children_right[node]
        at[2 * place + 1], at[2 * place + 2] = (left, right) if left >= 0 else (node, node)
        if left >= 0:
            column_S[place] = columns[grown.feature[node]]
            edge_S[place] = _below(grown.threshold[node])
    return column_S, edge_S, value_V


def _below(edge: float) -> np.float32:
    """The greatest number in single precision that is not above an edge: as rows are, both say the
    same of them.
    """
    single = np.float32(edge)
    return np.nextafter(single, np.float32(-np.inf)) if single > edge else single

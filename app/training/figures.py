"""The figures of a checkpoint on a file, every transaction scored as it would have been served."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.saving import learner_of
from app.training.dataset import UNLABELLED, Dataset
from app.training.episodes import Rows
from app.training.evaluate import predict
from app.training.methods import described
from app.training.pairs import pairs_in_order
from app.training.results import LABEL_COUNTS, NETWORK, Metrics, Results, pooled_reliability

WRONG_SHARES = (0.0, 0.05, 0.1, 0.2, 0.5)
FRAUDS_WRONG = "all frauds"
# The curves of labels score the same rows again for every number and every share of wrong ones. So
# they are of as many accounts as have so many rows, or so many frauds, whichever is more.
CURVE_ROWS, CURVE_FRAUDS = 30_000, 300


def evaluation(
    checkpoint: Checkpoint, dataset: Dataset, rows: Rows, device: str = "cpu"
) -> Metrics:
    """Ranking and calibration over all labelled rows, by method (`adapted`, `base`).

    For all of them, by kind of fraud (frauds of one kind against all legitimate rows) and, over
    a sample of accounts, by the number of labels an account may have and by which of them are
    wrong. Where an account has no label, `adapted` is the base. Raises ValueError for a file
    without a label.
    """
    learner, metadata = learner_of(checkpoint).to(device), checkpoint.metadata
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    if not len(labelled):
        raise ValueError("the file has no labels to evaluate on")

    def tested(scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT, shown: Rows = rows) -> Results:
        predictions = predict(learner, shown, scored, limit)
        calibrations = dict.fromkeys(NETWORK, metadata.calibration)
        return Results.of(dataset, rows, predictions, calibrations)

    whole, sample = tested(labelled), _sampled(rows, labelled)
    return {
        "spec": metadata.spec.name,
        "methods": described(),
        "chosen": {
            "held_out_frauds": metadata.metrics.get("held_out_frauds", float("nan")),
            "gate": learner.gate.described(),
            "trees": len(learner.network.trees),
            "step_sizes": metadata.step_sizes,
            "rivals": {},
        },
        "all": whole.figures(),
        "pairs_in_order": pairs_in_order([whole]),
        "by_kind": {name: chosen.figures() for name, chosen in whole.kinds()},
        "by_labels": {str(limit): tested(sample, limit).figures() for limit in LABEL_COUNTS},
        "by_wrong_labels": {
            f"{share:.0%}": tested(sample, shown=_mislabelled(rows, share)).figures()
            for share in WRONG_SHARES
        }
        | {FRAUDS_WRONG: tested(sample, shown=_hidden(rows)).figures()},
        "reliability": pooled_reliability([whole]),
    }


def _mislabelled(rows: Rows, share: float) -> Rows:
    """The same rows with a random share of their labels the other way round.

    Only what accounts learn from changes: features, among them what is known of merchants, do not.
    """
    is_wrong_N = np.random.default_rng(0).random(len(rows.is_fraud_N)) < share
    is_wrong_N &= rows.is_fraud_N != UNLABELLED
    is_fraud_N = np.where(is_wrong_N, 1 - rows.is_fraud_N, rows.is_fraud_N)
    return replace(rows, is_fraud_N=is_fraud_N)


def _hidden(rows: Rows) -> Rows:
    """The same rows with every fraud labelled legitimate, where accounts learn from it."""
    is_fraud_N = np.where(rows.is_fraud_N == 1, 0, rows.is_fraud_N)
    return replace(rows, is_fraud_N=is_fraud_N.astype(np.int8))


def _sampled(rows: Rows, scored: NDArray[np.intp]) -> NDArray[np.intp]:
    """The scored rows of random accounts, about `CURVE_ROWS` of them or with `CURVE_FRAUDS`."""
    accounts = np.unique(rows.account_N[scored])
    frauds = int((rows.is_fraud_N[scored] == 1).sum())
    share = min(1.0, max(CURVE_ROWS / len(scored), CURVE_FRAUDS / max(frauds, 1)))
    chosen = np.random.default_rng(0).permutation(accounts)[: round(share * len(accounts))]
    return scored[np.isin(rows.account_N[scored], chosen)]

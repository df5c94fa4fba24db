"""How far the adapted network is ahead of each other method, and how sure that is.

All folds count at once: a figure is its mean over the folds, and an account that is drawn is
drawn in all of them (see `app.training.bootstrap`).
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from app.learner.states import Floats
from app.training.bootstrap import Draws, Interval, RankingFigures
from app.training.results import ADAPTED, BASE, NETWORK, Metrics, Results

# Drawing from fewer defrauded accounts than this says less of chance than it seems to.
LEAST_DEFRAUDED = 10


def draws_of(folds: Sequence[Results]) -> Draws:
    """Draws of the accounts that any of the folds tests."""
    return Draws(np.concatenate([tested.account_A for tested in folds]))


def differences(
    folds: Sequence[Results], draws: Draws, methods: Iterable[str] | None = None
) -> Metrics:
    """Adapted minus each other method (of `methods`) in average precision, with its interval."""
    adapted_R = _measured(folds, draws, ADAPTED).average_precision
    others = [method for method in methods or folds[0].logits if method != ADAPTED]
    intervals = {
        method: _interval(folds, adapted_R - _measured(folds, draws, method).average_precision)
        for method in others
    }
    return {
        method: {"difference": value, "low": low, "high": high}
        for method, (value, low, high) in intervals.items()
    }


def differences_by(groups: Iterable[Iterator[tuple[str, Results]]], draws: Draws) -> Metrics:
    """The differences to the base by group, given the groups of each fold.

    A group counts the folds that have it.
    """
    by_group: dict[str, list[Results]] = {}
    for fold in groups:
        for name, tested in fold:
            by_group.setdefault(name, []).append(tested)
    return {name: differences(folds, draws, [BASE]) for name, folds in by_group.items()}


def bands(folds: Sequence[Mapping[str, Results]], draws: Draws) -> Metrics:
    """Intervals of the network's figures, with and without labels, by the number of labels."""
    return {
        limit: {method: _band(folds, draws, limit, method) for method in NETWORK}
        for limit in folds[0]
    }


def _band(folds: Sequence[Mapping[str, Results]], draws: Draws, limit: str, method: str) -> Metrics:
    tested = [fold[limit] for fold in folds]
    measured = _measured(tested, draws, method)
    intervals = {key: _interval(tested, value_R) for key, value_R in measured._asdict().items()}
    return {
        key: {"low": interval.low, "high": interval.high} for key, interval in intervals.items()
    }


def _interval(folds: Sequence[Results], value_R: Floats) -> Interval:
    defrauded = np.concatenate([fold.account_A[fold.is_fraud_A] for fold in folds])
    if len(np.unique(defrauded)) < LEAST_DEFRAUDED:
        return Interval(float(value_R[0]), math.nan, math.nan)
    return Interval.of(value_R)


def _measured(folds: Sequence[Results], draws: Draws, method: str) -> RankingFigures:
    return draws.means(
        [draws.ranking(fold.account_A, fold.is_fraud_A, fold.logits[method]) for fold in folds]
    )

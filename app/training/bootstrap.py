"""Intervals from accounts drawn with replacement: what chance alone could have made of a figure.

Transactions of one account are alike, so accounts are drawn and not rows (the cluster bootstrap;
Davison and Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8). An account's
rows in all folds are drawn together, and every method meets the same draws, so differences are
paired. A draw weighs accounts by how often each was drawn; the figures are scikit-learn's with
these weights, for all draws at once.

Axes: A tested rows, C accounts, R draws, G distinct scores of frauds.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from app.learner.states import Floats, Ints

RESAMPLES = 1000
LEVEL = 0.95
SEED = 0
FALSE_POSITIVES = 0.01
# Draws weighed at once: what bounds the memory, [C, R] numbers of 8 bytes.
DRAWS_AT_ONCE = 250


class Draws:
    """C accounts drawn with replacement, C at a time, and the same each time.

    Before them comes the sample itself, each account once, so that what is computed of R draws
    begins with the figure and goes on with what it could have been.
    """

    def __init__(self, account_A: Ints, resamples: int = RESAMPLES) -> None:
        self._accounts = np.unique(account_A)
        count = len(self._accounts)
        rng = np.random.default_rng(SEED)
        # 255 draws of one account in C do not happen: their mean is one.
        self.times_CR = np.ones((count, 1 + resamples), np.uint8)
        for draw in range(1, 1 + resamples if count else 0):
            drawn = rng.integers(0, count, count)
            self.times_CR[:, draw] = np.bincount(drawn, minlength=count)

    def ranking(self, account_A: Ints, is_fraud_A: NDArray[np.bool_], score_A: Floats) -> "Ranking":
        """Rows of accounts among those drawn, ranked by their scores."""
        return Ranking(
            is_fraud_A,
            score_A,
            np.searchsorted(self._accounts, account_A),
            len(self._accounts),
        )

    def times_of(self, account_C: Ints) -> Floats:
        """How often each draw has the accounts, which are among those drawn: [C, 1 + resamples]."""
        return self.times_CR[np.searchsorted(self._accounts, account_C)].astype(np.float64)

    def means(self, rankings: Sequence["Ranking"]) -> "RankingFigures":
        """Each draw's mean over the rankings (of the folds) that have a figure, NaN for none."""
        chunks = range(0, self.times_CR.shape[1], DRAWS_AT_ONCE)
        parts = []
        for first in chunks:
            weight_CR = self.times_CR[:, first : first + DRAWS_AT_ONCE].astype(np.float64)
            measured = [ranking.measured(weight_CR) for ranking in rankings]
            parts.append([mean_of_known(np.stack(each)) for each in zip(*measured, strict=True)])
        return RankingFigures(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class RankingFigures(NamedTuple):
    """Figures of R draws, NaN where a draw has no fraud or nothing else."""

    average_precision: Floats
    recall_at_1_percent: Floats


class Ranking:
    """Rows in the order of their scores, to be measured under many weights of their accounts.

    Only a fraud's score is a threshold at which either figure changes, so what is kept is how
    many rows of each account lie between one such score and the next: rows that rank below
    every fraud are not looked at, and rows of equal scores are one threshold.
    """

    def __init__(
        self, is_fraud_A: NDArray[np.bool_], score_A: Floats, place_A: Ints, accounts: int
    ) -> None:
        threshold_G = np.unique(score_A[is_fraud_A])[::-1]
        # The first of the falling thresholds that the row reaches; G where it reaches none.
        segment_A = np.searchsorted(-threshold_G, -score_A)
        shape = len(threshold_G), accounts
        self._rows_GC = _counted(segment_A, place_A, shape)
        self._frauds_GC = _counted(segment_A[is_fraud_A], place_A[is_fraud_A], shape)
        self._legitimate_C = np.bincount(place_A[~is_fraud_A], minlength=accounts)

    def measured(self, weight_CR: Floats) -> RankingFigures:
        """Average precision, and recall with at most 1 % of the legitimate weight flagged.

        Row i weighs `weight_CR[place_A[i]]`.
        """
        fraud_GR = self._frauds_GC @ weight_CR
        found_GR = fraud_GR.cumsum(0)
        flagged_GR = (self._rows_GC @ weight_CR).cumsum(0)
        legitimate_R = self._legitimate_C @ weight_CR
        with np.errstate(divide="ignore", invalid="ignore"):
            share_GR = fraud_GR / fraud_GR.sum(0)
            # Where nothing is flagged yet no fraud weighs anything either.
            precision_GR = np.where(flagged_GR > 0, found_GR / flagged_GR, 0.0)
            is_within_GR = (flagged_GR - found_GR) / legitimate_R <= FALSE_POSITIVES
        recall_R = np.where(legitimate_R > 0, (share_GR * is_within_GR).sum(0), np.nan)
        has_fraud_R = fraud_GR.sum(0) > 0
        return RankingFigures(
            np.where(has_fraud_R, (share_GR * precision_GR).sum(0), np.nan),
            np.where(has_fraud_R, recall_R, np.nan),
        )


class Interval(NamedTuple):
    """A figure, and between what `LEVEL` of the draws lie; NaN where there is none."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value_R: Floats) -> Self:
        """The percentile interval, over the draws that have the figure."""
        drawn = value_R[1:]
        measured = drawn[~np.isnan(drawn)]
        if np.isnan(value_R[0]) or not len(measured):
            return cls(float(value_R[0]), float("nan"), float("nan"))
        low, high = np.quantile(measured, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return cls(float(value_R[0]), float(low), float(high))


def _counted(segment_A: Ints, place_A: Ints, shape: tuple[int, int]) -> csr_array:
    """How many rows each account has in each segment."""
    kept = segment_A < shape[0]
    units = np.ones(int(kept.sum()))
    return coo_array((units, (segment_A[kept], place_A[kept])), shape=shape).tocsr()


def mean_of_known(value_FR: Floats) -> Floats:
    """The mean over F folds of the values that are numbers, NaN without one: [R]."""
    known_FR = ~np.isnan(value_FR)
    with np.errstate(invalid="ignore"):
        mean_R: Floats = np.where(known_FR, value_FR, 0.0).sum(0) / known_FR.sum(0)
    return mean_R

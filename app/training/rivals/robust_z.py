"""Robust z-scores: how far a transaction lies from the account's usual ones.

Axes: A scored rows, K places for labels, P different rows among both, O own quantities.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.features import Features
from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.rivals.supports import Labels
from app.training.rivals.tuning import (
    CLIP,
    Lesson,
    Population,
    Score,
    Tuned,
    weighted_precision,
)
from app.training.sampling import Sample

# The median absolute deviation of a normal variable, times this, is its standard deviation.
DEVIATIONS = 1.4826
# The least spread that counts as an account's own, in the population's standard deviations.
LEAST_SPREAD = 0.1
# How many times as well as chance a quantity must rank the frauds.
TELLING = 1.5


class Gathered(NamedTuple):
    """How z-scores become one, whether those below 0 count, and what the population weighs."""

    by: Literal["max", "sum of squares"]
    below: bool
    prior: float


class Usual(NamedTuple):
    """The scored rows, and the medians and spreads of their accounts' legitimate labels."""

    scored_AO: Features
    median_AO: Features
    spread_AO: Features
    labels_A: Floats


class RobustZ(Tuned[Gathered, Usual]):
    """Distances from the median in units of the MAD, both of the account's legitimate labels.

    They are drawn to the population's the more, the fewer the labels. Of the transaction's own
    quantities but flags, of which a MAD says nothing; and of these only such as rank the frauds
    of training accounts better than chance on their own, because the hour of the day, say,
    would drown the amount.
    """

    name, title, reads_labels = "robust_z", "Robust z-scores per account", True
    settings = tuple(
        Gathered(by, below, prior)
        for by in ("max", "sum of squares")
        for below in (True, False)
        for prior in (4.0, 32.0)
    )

    def prepare(self, lesson: Lesson) -> None:
        rows, train = lesson.rows, lesson.train
        self._population = Population(rows, train)
        own_AO = self._population.encode(rows.features_NF[train.rows])[:, self._population.own_O]
        is_flag_O = np.array([len(np.unique(own_A)) <= 2 for own_A in own_AO.T], bool)
        self._own_O = self._population.own_O[~is_flag_O]
        usual_1AO = own_AO[None, ~train.is_fraud_A][:, :, ~is_flag_O]
        self._median_1O, self._spread_1O = median_and_spread(
            usual_1AO, np.ones(usual_1AO.shape[:2], bool)
        )
        z_AO = self._z(self.inputs(rows, train.rows, SUPPORT_LIMIT), self.settings[0].prior)
        informative_O = np.array([_tells(train, z_A) for z_A in z_AO.T], bool)
        self._informative_O = informative_O if informative_O.any() else ~informative_O

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Usual:
        labels = Labels.of(rows, scored, limit)
        own_PO = self._population.encode(rows.features_NF[labels.row_P])[:, self._own_O]
        robust = [
            median_and_spread(own_PO[some.at_AK], some.legitimate_AK) for some in labels.chunks()
        ]
        median_AO, spread_AO = map(np.concatenate, zip(*robust, strict=True))
        labels_A = labels.legitimate_AK.sum(1).astype(np.float64)
        return Usual(own_PO[labels.scored_A], median_AO, spread_AO, labels_A)

    def build(self, setting: Gathered, lesson: Lesson, held_out: Usual) -> Score[Usual]:
        least = -CLIP if setting.below else 0.0

        def score(inputs: Usual) -> Floats:
            z_AO = self._z(inputs, setting.prior)[:, self._informative_O]
            square_AO = np.square(z_AO.clip(least, CLIP))
            gathered_A = square_AO.max(1, initial=0.0) if setting.by == "max" else square_AO.sum(1)
            suspicion_A: Floats = np.log1p(gathered_A, dtype=np.float64)
            return suspicion_A

        return score

    def _z(self, inputs: Usual, prior: float) -> Floats:
        own_A1 = (inputs.labels_A / (inputs.labels_A + prior))[:, None]
        median_AO = own_A1 * inputs.median_AO + (1 - own_A1) * self._median_1O
        spread_AO = own_A1 * inputs.spread_AO + (1 - own_A1) * self._spread_1O
        z_AO: Floats = (inputs.scored_AO - median_AO) / np.maximum(spread_AO, LEAST_SPREAD)
        return z_AO


def _tells(train: Sample, z_A: Floats) -> bool:
    """Whether frauds are ranked better than by chance, from either end."""
    chance = float(np.average(train.is_fraud_A, weights=train.weight_A))
    return max(weighted_precision(train, end * z_A) for end in (1, -1)) > TELLING * chance


def median_and_spread(
    own_AKO: Features, is_label_AK: NDArray[np.bool_]
) -> tuple[Features, Features]:
    """The medians and the MADs, as standard deviations, of the labels alone: both [A, O]."""
    median_AO = _median(own_AKO, is_label_AK)
    return median_AO, DEVIATIONS * _median(np.abs(own_AKO - median_AO[:, None]), is_label_AK)


def _median(own_AKO: Features, is_label_AK: NDArray[np.bool_]) -> Features:
    """0 where there is no label."""
    count_A = is_label_AK.sum(1)
    median_AO = np.zeros((own_AKO.shape[0], own_AKO.shape[2]), own_AKO.dtype)
    some = np.flatnonzero(count_A)
    if not len(some):
        return median_AO
    # What is no label is sorted behind all that are.
    sorted_AKO = np.sort(np.where(is_label_AK[some, :, None], own_AKO[some], np.inf), axis=1)
    row, half = np.arange(len(some)), count_A[some]
    median_AO[some] = (sorted_AKO[row, (half - 1) // 2] + sorted_AKO[row, half // 2]) / 2
    return median_AO

"""Rules of few numbers that add to the base's log-odds what an account's known labels say.

They are what a learner has to beat: if it can be written on a card, nobody needs a copy.

Axes: A scored rows, J columns that read labels.
"""

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.evaluate import base_log_odds, cross_entropy
from app.training.rivals.supports import Labels, age_days, likeness
from app.training.rivals.tuning import Chosen, Lesson, Score, Tuned, codes_of
from app.training.sampling import Sample

RECENT_DAYS = 7.0
PARTS = 5


class Beside(NamedTuple):
    """The base's log-odds of A rows, and columns that are 0 where no label is known."""

    base_A: Floats
    column_AJ: Floats


class _Rule(Tuned[float, Beside]):
    """Logistic regression on held-out accounts' rows as served, the base's log-odds its offset.

    The intercept that is fitted beside the weights takes up what the base's rate is wrong by and
    is left out of the scores, so without labels a row's score is the base's. The settings are the
    strengths of the penalty on the squares of the weights, beside the sum of the rows' losses.
    The one is kept whose weights, fitted on PARTS - 1 of PARTS parts of the held-out accounts,
    have the least cross-entropy on the part left out; its weights are then fitted on them all.
    """

    reads_labels = True
    settings = (1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3)

    def prepare(self, lesson: Lesson) -> None:
        self._learner = lesson.learner
        self._weights: dict[float, Floats] = {}

    @abstractmethod
    def columns(self, rows: Rows, labels: Labels) -> Floats:
        """What the rule reads of the labels: [A, J], 0 where there are none."""

    @abstractmethod
    def names(self, rows: Rows) -> list[str]:
        """What the report calls the columns' weights: [J]."""

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Beside:
        labels = Labels.of(rows, scored, limit)
        self._names = self.names(rows)
        return Beside(
            base_log_odds(self._learner, rows, scored),
            self.columns(rows, labels).astype(np.float64),
        )

    def build(self, setting: float, lesson: Lesson, held_out: Beside) -> Score[Beside]:
        weight_J = fitted(held_out, lesson.held_out, setting)[1:]
        self._weights[setting] = weight_J

        def score(inputs: Beside) -> Floats:
            score_A: Floats = inputs.base_A + inputs.column_AJ @ weight_J
            return score_A

        return score

    def quality(
        self, setting: float, score: Score[Beside], lesson: Lesson, inputs: Beside
    ) -> float:
        """Less the cross-entropy on held-out accounts that the weights were not fitted on."""
        account_A = lesson.rows.account_N[lesson.held_out.rows]
        part_A = np.random.default_rng(lesson.seed).permutation(int(account_A.max()) + 1)[account_A]
        loss = 0.0
        for part in range(PARTS):
            is_left_out_A = part_A % PARTS == part
            fit = fitted(_take(inputs, ~is_left_out_A), _some(lesson, ~is_left_out_A), setting)
            loss += _loss(fit, _take(inputs, is_left_out_A), _some(lesson, is_left_out_A))
        return -loss

    @property
    def chosen(self) -> Chosen:
        """The penalty and the weights that were fitted with it."""
        weights = dict(zip(self._names, self._weights[self.setting].tolist(), strict=True))
        return Chosen({"penalty": self.setting, **weights}, self.doubts)


class RecencyRule(_Rule):
    """A weight times exp(-days since the account's newest known fraud / 7), and nothing else."""

    name, title = "recency_rule", "Recency rule"

    def names(self, rows: Rows) -> list[str]:
        return ["recency of frauds"]

    def columns(self, rows: Rows, labels: Labels) -> Floats:
        return recency(rows, labels, labels.fraud_AK)[:, None]


class LikenessRule(_Rule):
    """How recent the labels of both classes are, and how many of them have the row's codes.

    The latter as log1p of the counts of `app.training.rivals.supports.likeness`.
    """

    name, title = "likeness_rule", "Likeness rule"

    def names(self, rows: Rows) -> list[str]:
        same = [
            f"feature {f}, {how} {of}"
            for f in codes_of(rows.kinds)
            for of in ("frauds", "legitimate")
            for how in ("recent", "all")
        ]
        return ["recency of frauds", "recency of legitimate", *same]

    def columns(self, rows: Rows, labels: Labels) -> Floats:
        recent = [recency(rows, labels, k) for k in (labels.fraud_AK, labels.legitimate_AK)]
        return np.column_stack([*recent, np.log1p(likeness(rows, labels))])


def recency(rows: Rows, labels: Labels, label_AK: NDArray[np.bool_]) -> Floats:
    """exp(-days since the newest of these labels / RECENT_DAYS), 0 without one: [A]."""
    newest_A = np.where(label_AK, age_days(rows, labels), np.inf).min(1, initial=np.inf)
    recency_A: Floats = np.exp(-newest_A / RECENT_DAYS)
    return recency_A


def fitted(inputs: Beside, sample: Sample, penalty: float) -> Floats:
    """The intercept and weights [1 + J] of the least penalised, weighted cross-entropy."""
    _, is_fraud_A, weight_A = sample
    base_A, column_AJ = inputs

    def loss_and_slope(fit: Floats) -> tuple[float, Floats]:
        residual_A = weight_A * (expit(base_A + fit[0] + column_AJ @ fit[1:]) - is_fraud_A)
        slope_J = column_AJ.T @ residual_A + penalty * fit[1:]
        loss = _loss(fit, inputs, sample) + penalty / 2 * float(fit[1:] @ fit[1:])
        return loss, np.concatenate([[residual_A.sum()], slope_J])

    fit: Floats = minimize(
        loss_and_slope, np.zeros(1 + column_AJ.shape[1]), jac=True, method="L-BFGS-B"
    ).x
    return fit


def _loss(fit: Floats, inputs: Beside, sample: Sample) -> float:
    logit_A = inputs.base_A + fit[0] + inputs.column_AJ @ fit[1:]
    return float(sample.weight_A @ cross_entropy(sample.is_fraud_A, logit_A))


def _take(inputs: Beside, chosen_A: NDArray[np.bool_]) -> Beside:
    return Beside(inputs.base_A[chosen_A], inputs.column_AJ[chosen_A])


def _some(lesson: Lesson, chosen_A: NDArray[np.bool_]) -> Sample:
    rows, is_fraud_A, weight_A = lesson.held_out
    return Sample(rows[chosen_A], is_fraud_A[chosen_A], weight_A[chosen_A])

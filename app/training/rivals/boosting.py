"""XGBoost, with and without the account's labels.

Axes: A rows, F features, S columns that summarise labels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.features import Features, without_identities
from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.evaluate import DECIDING_FRAUDS
from app.training.rivals.supports import Labels, summary
from app.training.rivals.tuning import (
    Chosen,
    Lesson,
    Population,
    Score,
    Tuned,
)

TREES_AT_MOST = 400
PATIENCE = 20
# The number of trees times their rate where nothing can say when to stop: 60 trees of .1.
STEADY_LEARNING = 6.0
# So few trees are no model, but a mishap.
FEW_TREES = 2


class Boosting(NamedTuple):
    """Settings of XGBoost, by its names for them."""

    max_depth: int
    max_bin: int = 1024
    eta: float = 0.1
    subsample: float = 1.0
    colsample_bytree: float = 1.0
    min_child_weight: float = 1.0


class XGBoost(Tuned[Boosting, Features]):
    """Gradient-boosted trees (Chen and Guestrin, KDD 2016), stopped early on held-out accounts.

    A handful of held-out frauds would stop them by luck, at a single tree even: with fewer than
    DECIDING_FRAUDS every setting gets the trees of STEADY_LEARNING. Most settings have many
    bins, because what matters lies in the features' far tails.
    """

    name, title, reads_labels, library = "xgboost", "XGBoost", False, "xgboost"
    settings = (
        Boosting(3),
        Boosting(4),
        Boosting(4, max_bin=2048, subsample=0.8, colsample_bytree=0.5),
        Boosting(5),
        Boosting(5, subsample=0.8, colsample_bytree=0.5),
        Boosting(6, subsample=0.8, colsample_bytree=0.5, min_child_weight=5.0),
        Boosting(6, max_bin=256),
        Boosting(6, eta=0.2),
    )

    def prepare(self, lesson: Lesson) -> None:
        self._trees: dict[Boosting, int] = {}
        self._train_AF = self.inputs(lesson.rows, lesson.train.rows, SUPPORT_LIMIT)

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Features:
        return _columns(rows, scored)

    def build(self, setting: Boosting, lesson: Lesson, held_out: Features) -> Score[Features]:
        import xgboost

        _, is_fraud_A, weight_A = lesson.train
        _, held_is_fraud_A, held_weight_A = lesson.held_out
        train = xgboost.QuantileDMatrix(
            self._train_AF, is_fraud_A, weight=weight_A, max_bin=setting.max_bin
        )
        test = xgboost.DMatrix(held_out, held_is_fraud_A, weight=held_weight_A)
        can_stop = held_is_fraud_A.sum() >= DECIDING_FRAUDS
        trees = xgboost.train(
            {
                "objective": "binary:logistic",
                "eval_metric": "aucpr" if can_stop else "logloss",
                "base_score": float(np.average(is_fraud_A, weights=weight_A)),
                "seed": lesson.seed,
                **setting._asdict(),
            },
            train,
            TREES_AT_MOST if can_stop else round(STEADY_LEARNING / setting.eta),
            evals=[(test, "held_out")],
            early_stopping_rounds=PATIENCE if can_stop else None,
            verbose_eval=False,
        )
        best = trees[: trees.best_iteration + 1] if can_stop else trees
        self._trees[setting] = best.num_boosted_rounds()

        def score(column_AF: Features) -> Floats:
            margin_A: Floats = best.inplace_predict(column_AF, predict_type="margin")
            return margin_A.astype(np.float64)

        return score

    @property
    def chosen(self) -> Chosen:
        """The setting with its number of trees, and what speaks against trusting it."""
        setting, found = super().chosen
        trees = self._trees[self.setting]
        if trees <= FEW_TREES:
            found = (f"it stopped after {trees} tree{'s' if trees > 1 else ''}", *found)
        return Chosen({"trees": trees, **setting}, found)


class XGBoostSupport(XGBoost):
    """The same trees, with columns of the account's known labels."""

    name, title, reads_labels = "xgboost_support", "XGBoost with the account's labels", True

    def prepare(self, lesson: Lesson) -> None:
        rows, train = lesson.rows, lesson.train
        self._trees = {}
        self._population = Population(rows, train)
        rng = np.random.default_rng(lesson.seed)
        labels = Labels.of(rows, train.rows, SUPPORT_LIMIT, rng)
        self._train_AF = self._with_labels(rows, train.rows, labels)

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Features:
        return self._with_labels(rows, scored, Labels.of(rows, scored, limit))

    def _with_labels(self, rows: Rows, scored: NDArray[np.intp], labels: Labels) -> Features:
        labels_AS = summary(self._population, rows, labels)
        return np.concatenate([_columns(rows, scored), labels_AS], axis=1)


def _columns(rows: Rows, scored: NDArray[np.intp]) -> Features:
    """All features but identities: a threshold between two of them separates nothing."""
    columns = np.array(without_identities(rows.kinds), np.intp)
    column_AF: Features = rows.features_NF[np.ix_(scored, columns)]
    return column_AF

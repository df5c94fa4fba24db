"""Gradient-boosted trees of two libraries, with and without the account's labels.

Axes: A rows, F features, S columns that summarise labels.
"""

from abc import ABC
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
    Setting,
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


class Growing(NamedTuple):
    """Settings of LightGBM, by its names for them."""

    num_leaves: int
    max_bin: int = 1023
    learning_rate: float = 0.1
    bagging_fraction: float = 1.0
    feature_fraction: float = 1.0
    min_data_in_leaf: int = 20


class Boosted(Tuned[Setting, Features], ABC):
    """Gradient-boosted trees, stopped early on held-out accounts.

    A handful of held-out frauds would stop them by luck, at a single tree even: with fewer than
    DECIDING_FRAUDS every setting gets the trees of STEADY_LEARNING. Most settings have many
    bins, because what matters lies in the features' far tails.
    """

    reads_labels = False

    def prepare(self, lesson: Lesson) -> None:
        self._trees: dict[Setting, int] = {}
        self._train_AF = self.inputs(lesson.rows, lesson.train.rows, SUPPORT_LIMIT)

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Features:
        return _columns(rows, scored)

    @property
    def chosen(self) -> Chosen:
        """The setting with its number of trees, and what speaks against trusting it."""
        setting, found = super().chosen
        trees = self._trees[self.setting]
        if trees <= FEW_TREES:
            found = (f"it stopped after {trees} tree{'s' if trees > 1 else ''}", *found)
        return Chosen({"trees": trees, **setting}, found)


class ReadingLabels(Boosted[Setting], ABC):
    """The same trees, with columns of the account's known labels."""

    reads_labels = True

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


class XGBoost(Boosted[Boosting]):
    """XGBoost (Chen and Guestrin, KDD 2016)."""

    name, title, library = "xgboost", "XGBoost", "xgboost"
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


class XGBoostSupport(ReadingLabels[Boosting], XGBoost):
    """XGBoost with the account's labels."""

    name, title = "xgboost_support", "XGBoost with the account's labels"


class LightGBM(Boosted[Growing]):
    """LightGBM (Ke et al., NeurIPS 2017), whose trees grow leaf by leaf."""

    name, title, library = "lightgbm", "LightGBM", "lightgbm"
    settings = (
        Growing(8),
        Growing(16),
        Growing(16, bagging_fraction=0.8, feature_fraction=0.5),
        Growing(31),
        Growing(31, bagging_fraction=0.8, feature_fraction=0.5),
        Growing(63, bagging_fraction=0.8, feature_fraction=0.5, min_data_in_leaf=50),
        Growing(31, max_bin=255),
        Growing(31, learning_rate=0.2),
    )

    def build(self, setting: Growing, lesson: Lesson, held_out: Features) -> Score[Features]:
        import lightgbm

        _, is_fraud_A, weight_A = lesson.train
        _, held_is_fraud_A, held_weight_A = lesson.held_out
        train = lightgbm.Dataset(self._train_AF, is_fraud_A, weight=weight_A)
        test = train.create_valid(held_out, held_is_fraud_A, weight=held_weight_A)
        can_stop = held_is_fraud_A.sum() >= DECIDING_FRAUDS
        trees = lightgbm.train(
            {
                "objective": "binary",
                "metric": "average_precision",
                "seed": lesson.seed,
                "bagging_freq": 1,
                "deterministic": True,
                "force_col_wise": True,
                "verbosity": -1,
                **setting._asdict(),
            },
            train,
            TREES_AT_MOST if can_stop else round(STEADY_LEARNING / setting.learning_rate),
            valid_sets=[test] if can_stop else None,
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)] if can_stop else None,
        )
        count = trees.best_iteration if can_stop else trees.current_iteration()
        self._trees[setting] = count

        def score(column_AF: Features) -> Floats:
            return np.asarray(trees.predict(column_AF, num_iteration=count, raw_score=True))

        return score


class LightGBMSupport(ReadingLabels[Growing], LightGBM):
    """LightGBM with the account's labels."""

    name, title = "lightgbm_support", "LightGBM with the account's labels"


def _columns(rows: Rows, scored: NDArray[np.intp]) -> Features:
    """All features but identities: a threshold between two of them separates nothing."""
    columns = np.array(without_identities(rows.kinds), np.intp)
    column_AF: Features = rows.features_NF[np.ix_(scored, columns)]
    return column_AF

"""A model that learns from a stream: each label when it becomes known, also while it is tested.

Axes: A scored rows, L learned rows, E columns.
"""

from copy import deepcopy
from typing import TYPE_CHECKING, NamedTuple, Self, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.features import Features
from app.learner.states import Floats, Ints
from app.learner.transaction import HOUR_US
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.rivals.tuning import Lesson, Population, Score, Tuned
from app.training.sampling import Sample

if TYPE_CHECKING:
    from river.linear_model import LogisticRegression

LEARNED_AT_ONCE = 32
# How near to 0 and 1 a probability may come before its log-odds are cut off.
LEAST = 1e-15


class Rate(NamedTuple):
    """An optimizer of River's, by its name, and its learning rate."""

    optimizer: str
    rate: float


class LabelStream(NamedTuple):
    """L labels in the order in which they become known."""

    column_LE: Features
    is_fraud_L: NDArray[np.bool_]
    weight_L: Floats
    known_at_us_L: Ints

    def part(self, first: int, stop: int) -> Self:
        column_LE, is_fraud_L, weight_L, known_at_us_L = self
        some = slice(first, stop)
        return type(self)(column_LE[some], is_fraud_L[some], weight_L[some], known_at_us_L[some])


class Stream(NamedTuple):
    """What is scored, and what becomes known meanwhile."""

    column_AE: Features
    time_us_A: Ints
    learned: LabelStream


class RiverOnline(Tuned[Rate, Stream]):
    """River's logistic regression, learning in mini-batches in the order of the labels' arrival.

    All frauds and a share of the legitimate rows are learned, the latter with the weight of all.
    When tested it goes on with every account's labels of the days after training: an hour's rows
    are scored with what was known as the hour began. It is one model for all accounts, so the
    limit on an account's labels is none on it.
    """

    name, title, reads_labels, library = "river_online", "River, learning online", False, "river"
    settings = (
        Rate("SGD", 0.03),
        Rate("SGD", 0.1),
        Rate("SGD", 0.3),
        Rate("AdaGrad", 0.1),
        Rate("AdaGrad", 0.3),
        Rate("AdaGrad", 1.0),
        Rate("Adam", 0.003),
        Rate("Adam", 0.01),
    )

    def prepare(self, lesson: Lesson) -> None:
        rows, train = lesson.rows, lesson.train
        self._population = Population(rows, train)
        self._end_us, self._seed = lesson.end_us, lesson.seed
        # Later labels are drawn and weighed as those of the training were.
        self._share = 1 / float(train.weight_A.max())
        self._train = self._learned(rows, train)

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Stream:
        time_us_A = rows.time_us_N[scored]
        later = np.flatnonzero(
            (rows.known_at_us_N > self._end_us)
            & (rows.known_at_us_N <= time_us_A.max())
            & (rows.is_fraud_N != UNLABELLED)
        )
        is_fraud_L = rows.is_fraud_N[later] == 1
        drawn_N = np.random.default_rng(self._seed).random(len(rows.account_N))
        kept_L = is_fraud_L | (drawn_N[later] < self._share)
        weight_L = np.where(is_fraud_L, 1.0, 1 / self._share)
        sample = Sample(later[kept_L], is_fraud_L[kept_L], weight_L[kept_L])
        column_AE = self._population.encode(rows.features_NF[scored])
        return Stream(column_AE, np.maximum(time_us_A, self._end_us), self._learned(rows, sample))

    def build(self, setting: Rate, lesson: Lesson, held_out: Stream) -> Score[Stream]:
        from river import linear_model, optim

        rate = np.average(lesson.train.is_fraud_A, weights=lesson.train.weight_A)
        trained = linear_model.LogisticRegression(
            getattr(optim, setting.optimizer)(setting.rate),
            intercept_init=float(np.log(rate / (1 - rate))),
        )
        _learn(trained, self._train)

        def score(stream: Stream) -> Floats:
            model, learned = deepcopy(trained), 0
            score_A = np.empty(len(stream.column_AE))
            begin_us_A = stream.time_us_A // HOUR_US * HOUR_US
            for begin_us in np.unique(begin_us_A):
                reached = int(np.searchsorted(stream.learned.known_at_us_L, begin_us, "right"))
                # What fills no batch yet waits for the next hour.
                reached -= (reached - learned) % LEARNED_AT_ONCE
                _learn(model, stream.learned.part(learned, reached))
                learned = reached
                now_A = begin_us_A == begin_us
                score_A[now_A] = _log_odds(model, stream.column_AE[now_A])
            return score_A

        return score

    def _learned(self, rows: Rows, sample: Sample) -> LabelStream:
        order_L = np.argsort(rows.known_at_us_N[sample.rows], kind="stable")
        rows_L = sample.rows[order_L]
        return LabelStream(
            self._population.encode(rows.features_NF[rows_L]),
            sample.is_fraud_A[order_L],
            sample.weight_A[order_L],
            rows.known_at_us_N[rows_L],
        )


def _frame(column_AE: Features) -> pl.DataFrame:
    return pl.DataFrame(column_AE, schema=[f"column_{e}" for e in range(column_AE.shape[1])])


def _learn(model: "LogisticRegression", learned: LabelStream) -> None:
    for first in range(0, len(learned.column_LE), LEARNED_AT_ONCE):
        some = learned.part(first, first + LEARNED_AT_ONCE)
        is_fraud_L = pl.Series("is_fraud", some.is_fraud_L)
        model.learn_many(_frame(some.column_LE), is_fraud_L, pl.Series(some.weight_L))


def _log_odds(model: "LogisticRegression", column_AE: Features) -> Floats:
    # Answered in a frame of the kind of the rows.
    answered = cast(pl.DataFrame, model.predict_proba_many(_frame(column_AE)))
    within_A = answered["True"].to_numpy().clip(LEAST, 1 - LEAST)
    log_odds_A: Floats = np.log(within_A) - np.log1p(-within_A)
    return log_odds_A

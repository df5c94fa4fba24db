"""Back-tests: a model trained anew for each fold, on what was known, tested on what came next.

Protocol A is the Fraud Detection Handbook's (chapter 5, prequential validation): train on a few
days, wait for the label delay, test on the following days without the accounts that are known
to be defrauded by then. No tested account has a fraud label, so copies learn from legitimate
labels alone.

Protocol B is what a service with feedback sees: the same test days, no account left out, labels
as they arrive, and a share of the accounts never seen in training, reported on their own.

Axes: N rows, A tested rows.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from app.adaptation import Learner
from app.states import Floats
from app.training.dataset import UNLABELLED, Dataset
from app.training.episodes import Rows
from app.training.evaluate import (
    Predictions,
    average_precision,
    by_kind,
    card_precision,
    fit_blend,
    predict,
    recall_at_false_positives,
)
from app.training.train import Options, Split, Status, Trainer
from app.transactions import DAY_US, SECOND_US, DatasetSpec

LABEL_COUNTS = (0, 1, 3, 5, 10, 16)
DEFAULT_FOLDS = 4
# Where a spec names no fold: so much of a file's time span is tested, a week at most.
TESTED_SHARE, LONGEST_TEST_DAYS = 0.1, 7.0
UNSEEN_SEED = 20

Metrics = dict[str, Any]
Watch = Callable[[str, Status], bool]


class Fold(NamedTuple):
    """The days a model is tested on, and those protocol A trains it on."""

    train_us: int
    train_end_us: int
    test_us: int
    test_end_us: int

    @property
    def name(self) -> str:
        return datetime.fromtimestamp(self.test_us / SECOND_US, UTC).date().isoformat()


def folds_of(spec: DatasetSpec, rows: Rows) -> list[Fold]:
    """The folds a spec names, or four at the end of the labelled time span.

    Raises ValueError where the file does not reach into a fold.
    """
    labelled = rows.is_fraud_N != UNLABELLED
    if not labelled.any():
        raise ValueError("the file has no labels to test against")
    first_us, last_us = (int(f(rows.time_us_N[labelled])) for f in (np.min, np.max))
    test_days = spec.backtest.test_days or min(
        TESTED_SHARE * (last_us - first_us) / DAY_US, LONGEST_TEST_DAYS
    )
    test_us = round(test_days * DAY_US)
    starts = [_start_us(day) for day in spec.backtest.test_starts] or [
        last_us + 1 - test_us * (DEFAULT_FOLDS - fold) for fold in range(DEFAULT_FOLDS)
    ]
    return [_fold(spec, start_us, test_us, first_us, last_us) for start_us in starts]


def _fold(spec: DatasetSpec, start_us: int, test_us: int, first_us: int, last_us: int) -> Fold:
    train_end_us = start_us - spec.label.delay_us
    train_days = spec.backtest.train_days
    train_us = first_us if train_days is None else train_end_us - round(train_days * DAY_US)
    fold = Fold(train_us, train_end_us, start_us, start_us + test_us)
    if train_end_us <= first_us or start_us > last_us:
        raise ValueError(f"the fold tested from {fold.name} lies outside the file's labelled time")
    return fold


def _start_us(day: str) -> int:
    moment = datetime.fromisoformat(day)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * SECOND_US


class Backtest:
    """Both protocols over one file; `watch` is told of every training step and can stop it."""

    def __init__(
        self,
        dataset: Dataset,
        rows: Rows,
        spec: DatasetSpec,
        options: Options,
        device: torch.device,
        watch: Watch,
    ) -> None:
        self._dataset, self._rows, self._spec = dataset, rows, spec
        self._options, self._device, self._watch = options, device, watch
        accounts = int(rows.account_N.max()) + 1
        draws = np.random.default_rng(UNSEEN_SEED).random(accounts)
        self._unseen_N = (draws < spec.backtest.unseen_share)[rows.account_N]
        self.folds = folds_of(spec, rows)

    def run(self) -> Metrics:
        """The figures of both protocols, by fold and as means over the folds."""
        protocol_a = [self._protocol_a(fold) for fold in self.folds]
        protocol_b = [self._protocol_b(fold) for fold in self.folds]
        return {
            "spec": self._spec.name,
            "protocol_a": {"folds": protocol_a, "mean": mean_of(protocol_a)["adapted"]},
            "protocol_b": {"folds": protocol_b, **mean_of(protocol_b)},
        }

    def _protocol_a(self, fold: Fold) -> Metrics:
        t = self._rows.time_us_N
        trained_N = (t >= fold.train_us) & (t < fold.train_end_us)
        learner = self._train(f"A {fold.name}", trained_N, fold)
        tested = self._labelled(self._tested_in_a(fold))
        predictions = predict(learner, self._rows, tested)
        return {
            "test_start": fold.name,
            "train_transactions": int(trained_N.sum()),
            "train_frauds": self._frauds(trained_N),
            "test_transactions": len(tested),
            "test_frauds": self._frauds(tested),
            **self._by_method(predictions),
        }

    def _protocol_b(self, fold: Fold) -> Metrics:
        t = self._rows.time_us_N
        days = self._spec.backtest.feedback_train_days
        first_us = 0 if days is None else fold.test_us - round(days * DAY_US)
        learner = self._train(
            f"B {fold.name}", (t >= first_us) & (t < fold.test_us) & ~self._unseen_N, fold
        )
        tested = self._labelled((t >= fold.test_us) & (t < fold.test_end_us))
        predictions = predict(learner, self._rows, tested)
        unseen = predictions.take(self._unseen_N[tested])
        return {
            "test_start": fold.name,
            "all": self._by_method(predictions),
            "unseen": self._by_method(unseen),
            "by_support": {name: self._by_method(unseen.take(mix)) for name, mix in _mixes(unseen)},
            "by_kind": {
                name: self._by_method(chosen)
                for name, chosen in by_kind(self._dataset, self._rows, unseen)
            },
            "by_labels": {
                str(limit): self._by_method(predict(learner, self._rows, unseen.rows, limit))
                for limit in LABEL_COUNTS
            },
        }

    def _train(self, name: str, asked_N: NDArray[np.bool_], fold: Fold) -> Learner:
        known = self._rows.known_by(fold.test_us)
        split = Split.of(known, asked_N, fold.test_us, self._options.seed)
        trainer = Trainer(known, split, self._options, self._device)
        trainer.run(lambda status: self._watch(name, status))
        fit_blend(trainer.learner, known, split.held_out)
        return trainer.learner

    def _tested_in_a(self, fold: Fold) -> NDArray[np.bool_]:
        """The test days without the accounts known to be defrauded, as these become known.

        They are the accounts defrauded in the training days, and on each test day those whose
        fraud of the label delay before it has been reported meanwhile.
        """
        rows, delay_us = self._rows, self._spec.label.delay_us
        t = rows.time_us_N
        tested_N = (t >= fold.test_us) & (t < fold.test_end_us)
        fraud_N = (rows.is_fraud_N == 1) & (t >= fold.train_us)
        reported_us = np.full(int(rows.account_N.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(reported_us, rows.account_N[fraud_N], t[fraud_N] + delay_us)
        day_us = t - (t - fold.test_us) % DAY_US
        return tested_N & (reported_us[rows.account_N] >= day_us)

    def _labelled(self, asked_N: NDArray[np.bool_]) -> NDArray[np.intp]:
        return np.flatnonzero(asked_N & (self._rows.is_fraud_N != UNLABELLED))

    def _frauds(self, rows: NDArray[Any]) -> int:
        return int((self._rows.is_fraud_N[rows] == 1).sum())

    def _by_method(self, predictions: Predictions) -> Metrics:
        methods = {"adapted": predictions.adapted_A, "base": predictions.base_A}
        return {name: self._quality(predictions.rows, s) for name, s in methods.items()}

    def _quality(self, tested: NDArray[np.intp], score_A: Floats) -> Metrics:
        rows = self._rows
        is_fraud_A = rows.is_fraud_N[tested] == 1
        return {
            "transactions": len(tested),
            "frauds": int(is_fraud_A.sum()),
            "average_precision": average_precision(is_fraud_A, score_A),
            "card_precision_100": card_precision(
                rows.account_N[tested], rows.time_us_N[tested], is_fraud_A, score_A
            ),
            "recall_at_1_percent": recall_at_false_positives(is_fraud_A, score_A),
        }


def _mixes(predictions: Predictions) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "no labels", predictions.labels_A == 0
    yield "legitimate only", (predictions.labels_A > 0) & (predictions.frauds_A == 0)
    yield "one fraud", predictions.frauds_A == 1
    yield "several frauds", predictions.frauds_A > 1


def mean_of(folds: list[Metrics]) -> Metrics:
    """The mean of every figure over the folds that have it; counts are means too."""
    keys = dict.fromkeys(key for fold in folds for key in fold)
    means: Metrics = {}
    for key in keys:
        values = [fold[key] for fold in folds if key in fold]
        if isinstance(values[0], dict):
            means[key] = mean_of(values)
        elif not isinstance(values[0], str):
            finite = [value for value in values if not np.isnan(value)]
            means[key] = float(np.mean(finite)) if finite else float("nan")
    return means

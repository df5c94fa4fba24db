"""Folds: the days that each model of a back-test is trained and tested on, and means over them."""

from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, SECOND_US
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.results import Metrics

DEFAULT_FOLDS = 4
# Where a spec names no fold: so much of a file's time span is tested, a week at most.
TESTED_SHARE, LONGEST_TEST_DAYS = 0.1, 7.0


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

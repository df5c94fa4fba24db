"""Differences between methods: paired, over all folds, and silent where frauds are few."""

import math

import numpy as np
import pytest

from app.learner.decisions import Calibration
from app.training.dataset import Dataset
from app.training.differences import LEAST_DEFRAUDED, differences, differences_by, draws_of
from app.training.results import Results, pooled_reliability
from app.training.run import Source
from tests.training.files import plain_rows

ACCOUNTS, DAYS = 40, 30
AS_IT_IS = Calibration(slope=1.0, shift=0.0)


def fold(dataset: Dataset, seed: int, defrauded: int = ACCOUNTS) -> Results:
    """Accounts of which some have a fraud, found well by `adapted` and `twin`, else by luck."""
    rng = np.random.default_rng(seed)
    account_N = np.repeat(np.arange(ACCOUNTS), DAYS)
    is_fraud_N = np.zeros(len(account_N), int)
    is_fraud_N[DAYS * np.arange(defrauded) + rng.integers(0, DAYS, defrauded)] = 1
    rows = plain_rows(list(np.tile(np.arange(DAYS), ACCOUNTS)), list(account_N), list(is_fraud_N))
    noise_A = rng.normal(0, 1, (2, len(account_N)))
    adapted_A = noise_A[0] + 2 * (rows.is_fraud_N == 1)
    logits = {"adapted": adapted_A, "base": noise_A[1], "twin": 3 * adapted_A}
    counts = np.zeros(len(account_N), np.int64)
    calibrations = dict.fromkeys(logits, AS_IT_IS)
    return Results(dataset, rows, np.arange(len(account_N)), counts, counts, logits, calibrations)


@pytest.fixture
def dataset(source: Source) -> Dataset:
    return source.dataset


def test_what_ranks_alike_differs_by_nothing_in_any_draw(dataset: Dataset) -> None:
    folds = [fold(dataset, seed) for seed in (0, 1)]
    found = differences(folds, draws_of(folds))
    assert set(found) == {"base", "twin"}
    assert found["twin"] == {"difference": 0, "low": 0, "high": 0}
    assert 0.1 < found["base"]["low"] < found["base"]["difference"] < found["base"]["high"]


def test_more_folds_make_an_interval_narrower(dataset: Dataset) -> None:
    widths = []
    for seeds in (range(1), range(8)):
        folds = [fold(dataset, seed) for seed in seeds]
        found = differences(folds, draws_of(folds), ["base"])["base"]
        widths.append(found["high"] - found["low"])
    assert widths[1] < 0.6 * widths[0]


@pytest.mark.parametrize("defrauded", [LEAST_DEFRAUDED - 1, LEAST_DEFRAUDED])
def test_there_is_no_interval_where_few_accounts_are_defrauded(
    dataset: Dataset, defrauded: int
) -> None:
    """A single account that is always drawn or absent would seem to leave nothing to chance."""
    folds = [fold(dataset, seed, defrauded) for seed in (0, 1)]
    found = differences(folds, draws_of(folds))["base"]
    assert not math.isnan(found["difference"])
    assert math.isnan(found["low"]) is (defrauded < LEAST_DEFRAUDED)
    assert math.isnan(found["high"]) is (defrauded < LEAST_DEFRAUDED)


def test_a_group_counts_the_folds_that_have_it(dataset: Dataset) -> None:
    first, second = (fold(dataset, seed) for seed in (0, 1))
    draws = draws_of([first, second])
    groups = iter([("every", first), ("one", first)]), iter([("every", second)])
    found = differences_by(groups, draws)
    assert found["every"] == differences([first, second], draws, ["base"])
    assert found["one"] == differences([first], draws, ["base"])
    assert found["one"] != found["every"]


def test_reliability_is_of_the_network_in_all_folds_together(dataset: Dataset) -> None:
    folds = [fold(dataset, seed) for seed in (0, 1)]
    found = pooled_reliability(folds)
    assert set(found) == {"adapted", "base"}
    squares = [(fold.probability_A("base") - fold.is_fraud_A) ** 2 for fold in folds]
    assert found["base"]["brier"] == pytest.approx(np.concatenate(squares).mean())
    assert found["base"]["frauds"] == 2 * ACCOUNTS

"""The bootstrap against a loop over draws with scikit-learn, and what an interval says."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_curve

from app.training import bootstrap
from app.training.bootstrap import Draws, Interval, Ranking

Columns = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn_rows(seed: int, rows: int = 400, accounts: int = 30, levels: int = 25) -> Columns:
    """Accounts, frauds and scores of which many are equal, in frauds and others alike."""
    rng = np.random.default_rng(seed)
    is_fraud_A = rng.random(rows) < 0.1
    score_A = np.round((rng.normal(0, 1, rows) + is_fraud_A) * levels / 6)
    return rng.integers(0, accounts, rows) * 7, is_fraud_A, score_A


def naive(columns: Columns, draws: Draws, draw: int) -> tuple[float, float]:
    """Average precision and recall at 1 % false positives by scikit-learn, for one draw."""
    account_A, is_fraud_A, score_A = columns
    accounts = np.unique(account_A)
    weight_A = draws.times_CR[np.searchsorted(accounts, account_A), draw].astype(float)
    precision = average_precision_score(is_fraud_A, score_A, sample_weight=weight_A)
    false_positives, recall, _ = roc_curve(
        is_fraud_A, score_A, sample_weight=weight_A, drop_intermediate=False
    )
    return float(precision), float(recall[false_positives <= 0.01].max())


@pytest.mark.parametrize("levels", [3, 25, 10_000])
def test_every_draw_has_the_figures_of_scikit_learn_with_weights(
    levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", 7)
    columns = drawn_rows(levels, levels=levels)
    draws = Draws(columns[0], resamples=60)
    measured = draws.means([draws.ranking(*columns)])
    expected = np.array([naive(columns, draws, draw) for draw in range(61)])
    np.testing.assert_allclose(measured.average_precision, expected[:, 0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(measured.recall_at_1_percent, expected[:, 1], rtol=0, atol=1e-12)


def test_a_draw_takes_an_account_in_all_folds_and_the_mean_is_over_the_folds() -> None:
    folds = [drawn_rows(seed) for seed in (1, 2)]
    draws = Draws(np.concatenate([fold[0] for fold in folds]), resamples=20)
    measured = draws.means([draws.ranking(*fold) for fold in folds])
    # All thirty accounts are in both folds, so that one column of weights belongs to both.
    assert all(len(np.unique(fold[0])) == len(draws.times_CR) for fold in folds)
    expected = [np.mean([naive(fold, draws, draw) for fold in folds], axis=0) for draw in range(21)]
    np.testing.assert_allclose(np.stack(measured, axis=1), expected, rtol=0, atol=1e-12)


def test_the_first_draw_is_the_sample_and_each_other_draws_as_many_accounts() -> None:
    draws = Draws(np.array([4, 4, 9, 9, 9, 2, 7]), resamples=50)
    assert draws.times_CR[:, 0].tolist() == [1, 1, 1, 1]
    assert (draws.times_CR.sum(0) == 4).all()
    assert len(np.unique(draws.times_CR, axis=1).T) > 20
    again = Draws(np.array([2, 4, 7, 9]), resamples=50)
    np.testing.assert_array_equal(again.times_CR, draws.times_CR)


def test_a_fold_without_fraud_is_left_out_of_a_draws_mean() -> None:
    """Frauds of one account each: a draw without that account has no figure for its fold."""
    first = np.array([1, 2, 2, 3]), np.array([True, False, False, False]), np.arange(4.0)
    second = np.array([1, 2, 3, 3]), np.array([False, True, False, False]), -np.arange(4.0)
    draws = Draws(np.array([1, 2, 3]), resamples=300)
    alone = [draws.means([draws.ranking(*fold)]).average_precision for fold in (first, second)]
    both_R = draws.means([draws.ranking(*fold) for fold in (first, second)]).average_precision
    np.testing.assert_array_equal(np.isnan(alone[0]), draws.times_CR[0] == 0)
    np.testing.assert_array_equal(np.isnan(alone[1]), draws.times_CR[1] == 0)
    one_R = np.isnan(alone[0]) & ~np.isnan(alone[1])
    assert one_R.any()
    np.testing.assert_array_equal(both_R[one_R], alone[1][one_R])
    np.testing.assert_array_equal(np.isnan(both_R), np.isnan(alone[0]) & np.isnan(alone[1]))


def test_without_fraud_or_without_anything_else_there_is_no_figure() -> None:
    ones_CR = np.ones((2, 3))
    without = Ranking(np.zeros(4, bool), np.arange(4.0), np.array([0, 0, 1, 1]), 2)
    assert np.isnan(np.stack(without.measured(ones_CR))).all()
    alone = Ranking(np.ones(4, bool), np.arange(4.0), np.array([0, 0, 1, 1]), 2)
    assert (alone.measured(ones_CR).average_precision == 1).all()
    assert np.isnan(alone.measured(ones_CR).recall_at_1_percent).all()
    nothing = Draws(np.zeros(0, np.int64), resamples=5)
    empty = nothing.ranking(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
    assert np.isnan(np.stack(nothing.means([empty]))).all()


def test_an_interval_holds_the_middle_of_the_draws_that_have_a_figure() -> None:
    drawn = np.r_[np.arange(1001.0), np.full(100, np.nan)]
    value = Interval.of(np.r_[7.0, np.random.default_rng(0).permutation(drawn)])
    assert value == (7.0, pytest.approx(25.0), pytest.approx(975.0))
    for unknown in (np.r_[np.nan, drawn], np.r_[0.5, np.full(9, np.nan)]):
        assert math.isnan(Interval.of(unknown).low)
        assert math.isnan(Interval.of(unknown).high)


def test_an_interval_is_wider_the_more_an_accounts_rows_are_alike() -> None:
    """Twenty equal rows an account tell no more than one: rows as accounts would say they do."""
    rng = np.random.default_rng(5)
    is_fraud_C = rng.random(200) < 0.2
    score_C = rng.normal(0, 1, 200) + is_fraud_C
    columns = [np.repeat(each, 20) for each in (is_fraud_C, score_C)]
    widths = []
    for account_A in (np.repeat(np.arange(200), 20), np.arange(4000)):
        draws = Draws(account_A, resamples=200)
        ranking = draws.ranking(account_A, *columns)
        _, low, high = Interval.of(draws.means([ranking]).average_precision)
        widths.append(high - low)
    assert widths[0] > 2.5 * widths[1]

"""The measures against examples worked by hand, and scoring as it is served."""

import math

import numpy as np
import pytest
import torch

from app.adaptation import Learner
from app.checkpoint import Calibration
from app.scoring import calibrated
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows, served
from app.training.evaluate import (
    average_precision,
    calibrate,
    card_precision,
    predict,
    recall_at_false_positives,
    thresholds,
)
from app.transactions import DAY_US


def card_precision_of(table: list[tuple[int, int, float, bool]]) -> float:
    """Of rows (day, account, score, fraud)."""
    day_A, account_A, score_A, is_fraud_A = (np.array(each) for each in zip(*table, strict=True))
    return card_precision(
        account_A, day_A * DAY_US + np.arange(len(table)), is_fraud_A, score_A.astype(float)
    )


def test_card_precision_counts_defrauded_accounts_among_the_100_first_of_each_day() -> None:
    # 150 accounts a day: of the 30 defrauded, every fifth, the 20 of rank 0 to 99 are found;
    # the next day they are gone, and of 130 accounts the 10 left are found within 100.
    day = [(account, 1000.0 - account, account % 5 == 0) for account in range(150)]
    assert card_precision_of([(0, *row) for row in day]) == pytest.approx(20 / 100)
    both = [(d, *row) for d in (0, 1) for row in day]
    # On day 1 the first 100 of what is left are accounts 1..99 but fives (80) and 100..119.
    assert card_precision_of(both) == pytest.approx((20 / 100 + 4 / 100) / 2)


def test_card_precision_takes_an_accounts_highest_score_and_any_fraud_of_the_day() -> None:
    others = [(0, account, 0.5, False) for account in range(1, 120)]
    # Its fraud scores low, but another of its transactions scores high.
    assert card_precision_of([*others, (0, 200, 0.1, True), (0, 200, 0.9, False)]) == 1 / 100
    assert card_precision_of([*others, (0, 200, 0.1, True), (0, 200, 0.2, False)]) == 0


def test_an_account_that_was_not_found_stays() -> None:
    others = [(d, account, 0.5, False) for d in (0, 1) for account in range(1, 120)]
    missed_then_found = [(0, 200, 0.1, True), (1, 200, 0.9, True)]
    assert card_precision_of([*others, *missed_then_found]) == pytest.approx(0.5 / 100)
    found_at_once = [(0, 200, 0.9, True), (1, 200, 0.9, True)]
    assert card_precision_of([*others, *found_at_once]) == pytest.approx(0.5 / 100)


def test_measures_of_nothing_and_of_one_class_are_not_a_number() -> None:
    nothing, no_scores = np.zeros(0, bool), np.zeros(0)
    assert math.isnan(average_precision(nothing, no_scores))
    assert math.isnan(recall_at_false_positives(nothing, no_scores))
    assert math.isnan(card_precision(np.zeros(0, int), np.zeros(0, int), nothing, no_scores))
    assert math.isnan(average_precision(np.zeros(3, bool), np.arange(3.0)))
    assert math.isnan(recall_at_false_positives(np.zeros(3, bool), np.arange(3.0)))
    assert math.isnan(recall_at_false_positives(np.ones(3, bool), np.arange(3.0)))


def test_recall_at_false_positives_flags_no_more_than_it_may() -> None:
    # 200 legitimate rows of scores 0 to 199: two of them may be flagged.
    legitimate = np.arange(200.0)
    frauds = np.array([300.0, 198.5, 197.5, 196.5, 0.5])
    is_fraud_A = np.r_[np.zeros(200, bool), np.ones(5, bool)]
    scores_A = np.r_[legitimate, frauds]
    assert recall_at_false_positives(is_fraud_A, scores_A) == pytest.approx(3 / 5)
    assert recall_at_false_positives(is_fraud_A, scores_A, rate=0.0) == pytest.approx(1 / 5)
    assert recall_at_false_positives(is_fraud_A, scores_A, rate=1.0) == 1
    # Equal scores are flagged together or not at all.
    assert recall_at_false_positives(is_fraud_A, np.zeros(205)) == 0


def test_average_precision_is_the_hand_worked_one() -> None:
    is_fraud_A = np.array([True, False, True, False])
    score_A = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(is_fraud_A, score_A) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


@pytest.fixture(scope="module")
def miscalibrated() -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of which the truth is another line, at a natural rate of a few percent."""
    rng = np.random.default_rng(0)
    logit_A = rng.normal(0, 2, 20_000)
    return rng.random(20_000) < 1 / (1 + np.exp(-(0.7 * logit_A - 3.5))), logit_A


def brier(is_fraud_A: np.ndarray, probability_A: np.ndarray) -> float:
    return float(np.square(probability_A - is_fraud_A).mean())


def test_calibration_finds_the_truth_behind_miscalibrated_log_odds(
    miscalibrated: tuple[np.ndarray, np.ndarray],
) -> None:
    is_fraud_A, logit_A = miscalibrated
    calibration = calibrate(is_fraud_A, logit_A)
    assert calibration.slope == pytest.approx(0.7, abs=0.05)
    assert calibration.shift == pytest.approx(-3.5, abs=0.15)
    before = brier(is_fraud_A, Calibration(slope=1.0, shift=0.0).probabilities(logit_A))
    after_A = calibration.probabilities(logit_A)
    assert brier(is_fraud_A, after_A) < 0.5 * before
    assert after_A.mean() == pytest.approx(is_fraud_A.mean(), rel=1e-3)


def test_too_few_frauds_and_log_odds_that_say_the_contrary_are_left_alone(
    miscalibrated: tuple[np.ndarray, np.ndarray],
) -> None:
    is_fraud_A, logit_A = miscalibrated
    few_A = is_fraud_A & (np.cumsum(is_fraud_A) <= 9)
    identity = Calibration(slope=1.0, shift=0.0)
    assert calibrate(few_A, logit_A) == identity
    assert calibrate(is_fraud_A, -logit_A) == identity
    assert calibrate(np.ones(20, bool), np.arange(20.0)) == identity
    assert calibrate(np.zeros(0, bool), np.zeros(0)) == identity


def test_probabilities_are_those_that_the_service_answers() -> None:
    calibration = Calibration(slope=1.3, shift=-2.0)
    logit_A = np.array([-1e9, -3.0, 0.0, 0.7, 5.0, 1e9])
    answered = [calibrated(float(logit), calibration) for logit in logit_A]
    np.testing.assert_allclose(calibration.probabilities(logit_A), answered, atol=1e-9)


def test_thresholds_review_one_in_a_hundred_and_decline_one_in_five_hundred() -> None:
    probability_A = np.random.default_rng(0).random(100_000) ** 3 * 0.4
    decisions = thresholds(probability_A)
    assert (probability_A >= decisions.review).mean() == pytest.approx(0.01, abs=1e-3)
    assert (probability_A >= decisions.decline).mean() == pytest.approx(0.002, abs=5e-4)


def test_what_is_more_likely_fraud_than_not_is_reviewed_however_common_fraud_is() -> None:
    decisions = thresholds(np.linspace(0.0, 1.0, 1000))
    assert decisions.review == 0.5
    assert decisions.decline == 0.95


@pytest.mark.parametrize("level", [0.0, 1e-9, 0.3, 1.0])
def test_thresholds_of_equal_probabilities_are_still_apart(level: float) -> None:
    decisions = thresholds(np.full(50, level))
    assert 0 < decisions.review < decisions.decline < 1


@pytest.fixture(scope="module")
def learner(rows: Rows) -> Learner:
    torch.manual_seed(0)
    learner = Learner(rows.kinds)
    learner.network.encoder.fit(rows.features_NF)
    return learner


@pytest.mark.parametrize("limit", [0, 1, 5, 32])
def test_predictions_say_how_many_labels_each_row_was_scored_with(
    rows: Rows, learner: Learner, limit: int
) -> None:
    asked = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[1500:2500]
    predictions = predict(learner, rows, asked, limit)
    np.testing.assert_array_equal(predictions.rows, asked)
    expected = [
        (len(support), int((rows.is_fraud_N[support] == 1).sum()))
        for support, query in served(rows, asked, limit)
        for _ in query
    ]
    assert list(zip(predictions.labels_A, predictions.frauds_A, strict=True)) == expected
    assert predictions.labels_A.max() == limit
    unlabelled_A = predictions.labels_A == 0
    np.testing.assert_array_equal(
        predictions.adapted_A[unlabelled_A], predictions.base_A[unlabelled_A]
    )
    assert (predictions.adapted_A[~unlabelled_A] != predictions.base_A[~unlabelled_A]).all()


def test_predictions_do_not_depend_on_what_else_is_asked(rows: Rows, learner: Learner) -> None:
    asked = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[:3000]
    together = predict(learner, rows, asked)
    # Whole days of accounts, so that the labels of each are known at the same moment.
    first = int(np.flatnonzero(np.diff(rows.account_N[asked]))[10]) + 1
    alone = predict(learner, rows, asked[:first])
    np.testing.assert_allclose(alone.adapted_A, together.adapted_A[:first], atol=1e-4)
    np.testing.assert_allclose(alone.base_A, together.base_A[:first], atol=1e-4)


def test_nothing_asked_is_nothing_predicted(rows: Rows, learner: Learner) -> None:
    predictions = predict(learner, rows, np.zeros(0, np.intp))
    assert [len(column) for column in predictions] == [0] * 5
    assert len(predictions.take(np.zeros(0, bool)).rows) == 0

"""Calibration error and reliability against examples worked by hand."""

import math

import numpy as np
import pytest

from app.training.calibration import brier, calibration_error, reliability


def test_the_error_is_the_mean_distance_over_fifteen_bins_of_equal_count() -> None:
    # 15 bins of 10 rows: the last says 0.9 and half are fraud, the others are right.
    probability_A = np.repeat(np.linspace(0.0, 0.014, 15), 10)
    probability_A[140:] = 0.9
    is_fraud_A = np.zeros(150, bool)
    is_fraud_A[140:145] = True
    others = sum(0.001 * n for n in range(14))
    assert calibration_error(is_fraud_A, probability_A) == pytest.approx((others + 0.4) / 15)
    shuffled = np.random.default_rng(0).permutation(150)
    again = calibration_error(is_fraud_A[shuffled], probability_A[shuffled])
    assert again == pytest.approx((others + 0.4) / 15)


def test_too_much_in_one_bin_is_not_made_good_by_too_little_in_another() -> None:
    probability_A = np.repeat([0.2, 0.8], 75)
    is_fraud_A = np.tile([True, False, False], 50)
    assert calibration_error(is_fraud_A, probability_A) == pytest.approx((2 / 15 + 7 / 15) / 2)
    assert calibration_error(is_fraud_A, np.full(150, 1 / 3)) == pytest.approx(0)


def test_rows_of_equal_probability_are_not_parted_by_their_place_in_the_file() -> None:
    is_fraud_A = np.r_[np.ones(30, bool), np.zeros(70, bool)]
    assert calibration_error(is_fraud_A, np.full(100, 0.3)) == pytest.approx(0)
    assert calibration_error(is_fraud_A, np.full(100, 0.5)) == pytest.approx(0.2)


def test_true_probabilities_have_a_small_error_and_others_a_large_one() -> None:
    rng = np.random.default_rng(0)
    probability_A = rng.random(40_000) ** 4
    is_fraud_A = rng.random(40_000) < probability_A
    assert calibration_error(is_fraud_A, probability_A) < 0.01
    assert calibration_error(is_fraud_A, np.sqrt(probability_A)) > 0.1
    assert brier(is_fraud_A, probability_A) < brier(is_fraud_A, np.sqrt(probability_A))


def test_of_no_row_there_is_no_figure() -> None:
    nothing = np.zeros(0, bool), np.zeros(0)
    assert math.isnan(calibration_error(*nothing))
    assert math.isnan(brier(*nothing))
    assert reliability(*nothing)["bins"] == []


def test_each_bin_of_the_diagram_holds_half_of_what_the_lower_ones_left() -> None:
    rng = np.random.default_rng(0)
    probability_A = rng.random(6_400) ** 3
    is_fraud_A = rng.random(6_400) < probability_A
    found = reliability(is_fraud_A, probability_A)
    bins = found["bins"]
    assert [bin["transactions"] for bin in bins] == [3200, 1600, 800, 400, 200, 100, 100]
    assert sum(bin["frauds"] for bin in bins) == found["frauds"] == is_fraud_A.sum()
    total = sum(bin["probability"] * bin["transactions"] for bin in bins)
    assert total == pytest.approx(probability_A.sum())
    top_A = probability_A >= np.sort(probability_A)[-100]
    assert bins[-1]["observed"] == pytest.approx(is_fraud_A[top_A].mean())
    assert bins[-1]["probability"] == pytest.approx(probability_A[top_A].mean())
    assert found["brier"] == brier(is_fraud_A, probability_A)
    assert found["calibration_error"] == calibration_error(is_fraud_A, probability_A)


def test_few_rows_are_one_bin() -> None:
    found = reliability(np.array([True, False, False]), np.array([0.5, 0.2, 0.2]))
    assert [bin["transactions"] for bin in found["bins"]] == [3]
    assert found["bins"][0]["observed"] == pytest.approx(1 / 3)

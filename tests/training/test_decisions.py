"""Thresholds keep to what was stated of them, and to sense where nothing was."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.learner.checkpoint import AlertBudget, Costs
from app.training.decisions import thresholds

PROBABILITIES = np.random.default_rng(0).random(100_000) ** 3 * 0.4


def test_thresholds_review_one_in_a_hundred_and_decline_one_in_five_hundred() -> None:
    decisions = thresholds(PROBABILITIES)
    assert decisions.stated is None
    assert (decisions.review <= PROBABILITIES).mean() == pytest.approx(0.01, abs=1e-3)
    assert (decisions.decline <= PROBABILITIES).mean() == pytest.approx(0.002, abs=5e-4)


def test_what_is_more_likely_fraud_than_not_is_reviewed_however_common_fraud_is() -> None:
    decisions = thresholds(np.linspace(0.0, 1.0, 1000))
    assert decisions.review == 0.5
    assert decisions.decline == 0.95


@pytest.mark.parametrize("level", [0.0, 1e-12, 0.3, 1.0])
def test_thresholds_of_equal_probabilities_are_still_apart(level: float) -> None:
    decisions = thresholds(np.full(50, level))
    assert 0 < decisions.review < decisions.decline < 1


@given(
    st.lists(st.sampled_from([0.0, 0.01, 0.2, 0.4, 0.9]), min_size=1, max_size=60),
    st.floats(0.01, 0.99),
    st.floats(0.01, 0.99),
)
def test_a_stated_budget_is_never_exceeded(
    probabilities: list[float], reviewed: float, declined: float
) -> None:
    probability_A = np.array(probabilities)
    stated = AlertBudget(reviewed=reviewed, declined=declined)
    decisions = thresholds(probability_A, stated)
    assert decisions.stated == stated
    assert (probability_A >= decisions.review).mean() <= reviewed
    assert (probability_A >= decisions.decline).mean() <= declined


def test_a_stated_budget_is_used_up() -> None:
    decisions = thresholds(PROBABILITIES, AlertBudget(reviewed=0.2, declined=0.05))
    assert (decisions.review <= PROBABILITIES).mean() == pytest.approx(0.2, abs=1e-4)
    assert (decisions.decline <= PROBABILITIES).mean() == pytest.approx(0.05, abs=1e-4)


@given(st.floats(0.1, 50), st.floats(1, 500), st.floats(1, 500), st.floats(0.001, 0.999))
def test_stated_costs_choose_the_cheapest_outcome(
    review: float, fraud: float, wrong_decline: float, probability: float
) -> None:
    decisions = thresholds(
        PROBABILITIES, Costs(review=review, fraud=fraud, wrong_decline=wrong_decline)
    )
    # Where reviews never pay the two thresholds are one, kept apart by a billionth, and what lies
    # between them is reviewed all the same: no more than one of the probabilities answered.
    assume(not decisions.review <= probability < min(decisions.decline, decisions.review + 2e-9))
    approved, reviewed = probability * fraud, review
    declined = (1 - probability) * wrong_decline
    if probability >= decisions.decline:
        chosen = declined
    elif probability >= decisions.review:
        chosen = reviewed
    else:
        chosen = approved
    slack = 1e-6 * max(fraud, wrong_decline)
    assert chosen <= min(approved, reviewed, declined) + slack

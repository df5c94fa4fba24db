"""The scale of risk, and what thresholds make of a probability."""

from itertools import pairwise

import numpy as np
import pytest

from app.learner.decisions import RISK_AT_DECLINE, RISK_AT_REVIEW, Thresholds, risk_score

THRESHOLDS = Thresholds(review=0.02, decline=0.4)


def test_risk_rises_with_the_probability_from_0_to_100() -> None:
    probabilities = [0.0, 1e-9, *np.linspace(1e-6, 1 - 1e-6, 2000), 1 - 1e-9, 1.0]
    risks = [risk_score(float(p), THRESHOLDS) for p in probabilities]
    assert all(lower <= other for lower, other in pairwise(risks))
    assert (risks[0], risks[-1]) == (0.0, 100.0)
    assert all(round(risk, 2) == risk for risk in risks)


@pytest.mark.parametrize(
    ("review", "decline"), [(0.02, 0.4), (0.12, 0.3), (1e-6, 2e-6), (0.5, 0.99)]
)
def test_risk_is_50_where_review_begins_and_75_where_decline_does(
    review: float, decline: float
) -> None:
    thresholds = Thresholds(review=review, decline=decline)
    assert risk_score(review, thresholds) == RISK_AT_REVIEW == 50
    assert risk_score(decline, thresholds) == RISK_AT_DECLINE == 75
    assert RISK_AT_REVIEW < risk_score((review * decline) ** 0.5, thresholds) < RISK_AT_DECLINE

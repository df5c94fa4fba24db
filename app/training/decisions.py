"""Thresholds for review and decline: from a stated alert budget, from stated costs, or neither."""

import numpy as np

from app.learner.checkpoint import AlertBudget, Costs, Decisions
from app.learner.states import Floats

# Until somebody states one.
USUAL_BUDGET = AlertBudget(reviewed=0.01, declined=0.002)
# Where fraud is more common than that, nobody would approve what is more likely than not.
SURELY_REVIEWED, SURELY_DECLINED = 0.5, 0.95
SMALLEST = 1e-9


def thresholds(probability_A: Floats, stated: AlertBudget | Costs | None = None) -> Decisions:
    """The thresholds for transactions like these, whose probabilities of fraud are calibrated.

    Without a statement they keep to the usual budget, but review and decline all that is surely
    fraud.
    """
    if isinstance(stated, Costs):
        review, decline = _cheapest(stated)
    else:
        budget = stated or USUAL_BUDGET
        review = _reached_by_at_most(budget.reviewed, probability_A)
        decline = _reached_by_at_most(budget.declined, probability_A)
    if stated is None:
        review, decline = min(review, SURELY_REVIEWED), min(decline, SURELY_DECLINED)
    review = float(np.clip(review, SMALLEST, 1 - 2 * SMALLEST))
    decline = float(np.clip(decline, review + SMALLEST, 1 - SMALLEST))
    return Decisions(review=review, decline=decline, stated=stated)


def _reached_by_at_most(share: float, probability_A: Floats) -> float:
    """The least threshold that no more than `share` of these reach, however many are equal."""
    descending_A = np.sort(probability_A)[::-1]
    first_left_out = int(share * len(descending_A))
    return float(np.nextafter(descending_A[first_left_out], 1.0)) if len(descending_A) else 1.0


def _cheapest(costs: Costs) -> tuple[float, float]:
    """Where the cheapest outcome changes, if a review finds out the truth.

    With a probability p of fraud, approving costs p * fraud, reviewing the review, and declining
    (1 - p) * wrong_decline (Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001).
    """
    review, decline = costs.review / costs.fraud, 1 - costs.review / costs.wrong_decline
    if review < decline:
        return review, decline
    # Reviews never pay: what is not approved is declined.
    either = costs.wrong_decline / (costs.wrong_decline + costs.fraud)
    return either, either

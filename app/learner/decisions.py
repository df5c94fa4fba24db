"""From log-odds to what is answered: calibration, thresholds, outcome, risk, level."""

import math
from functools import cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from app.learner.states import Floats

DIGITS = 9
# Of the probabilities that are answered, the nearest to 0 and 1 that have log-odds.
LEAST, MOST = 10.0**-DIGITS, 1 - 10.0**-DIGITS

RISK_AT_REVIEW, RISK_AT_DECLINE = 50.0, 75.0
# Risk 0 is a log-odds this far below the threshold of review, risk 100 above that of decline.
RISK_REACH = 6.0

Level = Literal["low", "medium", "high", "critical"]
Outcome = Literal["approve", "review", "decline"]
# The levels that a transaction of each outcome may have.
LEVELS: dict[Outcome, tuple[Level, ...]] = {
    "approve": ("low", "medium"),
    "review": ("high",),
    "decline": ("critical",),
}
# By the account's copy; by the base, since its labels do not support the copy; or by the base,
# since it has no labels to learn from.
Used = Literal["adapted", "base", "insufficient_labels"]


class Calibration(BaseModel):
    """Platt scaling of log-odds (Platt, 1999): probability = sigmoid(slope * log-odds + shift)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slope: Annotated[float, Field(gt=0)]
    shift: float

    def probabilities(self, logit_A: Floats) -> Floats:
        """The probabilities of fraud that log-odds stand for."""
        log_odds_A = np.clip(self.slope * logit_A + self.shift, -40.0, 40.0)
        probability_A: Floats = 1.0 / (1.0 + np.exp(-log_odds_A))
        return probability_A


class Thresholds(NamedTuple):
    """The probabilities from which a transaction is reviewed and from which it is declined."""

    review: float
    decline: float


class Decision(NamedTuple):
    """What is answered about one row. `labels` is the number the copy was adapted on."""

    probability: float
    risk_score: float
    risk_level: Level
    outcome: Outcome
    used: Used
    labels: int


def decide(probability: float, thresholds: Thresholds, used: Used, labels: int) -> Decision:
    """What a calibrated probability means under these thresholds."""
    risk = risk_score(probability, thresholds)
    outcome: Outcome = (
        "decline"
        if probability >= thresholds.decline
        else "review"
        if probability >= thresholds.review
        else "approve"
    )
    return Decision(probability, risk, _level(risk, outcome), outcome, used, labels)


def risk_score(probability: float, thresholds: Thresholds) -> float:
    """The probability on a scale for people: 0 to 100, 50 where review begins, 75 decline.

    Straight lines in log-odds between these points; two decimals.
    """
    at = log_odds(probability)
    review, decline = _from(thresholds)
    if at >= decline:
        above = min((at - decline) / RISK_REACH, 1.0)
        risk = RISK_AT_DECLINE + above * (100.0 - RISK_AT_DECLINE)
    elif at >= review:
        between = (at - review) / (decline - review)
        risk = RISK_AT_REVIEW + between * (RISK_AT_DECLINE - RISK_AT_REVIEW)
    else:
        below = min((review - at) / RISK_REACH, 1.0)
        risk = RISK_AT_REVIEW * (1.0 - below)
    return round(risk, 2)


@cache
def _from(thresholds: Thresholds) -> tuple[float, float]:
    return log_odds(thresholds.review), log_odds(thresholds.decline)


def _level(risk: float, outcome: Outcome) -> Level:
    if outcome == "approve":
        return "medium" if risk >= RISK_AT_REVIEW / 2 else "low"
    return "critical" if outcome == "decline" else "high"


def log_odds(probability: float) -> float:
    """Finite for every probability that is answered, 0 and 1 included."""
    if probability < LEAST:
        probability = LEAST
    elif probability > MOST:
        probability = MOST
    return math.log(probability / (1 - probability))

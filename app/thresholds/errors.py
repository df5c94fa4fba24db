"""What requests about thresholds can fail with."""

from app.errors import Problem


class TooFewScores(Problem):
    """State thresholds, or wait for 100 scores of a day or more."""

    status, code, title = 409, "too_few_scores", "Too few recent scores to choose thresholds from."

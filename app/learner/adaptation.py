"""What adaptation learns from: an account's labels, and the bounds on what they may cause.

The steps are defined in `differentiable/adaptation.py`, in PyTorch, and compiled in
`kernels/adaptation.pyx`. Axes: K labels, F features.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.features import Features
from app.learner.states import Ints

SUPPORT_LIMIT = 32
# A copy that saw one half of the labels scores the other. Leaving one out at a time would
# cost as many copies as there are labels, and more time than all the rest (docs/experiments.md).
PARTS = 2
# Log-odds further from the base than this are not followed: odds 150 times higher or lower.
LARGEST_MOVE = 5.0
# Less than this of a copy is none of it.
LEAST_WEIGHT = 0.02
# The share of codes and identities in common from which payments are alike, and a label of the one
# moves the other as far as its copy would.
ALIKE = 0.5
# Of what labels calm by likeness, the share that a payment gets with an entity that is new to the
# account. A quarter to three quarters are as good (decision 0079).
NEW_CALMED = 0.5
# Log-odds that refusals add are none below this: of refusals long ago nothing but rounding is left.
LEAST_REFUSED = 1e-6


class Support(NamedTuple):
    """The labelled transactions of one account, newest first."""

    features_KF: Features
    time_us_K: Ints
    is_fraud_K: NDArray[np.bool_]


def select_support(is_fraud_K: NDArray[np.bool_], limit: int = SUPPORT_LIMIT) -> NDArray[np.intp]:
    """Which of an account's labels to learn from, given newest first: at most `limit` positions.

    The newest of both classes, with room kept for frauds: up to half the places, rounded up, are
    theirs, so that a few frauds are not pushed out by many legitimate labels; places that one
    class leaves empty go to the other.
    """
    fraud, legitimate = np.flatnonzero(is_fraud_K), np.flatnonzero(~is_fraud_K)
    frauds = min(len(fraud), max((limit + 1) // 2, limit - len(legitimate)))
    chosen = np.concatenate([fraud[:frauds], legitimate[: limit - frauds]])
    return np.sort(chosen)

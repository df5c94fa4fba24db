"""Rows to learn from that are fewer than all: every fraud, and some of the others for the rest.

Axes: A rows, D days of accounts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.states import Floats
from app.learner.transaction import DAY_US
from app.training.episodes import Rows


class Sample(NamedTuple):
    """A rows, ascending, and for how many rows each of them stands."""

    rows: NDArray[np.intp]
    is_fraud_A: NDArray[np.bool_]
    weight_A: Floats


def sampled(rows: Rows, scored: NDArray[np.intp], legitimate: int, seed: int) -> Sample:
    """All days of accounts with a fraud, and of the others about so many legitimate rows.

    Whole days are drawn: their rows share most of their labels, so fewer copies serve as many.
    """
    is_fraud_A = rows.is_fraud_N[scored] == 1
    share = min(1.0, legitimate / max(int((~is_fraud_A).sum()), 1))
    day_A = rows.time_us_N[scored] // DAY_US
    changes = (np.diff(rows.account_N[scored]) != 0) | (np.diff(day_A) != 0)
    place_A = np.concatenate([[0], np.cumsum(changes)])
    drawn_D = np.random.default_rng(seed).random(place_A[-1] + 1) < share
    weight_D = np.where(np.bincount(place_A, is_fraud_A) > 0, 1.0, drawn_D / share)
    weight_A = weight_D[place_A]
    kept_A = weight_A > 0
    return Sample(scored[kept_A], is_fraud_A[kept_A], weight_A[kept_A])

"""What each feature adds to a score: integrated gradients, integrated exactly.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (ICML 2017): walk straight
from a baseline to the payment; a feature's share is its own step times the gradient, averaged
over the walk; so the shares sum to the difference of the two scores. The baseline is the
account's usual payment, made at the moment of this one: the mean of its past payments, or the
population's where there are none.

The walk is one of encodings, not of raw features. Every feature adds something of its own to the
first layer, so its step is known there, and the network is piecewise linear in what is left:
where a unit of the first layer turns on or off is the root of a line, and between two such roots
so is where an inner unit does. The average of the gradient is a sum over these pieces, without
quadrature.

Trees, where there are some, walk from split to split instead: a split's step from the value of its
place to that of the next is the share of its quantity, of the payment less the mean of its past
payments (Saabas, "Interpreting random forests", 2014). Splits of labels are settled beforehand,
alike for both. Then half of each share is the network's, and half the trees'.

Labels move the weights and the context, not the payment. What they make of the usual payment
itself is a share of its own, `labels`. The kernel of the same name walks, on a CPU in any case.

Axes: B payments, K past ones, F features, W numbers of a copy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from app.learner.features import Features
from app.learner.kernels.adaptation import Learner
from app.learner.kernels.attribution import attribute as walked
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US


class Attribution(NamedTuple):
    """Where a score comes from, in raw log-odds: baseline + sum(share_F) + labels = log_odds.

    `baseline` is what the account's usual payment is given without any label.
    """

    baseline: float
    log_odds: float
    share_F: Floats
    labels: float


def attribute(
    learner: Learner,
    features_BF: Features,
    time_us_B: Ints,
    pasts: Sequence[Features],
    copies_BW: Floats,
) -> list[Attribution]:
    """The shares of each of B payments' served log-odds, by feature.

    `pasts` are the features of the past payments of each one's account at their moments ([K, F],
    K may be 0), `copies_BW` what serves it.
    """
    features_B1F = np.ascontiguousarray(features_BF)[:, None]
    day_B1 = (time_us_B / DAY_US)[:, None]
    befores = [past_KF if len(past_KF) else learner.population_1F for past_KF in pasts]
    return [
        Attribution(*walked(learner, *row))
        for row in zip(features_B1F, day_B1, befores, copies_BW, strict=True)
    ]

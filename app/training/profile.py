"""The profile that a checkpoint takes along, for its drift to be seen."""

import numpy as np
from numpy.typing import NDArray

from app.learner.features import FeatureSet, without_identities
from app.learner.profile import Histogram, Profile
from app.learner.states import Floats
from app.learner.transaction import DAY_US
from app.times import text_of
from app.training.episodes import Rows

# Whole weeks: the days of a week differ.
DAYS = 28


def profile_of(
    features: FeatureSet, rows: Rows, held_out_A: NDArray[np.intp], served_A: Floats
) -> Profile:
    """Four weeks of all rows, and of what the held-out ones among them were served.

    They are the newest for whose labels there was time to come, as later frauds are not all known.
    Earlier rows are left out: at the start of a file every history is short. Where no row is left,
    all make the profile; where no held-out one is, all of those make the score's.
    """
    last_us = int(rows.time_us_N.max()) - features.spec.label.delay_us
    is_new_N = (rows.time_us_N > last_us - DAYS * DAY_US) & (rows.time_us_N <= last_us)
    if not is_new_N.any():
        is_new_N[:] = True
    is_fraud_N = rows.is_fraud_N == 1
    of_score = is_new_N[held_out_A] if is_new_N[held_out_A].any() else np.ones_like(served_A, bool)
    time_us_N = rows.time_us_N[is_new_N]
    return Profile(
        first=text_of(int(time_us_N.min())),
        last=text_of(int(time_us_N.max())),
        transactions=int(is_new_N.sum()),
        accounts=len(np.unique(rows.account_N[is_new_N])),
        frauds=int(is_fraud_N[is_new_N].sum()),
        features={
            features.names[f]: Histogram.of(rows.features_NF[is_new_N, f], is_fraud_N[is_new_N])
            for f in without_identities(features.kinds)
        },
        score=Histogram.of(served_A[of_score], is_fraud_N[held_out_A][of_score]),
    )

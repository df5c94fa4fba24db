"""The profile that a checkpoint takes along, for its drift to be seen. See `app.profile`."""

import numpy as np
from numpy.typing import NDArray

from app.features import FeatureSet
from app.profile import Histogram, Profile
from app.states import Floats
from app.times import text_of
from app.training.episodes import Rows
from app.transactions import DAY_US

# Whole weeks: the days of a week differ.
DAYS = 28


def profile_of(
    features: FeatureSet, rows: Rows, held_out_A: NDArray[np.intp], served_A: Floats
) -> Profile:
    """The newest four weeks of all rows, and of what the held-out ones among them were served.

    Older rows are left out: at the start of a file every history is short. Where no held-out row
    is so new, all of them make the profile of the score.
    """
    last_us = int(rows.time_us_N.max())
    is_new_N = rows.time_us_N > last_us - DAYS * DAY_US
    is_fraud_N = rows.is_fraud_N == 1
    of_score = is_new_N[held_out_A] if is_new_N[held_out_A].any() else np.ones_like(served_A, bool)
    first_us = int(rows.time_us_N[is_new_N].min())
    return Profile(
        first=text_of(first_us),
        last=text_of(last_us),
        transactions=int(is_new_N.sum()),
        accounts=len(np.unique(rows.account_N[is_new_N])),
        frauds=int(is_fraud_N[is_new_N].sum()),
        features={
            name: Histogram.of(rows.features_NF[is_new_N, f], is_fraud_N[is_new_N])
            for f, name in enumerate(features.names)
        },
        score=Histogram.of(served_A[of_score], is_fraud_N[held_out_A][of_score]),
    )

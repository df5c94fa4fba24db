"""The profile is of four weeks whose labels had come, and of whatever there is in a short file."""

from dataclasses import replace

import numpy as np

from app.learner.features import FeatureSet
from app.learner.profile import Profile
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.training.episodes import Rows
from app.training.profile import profile_of

SPEC = DatasetSpec.load("simulated")


def profile(rows: Rows) -> Profile:
    held_out_A = np.arange(0, len(rows.time_us_N), 2)
    return profile_of(FeatureSet(SPEC), rows, held_out_A, np.linspace(0, 1, len(held_out_A)))


def test_frauds_that_nobody_could_know_of_yet_make_no_share(rows: Rows) -> None:
    assert SPEC.label.delay_us == 14 * DAY_US
    age_days_N = (rows.time_us_N.max() - rows.time_us_N) / DAY_US
    is_known_N = (age_days_N >= 14) & (age_days_N < 42)
    found = profile(rows)
    assert found.transactions == is_known_N.sum()
    assert found.frauds == (rows.is_fraud_N[is_known_N] == 1).sum() > 0
    assert found.accounts == len(set(rows.account_N[is_known_N]))
    for histogram in found.features.values():
        assert sum(histogram.counts) == found.transactions
        assert sum(histogram.frauds) == found.frauds
    assert sum(found.score.counts) == is_known_N[::2].sum()


def test_a_profile_is_of_all_features_but_identities(rows: Rows) -> None:
    names = FeatureSet(SPEC).names
    identities = [f"{kind}_identity" for kind in SPEC.entity_names]
    assert set(identities) < set(names)
    assert list(profile(rows).features) == [name for name in names if name not in identities]


def test_a_file_of_a_few_days_is_its_own_profile(rows: Rows) -> None:
    few = replace(rows, time_us_N=rows.time_us_N.min() + np.arange(len(rows.time_us_N)))
    assert profile(few).transactions == len(rows.time_us_N)

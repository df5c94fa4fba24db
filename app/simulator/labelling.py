"""When a transaction's label is known: reviews within hours, and reports of holders within weeks.

What an institution's own rules hold up is reviewed by a person, as is a small sample of the rest,
and both verdicts are labels: most alarms are false, so most early labels say "legitimate". All else
is labelled late: a fraud when its holder reports it, the rest when nobody has disputed it in time.
The two ways, an alert's feedback within hours and a delayed label for all else, are those of
Dal Pozzolo et al. (2018, IEEE Transactions on Neural Networks and Learning Systems 29:3784). Which
rules and how quick people are is a choice.

Axes: N transactions.
"""

from collections.abc import Sequence
from copy import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from app.simulator.countries import Floats
from app.simulator.entities import device_ages
from app.simulator.events import DAY_SECONDS, GENUINE, Events, World
from app.simulator.frauds.thieves import RESALE_K, RETURN
from app.simulator.merchants import ONLINE_K

# A fraud is reported after a log-normal time: half within 4.5 days, nine in ten within 16. The
# Fraud Detection Handbook takes 7 days for all.
REPORT_MEDIAN_DAYS = 4.5
REPORT_SIGMA = 1.0
REPORT_LIMIT_DAYS = 120.0

# What nobody disputes counts as legitimate after this, and no younger transaction is labelled: if
# young frauds were labelled alone, the newest weeks would seem to hold hardly anything else.
CLEARING_DAYS = 14.0

# Frauds that nobody reports; holders overlook small ones more (an assumption: such frauds are, by
# their nature, not counted). Their label is "legitimate", as it would be in a real file.
UNREPORTED_SHARE = 0.05
UNREPORTED_SHARE_BELOW_10 = 0.15

# A rule holds up half of what it is about, but a tenth of what is merely far from home, where most
# are on a journey; of all other payments so many are looked at anyway.
ALARM_SHARE = 0.5
FAR_ALARM_SHARE = 0.1
SAMPLED_SHARE = 0.002
# A review is done after a log-normal time: half within 40 minutes, nine in ten within four hours.
REVIEW_MEDIAN_DAYS = 40 / 1440
REVIEW_SIGMA = 1.4
REVIEW_LIMIT_DAYS = 3.0
# Frauds that a reviewer takes for the holder's.
MISJUDGED_SHARE = 0.08

# Of attacks of which a fraud is known so many end, after a reaction of so many hours on average,
# and so many of the accounts keep thieves out who come back.
BLOCKED_SHARE = 0.85
KEPT_OUT_SHARE = 0.5
REACTION_HOURS = 0.5

# The rules: so many times the usual amount, so many payments within the hour, so far from home,
# or goods that resell from a device of today.
ALARMING_AMOUNT = 25
ALARMING_COUNT = 8
ALARMING_KM = 1500


class Labels:
    """What the labels of N transactions are, after how many days, and whether the file ends later.

    `events` are sorted by time; `is_fraud_N` is what the label is, or will be after the file.
    """

    def __init__(self, rng: np.random.Generator, world: World, events: Events) -> None:
        count = len(events)
        is_fraud_N = events.kind_N != GENUINE
        overlooked_N = np.where(events.amount_N < 10, UNREPORTED_SHARE_BELOW_10, UNREPORTED_SHARE)
        reported_N = is_fraud_N & (rng.random(count) >= overlooked_N)
        delay_N = rng.lognormal(np.log(REPORT_MEDIAN_DAYS), REPORT_SIGMA, count)
        delay_N = np.where(reported_N, np.minimum(delay_N, REPORT_LIMIT_DAYS), CLEARING_DAYS)

        reviewed_N = rng.random(count) < held_up(world, events)
        # A fraud that the reviewer misjudges is labelled when its holder reports it.
        reviewed_N &= ~is_fraud_N | (rng.random(count) >= MISJUDGED_SHARE)
        review_N = rng.lognormal(np.log(REVIEW_MEDIAN_DAYS), REVIEW_SIGMA, count)
        review_N = np.minimum(review_N, REVIEW_LIMIT_DAYS)

        age_N = world.days - events.second_N / DAY_SECONDS
        self.is_fraud_N = np.where(reviewed_N, is_fraud_N, reported_N)
        self.delay_days_N = np.where(reviewed_N, review_N, delay_N)
        self.is_known_N = age_N >= np.maximum(self.delay_days_N, CLEARING_DAYS)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The labels of the transactions of all parts, one part after the other."""
        whole = copy(parts[0])
        for name in vars(whole):
            setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
        return whole

    def take(self, chosen_N: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The labels of the chosen transactions."""
        some = copy(self)
        for name, values_N in vars(self).items():
            setattr(some, name, values_N[chosen_N])
        return some


def happening(rng: np.random.Generator, events: Events, labels: Labels) -> NDArray[np.bool_]:
    """Which transactions come about: most frauds end soon after the first of them is known.

    A card is blocked or a password changed once a review or the holder finds a fraud. What the
    thief would have done after that does not happen, for most, and half of those who come back do
    not get in again.
    """
    fraud_X = np.flatnonzero(events.kind_N != GENUINE)
    pair_X = events.account_N[fraud_X] * 100 + events.kind_N[fraud_X]
    _, episode_X = np.unique(pair_X, return_inverse=True)
    account_X = events.account_N[fraud_X]
    accounts, of_account_X = np.unique(account_X, return_inverse=True)
    known_X = events.second_N[fraud_X] + labels.delay_days_N[fraud_X] * DAY_SECONDS
    known_X = np.where(labels.is_fraud_N[fraud_X], known_X, np.inf)
    # Whoever comes back is stopped by any fraud that the account knows of.
    first_E = np.full(int(episode_X.max(initial=-1)) + 1, np.inf)
    np.minimum.at(first_E, episode_X, known_X)
    first_A = np.full(len(accounts), np.inf)
    np.minimum.at(first_A, of_account_X, known_X)
    returns_X = events.kind_N[fraud_X] == RETURN
    known_first_X = np.where(returns_X, first_A[of_account_X], first_E[episode_X])
    is_blocked_E = rng.random(len(first_E)) < BLOCKED_SHARE
    keeps_out_A = rng.random(len(accounts)) < KEPT_OUT_SHARE
    reaction_X = rng.exponential(REACTION_HOURS * 3600, len(first_E))[episode_X]
    is_late_X = events.second_N[fraud_X] > known_first_X + reaction_X
    is_late_X &= np.where(returns_X, keeps_out_A[of_account_X], is_blocked_E[episode_X])
    happens_N = np.ones(len(events), np.bool_)
    happens_N[fraud_X[is_late_X]] = False
    return happens_N


def held_up(world: World, events: Events) -> Floats:
    """The share of such transactions that a person looks at, where there is no model yet.

    `events` are sorted by time.
    """
    market_N = world.merchants.market_M[events.merchant_N]
    times_N: Floats = events.amount_N / world.accounts.typical_amount_A[events.account_N]
    order_N = np.lexsort((events.second_N, events.account_N))
    # Seconds from the first of the account's ALARMING_COUNT payments to the last.
    account_N, second_N = events.account_N[order_N], events.second_N[order_N]
    is_quick_N = np.zeros(len(events), np.bool_)
    within = slice(ALARMING_COUNT - 1, None), slice(None, len(events) - ALARMING_COUNT + 1)
    if len(events) >= ALARMING_COUNT:
        is_quick_N[order_N[within[0]]] = (account_N[within[0]] == account_N[within[1]]) & (
            second_N[within[0]] - second_N[within[1]] < 3600
        )
    online_N = ONLINE_K[market_N] & ~events.is_refund_N
    age_N = np.full(len(events), np.inf)
    used = events.take(online_N)
    age_N[online_N] = device_ages(world.accounts, used.account_N, used.device_N, used.second_N)
    resold_N = RESALE_K[market_N] & (age_N < 1) & (times_N > 1)
    far_N = np.nan_to_num(events.distance_km_N) > ALARMING_KM
    alarming_N = (times_N > ALARMING_AMOUNT) | is_quick_N | resold_N
    ways = [events.is_refund_N, alarming_N, far_N]
    return np.select(ways, [0, ALARM_SHARE, FAR_ALARM_SHARE], SAMPLED_SHARE)

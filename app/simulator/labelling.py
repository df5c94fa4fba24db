"""When a transaction's label is known: reviews within hours, and reports of holders within weeks.

What an institution's own rules hold up is reviewed by a person, as is a small sample of the rest,
and both verdicts are labels: most alarms are false, so most early labels say "legitimate". All else
is labelled late: a fraud when its holder reports it, the rest when nobody has disputed it in time.
The two ways, an alert's feedback within hours and a delayed label for all else, are those of
Dal Pozzolo et al. (2018, IEEE Transactions on Neural Networks and Learning Systems 29:3784). Which
rules and how quick people are is a choice.

Axes: N transactions.
"""

import numpy as np

from app.simulator.countries import Floats
from app.simulator.entities import device_ages
from app.simulator.events import DAY_SECONDS, GENUINE, Events, World
from app.simulator.frauds.thieves import RESALE_K
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

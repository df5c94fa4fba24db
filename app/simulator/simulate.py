"""A seeded simulator of card payments with fraud, for `quickstudy simulate` and `make train`.

`accounts` and `merchants` draw who pays and whom, `spending` what the accounts do themselves,
`frauds` what thieves do; here they become one file as an institution would export it, labels
included. Replaying habits and superimposing typed fraud is the way of the published simulators
(MultiMAuS, Zintgraf et al. 2017, EMSS; PaySim, Lopez-Rojas et al. 2016, EMSS; Altman 2019,
arXiv:1910.03033; the Fraud Detection Handbook, Le Borgne et al. 2022); the code and the numbers
are our own, and no number was chosen by what a model scores on the result.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.simulator.accounts import Accounts
from app.simulator.frauds import KINDS, defraud
from app.simulator.merchants import CATEGORY_K, CHANNEL_K, COUNTRIES, Floats, Merchants
from app.simulator.spending import DAY_SECONDS, GENUINE, Events, World, spend

START = datetime(2024, 1, 1, tzinfo=UTC)

# Ten times what card schemes publish, and near the Handbook's .84 %: enough to learn from.
FRAUD_RATE = 0.0075

# A fraud is reported after a log-normal time: half within 4.5 days, nine in ten within 16. Labels
# come days late from reports of the holders (verification latency: Dal Pozzolo et al. 2018, IEEE
# Transactions on Neural Networks and Learning Systems 29:3784); the Handbook takes 7 days for all.
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


def simulate(accounts: int, days: int, seed: int, start: datetime = START) -> pl.DataFrame:
    """Transactions of `accounts` accounts over `days` days, sorted by time.

    The same arguments give the same frame. Its columns are those of the built-in spec
    `simulated`: `is_fraud` is null while nobody knows, and so is `label_delay_days`, the days
    from a transaction to its label; `fraud_kind` is the truth, null for what the holder did, so
    that an unreported fraud has a kind and the label `false`. Amounts are in the currency of the
    account. `distance_from_home_km` is null online, `device_age_days` null in person.

    Raises ValueError unless there are at least 2 accounts and 1 day, and `start` has a zone.
    """
    if accounts < 2 or days < 1:
        raise ValueError("a simulation needs at least 2 accounts and 1 day")
    if start.tzinfo is None:
        raise ValueError("the start of a simulation needs a time zone")
    rng = np.random.default_rng(seed)
    merchants = Merchants.draw(rng, accounts)
    world = World(Accounts.draw(rng, accounts, days, merchants), merchants, start, days)
    genuine = spend(rng, world)
    events = Events.concatenate([genuine, defraud(rng, world, genuine, FRAUD_RATE)])
    events = events.take(np.argsort(events.second_N, kind="stable"))
    is_fraud_N, delay_days_N, known_N = _labels(rng, events, days)
    return _frame(world, events, is_fraud_N, delay_days_N, known_N)


def _labels(
    rng: np.random.Generator, events: Events, days: int
) -> tuple[NDArray[np.bool_], Floats, NDArray[np.bool_]]:
    """The label of each transaction, the days until it is known, and whether it is by the end."""
    overlooked_N = np.where(events.amount_N < 10, UNREPORTED_SHARE_BELOW_10, UNREPORTED_SHARE)
    reported_N = (events.kind_N != GENUINE) & (rng.random(len(events)) >= overlooked_N)
    delay_N = rng.lognormal(np.log(REPORT_MEDIAN_DAYS), REPORT_SIGMA, len(events))
    delay_N = np.where(reported_N, np.minimum(delay_N, REPORT_LIMIT_DAYS), CLEARING_DAYS)
    age_N = days - events.second_N / DAY_SECONDS
    return reported_N, delay_N, age_N >= np.maximum(delay_N, CLEARING_DAYS)


def _frame(
    world: World,
    events: Events,
    is_fraud_N: NDArray[np.bool_],
    delay_days_N: Floats,
    known_N: NDArray[np.bool_],
) -> pl.DataFrame:
    market_N = world.merchants.market_M[events.merchant_N]
    country_N = world.merchants.country_M[events.merchant_N]
    home_N = world.accounts.home_A[events.account_N]
    start_us = (world.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    time_us_N = start_us + events.second_N * 1_000_000
    known = pl.Series(known_N)
    return pl.DataFrame(
        {
            "transaction_id": _names("t", np.arange(len(events)), 8),
            "account_id": _names("a", events.account_N, 6),
            "occurred_at": pl.Series(time_us_N).cast(pl.Datetime("us", "UTC")),
            "amount": np.maximum(0.01, np.round(events.amount_N, 2)),
            "currency": np.array([c.currency for c in COUNTRIES])[home_N],
            "merchant_id": _names("m", events.merchant_N, 6),
            "merchant_category": CATEGORY_K[market_N],
            "channel": CHANNEL_K[market_N],
            "country": np.array([c.code for c in COUNTRIES])[country_N],
            "distance_from_home_km": np.round(events.distance_km_N, 1),
            "device_age_days": np.round(events.device_age_days_N, 1),
            "is_fraud": pl.Series(is_fraud_N),
            "fraud_kind": np.array(KINDS)[events.kind_N],
            "label_delay_days": np.round(delay_days_N, 3),
        }
    ).with_columns(
        pl.col("distance_from_home_km", "device_age_days").fill_nan(None),
        pl.when(known).then(pl.col("is_fraud")).alias("is_fraud"),
        pl.when(known).then(pl.col("label_delay_days")).alias("label_delay_days"),
        pl.when(pl.col("fraud_kind") != KINDS[GENUINE]).then("fraud_kind"),
    )


def _names(prefix: str, number_N: NDArray[np.int64], digits: int) -> pl.Series:
    text = pl.Series(number_N).cast(pl.String).str.zfill(digits)
    return pl.select(prefix + text).to_series()

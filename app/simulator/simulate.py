"""A seeded simulator of card payments with fraud, for `quickstudy simulate` and `make train`.

`accounts` and `merchants` draw who pays and whom, `entities` with what, `spending` and `occasions`
what the accounts do themselves, `frauds` what thieves do, `attempts` what becomes of it,
`labelling` who finds out and when, and `omissions` what callers leave out; here they become one
file as an institution would export it, labels included. Replaying habits and superimposing typed
fraud is the way of published simulators (MultiMAuS, Zintgraf et al. 2017, EMSS; PaySim,
Lopez-Rojas et al. 2016, EMSS; Altman 2019, arXiv:1910.03033; the Fraud Detection Handbook, Le
Borgne et al. 2022); the code and the numbers are our own, and no number was chosen by what a model
scores on the result.
"""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.simulator.accounts import Accounts
from app.simulator.attempts import TYPES, refunds, settle, types
from app.simulator.countries import (
    COUNTRIES,
    CURRENCY_CODE_C,
    CURRENCY_L,
    local_amounts,
)
from app.simulator.entities import device_ages, share_of, texts
from app.simulator.events import GENUINE, STATUSES, Events, World
from app.simulator.frauds import KINDS, defraud
from app.simulator.labelling import Labels, happening
from app.simulator.merchants import CATEGORY_K, CHANNEL_K, ONLINE_K, Merchants
from app.simulator.omissions import omitted
from app.simulator.spending import spend

START = datetime(2024, 1, 1, tzinfo=UTC)

# Some twenty times what card schemes publish, and twice the Handbook's .84 %: attacks by scripts
# have many rows each, and all the kinds are to be learned.
FRAUD_RATE = 0.018

# How often a foreign shop charges in its own currency.
FOREIGN_CURRENCY_SHARE = 0.35


def simulate(accounts: int, days: int, seed: int, start: datetime = START) -> pl.DataFrame:
    """Transactions of `accounts` accounts over `days` days, sorted by time.

    The same arguments give the same frame. It has the columns of the built-in spec `simulated`
    and more: `is_fraud` is null while nobody knows, and so is `label_delay_days`, the days from a
    transaction to its label; `fraud_kind` is the truth, null for what the holder did, so that an
    unreported fraud has a kind and the label `false`.

    Amounts are in units of `currency`, the account's or a foreign shop's. `type` is never null;
    `status` is null throughout an account whose caller sends none, as three in ten do. It is the
    last status, so a payment that was returned later is `refunded`, and the refund a row of its
    own, with a positive amount; a check of a card is a `verification` of 0.
    `distance_from_home_km` is null online; `device_age_days`, `device_id` and `ip_address` are null
    in person, where a subscription renews itself, and in refunds; these, `card`, `email`,
    `merchant_category`, `channel` and `country` are null too where a caller does not send them.

    The accounts of holders are `accounts` at most; thieves open more where there are 1,000
    payments or so.

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
    frauds = defraud(rng, world, genuine, FRAUD_RATE)
    events = Events.concatenate([settle(rng, world, genuine), frauds])
    events = events.take(np.argsort(events.second_N, kind="stable"))
    labels = Labels(rng, world, events)
    happens_N = happening(rng, events, labels)
    events, labels = events.take(happens_N), labels.take(happens_N)
    # Only of what has happened money comes back.
    events, back = refunds(rng, world, events)
    labels = Labels.concatenate([labels, Labels(rng, world, back)])
    events = Events.concatenate([events, back])
    order_N = np.argsort(events.second_N, kind="stable")
    events, labels = events.take(order_N), labels.take(order_N)
    frame = _frame(world, events, labels)
    missing = omitted(rng, world.accounts, events.account_N)
    return frame.with_columns(
        pl.when(~pl.Series(missing_N)).then(pl.col(name)).alias(name)
        for name, missing_N in missing.items()
    )


def _frame(world: World, events: Events, labels: Labels) -> pl.DataFrame:
    market_N = world.merchants.market_M[events.merchant_N]
    country_N = world.merchants.country_M[events.merchant_N]
    currency_N = _currencies(world, events)
    start_us = (world.start - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    time_us_N = start_us + events.second_N * 1_000_000
    is_known = pl.Series(labels.is_known_N)
    # Ages are of the payments with a device: what a refund or a till has is none.
    with_device_N = ONLINE_K[market_N] & ~events.is_refund_N
    age_N = np.full(len(events), np.nan)
    used = events.take(with_device_N)
    age_N[with_device_N] = device_ages(world.accounts, used.account_N, used.device_N, used.second_N)
    has_device = pl.Series(with_device_N)
    return pl.DataFrame(
        {
            "transaction_id": _names("t", np.arange(len(events)), 8),
            "account_id": _names("a", events.account_N, 6),
            "occurred_at": pl.Series(time_us_N).cast(pl.Datetime("us", "UTC")),
            "amount": local_amounts(events.amount_N, currency_N),
            "currency": CURRENCY_CODE_C[currency_N],
            "type": np.array(TYPES)[types(world, events)],
            "status": np.array(STATUSES)[events.status_N],
            "merchant_id": _names("m", events.merchant_N, 6),
            "merchant_category": CATEGORY_K[market_N],
            "channel": CHANNEL_K[market_N],
            "country": np.array([c.code for c in COUNTRIES])[country_N],
            "device_id": texts(events.device_N, "device"),
            "ip_address": texts(events.address_N, "address"),
            "card": texts(events.card_N, "card"),
            "email": texts(events.email_N, "email"),
            "distance_from_home_km": np.round(events.distance_km_N, 1),
            "device_age_days": np.round(age_N, 1),
            "is_fraud": pl.Series(labels.is_fraud_N),
            "fraud_kind": np.array(KINDS)[events.kind_N],
            "label_delay_days": np.round(labels.delay_days_N, 4),
        }
    ).with_columns(
        pl.col("distance_from_home_km", "device_age_days").fill_nan(None),
        pl.when(has_device).then(pl.col("device_id")).alias("device_id"),
        pl.when(has_device).then(pl.col("ip_address")).alias("ip_address"),
        pl.when(is_known).then(pl.col("is_fraud")).alias("is_fraud"),
        pl.when(is_known).then(pl.col("label_delay_days")).alias("label_delay_days"),
        pl.when(pl.col("fraud_kind") != KINDS[GENUINE]).then("fraud_kind"),
    )


def _currencies(world: World, events: Events) -> NDArray[np.int64]:
    """The account's currency; of a third of the shops abroad, and always there, the shop's."""
    accounts = world.accounts
    country_N = world.merchants.country_M[events.merchant_N]
    foreign_N = country_N != accounts.home_A[events.account_N]
    pair_N = events.account_N * 1_000_003 + events.merchant_N
    theirs_N = foreign_N & (share_of(pair_N, 19) < FOREIGN_CURRENCY_SHARE)
    return np.where(theirs_N, CURRENCY_L[country_N], accounts.currency_A[events.account_N])


def _names(prefix: str, number_N: NDArray[np.int64], digits: int) -> pl.Series:
    text = pl.Series(number_N).cast(pl.String).str.zfill(digits)
    return pl.select(prefix + text).to_series()

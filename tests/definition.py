"""Every feature by its name, written out: row by row, over all that came before, slowly.

What the kernel computes is compared with this, name by name: nothing here is shared with it but
the constants of the definition.

Axes: N rows, P rows of the past, E label events.
"""

from collections.abc import Iterator

import numpy as np

from app.learner.features import MerchantLabels
from app.learner.kernels.features import (
    BUCKETS,
    HALF_LIVES_DAYS,
    LABEL_HALF_LIVES_DAYS,
    LEAST_SPREAD,
)
from app.learner.spec import DatasetSpec
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US, HOUR_US, TransactionColumns

LONGEST_DAYS = HALF_LIVES_DAYS[-1]
YEAR_HOURS = 365 * 24


def written_out(
    spec: DatasetSpec, columns: TransactionColumns, labels: MerchantLabels
) -> Iterator[dict[str, float]]:
    """The features of each row, from the given rows and labels alone."""
    for n in range(len(columns)):
        found = dict(itself(spec, columns, n))
        found |= dict(of_account(spec, columns, n))
        if spec.columns.merchant:
            found |= dict(of_merchant(columns, n))
            found |= dict(of_labels(columns, n, labels))
        yield found


def itself(spec: DatasetSpec, columns: TransactionColumns, n: int) -> Iterator[tuple[str, float]]:
    time_us = int(columns.time_us_N[n])
    angle = 2 * np.pi * (time_us % DAY_US) / DAY_US
    yield "log_amount", np.log(1 + columns.amount_N[n])
    yield "hour_sin", np.sin(angle)
    yield "hour_cos", np.cos(angle)
    # 1970 began on a Thursday, the fourth day of a week.
    yield "weekend", float((time_us // DAY_US + 3) % 7 in (5, 6))
    for m, name in enumerate(spec.numeric_names):
        number = columns.numeric_NM[n, m]
        yield f"attribute_{name}", np.arcsinh(number) if np.isfinite(number) else 0.0
        yield f"attribute_{name}_missing", float(not np.isfinite(number))
    for c, name in enumerate(spec.categorical_names):
        if name != "merchant_id":
            yield f"{name}_code", float(columns.categorical_NC[n, c])


def of_account(
    spec: DatasetSpec, columns: TransactionColumns, n: int
) -> Iterator[tuple[str, float]]:
    past = (columns.account_N == columns.account_N[n]) & (columns.time_us_N < columns.time_us_N[n])
    age_us_P = columns.time_us_N[n] - columns.time_us_N[past]
    amount_P, amount = columns.amount_N[past], columns.amount_N[n]
    yield "account_gap", gap(age_us_P)
    for days in HALF_LIVES_DAYS:
        weight_P = weights(age_us_P, days)
        yield from of_amounts("account", days, np.log1p(amount_P), weight_P, np.log1p(amount))
        log_usual = np.log1p(mean(amount_P, weight_P))
        trust = weight_P.sum() / (weight_P.sum() + 1)
        yield f"account_mean_amount_{days}d", log_usual
        yield f"account_amount_ratio_{days}d", (np.log1p(amount) - log_usual) * trust
    weight_P = weights(age_us_P, LONGEST_DAYS)
    angle_P = 2 * np.pi * ((columns.time_us_N[past] - columns.time_us_N[n]) % DAY_US) / DAY_US
    yield "account_hour_habit", (weight_P * np.cos(angle_P)).sum() / (weight_P.sum() + 1)
    for m, name in enumerate(spec.numeric_names):
        number, number_P = columns.numeric_NM[n, m], columns.numeric_NM[past, m]
        there_P = np.isfinite(number_P)
        known = np.arcsinh(number_P[there_P]), weight_P[there_P]
        yield f"account_{name}_z", z(np.arcsinh(number), *known) if np.isfinite(number) else 0.0
    for c, name in enumerate(spec.categorical_names):
        code, code_P = columns.categorical_NC[n, c], columns.categorical_NC[past, c]
        other_P = (code_P != 0) & (code_P % BUCKETS != code % BUCKETS)
        novelty = weight_P[other_P].sum() / (weight_P[code_P != 0].sum() + 1)
        yield f"account_{name}_novelty", novelty if code else 0.0


def of_merchant(columns: TransactionColumns, n: int) -> Iterator[tuple[str, float]]:
    is_there = columns.merchant_N[n] >= 0
    past = columns.merchant_N == columns.merchant_N[n]
    past &= columns.time_us_N < columns.time_us_N[n]
    age_us_P = columns.time_us_N[n] - columns.time_us_N[past]
    log_amount_P, log_amount = np.log1p(columns.amount_N[past]), np.log1p(columns.amount_N[n])
    yield "merchant_gap", gap(age_us_P) * is_there
    for days in HALF_LIVES_DAYS:
        weight_P = weights(age_us_P, days)
        for name, value in of_amounts("merchant", days, log_amount_P, weight_P, log_amount):
            yield name, value * is_there


def of_labels(
    columns: TransactionColumns, n: int, labels: MerchantLabels
) -> Iterator[tuple[str, float]]:
    known = labels.merchant_E == columns.merchant_N[n]
    known &= labels.time_us_E < columns.time_us_N[n]
    is_fraud_P = labels.is_fraud_E[known]
    for half_life, days in LABEL_HALF_LIVES_DAYS.items():
        weight_P = weights(columns.time_us_N[n] - labels.time_us_E[known], days)
        yield f"merchant_fraud_share_{half_life}", mean(is_fraud_P, weight_P)
        yield f"merchant_frauds_{half_life}", np.log1p((weight_P * is_fraud_P).sum())


def of_amounts(
    who: str, days: int, log_amount_P: Floats, weight_P: Floats, log_amount: float
) -> Iterator[tuple[str, float]]:
    yield f"{who}_count_{days}d", np.log1p(weight_P.sum())
    yield f"{who}_log_amount_mean_{days}d", mean(log_amount_P, weight_P)
    yield f"{who}_log_amount_spread_{days}d", spread(log_amount_P, weight_P)
    yield f"{who}_amount_z_{days}d", z(log_amount, log_amount_P, weight_P)


def gap(age_us_P: Ints) -> float:
    hours = age_us_P.min(initial=YEAR_HOURS * HOUR_US) / HOUR_US
    return float(np.log1p(hours))


def weights(age_us_P: Ints, half_life_days: float) -> Floats:
    weight_P: Floats = 0.5 ** (age_us_P / (half_life_days * DAY_US))
    return weight_P


def mean(value_P: Floats, weight_P: Floats) -> float:
    return float(np.average(value_P, weights=weight_P)) if len(value_P) else 0.0


def spread(value_P: Floats, weight_P: Floats) -> float:
    return float(np.sqrt(mean((value_P - mean(value_P, weight_P)) ** 2, weight_P)))


def z(value: float, value_P: Floats, weight_P: Floats) -> float:
    """How far from the mean, in spreads (LEAST_SPREAD and more), drawn to 0 where few are known."""
    distance = (value - mean(value_P, weight_P)) / np.hypot(spread(value_P, weight_P), LEAST_SPREAD)
    return float(distance * weight_P.sum() / (weight_P.sum() + 1))

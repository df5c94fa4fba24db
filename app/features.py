"""The features of a transaction, each defined once, for training and for serving alike.

A feature sees the transaction itself and the decayed sums of its account and its merchant over
what happened strictly before it (`app/states.py`). `FeatureSet.compute` over a whole file with
an empty memory is training; over a batch with a stored memory it is serving.

Axes: N transactions, F features, G accounts or merchants, D decayed sums, H half-lives,
C categorical fields, M numeric attributes, E label events.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.states import NEVER_US, Floats, Ints, States, sums_before
from app.transactions import (
    DAY_US,
    HOUR_US,
    MISSING,
    NO_MERCHANT,
    DatasetSpec,
    TransactionColumns,
)

# Part of the digest: raise it whenever the same name comes to mean another number.
DEFINITION = 2

HALF_LIVES_DAYS = (1, 7, 30, 120)
HALF_LIVES_US_H = np.array(HALF_LIVES_DAYS, np.float64) * DAY_US
LONG = len(HALF_LIVES_DAYS) - 1
# Labels also nearly one by one: the newest says whether a merchant is being abused now.
LABEL_HALF_LIVES_DAYS = {"6h": 0.25} | {f"{days}d": float(days) for days in HALF_LIVES_DAYS}
# Share of frauds among labels so old that they hardly weigh: none, and no division by nothing.
LEAST_LABELS = 1e-200
# Shares of categories are kept hashed, so that an account's state has a fixed size.
BUCKETS = 16
# A year without a transaction is as long as for ever.
LONGEST_GAP_HOURS = 365.0 * 24
# The least spread (of log-amounts, of attributes) that counts as an account's own: without it
# the fourth of four equal payments could be infinitely surprising.
LEAST_SPREAD = 0.3
CODE = "_code"

Features = NDArray[np.float32]
Kind = Literal["own", "code", "history"]


@dataclass(frozen=True, slots=True)
class MerchantLabels:
    """E labels that become evidence about their merchant at `time_us_E` (their maturity)."""

    merchant_E: Ints
    time_us_E: Ints
    is_fraud_E: Floats

    @classmethod
    def none(cls) -> "MerchantLabels":
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of the accounts and merchants of a batch."""

    accounts: States
    merchants: States
    confirmed: States  # of the same merchants: their matured labels


class FeatureSet:
    """The features that a spec gives, in a fixed order, and the sums they need.

    `names` [F] and `digest` identify the definition; `kinds` [F] says of each feature whether it
    is a category's `code`, a quantity of the transaction itself (`own`), or one that already
    compares it with the past of its account or merchant (`history`); `account_sums`,
    `merchant_sums` and `confirmed_sums` are the widths D of the three kinds of state.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self.spec = spec
        self.has_merchant = spec.columns.merchant is not None
        numeric, categorical = len(spec.numeric_names), len(spec.categorical_names)
        # count, log-amount, its square, amount at each half-life; hour as a sum of unit
        # vectors; count, sum, square of each attribute; presence of each categorical field
        self._dense_half_life_us_D = np.concatenate(
            [
                np.repeat(HALF_LIVES_US_H, 4),
                np.full(2 + 3 * numeric + categorical, HALF_LIVES_US_H[LONG]),
            ]
        )
        bucket_half_life_us_D = np.full(categorical * BUCKETS, HALF_LIVES_US_H[LONG])
        self._account_half_life_us_D = np.concatenate(
            [self._dense_half_life_us_D, bucket_half_life_us_D]
        )
        self._merchant_half_life_us_D = np.repeat(HALF_LIVES_US_H, 3)
        label_half_lives_us = np.array(list(LABEL_HALF_LIVES_DAYS.values())) * DAY_US
        self._confirmed_half_life_us_D = np.repeat(label_half_lives_us, 2)
        self.account_sums = len(self._account_half_life_us_D)
        self.merchant_sums = len(self._merchant_half_life_us_D)
        self.confirmed_sums = len(self._confirmed_half_life_us_D)

        nothing = TransactionColumns(
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0, np.int64),
            np.zeros(0),
            np.zeros((0, categorical), np.int64),
            np.zeros((0, numeric)),
        )
        own = [name for name, _ in self._of_the_transaction(nothing)]
        self.names = tuple(name for name, _ in self._features(nothing, None, None))
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"spec {spec.name}: two attributes both give a feature {twice[0]}")
        codes = [f"{name}{CODE}" for name in spec.categorical_names]
        self.kinds = tuple(_kind(name, codes, own) for name in self.names)
        constants = [HALF_LIVES_DAYS, LABEL_HALF_LIVES_DAYS, BUCKETS, LEAST_SPREAD]
        described = json.dumps([DEFINITION, *constants, self.names])
        self.digest = hashlib.sha256(described.encode()).hexdigest()[:16]

    def empty(self, accounts: int, merchants: int) -> Memory:
        return Memory(
            States.empty(accounts, self.account_sums),
            States.empty(merchants, self.merchant_sums),
            States.empty(merchants, self.confirmed_sums),
        )

    def compute(
        self,
        columns: TransactionColumns,
        memory: Memory | None = None,
        labels: MerchantLabels | None = None,
    ) -> Features:
        """The features of N transactions, each from what came strictly before it: [N, F].

        Rows see the memory, the earlier rows beside them and the labels that matured before
        them. Without a memory, the given rows are all that ever happened.
        """
        features_NF = np.empty((len(columns), len(self.names)), np.float32)
        for position, (_, feature_N) in enumerate(self._features(columns, memory, labels)):
            features_NF[:, position] = feature_N
        return features_NF

    def remember(
        self, columns: TransactionColumns, memory: Memory, labels: MerchantLabels
    ) -> Memory:
        """The memory after N transactions and E matured labels."""
        at_merchant = np.flatnonzero(columns.merchant_N != NO_MERCHANT)
        return Memory(
            memory.accounts.add(
                columns.account_N,
                columns.time_us_N,
                np.concatenate([self._account_values(columns), _buckets(columns)], axis=1),
                self._account_half_life_us_D,
            ),
            memory.merchants.add(
                columns.merchant_N[at_merchant],
                columns.time_us_N[at_merchant],
                _merchant_values(columns.amount_N[at_merchant]),
                self._merchant_half_life_us_D,
            ),
            self.mature(memory.confirmed, labels),
        )

    def confirmed(self, columns: TransactionColumns, labels: MerchantLabels) -> dict[str, Floats]:
        """By name, the features that matured labels of merchants give: from these alone."""
        return dict(self._of_confirmed_fraud(columns, None, labels))

    def mature(self, confirmed: States, labels: MerchantLabels) -> States:
        """The confirmed labels of merchants after E more of them."""
        return confirmed.add(
            labels.merchant_E,
            labels.time_us_E,
            _label_values(labels.is_fraud_E),
            self._confirmed_half_life_us_D,
        )

    def _features(
        self, columns: TransactionColumns, memory: Memory | None, labels: MerchantLabels | None
    ) -> Iterator[tuple[str, Floats]]:
        yield from self._of_the_transaction(columns)
        yield from self._of_the_account(columns, memory.accounts if memory else None)
        if self.has_merchant:
            yield from self._of_the_merchant(columns, memory.merchants if memory else None)
            yield from self._of_confirmed_fraud(
                columns, memory.confirmed if memory else None, labels or MerchantLabels.none()
            )

    def _of_the_transaction(self, columns: TransactionColumns) -> Iterator[tuple[str, Floats]]:
        yield "log_amount", np.log1p(columns.amount_N)
        angle_N = _hour_angle(columns.time_us_N)
        yield "hour_sin", np.sin(angle_N)
        yield "hour_cos", np.cos(angle_N)
        # The epoch began on a Thursday.
        yield "weekend", ((columns.time_us_N // DAY_US + 3) % 7 >= 5).astype(np.float64)
        for position, name in enumerate(self.spec.numeric_names):
            value_N, present_N = _attribute(columns.numeric_NM[:, position])
            yield f"attribute_{name}", value_N
            yield f"attribute_{name}_missing", 1.0 - present_N
        for position, name in enumerate(self.spec.categorical_names):
            if name != "merchant_id":  # merchants are too many to be known by name
                yield f"{name}{CODE}", columns.categorical_NC[:, position].astype(np.float64)

    def _of_the_account(
        self, columns: TransactionColumns, accounts: States | None
    ) -> Iterator[tuple[str, Floats]]:
        half_lives = self._dense_half_life_us_D
        values_ND = self._account_values(columns)
        past_ND, last_us_N = sums_before(
            columns.account_N, columns.time_us_N, values_ND, half_lives
        )
        if accounts is not None:
            dense = accounts.first(len(half_lives))
            past_ND += dense.value_at(columns.account_N, columns.time_us_N, half_lives)
            kept_us_N = dense.newest_before(columns.account_N, columns.time_us_N)
            last_us_N = np.maximum(last_us_N, kept_us_N)
        log_amount_N = np.log1p(columns.amount_N)
        yield "account_gap", _log_gap(columns.time_us_N, last_us_N)
        yield from _amount_history("account", past_ND, 4, log_amount_N)
        for h, days in enumerate(HALF_LIVES_DAYS):
            count_N, total_N = past_ND[:, 4 * h], past_ND[:, 4 * h + 3]
            log_mean_N = np.log1p(total_N / np.maximum(count_N, 1e-9))
            yield f"account_mean_amount_{days}d", log_mean_N
            ratio_N = (log_amount_N - log_mean_N) * count_N / (count_N + 1.0)
            yield f"account_amount_ratio_{days}d", ratio_N
        hours_ND = past_ND[:, 4 * len(HALF_LIVES_DAYS) :]
        angle_N = _hour_angle(columns.time_us_N)
        usual_N = np.cos(angle_N) * hours_ND[:, 0] + np.sin(angle_N) * hours_ND[:, 1]
        yield "account_hour_habit", usual_N / (past_ND[:, 4 * LONG] + 1.0)
        for position, name in enumerate(self.spec.numeric_names):
            value_N, present_N = _attribute(columns.numeric_NM[:, position])
            past = hours_ND[:, 2 + 3 * position : 5 + 3 * position].T
            yield f"account_{name}_z", _surprise(value_N, *past) * present_N
        yield from self._novelty(columns, accounts, past_ND)

    def _novelty(
        self, columns: TransactionColumns, accounts: States | None, past_ND: Floats
    ) -> Iterator[tuple[str, Floats]]:
        """How much of the account's past had another value of each categorical field."""
        first = past_ND.shape[1] - len(self.spec.categorical_names)
        long_us_D = HALF_LIVES_US_H[LONG:]
        for position, name in enumerate(self.spec.categorical_names):
            code_N = columns.categorical_NC[:, position]
            present_N = (code_N != MISSING).astype(np.float64)
            bucket_N = code_N % BUCKETS
            same_N1, _ = sums_before(
                columns.account_N * BUCKETS + bucket_N,
                columns.time_us_N,
                present_N[:, None],
                long_us_D,
            )
            same_N = same_N1[:, 0]
            if accounts is not None:
                same_N += accounts.column_at(
                    len(self._dense_half_life_us_D) + BUCKETS * position + bucket_N,
                    columns.account_N,
                    columns.time_us_N,
                    float(HALF_LIVES_US_H[LONG]),
                )
            seen_N = past_ND[:, first + position]
            # Sums of the same terms in another order may differ in the last bit.
            other_N = np.maximum(seen_N - same_N, 0.0)
            yield f"account_{name}_novelty", present_N * other_N / (seen_N + 1.0)

    def _of_the_merchant(
        self, columns: TransactionColumns, merchants: States | None
    ) -> Iterator[tuple[str, Floats]]:
        half_lives = self._merchant_half_life_us_D
        at = np.flatnonzero(columns.merchant_N != NO_MERCHANT)
        merchant_N, time_us_N = columns.merchant_N[at], columns.time_us_N[at]
        past_ND, last_us_N = sums_before(
            merchant_N, time_us_N, _merchant_values(columns.amount_N[at]), half_lives
        )
        if merchants is not None:
            past_ND += merchants.value_at(merchant_N, time_us_N, half_lives)
            last_us_N = np.maximum(last_us_N, merchants.newest_before(merchant_N, time_us_N))
        history = {"merchant_gap": _log_gap(time_us_N, last_us_N)}
        history |= _amount_history("merchant", past_ND, 3, np.log1p(columns.amount_N[at]))
        for name, feature_N in history.items():
            yield name, _spread(feature_N, at, len(columns))

    def _of_confirmed_fraud(
        self, columns: TransactionColumns, confirmed: States | None, labels: MerchantLabels
    ) -> Iterator[tuple[str, Floats]]:
        half_lives = self._confirmed_half_life_us_D
        at = np.flatnonzero(columns.merchant_N != NO_MERCHANT)
        merchant_N, time_us_N = columns.merchant_N[at], columns.time_us_N[at]
        # Transactions ask, labels answer: a question is an event that adds nothing.
        past_ND, _ = sums_before(
            np.concatenate([merchant_N, labels.merchant_E]),
            np.concatenate([time_us_N, labels.time_us_E]),
            np.concatenate(
                [np.zeros((len(at), len(half_lives))), _label_values(labels.is_fraud_E)]
            ),
            half_lives,
        )
        past_ND = past_ND[: len(at)]
        if confirmed is not None:
            past_ND += confirmed.value_at(merchant_N, time_us_N, half_lives)
        for h, half_life in enumerate(LABEL_HALF_LIVES_DAYS):
            labels_N, frauds_N = past_ND[:, 2 * h], past_ND[:, 2 * h + 1]
            share_N = frauds_N / np.maximum(labels_N, LEAST_LABELS)
            yield f"merchant_fraud_share_{half_life}", _spread(share_N, at, len(columns))
            yield f"merchant_frauds_{half_life}", _spread(np.log1p(frauds_N), at, len(columns))

    def _account_values(self, columns: TransactionColumns) -> Floats:
        """What a transaction adds to the dense sums of its account: [N, D]."""
        log_amount_N = np.log1p(columns.amount_N)
        one_N = np.ones_like(log_amount_N)
        angle_N = _hour_angle(columns.time_us_N)
        values = [one_N, log_amount_N, log_amount_N**2, columns.amount_N] * len(HALF_LIVES_DAYS)
        values += [np.cos(angle_N), np.sin(angle_N)]
        for position in range(columns.numeric_NM.shape[1]):
            value_N, present_N = _attribute(columns.numeric_NM[:, position])
            values += [present_N, value_N, value_N**2]
        values += list((columns.categorical_NC != MISSING).T.astype(np.float64))
        return np.stack(values, axis=1)


def _kind(name: str, codes: list[str], own: list[str]) -> Kind:
    if name in codes:
        return "code"
    return "own" if name in own else "history"


def _amount_history(
    who: str, past_ND: Floats, stride: int, log_amount_N: Floats
) -> Iterator[tuple[str, Floats]]:
    """Counts, mean, spread and surprise of log-amounts, from (count, sum, square) per half-life."""
    for h, days in enumerate(HALF_LIVES_DAYS):
        count_N, total_N, square_N = past_ND[:, stride * h : stride * h + 3].T
        yield f"{who}_count_{days}d", np.log1p(count_N)
        mean_N, spread_N = _mean_and_spread(count_N, total_N, square_N)
        yield f"{who}_log_amount_mean_{days}d", mean_N
        yield f"{who}_log_amount_spread_{days}d", spread_N
        yield f"{who}_amount_z_{days}d", _surprise(log_amount_N, count_N, total_N, square_N)


def _mean_and_spread(count_N: Floats, total_N: Floats, square_N: Floats) -> tuple[Floats, Floats]:
    weight_N = np.maximum(count_N, 1e-9)
    mean_N = total_N / weight_N
    return mean_N, np.sqrt(np.maximum(square_N / weight_N - mean_N**2, 0.0))


def _surprise(value_N: Floats, count_N: Floats, total_N: Floats, square_N: Floats) -> Floats:
    """A z-score against one's own past, drawn to 0 where that past is short."""
    mean_N, spread_N = _mean_and_spread(count_N, total_N, square_N)
    z_N = (value_N - mean_N) / np.hypot(spread_N, LEAST_SPREAD)
    return z_N * count_N / (count_N + 1.0)


def _merchant_values(amount_N: Floats) -> Floats:
    log_amount_N = np.log1p(amount_N)
    values = [np.ones_like(log_amount_N), log_amount_N, log_amount_N**2]
    return np.stack(values * len(HALF_LIVES_DAYS), axis=1)


def _label_values(is_fraud_E: Floats) -> Floats:
    return np.stack([np.ones_like(is_fraud_E), is_fraud_E] * len(LABEL_HALF_LIVES_DAYS), axis=1)


def _buckets(columns: TransactionColumns) -> Floats:
    """What a transaction adds to the hashed shares of its account: [N, C * BUCKETS]."""
    rows, fields = columns.categorical_NC.shape
    present_NC = columns.categorical_NC != MISSING
    is_bucket_NCB = (columns.categorical_NC % BUCKETS)[:, :, None] == np.arange(BUCKETS)
    flags_NCB: NDArray[np.bool_] = is_bucket_NCB & present_NC[:, :, None]
    return flags_NCB.reshape(rows, fields * BUCKETS).astype(np.float64)


def _hour_angle(time_us_N: Ints) -> Floats:
    angle_N: Floats = (time_us_N % DAY_US) / DAY_US
    angle_N *= 2 * np.pi
    return angle_N


def _log_gap(time_us_N: Ints, last_us_N: Ints) -> Floats:
    hours_N = np.where(last_us_N == NEVER_US, np.inf, (time_us_N - last_us_N) / HOUR_US)
    gap_N: Floats = np.log1p(np.clip(hours_N, 0.0, LONGEST_GAP_HOURS))
    return gap_N


def _attribute(number_N: Floats) -> tuple[Floats, Floats]:
    """A numeric attribute on a scale that tames any size, 0 where missing, and its presence."""
    present_N = np.isfinite(number_N)
    return np.arcsinh(np.where(present_N, number_N, 0.0)), present_N.astype(np.float64)


def _spread(feature_A: Floats, at: Ints, size: int) -> Floats:
    """Rows without a merchant are neutral: 0."""
    feature_N = np.zeros(size)
    feature_N[at] = feature_A
    return feature_N

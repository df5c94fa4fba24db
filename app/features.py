"""The features of a transaction, each defined once, for training and for serving alike.

A feature sees the transaction itself and the decayed sums of its account and its merchant over
what happened strictly before it (`app/states.py`). `FeatureSet.compute` over a whole file with
an empty memory is training; over a batch with a stored memory it is serving.

Axes: N transactions, F features, G accounts or merchants, D decayed sums, H half-lives,
C categorical fields, M numeric attributes, E label events.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

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
HALF_LIVES = tuple(f"{days}d" for days in HALF_LIVES_DAYS)
HALF_LIVES_US_H = np.array(HALF_LIVES_DAYS, np.float64) * DAY_US
LONG = len(HALF_LIVES_DAYS) - 1
# Labels also nearly one by one: the newest says whether a merchant is being abused now.
LABEL_HALF_LIVES_DAYS = {"6h": 0.25} | {f"{days}d": float(days) for days in HALF_LIVES_DAYS}
LABEL_HALF_LIVES = tuple(LABEL_HALF_LIVES_DAYS)
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
# K features of N transactions, with their names: [N, K].
Block = tuple[tuple[str, ...], NDArray[Any]]


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


class Told(NamedTuple):
    """What N transactions say themselves, of which features and sums are made.

    `account_ND` and `merchant_AD` are what they add to the dense sums of their account, and those
    at a merchant (rows `at_A`) to its sums.
    """

    log_amount_N: Floats
    hour_cos_N: Floats
    hour_sin_N: Floats
    value_NM: Floats
    present_NM: Floats
    account_ND: Floats
    at_A: Ints
    merchant_AD: Floats


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
        told = self._told(nothing)
        own = [name for names, _ in self._of_the_transaction(nothing, told) for name in names]
        self.names = tuple(
            name for names, _ in self._features(nothing, told, None, None) for name in names
        )
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
        return self._computed(columns, self._told(columns), memory, labels)

    def remember(
        self, columns: TransactionColumns, memory: Memory, labels: MerchantLabels
    ) -> Memory:
        """The memory after N transactions and E matured labels."""
        return self._remembered(columns, self._told(columns), memory, labels)

    def serve(
        self, columns: TransactionColumns, memory: Memory, labels: MerchantLabels
    ) -> tuple[Features, Memory]:
        """Both: what they have in common is worked out once."""
        told = self._told(columns)
        return (
            self._computed(columns, told, memory, labels),
            self._remembered(columns, told, memory, labels),
        )

    def _computed(
        self,
        columns: TransactionColumns,
        told: Told,
        memory: Memory | None,
        labels: MerchantLabels | None,
    ) -> Features:
        features_NF = np.empty((len(columns), len(self.names)), np.float32)
        first = 0
        for names, block_NK in self._features(columns, told, memory, labels):
            features_NF[:, first : first + len(names)] = block_NK
            first += len(names)
        return features_NF

    def _remembered(
        self, columns: TransactionColumns, told: Told, memory: Memory, labels: MerchantLabels
    ) -> Memory:
        return Memory(
            memory.accounts.add(
                columns.account_N,
                columns.time_us_N,
                np.concatenate([told.account_ND, _buckets(columns)], axis=1),
                self._account_half_life_us_D,
            ),
            memory.merchants.add(
                columns.merchant_N[told.at_A],
                columns.time_us_N[told.at_A],
                told.merchant_AD,
                self._merchant_half_life_us_D,
            ),
            self.mature(memory.confirmed, labels),
        )

    def confirmed(self, columns: TransactionColumns, labels: MerchantLabels) -> dict[str, Floats]:
        """By name, the features that matured labels of merchants give: from these alone."""
        [(names, block_NK)] = self._of_confirmed_fraud(columns, _at_merchant(columns), None, labels)
        return dict(zip(names, block_NK.T, strict=True))

    def mature(self, confirmed: States, labels: MerchantLabels) -> States:
        """The confirmed labels of merchants after E more of them."""
        return confirmed.add(
            labels.merchant_E,
            labels.time_us_E,
            _label_values(labels.is_fraud_E),
            self._confirmed_half_life_us_D,
        )

    def _features(
        self,
        columns: TransactionColumns,
        told: Told,
        memory: Memory | None,
        labels: MerchantLabels | None,
    ) -> Iterator[Block]:
        yield from self._of_the_transaction(columns, told)
        yield from self._of_the_account(columns, told, memory.accounts if memory else None)
        if self.has_merchant:
            yield from self._of_the_merchant(columns, told, memory.merchants if memory else None)
            yield from self._of_confirmed_fraud(
                columns,
                told.at_A,
                memory.confirmed if memory else None,
                labels or MerchantLabels.none(),
            )

    def _of_the_transaction(self, columns: TransactionColumns, told: Told) -> Iterator[Block]:
        # The epoch began on a Thursday.
        weekend_N = (columns.time_us_N // DAY_US + 3) % 7 >= 5
        yield _block(
            ("log_amount", "hour_sin", "hour_cos", "weekend"),
            told.log_amount_N,
            told.hour_sin_N,
            told.hour_cos_N,
            weekend_N,
        )
        for position, name in enumerate(self.spec.numeric_names):
            yield _block(
                (f"attribute_{name}", f"attribute_{name}_missing"),
                told.value_NM[:, position],
                1.0 - told.present_NM[:, position],
            )
        for position, name in enumerate(self.spec.categorical_names):
            if name != "merchant_id":  # merchants are too many to be known by name
                yield _block((f"{name}{CODE}",), columns.categorical_NC[:, position])

    def _of_the_account(
        self, columns: TransactionColumns, told: Told, accounts: States | None
    ) -> Iterator[Block]:
        half_lives = self._dense_half_life_us_D
        past_ND, last_us_N = sums_before(
            columns.account_N, columns.time_us_N, told.account_ND, half_lives
        )
        if accounts is not None:
            dense = accounts.first(len(half_lives))
            past_ND += dense.value_at(columns.account_N, columns.time_us_N, half_lives)
            kept_us_N = dense.newest_before(columns.account_N, columns.time_us_N)
            last_us_N = np.maximum(last_us_N, kept_us_N)
        log_amount_N1 = told.log_amount_N[:, None]
        yield _block(("account_gap",), _log_gap(columns.time_us_N, last_us_N))
        at_half_lives = 4 * len(HALF_LIVES_DAYS)
        count_NH, total_NH, square_NH, amount_NH = _by_half_life(past_ND[:, :at_half_lives], 4)
        yield _amount_history("account", count_NH, total_NH, square_NH, log_amount_N1)
        log_mean_NH = np.log1p(amount_NH / np.maximum(count_NH, 1e-9))
        ratio_NH = (log_amount_N1 - log_mean_NH) * count_NH / (count_NH + 1.0)
        yield (
            _each("account_mean_amount_{}", "account_amount_ratio_{}"),
            _interleaved(log_mean_NH, ratio_NH),
        )
        hours_ND = past_ND[:, at_half_lives:]
        usual_N = told.hour_cos_N * hours_ND[:, 0] + told.hour_sin_N * hours_ND[:, 1]
        yield _block(("account_hour_habit",), usual_N / (count_NH[:, LONG] + 1.0))
        for position, name in enumerate(self.spec.numeric_names):
            past = hours_ND[:, 2 + 3 * position : 5 + 3 * position].T
            z_N = _surprise(told.value_NM[:, position], *past) * told.present_NM[:, position]
            yield _block((f"account_{name}_z",), z_N)
        if self.spec.categorical_names:
            yield self._novelty(columns, accounts, past_ND)

    def _novelty(
        self, columns: TransactionColumns, accounts: States | None, past_ND: Floats
    ) -> Block:
        """How much of the account's past had another value of each categorical field."""
        fields = len(self.spec.categorical_names)
        bucket_NC = columns.categorical_NC % BUCKETS
        present_NC = (columns.categorical_NC != MISSING).astype(np.float64)
        # All fields at once: the past of a value is the account's with its own field and bucket.
        field_NC = columns.account_N[:, None] * fields + np.arange(fields)
        same_A1, _ = sums_before(
            (field_NC * BUCKETS + bucket_NC).ravel(),
            np.repeat(columns.time_us_N, fields),
            present_NC.reshape(-1, 1),
            HALF_LIVES_US_H[LONG:],
        )
        same_NC = same_A1.reshape(-1, fields)
        if accounts is not None:
            first = len(self._dense_half_life_us_D) + BUCKETS * np.arange(fields)
            same_NC += accounts.columns_at(
                first + bucket_NC,
                columns.account_N,
                columns.time_us_N,
                float(HALF_LIVES_US_H[LONG]),
            )
        seen_NC = past_ND[:, -fields:]
        # Sums of the same terms in another order may differ in the last bit.
        other_NC = np.maximum(seen_NC - same_NC, 0.0)
        names = tuple(f"account_{name}_novelty" for name in self.spec.categorical_names)
        return names, present_NC * other_NC / (seen_NC + 1.0)

    def _of_the_merchant(
        self, columns: TransactionColumns, told: Told, merchants: States | None
    ) -> Iterator[Block]:
        half_lives, at = self._merchant_half_life_us_D, told.at_A
        merchant_N, time_us_N = columns.merchant_N[at], columns.time_us_N[at]
        past_ND, last_us_N = sums_before(merchant_N, time_us_N, told.merchant_AD, half_lives)
        if merchants is not None:
            past_ND += merchants.value_at(merchant_N, time_us_N, half_lives)
            last_us_N = np.maximum(last_us_N, merchants.newest_before(merchant_N, time_us_N))
        log_amount_N1 = told.log_amount_N[at][:, None]
        gap_N1 = _log_gap(time_us_N, last_us_N)[:, None]
        yield ("merchant_gap",), _spread(gap_N1, at, len(columns))
        count_NH, total_NH, square_NH = _by_half_life(past_ND, 3)
        names, history_NK = _amount_history(
            "merchant", count_NH, total_NH, square_NH, log_amount_N1
        )
        yield names, _spread(history_NK, at, len(columns))

    def _of_confirmed_fraud(
        self,
        columns: TransactionColumns,
        at: Ints,
        confirmed: States | None,
        labels: MerchantLabels,
    ) -> Iterator[Block]:
        half_lives = self._confirmed_half_life_us_D
        merchant_N, time_us_N = columns.merchant_N[at], columns.time_us_N[at]
        # Transactions ask, labels answer: a question is an event that adds nothing.
        past_ND = np.zeros((len(at), len(half_lives)))
        if len(labels.time_us_E):
            asked_and_told_ND, _ = sums_before(
                np.concatenate([merchant_N, labels.merchant_E]),
                np.concatenate([time_us_N, labels.time_us_E]),
                np.concatenate([past_ND, _label_values(labels.is_fraud_E)]),
                half_lives,
            )
            past_ND = asked_and_told_ND[: len(at)]
        if confirmed is not None:
            past_ND += confirmed.value_at(merchant_N, time_us_N, half_lives)
        labels_NH, frauds_NH = _by_half_life(past_ND, 2)
        share_NH = frauds_NH / np.maximum(labels_NH, LEAST_LABELS)
        block_NK = _interleaved(share_NH, np.log1p(frauds_NH))
        yield (
            _each("merchant_fraud_share_{}", "merchant_frauds_{}", of=LABEL_HALF_LIVES),
            _spread(block_NK, at, len(columns)),
        )

    def _told(self, columns: TransactionColumns) -> Told:
        log_amount_N = np.log1p(columns.amount_N)
        square_N, one_N = log_amount_N**2, np.ones_like(log_amount_N)
        angle_N = _hour_angle(columns.time_us_N)
        cos_N, sin_N = np.cos(angle_N), np.sin(angle_N)
        value_NM, present_NM = _attributes(columns)
        values = [one_N, log_amount_N, square_N, columns.amount_N] * len(HALF_LIVES_DAYS)
        values += [cos_N, sin_N]
        for value_N, present_N in zip(value_NM.T, present_NM.T, strict=True):
            values += [present_N, value_N, value_N**2]
        values += list((columns.categorical_NC != MISSING).T.astype(np.float64))
        at_A = _at_merchant(columns)
        merchant_values = [one_N[at_A], log_amount_N[at_A], square_N[at_A]] * len(HALF_LIVES_DAYS)
        return Told(
            log_amount_N,
            cos_N,
            sin_N,
            value_NM,
            present_NM,
            _side_by_side(values),
            at_A,
            _side_by_side(merchant_values),
        )


def _kind(name: str, codes: list[str], own: list[str]) -> Kind:
    if name in codes:
        return "code"
    return "own" if name in own else "history"


def _block(names: tuple[str, ...], *columns_N: NDArray[Any]) -> Block:
    return names, _side_by_side(columns_N)


def _side_by_side(columns_N: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """`np.stack(columns_N, axis=1)`, which takes longer: [N, columns]."""
    return np.concatenate(columns_N).reshape(len(columns_N), -1).T


def _by_half_life(past_ND: Floats, kinds: int) -> NDArray[np.float64]:
    """Sums, so many kinds of them at each half-life, by kind: [kinds, N, H]."""
    rows, sums = past_ND.shape
    return past_ND.reshape(rows, sums // kinds, kinds).transpose(2, 0, 1)


@cache
def _each(*patterns: str, of: tuple[str, ...] = HALF_LIVES) -> tuple[str, ...]:
    """The names of features that there are at each half-life."""
    return tuple(pattern.format(one) for one in of for pattern in patterns)


def _interleaved(*columns_NH: Floats) -> Floats:
    """Columns at each half-life, side by side as `_each` names them: [N, H * columns]."""
    rows, half_lives = columns_NH[0].shape
    block_NHV = np.empty((rows, half_lives, len(columns_NH)))
    for column, values_NH in enumerate(columns_NH):
        block_NHV[:, :, column] = values_NH
    return block_NHV.reshape(rows, half_lives * len(columns_NH))


def _amount_history(
    who: str, count_NH: Floats, total_NH: Floats, square_NH: Floats, log_amount_N1: Floats
) -> Block:
    """Counts, mean, spread and surprise of log-amounts, from their sums at each half-life."""
    mean_NH, spread_NH = _mean_and_spread(count_NH, total_NH, square_NH)
    z_NH = _surprise(log_amount_N1, count_NH, total_NH, square_NH)
    names = ("count_{}", "log_amount_mean_{}", "log_amount_spread_{}", "amount_z_{}")
    return (
        _each(*(f"{who}_{name}" for name in names)),
        _interleaved(np.log1p(count_NH), mean_NH, spread_NH, z_NH),
    )


def _mean_and_spread(count_N: Floats, total_N: Floats, square_N: Floats) -> tuple[Floats, Floats]:
    weight_N = np.maximum(count_N, 1e-9)
    mean_N = total_N / weight_N
    return mean_N, np.sqrt(np.maximum(square_N / weight_N - mean_N**2, 0.0))


def _surprise(value_N: Floats, count_N: Floats, total_N: Floats, square_N: Floats) -> Floats:
    """A z-score against one's own past, drawn to 0 where that past is short."""
    mean_N, spread_N = _mean_and_spread(count_N, total_N, square_N)
    z_N = (value_N - mean_N) / np.hypot(spread_N, LEAST_SPREAD)
    return z_N * count_N / (count_N + 1.0)


def _at_merchant(columns: TransactionColumns) -> Ints:
    return np.flatnonzero(columns.merchant_N != NO_MERCHANT)


def _label_values(is_fraud_E: Floats) -> Floats:
    return _side_by_side([np.ones_like(is_fraud_E), is_fraud_E] * len(LABEL_HALF_LIVES_DAYS))


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


def _attributes(columns: TransactionColumns) -> tuple[Floats, Floats]:
    """Numeric attributes on a scale that tames any size, 0 where missing, and their presence."""
    present_NM = np.isfinite(columns.numeric_NM)
    return np.arcsinh(np.where(present_NM, columns.numeric_NM, 0.0)), present_NM.astype(np.float64)


def _spread(block_AK: Floats, at: Ints, size: int) -> Floats:
    """Rows without a merchant are neutral: 0."""
    if len(at) == size:
        return block_AK
    block_NK = np.zeros((size, block_AK.shape[1]))
    block_NK[at] = block_AK
    return block_NK

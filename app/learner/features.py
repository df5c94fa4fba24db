"""The features of transactions, for training and for serving alike.

What each of them is stands in `kernels/features.pyx`: a feature sees the transaction itself and the
decayed sums of its account and its merchant over what happened strictly before it (`states.py`).
Over a whole file with an empty memory this is training; over a batch with a stored memory it is
serving.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from app.learner.kernels.features import (
    BUCKETS,
    CODE,
    HALF_LIVES_DAYS,
    LABEL_HALF_LIVES_DAYS,
    LEAST_SPREAD,
    account_names,
    merchant_names,
    sums_of,
    transaction_names,
    walk,
)
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.states import Floats, Ints, States
from app.learner.transaction import TransactionColumns

# Part of the digest: raise it whenever the same name comes to mean another number.
DEFINITION = 2

Features = NDArray[np.float32]
OF_EVIDENCE = ("merchant_fraud_share_", "merchant_frauds_")
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

    def copy(self) -> "Memory":
        return Memory(self.accounts.copy(), self.merchants.copy(), self.confirmed.copy())


class FeatureSet:
    """The features that a spec gives, in a fixed order, and the sums they need.

    `names` [F] and `digest` identify the definition; `kinds` [F] says of each feature whether it
    is a category's `code`, a quantity of the transaction itself (`own`), or one that already
    compares it with the past of its account or merchant (`history`); `account_sums`,
    `merchant_sums` and `confirmed_sums` are the widths D of the three kinds of state; by `rates`
    amounts are in one currency, and without them plain numbers.
    """

    def __init__(self, spec: DatasetSpec, rates: Rates | None = None) -> None:
        self.spec, self.rates = spec, rates
        self.has_merchant = spec.columns.merchant is not None
        categorical, numeric = spec.categorical_names, spec.numeric_names
        own = transaction_names(categorical, numeric)
        of_merchant = merchant_names() if self.has_merchant else []
        self.names = (*own, *account_names(categorical, numeric), *of_merchant)
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise ValueError(f"spec {spec.name}: two attributes both give a feature {twice[0]}")
        # The positions of what matured labels of the merchant say.
        self.evidence = [
            f
            for f, name in enumerate(self.names)
            if self.has_merchant and name.startswith(OF_EVIDENCE)
        ]
        codes = [f"{name}{CODE}" for name in categorical]
        self.kinds = tuple(_kind(name, codes, own) for name in self.names)
        self.account_sums, self.merchant_sums, self.confirmed_sums = sums_of(
            len(categorical), len(numeric)
        )
        constants = [HALF_LIVES_DAYS, LABEL_HALF_LIVES_DAYS, BUCKETS, LEAST_SPREAD]
        # Amounts at other rates are other numbers, in the states of a database, too.
        at_rates = [] if rates is None else [rates.reference, sorted(rates.per_unit.items())]
        described = json.dumps([DEFINITION, *constants, self.names, *at_rates])
        self.digest = hashlib.sha256(described.encode()).hexdigest()[:16]

    def empty(self, accounts: int, merchants: int) -> Memory:
        return Memory(
            States.empty(accounts, self.account_sums),
            States.empty(merchants, self.merchant_sums),
            States.empty(merchants, self.confirmed_sums),
        )

    def serve(
        self, columns: TransactionColumns, memory: Memory, labels: MerchantLabels
    ) -> Features:
        """The features of N transactions, each from what came strictly before it: [N, F].

        Rows see the memory, the earlier rows beside them and the labels that matured before
        them. The memory is brought forward: it holds them all afterwards. Raises ValueError where
        it does not have what they point at.
        """
        features_NF = np.empty((len(columns), len(self.names)), np.float32)
        walk(
            features_NF,
            columns,
            self.has_merchant,
            memory.accounts.packed,
            memory.merchants.packed,
            memory.confirmed.packed,
            labels,
        )
        return features_NF

    def compute(
        self,
        columns: TransactionColumns,
        memory: Memory | None = None,
        labels: MerchantLabels | None = None,
    ) -> Features:
        """The same, and the memory stays as it is.

        Without one, the given rows are all that ever happened.
        """
        labels = labels or MerchantLabels.none()
        if memory is None:
            accounts = columns.account_N.max(initial=-1)
            merchants = np.maximum(
                columns.merchant_N.max(initial=-1), labels.merchant_E.max(initial=-1)
            )
            return self.serve(columns, self.empty(accounts + 1, merchants + 1), labels)
        return self.serve(columns, memory.copy(), labels)

    def remember(
        self, columns: TransactionColumns, memory: Memory, labels: MerchantLabels
    ) -> Memory:
        """A memory of its own after N transactions and E matured labels."""
        after = memory.copy()
        self.serve(columns, after, labels)
        return after

    def confirmed(self, time_us_N: Ints, labels: MerchantLabels) -> Features:
        """Of transactions at one merchant, the features at `evidence`: [N, V].

        The merchant's labels are at position 0, and all there are.
        """
        rows = len(time_us_N)
        nothing_N = np.zeros(rows, np.int64)
        columns = TransactionColumns(
            nothing_N,
            nothing_N,
            time_us_N,
            np.zeros(rows),
            np.zeros((rows, len(self.spec.categorical_names)), np.int64),
            np.full((rows, len(self.spec.numeric_names)), np.nan),
        )
        return self.serve(columns, self.empty(1, 1), labels)[:, self.evidence]


def check_same_features(spec: DatasetSpec, features: FeatureSet, model: str) -> None:
    """Raises ValueError where a spec gives other features than the one a model was trained on.

    It says in which fields. Columns and label delays may differ: they are the file's own.
    """
    trained = features.spec
    fields = {
        "merchant": [["merchant"] if one.columns.merchant else [] for one in (spec, trained)],
        "categorical": [sorted(one.categorical) for one in (spec, trained)],
        "numeric": [sorted(one.numeric) for one in (spec, trained)],
    }
    parts = []
    if features.rates is not None and spec.currency_column is None:
        parts.append("[columns] lacks currency")
    for section, (names, wanted) in fields.items():
        where = "[columns]" if section == "merchant" else f"[{section}]"
        if missing := [name for name in wanted if name not in names]:
            parts.append(f"{where} lacks {', '.join(missing)}")
        if unknown := [name for name in names if name not in wanted]:
            parts.append(f"{where} has {', '.join(unknown)}, which the model does not know")
    if parts:
        raise ValueError(
            f"spec {spec.name} gives other features than the model {model}, which was trained on "
            f"spec {trained.name}: {'; '.join(parts)}"
        )


def _kind(name: str, codes: list[str], own: list[str]) -> Kind:
    if name in codes:
        return "code"
    return "own" if name in own else "history"

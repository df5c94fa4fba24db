"""A transactions file as whole transactions with their labels, for `quickstudy import`."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from app.history.importing import NO_CURRENCY, Past
from app.learner.spec import DatasetSpec
from app.learner.transaction import STANDARD_FIELDS, Transaction
from app.times import is_ahead, text_of
from app.training.dataset import UNLABELLED, read_transactions
from app.training.table import DataError, Table, texts, times

LONGEST_ID = 128


class History:
    """The N transactions of a file, in time order. Raises DataError for the first bad one."""

    def __init__(self, path: str | Path, spec: DatasetSpec) -> None:
        self._spec = spec
        self._data = read_transactions(path, spec)
        table = Table.read(Path(path), spec)
        order_N = np.argsort(times(table, spec.columns.time), kind="stable")
        # The spellings that the dataset has hashed away.
        named = {"currency": spec.columns.currency, **spec.categorical}
        self._texts = {
            name: texts(table[column]).gather(order_N) for name, column in named.items() if column
        }
        if len(self._data) and is_ahead(int(self._data.columns.time_us_N[-1])):
            newest = text_of(int(self._data.columns.time_us_N[-1]))
            raise DataError(f"{path}: the newest transaction, {newest}, lies in the future")
        for ids in (self._data.transaction_ids, self._data.accounts, self._data.merchants):
            _check_ids(Path(path), ids)

    def __len__(self) -> int:
        return len(self._data)

    def chunks(self, size: int) -> Iterator[list[Past]]:
        """All of them, `size` at a time."""
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            texts = {name: text_N[first:last] for name, text_N in self._texts.items()}
            yield [self._past(n, _row(texts, n - first)) for n in range(first, last)]

    def _past(self, n: int, texts: dict[str, str]) -> Past:
        data, columns = self._data, self._data.columns
        merchant = int(columns.merchant_N[n])
        numbers = zip(self._spec.numeric_names, columns.numeric_NM[n].tolist(), strict=True)
        attributes: dict[str, Any] = {name: value for name, value in numbers if value == value}
        attributes |= {name: texts[name] for name in texts if name not in STANDARD_FIELDS}
        transaction = Transaction(
            transaction_id=data.transaction_ids[n],
            account_id=data.accounts[columns.account_N[n]],
            occurred_at_us=int(columns.time_us_N[n]),
            amount=Decimal(repr(float(columns.amount_N[n]))),
            currency=texts.get("currency", NO_CURRENCY),
            merchant_id=data.merchants[merchant] if merchant >= 0 else None,
            merchant_category=texts.get("merchant_category"),
            channel=texts.get("channel"),
            country=texts.get("country"),
            attributes=attributes,
        )
        label = int(data.is_fraud_N[n])
        is_fraud = None if label == UNLABELLED else label == 1
        return Past(transaction, is_fraud, int(data.known_at_us_N[n]))


def _row(texts: dict[str, pl.Series], n: int) -> dict[str, str]:
    return {name: text_N[n] for name, text_N in texts.items() if text_N[n] is not None}


def _check_ids(path: Path, ids: list[str]) -> None:
    for one in ids:
        if len(one) > LONGEST_ID or not one.isprintable():
            raise DataError(
                f"{path}: the id {one[:LONGEST_ID]!r} must have at most {LONGEST_ID} "
                "printable characters"
            )

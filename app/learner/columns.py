"""Transactions of a batch as the columns that features are computed from."""

from collections.abc import Iterable, Sequence
from functools import cache
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    MISSING,
    NO_MERCHANT,
    STANDARD_FIELDS,
    AttributeValue,
    Transaction,
    TransactionColumns,
    attribute_number,
    category_code,
    category_text,
)


def columns_of(
    spec: DatasetSpec, transactions: Sequence[Transaction], rates: Rates | None = None
) -> tuple[TransactionColumns, list[str], list[str]]:
    """The columns of `transactions`, with the accounts and the merchants their codes point at.

    By `rates` amounts are in the reference currency, NaN where a currency has no rate.
    """
    account_N, accounts = _positions([one.account_id for one in transactions])
    merchant_N, merchants = _positions([one.merchant_id for one in transactions])
    columns = TransactionColumns(
        account_N,
        merchant_N,
        np.array([one.occurred_at_us for one in transactions], np.int64),
        _amounts(transactions, rates),
        np.empty((len(transactions), len(spec.categorical_names)), np.int64),
        np.empty((len(transactions), len(spec.numeric_names)), np.float64),
    )
    attributes_N = [one.attributes for one in transactions]
    for c, name in enumerate(spec.categorical_names):
        codes = _codes_of(name)
        if name == "merchant_id" or name in STANDARD_FIELDS:
            text_N = map(attrgetter(name), transactions)
        else:
            text_N = map(_text, [attributes.get(name) for attributes in attributes_N])
        columns.categorical_NC[:, c] = [codes[text] for text in text_N]
    for m, name in enumerate(spec.numeric_names):
        columns.numeric_NM[:, m] = [
            attribute_number(attributes.get(name)) for attributes in attributes_N
        ]
    return columns, accounts, merchants


def _amounts(transactions: Sequence[Transaction], rates: Rates | None) -> NDArray[np.float64]:
    amount_N = np.array([float(one.amount) for one in transactions], np.float64)
    return (
        amount_N if rates is None else amount_N * rates.of([one.currency for one in transactions])
    )


def _positions(keys: Iterable[str | None]) -> tuple[NDArray[np.int64], list[str]]:
    """Each key as a position among the distinct ones, by first appearance; NO_MERCHANT for None."""
    known: dict[str | None, int] = {None: NO_MERCHANT}
    position_N = np.array([known.setdefault(key, len(known) - 1) for key in keys], np.int64)
    return position_N, [key for key in known if key is not None]


# Far more than there are countries and categories; merchants come and go.
MOST_CODES = 1 << 16


class _Codes(dict[str | None, int]):
    """What `category_code` says of each value of a field, MISSING of None, worked out once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __missing__(self, value: str | None) -> int:
        if len(self) >= MOST_CODES:
            self.clear()
        self[value] = code = MISSING if value is None else category_code(self.name, value)
        return code


@cache
def _codes_of(name: str) -> _Codes:
    return _Codes(name)


def _text(value: AttributeValue | None) -> str | None:
    return None if value is None else category_text(value)

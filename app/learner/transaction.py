"""A transaction, many of them as columns, and the spec that says where a file keeps each part.

Axes in array names: N transactions, C categorical fields, M numeric attributes.
Times are int64 microseconds since the epoch, UTC.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite, nan
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US

# In one request, and in one batch.
MOST_ITEMS = 1000
LONGEST_DELAY_DAYS = 3650

MISSING = 0
NO_MERCHANT = -1
# Codes travel in float32 feature vectors, which hold whole numbers exactly up to 2**24.
CATEGORY_CODES = 2**24 - 1

# Categorical fields that the API names itself; any other comes from `attributes`.
STANDARD_FIELDS = ("merchant_category", "channel", "country", "currency")

AttributeValue = str | float | bool


# What a transaction without attributes has.
NO_ATTRIBUTES: Mapping[str, AttributeValue] = MappingProxyType({})


# A tuple: to make a frozen dataclass takes three times as long.
class Transaction(NamedTuple):
    """One payment, as it was posted."""

    transaction_id: str
    account_id: str
    occurred_at_us: int
    amount: Decimal
    currency: str
    merchant_id: str | None = None
    merchant_category: str | None = None
    channel: str | None = None
    country: str | None = None
    attributes: Mapping[str, AttributeValue] = NO_ATTRIBUTES


@dataclass(frozen=True, slots=True)
class TransactionColumns:
    """N transactions as columns, in any order.

    `account_N` and `merchant_N` are positions in the caller's own lists of accounts and
    merchants (`NO_MERCHANT` where there is none); `categorical_NC` holds `category_code`s
    (`MISSING` where there is none); `numeric_NM` is NaN where an attribute is missing.
    """

    account_N: NDArray[np.int64]
    merchant_N: NDArray[np.int64]
    time_us_N: NDArray[np.int64]
    amount_N: NDArray[np.float64]
    categorical_NC: NDArray[np.int64]
    numeric_NM: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time_us_N)

    def take(self, rows: NDArray[Any]) -> Self:
        """The given rows (positions or a mask), with the same account and merchant codes."""
        return type(self)(*(getattr(self, name)[rows] for name in self.__slots__))


def category_code(name: str, value: str) -> int:
    """A stable code in 1 .. CATEGORY_CODES for a value of the categorical field `name`."""
    return crc32(value.encode(), crc32(name.encode())) % CATEGORY_CODES + 1


def category_text(value: AttributeValue) -> str:
    """How a value of any JSON or file type is spelled before it is hashed: 3, 3.0 and "3" agree."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def attribute_number(value: AttributeValue | None) -> float:
    """The number that a numeric attribute stands for, NaN where it is missing or none."""
    try:
        # Files spell numbers as text, and so may a caller; other text says nothing.
        number = nan if value is None else float(value)
    except ValueError:
        return nan
    return number if isfinite(number) else nan

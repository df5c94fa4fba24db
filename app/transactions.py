"""A transaction, many of them as columns, and the spec that says where a file keeps each part.

Axes in array names: N transactions, C categorical fields, M numeric attributes.
Times are int64 microseconds since the epoch, UTC.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, cached_property
from importlib.resources import files
from math import isfinite, nan
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


class Columns(BaseModel):
    """Which column of the file holds what; only these four are required."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    transaction: str
    account: str
    time: str
    amount: str
    currency: str | None = None
    merchant: str | None = None
    label: str | None = None
    fraud_kind: str | None = None


class LabelDelay(BaseModel):
    """How long after a transaction its label is known: the same for all, or by row."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_days: Annotated[float, Field(ge=0, le=LONGEST_DELAY_DAYS)] = 0.0
    delay_column: str | None = None

    @property
    def delay_us(self) -> int:
        return round(self.delay_days * DAY_US)


class Backtest(BaseModel):
    """Time-ordered folds; without `test_starts` they are derived from the file's time span.

    Protocol A trains on the last `train_days` whose labels are known, protocol B (with feedback)
    on the `feedback_train_days` before the test; without them, on all that came before.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    test_starts: tuple[str, ...] = ()
    train_days: Annotated[float, Field(gt=0)] | None = None
    feedback_train_days: Annotated[float, Field(gt=0)] | None = None
    test_days: Annotated[float, Field(gt=0)] | None = None
    unseen_share: Annotated[float, Field(gt=0, lt=1)] = 0.35


class DatasetSpec(BaseModel):
    """What a transactions file means: read from TOML, carried by the checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    columns: Columns
    label: LabelDelay = LabelDelay()
    categorical: dict[str, str] = {}
    numeric: dict[str, str] = {}
    backtest: Backtest = Backtest()

    @model_validator(mode="after")
    def _one_meaning_per_name(self) -> Self:
        if both := sorted(set(self.categorical) & set(self.numeric)):
            raise ValueError(f"{both[0]!r} is both categorical and numeric")
        if reserved := sorted({"merchant_id", *STANDARD_FIELDS} & set(self.numeric)):
            raise ValueError(f"{reserved[0]!r} is a categorical field and cannot be numeric")
        if "merchant_id" in self.categorical:
            raise ValueError("merchant_id is named under [columns] as merchant")
        return self

    @cached_property
    def categorical_names(self) -> tuple[str, ...]:
        """The categorical fields in the order of `categorical_NC`."""
        merchant = ("merchant_id",) if self.columns.merchant else ()
        return (*merchant, *sorted(self.categorical))

    @cached_property
    def numeric_names(self) -> tuple[str, ...]:
        """The numeric attributes in the order of `numeric_NM`."""
        return tuple(sorted(self.numeric))

    @classmethod
    def load(cls, path_or_name: str | Path) -> Self:
        """Read a spec from a TOML file, or one of the built-in specs by its name.

        Raises ValueError with one sentence when it is absent or says something unknown.
        """
        path = Path(path_or_name)
        built_in = files("app") / "specs" / f"{path_or_name}.toml"
        try:
            text = (path if path.suffix == ".toml" else built_in).read_text("utf-8")
            return cls.model_validate(tomllib.loads(text))
        except FileNotFoundError:
            known = ", ".join(built_in_specs())
            raise ValueError(
                f"spec {path_or_name}: no such file, and the built-in specs are: {known}"
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"spec {path_or_name}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"spec {path_or_name}: {where or 'spec'}: {first['msg']}") from None


def built_in_specs() -> list[str]:
    """The names that `DatasetSpec.load` knows without a file."""
    specs = (files("app") / "specs").iterdir()
    return sorted(spec.name[:-5] for spec in specs if spec.name.endswith(".toml"))


def columns_of(
    spec: DatasetSpec, transactions: Sequence[Transaction]
) -> tuple[TransactionColumns, list[str], list[str]]:
    """The columns of `transactions`, with the accounts and the merchants their codes point at."""
    account_N, accounts = _positions([one.account_id for one in transactions])
    merchant_N, merchants = _positions([one.merchant_id for one in transactions])
    columns = TransactionColumns(
        account_N,
        merchant_N,
        np.array([one.occurred_at_us for one in transactions], np.int64),
        np.array([float(one.amount) for one in transactions], np.float64),
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


def attribute_number(value: AttributeValue | None) -> float:
    """The number that a numeric attribute stands for, NaN where it is missing or none."""
    try:
        # Files spell numbers as text, and so may a caller; other text says nothing.
        number = nan if value is None else float(value)
    except ValueError:
        return nan
    return number if isfinite(number) else nan

"""A transaction, its canonical text, and many of them as columns.

The canonical text is stored, compared, and read back. Two posts say the same when their texts are
equal: 10 and 10.00, or one instant at two offsets.

Axes in array names: N transactions, C categorical fields, M numeric attributes, K kinds of
entities.
Times are int64 microseconds since the epoch, UTC.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite, nan
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self
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
NO_ENTITY = -1
# Codes travel in float32 feature vectors, which hold whole numbers exactly up to 2**24.
CATEGORY_CODES = 2**24 - 1

# Categorical fields that the API names itself; any other comes from `attributes`.
STANDARD_FIELDS = ("merchant_category", "channel", "country", "currency", "type")

# Kinds of entities that the API has a field of their own for; any other comes from `entities`.
ENTITY_FIELDS = {
    "merchant": "merchant_id",
    "device": "device_id",
    "ip": "ip_address",
    "card": "card_fingerprint",
    "email": "email",
}

# Numbers of more digits are spelled with an exponent.
MANY_DIGITS = 1e255

AttributeValue = str | float | bool
Type = Literal["payment", "refund", "withdrawal", "transfer", "verification"]
Status = Literal["authorised", "declined", "reversed", "refunded"]

# In the canonical text, between the attributes and the time, in the order of their names.
EARLY = ("channel", "country", "currency", "merchant_category", "merchant_id")

# As JSON's own encoder spells texts; it would sort the fields anew each time.
_text = json.encoder.encode_basestring_ascii

# What a transaction without attributes, and one without other entities, has.
NO_ATTRIBUTES: Mapping[str, AttributeValue] = MappingProxyType({})
NO_ENTITIES: Mapping[str, str] = MappingProxyType({})

# How a transaction counts in the sums of its account: as spending; as an attempt that was refused;
# as an attempt without money (the check of a card, a payment that was reversed); not at all (a
# refund); or not yet, until its outcome is decided.
SPENT, REFUSED, TRIED, ASIDE, UNDECIDED = range(5)


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
    device_id: str | None = None
    ip_address: str | None = None
    card_fingerprint: str | None = None
    email: str | None = None
    entities: Mapping[str, str] = NO_ENTITIES
    type: Type = "payment"
    status: Status | None = None

    def entity(self, kind: str) -> str | None:
        """The id of its merchant, its device, … or None where it names none."""
        field = ENTITY_FIELDS.get(kind)
        id_: str | None = self.entities.get(kind) if field is None else getattr(self, field)
        return id_


# What else a transaction may lack stands after all others in the canonical text, so that what names
# none of it has the text that it always had.
LATER = tuple(
    sorted(
        name
        for name, default in Transaction._field_defaults.items()
        if default is None and name not in EARLY
    )
)


def standing_of(type_: str | None, status: str | None) -> int:
    """How a transaction of a type and a status counts in the sums of its account.

    UNDECIDED where no status is known yet; a missing type is a payment.

    >>> standing_of("payment", "declined") == REFUSED
    True
    """
    if type_ == "refund":
        return ASIDE
    if status is None:
        return UNDECIDED
    if status == "declined":
        return REFUSED
    return TRIED if type_ == "verification" or status == "reversed" else SPENT


@dataclass(frozen=True, slots=True)
class TransactionColumns:
    """N transactions as columns, in any order.

    `account_N`, `entity_NK` and `link_NK` are positions in the caller's own lists of accounts,
    entities of any kind, and pairs of an account and an entity (NO_ENTITY where there is none);
    `entity_code_NK` holds `entity_code`s of the same entities (MISSING where there is none);
    `amount_N` is in the reference currency, NaN where its currency has no rate; `standing_N` is
    how each counts (SPENT, …); `categorical_NC` holds `category_code`s (MISSING where there is
    none); `numeric_NM` is NaN where an attribute is missing.
    """

    account_N: NDArray[np.int64]
    entity_NK: NDArray[np.int64]
    link_NK: NDArray[np.int64]
    entity_code_NK: NDArray[np.int64]
    time_us_N: NDArray[np.int64]
    amount_N: NDArray[np.float64]
    standing_N: NDArray[np.int64]
    categorical_NC: NDArray[np.int64]
    numeric_NM: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time_us_N)

    def take(self, rows: NDArray[Any]) -> Self:
        """The given rows (positions or a mask), with the same positions."""
        return type(self)(*(getattr(self, name)[rows] for name in self.__slots__))


def category_code(name: str, value: str) -> int:
    """A stable code in 1 .. CATEGORY_CODES for a value of the categorical field `name`."""
    return _code(name, value)


def entity_code(kind: str, id_: str) -> int:
    """A stable code in 1 .. CATEGORY_CODES for an entity of a kind.

    Two entities of a kind may have the same one, by chance: one pair in 17 million.
    """
    return _code(kind, id_)


def _code(field: str, text: str) -> int:
    # The field is the seed, so that the same text of another field has another code.
    return crc32(text.encode(), crc32(field.encode())) % CATEGORY_CODES + 1


def category_text(value: AttributeValue) -> str:
    """How a value of any JSON or file type is spelled before it is hashed: 3, 3.0 and "3" agree.

    No number is spelled longer than a text may be.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < MANY_DIGITS:
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


def content_of(transaction: Transaction) -> str:
    """The one text that every spelling of this transaction has: JSON, its fields in order.

    Raises ValueError for a number that JSON cannot say.
    """
    written = f'{{"account_id":{_text(transaction.account_id)}'
    written += f',"amount":"{amount_text(transaction.amount)}"'
    attributes = transaction.attributes
    each = [f"{_text(name)}:{_value(attributes[name])}" for name in sorted(attributes)]
    written += f',"attributes":{{{",".join(each)}}}'
    for name in EARLY:
        if (value := getattr(transaction, name)) is not None:
            written += f',"{name}":{_text(value)}'
    written += f',"occurred_at_us":{transaction.occurred_at_us}'
    written += f',"transaction_id":{_text(transaction.transaction_id)}'
    for name in LATER:
        if (value := getattr(transaction, name)) is not None:
            written += f',"{name}":{_text(value)}'
    if transaction.type != "payment":
        written += f',"type":{_text(transaction.type)}'
    if entities := transaction.entities:
        each = [f"{_text(kind)}:{_text(entities[kind])}" for kind in sorted(entities)]
        written += f',"entities":{{{",".join(each)}}}'
    return f"{written}}}"


def _value(value: AttributeValue) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isfinite(value):
        raise ValueError("an attribute of a transaction is a finite number")
    # 3 and 3.0 are one number; True is not 1.
    return repr(float(value))


def transaction_of(content: str) -> Transaction:
    """The transaction that `content_of` wrote down."""
    fields = json.loads(content)
    return Transaction(**{**fields, "amount": Decimal(fields["amount"])})


def digest_of(content: str) -> bytes:
    """SHA-256 of the canonical text: equal digests, equal content."""
    return hashlib.sha256(content.encode()).digest()


def amount_text(amount: Decimal) -> str:
    """Without exponent, trailing zeros or a sign on zero."""
    text = f"{amount:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("", "-0") else text


def figure(value: float) -> float:
    """Without the noise of the last bits, and no -0.0."""
    return round(value, 12) + 0.0

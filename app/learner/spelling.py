"""How a file of transactions writes things down: the parts of a spec that only reading needs.

Without any of them a file is CSV with commas in UTF-8, Parquet or JSON; times are ISO 8601, or
whole seconds since 1970; amounts are plain numbers that are not negative; labels are 0 and 1.
"""

import codecs
import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from app.learner.money import Code

UNIT_US: dict[str, int | Decimal] = {
    "nanoseconds": Decimal("0.001"),
    "microseconds": 1,
    "milliseconds": 1_000,
    "seconds": 1_000_000,
    "minutes": 60_000_000,
    "hours": 3_600_000_000,
    "days": 86_400_000_000,
    "weeks": 604_800_000_000,
}
Unit = Literal[
    "nanoseconds",
    "microseconds",
    "milliseconds",
    "seconds",
    "minutes",
    "hours",
    "days",
    "weeks",
]
# Among several formats of times.
ISO = "iso"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
HALVES = ("AM", "PM")
# Words of a time, once no dot stands at their end; "a m" is one. Python and Polars read both alike.
WORD = "(?i:\\b[ap][ \u00a0\u202f]m\\b)|[^\\W\\d_]+(?:[.'\u2019][^\\W\\d_]+)*"
DOT, UNDOTTED = "([^\\W\\d_])\\.([ ,\u00a0\u202f]|$)", ("${1}${2}", r"\1\2")

# A column, or several that make one value together.
Named = str | Annotated[tuple[str, ...], Field(min_length=1)]


def columns_of_name(named: Named) -> tuple[str, ...]:
    """The columns that a name in a spec stands for."""
    return (named,) if isinstance(named, str) else named


@lru_cache(maxsize=4096)
def bare_word(word: str) -> str:
    """A word as words of times are compared: its letters alone, without case and accents."""
    return "".join(filter(str.isalpha, unicodedata.normalize("NFKD", word.casefold())))


def is_yearless(form: str) -> bool:
    """Whether a format of times has days, but no year."""
    return form != ISO and re.search("%[dbBm]", form) is not None and not re.search("%[YyG]", form)


class Part(BaseModel):
    """A table of a spec: what it does not know is refused, and what it says stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _existing(encoding: str) -> str:
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise ValueError(
            f"{encoding!r} is not an encoding; use one such as utf-8, utf-16, cp1252 or latin-1"
        ) from None
    return encoding


Encoding = Annotated[str, AfterValidator(_existing)]


Format = Literal["csv", "parquet", "json"]
Compression = Literal["none", "gzip", "bzip2", "xz", "zip", "zstd"]
# By the last suffix of a file's name.
COMPRESSION: dict[str, Compression] = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zip": "zip",
    ".zst": "zstd",
}


class RowNumber(Part):
    """An id made of the row's number in the file, after a text that is this file's own.

    The text keeps the ids of two files apart in one database.
    """

    row_number: Annotated[str, Field(min_length=1)]


class File(Part):
    """What stands around the values. What is None follows the file's suffix.

    `header` names the columns of a file without a line of names; `missing` are texts that stand
    for nothing, such as NULL; `escape` stands before quotes inside of values that are not written
    twice; `trim` cuts off the spaces around names and values; `skip_lines` and `footer_lines` are
    lines before the line of names and after the last row; `line_end` is what ends each line, where
    it is CR alone. `records` is the name of the list that holds the rows of a JSON document.
    """

    format: Format | None = None
    records: str | None = None
    line_end: Literal["\n", "\r"] = "\n"
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    quote: Annotated[str, Field(max_length=1)] = '"'
    escape: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    trim: bool = False
    encoding: Encoding = "utf-8"
    compression: Compression | None = None
    skip_lines: Annotated[int, Field(ge=0)] = 0
    footer_lines: Annotated[int, Field(ge=0)] = 0
    header: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""

    @model_validator(mode="after")
    def _two_marks(self) -> Self:
        if self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self


class Time(Part):
    """How times are written, and where on earth.

    `format` is as in strptime, or several in the order in which they are tried, of which "iso" is
    what is read without one; `words` says in English what a file's own months, days of the week
    and halves of the day are, and which words mean nothing. A format without a year is of the
    twelve months that begin with the day `year_from`. `unit` counts from `origin`, which is UTC
    where it says nothing else. `zone` is an IANA name or an offset such as +01:00, for times that
    name none; by `zone_column` each row names its own, and `zones` says what its words mean.
    `ambiguous` is what an hour means that the clocks show twice, `skipped` one that they never
    show.
    """

    format: Named | None = None
    words: dict[Annotated[str, Field(min_length=1)], str] = {}
    year_from: date | None = None
    unit: Unit | None = None
    origin: datetime = EPOCH
    zone: str = "UTC"
    zone_column: str | None = None
    zones: dict[str, str] = {}
    ambiguous: Literal["refuse", "earlier", "later"] = "refuse"
    skipped: Literal["refuse", "shift"] = "refuse"

    @field_validator("origin")
    @classmethod
    def _in_utc(cls, origin: datetime) -> datetime:
        return origin if origin.tzinfo else origin.replace(tzinfo=UTC)

    @field_validator("words")
    @classmethod
    def _in_english(cls, words: dict[str, str]) -> dict[str, str]:
        meanings = {bare_word(word): meaning for word, meaning in words.items()}
        for word, meaning in words.items():
            if meaning not in ("", *MONTHS, *DAYS, *HALVES):
                raise ValueError(
                    f"{meaning!r} is not an English month, day of the week or half of the day, "
                    'such as March, Friday or PM; "" is for what means nothing'
                )
            if meanings[bare_word(word)] != meaning:
                raise ValueError(f"the word {word!r} has two meanings")
        return words

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.words and self.format is None:
            raise ValueError('words of times need a format, such as "%d %B %Y"')
        yearless = [form for form in self.formats if is_yearless(form)]
        if yearless and self.year_from is None:
            raise ValueError(
                f"format {yearless[0]!r} has no year: year_from says with which day its twelve "
                "months begin, such as 2024-01-01"
            )
        if self.year_from is not None and not yearless:
            raise ValueError("year_from needs a format without a year, such as %d%m")
        if self.format is not None and self.unit is not None:
            raise ValueError("times have a format or a unit, not both")
        if self.origin != EPOCH and self.unit is None:
            raise ValueError("an origin needs a unit, such as hours")
        return self

    @property
    def formats(self) -> tuple[str, ...]:
        found = () if self.format is None else columns_of_name(self.format)
        if not self.words:
            return found
        # What words mean is written out.
        return tuple(form.replace("%b", "%B").replace("%a", "%A") for form in found)

    @property
    def meanings(self) -> dict[str, str]:
        """What words mean in English, by `bare_word`."""
        return {bare_word(word): meaning for word, meaning in self.words.items()}


class Amount(Part):
    """What amounts mean. `currencies` are a file's own words for currencies, beside amounts or in
    the column of currencies; `currency` is that of amounts that name none. With `minor_units`
    amounts count those of their currency: cents, of some a thousandth, of some the whole; where a
    payment provider has other decimals than ISO 4217, those of these currencies.

    `sides` are the words of a ledger beside amounts, and what each side is: "" is no word, and a
    payment unless stated. `negative` says what a negative amount is: a refund, or spending where
    money that is paid out stands with a minus (positive amounts are refunds then, unless they have
    a column of their own). `zero` may be the check of a card.
    """

    currency: Code | None = None
    currencies: dict[Annotated[str, Field(min_length=1)], Code] = {}
    divide_by: Annotated[float, Field(gt=0)] = 1.0
    minor_units: (
        bool | Annotated[dict[Code, Annotated[int, Field(ge=0, le=4)]], Field(min_length=1)]
    ) = False
    negative: Literal["refuse", "refund", "spending", "leave_out"] = "refuse"
    sides: dict[str, Literal["payment", "refund"]] = {}
    zero: Literal["keep", "verification", "leave_out"] = "keep"

    @model_validator(mode="after")
    def _signed_once(self) -> Self:
        if self.sides and self.negative == "spending":
            raise ValueError("negative amounts are no spending where sides say which are: set one")
        return self

    @model_validator(mode="after")
    def _divided_once(self) -> Self:
        if self.minor_units and self.divide_by != 1:
            raise ValueError("amounts have minor_units or divide_by, not both")
        return self


class RowRules(Part):
    """What rows count. `leave_out` is the share that may be left out where they cannot be read.

    `only` names the values of a column whose rows are transactions at all.
    """

    same_transaction: Literal["refuse", "first", "sum"] = "refuse"
    joined_by: str = "-"
    leave_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}

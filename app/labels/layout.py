"""The layout of a file of labels: which column says what, and which words mean which label."""

import codecs
import re
import tomllib
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import SetupError, first_problem
from app.http.fields import LabelName
from app.labels.schemas import Source
from app.learner.validity import FRAUD_WORDS, LEGITIMATE_WORDS
from app.times import EPOCH, MICROSECOND, check_years

# Every other word.
ANY = "*"
# Since 1970; eight digits may as well be a date.
SECONDS = re.compile(r"\d{9,10}", re.ASCII)


class Part(BaseModel):
    """A section of a layout: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileFormat(Part):
    """How the file is written. `skip_lines` are the lines above its header."""

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: str = "utf-8"
    skip_lines: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _encoding_exists(self) -> Self:
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(f"there is no encoding {self.encoding!r}") from None
        return self


class LabelColumns(Part):
    """Which column has the transaction's id, its label, and when that became known."""

    transaction: str
    label: str | None = None
    date: str | None = None


class LabelWords(Part):
    """Which words of the column stand for which label; `*` is every other word.

    Rows with `ignored` words say nothing about fraud. Without a column of labels, `every` row says
    the same.
    """

    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    every: LabelName | None = None


class DateFormat(Part):
    """How dates are written, in the words of Python's strptime; ISO 8601 without a format.

    `zone` is that of dates which do not say theirs.
    """

    format: str | None = None
    zone: str = "UTC"

    @cached_property
    def tzinfo(self) -> tzinfo:
        return UTC if self.zone == "UTC" else ZoneInfo(self.zone)

    @model_validator(mode="after")
    def _zone_exists(self) -> Self:
        try:
            assert self.tzinfo
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(
                f"there is no time zone {self.zone!r}; one is Europe/Amsterdam"
            ) from None
        return self

    def instant_of(self, text: str) -> int:
        """Microseconds since the epoch. Raises ValueError with one sentence.

        Of a local time that the clock shows twice, the first is meant.
        """
        try:
            moment = self._moment(text)
        except (ValueError, OverflowError):
            expected = (
                f"of the format {self.format!r}"
                if self.format
                else "such as 2026-02-03, 2026-02-03T09:30:00Z or whole seconds since 1970"
            )
            raise ValueError(f"a date is {expected}") from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=self.tzinfo)
        return check_years((moment - EPOCH) // MICROSECOND)

    def _moment(self, text: str) -> datetime:
        if self.format is not None:
            return datetime.strptime(text, self.format)
        if SECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text), UTC)
        if text[4:5] != "-":
            # Python also takes 20260203, which is a number of seconds elsewhere.
            raise ValueError
        return datetime.fromisoformat(text)


class LabelLayout(Part):
    """What a file of labels means: read from TOML.

    Only rows whose columns have one of the values under `rows` count.
    """

    name: str
    source: Source = "chargeback"
    file: FileFormat = FileFormat()
    columns: LabelColumns
    label: LabelWords = LabelWords()
    date: DateFormat = DateFormat()
    rows: dict[str, tuple[str, ...]] = {}

    @model_validator(mode="before")
    @classmethod
    def _is_no_spec_of_transactions(cls, document: Any) -> Any:
        columns = document.get("columns") if isinstance(document, dict) else None
        if isinstance(columns, dict) and "account" in columns:
            raise ValueError(
                "this spec is of a file of transactions, which `quickstudy import` brings with "
                "their labels; a file of labels names only transaction, label and date under "
                "[columns]"
            )
        return document

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        words = self.label
        if (self.columns.label is None) == (words.every is None):
            raise ValueError(
                "name the column of labels under [columns], or what every row says under [label]: "
                'every = "fraud"'
            )
        stated = [*words.fraud, *words.legitimate, *words.ignored]
        if words.every is not None and stated:
            raise ValueError("where every row says the same, there are no words of labels")
        folded = [word_of(word) for word in stated]
        if twice := sorted({word for word in folded if folded.count(word) > 1}):
            raise ValueError(f"the word {twice[0]!r} stands for two labels")
        return self

    @cached_property
    def words(self) -> dict[str, bool | None]:
        """Whether a word means fraud, None where it says nothing."""
        stated = self.label
        if not (stated.fraud or stated.legitimate or stated.ignored):
            return PLAIN_WORDS
        return {
            **{word_of(word): True for word in stated.fraud},
            **{word_of(word): False for word in stated.legitimate},
            **{word_of(word): None for word in stated.ignored},
        }

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a layout from a TOML file. Raises SetupError with one sentence."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            raise SetupError(f"spec {path}: there is no such file") from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SetupError(f"spec {path}: {error}") from None
        except ValidationError as error:
            raise SetupError(f"spec {path}: {first_problem(error, 'spec')}") from None


def word_of(text: str) -> str:
    """A word of a file as words are compared."""
    return text.strip().lower()


PLAIN_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(FRAUD_WORDS, True),
    **dict.fromkeys(LEGITIMATE_WORDS, False),
}
# Two columns or three: the date may be left out.
PLAIN = LabelLayout(
    name="plain",
    columns=LabelColumns(transaction="transaction", label="label", date="date"),
)
PLAIN_UNDATED = PLAIN.model_copy(
    update={"columns": LabelColumns(transaction="transaction", label="label")}
)

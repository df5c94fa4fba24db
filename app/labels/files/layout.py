"""The layout of a file of labels: which column says what, and which words mean which label.

It is written in the words of the specs of transactions (docs/files.md), as far as they apply.
"""

import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from app.errors import SetupError, first_problem
from app.http.fields import LabelName
from app.labels.files.dates import check_zones
from app.labels.schemas import Source
from app.learner.spelling import Compression, Encoding, Part, Time
from app.learner.validity import FRAUD_WORDS, LEGITIMATE_WORDS

# Every other word.
ANY = "*"


class FileFormat(Part):
    """How the file is written. `skip_lines` are the lines above its header.

    Without a `format` or a `compression` its suffix says so. `records` is the name of the list that
    holds the rows of a JSON document.
    """

    format: Literal["csv", "json"] | None = None
    records: str | None = None

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    quote: Annotated[str, Field(max_length=1)] = '"'
    encoding: Encoding = "utf-8"
    compression: Compression | None = None
    skip_lines: Annotated[int, Field(ge=0)] = 0


class LabelColumns(Part):
    """Which column has the transaction's id, its label, and when that became known."""

    transaction: str
    label: str | None = None
    date: str | None = None


class LabelWords(Part):
    """Which words of the column stand for which label; `*` is every other word.

    Rows with `unknown` words say nothing of fraud. Without a column of labels, `every` row says
    the same.
    """

    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    every: LabelName | None = None


class Rows(Part):
    """Which rows count: those that have one of these values in each of these columns."""

    only: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)


class LabelLayout(Part):
    """What a file of labels means: read from TOML. `time` says how its dates are written."""

    name: str
    source: Source = "chargeback"
    file: FileFormat = FileFormat()
    columns: LabelColumns
    label: LabelWords = LabelWords()
    time: Time = Time()
    rows: Rows = Rows()

    @model_validator(mode="before")
    @classmethod
    def _refuse_spec_of_transactions(cls, document: Any) -> Any:
        columns = document.get("columns") if isinstance(document, dict) else None
        if isinstance(columns, dict) and "account" in columns:
            raise ValueError(
                "this spec is of a file of transactions: `quickstudy import` stores them with "
                "their labels; a spec of labels names only transaction, label and date under "
                "[columns]"
            )
        return document

    @model_validator(mode="after")
    def _has_labels(self) -> Self:
        check_zones(self.time)
        words = self.label
        if (self.columns.label is None) == (words.every is None):
            raise ValueError(
                "name the column of labels under [columns], or what every row says under [label]: "
                'every = "fraud"'
            )
        stated = [*words.fraud, *words.legitimate, *words.unknown]
        if words.every is not None and stated:
            raise ValueError(
                "every under [label] says what all rows are: leave out the words of labels"
            )
        folded = [word_of(word) for word in stated]
        if twice := sorted({word for word in folded if folded.count(word) > 1}):
            raise ValueError(f"the word {twice[0]!r} stands for two labels")
        return self

    @cached_property
    def words(self) -> dict[str, bool | None]:
        """Whether a word means fraud, None where it says nothing."""
        stated = self.label
        if not (stated.fraud or stated.legitimate or stated.unknown):
            return PLAIN_WORDS
        return {
            **{word_of(word): True for word in stated.fraud},
            **{word_of(word): False for word in stated.legitimate},
            **{word_of(word): None for word in stated.unknown},
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

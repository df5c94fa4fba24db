"""The spec of a transactions file: which column holds what, and how its labels come."""

import json
import tomllib
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.errors import first_problem
from app.learner.spelling import Amount, File, Named, RowNumber, RowRules, Time
from app.learner.transaction import (
    DAY_US,
    ENTITY_FIELDS,
    LONGEST_DELAY_DAYS,
    STANDARD_FIELDS,
    Status,
    Type,
)
from app.learner.validity import ENTITY_KIND

MOST_ENTITIES = 8
EntityKind = Annotated[str, Field(pattern=ENTITY_KIND.pattern)]


class Columns(BaseModel):
    """Which column of the file holds what; only the first three are required.

    Several columns make one id, or one time, together. An account of the row's number is one that
    pays once, in files that do not say who pays. Without `amount` all amounts are 0;
    `refund` is the column of amounts that were paid back, where they stand in one of their own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    transaction: Named | RowNumber
    account: Named | RowNumber
    time: Named
    amount: str | None = None
    refund: str | None = None
    currency: str | None = None
    type: str | None = None
    status: str | None = None
    label: str | None = None
    fraud_kind: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_merchant(cls, columns: Any) -> Any:
        if isinstance(columns, dict) and "merchant" in columns:
            raise ValueError("merchant is a kind of entity; name its column under [entities], once")
        return columns


class LabelDelay(BaseModel):
    """How long after a transaction its label is known, the same for all or by row; its words.

    `fraud`, `legitimate` and `unknown` are a file's own words, and where there are any, no others
    count; "*" is every other word. By `legitimate_after_days` what has no label that long before
    the newest transaction of the file is legitimate, and known to be from then on: for files of
    chargebacks alone.

    `chargebacks` are rows that are no transactions, but say at their own time that a payment was
    fraud, by the values of columns; their column `payment` names it (without one, what is the id
    of payments), by what the payment's own row has as its id, or in its column `payment_id`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    delay_days: Annotated[float, Field(ge=0, le=LONGEST_DELAY_DAYS)] = 0.0
    delay_column: str | None = None
    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    legitimate_after_days: Annotated[float, Field(gt=0, le=LONGEST_DELAY_DAYS)] | None = None
    chargebacks: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = {}
    payment: str | None = None
    payment_id: str | None = None

    @model_validator(mode="after")
    def _payments_of_chargebacks(self) -> Self:
        if (self.payment or self.payment_id) and not self.chargebacks:
            raise ValueError("payment and payment_id belong to the rows that chargebacks names")
        if self.payment_id and not self.payment:
            raise ValueError(
                "payment_id is the column of ids that payment refers to: name payment, too"
            )
        return self

    @property
    def has_dates(self) -> bool:
        """Whether the file says of each label when it was known."""
        return self.delay_column is not None or bool(self.chargebacks)

    @model_validator(mode="after")
    def _one_meaning_per_word(self) -> Self:
        words = [word.strip().lower() for word in (*self.fraud, *self.legitimate, *self.unknown)]
        if twice := [word for word in words if words.count(word) > 1]:
            raise ValueError(f"the word {twice[0]!r} has two meanings")
        return self

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
    file: File = File()
    time: Time = Time()
    amount: Amount = Amount()
    rows: RowRules = RowRules()
    # What the file's own words for types and statuses mean.
    types: dict[str, Type] = {}
    statuses: dict[str, Status] = {}
    label: LabelDelay = LabelDelay()
    # Which column holds the merchant, the device, … of each transaction, by kind.
    entities: Annotated[dict[EntityKind, str], Field(max_length=MOST_ENTITIES)] = {}
    categorical: dict[str, str] = {}
    numeric: dict[str, str] = {}
    backtest: Backtest = Backtest()

    @model_validator(mode="after")
    def _one_meaning_per_name(self) -> Self:
        if both := sorted(set(self.categorical) & set(self.numeric)):
            raise ValueError(f"{both[0]!r} is both categorical and numeric")
        if reserved := sorted(set(STANDARD_FIELDS) & set(self.numeric)):
            raise ValueError(f"{reserved[0]!r} is a categorical field and cannot be numeric")
        if "type" in self.categorical and self.categorical["type"] != self.columns.type:
            raise ValueError("type is both categorical and under [columns], of one column")
        if self.label.chargebacks and self.columns.label:
            raise ValueError("labels have a column or stand in rows of chargebacks, not both")
        is_numbered = isinstance(self.columns.transaction, RowNumber)
        if self.label.chargebacks and is_numbered and not self.label.payment_id:
            raise ValueError(
                "ids are numbers of rows, so chargebacks need columns to name payments by: set "
                "payment and payment_id under [label]"
            )
        if self.columns.amount is None and (self.columns.refund or self.has_currencies):
            raise ValueError("amounts need a column: set amount under [columns]")
        fields = set(ENTITY_FIELDS.values())
        if entities := sorted(fields & {*self.categorical, *self.numeric}):
            raise ValueError(f"{entities[0]} is named under [entities]")
        return self

    @cached_property
    def entity_names(self) -> tuple[str, ...]:
        """The kinds of entities in the order of `entity_NK`."""
        return tuple(sorted(self.entities))

    @cached_property
    def categorical_names(self) -> tuple[str, ...]:
        """The categorical fields in the order of `categorical_NC`."""
        return tuple(sorted(self.categorical))

    @property
    def currency_column(self) -> str | None:
        """The column that has the currency of each amount."""
        return self.columns.currency or self.categorical.get("currency")

    @property
    def has_currencies(self) -> bool:
        """Whether amounts have currencies to be compared by; else all are in one, whichever."""
        amount = self.amount
        return bool(self.currency_column or amount.currency or amount.currencies)

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
        built_in = files("app.learner") / "specs" / f"{path_or_name}.toml"
        try:
            text = (path if path.suffix == ".toml" else built_in).read_text("utf-8")
            return cls.model_validate(_merchant_moved(tomllib.loads(text)))
        except FileNotFoundError:
            available = ", ".join(built_in_specs())
            raise ValueError(
                f"spec {path_or_name}: no such file, and the built-in specs are: {available}"
            ) from None
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"spec {path_or_name}: {error}") from None
        except ValidationError as error:
            raise ValueError(f"spec {path_or_name}: {first_problem(error, 'spec')}") from None


def toml_of(spec: DatasetSpec) -> str:
    """A spec as the TOML that `DatasetSpec.load` reads."""
    sections = spec.model_dump(exclude_none=True, exclude_defaults=True)
    lines = [f"name = {_quoted(sections.pop('name'))}"]
    for section, values in sections.items():
        lines += ["", f"[{section}]"]
        lines += [f"{_quoted(key)} = {_quoted(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def _quoted(value: Any) -> str:
    """As JSON, which is TOML too but for the characters beyond 16 bits and DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def built_in_specs() -> list[str]:
    """The names that `DatasetSpec.load` knows without a file."""
    specs = (files("app.learner") / "specs").iterdir()
    return sorted(spec.name[:-5] for spec in specs if spec.name.endswith(".toml"))


def _merchant_moved(document: dict[str, Any]) -> dict[str, Any]:
    """The document with `merchant` among the entities: earlier specs had it as a column."""
    columns, entities = document.get("columns"), document.get("entities", {})
    if not isinstance(columns, dict) or not isinstance(entities, dict):
        return document
    if "merchant" not in columns or "merchant" in entities:
        return document
    others = {name: column for name, column in columns.items() if name != "merchant"}
    entities = {"merchant": columns["merchant"], **entities}
    return {**document, "columns": others, "entities": entities}

"""The field types of requests: strict, bounded, and described as strictly in OpenAPI."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from app.learner.entities import canonical
from app.learner.spec import EntityKind
from app.learner.transaction import ENTITY_FIELDS, amount_text, figure
from app.learner.validity import (
    CURRENCY,
    DECIMAL_TEXT,
    DECIMALS,
    ENTITY_KIND,
    ID,
    LONGEST_ATTRIBUTE,
    TextRule,
    amount_of,
    attribute_of,
)
from app.times import AHEAD_SENTENCE, is_ahead, now_us, parse_us, text_of

MINUTE_US = 60_000_000
# No valid object has so many: what is wrong with each of more would take long to find and say.
MOST_MEMBERS = 100


class Body(BaseModel):
    """A request body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _bound(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2026-01-31T12:00:00+01:00")
    return parse_us(value)


def _instant(value: Any) -> int:
    time_us = _bound(value)
    if is_ahead(time_us):
        raise ValueError(AHEAD_SENTENCE)
    return time_us


def _future(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2027-01-01T00:00:00Z")
    time_us = parse_us(value)
    now = now_us()
    if time_us < now - MINUTE_US:
        raise ValueError("this time has passed: what was decided stays decided")
    return max(time_us, now)


def without_default(schema: JsonDict) -> None:
    """Left out it has no value at all, and null is none: for a field's `json_schema_extra`."""
    schema.pop("default", None)


def _canonical(kind: str) -> Callable[[str], str]:
    def checked(text: str) -> str:
        id_ = canonical(kind, text)
        # Lower case may be longer.
        if len(id_) > ID.longest:
            raise ValueError(f"an id has at most {ID.longest} characters")
        return id_

    return checked


def _other_kind(kind: str) -> str:
    if kind in ENTITY_FIELDS:
        raise ValueError(f"{kind} has a field of its own: send it as {ENTITY_FIELDS[kind]}")
    return kind


@dataclass(frozen=True, slots=True)
class InvalidItem:
    """An item of a batch that is not valid: its transaction's id, where it has one, and why."""

    transaction_id: str | None
    errors: Sequence[ErrorDetails]


def few(most: int) -> BeforeValidator:
    """For an object of at most so many members: of one that has more none is looked at."""

    def checked(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise ValueError(f"there are at most {most} of them, not {len(value):,}")
        return value

    return BeforeValidator(checked)


def _or_invalid(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, dict) and len(value) > MOST_MEMBERS:
        message = f"an item has at most {MOST_MEMBERS} members, not {len(value):,}"
        return InvalidItem(_id_of(value), [ErrorDetails(type="", loc=(), msg=message, input=None)])
    try:
        return validate(value)
    except ValidationError as error:
        return InvalidItem(_id_of(value), error.errors(include_url=False, include_input=False))


def _id_of(value: Any) -> str | None:
    found = value.get("transaction_id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and 0 < len(found) <= ID.longest else None


# For items that are each answered alone: what is wrong with one is no matter of the others.
OrInvalid = WrapValidator(_or_invalid)

Id = Annotated[str, StringConstraints(min_length=1, max_length=ID.longest, pattern=ID.pattern)]
IpAddress = Annotated[
    Id,
    AfterValidator(_canonical("ip")),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": ID.longest,
            "description": "IPv4 or IPv6, kept in its shortest spelling.",
        }
    ),
]
CardFingerprint = Annotated[
    Id,
    AfterValidator(_canonical("card")),
    Field(description="A token or a keyed hash; a full card number is refused."),
]
Email = Annotated[
    Id,
    AfterValidator(_canonical("email")),
    Field(description="With an @; kept in lower case."),
]
# Of kinds that have no field of their own.
OtherKind = Annotated[EntityKind, AfterValidator(_other_kind)]
# For people: line breaks and tabs may be in it.
NOTE = TextRule(
    r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+$",
    2000,
    "a note has 1 to 2,000 characters and no control characters but tabs and line breaks",
)
Note = Annotated[
    str, StringConstraints(min_length=1, max_length=NOTE.longest, pattern=NOTE.pattern)
]
# Of keys, people and webhooks.
MADE_ID = TextRule(
    "^[0-9a-f]{12}$", 12, "this is no id that the service has made: 12 digits from 0 to f"
)
URL = TextRule(
    r"^[\x21-\x7e]+$",
    2000,
    "a URL has 1 to 2,000 characters of ASCII and no spaces; others are percent-encoded",
)
# What people read in place of a pattern.
SENTENCES = {
    rule.pattern: rule.sentence for rule in (ID, CURRENCY, ENTITY_KIND, NOTE, MADE_ID, URL)
}
Currency = Annotated[str, StringConstraints(pattern=CURRENCY.pattern)]
LabelName = Literal["fraud", "legitimate"]
Figure = Annotated[float, AfterValidator(figure)]
# In answers. No choice of types in either: generators make an empty type of that, and of none the
# language's own "any".
Value = Annotated[Figure | str | None, WithJsonSchema({"description": "A number, a text or null."})]
AttributeValue = Annotated[
    str | float | bool, WithJsonSchema({"description": "A text, a number, or true or false."})
]

Amount = Annotated[
    Decimal,
    BeforeValidator(amount_of),
    PlainSerializer(amount_text, return_type=str, when_used="json"),
    # One type, for generated clients: of two they make an empty one.
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"^{DECIMAL_TEXT.pattern}$",
            "description": "A decimal text, which is exact. A JSON number is accepted too, and "
            f"rounded to {DECIMALS} decimals, half to even.",
        }
    ),
]
Instant = Annotated[
    int,
    BeforeValidator(_instant),
    PlainSerializer(text_of, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
# Of a span of time, which may end in the future.
InstantBound = Annotated[
    int,
    BeforeValidator(_bound),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
FutureInstant = Annotated[
    int,
    BeforeValidator(_future),
    PlainSerializer(text_of, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Attribute = Annotated[
    str | float | bool,
    PlainValidator(attribute_of),
    WithJsonSchema(
        {
            "description": f"A text of at most {LONGEST_ATTRIBUTE} characters, a finite number, or "
            "true or false."
        }
    ),
]

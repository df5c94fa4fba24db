"""The field types of requests: strict, bounded, and described as strictly in OpenAPI."""

import re
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)

from app.content import amount_text, figure
from app.times import is_ahead, now_us, parse_us, text_of

WHOLE_DIGITS, DECIMALS = 15, 8
DECIMAL_TEXT = re.compile(rf"\d{{1,{WHOLE_DIGITS}}}(\.\d{{1,{DECIMALS}}})?", re.ASCII)
LONGEST_ATTRIBUTE = 256
MINUTE_US = 60_000_000
# No control characters; lone surrogates are no characters, and pydantic refuses them itself.
PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f]+$"


class Body(BaseModel):
    """A request body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _amount(value: Any) -> Decimal:
    if isinstance(value, str) and DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    # Also false for NaN.
    if type(value) in (int, float) and 0 <= value < 10**WHOLE_DIGITS:
        amount = Decimal(repr(value))
        if len(amount_text(amount).partition(".")[2]) <= DECIMALS:
            return amount
    raise ValueError(
        f"an amount is a number or a decimal text, not negative, with at most {WHOLE_DIGITS} "
        f"digits before and {DECIMALS} after the point"
    )


def _bound(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2026-01-31T12:00:00+01:00")
    return parse_us(value)


def _instant(value: Any) -> int:
    time_us = _bound(value)
    if is_ahead(time_us):
        raise ValueError("a time may not lie more than a day ahead of now")
    return time_us


def _future(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a time is a text such as 2027-01-01T00:00:00Z")
    time_us = parse_us(value)
    now = now_us()
    if time_us < now - MINUTE_US:
        raise ValueError("this time has passed: what was decided stays decided")
    return max(time_us, now)


def _attribute(value: Any) -> str | float | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and -1e300 < value < 1e300:
        return float(value)
    if isinstance(value, str) and len(value) <= LONGEST_ATTRIBUTE and _is_unicode(value):
        return value
    raise ValueError(
        f"an attribute is a text of at most {LONGEST_ATTRIBUTE} characters, a finite number, "
        "true or false"
    )


def _is_unicode(text: str) -> bool:
    """Whether it can be encoded: a lone surrogate is the one text that cannot."""
    return text.isascii() or not any("\ud800" <= one <= "\udfff" for one in text)


Id = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=PRINTABLE)]
# For people: line breaks and tabs may be in it, other control characters not.
Note = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=2000, pattern=r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]+$"
    ),
]
Currency = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
LabelName = Literal["fraud", "legitimate"]
Figure = Annotated[float, AfterValidator(figure)]

Amount = Annotated[
    Decimal,
    BeforeValidator(_amount),
    PlainSerializer(amount_text, return_type=str, when_used="json"),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0, "exclusiveMaximum": 10**WHOLE_DIGITS},
                {"type": "string", "pattern": f"^{DECIMAL_TEXT.pattern}$"},
            ]
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
    PlainValidator(_attribute),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_ATTRIBUTE},
                {"type": "number", "exclusiveMinimum": -1e300, "exclusiveMaximum": 1e300},
                {"type": "boolean"},
            ]
        }
    ),
]

"""What a payment may be: the one place that says so, for the API, for training and for import.

What is valid here can be posted, trained on, stored, exported, and imported again. The API checks
one payment at a time, by Pydantic (`app.http.fields`); files are checked by column, by Polars
(`app.training.gate`). Both take the bounds, patterns and sentences of this module. Which times
are possible says `app.times`, and how ids of some kinds are spelled `app.learner.entities`.
"""

import re
from decimal import Decimal
from typing import Any, NamedTuple

WHOLE_DIGITS, DECIMALS = 15, 8
SMALLEST_AMOUNT, LARGEST_AMOUNT = Decimal(1).scaleb(-DECIMALS), 10**WHOLE_DIGITS
DECIMAL_TEXT = re.compile(rf"\d{{1,{WHOLE_DIGITS}}}(\.\d{{1,{DECIMALS}}})?", re.ASCII)
LONGEST_ATTRIBUTE = 256
# An attribute that is a number lies between this and its negative.
LARGEST_ATTRIBUTE = 1e300
# Of files whose spec has none of its own. pandas writes a 0/1 column with gaps as 0.0 and 1.0.
LEGITIMATE_WORDS = ("0", "0.0", "false", "legitimate")
FRAUD_WORDS = ("1", "1.0", "true", "fraud")

MOST_ATTRIBUTES = 64

AMOUNT_SENTENCE = (
    f'an amount is a decimal text such as "12.50" or a number, not negative, with at most '
    f"{WHOLE_DIGITS} digits before the point; in a text at most {DECIMALS} after it"
)
ATTRIBUTE_SENTENCE = (
    f"an attribute is a text of at most {LONGEST_ATTRIBUTE} characters, a finite number, "
    "true or false"
)


class TextRule(NamedTuple):
    """What a text may be: of a pattern, which Rust's regex reads, and so long at most."""

    pattern: str
    longest: int
    sentence: str

    def allows(self, text: str) -> bool:
        """Whether a text is valid."""
        fits = len(text) <= self.longest and re.fullmatch(self.pattern, text) is not None
        return fits and is_unicode(text)

    def problem(self, text: str) -> str:
        """What is wrong with a text; empty where nothing is."""
        return "" if self.allows(text) else f"{text!r}: {self.sentence}"

    def check(self, text: str) -> str:
        """The text; raises ValueError with the sentence."""
        if not self.allows(text):
            raise ValueError(self.sentence)
        return text


# No control characters; a lone surrogate is no character.
ID = TextRule(
    r"^[^\x00-\x1f\x7f-\x9f]+$", 128, "an id has 1 to 128 characters and no control characters"
)
ENTITY_KIND = TextRule(
    "^[a-z][a-z0-9_]{0,31}$",
    32,
    "a kind has 1 to 32 small letters, digits and _, a letter first, such as device",
)
CURRENCY = TextRule(r"^[A-Z]{3}$", 3, "a currency is three capital letters, such as EUR")


# Of fields that are no id, and of texts among the attributes.
ATTRIBUTE = TextRule(r"^(?s:.*)$", LONGEST_ATTRIBUTE, ATTRIBUTE_SENTENCE)


def amount_of(value: Any) -> Decimal:
    """The amount that a text or a number stands for. Raises ValueError with one sentence."""
    if isinstance(value, str) and DECIMAL_TEXT.fullmatch(value):
        return Decimal(value)
    # Also false for NaN.
    if type(value) in (int, float) and 0 <= value < LARGEST_AMOUNT:
        # What arithmetic in binary leaves behind, as in 0.1 + 0.2, is no part of the amount.
        return Decimal(repr(value)).quantize(SMALLEST_AMOUNT)
    raise ValueError(AMOUNT_SENTENCE)


def attribute_of(value: Any) -> str | float | bool:
    """An attribute as it is kept. Raises ValueError with one sentence."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and -LARGEST_ATTRIBUTE < value < LARGEST_ATTRIBUTE:
        return float(value)
    if isinstance(value, str) and ATTRIBUTE.allows(value):
        return value
    raise ValueError(ATTRIBUTE_SENTENCE)


def is_unicode(text: str) -> bool:
    """Whether it can be encoded: a lone surrogate is the one text that cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)

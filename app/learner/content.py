"""The canonical text of a transaction: stored, compared, and read back.

Two posts say the same when their texts are equal: 10 and 10.00, or one instant at two offsets.
"""

import hashlib
import json
from decimal import Decimal
from math import isfinite

from app.learner.transaction import AttributeValue, Transaction

# Between the attributes and the time, in the order of their names.
OPTIONAL = ("channel", "country", "currency", "merchant_category", "merchant_id")
# After all others, so that what names none of them has the text that it always had.
LATER = ("card_fingerprint", "device_id", "email", "ip_address", "status")

# As JSON's own encoder spells texts; it would sort the fields anew each time.
_text = json.encoder.encode_basestring_ascii


def content_of(transaction: Transaction) -> str:
    """The one text that every spelling of this transaction has: JSON, its fields in order.

    Raises ValueError for a number that JSON cannot say.
    """
    written = f'{{"account_id":{_text(transaction.account_id)}'
    written += f',"amount":"{amount_text(transaction.amount)}"'
    attributes = transaction.attributes
    each = [f"{_text(name)}:{_value(attributes[name])}" for name in sorted(attributes)]
    written += f',"attributes":{{{",".join(each)}}}'
    for name in OPTIONAL:
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

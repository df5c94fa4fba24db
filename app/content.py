"""The canonical text of a transaction: stored, compared, and read back.

Two posts say the same when their texts are equal: 10 and 10.00, or one instant at two offsets.
"""

import hashlib
import json
from decimal import Decimal

from app.transactions import Transaction

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def content_of(transaction: Transaction) -> str:
    """The one text that every spelling of this transaction has."""
    attributes = {
        # 3 and 3.0 are one number; True is not 1.
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in transaction.attributes.items()
    }
    fields = {
        "transaction_id": transaction.transaction_id,
        "account_id": transaction.account_id,
        "occurred_at_us": transaction.occurred_at_us,
        "amount": amount_text(transaction.amount),
        "currency": transaction.currency,
        "merchant_id": transaction.merchant_id,
        "merchant_category": transaction.merchant_category,
        "channel": transaction.channel,
        "country": transaction.country,
        "attributes": attributes,
    }
    said = {name: value for name, value in fields.items() if value is not None}
    return _canonical(said)


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

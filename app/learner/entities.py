"""The ids of devices, addresses, cards, … as they are kept: one text for one entity.

The API and files go through the same, so that a file and the service agree on who is who.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from app.learner.transaction import Transaction

# What people write between the digits of a card number.
SEPARATORS = re.compile(r"[\s-]")
CARD_NUMBER = re.compile(r"\d{13,19}")


def canonical(kind: str, id_: str) -> str:
    """The one text of an entity; raises ValueError with one sentence for what is none.

    An address is the shortest spelling of it, an e-mail is in lower case, a full card number is
    refused; ids of other kinds are what the caller says.

    >>> canonical("ip", "2001:0DB8::0001")
    '2001:db8::1'
    """
    of_kind = _KINDS.get(kind)
    return id_ if of_kind is None else of_kind(id_)


def named_by(transaction: Transaction, kinds: Iterable[str]) -> list[tuple[str, str]]:
    """The entities of these kinds that a transaction names: the kind and the id of each."""
    ids = ((kind, transaction.entity(kind)) for kind in kinds)
    return [(kind, id_) for kind, id_ in ids if id_ is not None]


# Those that pay, pay again.
@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    try:
        address = ip_address(text)
    except ValueError:
        address = None
    if address is None or "%" in text:
        raise ValueError(
            "an IP address is IPv4 such as 203.0.113.7, or IPv6 such as 2001:db8::1; hashes of "
            "addresses are a kind of their own, such as ip_hash"
        )
    # A server that listens on both writes IPv4 so.
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


def _card(text: str) -> str:
    digits = SEPARATORS.sub("", text)
    if CARD_NUMBER.fullmatch(digits) and _passes_luhn(digits):
        raise ValueError(
            "this is a full card number, which must not be stored; use a fingerprint of it, such "
            "as your processor's token or a keyed hash"
        )
    return text


def _passes_luhn(digits: str) -> bool:
    """Whether the last digit checks the others, as on every payment card (ISO/IEC 7812-1)."""
    numbers = [int(digit) for digit in reversed(digits)]
    doubled = [sum(divmod(2 * number, 10)) for number in numbers[1::2]]
    return (sum(numbers[::2]) + sum(doubled)) % 10 == 0


def _email(text: str) -> str:
    name, at, host = text.rpartition("@")
    if not (name and at and host):
        raise ValueError(
            "an e-mail address has a name, an @ and a host, such as mia@example.com; hashes of "
            "addresses are a kind of their own, such as email_hash"
        )
    return text.lower()


_KINDS: dict[str, Callable[[str], str]] = {"ip": _address, "card": _card, "email": _email}

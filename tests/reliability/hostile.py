"""Hostile input: values as JSON spells them, texts for addresses, and where they are put."""

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from app.learner.transaction import DAY_US
from app.times import now_us, text_of
from tests.api.requests import posted

# In the place of this text comes a value, in the place of these a number and a label that
# differ from request to request: what is stored half is then seen to be new.
MARK, NUMBER, LABEL = "@value", "@number", "@label"

VALUES: dict[str, bytes] = {
    "NaN": b"NaN",
    "infinity": b"-Infinity",
    "1e400": b"1e400",
    "1e-400": b"1e-400",
    "-0.0": b"-0.0",
    "the largest double": b"1.7976931348623157e308",
    "0": b"0",
    "10**15": b"1e15",
    "2**63": b"9223372036854775808",
    "2**64": b"18446744073709551616",
    "4,000 digits": b"-" + b"9" * 4000,
    "10,000 digits": b"9" * 10_000,
    "true": b"true",
    "null": b"null",
    "a number as text": b'"1"',
    "digits of another script": '"٣"'.encode(),
    "half a character": b'"\\ud800"',
    "the other half": b'"a\\udc00"',
    "half a character in bytes": b'"\xed\xa0\x80"',
    "no UTF-8": b'"\xff\xfe"',
    "NUL": b'"a\\u0000b"',
    "NUL itself": b'"a\x00b"',
    "a line break": b'"a\\nb"',
    "nothing": b'""',
    "a space": b'" "',
    "a line separator": b'"\\u2028"',
    "no character": b'"\\uffff"',
    "from right to left": '"\u202eabc"'.encode(),
    "a family": '"\U0001f468\u200d\U0001f469\u200d\U0001f467"'.encode(),
    "129 characters": b'"' + b"x" * 129 + b'"',
    "10,000 characters": b'"' + b"x" * 10_000 + b'"',
    "year 9999": b'"9999-12-31T23:59:59Z"',
    "year 1": b'"0001-01-01T00:00:00+23:59"',
    "a leap second": b'"2026-06-30T23:59:60Z"',
    "SQL": b'"\'; DROP TABLE transactions; --"',
    "an object": b"{}",
    "an object of NaN": b'{"a": NaN, "a": 1}',
    "a list": b"[]",
    "1,001 items": b"[" + b",".join([b"{}"] * 1001) + b"]",
    "nested deeply": b"[" * 50_000 + b"]" * 50_000,
}

# As they stand in an address, percent-encoded where they are not ASCII.
ADDRESSED = [
    *("%00", "%0A", "%7F", "%FF", "%C3%28", "%ED%A0%80", "%EF%BF%BF", "%E2%80%AE", "%zz", "%"),
    *("-1", "0", "1.5", "1e400", "NaN", "inf", "true", "0x10", "1_0", "%D9%A3", "9" * 5000),
    *("9223372036854775808", "18446744073709551616", "", "%20", "..", "%2E%2E%2F", "%2F", "%25"),
    *("a" * 129, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00%2B23:59", "2026-02-30T00:00:00Z"),
    *("W10=", "WyJhIiwxXQ==", "bm90IEpTT04=", "%F0%9F%91%A8%E2%80%8D%F0%9F%91%A9", "'%20OR%201=1"),
]

LABEL_FIELDS = {"label": LABEL, "labelled_at": "2026-02-01T00:00:00Z", "source": "analyst"}
ALL_LABEL_FIELDS = {**LABEL_FIELDS, "analyst": "mia", "note": "Cardholder called."}
TRANSACTION = posted(f"t-{NUMBER}")
GOOD = [json.dumps(posted(f"g-{NUMBER}-{n}")).encode() for n in range(2)]
GOOD_LABELS = [json.dumps({"transaction_id": f"t-{n}", **LABEL_FIELDS}).encode() for n in range(2)]
FILTERS = {"account_id": "alice", "occurred_from": "2026-01-01T00:00:00Z", "outcome": "review"}
GOOD_STATUSES = [
    json.dumps({"transaction_id": f"t-{n}", "status": "reversed"}).encode() for n in range(2)
]


def places(value: Any) -> Iterator[bytes]:
    """The JSON of a value with the mark in each of its places, and as a name too many."""
    yield _json(MARK)
    if isinstance(value, dict):
        for name, part in value.items():
            rest = {other: its for other, its in value.items() if other != name}
            for marked in places(part):
                yield _json({**rest, name: None})[:-5] + marked + b"}"
        yield _json({**value, MARK: 1})
    if isinstance(value, list):
        for marked in (marked for part in value for marked in places(part)):
            yield b"[" + marked + b"]"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def among(name: str, good: list[bytes], value: Any) -> Iterator[bytes]:
    """The same within a list, between two that are good."""
    for marked in places(value):
        yield b'{"%s": [%s, %s, %s]}' % (name.encode(), good[0], marked, good[1])


# By operation: the bodies with a mark.
BODIES: dict[tuple[str, str], list[bytes]] = {
    ("POST", "/v1/transactions"): [*places(TRANSACTION)],
    ("POST", "/v1/transactions/batch"): [*among("transactions", GOOD, TRANSACTION)],
    ("PUT", "/v1/transactions/t-0/label"): [*places(ALL_LABEL_FIELDS)],
    ("POST", "/v1/labels"): [
        *among("labels", GOOD_LABELS, {"transaction_id": "t-2", **ALL_LABEL_FIELDS})
    ],
    ("POST", "/v1/accounts/alice/labels"): [
        *among("labels", GOOD_LABELS, {"transaction": TRANSACTION, **ALL_LABEL_FIELDS})
    ],
    ("POST", "/v1/accounts/alice/adapt"): [
        *places({"dry_run": True, "labels": [{"transaction_id": "t-1", "label": "fraud"}]})
    ],
    ("POST", "/v1/accounts/alice/rollback"): [*places({"revision": 0, "dry_run": True})],
    ("PUT", "/v1/transactions/t-0/status"): [*places({"status": "declined"})],
    ("PUT", "/v1/transactions/statuses"): [
        *among("statuses", GOOD_STATUSES, {"transaction_id": "t-2", "status": "declined"})
    ],
    ("PUT", "/v1/reviews/t-0/assignee"): [*places({"assignee": "mia"})],
    ("PUT", "/v1/reviews/t-0/snooze"): [*places({"until": text_of(now_us() + 10 * DAY_US)})],
    ("POST", "/v1/reviews/next"): [*places({"assignee": "mia", "kind": "review", "order": "age"})],
    ("POST", "/v1/accounts/alice/notes"): [
        *places({"text": "Abroad.", "author": "mia", "transaction_id": "t-0"})
    ],
    ("POST", "/v1/people"): [
        *places({"name": "mia", "role": "analyst", "email": "mia@shop.example"})
    ],
    ("POST", "/v1/thresholds"): [
        *places({"review": 0.01, "decline": 0.2, "effective_at": "2090-01-01T00:00:00Z"}),
        *places({"reviews_per_day": 50, "note": "Two analysts."}),
    ],
    ("PUT", "/v1/searches/costly"): [*places({**FILTERS, "amount_from": "500", "label": "fraud"})],
    ("POST", "/v1/keys"): [*places({"name": "till", "scopes": ["score"]})],
    ("POST", "/v1/webhooks"): [
        *places({"url": "http://127.0.0.1:9/nobody-listens", "events": ["label.changed"]})
    ],
}


def ids() -> dict[str, str]:
    """By Unicode category, and by what people do to texts: an id of that kind, or what is none."""
    first: dict[str, str] = {}
    for code in range(0x110000):
        first.setdefault(unicodedata.category(chr(code)), chr(code))
    # Each of the 30 is there; unassigned ones, and the end of all planes, in two kinds.
    by_category = {category: f"a{character}b" for category, character in first.items()}
    return by_category | {
        "composed": "caf\u00e9",
        "decomposed": "cafe\u0301",
        "compatible": "\ufb01le",
        "capitals": "CAF\u00c9",
        "a space after": "caf\u00e9 ",
        "from right to left": "\u202e\u05d0\u0628",
        "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "no character": "\uffff\U0010ffff",
        "a mark before the text": "\ufeffa",
        "nothing to see": "\u200b",
        "like an address": "../v1/keys?limit=1#%2F%00",
        "SQL": "'; DROP TABLE accounts; --",
        "a pattern": "%_\\",
        "128 of four bytes": "\U0001f468" * 128,
    }

"""Instants: int64 microseconds since the epoch inside, RFC 3339 with an offset outside."""

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:(?P<second>\d{2})(?P<fraction>\.\d{1,9})?"
    r"([Zz]|[+-](?P<hours>\d{2}):(?P<minutes>\d{2}))",
    re.ASCII,
)
# Nobody pays outside these years.
FIRST_YEAR, LAST_YEAR = 1970, 2100
AHEAD_SENTENCE = "a time may not lie more than a day ahead of now"
YEARS_SENTENCE = f"a time must lie in the years {FIRST_YEAR} to {LAST_YEAR}"


def now_us() -> int:
    return time.time_ns() // 1000


def is_ahead(time_us: int) -> bool:
    """Further in the future than clocks go wrong.

    Such a payment would make every later one of its account and its merchant a late one, whose
    history is not kept.
    """
    return time_us > latest_us()


def latest_us() -> int:
    """The latest time that a payment may have now."""
    return now_us() + 24 * 3600 * 1_000_000


def parse_us(text: str) -> int:
    """Raises ValueError for anything but an RFC 3339 time with an offset, 1970 to 2100."""
    match = RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("a time must look like 2026-01-31T12:00:00+01:00, with its offset")
    if match["second"] == "60":
        raise ValueError("leap seconds are not supported; send second 60 as 59")
    if match["hours"] is not None and (match["hours"] > "23" or match["minutes"] > "59"):
        raise ValueError("an offset must lie between -23:59 and +23:59")
    fraction = match["fraction"] or ""
    try:
        # Beyond microseconds the digits are cut off, in every version of Python alike.
        moment = datetime.fromisoformat(text.upper().replace(fraction, fraction[:7]))
    except ValueError:
        raise ValueError("there is no such date or time of day") from None
    return check_years((moment - EPOCH) // MICROSECOND)


def check_years(time_us: int) -> int:
    """The time; raises ValueError where it is not of 1970 to 2100."""
    if not FIRST_US <= time_us < LAST_US:
        raise ValueError(YEARS_SENTENCE)
    return time_us


def text_of(time_us: int) -> str:
    """RFC 3339 in UTC, always with six decimals: equal instants, equal texts."""
    second, microseconds = divmod(time_us, 1_000_000)
    return f"{_second(second)}.{microseconds:06}Z"


# Most texts are of now, and a second has many requests.
@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    moment = EPOCH.replace(tzinfo=None) + timedelta(seconds=second)
    return moment.isoformat(timespec="seconds")


FIRST_US = 0
LAST_US = (datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND

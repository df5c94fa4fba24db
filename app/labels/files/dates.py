"""When a label became known, by the text of a row and what the layout says of times.

As `app.training.values` reads the times of transactions by column, with Polars, which the service
runs without.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from app.learner.spelling import DOT, ISO, UNDOTTED, UNIT_US, WORD, Time, bare_word, is_yearless
from app.times import EPOCH, MICROSECOND, check_years

# Since 1970; eight digits may as well be a date.
SECONDS = re.compile(r"\d{9,10}", re.ASCII)
ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d.*", re.ASCII)
OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def instant_of(text: str, how: Time, zone_word: str | None = None) -> int:
    """Microseconds since the epoch. `zone_word` is the row's own zone, where a column has it.

    Raises ValueError with one sentence.
    """
    try:
        moment = _moment(text, how)
    except (ValueError, OverflowError, InvalidOperation):
        raise ValueError(f"a date is {_expected(how)}") from None
    if moment.tzinfo is None:
        moment = _placed(moment, how, _zone(how, zone_word))
    return check_years((moment - EPOCH) // MICROSECOND)


def check_zones(how: Time) -> None:
    """Raises ValueError for a zone that there is not."""
    for zone in (how.zone, *how.zones.values()):
        zone_of(zone)


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """The zone of a name, or of an offset such as +01:00. Raises ValueError with one sentence."""
    if offset := OFFSET.fullmatch(name):
        sign, hours, minutes = offset.groups()
        return timezone(int(f"{sign}1") * timedelta(hours=int(hours), minutes=int(minutes)))
    try:
        return UTC if name in ("UTC", "GMT") else ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not a time zone; use a name such as Europe/Paris, or an offset such as "
            "+01:00"
        ) from None


def _zone(how: Time, word: str | None) -> tzinfo:
    name = word or how.zone
    return zone_of(how.zones.get(name, name))


def _moment(text: str, how: Time) -> datetime:
    if how.unit is not None:
        return how.origin + round(Decimal(text) * UNIT_US[how.unit]) * MICROSECOND
    if how.words:
        text = _in_english(text, how.meanings)
    for form in how.formats or (ISO,):
        with suppress(ValueError):
            if form == ISO:
                return _of_iso(text)
            if how.year_from is not None and is_yearless(form):
                return _in_year(text, form, how.year_from)
            return datetime.strptime(text, form)
    raise ValueError


def _in_year(text: str, form: str, year_from: date) -> datetime:
    """A day without a year, of the twelve months from a day. Raises ValueError."""
    for year in (year_from.year, year_from.year + 1):
        with suppress(ValueError):
            moment = datetime.strptime(f"{year} {text}", f"%Y {form}")
            if moment.date() >= year_from:
                return moment
    raise ValueError


def _in_english(text: str, meanings: Mapping[str, str]) -> str:
    """The text with its words as what they mean."""
    text = re.sub(DOT, UNDOTTED[1], re.sub(DOT, UNDOTTED[1], text))
    return re.sub(WORD, lambda word: meanings.get(bare_word(word[0]), word[0]), text).strip()


def _of_iso(text: str) -> datetime:
    if SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC)
    if ISO_DATE.fullmatch(text) is None:
        # Python also takes 20260203, which is a number of seconds elsewhere.
        raise ValueError
    return datetime.fromisoformat(text)


def _placed(moment: datetime, how: Time, zone: tzinfo) -> datetime:
    """A local time in its zone. Raises ValueError for one that is there twice, or never."""
    earlier, later = (moment.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if earlier.utcoffset() == later.utcoffset():
        return earlier
    # Where the clocks go forward, the offset before is the smaller.
    is_skipped = (later.utcoffset() or timedelta()) > (earlier.utcoffset() or timedelta())
    if is_skipped and how.skipped == "refuse":
        raise ValueError(
            f"this time does not exist in {zone}, where the clocks go forward: "
            'skipped = "shift" under [time] takes it for the hour after'
        )
    if not is_skipped and how.ambiguous == "refuse":
        raise ValueError(
            f"this time comes twice in {zone}, where the clocks go back: "
            'ambiguous = "earlier" or "later" under [time] says which is meant'
        )
    return later if not is_skipped and how.ambiguous == "later" else earlier


def _expected(how: Time) -> str:
    if how.unit is not None:
        return f"a number of {how.unit}"
    if how.formats:
        return f"of the format {' or '.join(map(repr, how.formats))}"
    return "such as 2026-02-03, 2026-02-03T09:30:00Z or whole seconds since 1970"

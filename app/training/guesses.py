"""What a few values look like: forms of time and of number, for questions and for cures.

A guess reads all the values it is made from; where several do, it is for a person to say.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import NamedTuple

import polars as pl

MONTHS = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:tember)?"
    "|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?"
)
DATE = re.compile(
    rf"(?i)(\d{{1,4}}|{MONTHS})([-/. ])(\d{{1,2}})(?:\2|, ?)(\d{{4}}|\d{{1,2}})(?!\d)"
)
# Around a word there may be more marks, or none: 3. March 2026, 3 de March de 2026, 03MAR2026.
WORDED = re.compile(
    rf"(?i)(\d{{4}}|\d{{1,2}})([-/]|\.? ?| del? )({MONTHS})([-/]|[.,]? ?| del? )"
    r"(\d{4}|\d{1,2})(?!\d)"
)
EASTERN = re.compile(r"\d{4}([年년] ?)\d{1,2}([月월] ?)\d{1,2}([日일])")
WEEKDAY = re.compile(r"(?i)(mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(day)?(,? )(?=\S)")
WEEKDAY_AFTER = re.compile(r"(?i)(,? )(?:mon|tues|wednes|thurs|fri|satur|sun)day(?!\w)")
CLOCK = re.compile(r"(?i)(\d{1,2})([:.h])(\d{2})(\2\d{2})?([.]\d+)?( ?[ap]m)?")
# The day and month before the clock, the year after it: as `date` writes on Unix.
UNIX = re.compile(rf"(?i)({MONTHS}) {{1,2}}\d{{1,2}} \d\d:\d\d:\d\d (utc |gmt )?\d{{4}}")
OFFSET = re.compile(r" ?([+-]\d\d:?\d\d)")
IN_UTC = re.compile(r"(?i) ?(z|utc|gmt)")
ZONE_NAME = re.compile(r" [A-Z]{2,5}")
# Digits alone, by how many: a date, and the clock after it.
COMPACT_DATES = ("%Y%m%d", "%d%m%Y", "%m%d%Y")
COMPACT_CLOCKS = {4: "%H%M", 6: "%H%M%S"}
COMPACT_DATE = re.compile(r"\d{8}(?=\D|$|\d{4}$|\d{6}$)")
# Of ISO 8601: the fifth week of a year, and its first day.
WEEK = re.compile(r"\d{4}(?:(-)W\d\d-\d|W\d{3})(?!\d)")
COMPACT_CLOCK = re.compile(r"([ T]?)(\d{6}|\d{4})(?!\d)")
# Without a year: 0412 as DATEV has it, 04.12. or 04/12 or 4 Dec in statements.
DAY_AND_MONTH = "%d%m"
YEARLESS = (
    *(DAY_AND_MONTH, "%d.%m.", "%d.%m", "%d/%m", "%m/%d", "%d-%m", "%m-%d"),
    *("%d %b", "%d-%b", "%b %d", "%d %B", "%d-%B", "%B %d", "%d. %B"),
)
# Whole seconds since 1970 that are of this century.
EPOCHS = {10: "seconds", 13: "milliseconds", 16: "microseconds", 19: "nanoseconds"}
YEAR_1000_US = -30_610_224_000_000_000
MARKS = (".", ",")
GROUPS = (",", ".", " ", "'")


def time_formats(values: Sequence[str]) -> list[str]:
    """The formats (strptime) by which every value is a time, the likeliest first."""
    text_N = pl.Series(values, dtype=pl.String).str.strip_chars()
    found = formats_of_any(text_N.to_list()[:20])
    return [form for form in found if parsed(text_N, form).null_count() == 0]


def share(is_N: pl.Series) -> float:
    """The share of rows for which something is so; nulls are rows for which it is not."""
    return float(is_N.fill_null(False).to_numpy().mean()) if len(is_N) else 0.0


def formats_of_any(values: Sequence[str]) -> list[str]:
    """The formats that any of the values may have."""
    return list(dict.fromkeys(form for value in values for form in _formats_of(value)))


def parsed(text_N: pl.Series, form: str) -> pl.Series:
    """Microseconds since 1970, in UTC where the format has an offset; null where it is no time."""
    if re.search("%[HI]", form) and "%M" not in form:
        # Polars knows no hour without its minutes.
        text_N, form = text_N + " 00", f"{form} %M"
    kind = pl.Datetime("us", "UTC" if "%z" in form else None)
    time_us_N = text_N.str.strptime(kind, form, strict=False).to_physical()
    # Two digits are no year of four, which Polars takes for one of antiquity.
    return time_us_N.set(time_us_N < YEAR_1000_US, None)


def parsed_in_year(text_N: pl.Series, form: str, year_from: date) -> pl.Series:
    """The same of days without a year: in the twelve months from a day."""
    if form == DAY_AND_MONTH:
        # Where a spreadsheet took it for a number, its zero is gone.
        text_N = text_N.str.zfill(4)
    first_us = int(datetime(*year_from.timetuple()[:3], tzinfo=UTC).timestamp()) * 1_000_000
    first_N, second_N = (
        parsed(f"{year} " + text_N, f"%Y {form}") for year in (year_from.year, year_from.year + 1)
    )
    return second_N.zip_with((first_N < first_us).fill_null(True), first_N)


def yearless_formats(values: Sequence[str]) -> list[str]:
    """The formats of days without a year by which every value is a day of a leap year.

    Of those that read the same the first.
    """
    text_N, found = pl.Series(values, dtype=pl.String), dict[str, pl.Series]()
    for form in YEARLESS:
        time_us_N = parsed_in_year(text_N, form, date(2024, 1, 1))
        if time_us_N.null_count() == 0 and not any(map(time_us_N.equals, found.values())):
            found[form] = time_us_N
    return list(found)


def _formats_of(text: str) -> list[str]:
    before = ""
    if weekday := WEEKDAY.match(text):
        before = f"{'%A' if weekday[2] else '%a'}{weekday[3]}"
        text = text[weekday.end() :]
    if unix := UNIX.fullmatch(text):
        return [f"{before}{_month(unix[1])} %d %H:%M:%S {unix[2] or ''}%Y"]
    if compact := COMPACT_DATE.match(text):
        rest, forms = text[compact.end() :], [before + form for form in COMPACT_DATES]
    elif week := WEEK.match(text):
        rest, forms = text[week.end() :], [before + ("%G-W%V-%u" if week[1] else "%GW%V%u")]
    elif date := DATE.match(text):
        rest, forms = text[date.end() :], [before + form for form in _date_formats(date)]
    elif date := WORDED.match(text):
        rest, forms = text[date.end() :], [before + _worded_format(date)]
    elif date := EASTERN.match(text):
        rest, forms = text[date.end() :], ["%Y{}%m{}%d{}".format(*date.groups())]
    else:
        return []
    if weekday := WEEKDAY_AFTER.match(rest):
        forms = [f"{form}{weekday[1]}%A" for form in forms]
        rest = rest[weekday.end() :]
    if digits := COMPACT_CLOCK.match(rest):
        form = digits[1] + COMPACT_CLOCKS[len(digits[2])]
        return _ending([date_form + form for date_form in forms], rest[digits.end() :])
    if parts := re.fullmatch(r"( \d{1,2})( \d{1,2})?( \d{1,2})?", rest):
        # Hour, minute and second from columns of their own.
        form = "".join([" %H", " %M", " %S"][: len([part for part in parts.groups() if part])])
        return [date_form + form for date_form in forms]
    if rest in ("", "."):
        return [form + rest for form in forms]
    clock = CLOCK.search(rest)
    if clock is None:
        return []
    hour, mark = "%I" if clock[6] else "%H", clock[2]
    form = f"{rest[: clock.start()]}{hour}{mark}%M{f'{mark}%S' if clock[4] else ''}"
    form += "%.f" if clock[5] else ""
    if clock[6]:
        form += " %p" if clock[6][0] == " " else "%p"
    return _ending([date_form + form for date_form in forms], rest[clock.end() :])


def _ending(forms: list[str], after: str) -> list[str]:
    """The formats with what follows a clock: an offset, or that it is UTC."""
    if not after or IN_UTC.fullmatch(after):
        # Polars reads no Z as an offset.
        return [form + after for form in forms]
    if OFFSET.fullmatch(after):
        return [f"{form}{' ' * (after[0] == ' ')}%z" for form in forms]
    # Polars skips the name of a zone: what it means has to be known otherwise.
    return [f"{form} %Z" for form in forms] if ZONE_NAME.fullmatch(after) else []


def _month(name: str) -> str:
    return "%b" if len(name) == 3 else "%B"


def _date_formats(date: re.Match[str]) -> list[str]:
    first, mark, _, last = date.groups()
    year = "%Y" if len(last) == 4 else "%y"
    comma = date[0][date.end(3) - date.start() : date.start(4) - date.start()]
    if len(first) == 4:
        return [f"%Y{mark}%m{mark}%d"]
    if first.isalpha():
        return [f"{_month(first)}{mark}%d{comma}{year}"]
    return [f"%d{mark}%m{mark}{year}", f"%m{mark}%d{mark}{year}"]


def _worded_format(date: re.Match[str]) -> str:
    first, before, month, after, last = date.groups()
    if len(first) == 4:
        return f"%Y{before}{_month(month)}{after}%d"
    return f"%d{before}{_month(month)}{after}{'%Y' if len(last) == 4 else '%y'}"


class Marks(NamedTuple):
    """How numbers are written."""

    decimal: str
    thousands: str


def number_pattern(marks: Marks) -> str:
    """What a whole text looks like that is a number by these marks."""
    point = re.escape(marks.decimal)
    if not marks.thousands:
        whole = r"\d*"
    else:
        mark = re.escape(marks.thousands)
        # Groups of three, and of two before them in India.
        whole = rf"(?:\d{{1,3}}(?:{mark}\d{{2,3}})*{mark}\d{{3}}|\d*)"
    return rf"^[+-]?{whole}(?:{point}\d*)?(?:[eE][+-]?\d+)?$"


def number_marks(values: Iterable[str]) -> list[Marks]:
    """The marks by which every value is a number; one where no value has any mark."""
    texts = [value.strip().strip("()-+").strip() for value in values]
    return [marks for marks in _possible(texts) if _read_share(texts, marks) == 1]


def most_marks(values: Sequence[str]) -> list[Marks]:
    """The marks by which nearly all values are numbers, and more than by any other marks."""
    shares = [(_read_share(values, marks), marks) for marks in _possible(values)]
    best = max((share for share, _ in shares), default=0.0)
    return [marks for share, marks in shares if share == best] if best > 0.9 else []


def _possible(texts: Sequence[str]) -> list[Marks]:
    """Marks that the values have; a mark that no value has is no guess."""
    there = {mark for mark in GROUPS if any(mark in text for text in texts)}
    if not there:
        return [Marks(".", "")]
    found = [Marks(mark, "") for mark in MARKS if mark in there]
    for group in (mark for mark in GROUPS if mark in there):
        points = [mark for mark in MARKS if mark != group]
        # Where no value has a decimal mark, the usual one will do.
        found += [Marks(mark, group) for mark in points if mark in there] or [
            Marks(points[0], group)
        ]
    return found


def _read_share(texts: Sequence[str], marks: Marks) -> float:
    pattern = re.compile(number_pattern(marks))
    read = [re.search(r"\d", text) and pattern.match(text) for text in texts]
    return sum(map(bool, read)) / max(len(read), 1)


# The two sides of a ledger: beside amounts, in a column of their own, or as two columns of amounts.
DEBIT = {"dr", "d", "db", "debit", "dbit", "débit", "s", "soll", "debe"}
CREDIT = {"cr", "c", "credit", "crdt", "crédit", "h", "haben", "haber"}


def side_of(value: str) -> str | None:
    """The side of a ledger that a word before or after an amount names, such as Cr."""
    value = value.strip()
    some = (
        re.search(r"(?<=[\d\s])([^\W\d_]+\.?)$", value),
        re.match(r"([^\W\d_]+\.?)(?=[\d\s])", value),
    )
    words = [found[1] for found in some if found]
    return next((word for word in words if word.rstrip(".").lower() in DEBIT | CREDIT), None)


def without_side(value: str) -> str:
    """An amount without the word of its side."""
    side, value = side_of(value), value.strip()
    if side is None:
        return value
    return (value.removesuffix(side) if value.endswith(side) else value.removeprefix(side)).strip()


# US$, Rs., kr. and US $ are signs, too.
SIGN = r"(?:[^\d\s.,()+'\u2212-]+\.?(?: [$€£])?)?"


def sign_of(value: str) -> str | None:
    """What stands before or after a number, such as $ or EUR; not what stands around it."""
    match = re.fullmatch(
        rf"\(?[+\u2212-]?\s*({SIGN})\s*[+\u2212-]?[\d.,' \u00a0\u202f]+?\s*({SIGN})\)?",
        value.strip(),
    )
    if match is None or (match[1] and match[2]):
        return None
    return match[1] or match[2] or None

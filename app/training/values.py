"""Times, numbers and amounts of a file, by what its spec says of how they are written.

Axis: N rows.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.money import MINOR_UNITS, USUAL_DECIMALS
from app.learner.spelling import ISO, UNIT_US, Named, Time, bare_word, is_yearless
from app.learner.transaction import DAY_US, SECOND_US
from app.learner.validity import CURRENCY
from app.training import guesses, languages
from app.training.files import DataError
from app.training.gate import refuse_texts
from app.training.guesses import Marks
from app.training.table import Table, texts

LAST_SECOND = 253_402_300_799  # The end of the year 9999, the last that Python's datetime knows.
OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)")
POLARS_AMBIGUOUS: dict[str, Any] = {"refuse": "null", "earlier": "earliest", "later": "latest"}
SPACES = "[\u00a0\u202f\u2009]"


def toml_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def toml_text_of(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(toml_text, texts))}]"


def times(table: Table) -> NDArray[np.int64]:
    """When each row was, in microseconds since 1970, UTC."""
    named, how = table.spec.columns.time, table.spec.time
    values_N = table.text(named, " ") if not isinstance(named, str) else table[named]
    table.refuse(named, values_N.is_null(), "the time is missing")
    dtype, is_local = values_N.dtype, None
    if dtype == pl.Date:
        time_us_N = values_N.cast(pl.Datetime("us")).to_physical()
        is_local = True
    elif isinstance(dtype, pl.Datetime):
        time_us_N = values_N.dt.cast_time_unit("us").to_physical()
        is_local = dtype.time_zone is None
    elif how.unit is not None:
        time_us_N = _counted(values_N, UNIT_US[how.unit], int(how.origin.timestamp()) * SECOND_US)
        is_local = False
    elif how.formats or dtype == pl.String:
        return _times_of_text(table, named, values_N)
    elif dtype.is_integer():
        time_us_N = _times_of_seconds(values_N)
        is_local = False
    else:
        time_us_N = pl.repeat(None, len(values_N), dtype=pl.Int64, eager=True)
    _refuse_times(table, named, time_us_N, values_N)
    if is_local:
        time_us_N = _in_utc(table, time_us_N, pl.repeat(True, len(time_us_N), eager=True))
    return time_us_N.to_numpy(writable=True)


def _times_of_text(table: Table, named: Named, values_N: pl.Series) -> NDArray[np.int64]:
    """Each text by the first of the formats that reads it."""
    text_N = languages.translated(texts(values_N), table.spec.time.words).str.strip_chars()
    time_us_N = pl.repeat(None, len(text_N), dtype=pl.Int64, eager=True)
    is_local_N = pl.repeat(False, len(text_N), eager=True)
    for form in table.spec.time.formats or (ISO,):
        found_N, local_N = _by_format(text_N, form, table.spec.time.year_from)
        is_next_N = time_us_N.is_null() & found_N.is_not_null()
        time_us_N = found_N.zip_with(is_next_N, time_us_N)
        is_local_N = local_N.zip_with(is_next_N, is_local_N)
    _refuse_times(table, named, time_us_N, values_N)
    return _in_utc(table, time_us_N, is_local_N).to_numpy(writable=True)


def _by_format(text_N: pl.Series, form: str, year_from: date | None) -> tuple[pl.Series, pl.Series]:
    """The times of a format, null where a text is none of it, and which are local."""
    if form == ISO:
        return _of_iso(text_N)
    try:
        if year_from is not None and is_yearless(form):
            found_N = guesses.parsed_in_year(text_N, form, year_from)
        else:
            found_N = guesses.parsed(text_N, form)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"format {form!r} under [time]: {reason}") from None
    return found_N, pl.repeat("%z" not in form, len(text_N), eager=True)


def _of_iso(text_N: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Spellings of ISO 8601 are brought to one, then parsed at once."""
    text = pl.lit(text_N)
    iso = text.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
    iso = iso.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T")
    # Java writes the place after the offset, and Python's log a comma in the seconds.
    iso = iso.str.replace(r"(Z|[+-]\d\d:?\d\d)\[[\w/+-]+\]$", "${1}")
    iso = iso.str.replace(r"(T\d\d:\d\d:\d\d),(\d)", "${1}.${2}")
    iso = iso.str.replace(r"(?i) ?(Z|UTC|GMT)$", "+00:00")
    # PostgreSQL writes whole hours, and Shopify a space before the offset.
    iso = iso.str.replace(r"(T\S+?) ?([+-]\d\d)$", "${1}${2}:00")
    iso = iso.str.replace(r" ([+-]\d\d:?\d\d)$", "${1}")
    iso = iso.str.replace(r"T(\d\d:\d\d)($|[+-])", "T${1}:00${2}")
    has_zone = iso.str.contains(r"T.*[+-]\d\d:?\d\d$")
    iso = pl.when(has_zone).then(iso).otherwise(iso + "+00:00")
    found = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    parsed_N, has_zone_N = pl.select(found.to_physical().alias("time"), has_zone.alias("zone"))
    seconds_N = _times_of_seconds(pl.select(text.cast(pl.Int64, strict=False)).to_series())
    is_local_N = parsed_N.is_not_null() & ~has_zone_N
    return pl.select(pl.coalesce(pl.lit(parsed_N), pl.lit(seconds_N))).to_series(), is_local_N


def _times_of_seconds(values_N: pl.Series) -> pl.Series:
    seconds_N = values_N.cast(pl.Int64, strict=False)
    possible = pl.lit(seconds_N).abs() <= LAST_SECOND
    return pl.select(pl.when(possible).then(pl.lit(seconds_N) * SECOND_US)).to_series()


def _counted(values_N: pl.Series, unit_us: int | Decimal, origin_us: int) -> pl.Series:
    """Times that count from an origin; whole numbers to the microsecond."""
    if values_N.dtype == pl.String:
        values_N = values_N.str.strip_chars()
    number_N = values_N.cast(pl.Float64, strict=False)
    whole_N = pl.lit(values_N.cast(pl.Int64, strict=False))
    number, most = pl.lit(number_N), LAST_SECOND * SECOND_US
    # Of nanoseconds what is less than a microsecond is cut off, as Polars does with its own.
    whole = whole_N * unit_us if isinstance(unit_us, int) else whole_N // int(1 / unit_us)
    counted_us = number * float(unit_us)
    time = pl.coalesce(whole, counted_us.round().cast(pl.Int64, strict=False))
    possible = (counted_us + origin_us).abs() <= most
    return pl.select(pl.when(possible).then(time + origin_us)).to_series()


def _refuse_times(table: Table, named: Named, time_us_N: pl.Series, values_N: pl.Series) -> None:
    how = table.spec.time
    expected = "ISO 8601, or whole seconds since 1970"
    if how.unit is not None:
        expected = f"a number of {how.unit}"
    elif how.formats:
        expected = f"of the format {' or '.join(how.formats)}"
    table.refuse(
        named,
        time_us_N.is_null(),
        "not a time",
        lambda value: f"{value!r} is not a time ({expected})",
        lambda value: _time_cure(str(value), how, time_us_N),
        values_N,
    )


def _time_cure(value: str, how: Time, time_us_N: pl.Series) -> str:
    """The lines of a spec that read a time, where its form says which."""
    value, formats = value.strip(), how.formats
    is_beside = time_us_N.null_count() < len(time_us_N)
    is_english = bool(guesses.time_formats([value]))
    if not is_english and (lines := _words_cure(value, how, is_beside)):
        return f"{lines} under [time] would read it"
    if is_beside:
        # Beside the others, what reads this one too.
        also = [form for form in guesses.time_formats([value]) if form not in formats]
        some = [toml_text_of([*(formats or (ISO,)), form]) for form in also]
        return f"format = {' or '.join(some)} under [time] would read it, too" if some else ""
    if value.isdigit() and len(value) in guesses.EPOCHS:
        return f'unit = "{guesses.EPOCHS[len(value)]}" under [time] would read it'
    if found := guesses.time_formats([value]):
        lines = " or ".join(f"format = {toml_text(form)}" for form in found)
        return f"{lines} under [time] would read it"
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return 'unit, such as "hours", and origin under [time] say what it counts'
    return "format under [time] says how times are written, as in strptime"


def _words_cure(value: str, how: Time, is_beside: bool) -> str:
    """What the words of a time may be in English, where the spec does not say so.

    `is_beside` where other times are read by the formats of the spec.
    """
    lines = []
    for meanings in languages.languages_of([value]).values():
        words = [word for word in languages.words_of([value]) if word in meanings]
        new = [word for word in words if bare_word(word) not in how.meanings]
        english_N = languages.translated(pl.Series([value]), meanings)
        formats = guesses.time_formats(english_N.to_list())
        if not formats:
            continue
        known = [form for form in how.formats if form != ISO and not is_yearless(form)]
        parts = []
        if all(guesses.parsed(english_N, form).null_count() for form in known):
            some = [*(how.formats or (ISO,)), formats[0]] if is_beside else formats[:1]
            parts.append(f"format = {toml_text(some[0]) if len(some) == 1 else toml_text_of(some)}")
        if new:
            pairs = ", ".join(f"{toml_text(word)} = {toml_text(meanings[word])}" for word in new)
            parts.append(f"words = {{ {pairs} }}")
        lines.append(" with ".join(parts))
    return " or ".join(dict.fromkeys(lines))


def _in_utc(table: Table, time_us_N: pl.Series, is_local_N: pl.Series) -> pl.Series:
    """Times in UTC, of which some stand in the file's or the row's own zone."""
    how = table.spec.time
    if how.zone_column is None:
        return _of_zone(table, time_us_N, is_local_N, how.zone)
    words_N = texts(table[how.zone_column]).str.strip_chars().fill_null(how.zone)
    for word in words_N.filter(is_local_N).unique().sort().to_list():
        zone = how.zones.get(word, word)
        of_word_N = is_local_N & (words_N == word)
        is_known = "/" in zone or zone in ("UTC", "GMT") or OFFSET.fullmatch(zone) is not None
        table.refuse(
            how.zone_column,
            of_word_N & (not is_known),
            "not a time zone",
            lambda value: f"{value!r} is not a time zone (such as Europe/Paris, or +01:00)",
            lambda value: (
                f'zones = {{ {toml_text(str(value))} = "+01:00" }} under [time] says what it '
                "means, with its own offset or zone"
            ),
        )
        time_us_N = _of_zone(table, time_us_N, of_word_N, zone)
    return time_us_N


def _of_zone(table: Table, time_us_N: pl.Series, is_local_N: pl.Series, zone: str) -> pl.Series:
    if zone in ("UTC", "GMT"):
        return time_us_N
    if offset := OFFSET.fullmatch(zone):
        minutes = int(f"{offset[1]}1") * (int(offset[2]) * 60 + int(offset[3]))
        utc_N = time_us_N - minutes * 60 * SECOND_US
    else:
        utc_N = _of_place(table, time_us_N, is_local_N, zone)
    chosen = pl.when(pl.lit(is_local_N)).then(pl.lit(utc_N)).otherwise(pl.lit(time_us_N))
    return pl.select(chosen).to_series()


def _of_place(table: Table, time_us_N: pl.Series, is_local_N: pl.Series, zone: str) -> pl.Series:
    """Local times of a place as UTC; where clocks go back an hour is there twice, or not at all."""
    how, local_N = table.spec.time, time_us_N.cast(pl.Datetime("us"))

    def utc(local_N: pl.Series, ambiguous: Any) -> pl.Series:
        there = local_N.dt.replace_time_zone(zone, ambiguous=ambiguous, non_existent="null")
        return there.to_physical()

    try:
        utc_N = utc(local_N, POLARS_AMBIGUOUS[how.ambiguous])
    except pl.exceptions.ComputeError:
        raise DataError(
            f"{table.path}: {zone!r} is not a time zone; zone under [time] is a name such as "
            "Europe/Paris, or an offset such as +01:00"
        ) from None
    there_N = utc(local_N, "earliest")
    named = table.spec.columns.time
    shown_N = local_N.dt.to_string("%Y-%m-%d %H:%M:%S")
    table.refuse(
        named,
        is_local_N & utc_N.is_null() & there_N.is_not_null(),
        "an hour that comes twice",
        lambda value: f"{value} comes twice in {zone}, where the clocks go back",
        lambda _: 'ambiguous = "earlier" or "later" under [time] says which is meant',
        shown_N,
    )
    if how.skipped == "shift":
        day_before_N = (time_us_N - DAY_US).cast(pl.Datetime("us"))
        shifted_N = utc(day_before_N, "earliest") + DAY_US
        return pl.select(pl.coalesce(pl.lit(utc_N), pl.lit(shifted_N))).to_series()
    table.refuse(
        named,
        is_local_N & there_N.is_null(),
        "an hour that does not exist",
        lambda value: f"{value} does not exist in {zone}, where the clocks go forward",
        lambda _: 'skipped = "shift" under [time] takes it for the hour after',
        shown_N,
    )
    return utc_N


def numbers(
    table: Table, column: str, signs: Sequence[str] = (), sides: Sequence[str] = ()
) -> pl.Series:
    """Null where the value is missing, NaN included in a floating-point column.

    `signs` may stand before or after a number, and `sides` around both.
    """
    values_N = table[column]
    if values_N.dtype == pl.String:
        # What stands between two quotes may be nothing.
        values_N = values_N.set(values_N.str.strip_chars() == "", None)
    marks = Marks(table.spec.file.decimal, table.spec.file.thousands)
    if values_N.dtype == pl.String:
        number_N = _numbers_of_text(values_N, marks, signs, sides)
    elif values_N.dtype.is_temporal():
        number_N = pl.repeat(None, len(values_N), dtype=pl.Float64, eager=True)
    else:
        number_N = values_N.cast(pl.Float64, strict=False)
    is_bad_N = number_N.is_null() & values_N.is_not_null()
    table.refuse(
        column,
        is_bad_N,
        "not a number",
        lambda value: f"{value!r} is not a number{_by_marks(marks)}",
        lambda value: _number_cure(str(value), column == table.spec.columns.amount, values_N),
    )
    table.refuse(
        column, number_N.is_infinite().fill_null(False), "infinite", lambda _: "it is infinite"
    )
    return number_N


def _numbers_of_text(
    values_N: pl.Series, marks: Marks, signs: Sequence[str], sides: Sequence[str]
) -> pl.Series:
    text = pl.lit(values_N).str.strip_chars()
    if sides:
        either = _any_of(sides)
        text = text.str.replace(rf"^(?:{either})\s*|\s*(?:{either})$", "")
    found = []
    if marks == Marks(".", "") and not signs:
        # Numbers as programs write them, most often all.
        number_N = pl.select(text.cast(pl.Float64, strict=False)).to_series()
        if number_N.null_count() == values_N.null_count():
            return number_N
        found = [pl.lit(number_N)]
    text = text.str.replace_all("\u2212", "-").str.replace_all(SPACES, " ")
    text = text.str.replace_all("\u2019", "'")
    # Accountants write negative amounts in brackets, or with the sign behind.
    text = text.str.replace(r"^\((.*)\)$", "-${1}")
    if signs:
        either = _any_of(signs)
        text = text.str.replace(rf"^([+-]?)\s*(?:{either})\s*", "${1}")
        text = text.str.replace(rf"\s*(?:{either})\s*$", "")
    text = text.str.replace(r"^([^+-].*?)\s*([+-])$", "${2}${1}").str.replace(r"^([+-])\s+", "${1}")
    is_number = text.str.contains(guesses.number_pattern(marks)) & text.str.contains(r"\d")
    plain = text.str.replace_all(marks.thousands, "", literal=True) if marks.thousands else text
    plain = plain.str.replace(marks.decimal, ".", literal=True)
    number = pl.when(is_number).then(plain.cast(pl.Float64, strict=False))
    return pl.select(pl.coalesce(*found, number)).to_series()


def _any_of(words: Iterable[str]) -> str:
    """A pattern of any of the words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


def _by_marks(marks: Marks) -> str:
    if marks == Marks(".", ""):
        return ""
    thousands = f' and thousands = "{marks.thousands}"' if marks.thousands else ""
    return f' by decimal = "{marks.decimal}"{thousands}'


def _number_cure(value: str, is_amount: bool, values_N: pl.Series) -> str:
    """The lines of a spec that read a number, where its form says which."""
    if is_amount and (side := guesses.side_of(value)):
        return (
            f'sides = {{ {toml_text(side)} = "payment" }} under [amount] would read it, or "refund"'
        )
    sign = guesses.sign_of(value) if is_amount else None
    if sign:
        code = sign if re.fullmatch("[A-Z]{3}", sign) else "USD"
        return (
            f'currencies = {{ {toml_text(sign)} = "{code}" }} under [amount] would read it, with '
            "the code of its own currency"
        )
    others = guesses.number_marks([value])
    lines = " or ".join(
        f'decimal = "{marks.decimal}"'
        + (f' with thousands = "{marks.thousands}"' if marks.thousands else "")
        for marks in others
        if marks != Marks(".", "")
    )
    if lines:
        return f"{lines} under [file] would read it"
    if values_N.dtype == pl.String and values_N.eq(value).sum() > 1:
        return f"missing = [{toml_text(value)}] under [file] takes it for nothing"
    return ""


def amounts(table: Table) -> tuple[pl.Series, pl.Series]:
    """Amounts of rows with their sign, and the currency of each, null where none is named.

    What stands in a column of refunds of its own is negative, and payments beside it are not.
    """
    columns, how = table.spec.columns, table.spec.amount
    currency_N = _currencies(table)
    if columns.amount is None:
        return pl.repeat(0.0, len(table), dtype=pl.Float64, eager=True), currency_N
    amount_N = _amount_column(table, columns.amount)
    if how.sides:
        if how.negative == "refuse":
            refuse_negative(table, columns.amount, amount_N)
        is_refund = _side_of_each(table[columns.amount], how.sides) == "refund"
        number = pl.lit(amount_N)
        amount_N = pl.select(pl.when(is_refund).then(-number).otherwise(number)).to_series()
    if columns.refund is not None:
        if how.negative == "spending":
            # Each column says by itself what was paid and what was paid back.
            amount_N = -amount_N
        refuse_negative(table, columns.amount, amount_N)
        refund_N = -_amount_column(table, columns.refund).abs()
        is_refund = pl.lit(amount_N).fill_null(0) == 0
        either = pl.when(is_refund).then(pl.coalesce(pl.lit(refund_N), pl.lit(amount_N)))
        amount_N = pl.select(either.otherwise(pl.lit(amount_N))).to_series()
    table.refuse(columns.amount, amount_N.is_null(), "the amount is missing")
    if how.minor_units or how.divide_by != 1:
        by = how.divide_by
        others = how.minor_units if isinstance(how.minor_units, dict) else {}
        by_N = np.full(len(table), by)
        if how.minor_units:
            by_N = _minor_units(currency_N, others).to_numpy()
        # Polars multiplies by the inverse: 1,999 cents would be 19.990000000000002.
        amount_N = pl.Series(amount_N.to_numpy() / by_N)
    return amount_N, currency_N


def _minor_units(currency_N: pl.Series, others: Mapping[str, int]) -> pl.Series:
    """How many minor units make one of each currency; `others` have decimals of their own."""
    counts = {code: 10.0**decimals for code, decimals in {**MINOR_UNITS, **others}.items()}
    usual = 10.0**USUAL_DECIMALS
    return currency_N.replace_strict(counts, default=usual, return_dtype=pl.Float64)


def refuse_negative(table: Table, column: str, amount_N: pl.Series) -> None:
    """Raises BadRows where an amount is negative."""
    cure = 'negative = "refund", "spending" or "leave_out" under [amount] says what it is'
    table.refuse(
        column,
        (amount_N < 0).fill_null(False),
        "a negative amount",
        lambda value: f"the amount {value} is negative",
        lambda _: cure,
        amount_N if table[column].dtype != pl.String else None,
    )


def _side_of_each(values_N: pl.Series, sides: Mapping[str, str]) -> pl.Expr:
    """Which side of a ledger each amount is on, by the word beside it."""
    words = [word for word in sides if word]
    text = pl.lit(values_N).cast(pl.String).str.strip_chars()
    beside = pl.coalesce(
        text.str.extract(f"({_any_of(words)})$"), text.str.extract(f"^({_any_of(words)})")
    )
    unmarked = sides.get("", "payment")
    return beside.replace_strict(sides, default=unmarked, return_dtype=pl.String)


def _amount_column(table: Table, column: str) -> pl.Series:
    how = table.spec.amount
    is_truth_N = pl.repeat(table[column].dtype == pl.Boolean, len(table), eager=True)
    table.refuse(column, is_truth_N, "not a number", lambda value: f"{value!r} is not an amount")
    amount_N = numbers(table, column, tuple(how.currencies), [word for word in how.sides if word])
    table.refuse(column, amount_N.is_nan().fill_null(False), "NaN", lambda _: "the amount is NaN")
    return amount_N


def _currencies(table: Table) -> pl.Series:
    """The currency of each row's amount: by its column, by its sign, or the file's."""
    how, named = table.spec.amount, table.spec.currency_column
    found = [] if named is None else [pl.lit(currency_words(table, named))]
    amount = table.spec.columns.amount
    if how.currencies and amount is not None and table[amount].dtype == pl.String:
        sign = pl.lit(table[amount]).str.extract(f"({_any_of(how.currencies)})")
        codes = pl.Series(list(how.currencies.values()), dtype=pl.String)
        found.append(sign.replace_strict(pl.Series(list(how.currencies)), codes, default=None))
    found.append(pl.repeat(how.currency, len(table), dtype=pl.String))
    return pl.select(pl.coalesce(found)).to_series()


def currency_words(table: Table, column: str) -> pl.Series:
    """A column of currencies, in which the file's own words are codes."""
    code_N = texts(table[column]).replace({"": None, **table.spec.amount.currencies})
    refuse_texts(
        table,
        column,
        code_N,
        CURRENCY,
        "no currency",
        lambda value: (
            f"currencies = {{ {toml_text(str(value))} = "
            f'"{_code_like(str(value))}" }} under [amount] says which it is'
        ),
    )
    return code_N


def _code_like(word: str) -> str:
    """The code that a word may well stand for: `usd` for USD; else any, as an example."""
    code = word.strip().upper()
    return code if CURRENCY.allows(code) else "EUR"

"""Which columns of a file say when, and how."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from app.learner.spelling import ISO as ISO_WORD
from app.training import guesses, languages
from app.training.inspection import names
from app.training.inspection.columns import candidates, chosen_columns
from app.training.inspection.draft import Draft
from app.training.inspection.questions import Answers, Question

ISO = (
    r"^\d{4}-\d\d-\d\d([ Tt]\d\d:\d\d(:\d\d([.,]\d+)?)?"
    r"( ?(Z|z|UTC|GMT|[+-]\d\d(:?\d\d)?)(\[[\w/+-]+\])?)?)?$"
)
CLOCK = r"^\d{1,2}[:h]\d{2}(:\d{2}(\.\d+)?)?([ \u00a0\u202f]?[APap]\.?[ \u00a0\u202f]?[Mm]\.?)?$"
# A time of day without marks, or with others, where the column's name says that it is one.
BARE_CLOCK = r"^([01]\d|2[0-3])[.]?[0-5]\d([.]?[0-5]\d)?$"
CLOCK_NAME = re.compile(r"(.* )?(time|uhrzeit|zeit|hora|heure|ora|godzina|clock)( .*)?|.*time")
OFFSET_AT_END = r"[ T]\d\d?:\d\d.*(Z|z|UTC|GMT|[+-]\d\d(:?\d\d)?)(\[[\w/+-]+\])?$"
DECIMAL, MAYBE = re.compile(r"\d+\.\d+"), re.compile(rf"{ISO}|^\d+(\.\d+)?$")
UNITS = ("seconds", "minutes", "hours", "days", "weeks")
# Between several formats of one answer.
OR = " or "
MOST_FORMATS = 4
WHICH = "Which column says when a payment was made?"
# Of six digits, which may be numbers of anything.
SHORT_DATES = ("%y%m%d", "%d%m%y", "%m%d%y")
DATE, ORDER, SPREADSHEET = "date", "order", "spreadsheet"
# From the hour on: without it there are no minutes of a day.
CLOCK_PARTS = (
    ("hour", "hours", "hr", "stunde", "hora", "heure", "ora"),
    ("minute", "minutes", "min", "minuto"),
    ("second", "seconds", "sec", "sekunde", "segundo", "seconde"),
)
SIXTY = r"^[0-5]?\d$"
SAMPLED = 100_000
YEARS = range(1990, 2101)
# Spreadsheets count days: 1990 to 2100.
SPREADSHEET_ORIGIN, SPREADSHEET_DAYS = datetime(1899, 12, 30), (32874, 73415)


class When(NamedTuple):
    """The columns of a time, what [time] says of them, and why."""

    columns: list[str]
    lines: list[tuple[str, Any, str]]
    why: str


def add_time(
    draft: Draft, frame: pl.DataFrame, answers: Answers, taken: set[str], year_from: date | None
) -> None:
    """Days without a year are of the one from `year_from`, where the file says that.

    Raises ValueError where no column looks like a time.
    """
    stated = chosen_columns("time", answers, frame.columns)
    days = stated or _without_year(frame, taken, year_from)
    if len(days) == 1 and (yearless := _yearless(frame[days[0]], year_from)):
        found = _in_a_year(days, frame[days[0]], yearless, year_from, answers)
    else:
        found = _of_columns(frame, stated, answers) if stated else _found(frame, answers, taken)
    named = found.columns[0] if len(found.columns) == 1 else found.columns
    draft.add("columns", "time", named, found.why)
    taken.update(found.columns)
    for key, value, why in found.lines:
        draft.add("time", key, value, why)
    is_counted = draft.value("time", "unit") is not None
    if not is_counted and not _has_offsets(frame, found):
        _add_zone(draft, frame, found, answers, taken)


def _without_year(frame: pl.DataFrame, taken: set[str], year_from: date | None) -> list[str]:
    """The column of days without a year, where no other says when."""
    if _date_parts(frame):
        return []
    free = [column for column in frame.columns if column not in taken]
    if any(_form(frame[column]) in ("iso", "typed", "text", "epoch", "date") for column in free):
        return []
    return next(
        (
            [column]
            for column in free
            if names.TIME.fullmatch(names.plain(column)) and _yearless(frame[column], year_from)
        ),
        [],
    )


def _yearless(values_N: pl.Series, year_from: date | None) -> list[str]:
    """The formats of days without a year; of digits alone only where the file states its year."""
    if values_N.dtype.is_temporal():
        return []
    text_N = _sampled(values_N)
    if not len(text_N) or (year_from is None and guesses.share(text_N.str.contains(r"^\d+$")) == 1):
        return []
    return guesses.yearless_formats(text_N.unique().to_list())


def _in_a_year(
    columns: list[str],
    values_N: pl.Series,
    formats: list[str],
    year_from: date | None,
    answers: Answers,
) -> When:
    """Days without a year; questions are which number is the month, and of which year they are."""
    text_N = _sampled(values_N)
    form, why = formats[0], "reads every value"
    if len(formats) > 1:
        leap = date(2024, 1, 1)
        read = [guesses.parsed_in_year(text_N, some, leap) for some in formats]
        n = (read[0] != read[1]).arg_max() or 0
        choices = {
            some: f"{datetime.fromtimestamp(us[n] / 1_000_000, UTC):%d %B}"
            for some, us in zip(formats, read, strict=True)
        }
        text = f"Days can be read in {len(formats)} ways. Which one is it, for {text_N[n]!r}?"
        form, why = answers.of(Question("time.format", text, choices)), "as answered"
    lines: list[tuple[str, Any, str]] = [("format", form, why)]
    if year_from is None:
        text = f"Days such as {text_N[0]} name no year. With which day do their twelve months begin"
        question = Question("time.year_from", f"{text}?", check=_no_day, proposal="2024-01-01")
        lines.append(("year_from", date.fromisoformat(answers.of(question)), "as answered"))
    else:
        lines.append(("year_from", year_from, "by the file's first line"))
    return When(columns, lines, f"such as {text_N[0]}")


def _no_day(text: str) -> str | None:
    return (
        _no_time(text)
        if re.fullmatch(r"\d{4}-\d\d-\d\d", text)
        else f"{text!r} is not a day such as 2024-01-01"
    )


def _found(frame: pl.DataFrame, answers: Answers, taken: set[str]) -> When:
    if parts := _date_parts(frame):
        return _of_columns(frame, parts, answers)
    free = [column for column in frame.columns if column not in taken]
    # Content first: of columns that are times those with the name of one.
    forms = {column: _form(frame[column]) for column in free}
    dated = [column for column, form in forms.items() if form in ("iso", "typed", "text")]
    counted = [column for column, form in forms.items() if form in ("epoch", "date", "number")]
    likely = [column for column in counted if names.TIME.fullmatch(names.plain(column))]
    likely = likely or [column for column in counted if forms[column] == "epoch"]
    likely.sort(key=names.is_paid_at)
    if dated:
        if likely and _is_of_another(dated, likely):
            # A birthday is no reason to overlook what counts when payments were.
            shown = {name: f"such as {_sampled(frame[name])[0]}" for name in (*likely, *dated)}
            column = answers.of(Question("time", WHICH, shown, proposal=likely[0]))
        else:
            column = _of_payment(frame, dated, answers)
        return _of_columns(frame, [column, *_clock_beside(frame, column)], answers)
    if likely:
        column = likely[0]
        beside = _clock_beside(frame, column) if forms[column] == "date" else []
        return _of_columns(frame, [column, *beside], answers)
    raise ValueError(
        "no column looks like a time; --answer time=COLUMN names it, or time=DATE+CLOCK two of "
        f"them: the file has {', '.join(frame.columns)}"
    )


def _is_of_another(dated: list[str], likely: list[str]) -> bool:
    """Whether all dates are called after something else than the payment, and a count is not."""
    return min(map(names.is_paid_at, dated)) == 2 > names.is_paid_at(likely[0])


def _of_payment(frame: pl.DataFrame, dated: list[str], answers: Answers) -> str:
    """The column that says when a payment was; a question where several may."""
    named = [
        column
        for column in dated
        if names.TIME.fullmatch(names.plain(column)) or not names.is_paid_at(column)
    ] or dated
    # What is only there once a payment went through is no time of all.
    whole = [column for column in named if frame[column].null_count() == 0] or named
    likeliest = min(map(names.is_paid_at, whole))
    some = [column for column in whole if names.is_paid_at(column) == likeliest]
    others = [column for column in some[1:] if (frame[column] != frame[some[0]]).any()]
    if not others:
        return some[0]
    shown = {column: f"such as {frame[column].drop_nulls()[0]}" for column in [some[0], *others]}
    return answers.of(Question("time", WHICH, shown, proposal=some[0]))


def _form(values_N: pl.Series) -> str:
    """What times a column may hold: "iso", "text", "epoch", "date", "number", or none."""
    if values_N.dtype.is_temporal() and values_N.dtype != pl.Time:
        return "typed"
    text_N = _sampled(values_N)
    if not len(text_N):
        return ""
    # What none of these is, more than nine in ten are not: most columns hold no times.
    some = _some(text_N)
    if all(DECIMAL.fullmatch(text) for text in some):
        return "number"
    if not (any(map(MAYBE.match, some)) or guesses.formats_of_any(some)):
        return "text" if _of_languages(text_N) else ""
    if guesses.share(text_N.str.contains(ISO)) == 1:
        return "iso"
    if guesses.share(text_N.str.contains(r"^\d+(\.\d+)?$")) > 0.9:
        whole_N = text_N.filter(text_N.str.contains(r"^\d+$"))
        lengths = whole_N.str.len_chars().unique().to_list()
        if len(lengths) == 1 and lengths[0] in guesses.EPOCHS:
            return "epoch"
        if len(lengths) == 1 and guesses.time_formats(whole_N.to_list()[:1000]):
            return "date" if lengths[0] == 8 else "text"
        return "number"
    steps = _steps(text_N)
    if steps == [[ISO_WORD]]:
        return "iso"
    return "text" if steps or _of_languages(text_N) else ""


def _some(text_N: pl.Series) -> list[str]:
    """Texts of the whole file: all of its first rows may be of May, which is long and short."""
    return text_N.gather_every(1 + len(text_N) // 50).to_list()


def _of_languages(text_N: pl.Series) -> dict[str, dict[str, str]]:
    """The languages by which times are read, and what words mean in them."""
    found = languages.languages_of(_some(text_N))
    return {
        language: words
        for language, words in found.items()
        if _steps(languages.translated(text_N, words))
    }


def _sampled(values_N: pl.Series) -> pl.Series:
    text = pl.lit(values_N).cast(pl.String).str.strip_chars()
    return pl.select(text.filter(text != "").head(SAMPLED)).to_series()


def _steps(text_N: pl.Series) -> list[list[str]]:
    """The formats that read most values: a few bad rows are no reason to see none.

    Each step has those that read the same of what the steps before it leave. "iso" is ISO 8601.
    """
    steps, rest_N = list[list[str]](), text_N
    while len(rest_N) and len(steps) < MOST_FORMATS:
        some = _some(rest_N)
        read = {ISO_WORD: rest_N.str.contains(ISO)}
        read |= {form: _is_of(rest_N, form) for form in guesses.formats_of_any(some)}
        best = max(read, key=lambda form: int(read[form].sum()))
        if not read[best].any():
            break
        same = [form for form in read if read[form].equals(read[best])]
        steps.append(same[:1] if best == ISO_WORD else same)
        rest_N = rest_N.filter(~read[best])
    return steps if len(rest_N) < 0.1 * len(text_N) else []


def _is_of(text_N: pl.Series, form: str) -> pl.Series:
    if form == ISO_WORD:
        return text_N.str.contains(ISO)
    return guesses.parsed(text_N, form).is_not_null()


def _date_parts(frame: pl.DataFrame) -> list[str]:
    """Year, month and day in columns of their own, and the clock beside them."""
    by_name = {names.plain(column): column for column in frame.columns}
    parts = [by_name.get(name) for name in ("year", "month", "day")]
    found = [part for part in parts if part is not None]
    return [*found, *_clock_beside(frame, found[-1])] if len(found) == 3 else []


def _clock_beside(frame: pl.DataFrame, date: str) -> list[str]:
    """The column of the time of day, where the date's has none."""
    if _sampled(frame[date]).str.contains(r"\d:\d\d").any():
        return []
    for column in frame.columns:
        if column != date and _is_clock(column, _sampled(frame[column])):
            return [column]
    return _clock_parts(frame)


def _clock_parts(frame: pl.DataFrame) -> list[str]:
    """Hour, minute and second in columns of their own."""
    by_name = {names.plain(column): column for column in frame.columns}
    found = []
    for called in CLOCK_PARTS:
        column = next((by_name[name] for name in called if name in by_name), None)
        if column is None or guesses.share(_sampled(frame[column]).str.contains(SIXTY)) < 1:
            break
        found.append(column)
    return found


def _is_clock(column: str, text_N: pl.Series) -> bool:
    is_called_so = CLOCK_NAME.fullmatch(names.plain(column)) is not None
    some = f"{CLOCK}|{BARE_CLOCK}" if is_called_so else CLOCK
    return guesses.share(text_N.str.contains(some)) > 0.9


def _of_columns(frame: pl.DataFrame, columns: list[str], answers: Answers) -> When:
    if len(columns) == 1:
        values_N, form = frame[columns[0]], _form(frame[columns[0]])
        if form in ("iso", "typed"):
            return When(columns, [], "ISO 8601" if form == "iso" else f"of type {values_N.dtype}")
        if form == "epoch":
            return _epoch(columns, values_N)
        if form in ("date", "number"):
            return _counted(columns, values_N, answers)
        text_N = _sampled(values_N)
    else:
        parts = [frame[column].cast(pl.String).str.strip_chars() for column in columns]
        joined = pl.DataFrame([part.alias(str(n)) for n, part in enumerate(parts)])
        text_N = _sampled(joined.select(pl.concat_str(pl.all(), separator=" ")).to_series())
    example = text_N[0] if len(text_N) else "nothing"
    text_N, lines = _in_english(text_N, answers)
    steps = _steps(text_N)
    if steps == [[ISO_WORD]]:
        return When(columns, [], "a date and a time of day")
    if not steps:
        raise ValueError(
            f"{', '.join(columns)} holds {example!r}, in no form of a time that is known here; "
            "write format under [time] of a spec yourself, as in strptime"
        )
    formats, why = _chosen_formats(text_N, steps, answers)
    line = formats[0] if len(formats) == 1 else formats
    return When(columns, [("format", line, why), *lines], f"such as {example}")


def _in_english(
    text_N: pl.Series, answers: Answers
) -> tuple[pl.Series, list[tuple[str, Any, str]]]:
    """Texts with the words of their language in English, where that lets more of them be read."""
    unread = _unread(text_N)
    found = _of_languages(text_N) if unread else {}
    english = {name: languages.translated(text_N, words) for name, words in found.items()}
    names_ = [name for name, as_english_N in english.items() if _unread(as_english_N) < unread]
    if not names_:
        return text_N, []
    language = names_[0]
    if len(names_) > 1:
        shown = {name: languages.name_of(name) for name in names_}
        text = f"In which language are times such as {text_N[0]}?"
        language = answers.of(Question("time.language", text, shown))
    return english[language], [("words", found[language], f"{languages.name_of(language)}")]


def _unread(text_N: pl.Series) -> int:
    """How many of the texts none of the formats reads that read most of them."""
    is_read_N = pl.repeat(False, len(text_N), eager=True)
    for [form, *_] in _steps(text_N):
        is_read_N |= _is_of(text_N, form)
    return int((~is_read_N).sum())


def _chosen_formats(
    text_N: pl.Series, steps: list[list[str]], answers: Answers
) -> tuple[list[str], str]:
    """The formats in the order in which they are tried; a question where values may be two days."""
    ways = [list(way) for way in product(*steps) if not _is_torn(way, steps)]
    if len(ways) == 1 and (doubtful := _doubtful(text_N, ways[0])):
        # Whoever writes the day first in some rows and last in others may mean either.
        first, second = doubtful
        rest = [form for form in ways[0] if form not in doubtful]
        ways += [[second, first, *rest], [first, *rest], [second, *rest]]
    if len(ways) == 1:
        several = f"{len(steps)} formats read every value, in this order"
        return ways[0], "reads every value" if len(steps) == 1 else several
    return _formats_by_question(text_N, ways, answers), "as answered"


def _is_torn(way: Sequence[str], steps: list[list[str]]) -> bool:
    """Whether a way has the day first in one format and the month in another, without need."""
    starts = {form[:2] for form, same in zip(way, steps, strict=True) if len(same) > 1}
    return {"%d", "%m"} <= starts


def _doubtful(text_N: pl.Series, way: list[str]) -> tuple[str, str] | None:
    """Two formats that read some value as two different times."""
    for first, second in combinations([form for form in way if form != ISO_WORD], 2):
        if (guesses.parsed(text_N, first) != guesses.parsed(text_N, second)).any():
            return first, second
    return None


def _formats_by_question(text_N: pl.Series, ways: list[list[str]], answers: Answers) -> list[str]:
    read = pl.DataFrame([_read_by(text_N, way).alias(OR.join(way)) for way in ways])
    first = pl.first()
    # One that distinguishes them, where there is any.
    differ_N = read.select(pl.any_horizontal(pl.nth(range(1, read.width)) != first)).to_series()
    n = differ_N.fill_null(False).arg_max() or 0
    most = max(map(len, ways))
    choices = {
        name: f"{_order(way)}{_day(read[name][n])}{', others cannot be read' * (len(way) < most)}"
        for name, way in zip(read.columns, ways, strict=True)
    }
    text = f"Times can be read in {len(ways)} ways. Which one is it, for {text_N[n]!r}?"
    return answers.of(Question("time.format", text, choices)).split(OR)


def _order(way: list[str]) -> str:
    start = next(form for form in way if form != ISO_WORD)[:2]
    return {"%d": "day first: ", "%m": "month first: "}.get(start, "")


def _read_by(text_N: pl.Series, way: list[str]) -> pl.Series:
    found = [pl.lit(guesses.parsed(text_N, form)) for form in way if form != ISO_WORD]
    return pl.select(pl.coalesce(found)).to_series()


def _day(time_us: int) -> str:
    at = datetime.fromtimestamp(time_us / 1_000_000, UTC)
    return f"{at.day} {at:%B %Y}"


def _epoch(columns: list[str], values_N: pl.Series) -> When:
    text = str(_sampled(values_N)[0])
    unit = guesses.EPOCHS[len(text.partition(".")[0])]
    lines = [] if unit == "seconds" and "." not in text else [("unit", unit, "since 1970")]
    return When(columns, lines, f"{unit} since 1970")


def _counted(columns: list[str], values_N: pl.Series, answers: Answers) -> When:
    """Numbers, whose meaning nothing in a file shows."""
    text_N = _sampled(values_N)
    number_N = text_N.cast(pl.Float64, strict=False)
    shown = "{!r}, from {:.10g} to {:.10g}".format(text_N[0], *_bounds(number_N))
    dates = {}
    if _form(values_N) == "date":
        for form in guesses.time_formats(text_N.to_list()):
            name = DATE if form == "%Y%m%d" else form
            dates[name] = f"a date: {_day(guesses.parsed(text_N.head(1), form)[0])}"
    if guesses.share(text_N.str.contains(r"^\d{6}$")) == 1:
        for form in SHORT_DATES:
            if (us_N := guesses.parsed(text_N, form)).null_count() == 0:
                dates[form] = f"a date: {_day(us_N[0])}"
    low, high = _bounds(number_N)
    if SPREADSHEET_DAYS[0] <= low and high <= SPREADSHEET_DAYS[1]:
        day = SPREADSHEET_ORIGIN + timedelta(days=low)
        dates[SPREADSHEET] = f"days as spreadsheets count them: {day.day} {day:%B %Y} is the first"
    choices = {**dates, **{unit: f"{unit} since a start" for unit in UNITS}}
    choices[ORDER] = "nothing but the order of rows: taken for minutes"
    unit = answers.of(Question("time.unit", f"What does {columns[0]} count ({shown})?", choices))
    if unit == SPREADSHEET:
        counted = [("unit", "days", "as answered"), ("origin", SPREADSHEET_ORIGIN, "as answered")]
        return When(columns, counted, "days as spreadsheets count them")
    if unit in dates:
        form = "%Y%m%d" if unit == DATE else unit
        return When(columns, [("format", form, "as answered")], "dates without marks")
    origin = answers.of(
        Question(
            "time.origin",
            f"When was 0 of {columns[0]}? A day or a time such as 2024-01-01, UTC. Hours of the "
            "day and days of the week follow from it",
            check=_no_time,
            proposal="2024-01-01",
        )
    )
    at = datetime.fromisoformat(origin)
    why = "as answered"
    if unit == ORDER:
        unit, why = "minutes", "only an order: how far apart payments are says nothing"
    lines = [("unit", unit, why), ("origin", at, "as answered")]
    return When(columns, lines, "a count")


def _bounds(number_N: pl.Series) -> tuple[float, float]:
    low, high = (float(bound) for bound in np.nanpercentile(number_N.to_numpy(), [0, 100]))
    return low, high


def _no_time(text: str) -> str | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return f"{text!r} is not a day such as 2024-01-01"
    return None if at.year in YEARS else f"payments are not of the year {at.year}"


def _has_offsets(frame: pl.DataFrame, found: When) -> bool:
    [column, *more] = found.columns
    dtype = frame[column].dtype
    if isinstance(dtype, pl.Datetime):
        return dtype.time_zone is not None
    if found.why.startswith("seconds since"):
        return True
    text_N = _sampled(frame[more[-1] if more else column])
    if (formats := _formats_of(found)) and all("%z" in form for form in formats):
        return True
    return bool(len(text_N) and guesses.share(text_N.str.contains(OFFSET_AT_END)) == 1)


def _formats_of(found: When) -> list[str]:
    formats = [value for key, value, _ in found.lines if key == "format"]
    return [form for some in formats for form in ([some] if isinstance(some, str) else some)]


def _add_zone(
    draft: Draft, frame: pl.DataFrame, found: When, answers: Answers, taken: set[str]
) -> None:
    zone = answers.stated("time.zone")
    if zone is not None:
        draft.add("time", "zone", zone, "as answered")
        return
    if any(form.endswith("%Z") for form in _formats_of(found)):
        _add_zone_of_words(draft, _sampled(frame[found.columns[-1]]), answers)
        return
    some = [column for ranked in candidates("zone", frame.columns, taken) for column in ranked]
    if some:
        _add_zone_column(draft, frame, some[0], answers)
        taken.add(some[0])
    elif any(re.search(r"(?i)\b(utc|gmt)\b", column) for column in found.columns):
        draft.add("time", "zone", "UTC", "by the column's name")
    else:
        why = "times name no zone and are taken for UTC; say theirs, such as Europe/Berlin"
        draft.add("time", "zone", "UTC", why)


def _add_zone_of_words(draft: Draft, text_N: pl.Series, answers: Answers) -> None:
    """The zone that the last words of times name; sure of a place's winter and summer together."""
    words = text_N.str.extract(r" ([A-Z]{2,5})$").drop_nulls().unique().sort().to_list()
    if place := names.SEASONS.get(frozenset(words)):
        draft.add("time", "zone", place, f"where clocks show {' and '.join(words)}")
        return
    places = [place for season, place in names.SEASONS.items() if season >= set(words)]
    choices = dict.fromkeys(places, "that place, with its summer time")
    if len(words) == 1 and (offset := names.ZONES.get(words[0])):
        choices[offset] = "that offset all year"
    zone = answers.of(
        Question(
            "time.zone",
            f"Times end in {', '.join(words)}. Which zone is it? A name such as Asia/Kolkata or an "
            "offset",
            choices,
            _no_zone,
        )
    )
    draft.add("time", "zone", zone, "as answered")


def _add_zone_column(draft: Draft, frame: pl.DataFrame, column: str, answers: Answers) -> None:
    """Each row's own zone; a question for words that mean several."""
    draft.add("time", "zone_column", column, "each row names its own")
    words = _sampled(frame[column]).unique().sort().to_list()
    meanings = {}
    for word in words:
        if "/" in word or word in ("UTC", "GMT") or re.fullmatch(r"[+-]\d\d:?\d\d", word):
            continue
        offset, place = names.ZONES.get(word.upper()), names.PLACES.get(word.upper())
        sure = [meaning for meaning in (offset, place) if meaning is not None]
        if len(sure) == 1:
            meanings[word] = sure[0]
            continue
        choices = {}
        if offset is not None and place is not None:
            choices = {offset: "that offset all year", place: "that place, with its summer time"}
        meanings[word] = answers.of(
            Question(
                f"time.zones.{word}",
                f"What does the time zone {word} mean? A name such as Asia/Kolkata or an offset",
                choices,
                _no_zone,
                next(iter(choices), None),
            )
        )
    if meanings:
        draft.add("time", "zones", meanings, "what its words mean")


def _no_zone(text: str) -> str | None:
    if "/" in text or text in ("UTC", "GMT") or re.fullmatch(r"[+-]\d\d:?\d\d", text):
        return None
    return f"{text!r} is neither a name such as Europe/Paris nor an offset such as +01:00"

"""What stands around the values of a file: packing, encoding, delimiter, lines before and after."""

import csv
import io
import re
from collections import Counter
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from app import objects
from app.learner.spelling import COMPRESSION, File
from app.training.files import DELIMITERS, FORMATS, Content, DataError, unescaped
from app.training.inspection.draft import Draft
from app.training.inspection.questions import Answers, Question

MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}
MAGIC |= {b"\x28\xb5\x2f\xfd": "zstd"}
# What is no text, and what to do with it.
OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; take the file to read out of it",
    b"Rar!": "a rar archive; take the file to read out of it",
    b"SQLite format 3": "an SQLite database; write the table to read as CSV or Parquet",
    b"%PDF": "a PDF; export the table itself, as CSV",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"FEA1": "a Feather file; write it as Parquet",
    b"\x80\x04": "a pickle of Python; write it as Parquet",
    b"\x80\x05": "a pickle of Python; write it as Parquet",
}
SAMPLE_CHARACTERS = 1 << 18
TAIL_RECORDS = 20
# The encoding that reads anything.
ANY_BYTES = "latin-1"
# What Western exports are written in, and what else a person may know of theirs.
ENCODINGS = {
    "cp1252": "Western Europe, Windows",
    "cp1250": "Central Europe, Windows",
    "cp1251": "Cyrillic, Windows",
    "cp932": "Japanese, Windows",
    "gb18030": "Chinese",
}
TOTALS = re.compile(
    r"(?i)\W*(sub|grand)?[ -]?(total|sum|summe?|gesamt|somme|suma|totale|rows?|count)\b"
)
JSON = re.compile(r"\s*(\{\s*\"|\[\s*\{)")
VALUE = re.compile(r"[-+$€£(]*\d[\d.,:/ -]*\)?|")


class NoRows(Exception):
    """A text is not divided into rows, for the reason in the sentence."""


class Form(NamedTuple):
    """The settings under [file], and why each is as it is.

    `year_from` is the first day of the year that a file of DATEV says its days are of.
    """

    file: File
    reasons: dict[str, str]
    year_from: date | None = None


def guessed_form(path: Path, answers: Answers) -> Form:
    """The form of a file. Raises DataError where it is none that can be read."""
    found: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if path.is_dir():
        raise DataError(f"{path}: a folder; inspect one of its files, whose spec reads them all")
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    with path.open("rb") as file:
        head = file.read(64)
    _check_kind(path, head)
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "none")
    if packed != (COMPRESSION.get(suffixes[-1], "none") if suffixes else "none"):
        found["compression"], reasons["compression"] = packed, "by its first bytes"
    if head.startswith(b"PAR1"):
        if suffixes[-1:] != [".parquet"]:
            found["format"], reasons["format"] = "parquet", "by its first bytes"
        return Form(File(**found), reasons)
    suffix = (
        suffixes[-1] if suffixes and suffixes[-1] not in COMPRESSION else "".join(suffixes[-2:-1])
    )
    unpacked = {"compression": found["compression"]} if "compression" in found else {}
    content = Content(path, File(**unpacked, format="csv", encoding="latin-1")).unpacked()
    encoding = _encoding(content, answers)
    if encoding != "utf-8":
        found["encoding"], reasons["encoding"] = encoding, "not UTF-8"
    try:
        text = content.decode(encoding).removeprefix("\ufeff")
        if JSON.match(text[:1000]):
            if FORMATS.get(suffix) != "json":
                found["format"], reasons["format"] = "json", "by its first characters"
            _find_records(text, found, reasons, answers)
            return Form(File(**found), reasons)
        if suffix not in DELIMITERS:
            found["format"], reasons["format"] = "csv", "text, whatever its suffix"
        _check_text(text)
        if "\r" in text and "\n" not in text:
            found["line_end"], reasons["line_end"] = "\r", "CR alone, as on an old Mac"
            text = text.replace("\r", "\n")
        _divide(text, DELIMITERS.get(suffix, ","), found, reasons)
    except (UnicodeDecodeError, csv.Error, NoRows, objects.Unparsable) as error:
        raise DataError(f"{path}: cannot be read as rows of text: {error}") from error
    return Form(File(**found), reasons, _year_of_datev(text))


def _year_of_datev(text: str) -> date | None:
    """The first day of the business year, by the line above the names of a file of DATEV."""
    started = re.match(r'"?(?:EXTF|DTVF)"?;(?:[^;\n]*;){11}"?(\d{4})(\d\d)(\d\d)"?;', text)
    try:
        return date(*map(int, started.groups())) if started else None
    except ValueError:
        return None


def _check_kind(path: Path, head: bytes) -> None:
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: {what}")
    is_workbook = path.suffix.lower() in (".xlsx", ".xlsm", ".xls", ".ods")
    if is_workbook or head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(f"{path}: a workbook; save its sheet as CSV in UTF-8, and inspect that")


def _find_records(
    text: str, found: dict[str, Any], reasons: dict[str, str], answers: Answers
) -> None:
    """Where the rows are in a document that is no list of them, as APIs answer."""
    is_long = len(list(islice(objects.lines(text), 2))) > 1
    is_many = is_long and objects.is_by_line(io.StringIO(text))
    is_page = re.match(r'\s*\{\s*"object": ?"list"', text) is not None
    if is_many and not is_page:
        return
    some = objects.lists_of(text)
    if not some:
        return
    if len(some) == 1:
        found["records"], reasons["records"] = some[0], "the only list of objects in it"
        return
    question = "Which list in the document has the transactions?"
    choices = dict.fromkeys(some, "this list")
    found["records"] = answers.of(Question("records", question, choices))
    reasons["records"] = "as answered"


def _check_text(text: str) -> None:
    start = text[:1000].lstrip()
    if re.match(r"(?i)<(\?xml|!doctype|html|table)", start):
        raise NoRows("it is HTML or XML; save it as CSV in UTF-8, and inspect that")


def _encoding(content: bytes, answers: Answers) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    head = content[:2000]
    if head.count(0) > len(head) / 4:
        return "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
    try:
        content.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        around = re.split(rb"[\r\n]", content[max(0, error.start - 20) : error.start + 20])
        shown = max(around, key=lambda part: sum(byte > 127 for byte in part))
    fitting = {name: where for name, where in ENCODINGS.items() if _decodes(content, name)}
    choices = {
        name: f"{shown.decode(name, 'replace')!r} ({where})" for name, where in fitting.items()
    }
    return answers.of(
        Question(
            "encoding",
            "The file is not UTF-8. In which encoding is it?",
            choices,
            lambda name: _no_encoding(content, name),
            next(iter(fitting), ANY_BYTES),
        )
    )


def _no_encoding(content: bytes, name: str) -> str | None:
    try:
        File(encoding=name)
    except ValueError:
        return "there is no such encoding"
    return None if _decodes(content, name) else f"the file is not {name}"


def _decodes(content: bytes, name: str) -> bool:
    try:
        content.decode(name)
    except UnicodeDecodeError:
        return False
    return True


def _divide(text: str, usual: str, found: dict[str, Any], reasons: dict[str, str]) -> None:
    """Delimiter, quotes, and what stands before and after the rows."""
    sample = text[:SAMPLE_CHARACTERS]
    if len(text) > len(sample):
        sample = sample[: sample.rfind("\n") + 1]
    stated = re.match(r"sep=(.)\r?\n", sample)
    delimiter = stated[1] if stated else _delimiter(sample)
    if delimiter != usual:
        found["delimiter"], reasons["delimiter"] = delimiter, "the same number in each line"
    if _is_single_quoted(sample, delimiter):
        found["quote"], reasons["quote"] = "'", "values stand in single quotes"
    elif '"' in sample and not re.search(rf'(^|{re.escape(delimiter)}) *"', sample, re.MULTILINE):
        found["quote"], reasons["quote"] = "", "no value begins with one: they are inches"
    quote = found.get("quote", '"')
    if _has_escapes(sample, delimiter):
        found["escape"], reasons["escape"] = "\\", "stands before quotes inside of values"
        text, sample = unescaped(text, "\\"), unescaped(sample, "\\")
    records = _records(sample, delimiter, quote)
    width = _usual_width(records)
    first = next((n for n, (_, fields) in enumerate(records) if len(fields) == width), None)
    if first is None:
        raise NoRows("there is no line in it" if not text.strip() else "its first line has no end")
    before = records[first - 1][0] if first else 0
    if before:
        found["skip_lines"] = before
        reasons["skip_lines"] = f"lines before the names: {sample.splitlines()[0][:40]!r} …"
    names = records[first][1]
    if _end_with_nothing(records, first, width):
        # The line of names is among those before: it has no delimiter at its end.
        found["header"] = (*records[first - 1][1], f"column_{width}")
        reasons["header"] = "the file's own names; each row ends with a delimiter, they do not"
    elif sum(VALUE.fullmatch(name.strip()) is not None for name in names) > width / 3:
        found["header"] = tuple(f"column_{n}" for n in range(1, width + 1))
        reasons["header"] = "the first line holds values; give the columns their names"
    after = _footer(text, delimiter, quote, width)
    if after:
        found["footer_lines"] = after
        last = text.rstrip("\r\n").splitlines()[-after]
        reasons["footer_lines"] = f"{last[:40]!r} is not a row"


def _end_with_nothing(records: list[tuple[int, list[str]]], first: int, width: int) -> bool:
    """Whether all rows have one field more than the line of names before them, and it is empty."""
    if not first or len(records[first - 1][1]) != width - 1:
        return False
    return all(not fields[-1] for _, fields in records[first:] if len(fields) == width)


def _records(text: str, delimiter: str, quote: str) -> list[tuple[int, list[str]]]:
    """Each record with the line at which it ends."""
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=delimiter,
        quotechar=quote or None,
        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
    )
    return [(reader.line_num, fields) for fields in reader]


def _usual_width(records: list[tuple[int, list[str]]]) -> int:
    widths = Counter(len(fields) for _, fields in records if any(fields))
    # Of two rows of values and a line of names, whatever stands before is less.
    return max(widths, key=lambda width: (widths[width] * (width > 1), width), default=1)


def _delimiter(sample: str) -> str:
    """The one that gives most lines the same number of fields."""
    return max((",", ";", "\t", "|"), key=lambda delimiter: _fit(sample, delimiter))


def _fit(sample: str, delimiter: str) -> tuple[float, int]:
    """The share of rows of the usual number of fields, and that number."""
    try:
        records = _records(sample, delimiter, '"')
    except csv.Error:
        return 0.0, 0
    filled = [fields for _, fields in records if any(fields)]
    width = _usual_width(records)
    same = sum(len(fields) == width for fields in filled) / max(len(filled), 1)
    return (round(same, 1), width) if width > 1 else (0.0, 0)


def _has_escapes(sample: str, delimiter: str) -> bool:
    """Whether quotes inside of values have a backslash before them, as MySQL writes them."""
    if '\\"' not in sample:
        return False
    names = next(csv.reader([sample.partition("\n")[0]], delimiter=delimiter), [])
    rows = [fields for _, fields in _records(unescaped(sample, "\\"), delimiter, '"')]
    return all(len(fields) in (0, len(names)) for fields in rows)


def _is_single_quoted(sample: str, delimiter: str) -> bool:
    if '"' in sample:
        return False
    fields = [
        field.strip() for line in sample.splitlines()[1:50] for field in line.split(delimiter)
    ]
    quoted = [field for field in fields if len(field) > 1 and field[0] == field[-1] == "'"]
    return len(quoted) > len(fields) / 5


def _footer(text: str, delimiter: str, quote: str, width: int) -> int:
    """Lines at the end that are no rows: of another width, or totals."""
    lines = text.rstrip("\r\n").splitlines()[-TAIL_RECORDS:]
    starts = [line.partition(delimiter)[0] for line in lines[1:]]
    is_first_filled = sum(start.strip() == "" for start in starts) <= len(starts) / 4
    count = 0
    for line in reversed(lines[1:]):
        fields = next((fields for _, fields in _records(line, delimiter, quote)), [])
        if len(fields) == width and not _is_total(fields, is_first_filled):
            break
        # A line without anything inside a quoted field is no footer.
        if len(fields) > width:
            return 0
        count += 1
    return count if count < len(lines) - 1 else 0


def _is_total(fields: list[str], is_first_filled: bool) -> bool:
    """Whether a line sums up what is above it: by a word, or by having little but a sum."""
    start = next((field for field in fields if field.strip()), "")
    is_named = TOTALS.match(start) is not None and "" in fields
    return is_named or (
        is_first_filled and not fields[0].strip() and fields.count("") >= len(fields) / 2
    )


def add_form(draft: Draft, form: Form) -> None:
    for key, reason in form.reasons.items():
        draft.add("file", key, getattr(form.file, key), reason)

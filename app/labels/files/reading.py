"""A file of labels, row by row: what each states, and why some cannot be used."""

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

from app import objects
from app.errors import SetupError
from app.labels.files.dates import instant_of
from app.labels.files.layout import ANY, PLAIN, PLAIN_UNDATED, LabelLayout, word_of
from app.learner.validity import ID

LONGEST_VALUE = 128
COLUMNS_SHOWN = 40
MOST_COLUMNS = 1000


class UnreadableLabels(SetupError, ValueError):
    """A file of labels that cannot be used; the sentence says why."""


class StatedLabel(NamedTuple):
    """A label of a row; `known_at_us` is None where the file has no dates.

    Rows are counted from 1 below the header, blank ones too, and lines from 1 of the whole file;
    the line is 0 where rows have none.
    """

    row: int
    line: int
    transaction_id: str
    is_fraud: bool
    known_at_us: int | None


class RefusedRow(NamedTuple):
    """A row that is not stored, and what is wrong with it."""

    row: int
    line: int
    column: str | None
    value: str | None
    message: str
    code: str = "validation_failed"


@dataclass
class LabelFile:
    """What a file of labels holds; `unknown` counts the rows whose words say nothing."""

    labels: list[StatedLabel] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """How many rows there are, without those that the layout leaves aside."""
        return len(self.labels) + len(self.refused) + self.unknown.total()


def read_labels(
    lines: Iterable[str],
    layout: LabelLayout | None,
    most_rows: int | None = None,
    is_json: bool = False,
) -> LabelFile:
    """All rows of a file, by a layout or else by its header: transaction, label and perhaps date.

    Raises UnreadableLabels where the file as a whole makes no sense, or has more rows.
    """
    [whole] = label_blocks(lines, layout, sys.maxsize, most_rows, is_json)
    return whole


def label_blocks(
    lines: Iterable[str],
    layout: LabelLayout | None,
    size: int,
    most_rows: int | None = None,
    is_json: bool = False,
) -> Iterator[LabelFile]:
    """The same in blocks of so many labels: one at least, and the last may have fewer.

    With `is_json` each line is an object.
    """
    rows = _rows_of_objects(lines, layout) if is_json else _rows_of_csv(lines, layout)
    yield from _blocks(rows, layout, size, most_rows)


# The line at which a row ends, and its fields; those of the first are the names of columns.
Row = tuple[int, list[str]]


def _rows_of_csv(lines: Iterable[str], layout: LabelLayout | None) -> Iterator[Row]:
    lines = iter(lines)
    skipped = layout.file.skip_lines if layout else 0
    for _ in range(skipped):
        next(lines, None)
    delimiter = layout.file.delimiter if layout else ","
    quote = layout.file.quote if layout else '"'
    if quote:
        reader = csv.reader(lines, delimiter=delimiter, quotechar=quote, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    try:
        for fields in reader:
            yield reader.line_num + skipped, fields
    except csv.Error as error:
        raise UnreadableLabels(
            f"line {reader.line_num + skipped}: {error}; is it CSV, with the delimiter "
            f"{delimiter!r}?"
        ) from None


def _rows_of_objects(lines: Iterable[str], layout: LabelLayout | None) -> Iterator[Row]:
    """The first object names the columns, and the layout those that it may lack."""
    names = list[str]()
    for number, line in enumerate(lines, start=1):
        try:
            found = objects.flat(line.removeprefix(objects.MARK)) if line.strip() else {}
        except objects.Unparsable as error:
            raise UnreadableLabels(f"line {number}: {error}") from None
        if not names:
            names = list(dict.fromkeys([*found, *(_all_named(layout) if layout else ())]))
            yield number, list(map(_writable, names))
        elif layout is None and (
            later := next((name for name in found if name not in names), None)
        ):
            # Labels without a date are known now: one that comes later must not be passed over.
            raise UnreadableLabels(
                f"line {number}: {later[:LONGEST_VALUE]!r} is not in the first object, which names "
                "the columns"
            )
        yield number, [found.get(name, "") for name in names]


def _writable(text: str) -> str:
    """A text to be shown: JSON can spell halves of characters, which nobody can write."""
    return text.encode("utf-8", "replace").decode()


class _Reader(NamedTuple):
    """The columns of a file: positions of those that say something, and of those to go by."""

    layout: LabelLayout
    header: Sequence[str]
    transaction: int
    label: int | None
    date: int | None
    conditions: Sequence[tuple[int, frozenset[str]]]
    zone: int | None

    def counts(self, fields: Sequence[str]) -> bool:
        """Whether the layout has something to say of this row."""
        return all(
            position < len(fields) and fields[position].strip() in values
            for position, values in self.conditions
        )

    def refusal(self, fields: Sequence[str]) -> tuple[int | None, str] | None:
        """The column that cannot be used, and why."""
        if len(fields) > len(self.header):
            return None, f"it has {len(fields)} fields and the header {len(self.header)}"
        for position in (self.transaction, self.label, self.date):
            if position is not None and (position >= len(fields) or not fields[position]):
                return position, "it is empty"
        return None


def _blocks(
    rows: Iterator[Row], layout: LabelLayout | None, size: int, most_rows: int | None
) -> Iterator[LabelFile]:
    _, names = next(rows, (0, []))
    if len(names) > MOST_COLUMNS:
        raise UnreadableLabels(f"the header has {len(names):,} columns, more than {MOST_COLUMNS:,}")
    header = [name.strip() for name in names]
    if layout is None:
        header = [name.lower() for name in header]
    columns = _columns(header, layout or _plain(header))
    found = LabelFile()
    for row, (line, fields) in enumerate(rows, start=1):
        if most_rows is not None and row > most_rows:
            raise UnreadableLabels(
                f"the file has more than {most_rows:,} rows: send it in parts, or store it by "
                "`quickstudy labels`"
            )
        if any(fields) and columns.counts(fields):
            _add(found, columns, row, line, fields)
        if len(found.labels) >= size:
            yield found
            found = LabelFile()
    yield found


def _add(found: LabelFile, columns: _Reader, row: int, line: int, fields: Sequence[str]) -> None:
    """Count one row as what it is."""

    def refuse(position: int | None, message: str) -> None:
        name = None if position is None else columns.header[position]
        value = fields[position] if position is not None and position < len(fields) else None
        shown = None if value is None else _writable(value[:LONGEST_VALUE])
        found.refused.append(RefusedRow(row, line, name, shown, message))

    if (wrong := columns.refusal(fields)) is not None:
        refuse(*wrong)
        return
    layout, is_fraud = columns.layout, columns.layout.label.every == "fraud"
    if columns.label is not None:
        word = word_of(fields[columns.label])
        meaning = layout.words.get(word, layout.words.get(ANY, word))
        if isinstance(meaning, str):
            refuse(columns.label, _unknown_word(layout))
            return
        if meaning is None:
            found.unknown[fields[columns.label].strip()] += 1
            return
        is_fraud = meaning
    position = columns.transaction
    try:
        id_ = ID.check(fields[position])
        known_at_us = None
        if columns.date is not None:
            position = columns.date
            known_at_us = _known_at(fields, columns)
    except ValueError as error:
        refuse(position, str(error))
        return
    found.labels.append(StatedLabel(row, line, id_, is_fraud, known_at_us))


def _known_at(fields: Sequence[str], columns: _Reader) -> int:
    assert columns.date is not None
    zone = columns.zone
    word = None if zone is None or zone >= len(fields) else fields[zone].strip()
    return instant_of(fields[columns.date].strip(), columns.layout.time, word)


def _unknown_word(layout: LabelLayout) -> str:
    """What to do about a word that the layout does not know."""
    if layout in (PLAIN, PLAIN_UNDATED):
        return "a label is fraud or legitimate, 1 or 0, true or false"
    return (
        "the spec does not have this word: name it under [label], as fraud, legitimate or unknown"
    )


def _plain(header: Sequence[str]) -> LabelLayout:
    """The layout of a file that needs no spec. Raises UnreadableLabels for any other."""
    layout = PLAIN if "date" in header else PLAIN_UNDATED
    columns_ = set(_named(layout))
    if others := [name for name in header if name not in columns_]:
        raise UnreadableLabels(
            f"unknown column {others[0][:LONGEST_VALUE]!r}: without a spec the columns are "
            f"transaction, label and date; other files need a spec{_in_spec(header)}"
        )
    return layout


def _in_spec(header: Sequence[str]) -> str:
    """What the spec has to say of a file whose columns are not divided, or come later."""
    [first, *_] = header
    if first.startswith("sep="):
        return ': skip_lines = 1 under [file] passes over "sep="'
    if len(header) == 1 and (other := next((mark for mark in ";\t|" if mark in first), None)):
        written = "\\t" if other == "\t" else other
        return f': delimiter = "{written}" under [file] would divide the columns'
    return ""


def _columns(header: Sequence[str], layout: LabelLayout) -> _Reader:
    shown = ", ".join(header[:COLUMNS_SHOWN])[:1000]
    for name in _all_named(layout):
        if header.count(name) != 1:
            problem = "there are several columns" if name in header else "there is no column"
            raise UnreadableLabels(f'{problem} "{name}"; the header has: {shown}')
    names, zone = layout.columns, layout.time.zone_column
    return _Reader(
        layout,
        header,
        header.index(names.transaction),
        None if names.label is None else header.index(names.label),
        None if names.date is None else header.index(names.date),
        [(header.index(name), frozenset(values)) for name, values in layout.rows.only.items()],
        None if zone is None else header.index(zone),
    )


def _all_named(layout: LabelLayout) -> Iterator[str]:
    return chain(_named(layout), layout.rows.only)


def _named(layout: LabelLayout) -> Iterator[str]:
    columns, zone = layout.columns, layout.time.zone_column
    return (name for name in (columns.transaction, columns.label, columns.date, zone) if name)

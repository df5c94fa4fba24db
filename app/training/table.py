"""The columns of a file that a spec names, and the messages for what is wrong with a row.

Axis: N rows of the file.
"""

import difflib
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.spec import DatasetSpec
from app.learner.spelling import Named, RowNumber, columns_of_name
from app.learner.transaction import category_text
from app.training.files import Content, DataError, base_of, contents_of

COLUMNS_SHOWN = 40
# Of more bad rows than this share a file is not read rightly, and leaving them out is no help.
MOST_LEFT_OUT = 0.5


class BadRows(Exception):
    """Rows of a file that are to be left out, for one reason.

    `is_by_spec` where the spec says that they are no transactions: what cannot be read is more.
    """

    def __init__(
        self,
        columns: Named,
        rows: NDArray[np.int64],
        fault: str,
        first: str,
        is_by_spec: bool = False,
    ) -> None:
        super().__init__(first)
        self.columns, self.rows, self.fault, self.first = columns, rows, fault, first
        self.is_by_spec = is_by_spec

    def widened(self, rows: NDArray[np.int64]) -> "BadRows":
        return BadRows(self.columns, rows, self.fault, self.first, self.is_by_spec)

    def among(self, table: "Table") -> NDArray[np.bool_]:
        """Which rows of a table these are."""
        return np.isin(table.row_N, self.rows)


class Piece(NamedTuple):
    """One file of a table, and the number of its first row in the table, from 0."""

    content: Content
    first: int

    def place(self, row: int) -> tuple[int, int | None]:
        """A row of the table by its number in this file, and its line there, both from 1."""
        own = row - self.first
        return own + 1, self.content.lines_of([own]).get(own)


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file, or of several, that the spec names, and where each row stands."""

    path: Path
    pieces: tuple[Piece, ...]
    spec: DatasetSpec
    frame: pl.DataFrame
    row_N: NDArray[np.int64]  # From 0, blank lines of a CSV file counted as rows too.
    # Rows with more fields than the header, or that are not JSON, where such are left out.
    broken: frozenset[int] = frozenset()

    @classmethod
    def read(cls, path: Path, spec: DatasetSpec) -> "Table":
        """A file, or the files of a folder or a pattern one after the other.

        Raises DataError where one of them cannot be read, or none has a transaction.
        """
        tables = list(cls.chunks(path, spec))
        row_N = np.concatenate([table.row_N for table in tables])
        if not len(row_N):
            raise DataError(f"{path}: there is no transaction in it")
        broken = frozenset[int]().union(*(table.broken for table in tables))
        return cls(path, tables[-1].pieces, spec, _joined(tables), row_N, broken)

    @classmethod
    def chunks(
        cls, path: Path, spec: DatasetSpec, most: int | None = None, aside: Path | None = None
    ) -> "Iterator[Table]":
        """The same in tables one after the other, of `most` rows.

        Without a folder `aside`, where text is put meanwhile, a file of text is one table.
        """
        pieces, first = tuple[Piece, ...](), 0
        for content in contents_of(path, spec.file):
            pieces = (*pieces, Piece(content, first))
            with content.cut(most, aside) as ranges:
                for rows in ranges:
                    frame, blank_N, broken = _read(content, spec, rows)
                    row_N = np.flatnonzero(~blank_N)
                    whole = frame if len(row_N) == len(frame) else frame[row_N]
                    bad = frozenset(first + row for row in broken)
                    yield cls(path, pieces, spec, whole, row_N + first, bad)
                    first += len(frame)

    def __len__(self) -> int:
        return len(self.row_N)

    def __getitem__(self, column: str) -> pl.Series:
        return self.frame[column]

    def text(self, named: Named | RowNumber, between: str) -> pl.Series:
        """The values of a column, or of several as one text; null where one of them is missing."""
        if isinstance(named, RowNumber):
            return pl.Series([f"{named.row_number}{row + 1}" for row in self.row_N.tolist()])
        parts = [texts(self[column]) for column in columns_of_name(named)]
        if len(parts) == 1:
            return parts[0]
        frame = pl.DataFrame([part.alias(str(n)) for n, part in enumerate(parts)])
        return frame.select(pl.concat_str(pl.all(), separator=between)).to_series()

    def filter(self, keep_N: pl.Series) -> "Table":
        row_N = self.row_N[keep_N.to_numpy()]
        return replace(self, frame=self.frame.filter(keep_N), row_N=row_N)

    def piece(self, row: int) -> Piece:
        """The file in which a row of the table stands."""
        return self.pieces[bisect_right([piece.first for piece in self.pieces], row) - 1]

    def name(self, piece: Piece) -> str:
        """How a file is called beside the others."""
        return str(piece.content.path.relative_to(base_of(self.path)))

    def place(self, position: int) -> str:
        piece = self.piece(int(self.row_N[position]))
        row, line = piece.place(int(self.row_N[position]))
        file = f"{self.name(piece)}, " if piece.content.path != self.path else ""
        return f"{file}row {row}" + (f" (line {line})" if line else "")

    def refuse(
        self,
        named: Named,
        bad_N: pl.Series,
        fault: str,
        because: Callable[[object], str] | None = None,
        cure: Callable[[object], str] | None = None,
        shown_N: pl.Series | None = None,
    ) -> None:
        """Raise DataError about the first row, in the order of the file, where `bad_N` holds.

        `because` says what is wrong with its value (`fault` where it does not), `cure` which line
        of the spec would help, and `shown_N` are the values where they are not the column's own.
        Raises BadRows where the spec leaves rows out that cannot be read.
        """
        position = bad_N.arg_max()
        if position is None or not bad_N[position]:
            return
        columns = columns_of_name(named)
        value = (self[columns[0]] if shown_N is None else shown_N)[position]
        names = ", ".join(f'"{column}"' for column in columns)
        reason = because(value) if because else fault
        place = f"{self.place(position)}, column{'s' * (len(columns) > 1)} {names}: {reason}"
        if self.spec.rows.leave_out:
            raise BadRows(named, self.row_N[bad_N.to_numpy()], fault, place)
        help_ = (cure(value) if cure else "") or self._leaving_out(int(bad_N.sum()))
        raise DataError(f"{self.path}: {place}{help_ and '; '}{help_}")

    def _leaving_out(self, bad: int) -> str:
        """The line of the spec that leaves so many rows out, where these are a few of many."""
        if bad > MOST_LEFT_OUT * len(self):
            return ""
        share = math.ceil(bad / len(self) * 1000) / 1000
        return f"leave_out = {share:g} under [rows] leaves such rows out ({bad:,} of {len(self):,})"


def _read(
    content: Content, spec: DatasetSpec, rows: tuple[int, int | None]
) -> tuple[pl.DataFrame, NDArray[np.bool_], frozenset[int]]:
    """The columns that the spec names, which rows are blank, and which are no rows of its form."""
    broken = frozenset[int]()
    try:
        header, used = content.header(), columns_used(spec)
        _check_columns(content, [*header, *content.partition], spec)
        written = [name for name in used if name in header]
        try:
            frame = content.frame(written, rows=rows)
        except pl.exceptions.PolarsError:
            broken = frozenset(content.broken(len(header)))
            if not (broken and spec.rows.leave_out):
                raise
            frame = content.frame(written, truncated=True)
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        raise DataError(_unreadable(content, error)) from None
    frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
    for name, dtype in frame.schema.items():
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise DataError(f'{content.path}: column "{name}" holds {dtype}, not plain values')
    blank_N = np.zeros(len(frame), np.bool_)
    if content.is_csv and frame.width:
        # A blank line of a CSV file arrives as a row of nulls.
        blank_N = frame.select(pl.all_horizontal(pl.all().is_null())).to_series().to_numpy()
    of_folders = [name for name in used if name not in header]
    values = [pl.lit(content.partition[name], pl.String).alias(name) for name in of_folders]
    return frame.with_columns(values).select(used), blank_N, broken


def _joined(tables: Sequence[Table]) -> pl.DataFrame:
    """The rows of all tables; integers of some and fractions of others are fractions."""
    first = tables[0]
    for table in tables[1:]:
        for name, dtype in table.frame.schema.items():
            expected = first.frame.schema[name]
            if dtype != expected and not (dtype.is_numeric() and expected.is_numeric()):
                raise DataError(
                    f'{table.pieces[-1].content.path}: column "{name}" holds {dtype}, and '
                    f"{expected} in {first.pieces[0].content.path.name}: write all files with the "
                    "same types"
                )
    return pl.concat([table.frame for table in tables], how="vertical_relaxed")


def columns_used(spec: DatasetSpec) -> list[str]:
    """The columns of a file that a spec names, each once."""
    columns, named = spec.columns, list[str]()
    for parts in (columns.transaction, columns.account, columns.time):
        named += [] if isinstance(parts, RowNumber) else columns_of_name(parts)
    optional = columns.model_dump(exclude={"transaction", "account", "time"}, exclude_none=True)
    named += [*optional.values(), *spec.rows.only]
    label = spec.label
    others = (label.delay_column, label.payment, label.payment_id, spec.time.zone_column)
    named += [*label.chargebacks, *(column for column in others if column is not None)]
    named += [*spec.entities.values(), *spec.categorical.values(), *spec.numeric.values()]
    return list(dict.fromkeys(named))


def _check_columns(content: Content, header: Sequence[str], spec: DatasetSpec) -> None:
    missing = [column for column in columns_used(spec) if column not in header]
    if not missing:
        return
    shown = ", ".join(header[:COLUMNS_SHOWN])
    more = f" and {len(header) - COLUMNS_SHOWN} more" if len(header) > COLUMNS_SHOWN else ""
    raise DataError(
        f'{content.path}: there is no column "{missing[0]}" (spec {spec.name}); '
        f"the file has: {shown}{more}{_like(missing[0], header)}"
    )


def _like(column: str, header: Sequence[str]) -> str:
    """What may be meant, or why nothing fits."""
    if len(header) == 1:
        for delimiter in ";\t|,":
            if delimiter in header[0]:
                written = "\\t" if delimiter == "\t" else delimiter
                return f'; delimiter = "{written}" under [file] would divide it'
    folded = {name.strip().lower(): name for name in header}
    close = difflib.get_close_matches(column.strip().lower(), folded, n=1, cutoff=0.75)
    return f'; is it "{folded[close[0]]}"?' if close else ""


def _unreadable(content: Content, error: Exception) -> str:
    """Why a file cannot be read, in one sentence: Polars does not say where."""
    path, reason = content.path, str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, pl.exceptions.PolarsError) and content.format != "parquet":
        if undecodable := content.undecodable():
            return undecodable
        try:
            width = len(content.header())
        except pl.exceptions.PolarsError:
            width = 0
        if (width or content.is_json) and (broken := content.broken(width)):
            row, (line, what) = next(iter(broken.items()))
            cure = (
                f"leave_out under [rows] leaves such lines out ({len(broken):,} of them)"
                if content.is_json
                else "delimiter, quote, skip_lines and footer_lines under [file] say how rows stand"
            )
            return f"{path}: row {row + 1} (line {line}) {what}; {cure}"
    return f"{path}: cannot be read: {reason}"


def texts(values_N: pl.Series) -> pl.Series:
    """Every value as `category_text` spells it, null where it is missing."""
    if not values_N.dtype.is_float():
        return values_N.cast(pl.String)
    values_N = values_N.fill_nan(None)
    distinct = values_N.drop_nulls().unique()
    return mapped(values_N, distinct, [category_text(value) for value in distinct], pl.String())


def mapped(
    values_N: pl.Series,
    old: pl.Series,
    new: Sequence[object],
    dtype: pl.DataType,
    default: float | None = None,
) -> pl.Series:
    """Each of the old values as the new one in its place, any other as the default."""
    return values_N.replace_strict(
        old, pl.Series(new, dtype=dtype), default=default, return_dtype=dtype
    )

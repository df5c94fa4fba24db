"""The columns of a CSV or Parquet file that a spec names, checked and converted.

Axis: N rows of the file.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.errors import SetupError
from app.learner.spec import DatasetSpec
from app.learner.transaction import SECOND_US, category_text

LAST_SECOND = 253_402_300_799  # The end of the year 9999, the last that Python's datetime knows.
COLUMNS_SHOWN = 40


class DataError(SetupError, ValueError):
    """A transactions file that cannot be used; the message names file, row and column."""


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a file that the spec names, and where each row stands in the file."""

    path: Path
    frame: pl.DataFrame
    row_N: NDArray[np.int64]  # From 0, blank lines of a CSV file counted as rows too.

    @classmethod
    def read(cls, path: Path, spec: DatasetSpec) -> "Table":
        read_header, read = _readers(path)
        try:
            _check_columns(path, read_header(), spec)
            frame = read(_columns_used(spec))
        except (OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise DataError(_overfull_row(path) or f"{path}: cannot be read: {reason}") from None
        frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        for name, dtype in frame.schema.items():
            if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
                raise DataError(f'{path}: column "{name}" holds {dtype}, not plain values')
        # A blank line of a CSV file arrives as a row of nulls.
        is_blank = frame.select(pl.all_horizontal(pl.all().is_null())).to_series()
        if path.suffix.lower() != ".csv":
            is_blank = pl.repeat(False, len(frame), eager=True)
        if is_blank.all():
            raise DataError(f"{path}: there is no transaction in it")
        return cls(path, frame.filter(~is_blank), np.flatnonzero(~is_blank.to_numpy()))

    def __getitem__(self, column: str) -> pl.Series:
        return self.frame[column]

    def place(self, position: int) -> str:
        row = int(self.row_N[position])
        if self.path.suffix.lower() != ".csv":
            return f"row {row + 1}"
        return f"row {row + 1} (line {_line_of(self.path, row)})"

    def refuse(self, column: str, bad_N: pl.Series, because: Callable[[object], str]) -> None:
        """Raise DataError about the first row, in the order of the file, where `bad_N` holds."""
        position = bad_N.arg_max()
        if position is None or not bad_N[position]:
            return
        reason = because(self[column][position])
        raise DataError(f'{self.path}: {self.place(position)}, column "{column}": {reason}')


def _readers(
    path: Path,
) -> tuple[Callable[[], Sequence[str]], Callable[[list[str]], pl.DataFrame]]:
    if not path.is_file():
        raise DataError(f"{path}: there is no such file")
    match path.suffix.lower():
        case ".csv":
            return (
                lambda: pl.read_csv(path, n_rows=0, infer_schema=False, glob=False).columns,
                # Read whole: only then is a row with too many fields noticed.
                lambda columns: pl.read_csv(path, infer_schema=False, glob=False).select(columns),
            )
        case ".parquet":
            return (
                lambda: list(pl.read_parquet_schema(path)),
                lambda columns: pl.read_parquet(path, columns=columns, glob=False),
            )
        case suffix:
            raise DataError(f"{path}: {suffix or 'no suffix'} is neither .csv nor .parquet")


def _columns_used(spec: DatasetSpec) -> list[str]:
    named = [*spec.columns.model_dump(exclude_none=True).values(), spec.label.delay_column]
    named += [*spec.entities.values(), *spec.categorical.values(), *spec.numeric.values()]
    return list(dict.fromkeys(column for column in named if column is not None))


def _check_columns(path: Path, header: Sequence[str], spec: DatasetSpec) -> None:
    if missing := [column for column in _columns_used(spec) if column not in header]:
        shown = ", ".join(header[:COLUMNS_SHOWN])
        more = f" and {len(header) - COLUMNS_SHOWN} more" if len(header) > COLUMNS_SHOWN else ""
        raise DataError(
            f'{path}: there is no column "{missing[0]}" (spec {spec.name}); '
            f"the file has: {shown}{more}"
        )


def _line_of(path: Path, row: int) -> int:
    """The line at which a data row ends: quoted fields may hold line breaks."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        reader = csv.reader(lines)
        for _ in range(row + 2):
            next(reader, None)
        return reader.line_num


def _overfull_row(path: Path) -> str | None:
    """Polars does not say which row of a CSV file has more fields than the header."""
    if path.suffix.lower() != ".csv":
        return None
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        reader = csv.reader(lines)
        width = len(next(reader, []))
        for row, fields in enumerate(reader, start=1):
            if len(fields) > width:
                place = f"row {row} (line {reader.line_num})"
                return f"{path}: {place} has {len(fields)} fields and the header {width}"
    return None


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
    return values_N.replace_strict(
        old, pl.Series(new, dtype=dtype), default=default, return_dtype=dtype
    )


def times(table: Table, column: str) -> NDArray[np.int64]:
    values_N = table[column]
    table.refuse(column, values_N.is_null(), lambda _: "the time is missing")
    dtype = values_N.dtype
    if dtype == pl.Date:
        time_us_N = values_N.cast(pl.Datetime("us")).to_physical()
    elif isinstance(dtype, pl.Datetime):
        time_us_N = values_N.dt.cast_time_unit("us").to_physical()
    elif dtype == pl.String:
        time_us_N = _times_of_text(values_N)
    elif dtype.is_integer():
        time_us_N = _times_of_seconds(values_N)
    else:
        time_us_N = pl.repeat(None, len(values_N), dtype=pl.Int64, eager=True)
    table.refuse(
        column,
        time_us_N.is_null(),
        lambda value: f"{value!r} is not a time (ISO 8601, or whole seconds since 1970)",
    )
    return time_us_N.to_numpy(writable=True)


def _times_of_seconds(values_N: pl.Series) -> pl.Series:
    seconds_N = values_N.cast(pl.Int64, strict=False)
    possible = pl.lit(seconds_N).abs() <= LAST_SECOND
    return pl.select(pl.when(possible).then(pl.lit(seconds_N) * SECOND_US)).to_series()


def _times_of_text(values_N: pl.Series) -> pl.Series:
    """Null where the text is no time. Spellings are brought to one, then parsed at once."""
    text = pl.lit(values_N).str.strip_chars()
    iso = text.str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
    iso = iso.str.replace(r"^(\d{4}-\d\d-\d\d)[ t]", "${1}T")
    iso = iso.str.replace(r"(?i) ?(Z|UTC)$", "+00:00")
    iso = iso.str.replace(r"T(\d\d:\d\d)($|[+-])", "T${1}:00${2}")
    has_zone = iso.str.contains(r"T.*[+-]\d\d:?\d\d$")
    iso = pl.when(has_zone).then(iso).otherwise(iso + "+00:00")
    parsed = iso.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", strict=False)
    seconds_N = pl.select(text.cast(pl.Int64, strict=False)).to_series()
    return pl.select(
        pl.coalesce(parsed.to_physical(), pl.lit(_times_of_seconds(seconds_N)))
    ).to_series()


def numbers(table: Table, column: str) -> pl.Series:
    """Null where the value is missing, NaN included in a floating-point column."""
    values_N = table[column]
    if values_N.dtype == pl.String:
        values_N = values_N.str.strip_chars()
    if values_N.dtype.is_temporal():
        number_N = pl.repeat(None, len(values_N), dtype=pl.Float64, eager=True)
    else:
        number_N = values_N.cast(pl.Float64, strict=False)
    is_bad_N = number_N.is_null() & values_N.is_not_null()
    table.refuse(column, is_bad_N, lambda value: f"{value!r} is not a number")
    table.refuse(column, number_N.is_infinite().fill_null(False), lambda _: "it is infinite")
    return number_N

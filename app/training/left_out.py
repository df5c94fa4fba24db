"""The rows of a file that are not read as transactions: counted by reason, and kept in a file."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import polars as pl

from app.learner.spec import DatasetSpec
from app.learner.spelling import columns_of_name
from app.training.files import LEFT_OUT, DataError, base_of
from app.training.table import BadRows, Table

KINDS_SHOWN = 5


class Reason(NamedTuple):
    """Why rows were left out: the columns, and what is wrong with them."""

    columns: str
    fault: str
    is_by_spec: bool

    def __str__(self) -> str:
        return f"{self.fault} ({self.columns})"


class LeftOut:
    """Of the rows of a file those left out: what cannot be read, and what the spec sorts out."""

    def __init__(self, table: Table) -> None:
        self._whole, self.rows = table, len(table)
        self._parts: list[tuple[Reason, Table]] = []

    def __len__(self) -> int:
        return sum(len(part) for _, part in self._parts)

    def without(self, table: Table, bad: BadRows) -> Table:
        """The table without these rows.

        Raises DataError where more cannot be read than the spec allows, and NothingLeft, which is
        one, where no transaction is left.
        """
        names = ", ".join(columns_of_name(bad.columns))
        reason = Reason(names, bad.fault, bad.is_by_spec)
        bad_N = pl.Series(bad.among(table))
        self._parts.append((reason, table.filter(bad_N)))
        unread, share = self.unread(), table.spec.rows.leave_out
        if unread > share * self.rows:
            raise DataError(
                f"{table.path}: {bad.first}; {unread:,} of {self.rows:,} rows cannot be read, "
                f"more than leave_out = {share:g} under [rows] allows: "
                f"{self._counts(by_spec=False)}"
            )
        rest = table.filter(~bad_N)
        if not len(rest):
            raise NothingLeft(self, f"{table.path}: no transaction is left in it: {self._counts()}")
        return rest

    def counts(self) -> dict[Reason, int]:
        """How many rows were left out for each reason."""
        found: dict[Reason, int] = {}
        for reason, part in self._parts:
            found[reason] = found.get(reason, 0) + len(part)
        return found

    def sentence(self) -> str:
        """How many rows were left out and why, in one sentence."""
        return _sentence(self.counts(), self.rows)

    def keep(self) -> Path:
        """Write the rows as CSV beside the file; where it is."""
        beside = place_of(self._whole.path)
        self.frame().write_csv(beside)
        return beside

    def frame(self) -> pl.DataFrame:
        """The rows, each with its row, its line, the reason and, of several files, its file."""
        whole = self._whole
        rows = sorted(row for _, part in self._parts for row in part.row_N.tolist())
        places = dict[int, tuple[str, int, int | None]]()
        for piece, of_piece in groupby(rows, whole.piece):
            own = [row - piece.first for row in of_piece]
            lines = piece.content.lines_of(own)
            name = whole.name(piece)
            places |= {row + piece.first: (name, row + 1, lines.get(row)) for row in own}
        columns = {"file": pl.String, "row": pl.Int64, "line": pl.Int64}
        shown = list(columns)[whole.path.is_file() :]
        frames = [
            pl.DataFrame([places[row] for row in part.row_N.tolist()], columns, orient="row")
            .select(*shown, pl.lit(str(reason)).alias("reason"))
            .hstack(part.frame.select(pl.all().cast(pl.String)))
            for reason, part in self._parts
        ]
        return pl.concat(frames).sort(shown)

    def unread(self) -> int:
        """How many rows cannot be read; the others are no transactions by the spec."""
        return sum(len(part) for reason, part in self._parts if not reason.is_by_spec)

    def _counts(self, by_spec: bool = True) -> str:
        return _listed(self.counts(), by_spec)


class NothingLeft(DataError):
    """All rows of a table are left out."""

    def __init__(self, left_out: LeftOut, message: str) -> None:
        super().__init__(message)
        self.left_out = left_out


class LeftOutOfMany:
    """The same of tables that are read one after the other, of which no rows stay in memory.

    Each may leave out all that it cannot read; what the spec allows holds for all together.
    """

    def __init__(self, path: Path, spec: DatasetSpec) -> None:
        self._path, self._share = path, spec.rows.leave_out
        self._counts, self._frames, self._rows = dict[Reason, int](), list[pl.DataFrame](), 0

    def __len__(self) -> int:
        return sum(self._counts.values())

    def add(self, left_out: LeftOut) -> None:
        self._rows += left_out.rows
        for reason, count in left_out.counts().items():
            self._counts[reason] = self._counts.get(reason, 0) + count
        if left_out:
            self._frames.append(left_out.frame())

    def check(self) -> None:
        """Raises DataError where more cannot be read than the spec allows."""
        unread = sum(n for reason, n in self._counts.items() if not reason.is_by_spec)
        if unread > self._share * self._rows:
            raise DataError(
                f"{self._path}: {unread:,} of {self._rows:,} rows cannot be read, more than "
                f"leave_out = {self._share:g} under [rows] allows: "
                f"{_listed(self._counts, by_spec=False)}"
            )

    def sentence(self) -> str:
        return _sentence(self._counts, self._rows)

    def keep(self) -> Path:
        """Write the rows as CSV beside the files; where it is."""
        beside = place_of(self._path)
        pl.concat(self._frames).write_csv(beside)
        return beside


def _sentence(counts: dict[Reason, int], rows: int) -> str:
    return f"{sum(counts.values()):,} of {rows:,} rows are left out: {_listed(counts)}"


def _listed(counts: dict[Reason, int], by_spec: bool = True) -> str:
    """How many rows for each reason, most first."""
    most_first = sorted(counts.items(), key=lambda counted: -counted[1])
    each = [
        f"{count:,} {reason}" for reason, count in most_first if by_spec or not reason.is_by_spec
    ]
    more = len(each) - KINDS_SHOWN
    return ", ".join(each[:KINDS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def place_of(path: Path) -> Path:
    """Where rows that are left out of a file are kept: beside it.

    Those of a folder stand beside the folder, those of a pattern in the folder that it begins at.
    """
    base = base_of(path)
    if base == path:
        return path.with_name(f"{path.name.partition('.')[0]}.{LEFT_OUT}")
    return base / LEFT_OUT

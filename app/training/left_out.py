"""The rows of a file that are not read as transactions: counted by reason, and kept in a file."""

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import polars as pl

from app.learner.spelling import columns_of_name
from app.training.files import LEFT_OUT, DataError, base_of
from app.training.table import BadRows, Table

KINDS_SHOWN = 5


class Reason(NamedTuple):
    """Why rows were left out: the columns, and what is wrong with them."""

    columns: str
    fault: str
    is_wished: bool

    def __str__(self) -> str:
        return f"{self.fault} ({self.columns})"


class LeftOut:
    """Of the rows of a file those left out: what cannot be read, and what the spec sorts out."""

    def __init__(self, table: Table) -> None:
        self._whole, self._rows = table, len(table)
        self._parts: list[tuple[Reason, Table]] = []

    def __len__(self) -> int:
        return sum(len(part) for _, part in self._parts)

    def without(self, table: Table, bad: BadRows) -> Table:
        """The table without these rows.

        Raises DataError where more cannot be read than the spec allows, or nothing is left.
        """
        names = ", ".join(columns_of_name(bad.columns))
        reason = Reason(names, bad.fault, bad.is_wished)
        bad_N = pl.Series(bad.among(table))
        self._parts.append((reason, table.filter(bad_N)))
        unread, share = self.unread(), table.spec.rows.leave_out
        if unread > share * self._rows:
            raise DataError(
                f"{table.path}: {bad.first}; {unread:,} of {self._rows:,} rows cannot be read, "
                f"more than leave_out = {share:g} under [rows] allows: {self._counts(wished=False)}"
            )
        rest = table.filter(~bad_N)
        if not len(rest):
            raise DataError(f"{table.path}: no transaction is left in it: {self._counts()}")
        return rest

    def counts(self) -> dict[Reason, int]:
        """How many rows were left out for each reason, most first."""
        found: dict[Reason, int] = {}
        for reason, part in self._parts:
            found[reason] = found.get(reason, 0) + len(part)
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def sentence(self) -> str:
        """How many rows were left out and why, in one sentence."""
        return f"{len(self):,} of {self._rows:,} rows are left out: {self._counts()}"

    def keep(self) -> Path:
        """Write the rows as CSV beside the file, each with its row, line and reason.

        Those of a folder stand beside the folder, those of a pattern in the folder that it begins
        at; each names its file.
        """
        whole, path = self._whole, self._whole.path
        base = base_of(path)
        beside = base / LEFT_OUT
        if base == path:
            beside = path.with_name(f"{path.name.partition('.')[0]}.{LEFT_OUT}")
        rows = sorted(row for _, part in self._parts for row in part.row_N.tolist())
        places = dict[int, tuple[str, int, int | None]]()
        for piece, of_piece in groupby(rows, whole.piece):
            own = [row - piece.first for row in of_piece]
            lines = piece.content.lines_of(own) if piece.content.is_csv else {}
            name = whole.name(piece)
            places |= {row + piece.first: (name, row + 1, lines.get(row)) for row in own}
        columns = {"file": pl.String, "row": pl.Int64, "line": pl.Int64}
        shown = list(columns)[len(whole.pieces) == 1 :]
        frames = [
            pl.DataFrame([places[row] for row in part.row_N.tolist()], columns, orient="row")
            .select(*shown, pl.lit(str(reason)).alias("reason"))
            .hstack(part.frame.select(pl.all().cast(pl.String)))
            for reason, part in self._parts
        ]
        pl.concat(frames).sort(shown).write_csv(beside)
        return beside

    def unread(self) -> int:
        """How many rows cannot be read; the others are no transactions by the spec."""
        return sum(len(part) for reason, part in self._parts if not reason.is_wished)

    def _counts(self, wished: bool = True) -> str:
        counts = [
            f"{count:,} {reason}"
            for reason, count in self.counts().items()
            if wished or not reason.is_wished
        ]
        more = len(counts) - KINDS_SHOWN
        return ", ".join(counts[:KINDS_SHOWN]) + (f" and {more} more" if more > 0 else "")

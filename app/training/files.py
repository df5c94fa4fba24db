"""A file of transactions as Polars reads it, and where its rows stand in it."""

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

import polars as pl

from app import objects
from app.errors import SetupError
from app.learner.spelling import Compression, File, Format
from app.packing import UNPACKABLE, opened, suffixes_of
from app.training.nested import Nested

DELIMITERS = {".csv": ",", ".txt": ",", ".tsv": "\t", ".tab": "\t"}
# Of a folder, .json only counts where nothing else does: it may say something of the others.
ROWS: tuple[str, ...] = (*DELIMITERS, ".parquet", ".jsonl", ".ndjson")
FORMATS: dict[str, Format] = dict.fromkeys(DELIMITERS, "csv")
FORMATS |= {".parquet": "parquet", **dict.fromkeys(objects.SUFFIXES, "json")}
BYTES_SHOWN = 24
# The rows that a command left out of files stand beside them, and are not to be read again.
LEFT_OUT = "left-out.csv"
WILDCARD = re.compile(r"[*?\[]")
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class DataError(SetupError, ValueError):
    """A transactions file that cannot be used; the message names file, row and column."""


def contents_of(path: Path, form: File) -> list["Content"]:
    """The file, or all files of a folder or of a pattern such as `2024-*.csv`, by their names.

    Folders in between named `column=value` (Hive's partitions) give each of their files a column.
    What is hidden, or begins with "_", is no data. Raises DataError where there is no file.
    """
    if path.is_file():
        return [Content(path, form)]
    base = base_of(path)
    if path.is_dir():
        found = list(path.rglob("*"))
    elif base != path:
        found = list(base.glob(str(path.relative_to(base))))
    else:
        raise DataError(f"{path}: there is no such file")
    files = [path for path in sorted(found) if path.is_file() and _is_data(path.relative_to(base))]
    if path.is_dir() and form.format is None:
        files = _of(files, ROWS) or _of(files, (".json",))
    if not files:
        raise DataError(f"{path}: there is no .csv, .parquet or .jsonl file in it")
    return [Content(file, form, _partition(file.relative_to(base))) for file in files]


def digest_of(path: Path, form: File) -> str:
    """The SHA-256 of a file; of several files that of their digests, one after the other."""
    digests = []
    for content in contents_of(path, form):
        with content.path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def unescaped(text: str, escape: str) -> str:
    """Quotes inside of values written twice, as CSV has them, where `escape` stands before them."""
    each = re.escape(escape)
    return re.sub(f'{each}(["{each}])', lambda match: match[1] * (1 + (match[1] == '"')), text)


def base_of(path: Path) -> Path:
    """The path, or of a pattern the folder that it begins at."""
    parts = [part for part in (path, *path.parents) if not WILDCARD.search(str(part))]
    return path if path.exists() else parts[0]


def _ranges(path: Path, most: int) -> list[tuple[int, int | None]]:
    rows = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    return [(first, most) for first in range(0, max(rows, 1), most)]


def _is_data(relative: Path) -> bool:
    hidden = any(part.startswith((".", "_")) for part in relative.parts)
    return not hidden and not relative.name.endswith(LEFT_OUT)


def _of(files: list[Path], suffixes: tuple[str, ...]) -> list[Path]:
    return [file for file in files if suffixes_of(file).content in suffixes]


def _partition(relative: Path) -> dict[str, str | None]:
    pairs = (part.partition("=") for part in relative.parts[:-1] if "=" in part)
    return {unquote(key): None if value == NO_VALUE else unquote(value) for key, _, value in pairs}


class Content:
    """One file in the form that its spec says. Raises DataError where it is not of that form.

    `partition` are the columns that its folders name, and the value of each.
    """

    def __init__(
        self, path: Path, form: File, partition: dict[str, str | None] | None = None
    ) -> None:
        if not path.is_file():
            raise DataError(f"{path}: there is no such file")
        self.path, self.form, self.partition = path, form, partition or {}
        suffix, packed = suffixes_of(path)
        self.compression: Compression = form.compression or packed or "none"
        if form.format is None and suffix not in FORMATS:
            raise DataError(
                f"{path}: {suffix or 'no suffix'} is neither .csv, .parquet nor .jsonl; where it "
                'is text, say format = "csv" or "json" under [file]'
            )
        self.format: Format = form.format or FORMATS[suffix]
        self.is_csv, self.is_json = self.format == "csv", self.format == "json"
        self.delimiter = form.delimiter or DELIMITERS.get(suffix, ",")
        self._spooled: Path | None = None

    def header(self) -> list[str]:
        """The names of the columns. Raises OSError and PolarsError."""
        if self.is_csv:
            return self._csv(rows=0, truncated=True).columns
        if self.is_json:
            return self._nested.names
        return list(pl.read_parquet_schema(self.path))

    @contextmanager
    def cut(self, most: int | None, aside: Path | None) -> Iterator[list[tuple[int, int | None]]]:
        """Where to cut the file for no more than `most` rows at once: first rows, and how many.

        Plain text is written to a folder `aside` as Parquet meanwhile, as it is read; without one,
        and where something is wrong with it, it is read whole, which tells what that is.
        """
        if most is None:
            yield [(0, None)]
            return
        if self.format == "parquet":
            yield _ranges(self.path, most)
            return
        spooled = None if aside is None else self._spool(aside / "text.parquet")
        if spooled is None:
            yield [(0, None)]
            return
        self._spooled = spooled
        try:
            yield _ranges(spooled, most)
        finally:
            self._spooled = None
            spooled.unlink(missing_ok=True)

    def _spool(self, out: Path) -> Path | None:
        """The rows of plain text as Parquet, with a memory that does not grow with them."""
        source = self._json_source() if self.is_json and self.is_by_line else self._source()
        if not isinstance(source, Path):
            return None
        try:
            if self.is_json:
                rows = self._nested.rows(source, self._nested.names)
            else:
                rows = pl.scan_csv(source, **self._dialect())
            rows.sink_parquet(out)
        except pl.exceptions.PolarsError:
            out.unlink(missing_ok=True)
            return None
        return out

    def frame(
        self,
        columns: Collection[str],
        truncated: bool = False,
        rows: tuple[int, int | None] = (0, None),
    ) -> pl.DataFrame:
        """Some columns, those of CSV and JSON as text. Raises OSError and PolarsError.

        Rows of CSV with more fields than the header are an error, unless they are `truncated`, and
        so are lines of JSON that are no objects, which then are empty.
        """
        if self._spooled is not None:
            frame = pl.scan_parquet(self._spooled, glob=False).slice(*rows).collect()
            return (self._named(frame) if self.is_csv else self._plain(frame)).select(columns)
        if self.is_csv:
            # Read whole: only then is a row with too many fields noticed.
            return self._csv(truncated=truncated).select(columns)
        if self.is_json:
            return self._json(list(columns), None, truncated)
        return pl.scan_parquet(self.path, glob=False).slice(*rows).select(columns).collect()

    def head(self, rows: int) -> pl.DataFrame:
        """The first rows with all columns."""
        if self.is_csv:
            return self._csv(rows, truncated=True)
        if self.is_json:
            return self._json(self.header(), rows, truncated=True)
        return pl.read_parquet(self.path, n_rows=rows, glob=False)

    @cached_property
    def _json_text(self) -> str:
        """A JSON file with one object a line, as its rows are counted."""
        text = self.text().removeprefix(objects.MARK)
        try:
            return text if self.is_by_line else objects.listed(text, self.form.records)
        except objects.Unparsable as error:
            raise DataError(f"{self.path}: {error}") from None

    @cached_property
    def is_by_line(self) -> bool:
        """Whether each row has its line: in lists and in documents they have none."""
        if not self.is_json:
            return self.is_csv
        if self.form.records is not None:
            return False
        try:
            packed = opened(self.path, self.compression)
            with io.TextIOWrapper(packed, self.form.encoding, "replace") as lines:
                return objects.is_by_line(lines)
        except UNPACKABLE as error:
            raise self._not_unpacked(error) from None

    @cached_property
    def _nested(self) -> Nested:
        """The columns of a JSON file, whatever lines are no objects."""
        try:
            return Nested(self._json_source())
        except pl.exceptions.PolarsError:
            if not self._json_text.strip():
                raise DataError(f"{self.path}: there is no transaction in it") from None
            if not (broken := self.broken()):
                raise
            return Nested(objects.without(self._json_text, broken))

    def _json_source(self) -> Path | str:
        """The file itself where Polars can read it as it is."""
        source = self._source()
        if not isinstance(source, Path) or not self.is_by_line or WILDCARD.search(str(source)):
            return self._json_text
        with source.open("rb") as file:
            is_marked = file.read(3) == codecs.BOM_UTF8
        return self._json_text if is_marked else source

    def _json(self, columns: list[str], rows: int | None, truncated: bool) -> pl.DataFrame:
        try:
            frame = self._nested.frame(self._json_source(), columns, rows)
        except pl.exceptions.PolarsError:
            if not (truncated and (broken := self.broken())):
                raise
            text = objects.without(self._json_text, broken)
            frame = self._nested.frame(text, columns, rows)
        return self._plain(frame)

    def _plain(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns of JSON in which what stands for nothing is nothing."""
        nothing = dict.fromkeys(["", *self.form.missing])
        return self._trimmed(frame.with_columns(pl.col(pl.String).replace(nothing)))

    def _csv(self, rows: int | None = None, truncated: bool = False) -> pl.DataFrame:
        read = pl.read_csv(
            self._source(), n_rows=rows, truncate_ragged_lines=truncated, **self._dialect()
        )
        return self._named(read)

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Columns of CSV by their names."""
        form, frame = self.form, self._trimmed(frame)
        if not form.header:
            return frame
        if len(form.header) != frame.width:
            raise DataError(
                f"{self.path}: its rows have {frame.width} fields, and header under [file] names "
                f"{len(form.header)}"
            )
        return frame.rename(dict(zip(frame.columns, form.header, strict=True)))

    def _trimmed(self, frame: pl.DataFrame) -> pl.DataFrame:
        if not self.form.trim:
            return frame
        nothing = dict.fromkeys(["", *self.form.missing])
        text = pl.col(pl.String).str.strip_chars().replace(nothing)
        return frame.with_columns(text).rename({name: name.strip() for name in frame.columns})

    def _dialect(self) -> dict[str, Any]:
        """How Polars reads a CSV file."""
        form = self.form
        return {
            "separator": self.delimiter,
            "quote_char": form.quote or None,
            "has_header": not form.header,
            "skip_lines": form.skip_lines,
            "null_values": list(form.missing) or None,
            "infer_schema": False,
            "eol_char": form.line_end,
            "glob": False,
        }

    def _source(self) -> Path | io.BytesIO:
        """The file itself where nothing stands between it and its rows, else what they are in."""
        form = self.form
        plain = form.encoding.lower() in ("utf-8", "utf8")
        plain = plain and not form.footer_lines and not form.escape
        if plain and self.compression == "none":
            return self.path
        return io.BytesIO(self.unpacked() if plain else self.text().encode())

    def unpacked(self) -> bytes:
        """What a packed file holds. Raises DataError where it is cut off, or packed otherwise."""
        try:
            with opened(self.path, self.compression) as file:
                return file.read()
        except UNPACKABLE as error:
            raise self._not_unpacked(error) from None

    def _not_unpacked(self, error: Exception) -> DataError:
        return DataError(f"{self.path}: cannot be unpacked ({self.compression}): {error}")

    def text(self) -> str:
        """All of it as text, without the footer. Raises DataError where it is not so encoded."""
        content = self.unpacked()
        try:
            text = content.decode(self.form.encoding)
        except UnicodeDecodeError as error:
            raise DataError(self._undecodable(content, error)) from None
        if self.form.escape:
            text = unescaped(text, self.form.escape)
        lines = text.rstrip("\r\n").splitlines(keepends=True) if self.form.footer_lines else [text]
        return "".join(lines[: len(lines) - self.form.footer_lines] if len(lines) > 1 else lines)

    def _undecodable(self, content: bytes, error: UnicodeDecodeError) -> str:
        end = self.form.line_end.encode()
        line = content.count(end, 0, error.start) + 1
        start = content.rfind(end, 0, error.start) + 1
        # Of the bytes before it nothing is known but that they could be read.
        before = content[start : error.start].decode(self.form.encoding, "replace")
        before = before.rpartition(self.delimiter)[2]
        after = content[error.start : error.start + BYTES_SHOWN].decode("cp1252", "replace")
        value = (before + re.split(rf"[{re.escape(self.delimiter)}\r\n]", after)[0]).strip('"')
        return (
            f"{self.path}: line {line}, field {value!r}: byte 0x{content[error.start]:02x} is not "
            f"{self.form.encoding}; encoding under [file] says which it is, such as "
            'encoding = "cp1252"'
        )

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """The rows of a CSV file after the line of names, and the line at which each ends.

        Blank lines are rows too; quoted fields may hold line breaks.
        """
        form = self.form
        encoding = "utf-8-sig" if form.encoding.lower() in ("utf-8", "utf8") else form.encoding
        with io.TextIOWrapper(
            opened(self.path, self.compression), encoding=encoding, errors="replace", newline=""
        ) as lines:
            for _ in range(form.skip_lines):
                lines.readline()
            quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if form.quote else csv.QUOTE_NONE
            reader = csv.reader(
                lines,
                delimiter=self.delimiter,
                quotechar=form.quote or None,
                quoting=quoting,
                escapechar=form.escape,
                doublequote=not form.escape,
            )
            if not form.header:
                next(reader, None)
            for fields in reader:
                yield reader.line_num + form.skip_lines, fields

    def lines_of(self, rows: Collection[int]) -> dict[int, int]:
        """The lines at which some rows (from 0) end, where rows have lines."""
        if not self.is_by_line:
            return {}
        wanted, last = set(rows), max(rows, default=-1)
        found = {}
        numbers = objects.lines(self._json_text) if self.is_json else self.records()
        for row, (line, _) in enumerate(numbers):
            if row in wanted:
                found[row] = line
            if row >= last:
                break
        return found

    def broken(self, width: int = 0) -> dict[int, objects.Fault]:
        """Rows with more fields than the header has, or that are no objects of JSON.

        Polars does not say which they are.
        """
        if self.is_json:
            return objects.faults(self._json_text) if self.is_by_line else {}
        return {
            row: objects.Fault(line, f"has {len(fields)} fields and the header {width}")
            for row, (line, fields) in enumerate(self.records())
            if len(fields) > width
        }

    def undecodable(self) -> str | None:
        """What is wrong with the file's encoding, in one sentence."""
        try:
            self.text()
        except DataError as error:
            return str(error)
        return None

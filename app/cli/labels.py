"""`quickstudy labels`"""

import codecs
import csv
import io
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TextIO

import typer
from rich.markup import escape

from app.cli.terminal import console
from app.errors import SetupError
from app.keys.scopes import DEFAULT_TENANT

# All else is imported inside the functions: `quickstudy --help` takes as long as what it imports.
if TYPE_CHECKING:
    from app.labels.files.importing import LabelTally
    from app.labels.files.layout import LabelLayout
    from app.labels.files.reading import LabelFile, RefusedRow, StatedLabel
    from app.labels.schemas import Source
    from app.labels.service import Fate

ROWS_SHOWN = 5
# What became of a label of a file, in words.
FATES: dict["Fate", str] = {
    "stored": "stored",
    "changed": "changed",
    "unchanged": "already there",
    "not_yet_known": "not yet known",
}


def label_from_file(
    file: Annotated[Path, typer.Argument(help="CSV or JSON: transaction, label and perhaps date.")],
    spec: Annotated[
        Path | None, typer.Option(help="Spec (TOML) of a file with other columns or words.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Store nothing, only say what would be.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="CSV file to write: every row that was not stored, and why.")
    ] = None,
    tenant: Annotated[str, typer.Option(help="Whose data it is.")] = DEFAULT_TENANT,
) -> None:
    """Store a file of labels, such as chargebacks; run it again with the same or a newer file.

    Each label is stored as by PUT, and counts from its date; of two labels of a transaction the
    one known later stands.
    """
    import asyncio

    from app.labels.files.layout import LabelLayout

    layout = None if spec is None else LabelLayout.load(spec)
    found = _counted_rows(file, layout)
    source = "chargeback" if layout is None else layout.source
    tally = asyncio.run(_import(file, layout, found, tenant, source, dry_run))
    tally.refused = sorted([*found.refused, *tally.refused])
    if report is not None:
        _write(report, tally)
    _report(file, found, tally, dry_run)
    _complain(file, tally, tenant)


def labels_line(labels: Mapping["Fate", int]) -> str:
    """What became of the labels of a file, in one line."""
    counts = [f"{labels.get(fate, 0):,} {words}" for fate, words in FATES.items()]
    if older := labels.get("superseded", 0):
        counts.append(f"{older:,} left out, since others were known later")
    line = f"Labels: {', '.join(counts)}."
    if labels.get("not_yet_known"):
        line += " Import the file again once those not yet known are."
    return line


class CountedRows(NamedTuple):
    """What a file holds, without its labels: how many rows it has, and which cannot be used.

    `repeated` are hashes of the transactions that more than one row is about.
    """

    rows: int
    labels: int
    refused: list["RefusedRow"]
    unknown: Counter[str]
    repeated: frozenset[int]


def _counted_rows(file: Path, layout: "LabelLayout | None") -> CountedRows:
    """Look through a file once; raises SetupError with one sentence where it has no labels."""
    import numpy as np

    hashes, refused, unknown = array("q"), list["RefusedRow"](), Counter[str]()
    for block in _blocks(file, layout):
        hashes.extend(hash(label.transaction_id) for label in block.labels)
        refused += block.refused
        unknown += block.unknown
    rows = len(hashes) + len(refused) + unknown.total()
    if not rows:
        raise SetupError(f"{file}: there is no label in it")
    ordered = np.sort(np.frombuffer(hashes, np.int64))
    repeated = frozenset(ordered[1:][ordered[1:] == ordered[:-1]].tolist())
    return CountedRows(rows, len(hashes), refused, unknown, repeated)


def _blocks(file: Path, layout: "LabelLayout | None") -> Iterator["LabelFile"]:
    """A file's rows, as many labels at a time as a batch has."""
    from app.labels.files.reading import UnreadableLabels, label_blocks
    from app.learner.transaction import MOST_ITEMS
    from app.objects import Unparsable
    from app.packing import UNPACKABLE

    encoding = codecs.lookup(layout.file.encoding if layout else "utf-8").name
    try:
        with _opened(file, layout, encoding) as lines:
            if _is_json(file, layout):
                yield from _blocks_of_json(lines, layout)
            else:
                yield from label_blocks(lines, layout, MOST_ITEMS)
    except FileNotFoundError:
        raise SetupError(f"{file}: there is no such file") from None
    except UnicodeError:
        if file.suffix.lower() in (".parquet", ".xlsx", ".xls", ".ods"):
            raise SetupError(f"{file}: labels are read from CSV or JSON; save it as that") from None
        raise SetupError(
            f"{file}: it is not {encoding}; name its encoding in the spec under [file]"
        ) from None
    except (*UNPACKABLE, UnreadableLabels, Unparsable) as error:
        raise SetupError(f"{file}: {error}") from None


def _is_json(file: Path, layout: "LabelLayout | None") -> bool:
    from app import objects
    from app.packing import suffixes_of

    stated = layout.file.format if layout else None
    return stated == "json" or (stated is None and suffixes_of(file).content in objects.SUFFIXES)


def _blocks_of_json(lines: TextIO, layout: "LabelLayout | None") -> Iterator["LabelFile"]:
    """Objects by line as they are read; those of a list, which have no lines, all at once."""
    from itertools import chain, islice

    from app.labels.files.reading import label_blocks
    from app.learner.transaction import MOST_ITEMS
    from app.objects import is_by_line, listed

    records = layout.file.records if layout else None
    first = list(islice(lines, 2))
    if records is None and is_by_line(first):
        yield from label_blocks(chain(first, lines), layout, MOST_ITEMS, is_json=True)
        return
    rows = io.StringIO(listed("".join([*first, *lines]), records))
    for block in label_blocks(rows, layout, MOST_ITEMS, is_json=True):
        block.labels = [label._replace(line=0) for label in block.labels]
        block.refused = [row._replace(line=0) for row in block.refused]
        yield block


@contextmanager
def _opened(file: Path, layout: "LabelLayout | None", encoding: str) -> Iterator[TextIO]:
    """A file's text, unpacked as it is read."""
    from app.packing import opened, suffixes_of

    # A byte order mark is no part of the first column's name.
    encoding += "-sig" if encoding == "utf-8" else ""
    stated = layout.file.compression if layout else None
    compression = stated or suffixes_of(file).compression or "none"
    with opened(file, compression) as unpacked:
        yield io.TextIOWrapper(unpacked, encoding, newline="")


async def _import(
    file: Path,
    layout: "LabelLayout | None",
    found: CountedRows,
    tenant: str,
    source: "Source",
    is_preview: bool,
) -> "LabelTally":
    """Store the labels in parts: what is stored when it is interrupted stays.

    Of transactions that several rows are about, all of them say which counts: those come last.
    """
    from app.cli.progress import counting_patiently
    from app.db.database import Database
    from app.db.migrating import upgrade_patiently
    from app.labels.allowance import Allowance
    from app.labels.files.importing import LabelTally, import_labels, settle
    from app.labels.service import Labelling
    from app.learner.transaction import MOST_ITEMS
    from app.scoring.pipeline import Pipeline
    from app.settings import Settings
    from app.times import now_us
    from app.web.service import running_patiently

    tally, now, settings = LabelTally(), now_us(), Settings()
    with counting_patiently("Labelling", found.labels) as bar:
        await upgrade_patiently(settings.database_url, bar.patience)
        async with running_patiently(settings, bar.patience) as service:
            labelling = Labelling(service.part(Database), service.part(Pipeline), Allowance(None))

            async def store(labels: Iterable["StatedLabel"]) -> None:
                nonlocal tally
                stated, contradicting = settle(labels, now)
                tally.refused += contradicting
                for first in range(0, len(stated), MOST_ITEMS):
                    part = stated[first : first + MOST_ITEMS]
                    step = partial(import_labels, labelling, tenant, part, source, is_preview)
                    tally += await bar.patience.run(step)
                    bar.progress.advance(bar.task, sum(len(label.rows) for label in part))

            several = list["StatedLabel"]()
            for block in _blocks(file, layout):
                alone = list["StatedLabel"]()
                for label in block.labels:
                    is_repeated = hash(label.transaction_id) in found.repeated
                    (several if is_repeated else alone).append(label)
                await store(alone)
            await store(several)
    return tally


def _report(file: Path, found: CountedRows, tally: "LabelTally", is_preview: bool) -> None:
    name, rows = escape(str(file)), _counted(found.rows)
    if is_preview:
        rows += ". Nothing is stored: this is a dry run, which says what would be"
    console.print(f"{name}: {rows}.", soft_wrap=True)
    console.print(labels_line(tally.labels), soft_wrap=True)
    if unknown := found.unknown:
        words = ", ".join(f"{count:,} {word!r}" for word, count in unknown.most_common(ROWS_SHOWN))
        line = f"{_counted(unknown.total())} without a label by the spec: {words}"
        more = len(unknown) - ROWS_SHOWN
        line += f" and {more:,} other words." if more > 0 else "."
        console.print(escape(line), soft_wrap=True)
    if unmatched := sorted(tally.unmatched):
        shown = _some([f"{row.transaction_id!r} (row {row.row})" for row in unmatched])
        line = f"{_counted(len(unmatched))} of no stored transaction: {shown}."
        console.print(escape(line), soft_wrap=True)


def _complain(file: Path, tally: "LabelTally", tenant: str) -> None:
    """Raise SetupError where a row cannot be used, or none of them is of a stored transaction."""
    if tally.refused:
        shown = _some([_sentence(row) for row in tally.refused], "; ")
        raise SetupError(
            f"{file}: {len(tally.refused):,} of its rows cannot be used: {shown}; correct them and "
            "run the command again"
        )
    if tally.unmatched and not tally.labels.total():
        raise SetupError(
            f"{file}: no row names a stored transaction of tenant {tenant}; its column of "
            "transactions must hold the ids that were sent as transaction_id"
        )


def _sentence(row: "RefusedRow") -> str:
    place = f"row {row.row}" + (f" (line {row.line})" if row.line else "")
    if row.column is None:
        return f"{place}: {row.message}"
    value = "" if not row.value else f"{row.value!r}: "
    return f'{place}, column "{row.column}": {value}{row.message}'


def _counted(rows: int) -> str:
    return f"{rows:,} row" if rows == 1 else f"{rows:,} rows"


def _some(sentences: Sequence[str], separator: str = ", ") -> str:
    more = len(sentences) - ROWS_SHOWN
    shown = separator.join(sentences[:ROWS_SHOWN])
    return f"{shown} and {more:,} more" if more > 0 else shown


def _write(report: Path, tally: "LabelTally") -> None:
    """All rows that were not stored, for a spreadsheet."""
    with report.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "line", "column", "value", "why"))
        writer.writerows(_rows_of_report(tally.unmatched, tally.refused))


def _rows_of_report(
    unmatched: Iterable["StatedLabel"], refused: Iterable["RefusedRow"]
) -> list[tuple[int, int | str, str, str, str]]:
    nothing = "there is no such transaction"
    return sorted(
        [
            *((row.row, row.line or "", "", row.transaction_id, nothing) for row in unmatched),
            *(
                (row.row, row.line or "", row.column or "", row.value or "", row.message)
                for row in refused
            ),
        ]
    )

"""A file of labels brought into the database: of each transaction, the label known last.

By HTTP a part at a time, by the command in as many parts as it takes. Both may be run again: what
is there already stays.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from app.errors import Problem, Unavailable
from app.labels.changes import Verdict
from app.labels.files.reading import RefusedRow, StatedLabel
from app.labels.schemas import Source
from app.labels.service import Fate, Labelling
from app.scoring.errors import TransactionNotFound


class Stated(NamedTuple):
    """All that a file says of one transaction, and which of its rows counts.

    Of the others, `repeated` say the same, `superseded` were known earlier, and what `later` says
    is not known yet.
    """

    label: StatedLabel
    repeated: Sequence[StatedLabel] = ()
    superseded: Sequence[StatedLabel] = ()
    later: Sequence[StatedLabel] = ()

    @property
    def rows(self) -> list[StatedLabel]:
        """Every row that says something of the transaction."""
        return [self.label, *self.repeated, *self.superseded, *self.later]


@dataclass
class LabelTally:
    """What became of the rows of a file: how many had which fate, and those that had none."""

    labels: Counter[Fate] = field(default_factory=Counter)
    unmatched: list[StatedLabel] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)

    def __iadd__(self, other: "LabelTally") -> "LabelTally":
        self.labels += other.labels
        self.unmatched += other.unmatched
        self.refused += other.refused
        return self


def settle(labels: Iterable[StatedLabel], now_us: int) -> tuple[list[Stated], list[RefusedRow]]:
    """What the rows of a file say of each transaction as of now, and those that nobody can use.

    A row that says otherwise than another of the same time is refused: nobody knows which of them
    is right.
    """
    by_id: defaultdict[str, list[StatedLabel]] = defaultdict(list)
    for label in labels:
        by_id[label.transaction_id].append(label)
    refused: list[RefusedRow] = []
    return [_settled(rows, now_us, refused) for rows in by_id.values()], refused


def _settled(rows: Sequence[StatedLabel], now_us: int, refused: list[RefusedRow]) -> Stated:
    if len(rows) == 1:
        return Stated(rows[0])

    def known_at(row: StatedLabel) -> int:
        return now_us if row.known_at_us is None else row.known_at_us

    first, *others = sorted(rows, key=known_at)
    repeated: list[StatedLabel] = []
    superseded: list[StatedLabel] = []
    later: list[StatedLabel] = []
    for row in others:
        if known_at(row) > now_us:
            later.append(row)
        elif row.is_fraud == first.is_fraud:
            repeated.append(row)
        elif known_at(row) > known_at(first):
            superseded += [first, *repeated]
            first, repeated = row, []
        else:
            refused.append(_contradicting(row, first))
    return Stated(first, repeated, superseded, later)


def _contradicting(row: StatedLabel, first: StatedLabel) -> RefusedRow:
    name = "fraud" if row.is_fraud else "legitimate"
    message = (
        f"row {first.row} has the other label for {row.transaction_id!r}, known at the same time"
    )
    return RefusedRow(row.row, row.line, "label", name, message)


async def import_labels(
    labelling: Labelling,
    tenant: str,
    stated: Sequence[Stated],
    source: Source,
    is_preview: bool = False,
) -> LabelTally:
    """Store what a file says of transactions; a preview only says what would become of it.

    Raises Unavailable where it could not be finished: what is stored by then is there already when
    the same is brought again.
    """
    verdicts = [_verdict(item.label, source) for item in stated]
    tally = LabelTally()
    fates = await labelling.import_labels(tenant, verdicts, is_preview)
    for item, fate in zip(stated, fates, strict=True):
        if isinstance(fate, Unavailable):
            raise fate
        if isinstance(fate, TransactionNotFound):
            tally.unmatched += item.rows
            continue
        if isinstance(fate, Problem):
            tally.refused.append(_refused(item.label, fate))
        else:
            tally.labels[fate] += 1
        tally.labels["unchanged"] += len(item.repeated)
        tally.labels["superseded"] += len(item.superseded)
        tally.labels["not_yet_known"] += len(item.later)
    return tally


def _verdict(label: StatedLabel, source: Source) -> Verdict:
    return Verdict(
        label.transaction_id,
        label.is_fraud,
        labelled_at_us=label.known_at_us,
        source=source,
    )


def _refused(label: StatedLabel, problem: Problem) -> RefusedRow:
    return RefusedRow(
        label.row, label.line, None, label.transaction_id, problem.detail, problem.code
    )

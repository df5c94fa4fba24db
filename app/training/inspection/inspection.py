"""From a file to a spec with a comment for each guess, and what the file then holds.

Axis: N transactions.
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from app.learner.spec import DatasetSpec
from app.learner.spelling import File
from app.learner.transaction import DAY_US
from app.training.entries import UNLABELLED, Entries, read_entries
from app.training.evaluate import DECIDING_FRAUDS, LEAST_FRAUDS
from app.training.files import Content, DataError
from app.training.inspection import names
from app.training.inspection.amounts import add_amount
from app.training.inspection.columns import (
    add_account,
    add_entities,
    add_fields,
    add_transaction,
)
from app.training.inspection.draft import Draft
from app.training.inspection.form import add_form, guessed_form
from app.training.inspection.labels import (
    add_chargebacks,
    add_label,
    add_type_and_status,
    without_chargebacks,
    without_own_money,
)
from app.training.inspection.questions import Answers
from app.training.inspection.times import add_time
from app.training.train import HELD_OUT_ACCOUNTS

# Enough to guess from; what is read in the end is the whole file.
MOST_ROWS = 500_000
# All but a few rows may be left out while looking at a file.
ANY_SHARE = 0.999
ENOUGH_FRAUDS = 500


def drafted(path: Path, name: str, answers: Answers) -> Draft:
    """A spec of a file, with a comment for each guess.

    Raises DataError for what is no such file, Unanswered where guesses are not sure and nobody is
    there to ask, and ValueError where no column looks like a time.
    """
    draft = Draft(name)
    form = guessed_form(path, answers)
    if answers.open():
        # Of a text in another encoding, names and values are not what a person would answer by.
        answers.settle()
    add_form(draft, form)
    frame = _head(path, form.file)
    if _is_padded(frame):
        draft.add("file", "trim", True, "names or values stand among spaces")
        frame = _head(path, form.file.model_copy(update={"trim": True}))
    frame = _plain_columns(draft, frame)
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if not len(frame):
        raise DataError(f"{path}: there is no transaction in it")
    frame = _without_nulls(draft, frame)
    frame, chargebacks = without_chargebacks(draft, frame, answers)
    frame = without_own_money(draft, frame, answers)
    # What is empty here may be anything.
    taken = {name for name in frame.columns if frame[name].null_count() == len(frame)}
    add_transaction(draft, frame, answers, taken)
    if chargebacks is not None:
        add_chargebacks(draft, chargebacks, taken)
    if draft.value("rows", "same_transaction") is not None:
        # What else the rows of an order say is that of its first row.
        first = draft.value("columns", "transaction")
        frame = frame.unique(first, keep="first", maintain_order=True)
    add_time(draft, frame, answers, taken, form.year_from)
    is_fraud_N = add_label(draft, frame, answers, taken)
    add_amount(draft, frame, answers, taken)
    add_account(draft, frame, answers, taken)
    add_entities(draft, frame, taken)
    add_type_and_status(draft, frame, answers, taken)
    add_fields(draft, frame, is_fraud_N, taken)
    return draft


def _head(path: Path, form: File) -> pl.DataFrame:
    try:
        return Content(path, form).head(MOST_ROWS)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise DataError(f"{path}: cannot be read: {reason}") from None


def _is_padded(frame: pl.DataFrame) -> bool:
    """Whether a column's name, or most of its values, begin or end with a space."""
    if any(name != name.strip() for name in frame.columns):
        return True
    outer = pl.col(pl.String).drop_nulls().str.contains(r"^\s|\s$").mean()
    return any(share is not None and share > 0.5 for share in frame.select(outer).row(0))


def _plain_columns(draft: Draft, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without columns of lists, of parts and of bytes, which no spec can name."""
    nested = [
        name
        for name, dtype in frame.schema.items()
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object)
    ]
    if nested:
        draft.notes.append(f"Left aside, as no plain values: {', '.join(nested)}.")
    return frame.drop(nested)


def _without_nulls(draft: Draft, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame without words for nothing, such as NULL."""
    text = pl.col(pl.String)
    frame = frame.with_columns(text.replace("", None))
    found = set[str]()
    is_missing = text.str.to_lowercase().is_in(list(names.MISSING))
    # Of all columns at once: a few calls of Polars for each of thousands take seconds.
    some = frame.select(is_missing.any())
    for column in (column for column in some.columns if some[column][0]):
        found.update(
            frame.filter(pl.col(column).str.to_lowercase().is_in(list(names.MISSING)))[column]
        )
    # A label may say "none".
    found -= {word for word in found if word.lower() == "none"}
    if not found:
        return frame
    draft.add("file", "missing", sorted(found), "stand for nothing")
    return frame.with_columns(text.replace(dict.fromkeys(found)))


class FoundEntries(NamedTuple):
    """What a file holds by a spec: its entries, and how many of its rows could not be read."""

    entries: Entries
    unread: int


def looked_at(path: Path, spec: DatasetSpec) -> FoundEntries:
    """The entries of a file, with all rows left out that cannot be read."""
    rows = spec.rows.model_copy(update={"leave_out": ANY_SHARE})
    entries = read_entries(path, spec.model_copy(update={"rows": rows}))
    return FoundEntries(entries, entries.left_out.unread())


class Month(NamedTuple):
    """Of a month of a file: its name, payments, frauds and payments with a label."""

    month: str
    payments: int
    frauds: int
    labelled: int


def months_of(entries: Entries) -> list[Month]:
    """The months (UTC) that have payments, the earliest first."""
    frame = pl.DataFrame(
        {"at": entries.time_us_N.astype("datetime64[us]"), "label": entries.is_fraud_N}
    )
    by_month = frame.group_by(pl.col("at").dt.strftime("%Y-%m").alias("month")).agg(
        pl.len(), (pl.col("label") == 1).sum().alias("f"), (pl.col("label") != UNLABELLED).sum()
    )
    return [Month(*row) for row in by_month.sort("month").iter_rows()]


def sizes_of(entries: Entries) -> str:
    """How many payments accounts have, in one sentence."""
    size_A = entries.accounts_N.value_counts()["count"].to_numpy()
    once = float((size_A == 1).mean())
    return (
        f"{len(size_A):,} account{'s' * (len(size_A) > 1)} with {np.median(size_A):,.0f} payments "
        f"at the median, {np.quantile(size_A, 0.9):,.0f} at the 9th decile and "
        f"{size_A.max():,} at most; {once:.0%} pay once."
    )


def expected(entries: Entries) -> str:
    """What training can expect of the labels, in one sentence."""
    is_fraud_N = entries.is_fraud_N == 1
    frauds, legitimate = int(is_fraud_N.sum()), int((entries.is_fraud_N == 0).sum())
    if not frauds or not legitimate:
        lacking = "fraud" if not frauds else "legitimate payment"
        return (
            f"No {lacking} is labelled: there is nothing to train on, but the file can be imported."
        )
    accounts = labelled_accounts(entries)
    held_out = round(frauds * HELD_OUT_ACCOUNTS)
    counted = f"{frauds:,} fraud{'s' * (frauds > 1)} in {accounts:,} account{'s' * (accounts > 1)}"
    if accounts == 1:
        return f"{counted}: training holds accounts out, so it needs labels of several."
    if frauds < LEAST_FRAUDS:
        return f"{counted}: too few to train on; find more labels, or start with the shipped model."
    if held_out < LEAST_FRAUDS:
        return (
            f"{counted}: enough to try, too few to measure or to calibrate by (about {held_out} of "
            f"them are held out, {LEAST_FRAUDS} are needed)."
        )
    if held_out < DECIDING_FRAUDS:
        return (
            f"{counted}: enough to train and to calibrate, too few to choose settings by (about "
            f"{held_out} are held out, {DECIDING_FRAUDS} are needed); figures will be rough."
        )
    if frauds < ENOUGH_FRAUDS:
        return f"{counted}: enough to train, to calibrate and to choose settings by."
    return f"{counted}: enough to train and to compare with other methods."


def labelled_accounts(entries: Entries) -> int:
    return entries.accounts_N.filter(pl.Series(entries.is_fraud_N != UNLABELLED)).n_unique()


def days_of(entries: Entries) -> float:
    return int(entries.time_us_N[-1] - entries.time_us_N[0]) / DAY_US


def spec_name(path: Path) -> str:
    """A file's name as that of a spec."""
    stem = path.name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_") or "file"

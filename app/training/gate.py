"""The rules of `app.learner.validity`, held against whole columns of a file.

Axis: N rows.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.spelling import Named
from app.learner.validity import (
    AMOUNT_SENTENCE,
    ATTRIBUTE_SENTENCE,
    DECIMALS,
    LARGEST_AMOUNT,
    LARGEST_ATTRIBUTE,
    TextRule,
    amount_of,
)
from app.times import AHEAD_SENTENCE, FIRST_US, LAST_US, YEARS_SENTENCE, latest_us
from app.training.table import Table

Cure = Callable[[object], str]
LONGEST_SHOWN = 64
# Below this a float distinguishes any amount from its neighbours by their decimals.
EXACT_AMOUNT = 1e7


def refuse_texts(
    table: Table,
    named: Named,
    text_N: pl.Series,
    rule: TextRule,
    fault: str,
    cure: Cure | None = None,
) -> None:
    """Refuse rows whose text the API would refuse; null is no text."""
    fits_N = (text_N.str.len_chars() <= rule.longest) & text_N.str.contains(rule.pattern)
    table.refuse(
        named,
        ~fits_N.fill_null(True),
        fault,
        lambda value: f"{_shown(value)}: {rule.sentence}",
        cure,
        text_N,
    )


def refuse_times(table: Table, time_us_N: NDArray[np.int64]) -> None:
    """Refuse rows of other years, and of tomorrow."""
    is_other_year_N = (time_us_N < FIRST_US) | (time_us_N >= LAST_US)
    _refuse_times(table, is_other_year_N, YEARS_SENTENCE)
    _refuse_times(table, time_us_N > latest_us(), AHEAD_SENTENCE)


def _refuse_times(table: Table, bad_N: NDArray[np.bool_], sentence: str) -> None:
    named = table.spec.columns.time
    table.refuse(named, pl.Series(bad_N), sentence, lambda value: f"{value}: {sentence}")


def refuse_numbers(table: Table, column: str, number_N: pl.Series) -> None:
    """Refuse numbers that the API would refuse as attributes."""
    is_bad_N = (number_N.abs() >= LARGEST_ATTRIBUTE).fill_null(False)
    table.refuse(column, is_bad_N, "too large", lambda value: f"{value!r}: {ATTRIBUTE_SENTENCE}")


def as_amounts(
    table: Table, column: str, amount_N: NDArray[np.float64], written_N: pl.Series
) -> NDArray[np.float64]:
    """The amounts that the API would keep of these, which are not negative.

    `written_N` has the decimal texts that are valid as they stand, null for other amounts.
    """
    table.refuse(
        column,
        # Of so many nines the nearest float is one too large.
        pl.Series(amount_N >= LARGEST_AMOUNT) & written_N.is_null(),
        "too large an amount",
        lambda value: f"{value:g}: {AMOUNT_SENTENCE}",
        shown_N=pl.Series(amount_N),
    )
    # To the last bit, what is no whole number of the smallest amounts takes exact arithmetic.
    is_exact_N = (np.round(amount_N, DECIMALS) == amount_N) & (amount_N < EXACT_AMOUNT)
    rows = np.flatnonzero(~is_exact_N & (np.floor(amount_N) != amount_N))
    kept_N = amount_N.copy()
    kept_N[rows] = [float(amount_of(amount)) for amount in amount_N[rows].tolist()]
    return kept_N


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…")

"""A transactions file as the columns that training and back-tests work on.

The columns are those of `app.learner.columns.columns_of`, so that a file and the API agree
exactly on every value. Columns are handled whole and only distinct values are hashed, so that
millions of rows take seconds.

Axes: N transactions, C categorical fields, M numeric attributes.
"""

from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.features import MerchantLabels
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    DAY_US,
    LONGEST_DELAY_DAYS,
    MISSING,
    NO_MERCHANT,
    TransactionColumns,
    category_code,
)
from app.training.table import DataError, Table, mapped, numbers, texts, times

UNLABELLED = -1
NO_KIND = -1
NEVER_US = np.iinfo(np.int64).max

# pandas writes a 0/1 column with gaps as 0.0 and 1.0.
LABELS = {
    **dict.fromkeys(("0", "0.0", "false", "legitimate"), 0),
    **dict.fromkeys(("1", "1.0", "true", "fraud"), 1),
}


@dataclass(frozen=True, slots=True)
class Dataset:
    """N transactions sorted by time, those of equal time in the order of the file.

    `columns` points into `accounts` and `merchants`. `is_fraud_N` is 1, 0 or UNLABELLED;
    `known_at_us_N` is when the label becomes known (NEVER_US where there is none);
    `fraud_kind_N` points into `fraud_kinds` (NO_KIND where there is none). `without_rate` counts
    the transactions of each currency that has no rate, whose amounts are NaN.
    """

    columns: TransactionColumns
    transaction_ids: list[str]
    accounts: list[str]
    merchants: list[str]
    is_fraud_N: NDArray[np.int8]
    known_at_us_N: NDArray[np.int64]
    fraud_kind_N: NDArray[np.int64]
    fraud_kinds: list[str]
    without_rate: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns)

    def merchant_labels(self, delay_us: int) -> MerchantLabels:
        """The labels as evidence about merchants, maturing by the same rule as in the service.

        None is evidence before `delay_us` has passed, and none before it is known.
        """
        rows = np.flatnonzero(
            (self.is_fraud_N != UNLABELLED) & (self.columns.merchant_N != NO_MERCHANT)
        )
        matures_at_us = np.maximum(
            self.known_at_us_N[rows], self.columns.time_us_N[rows] + delay_us
        )
        return MerchantLabels(
            self.columns.merchant_N[rows],
            matures_at_us,
            self.is_fraud_N[rows].astype(np.float64),
        )


def read_transactions(path: str | Path, spec: DatasetSpec, rates: Rates | None = None) -> Dataset:
    """Read and check a CSV or Parquet file by its spec.

    Times are datetimes, ISO 8601 text or whole seconds since 1970; without a zone they are UTC.
    Labels are 0/1, true/false or fraud/legitimate; null means unlabelled. In CSV, categories and
    identifiers are kept as they are spelled (`007` stays `007`) and an empty field is null.
    By `rates` amounts are in the reference currency, NaN where a currency has no rate.

    Raises DataError with one sentence for the first thing that is wrong.
    """
    table = Table.read(Path(path), spec)
    time_us_N = times(table, spec.columns.time)
    ids_N = _identifiers(table, spec.columns.transaction)
    _check_unique(table, spec.columns.transaction, ids_N)
    is_fraud_N = _labels(table, spec)
    known_at_us_N = _known_at(table, spec, time_us_N, is_fraud_N)
    amount_N = _amounts(table, spec.columns.amount)
    without_rate: dict[str, int] = {}
    if rates is not None:
        rate_N, without_rate = _rates(table, spec, rates)
        amount_N *= rate_N
    numeric_NM = _numeric(table, spec)

    order_N = np.argsort(time_us_N, kind="stable")
    accounts_N = _identifiers(table, spec.columns.account).gather(order_N)
    account_N, accounts = _positions(accounts_N)
    merchant_N, merchants = _positions(_optional(table, spec.columns.merchant).gather(order_N))
    kind_N, kinds = _positions(_optional(table, spec.columns.fraud_kind).gather(order_N))
    return Dataset(
        columns=TransactionColumns(
            account_N=account_N,
            merchant_N=merchant_N,
            time_us_N=time_us_N[order_N],
            amount_N=amount_N[order_N],
            categorical_NC=_categorical(table, spec)[order_N],
            numeric_NM=numeric_NM[order_N],
        ),
        transaction_ids=ids_N.gather(order_N).to_list(),
        accounts=accounts,
        merchants=merchants,
        is_fraud_N=is_fraud_N[order_N],
        known_at_us_N=known_at_us_N[order_N],
        fraud_kind_N=kind_N,
        fraud_kinds=kinds,
        without_rate=without_rate,
    )


def _positions(text_N: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each text as a position in the list of distinct ones, by first appearance; -1 for null."""
    assert NO_MERCHANT == NO_KIND == -1
    distinct = text_N.drop_nulls().unique(maintain_order=True)
    position_N = mapped(text_N, distinct, range(len(distinct)), pl.Int64(), -1)
    return position_N.to_numpy(writable=True), distinct.to_list()


def _identifiers(table: Table, column: str) -> pl.Series:
    text_N = texts(table[column])
    table.refuse(column, text_N.is_null() | (text_N == ""), lambda _: "it is missing")
    return text_N


def _optional(table: Table, column: str | None) -> pl.Series:
    if column is None:
        return pl.repeat(None, len(table.row_N), dtype=pl.String, eager=True)
    return texts(table[column])


def _check_unique(table: Table, column: str, ids_N: pl.Series) -> None:
    again_N = ~ids_N.is_first_distinct()
    if again_N.any():
        first = (ids_N == ids_N.filter(again_N)[0]).arg_max()
        assert first is not None
        table.refuse(column, again_N, lambda value: f"{value!r} is already in {table.place(first)}")


def _amounts(table: Table, column: str) -> NDArray[np.float64]:
    amount_N = numbers(table, column)
    is_truth_N = pl.repeat(table[column].dtype == pl.Boolean, len(amount_N), eager=True)
    table.refuse(column, is_truth_N, lambda value: f"{value!r} is not an amount")
    table.refuse(column, amount_N.is_null(), lambda _: "the amount is missing")
    table.refuse(column, amount_N.is_nan(), lambda _: "the amount is NaN")
    table.refuse(column, amount_N < 0, lambda value: f"the amount {value} is negative")
    return amount_N.to_numpy(writable=True)


def _rates(
    table: Table, spec: DatasetSpec, rates: Rates
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """The rate of each row's currency, and the rows of each currency that has none."""
    if spec.currency_column is None:
        raise DataError(
            f"{table.path}: amounts are compared in {rates.reference}, and spec {spec.name} names "
            "no column of currencies: set currency under [columns]"
        )
    currency_N = texts(table[spec.currency_column])
    distinct = currency_N.drop_nulls().unique()
    rate_of = rates.of(distinct.to_list()).tolist()
    rate_N = mapped(currency_N, distinct, rate_of, pl.Float64(), nan).to_numpy(writable=True)
    unknown = currency_N.filter(np.isnan(rate_N)).fill_null("no currency").value_counts(sort=True)
    without_rate = dict(unknown.iter_rows())
    if sum(without_rate.values()) == len(rate_N):
        raise DataError(
            f'{table.path}: column "{spec.currency_column}": no rate of {", ".join(without_rate)}, '
            "and so no amount to compare: state the rates of these currencies"
        )
    return rate_N, without_rate


def _numeric(table: Table, spec: DatasetSpec) -> NDArray[np.float64]:
    number_NM = np.empty((len(table.row_N), len(spec.numeric_names)))
    for m, name in enumerate(spec.numeric_names):
        number_NM[:, m] = numbers(table, spec.numeric[name]).fill_null(np.nan).to_numpy()
    return number_NM


def _categorical(table: Table, spec: DatasetSpec) -> NDArray[np.int64]:
    code_NC = np.empty((len(table.row_N), len(spec.categorical_names)), dtype=np.int64)
    for c, name in enumerate(spec.categorical_names):
        column = spec.columns.merchant if name == "merchant_id" else spec.categorical[name]
        text_N = _optional(table, column)
        distinct = text_N.drop_nulls().unique()
        codes = [category_code(name, value) for value in distinct]
        code_NC[:, c] = mapped(text_N, distinct, codes, pl.Int64(), MISSING)
    return code_NC


def _labels(table: Table, spec: DatasetSpec) -> NDArray[np.int8]:
    column = spec.columns.label
    if column is None:
        return np.full(len(table.row_N), UNLABELLED, dtype=np.int8)
    text_N = texts(table[column]).str.strip_chars().str.to_lowercase()
    label_N = mapped(text_N, pl.Series(list(LABELS)), list(LABELS.values()), pl.Int8())
    table.refuse(
        column,
        label_N.is_null() & text_N.is_not_null(),
        lambda value: f"{value!r} is not a label (0, 1, true, false, fraud, legitimate or null)",
    )
    return label_N.fill_null(UNLABELLED).to_numpy(writable=True)


def _known_at(
    table: Table, spec: DatasetSpec, time_us_N: NDArray[np.int64], is_fraud_N: NDArray[np.int8]
) -> NDArray[np.int64]:
    is_labelled_N = is_fraud_N != UNLABELLED
    column = spec.label.delay_column
    if column is None:
        return np.where(is_labelled_N, time_us_N + spec.label.delay_us, NEVER_US)
    days_N = numbers(table, column).fill_nan(None)
    is_possible_N = days_N.is_between(0, LONGEST_DELAY_DAYS).fill_null(False)
    table.refuse(
        column,
        ~is_possible_N & pl.Series(is_labelled_N),
        lambda value: f"a label needs a delay from 0 to {LONGEST_DELAY_DAYS} days, not {value}",
    )
    delay_us_N = np.rint(days_N.fill_null(0).to_numpy() * DAY_US).astype(np.int64)
    return np.where(is_labelled_N, time_us_N + delay_us_N, NEVER_US)

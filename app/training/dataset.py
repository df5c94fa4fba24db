"""A transactions file as the columns that training and back-tests work on.

The columns are those of `app.learner.columns.columns_of`, so that a file and the API agree
exactly on every value. Columns are handled whole and only distinct values are hashed, so that
millions of rows take seconds.

Axes: N transactions, C categorical fields, M numeric attributes.
"""

from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
from numpy.typing import NDArray

from app.learner.entities import canonical
from app.learner.features import EntityLabels
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    DAY_US,
    LONGEST_DELAY_DAYS,
    MISSING,
    NO_ENTITY,
    UNDECIDED,
    Status,
    TransactionColumns,
    Type,
    category_code,
    entity_code,
    standing_of,
)
from app.learner.validity import FRAUD_WORDS, LEGITIMATE_WORDS
from app.training.table import DataError, Table, mapped, numbers, texts, times

UNLABELLED = -1
NO_KIND = -1
NEVER_US = np.iinfo(np.int64).max

LABELS = {**dict.fromkeys(LEGITIMATE_WORDS, 0), **dict.fromkeys(FRAUD_WORDS, 1)}


@dataclass(frozen=True, slots=True)
class Dataset:
    """N transactions sorted by time, those of equal time in the order of the file.

    `columns` points into `accounts`, `entities` (each a kind and an id) and `links` pairs of them;
    a row without a status went through. `is_fraud_N` is 1, 0 or UNLABELLED;
    `known_at_us_N` is when the label becomes known (NEVER_US where there is none);
    `fraud_kind_N` points into `fraud_kinds` (NO_KIND where there is none). `without_rate` counts
    the transactions of each currency that has no rate, whose amounts are NaN.
    """

    columns: TransactionColumns
    transaction_ids: list[str]
    accounts: list[str]
    entities: list[tuple[str, str]]
    is_fraud_N: NDArray[np.int8]
    known_at_us_N: NDArray[np.int64]
    fraud_kind_N: NDArray[np.int64]
    fraud_kinds: list[str]
    without_rate: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.columns)

    def entity_labels(self, delay_us: int) -> EntityLabels:
        """The labels as evidence about entities, maturing by the same rule as in the service.

        None is evidence before `delay_us` has passed, and none before it is known.
        """
        entity_NK = self.columns.entity_NK
        is_evidence_NK = (entity_NK != NO_ENTITY) & (self.is_fraud_N != UNLABELLED)[:, None]
        rows, kinds = np.nonzero(is_evidence_NK)
        matures_at_us = np.maximum(
            self.known_at_us_N[rows], self.columns.time_us_N[rows] + delay_us
        )
        return EntityLabels(
            entity_NK[rows, kinds], matures_at_us, self.is_fraud_N[rows].astype(np.float64)
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

    types_N = _types(table, spec)
    standing_N = _standings(table, spec, types_N)

    order_N = np.argsort(time_us_N, kind="stable")
    accounts_N = _identifiers(table, spec.columns.account).gather(order_N)
    account_N, accounts = _positions(accounts_N)
    entity_NK, link_NK, code_NK, entities = _entities(table, spec, order_N, account_N)
    kind_N, kinds = _positions(_optional(table, spec.columns.fraud_kind).gather(order_N))
    return Dataset(
        columns=TransactionColumns(
            account_N=account_N,
            entity_NK=entity_NK,
            link_NK=link_NK,
            entity_code_NK=code_NK,
            time_us_N=time_us_N[order_N],
            amount_N=amount_N[order_N],
            standing_N=standing_N[order_N],
            categorical_NC=_categorical(table, spec, types_N)[order_N],
            numeric_NM=numeric_NM[order_N],
        ),
        transaction_ids=ids_N.gather(order_N).to_list(),
        accounts=accounts,
        entities=entities,
        is_fraud_N=is_fraud_N[order_N],
        known_at_us_N=known_at_us_N[order_N],
        fraud_kind_N=kind_N,
        fraud_kinds=kinds,
        without_rate=without_rate,
    )


def _entities(
    table: Table, spec: DatasetSpec, order_N: NDArray[np.int64], account_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[tuple[str, str]]]:
    """Positions of entities and of their links with accounts, codes, [N, K] each; the entities."""
    shape = len(order_N), len(spec.entity_names)
    entity_NK, link_NK = np.full(shape, NO_ENTITY), np.full(shape, NO_ENTITY)
    code_NK = np.full(shape, MISSING)
    entities: list[tuple[str, str]] = []
    links = 0
    for k, kind in enumerate(spec.entity_names):
        position_N, ids = _positions(_ids(table, kind, spec.entities[kind]).gather(order_N))
        there = np.flatnonzero(position_N != NO_ENTITY)
        pairs_N = account_N[there] * max(len(ids), 1) + position_N[there]
        known, link_N = np.unique(pairs_N, return_inverse=True)
        entity_NK[there, k] = position_N[there] + len(entities)
        link_NK[there, k] = link_N + links
        codes = np.array([entity_code(kind, id_) for id_ in ids], np.int64)
        code_NK[there, k] = codes[position_N[there]]
        entities += [(kind, id_) for id_ in ids]
        links += len(known)
    return entity_NK, link_NK, code_NK, entities


def _ids(table: Table, kind: str, column: str) -> pl.Series:
    """The ids of one kind of entity as the service would keep them; null where there is none."""
    text_N = texts(table[column]).replace("", None)
    respelled, wrong = dict[str, str](), dict[str, str]()
    for text in text_N.drop_nulls().unique():
        try:
            if (id_ := canonical(kind, text)) != text:
                respelled[text] = id_
        except ValueError as error:
            wrong[text] = str(error)
    is_wrong_N = text_N.is_in(list(wrong)).fill_null(False)
    table.refuse(column, is_wrong_N, lambda _: wrong[text_N.filter(is_wrong_N)[0]])
    return text_N.replace(respelled)


def _positions(text_N: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each text as a position in the list of distinct ones, by first appearance; -1 for null."""
    assert NO_ENTITY == NO_KIND == -1
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


def _types(table: Table, spec: DatasetSpec) -> pl.Series:
    """What kind of transaction each row is; a payment where the file does not say."""
    column = spec.columns.type
    types_N = _optional(table, column).fill_null("payment")
    if column is not None:
        possible = get_args(Type)
        table.refuse(
            column,
            ~types_N.is_in(possible),
            lambda value: f"{value!r} is not a type ({', '.join(possible)} or null)",
        )
    return types_N


def _standings(table: Table, spec: DatasetSpec, types_N: pl.Series) -> NDArray[np.int64]:
    """How each row counts; without a status it went through."""
    column = spec.columns.status
    status_N = _optional(table, column)
    if column is not None:
        possible = get_args(Status)
        table.refuse(
            column,
            ~status_N.is_in(possible).fill_null(True),
            lambda value: f"{value!r} is not a status ({', '.join(possible)} or null)",
        )
    status_N = status_N.fill_null("authorised")
    both = pl.DataFrame({"type": types_N, "status": status_N})
    standings = {pair: standing_of(*pair) for pair in both.unique().iter_rows()}
    assert UNDECIDED not in standings.values()
    each_N = [standings[pair] for pair in both.iter_rows()]
    return np.array(each_N, np.int64)


def _categorical(table: Table, spec: DatasetSpec, types_N: pl.Series) -> NDArray[np.int64]:
    code_NC = np.empty((len(table.row_N), len(spec.categorical_names)), dtype=np.int64)
    for c, name in enumerate(spec.categorical_names):
        text_N = types_N if name == "type" else _optional(table, spec.categorical[name])
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

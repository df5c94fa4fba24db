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

from app.learner.features import EntityLabels
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    MISSING,
    NO_ENTITY,
    UNDECIDED,
    TransactionColumns,
    category_code,
    entity_code,
    standing_of,
)
from app.training.entries import NEVER_US, UNLABELLED, Entries, read_entries
from app.training.files import DataError
from app.training.left_out import LeftOut
from app.training.table import mapped

__all__ = ["NEVER_US", "NO_KIND", "UNLABELLED", "Dataset", "dataset_of", "read_transactions"]

NO_KIND = -1


@dataclass(frozen=True, slots=True)
class Dataset:
    """N transactions sorted by time, those of equal time in the order of the file.

    `columns` points into `accounts`, `entities` (each a kind and an id) and `links` pairs of them;
    a row without a status went through. `is_fraud_N` is 1, 0 or UNLABELLED;
    `known_at_us_N` is when the label becomes known (NEVER_US where there is none);
    `fraud_kind_N` points into `fraud_kinds` (NO_KIND where there is none). `without_rate` counts
    the transactions of each currency that has no rate, whose amounts are NaN; `left_out` are the
    rows of the file that are not among them.
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
    left_out: LeftOut | None = None

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
    """Read and check a CSV, Parquet or JSON file, or those of a folder or a pattern, by a spec.

    Where the spec says nothing else, times are datetimes, ISO 8601 text or whole seconds since
    1970, without a zone UTC; labels are 0/1, true/false or fraud/legitimate, and null means
    unlabelled. In CSV, categories and identifiers are kept as they are spelled (`007` stays `007`)
    and an empty field is null. By `rates` amounts are in the reference currency, NaN where a
    currency has no rate.

    Raises DataError with one sentence for the first thing that is wrong.
    """
    return dataset_of(Path(path), read_entries(path, spec), spec, rates)


def dataset_of(
    path: Path, entries: Entries, spec: DatasetSpec, rates: Rates | None = None
) -> Dataset:
    """Entries as the columns that features are made of. Raises DataError where no rate is known."""
    amount_N, without_rate = entries.amount_N, dict[str, int]()
    if rates is not None:
        rate_N, without_rate = _rates(path, entries.currency_N, spec, rates)
        amount_N = amount_N * rate_N
    account_N, accounts = _positions(entries.accounts_N)
    entity_NK, link_NK, code_NK, entities = _entities(entries, spec, account_N)
    kind_N, kinds = _positions(entries.fraud_kinds_N)
    return Dataset(
        columns=TransactionColumns(
            account_N=account_N,
            entity_NK=entity_NK,
            link_NK=link_NK,
            entity_code_NK=code_NK,
            time_us_N=entries.time_us_N,
            amount_N=amount_N,
            standing_N=_standings(entries),
            categorical_NC=_categorical(entries, spec),
            numeric_NM=entries.numeric_NM,
        ),
        transaction_ids=entries.ids_N.to_list(),
        accounts=accounts,
        entities=entities,
        is_fraud_N=entries.is_fraud_N,
        known_at_us_N=entries.known_at_us_N,
        fraud_kind_N=kind_N,
        fraud_kinds=kinds,
        without_rate=without_rate,
        left_out=entries.left_out,
    )


def _entities(
    entries: Entries, spec: DatasetSpec, account_N: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], list[tuple[str, str]]]:
    """Positions of entities and of their links with accounts, codes, [N, K] each; the entities."""
    shape = len(entries), len(spec.entity_names)
    entity_NK, link_NK = np.full(shape, NO_ENTITY), np.full(shape, NO_ENTITY)
    code_NK = np.full(shape, MISSING)
    entities: list[tuple[str, str]] = []
    links = 0
    for k, kind in enumerate(spec.entity_names):
        position_N, ids = _positions(entries.entities[kind])
        there = np.flatnonzero(position_N != NO_ENTITY)
        pairs_N = account_N[there] * max(len(ids), 1) + position_N[there]
        pairs, link_N = np.unique(pairs_N, return_inverse=True)
        entity_NK[there, k] = position_N[there] + len(entities)
        link_NK[there, k] = link_N + links
        codes = np.array([entity_code(kind, id_) for id_ in ids], np.int64)
        code_NK[there, k] = codes[position_N[there]]
        entities += [(kind, id_) for id_ in ids]
        links += len(pairs)
    return entity_NK, link_NK, code_NK, entities


def _positions(text_N: pl.Series) -> tuple[NDArray[np.int64], list[str]]:
    """Each text as a position in the list of distinct ones, by first appearance; -1 for null."""
    assert NO_ENTITY == NO_KIND == -1
    distinct = text_N.drop_nulls().unique(maintain_order=True)
    position_N = mapped(text_N, distinct, range(len(distinct)), pl.Int64(), -1)
    return position_N.to_numpy(writable=True), distinct.to_list()


def _rates(
    path: Path, currency_N: pl.Series, spec: DatasetSpec, rates: Rates
) -> tuple[NDArray[np.float64], dict[str, int]]:
    """The rate of each row's currency, and the rows of each currency that has none."""
    if not spec.has_currencies:
        raise DataError(
            f"{path}: amounts are compared in {rates.reference}, and spec {spec.name} names "
            "no column of currencies: set currency under [columns], or under [amount] for all"
        )
    distinct = currency_N.drop_nulls().unique()
    rate_of = rates.of(distinct.to_list()).tolist()
    rate_N = mapped(currency_N, distinct, rate_of, pl.Float64(), nan).to_numpy(writable=True)
    unknown = currency_N.filter(np.isnan(rate_N)).fill_null("no currency").value_counts(sort=True)
    without_rate = dict(unknown.iter_rows())
    if sum(without_rate.values()) == len(rate_N):
        where = f'column "{spec.currency_column}": ' if spec.currency_column else ""
        raise DataError(
            f"{path}: {where}no rate of {', '.join(without_rate)}, "
            "and so no amount to compare: state the rates of these currencies"
        )
    return rate_N, without_rate


def _standings(entries: Entries) -> NDArray[np.int64]:
    """How each row counts; without a status it went through."""
    status_N = entries.statuses_N.fill_null("authorised")
    both = pl.DataFrame({"type": entries.types_N, "status": status_N})
    standings = {pair: standing_of(*pair) for pair in both.unique().iter_rows()}
    assert UNDECIDED not in standings.values()
    each_N = [standings[pair] for pair in both.iter_rows()]
    return np.array(each_N, np.int64)


def _categorical(entries: Entries, spec: DatasetSpec) -> NDArray[np.int64]:
    code_NC = np.empty((len(entries), len(spec.categorical_names)), dtype=np.int64)
    for c, name in enumerate(spec.categorical_names):
        text_N = entries.categories[name]
        distinct = text_N.drop_nulls().unique()
        codes = [category_code(name, value) for value in distinct]
        code_NC[:, c] = mapped(text_N, distinct, codes, pl.Int64(), MISSING)
    return code_NC

"""A transactions file as whole transactions with their labels, for `quickstudy import`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from app.history.importing import NO_CURRENCY, Past
from app.learner.spec import DatasetSpec
from app.learner.transaction import ENTITY_FIELDS, NO_ENTITY, STANDARD_FIELDS, Transaction
from app.learner.validity import MOST_ATTRIBUTES, amount_of
from app.training.dataset import UNLABELLED, dataset_of
from app.training.entries import read_entries
from app.training.files import DataError

# What a file does not say of: it went through, as in training.
WENT_THROUGH = "authorised"


class History:
    """The N transactions of a file, in time order. Raises DataError for the first bad one."""

    def __init__(self, path: str | Path, spec: DatasetSpec) -> None:
        self._spec = spec
        entries = read_entries(path, spec)
        self._data = dataset_of(Path(path), entries, spec)
        self._amount_N, self._written_N = entries.amount_N, entries.written_N
        # The spellings that the dataset has hashed away.
        self._fields = {"type": entries.types_N, "status": entries.statuses_N}
        if spec.has_currencies:
            self._fields["currency"] = entries.currency_N
        self._categories = entries.categories
        self.left_out = entries.left_out
        self.newest_us = int(entries.time_us_N[-1])
        _check_attributes(spec)

    def __len__(self) -> int:
        return len(self._data)

    def chunks(self, size: int) -> Iterator[list[Past]]:
        """All of them, `size` at a time."""
        for first in range(0, len(self), size):
            last = min(first + size, len(self))
            fields, categories = (
                {name: text_N[first:last] for name, text_N in texts.items()}
                for texts in (self._fields, self._categories)
            )
            yield [
                self._past(n, _row(fields, n - first), _row(categories, n - first))
                for n in range(first, last)
            ]

    def _past(self, n: int, fields: dict[str, Any], categories: dict[str, str]) -> Past:
        data, columns = self._data, self._data.columns
        numeric = zip(self._spec.numeric_names, columns.numeric_NM[n].tolist(), strict=True)
        attributes: dict[str, Any] = {name: value for name, value in numeric if value == value}
        entities = {}
        for name, text in categories.items():
            if name in STANDARD_FIELDS:
                fields[name] = text
            else:
                attributes[name] = text
        for kind, id_ in (
            data.entities[entity] for entity in columns.entity_NK[n] if entity != NO_ENTITY
        ):
            if kind in ENTITY_FIELDS:
                fields[ENTITY_FIELDS[kind]] = id_
            else:
                entities[kind] = id_
        transaction = Transaction(
            transaction_id=data.transaction_ids[n],
            account_id=data.accounts[columns.account_N[n]],
            occurred_at_us=int(columns.time_us_N[n]),
            amount=amount_of(self._written_N[n] or float(self._amount_N[n])),
            attributes=attributes,
            entities=entities,
            **{"currency": NO_CURRENCY, "status": WENT_THROUGH, **fields},
        )
        label = int(data.is_fraud_N[n])
        is_fraud = None if label == UNLABELLED else label == 1
        return Past(transaction, is_fraud, int(data.known_at_us_N[n]))


def _row(texts: dict[str, pl.Series], n: int) -> dict[str, str]:
    return {name: text_N[n] for name, text_N in texts.items() if text_N[n] is not None}


def _check_attributes(spec: DatasetSpec) -> None:
    named = {*spec.categorical, *spec.numeric}.difference(STANDARD_FIELDS)
    if len(named) > MOST_ATTRIBUTES:
        raise DataError(
            f"spec {spec.name}: a payment may have {MOST_ATTRIBUTES} attributes, and "
            f"[categorical] and [numeric] name {len(named)}"
        )

"""A transactions file as whole transactions with their labels, for `quickstudy import`."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.history.importing import NO_CURRENCY, Past
from app.learner.spec import DatasetSpec
from app.learner.transaction import ENTITY_FIELDS, STANDARD_FIELDS, Transaction
from app.learner.validity import MOST_ATTRIBUTES, amount_of
from app.training.dataset import UNLABELLED, dataset_of
from app.training.entries import read_entries
from app.training.files import DataError

# Of what a file does not say. Without a status it went through, as in training.
DEFAULTS = {"currency": NO_CURRENCY, "type": "payment", "status": "authorised"}


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
            yield self._chunk(slice(first, first + size))

    def _chunk(self, rows: slice) -> list[Past]:
        """The transactions of some rows, column by column: values are not fetched one by one."""
        data, columns = self._data, self._data.columns
        texts = {name: text_N[rows].to_list() for name, text_N in self._fields.items()}
        fields: dict[str, list[Any]] = {
            "transaction_id": data.transaction_ids[rows],
            "account_id": [data.accounts[g] for g in columns.account_N[rows].tolist()],
            "occurred_at_us": columns.time_us_N[rows].tolist(),
            "amount": self._amounts(rows),
            **texts,
        }
        attributes: dict[str, list[Any]] = {
            name: _or_none(columns.numeric_NM[rows, m])
            for m, name in enumerate(self._spec.numeric_names)
        }
        for name, text_N in self._categories.items():
            text_n = text_N[rows].to_list()
            if name not in STANDARD_FIELDS:
                attributes[name] = text_n
            elif name in fields:
                fields[name] = list(map(_first_text, text_n, fields[name]))
            else:
                fields[name] = text_n
        entities: dict[str, list[Any]] = {}
        ids = [*(id_ for _, id_ in data.entities), None]
        for k, kind in enumerate(self._spec.entity_names):
            # The last place is that of no entity.
            id_n = [ids[entity] for entity in columns.entity_NK[rows, k].tolist()]
            if kind in ENTITY_FIELDS:
                fields[ENTITY_FIELDS[kind]] = id_n
            else:
                entities[kind] = id_n
        size = len(fields["transaction_id"])
        fields["attributes"], fields["entities"] = _rows(attributes, size), _rows(entities, size)
        nothing = [None] * size
        for name, default in DEFAULTS.items():
            values = fields.get(name, nothing)
            fields[name] = [default if value is None else value for value in values]
        ordered = [fields.get(name, nothing) for name in Transaction._fields]
        transactions = map(Transaction._make, zip(*ordered, strict=True))
        is_fraud_n = data.is_fraud_N[rows].tolist()
        labels = [None if label == UNLABELLED else label == 1 for label in is_fraud_n]
        known_at_us = data.known_at_us_N[rows].tolist()
        return list(map(Past, transactions, labels, known_at_us))

    def _amounts(self, rows: slice) -> list[Decimal]:
        written_N, amount_N = self._written_N[rows].to_list(), self._amount_N[rows].tolist()
        return [amount_of(text or amount) for text, amount in zip(written_N, amount_N, strict=True)]


def _or_none(number_N: NDArray[np.float64]) -> list[float | None]:
    return [number if number == number else None for number in number_N.tolist()]


def _first_text(text: str | None, other: str | None) -> str | None:
    return other if text is None else text


def _rows(columns: dict[str, list[Any]], size: int) -> list[dict[str, Any]]:
    """What each row has, by name, without what it lacks."""
    if not columns:
        return [{}] * size
    names = list(columns)
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in zip(*columns.values(), strict=True)
    ]


def _check_attributes(spec: DatasetSpec) -> None:
    named = {*spec.categorical, *spec.numeric}.difference(STANDARD_FIELDS)
    if len(named) > MOST_ATTRIBUTES:
        raise DataError(
            f"spec {spec.name}: a payment may have {MOST_ATTRIBUTES} attributes, and "
            f"[categorical] and [numeric] name {len(named)}"
        )

"""Transactions of a batch as the columns that features are computed from."""

from collections.abc import Iterable, Sequence
from functools import cache
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.learner.transaction import (
    MISSING,
    NO_ENTITY,
    STANDARD_FIELDS,
    AttributeValue,
    Transaction,
    TransactionColumns,
    attribute_number,
    category_code,
    category_text,
    entity_code,
    standing_of,
)


class Named(NamedTuple):
    """What the positions in columns point at: accounts, entities by kind, and pairs of them."""

    accounts: list[str]
    entities: list[tuple[str, str]]
    links: list[tuple[str, str, str]]


def columns_of(
    spec: DatasetSpec, transactions: Sequence[Transaction], rates: Rates | None = None
) -> tuple[TransactionColumns, Named]:
    """The columns of `transactions`, and the accounts, entities and links they point at.

    An entity is a kind and an id; a link is those and the account. By `rates` amounts are in the
    reference currency, NaN where a currency has no rate.
    """
    account_N, accounts = _positions([transaction.account_id for transaction in transactions])
    kinds, rows = spec.entity_names, len(transactions)
    entities, links = dict[tuple[str, str], int](), dict[tuple[str, str, str], int]()
    entity_NK = np.full((rows, len(kinds)), NO_ENTITY, np.int64)
    link_NK = entity_NK.copy()
    for k, kind in enumerate(kinds):
        for n, transaction in enumerate(transactions):
            if (id_ := transaction.entity(kind)) is not None:
                entity_NK[n, k] = entities.setdefault((kind, id_), len(entities))
                link_NK[n, k] = links.setdefault((kind, id_, transaction.account_id), len(links))
    # The last place is that of no entity.
    code_G = np.array([*(entity_code(*key) for key in entities), MISSING], np.int64)
    columns = TransactionColumns(
        account_N,
        entity_NK,
        link_NK,
        code_G[entity_NK],
        np.array([transaction.occurred_at_us for transaction in transactions], np.int64),
        _amounts(transactions, rates),
        np.array(
            [standing_of(transaction.type, transaction.status) for transaction in transactions],
            np.int64,
        ),
        np.empty((rows, len(spec.categorical_names)), np.int64),
        np.empty((rows, len(spec.numeric_names)), np.float64),
    )
    attributes_N = [transaction.attributes for transaction in transactions]
    for c, name in enumerate(spec.categorical_names):
        codes = _codes_of(name)
        if name in STANDARD_FIELDS:
            text_N = map(attrgetter(name), transactions)
        else:
            text_N = map(_text, [attributes.get(name) for attributes in attributes_N])
        columns.categorical_NC[:, c] = [codes[text] for text in text_N]
    for m, name in enumerate(spec.numeric_names):
        columns.numeric_NM[:, m] = [
            attribute_number(attributes.get(name)) for attributes in attributes_N
        ]
    return columns, Named(accounts, list(entities), list(links))


def _amounts(transactions: Sequence[Transaction], rates: Rates | None) -> NDArray[np.float64]:
    amount_N = np.array([float(transaction.amount) for transaction in transactions], np.float64)
    return (
        amount_N
        if rates is None
        else amount_N * rates.of([transaction.currency for transaction in transactions])
    )


def _positions(keys: Iterable[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Each key as a position among the distinct ones, by first appearance."""
    positions: dict[str, int] = {}
    position_N = np.array([positions.setdefault(key, len(positions)) for key in keys], np.int64)
    return position_N, list(positions)


# Far more than there are countries and categories; merchants come and go.
MOST_CODES = 1 << 16


class _Codes(dict[str | None, int]):
    """What `category_code` says of each value of a field, MISSING of None, worked out once."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __missing__(self, value: str | None) -> int:
        if len(self) >= MOST_CODES:
            self.clear()
        self[value] = code = MISSING if value is None else category_code(self.name, value)
        return code


@cache
def _codes_of(name: str) -> _Codes:
    return _Codes(name)


def _text(value: AttributeValue | None) -> str | None:
    return None if value is None else category_text(value)

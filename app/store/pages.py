"""Pages of a list: rows strictly after a key, in an order that an index has."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Tuple, literal, tuple_


def page(
    query: Select[Any],
    order: Sequence[Any],
    after: tuple[Any, ...] | None,
    limit: int,
    descending: bool = False,
) -> Select[Any]:
    """The query's next `limit` rows after the row with the key `after`.

    `order` are columns that no two rows share all of; a key with other than their number or
    types of values finds nothing sensible, so cursors are checked before.
    """
    if after is not None:
        key, place = _key(order, after), tuple_(*order)
        query = query.where(place < key if descending else place > key)
    return query.order_by(*(one.desc() if descending else one.asc() for one in order)).limit(limit)


def between(
    query: Select[Any],
    order: Sequence[Any],
    after: tuple[Any, ...] | None,
    until: Sequence[Any] | None,
) -> Select[Any]:
    """The query's rows after the row with the key `after`, up to that with the key `until`."""
    if after is not None:
        query = query.where(tuple_(*order) > _key(order, after))
    if until is not None:
        query = query.where(tuple_(*order) <= _key(order, until))
    return query


def _key(order: Sequence[Any], values: Sequence[Any]) -> Tuple:
    columns = zip(values, order, strict=True)
    return tuple_(*(literal(value, column.type) for value, column in columns))

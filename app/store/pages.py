"""Pages of a list: rows strictly after a key, in an order that an index has."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, literal, tuple_


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
        key = tuple_(
            *(literal(value, column.type) for value, column in zip(after, order, strict=True))
        )
        query = query.where(tuple_(*order) < key if descending else tuple_(*order) > key)
    return query.order_by(*(one.desc() if descending else one.asc() for one in order)).limit(limit)

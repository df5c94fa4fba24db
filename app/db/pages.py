"""Pages of a list: rows strictly after a key, in an order that an index has.

What a page costs does not grow with the table. Either an index serves all of its filters, or it
looks at `MOST_READ` rows at most and says how far it came.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, Tuple, func, literal, tuple_

from app.db.connection import Connection

Row = TypeVar("Row")
# Rows that a page looks at for those that its filters let through: 0.1 s where none is in memory.
MOST_READ = 2000


class Part(NamedTuple, Generic[Row]):
    """Rows of a list, and the key of the last row looked at where more may follow it."""

    rows: list[Row]
    until: tuple[Any, ...] | None


def unserved(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
    """`column = value` in words that no index serves, so that a page is read in its own order.

    By an index of this column, all rows of that value might be looked at instead.
    """
    equal: ColumnElement[bool] = func.coalesce(column, "") == value
    return equal


async def read_page(
    connection: Connection,
    make: Callable[[Any], Row],
    query: Select[Any],
    order: Sequence[Any],
    after: tuple[Any, ...] | None,
    limit: int,
    descending: bool = False,
    walked: Select[Any] | None = None,
    last: tuple[Any, ...] | None = None,
    lists: int = 1,
) -> Part[Row]:
    """The query's next rows, at most `limit`, after the row with the key `after`, up to `last`.

    `walked` is for a query with filters that no index serves, or `unserved`: the keys of all rows
    among which its own are, by conditions that an index does serve. Neither may bound the order by
    conditions of their own: of two bounds SQLite takes one to find its rows, and passes through
    what the other leaves out. Of several `lists` that are read for one page, each is walked for its
    share.
    """
    until: tuple[Any, ...] | None = None
    if walked is not None:
        walk = page(_up_to(walked, order, last, descending), order, after, 1, descending)
        found = (
            await connection.execute(walk.offset(max(MOST_READ // lists, 1) - 1))
        ).one_or_none()
        until = tuple(found) if found is not None else None
    query = _up_to(query, order, until or last, descending)
    return Part(await connection.read(make, page(query, order, after, limit, descending)), until)


def _up_to(
    query: Select[Any], order: Sequence[Any], last: tuple[Any, ...] | None, descending: bool
) -> Select[Any]:
    if last is None:
        return query
    key, place = _key(order, last), tuple_(*order)
    return query.where(place >= key if descending else place <= key)


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
    return query.order_by(
        *(column.desc() if descending else column.asc() for column in order)
    ).limit(limit)


def between(
    order: Sequence[Any], after: tuple[Any, ...] | None, until: Sequence[Any] | None
) -> list[ColumnElement[bool]]:
    """The conditions of rows after the row with the key `after`, up to that with `until`."""
    place = tuple_(*order)
    conditions: list[ColumnElement[bool]] = []
    if after is not None:
        conditions.append(place > _key(order, after))
    if until is not None:
        conditions.append(place <= _key(order, until))
    return conditions


def _key(order: Sequence[Any], values: Sequence[Any]) -> Tuple:
    columns = zip(values, order, strict=True)
    return tuple_(*(literal(value, column.type) for value, column in columns))

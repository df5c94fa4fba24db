"""What the statements of several tables share."""

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast, overload

from sqlalchemy import (
    JSON,
    Boolean,
    Delete,
    Executable,
    Insert,
    Select,
    String,
    Table,
    Text,
    Update,
    bindparam,
    func,
    select,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

from app.db.database import Raced
from app.db.postgres import Straight
from app.db.sqlite import InPlace, in_a_thread
from app.learner.transaction import MOST_ITEMS

Kind = TypeVar("Kind")
One = TypeVar("One")
Two = TypeVar("Two")
Three = TypeVar("Three")
Four = TypeVar("Four")
Five = TypeVar("Five")
Six = TypeVar("Six")
# What asks the store, and returns what it has made of the answer.
Asking: TypeAlias = Coroutine[Any, Any, Kind]


class IsWanted(FunctionElement[bool]):
    """Whether a column has one of the texts that are `wanted`: one parameter for all of them.

    Several columns have one of the tuples that are wanted; PostgreSQL has a parameter for each.
    """

    inherit_cache = True


@compiles(IsWanted, "postgresql")
def _is_any(element: IsWanted, compiler: SQLCompiler, **how: Any) -> str:
    if len(element.clauses) > 1:
        wanted = select(*map(_unnest, _parts_of(len(element.clauses))))
        return compiler.process(tuple_(*element.clauses).in_(wanted), **how)
    [column] = element.clauses
    return compiler.process(column == func.any(_texts("wanted")), **how)


@compiles(IsWanted, "sqlite")
def _is_in(element: IsWanted, compiler: SQLCompiler, **how: Any) -> str:
    each = func.json_each(bindparam("wanted", type_=JSON)).table_valued("value")
    if len(element.clauses) > 1:
        wanted = [func.json_extract(each.c.value, f"$[{n}]") for n in range(len(element.clauses))]
        return compiler.process(tuple_(*element.clauses).in_(select(*wanted)), **how)
    [column] = element.clauses
    return compiler.process(column.in_(select(each.c.value)), **how)


def _texts(name: str) -> Any:
    return bindparam(name, type_=postgresql.ARRAY(Text))


def _unnest(name: str) -> Any:
    return func.unnest(_texts(name))


def _parts_of(columns: int) -> list[str]:
    """The parameters that have the tuples that are wanted, column by column."""
    return [f"wanted_{n}" for n in range(columns)]


def _wanted(keys: list[Any]) -> dict[str, Any]:
    """The keys as parameters: whole, and tuples also column by column."""
    if not keys or isinstance(keys[0], str):
        return {"wanted": keys}
    return {
        "wanted": keys,
        **dict(zip(_parts_of(len(keys[0])), map(list, zip(*keys, strict=True)), strict=True)),
    }


# Statements of the hot path are built once: to build one takes longer than to execute it.
@cache
def _locking(table: Table, kind: Any) -> Any:
    key = _key(table)
    return (
        select(*columns(table, kind))
        .where(table.c.tenant == bindparam("of_tenant"), IsWanted(*key))
        .order_by(*key)
        .with_for_update()
    )


@cache
def _key(table: Table) -> list[Any]:
    """What tells a tenant's rows apart, but for a number of their own."""
    texts = [column for column in table.primary_key if isinstance(column.type, String)]
    return [column for column in texts if column.name != "tenant"]


@cache
def _absent(table: Table, dialect: Dialect) -> str:
    """Insert the rows that are not there, in the order of the given keys, as one statement."""
    names = [column.name for column in _key(table)]
    wanted = _parts_of(len(names)) if len(names) > 1 else ["wanted"]
    rows = select(sql_cast(bindparam("of_tenant"), Text), *map(_unnest, wanted))
    insert = postgresql.insert(table).from_select(["tenant", *names], rows)
    return str(insert.on_conflict_do_nothing().compile(dialect=dialect))


@cache
def _chosen(table: Table, kind: Any) -> Any:
    return select(*columns(table, kind)).where(
        table.c.tenant == bindparam("of_tenant"), IsWanted(table.c.transaction_id)
    )


class Question(NamedTuple):
    """A statement as the driver takes it: names in order, values of its own, columns of flags.

    And the tables that it is about.
    """

    text: str
    names: list[str]
    constants: dict[str, Any]
    flags: list[int]
    tables: frozenset[Table]

    def parameters(self, given: Mapping[str, Any]) -> tuple[Any, ...]:
        values = {**self.constants, **given}
        return tuple(values[name] for name in self.names)


@lru_cache(maxsize=64)
def _reading(query: Select[Any] | Insert | Update | Delete, dialect: Dialect) -> Question:
    compiled = query.compile(dialect=dialect)
    columns = query.selected_columns if isinstance(query, Select) else ()
    flags = [n for n, column in enumerate(columns) if isinstance(column.type, Boolean)]
    tables = frozenset(part for part in iterate(query) if isinstance(part, Table))
    names = compiled.positiontup or []
    return Question(compiled.string, names, compiled.params, flags, tables)


@lru_cache(maxsize=64)
def _writing(
    table: Table, kind: Any, key: tuple[str, ...], kept: tuple[str, ...], dialect: Dialect
) -> tuple[str, Callable[[Any], tuple[Any, ...]]]:
    """An insert of rows of a kind as the driver takes it, and what orders a row's fields for it.

    With a `key`, rows that are there are overwritten. SQLAlchemy writes the text, once; it would
    look at every value of every row, which takes longer than to store them. PostgreSQL is given
    columns, not rows, and inserts all of them at once.
    """
    is_postgres = dialect.name == "postgresql"
    insert = (postgresql if is_postgres else sqlite).insert(table)
    if is_postgres:
        insert = insert.from_select(kind._fields, select(*_unnested(table, kind)))
    if key:
        overwritten = [name for name in kind._fields if name not in key + kept]
        values = {name: insert.excluded[name] for name in overwritten}
        insert = insert.on_conflict_do_update(index_elements=key, set_=values)
    compiled = insert.compile(
        dialect=dialect, column_keys=None if is_postgres else list(kind._fields)
    )
    names = cast(SQLCompiler, compiled).positiontup or []
    return compiled.string, itemgetter(*map(kind._fields.index, names))


def _unnested(table: Table, kind: Any) -> Iterable[Any]:
    """Columns of a table out of an array each."""
    for name in kind._fields:
        column = table.c[name]
        # As texts: what is too long for its column is refused, where a cast would cut it.
        type_ = Text() if isinstance(column.type, String) else column.type
        yield func.unnest(bindparam(name, type_=postgresql.ARRAY(type_)))


async def lock(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, wanted: list[Any]
) -> list[Any]:
    """The rows of these keys, as `kind`, ours alone until the transaction ends.

    A key of several columns is a tuple. Raises Raced where one of them has just been erased.
    """
    if not wanted:
        return []
    await prepare(connection, table, tenant, wanted)
    rows = await ask(connection, kind._make, _locking(table, kind), tenant, wanted)
    if isinstance(connection, Straight) and len(rows) < len(wanted):
        raise erased(connection, table, tenant, wanted)
    return rows


async def prepare(
    connection: AsyncConnection, table: Table, tenant: str, wanted: list[Any]
) -> None:
    """Insert the rows of these keys that are not known to be there, and perhaps are.

    A row that does not exist cannot be locked. SQLite needs no row: the file is locked.
    """
    if not isinstance(connection, Straight):
        return
    if absent := connection.known.absent(table, tenant, wanted):
        text, (keys, *parts) = _absent(table, connection.dialect), _wanted(absent).values()
        await connection.write(table, text, (tenant, *(parts or [keys])))
        connection.inserted += [(table.name, tenant, one) for one in absent]


def erased(connection: Straight, table: Table, tenant: str, wanted: list[Any]) -> Raced:
    """What to raise where one of these rows has just been erased."""
    connection.known.discard(table, tenant, wanted)
    return Raced()


async def read(
    connection: AsyncConnection,
    make: Callable[[Iterable[Any]], Kind],
    query: Executable,
    parameters: Mapping[str, Any] | None = None,
) -> list[Kind]:
    """The rows that a query finds, fetched at once: one by one takes longer."""
    if isinstance(connection, InPlace):
        return await connection.read(make, query, parameters)
    return list(map(make, (await connection.execute(query, parameters)).all()))


async def ask(
    connection: AsyncConnection,
    make: Callable[[Iterable[Any]], Kind],
    query: Select[Any],
    tenant: str,
    wanted: Iterable[str | tuple[str, ...]] = (),
    are_many: bool = False,
    **given: Any,
) -> list[Kind]:
    """The same of a query that is always the same object, of a tenant, with what it is given.

    Where the rows may be many, to find and to make them is left to a thread.
    """
    values = {"of_tenant": tenant, **_wanted(list(wanted)), **given}
    question = _reading(query, connection.dialect)
    rows: Iterable[Any]
    # SQLAlchemy writes the text, once: to execute it takes longer there than in the database.
    if isinstance(connection, Straight):
        rows = await connection.fetch(question.text, question.parameters(values), question.tables)
        if are_many and not connection.is_gathering:
            return await in_a_thread(lambda: list(map(make, rows)))
    elif isinstance(connection, InPlace):
        values["wanted"] = _json(values["wanted"])
        flags = question.flags
        making = (lambda row: make(_with_flags(list(row), flags))) if flags else make
        parameters = question.parameters(values)
        return await connection.fetch(question.text, parameters, making, are_many)
    else:
        rows = (await connection.execute(query, values)).all()
    return list(map(make, rows))


# Keys as SQLite takes them. `json.dumps` would make an encoder for each call.
_json = json.JSONEncoder(ensure_ascii=False).encode


def _with_flags(row: list[Any], flags: Iterable[int]) -> list[Any]:
    """A row whose 1 and 0 are truths again."""
    for n in flags:
        row[n] = None if row[n] is None else bool(row[n])
    return row


@overload
async def together(
    connection: AsyncConnection, one: Asking[One], two: Asking[Two], /
) -> tuple[One, Two]: ...


@overload
async def together(
    connection: AsyncConnection, one: Asking[One], two: Asking[Two], three: Asking[Three], /
) -> tuple[One, Two, Three]: ...


@overload
async def together(
    connection: AsyncConnection,
    one: Asking[One],
    two: Asking[Two],
    three: Asking[Three],
    four: Asking[Four],
    five: Asking[Five],
    six: Asking[Six],
    /,
) -> tuple[One, Two, Three, Four, Five, Six]: ...


async def together(connection: AsyncConnection, *questions: Asking[Any]) -> Any:
    """What these answer, which ask the store, lock nothing, and need none of the others' answers.

    PostgreSQL is asked once for all of them, which saves time where they find few rows; SQLite in
    their order, and not at all for what comes after one that raises.
    """
    if isinstance(connection, Straight):
        return tuple(await connection.together(questions))
    try:
        return tuple([await question for question in questions])
    finally:
        for question in questions:
            question.close()


async def change(
    connection: AsyncConnection,
    statement: Insert | Update | Delete,
    rows: Iterable[Mapping[str, Any]],
    are_many: bool = False,
) -> None:
    """Execute an update that is always the same object, with the parameters of each row."""
    question = _reading(statement, connection.dialect)
    given = [question.parameters(row) for row in rows]
    if isinstance(connection, Straight):
        for parameters in given:
            await connection.write(cast(Table, statement.table), question.text, parameters)
    elif isinstance(connection, InPlace):
        await connection.exec_driver_sql(question.text, given, are_many)
    else:
        await connection.exec_driver_sql(question.text, given)


async def alter(
    connection: AsyncConnection,
    statement: Insert | Update | Delete,
    tenant: str,
    wanted: Sequence[str | tuple[str, ...]],
    **given: Any,
) -> None:
    """The same of the rows that are `wanted`."""
    if not wanted:
        return
    keys = _wanted(list(wanted))
    if not isinstance(connection, Straight):
        keys["wanted"] = _json(keys["wanted"])
    row = {"of_tenant": tenant, **keys, **given}
    await change(connection, statement, [row], len(wanted) > MOST_ITEMS)


async def of_transactions(
    connection: AsyncConnection, table: Table, kind: Any, tenant: str, ids: Iterable[str]
) -> dict[str, Any]:
    """What a table has of each of these transactions, as rows of `kind`, by transaction."""
    wanted = list(ids)
    if not wanted:
        return {}
    rows = await ask(connection, kind._make, _chosen(table, kind), tenant, wanted)
    return {row.transaction_id: row for row in rows}


async def add(connection: AsyncConnection, table: Table, rows: Iterable[Any]) -> None:
    """Insert new rows; the driver raises IntegrityError where one is there."""
    await _write(connection, table, list(rows), (), ())


async def save(
    connection: AsyncConnection,
    table: Table,
    key: tuple[str, ...],
    rows: Iterable[Any],
    kept: tuple[str, ...] = (),
) -> None:
    """Insert rows, or overwrite those that are there: all but their key and what is `kept`."""
    await _write(connection, table, list(rows), key, kept)


async def _write(
    connection: AsyncConnection,
    table: Table,
    rows: list[Any],
    key: tuple[str, ...],
    kept: tuple[str, ...],
) -> None:
    if not rows:
        return
    kind: Any = type(rows[0])
    text, ordered = _writing(table, kind, key, kept, connection.dialect)
    for first in range(0, len(rows), MOST_ITEMS):
        some = rows[first : first + MOST_ITEMS]
        if isinstance(connection, Straight):
            await connection.write(table, text, ordered(list(zip(*some, strict=True))))
        else:
            await connection.exec_driver_sql(text, [ordered(row) for row in some])


def columns(table: Table, kind: Any) -> list[Any]:
    """The columns of a table that a row's type names, in its order."""
    return [table.c[name] for name in kind._fields]

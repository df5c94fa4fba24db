"""Texts of statements that are executed again and again: SQLAlchemy writes them, once."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, cast

from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    Delete,
    Insert,
    Select,
    String,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    select,
    true,
    tuple_,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy import table as sqlalchemy_table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.visitors import iterate

# PostgreSQL's parameters, from $1 on.
PARAMETER = re.compile(r"\$(\d+)")
# Lehmer's generator as Park and Miller (1988) have it, here to scatter the seconds of a day.
MULTIPLIER, MODULUS = 48271, 2**31 - 1
# Of a row among a tenant's: a text, or one for each column.
Key: TypeAlias = str | tuple[str, ...]
# A statement that reads or changes rows; always the same object, so that its text is kept.
Kept: TypeAlias = Select[Any] | Insert | Update | Delete


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


def wanted_arrays(keys: Sequence[Key]) -> dict[str, Sequence[str]]:
    """The keys as PostgreSQL's parameters: an array of texts, or one for each column."""
    if not keys or isinstance(keys[0], str):
        return {"wanted": cast(Sequence[str], keys)}
    columns = map(list, zip(*keys, strict=True))
    return dict(zip(_parts_of(len(keys[0])), columns, strict=True))


# Statements of the hot path are built once: to build one takes longer than to execute it.
@cache
def locking(table: Table, kind: Any) -> Any:
    """The rows of the keys that are wanted, in the order of the primary key."""
    order = [column for column in table.primary_key if column.name != "tenant"]
    return (
        select(*columns(table, kind))
        .where(table.c.tenant == bindparam("of_tenant"), IsWanted(*_key(table)))
        .order_by(*order)
        .with_for_update()
    )


@cache
def locking_one_each(table: Table, kind: Any) -> Any:
    """A row of each of the keys, in their order, and that row as it was before it was waited for.

    A key has rows with numbers from 0 on. The first that nobody has locked is found; where all
    are locked, that with 0 is waited for. PostgreSQL alone has such a statement.
    """
    names = [column.name for column in _key(table)]
    [number] = [column for column in table.primary_key if column.name not in ("tenant", *names)]
    each = (
        func.unnest(*map(_texts, _parts_of(len(names))))
        .table_valued(*(column(name, Text) for name in names))
        .render_derived()
    )
    of_each = select(*columns(table, kind)).where(
        table.c.tenant == bindparam("of_tenant"), *(table.c[name] == each.c[name] for name in names)
    )
    free = (
        of_each.order_by(number)
        .limit(1)
        .with_for_update(skip_locked=True)
        .correlate(each)
        .lateral("free")
    )
    is_none_free = free.c[number.name].is_(None)
    all_locked = of_each.where(number == 0, is_none_free).correlate(each, free)
    first = all_locked.with_for_update().lateral("first")
    # Without a lock it is read as it was before it was waited for.
    before = all_locked.lateral("before")
    return select(
        *(func.coalesce(free.c[name], first.c[name]) for name in kind._fields),
        *(before.c[name] for name in kind._fields),
    ).select_from(each.outerjoin(free, true()).outerjoin(first, true()).outerjoin(before, true()))


@cache
def _key(table: Table) -> list[Any]:
    """What distinguishes a tenant's rows, but for a number of their own."""
    texts = [column for column in table.primary_key if isinstance(column.type, String)]
    return [column for column in texts if column.name != "tenant"]


@cache
def key_in(table: Table, kind: Any) -> Callable[[Any], Key]:
    """What takes a key out of a row of this kind."""
    return itemgetter(*(kind._fields.index(column.name) for column in _key(table)))


@cache
def absent(table: Table, dialect: Dialect) -> str:
    """Insert the rows that are not there, in the order of the given keys, as one statement."""
    names = [column.name for column in _key(table)]
    wanted = _parts_of(len(names)) if len(names) > 1 else ["wanted"]
    rows = select(sql_cast(bindparam("of_tenant"), Text), *map(_unnest, wanted))
    insert = postgresql.insert(table).from_select(["tenant", *names], rows)
    return str(insert.on_conflict_do_nothing().compile(dialect=dialect))


@cache
def chosen(table: Table, kind: Any) -> Any:
    return select(*columns(table, kind)).where(
        table.c.tenant == bindparam("of_tenant"), IsWanted(table.c.transaction_id)
    )


def by_key(table: Any, other: Any, *names: str) -> ColumnElement[bool]:
    """That rows of two tables, or of a table and a subquery, are one tenant's and equal in `names`.

    Each row of `table` is found by its whole key. Were the tenants compared as they are, PostgreSQL
    would look for the tenant of the question in both; where its statistics do not know that tenant
    yet it expects a single row in each, and compares all of a tenant's rows with all others. The
    tenant of a row that is still to be read can only be looked up together with the `names`.
    """
    same = (table.c[name] == other.c[name] for name in names)
    return and_(table.c.tenant == other.c.tenant + literal_column("''"), *same)


class Question(NamedTuple):
    """A statement as the driver takes it: names in order, values of its own, columns of flags.

    And the tables that it is about, with that which it changes.
    """

    text: str
    names: list[str]
    constants: dict[str, Any]
    flags: list[int]
    tables: frozenset[Table]
    changes: Table | None

    def parameters(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        values = {**self.constants, **arguments}
        return tuple(values[name] for name in self.names)


@lru_cache(maxsize=64)
def question_of(query: Kept, dialect: Dialect) -> Question:
    """A statement as the driver takes it: built once for each, and kept."""
    compiled = query.compile(dialect=dialect)
    columns = query.selected_columns if isinstance(query, Select) else ()
    flags = [n for n, column in enumerate(columns) if isinstance(column.type, Boolean)]
    tables = frozenset(part for part in iterate(query) if isinstance(part, Table))
    names = compiled.positiontup or []
    changes = None if isinstance(query, Select) else cast(Table, query.table)
    return Question(compiled.string, names, compiled.params, flags, tables, changes)


@lru_cache(maxsize=64)
def inserting(
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
    compiled = _overwriting(insert, kind, key, kept).compile(
        dialect=dialect, column_keys=None if is_postgres else list(kind._fields)
    )
    names = cast(SQLCompiler, compiled).positiontup or []
    return compiled.string, itemgetter(*map(kind._fields.index, names))


class Merging(NamedTuple):
    """How PostgreSQL overwrites rows of a table with those that were copied beside it."""

    copied: str
    create: str
    merge: str


@lru_cache(maxsize=64)
def merging(
    table: Table, kind: Any, key: tuple[str, ...], kept: tuple[str, ...], dialect: Dialect
) -> Merging:
    """The statements around a COPY of rows of a kind, which alone cannot overwrite any."""
    copied = f"copied_{table.name}"
    names = ", ".join(kind._fields)
    create = f"CREATE TEMPORARY TABLE {copied} AS SELECT {names} FROM {table.name} WITH NO DATA"
    beside = sqlalchemy_table(copied, *map(column, kind._fields))
    insert = postgresql.insert(table).from_select(kind._fields, select(*beside.c))
    merge = str(_overwriting(insert, kind, key, kept).compile(dialect=dialect))
    return Merging(copied, create, merge)


def _overwriting(insert: Any, kind: Any, key: tuple[str, ...], kept: tuple[str, ...]) -> Any:
    """An insert that overwrites rows of the same key, if there is one, but for what is kept."""
    if not key:
        return insert
    overwritten = [name for name in kind._fields if name not in key + kept]
    values = {name: insert.excluded[name] for name in overwritten}
    return insert.on_conflict_do_update(index_elements=key, set_=values)


@lru_cache(maxsize=64)
def updating_each(statement: Update, dialect: Dialect) -> Question:
    """An update as PostgreSQL takes it for many rows at once: with an array of each parameter."""
    compiled = statement.compile(dialect=dialect)
    question = question_of(statement, dialect)
    types = [compiled.binds[name].type.compile(dialect) for name in question.names]
    arrays = ", ".join(f"${n}::{type_}[]" for n, type_ in enumerate(types, 1))
    places = ", ".join(f"place_{n}" for n in range(1, len(types) + 1))
    changes, condition = PARAMETER.sub(r"new.place_\1", question.text).split(" WHERE ")
    text = f"{changes} FROM unnest({arrays}) AS new({places}) WHERE {condition}"
    return question._replace(text=text)


def _unnested(table: Table, kind: Any) -> Iterable[Any]:
    """Columns of a table out of an array each."""
    for name in kind._fields:
        column = table.c[name]
        # As texts: what is too long for its column is refused, where a cast would cut it.
        type_ = Text() if isinstance(column.type, String) else column.type
        yield func.unnest(bindparam(name, type_=postgresql.ARRAY(type_)))


def columns(table: Table, kind: Any) -> list[Any]:
    """The columns of a table that a row's type names, in its order."""
    return [table.c[name] for name in kind._fields]


def is_sampled(second: ColumnElement[int], one_in: int) -> ColumnElement[bool]:
    """Whether a second is one of a sample of about one in so many: always the same seconds."""
    return second * MULTIPLIER % MODULUS % one_in == 0

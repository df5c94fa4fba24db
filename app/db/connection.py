"""The one way to the database: a connection in a transaction, whichever driver it has."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar, overload

import sqlalchemy
from sqlalchemy import CursorResult, Delete, Executable, Insert, Select, Table, Update
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.selectable import TypedReturnsRows

from app.db import statements
from app.db.statements import Key
from app.learner.transaction import MOST_ITEMS
from app.ops.background import TaskHealth

Answer = TypeVar("Answer")
Row = TypeVar("Row")
Values = TypeVar("Values", bound=tuple[Any, ...])
First = TypeVar("First")
Second = TypeVar("Second")
Third = TypeVar("Third")
Fourth = TypeVar("Fourth")
Fifth = TypeVar("Fifth")
Sixth = TypeVar("Sixth")
# What queries the database, and returns what it has made of the rows.
Query: TypeAlias = Coroutine[Any, Any, Answer]


class Locked(NamedTuple):
    """A row, and as it was before others were waited for; None where nobody had it."""

    row: Any
    before: Any


class Connection(ABC):
    """What statements are executed on; each driver has a class of its own.

    `fetch`, `write_rows` and `update_rows` are for the hot path: they take statements that are
    always the same object, so that its text is written once. Anything else is for `execute`.
    """

    dialect: Dialect

    @overload
    async def execute(
        self, statement: TypedReturnsRows[Values], parameters: Any = None
    ) -> CursorResult[Values]: ...

    @overload
    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]: ...

    @abstractmethod
    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Execute a statement of any kind: for what is rare, and has few rows."""

    @abstractmethod
    async def run_sync(self, function: Callable[[sqlalchemy.Connection], Answer]) -> Answer:
        """What a function returns that needs SQLAlchemy's connection: to inspect a schema."""

    @abstractmethod
    async def fetch(
        self,
        make: Callable[[Iterable[Any]], Row],
        query: Select[Any],
        tenant: str,
        wanted: Iterable[Key] = (),
        are_many: bool = False,
        **values: Any,
    ) -> list[Row]:
        """What is made of a query's rows of a tenant; `wanted` are the keys of `IsWanted`.

        Where the rows may be many, to find and to make them is left to a thread.
        """

    async def write_rows(
        self,
        table: Table,
        rows: Iterable[Any],
        key: tuple[str, ...] = (),
        kept: tuple[str, ...] = (),
    ) -> None:
        """Insert rows of one type of named tuple.

        With a `key`, rows that are there are overwritten: all but their key and what is `kept`.
        Without, the driver raises an error of integrity where one is there. PostgreSQL takes more
        rows than a batch has by COPY.
        """
        some = list(rows)
        if not some:
            return
        kind: Any = type(some[0])
        if len(some) > MOST_ITEMS:
            await self._copy(table, some, key, kept)
            return
        text, ordered = statements.inserting(table, kind, key, kept, self.dialect)
        await self._insert(table, text, ordered, some)

    @abstractmethod
    async def _insert(
        self,
        table: Table,
        text: str,
        ordered: Callable[[Any], tuple[Any, ...]],
        rows: Sequence[Any],
    ) -> None:
        """Execute an insert of rows; `ordered` puts their fields in the statement's order."""

    @abstractmethod
    async def _copy(
        self, table: Table, rows: Sequence[Any], key: tuple[str, ...], kept: tuple[str, ...]
    ) -> None:
        """`write_rows`, of more rows than a batch has."""

    @abstractmethod
    async def update_rows(self, statement: Update, rows: Iterable[Mapping[str, Any]]) -> None:
        """Execute an update once for the parameters of each row, none of which share a row."""

    @abstractmethod
    async def change(
        self, statement: Insert | Update | Delete, tenant: str, wanted: Sequence[Key], **values: Any
    ) -> None:
        """Execute a statement about the rows that are `wanted`, if there are any."""

    @abstractmethod
    async def lock(self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]) -> list[Any]:
        """All rows of these keys, as `kind`, this transaction's alone until it ends.

        A key that is new may be without a row still. Raises Raced where one has just been erased.
        """

    @abstractmethod
    async def lock_one_each(
        self, table: Table, kind: Any, tenant: str, wanted: Sequence[Key]
    ) -> list[Locked]:
        """The same of one row of each of these keys, which have rows with numbers from 0 on.

        It is the first that nobody has; where others have all of them, that with 0 is waited for.
        """

    @overload
    async def together(
        self, first: Query[First], second: Query[Second], /
    ) -> tuple[First, Second]: ...

    @overload
    async def together(
        self, first: Query[First], second: Query[Second], third: Query[Third], /
    ) -> tuple[First, Second, Third]: ...

    @overload
    async def together(
        self,
        first: Query[First],
        second: Query[Second],
        third: Query[Third],
        fourth: Query[Fourth],
        /,
    ) -> tuple[First, Second, Third, Fourth]: ...

    @overload
    async def together(
        self,
        first: Query[First],
        second: Query[Second],
        third: Query[Third],
        fourth: Query[Fourth],
        fifth: Query[Fifth],
        sixth: Query[Sixth],
        /,
    ) -> tuple[First, Second, Third, Fourth, Fifth, Sixth]: ...

    @abstractmethod
    async def together(self, *queries: Query[Any]) -> Any:
        """What these return, which lock nothing, and need none of the others' answers.

        PostgreSQL answers all of them in one trip, which saves time where they find few rows;
        SQLite in their order, and not at all what comes after one that raises.
        """

    async def read(
        self,
        make: Callable[[Iterable[Any]], Row],
        query: Executable,
        parameters: Mapping[str, Any] | None = None,
    ) -> list[Row]:
        """What is made of the rows that a query of any kind finds, fetched at once."""
        return list(map(make, (await self.execute(query, parameters)).all()))

    async def by_transaction(
        self, table: Table, kind: Any, tenant: str, ids: Iterable[str]
    ) -> dict[str, Any]:
        """What a table has of each of these transactions, as rows of `kind`, by transaction."""
        wanted = list(ids)
        if not wanted:
            return {}
        rows = await self.fetch(kind._make, statements.chosen(table, kind), tenant, wanted)
        return {row.transaction_id: row for row in rows}


class Driver(ABC):
    """The connections of one process to its database."""

    @abstractmethod
    def write(self, aside: bool) -> AbstractAsyncContextManager[Connection]:
        """A transaction that is committed when the block ends."""

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Connection]:
        """A transaction that sees one state of the database."""

    @abstractmethod
    def glance(self) -> AbstractAsyncContextManager[Connection]:
        """A connection for one query."""

    @property
    @abstractmethod
    def background(self) -> list[TaskHealth]:
        """How the driver's own tasks fare."""

    @property
    @abstractmethod
    def has_changed(self) -> bool:
        """Whether the last transaction may have changed anything."""

    @abstractmethod
    async def close(self) -> None:
        """Close all connections."""

    @property
    def is_recovering(self) -> bool:
        """Whether an outage ended a short while ago."""
        return False

    @property
    def connections_in_use(self) -> int:
        """Of those that a server has."""
        return 0

    def watched(self) -> AbstractContextManager[None]:
        """A transaction; where it fails, that may be a sign of an outage."""
        return nullcontext()

    @property
    def history(self) -> str:
        """Changes where the database may have lost what was committed, as when a standby takes over
        that had not everything yet."""
        return ""

    @abstractmethod
    def fail_over(self) -> None:
        """Lead the next connections elsewhere: the server only reads by now."""


def parts(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    """As many rows as a statement may have, each time."""
    left = iter(rows)
    while part := list(islice(left, MOST_ITEMS)):
        yield part

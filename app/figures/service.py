"""Figures that take long to count are kept in the database, and counted again behind the answer.

A page that shows them costs one row, however many payments there are.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from app.db.connection import Connection
from app.db.database import Database
from app.figures import store
from app.figures.records import StoredFigures
from app.http.parts import part
from app.times import now_us

logger = logging.getLogger("quickstudy")
Content = TypeVar("Content", bound=BaseModel)

# Counting takes one processor for at most one part in so many of the time; figures that take no
# time are counted anew after a second.
IDLE_SHARE, LEAST_KEPT_US = 100, 1_000_000


class KeptFigures(NamedTuple, Generic[Content]):
    """Figures, and when they were counted."""

    counted_at_us: int
    content: Content


class Figures:
    """Keeps each tenant's figures of each name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counting: dict[tuple[str, str], asyncio.Task[StoredFigures]] = {}

    async def of(
        self,
        tenant: str,
        name: str,
        kind: type[Content],
        count: Callable[[Connection], Awaitable[Content]],
    ) -> KeptFigures[Content]:
        """The figures as they were counted last; the first time, and only then, this waits.

        Old ones are counted again meanwhile, for who comes next.
        """
        async with self._database.glance() as connection:
            row = await store.figures_of(connection, tenant, name)
        if row is None or _is_old(row):
            counting = self._count(tenant, name, count)
            if row is None:
                # Who waits may hang up; the figures come all the same.
                row = await asyncio.shield(counting)
        return KeptFigures(row.counted_at_us, kind.model_validate_json(row.content))

    def _count(
        self, tenant: str, name: str, count: Callable[[Connection], Awaitable[BaseModel]]
    ) -> asyncio.Task[StoredFigures]:
        """Those that are being counted already, or else from now on."""
        key = tenant, name
        if key not in self._counting:
            self._counting[key] = asyncio.create_task(self._counted(tenant, name, count))
            self._counting[key].add_done_callback(lambda task: self._end(key, task))
        return self._counting[key]

    async def _counted(
        self, tenant: str, name: str, count: Callable[[Connection], Awaitable[BaseModel]]
    ) -> StoredFigures:
        counted_at_us, started = now_us(), time.monotonic()
        async with self._database.read() as connection:
            content = await count(connection)
        took_us = int((time.monotonic() - started) * 1_000_000)
        row = StoredFigures(tenant, name, counted_at_us, took_us, content.model_dump_json())
        await self._database.run(lambda connection: store.save_figures(connection, row))
        return row

    def _end(self, key: tuple[str, str], task: asyncio.Task[StoredFigures]) -> None:
        del self._counting[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("figures could not be counted: %s", error)

    async def close(self) -> None:
        """Leave off counting."""
        for task in self._counting.values():
            task.cancel()
        await asyncio.gather(*self._counting.values(), return_exceptions=True)


def _is_old(row: StoredFigures) -> bool:
    return now_us() - row.counted_at_us > max(IDLE_SHARE * row.took_us, LEAST_KEPT_US)


RunningFigures = Annotated[Figures, part(Figures)]

"""Concurrent requests share a batch: nobody waits when it is idle, and under load one database
transaction and one pass of the network serve everyone who came meanwhile."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from app.background import BackgroundTask, TaskHealth
from app.errors import DeadlineExceeded, Problem
from app.transactions import MOST_ITEMS

# After a batch of several was answered, for as many to ask again.
LONGEST_WAIT_SECONDS = 0.005
# Transactions under way at which no more requests are let in: a batch, the next, and half of one.
FULL_ITEMS = 5 * MOST_ITEMS // 2

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Request(NamedTuple, Generic[Item, Answer]):
    items: Sequence[Item]
    deadline: float
    answers: "asyncio.Future[Sequence[Answer]]"


class Batcher(Generic[Item, Answer]):
    """Hands what has queued up to `process`, one batch at a time, whole requests together.

    `process` returns one answer per item, in order. `on_batch` is told the size of every batch.
    It is full with `most_waiting` requests or `FULL_ITEMS` items, those that are being answered
    among them. Who comes then is let in all the same, or all work up to here would be in vain: to
    refuse is for `app.api.admission`, before any of it. Nobody waits longer than
    `deadline_seconds`.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        on_batch: Callable[[int], None] = lambda size: None,
        *,
        most_waiting: int,
        deadline_seconds: float,
    ) -> None:
        self._process = process
        self._on_batch = on_batch
        self._most_waiting = most_waiting
        self._deadline_seconds = deadline_seconds
        self._queue: deque[_Request[Item, Answer]] = deque()
        # Requests that are being answered; items of these and of the queue.
        self._answering, self._items = 0, 0
        # Set when those who came are worth a batch: to be woken by each of them would take longer.
        self._enough = asyncio.Event()
        # How many requests would fill the next batch, and until when it is worth waiting for them.
        self._expected, self._until = 1, 0.0
        self.health = TaskHealth("batcher", is_needed=True)
        self._task = BackgroundTask(
            self.health,
            self._gather,
            self._answer_next,
            # A batch ends by its deadline, but for a commit that waits for the disk.
            longest_seconds=2 * deadline_seconds,
        )

    async def __aenter__(self) -> Self:
        await self._task.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._task.__aexit__(kind, error, traceback)
        for request in self._queue:
            request.answers.cancel()

    def is_full(self, coming: int = 0) -> bool:
        """Whether it would be when so many more requests, known to be coming, are there."""
        requests = self._answering + len(self._queue) + coming
        return requests >= self._most_waiting or self._items >= FULL_ITEMS

    async def submit(self, items: Sequence[Item]) -> Sequence[Answer]:
        """The answers for these items, at most 1,000 of them, in order.

        Raises DeadlineExceeded where it took too long.
        """
        assert len(items) <= MOST_ITEMS
        loop = asyncio.get_running_loop()
        request = _Request(items, loop.time() + self._deadline_seconds, loop.create_future())
        self._queue.append(request)
        self._items += len(items)
        if self._are_enough():
            self._enough.set()
        return await request.answers

    async def _answer_next(self) -> None:
        batch = self._take()
        if not batch:
            return
        self._answering = len(batch)
        try:
            await self._answer(batch)
        except Exception as error:
            # A fault of the batcher's own: nobody else would ever answer these.
            self._fail(batch, error)
            raise
        finally:
            # Those who wait are enough where more were refused: nobody waits for more of them.
            again = 0 if self._queue and self.is_full() else len(batch)
            self._expected = again + len(self._queue)
            self._until = asyncio.get_running_loop().time() + LONGEST_WAIT_SECONDS
            self._answering = 0
            self._items -= sum(len(request.items) for request in batch)
        # The answers go out before the next batch, which may not come to wait for anything.
        await asyncio.sleep(0)

    async def _gather(self) -> None:
        """Callers who have just been answered ask again at once: they shall share the batch."""
        # No look at the clock here: uvloop's, in whole milliseconds, can be a rounding error short
        # of the time at which its timer rings, and nothing would ring again.
        if not self._are_enough():
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._until):
                    await self._until_enough()
        if not self._queue:
            self._expected = 1
            await self._until_enough()

    async def _until_enough(self) -> None:
        self._enough.clear()
        await self._enough.wait()

    def _are_enough(self) -> bool:
        return len(self._queue) >= self._expected or self.is_full()

    def _take(self) -> list[_Request[Item, Answer]]:
        """The oldest requests that fit into one batch together."""
        batch: list[_Request[Item, Answer]] = []
        room = MOST_ITEMS
        while self._queue and len(self._queue[0].items) <= room:
            request = self._queue.popleft()
            # A caller that has hung up before its turn is owed nothing.
            if request.answers.done():
                self._items -= len(request.items)
            else:
                room -= len(request.items)
                batch.append(request)
        return batch

    async def _answer(self, batch: list[_Request[Item, Answer]]) -> None:
        items = [item for request in batch for item in request.items]
        self._on_batch(len(items))
        limit = asyncio.timeout_at(batch[0].deadline)
        try:
            async with limit:
                answers = await self._process(items)
        except Problem as problem:
            # The service's own state, such as a database that is away: true for everyone.
            self._fail(batch, problem)
        except Exception as error:
            if limit.expired():
                self._fail(batch, DeadlineExceeded())
            else:
                await self._answer_apart(batch, error)
        else:
            self._distribute(batch, answers)

    async def _answer_apart(self, batch: list[_Request[Item, Answer]], error: Exception) -> None:
        """One of several requests may be to blame: each is tried on its own."""
        if len(batch) == 1:
            self._fail(batch, error)
            return
        for request in batch:
            await self._answer([request])

    def _distribute(self, batch: list[_Request[Item, Answer]], answers: Sequence[Answer]) -> None:
        first = 0
        for request in batch:
            last = first + len(request.items)
            if not request.answers.done():
                request.answers.set_result(answers[first:last])
            first = last

    def _fail(self, batch: list[_Request[Item, Answer]], error: Exception) -> None:
        for request in batch:
            if not request.answers.done():
                request.answers.set_exception(error)

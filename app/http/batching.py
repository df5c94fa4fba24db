"""Concurrent requests share a batch: nobody waits when it is idle, and under load one database
transaction and one pass of the network serve everyone who came meanwhile.

Tenants have fair shares of the queue and of each batch, and a failure reaches whoever causes it.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Generic, NamedTuple, Self, TypeVar

from app.db.errors import DatabaseUnavailable
from app.errors import Problem
from app.http.problems import DeadlineExceeded, InternalError, Overloaded
from app.http.quotas import Shares
from app.learner.transaction import MOST_ITEMS
from app.ops.background import BackgroundTask, TaskHealth

logger = logging.getLogger("quickstudy")

# After a batch of several was answered, for as many to ask again.
LONGEST_WAIT_SECONDS = 0.005
# Transactions under way at which no more requests of a tenant are let in: a batch, the next, and
# half of one; and how many it may have whatever the others have.
FULL_ITEMS = 5 * MOST_ITEMS // 2
LEAST_ITEMS = MOST_ITEMS // 4
# While several tenants ask, a batch has so many transactions at most, half as many of a request:
# whoever comes waits for that many of another's, not for a thousand.
SHARED_ITEMS = 64
# So long a tenant counts after a request: also one that sends them now and then shall not wait.
SHARED_SECONDS = 60.0
# What a transaction takes of a body, at the least: how many there are is known once it is parsed.
ITEM_BYTES = 512
# A tenant whose requests failed by themselves shares no batch with others for so long.
APART_SECONDS = 10.0

Kind = TypeVar("Kind")
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Place:
    """A request's place in the queue, from before its body is parsed until it is answered."""

    __slots__ = ("_batcher", "_items", "tenant")

    def __init__(self, batcher: "Batcher[Any, Any]", tenant: str, items: int) -> None:
        self._batcher, self.tenant, self._items = batcher, tenant, items
        batcher.requests.take(tenant, 1)
        batcher.items.take(tenant, items)

    def count(self, items: int) -> None:
        """It has so many items, as is known now."""
        self._batcher.items.take(self.tenant, items - self._items)
        self._items = items

    def leave(self) -> None:
        """Make room for another; no more than once."""
        self._batcher.requests.give_back(self.tenant, 1)
        self._batcher.items.give_back(self.tenant, self._items)


class _Request(Generic[Item, Answer]):
    """Items of a caller, and the answers that have been found so far."""

    __slots__ = ("answers", "deadline", "done", "failed", "items", "missing", "tenant")

    def __init__(
        self,
        tenant: str,
        items: Sequence[Item],
        deadline: float,
        done: "asyncio.Future[Sequence[Answer | Problem]]",
    ) -> None:
        self.tenant, self.items, self.deadline, self.done = tenant, items, deadline, done
        self.answers: list[Answer | Problem] = []
        self.missing, self.failed = len(items), 0

    def answer(self, first: int, answers: Sequence[Answer | Problem]) -> None:
        """Take the answers of the items from `first` on."""
        if len(answers) == len(self.items):
            self.answers = list(answers)
        else:
            self.answers = self.answers or [InternalError()] * len(self.items)
            self.answers[first : first + len(answers)] = answers
        self.missing -= len(answers)
        if not self.missing and not self.done.done():
            self.done.set_result(self.answers)

    def blame(self, first: int, error: Exception) -> None:
        """An item fails by itself; where all of them do, the request fails."""
        self.failed += 1
        if self.failed == len(self.items):
            self.fail(error)
            return
        if self.failed == 1:
            # A line for each of a thousand would add nothing, nor a trace of what has a name.
            if isinstance(error, Problem):
                logger.error("an item of a request for scores failed: %s", error.code)
            else:
                logger.error("an item of a request for scores failed", exc_info=error)
        self.answer(first, [error if isinstance(error, Problem) else InternalError()])

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class _Part(NamedTuple):
    """Items of a request that are answered together."""

    request: _Request[Any, Any]
    first: int
    last: int

    @property
    def items(self) -> Sequence[Any]:
        return self.request.items[self.first : self.last]

    @property
    def size(self) -> int:
        return self.last - self.first

    def halves(self) -> "tuple[_Part, _Part]":
        return self.cut(self.size // 2)

    def cut(self, size: int) -> "tuple[_Part, _Part]":
        middle = self.first + size
        return self._replace(last=middle), self._replace(first=middle)


_Batch = list[_Part]


def _cut(part: _Part, size: int) -> Sequence[_Part]:
    return part.cut(size) if part.size > size else (part,)


class _Turns(Generic[Kind]):
    """What waits, by tenant: each tenant has its turn, and what it has keeps its order."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Kind]] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Kind]:
        return chain.from_iterable(self._queues.values())

    def add(self, tenant: str, waiting: Kind) -> None:
        self._queues.setdefault(tenant, deque()).append(waiting)
        self._size += 1

    def add_first(self, tenant: str, waiting: Kind) -> None:
        """Before what the tenant has there already."""
        self._queues.setdefault(tenant, deque()).appendleft(waiting)
        self._size += 1

    def cut_next(self, size: int, cut: Callable[[Kind, int], Sequence[Kind]]) -> None:
        """Have what each tenant has next be of this size at most, and the rest come after it."""
        for queue in self._queues.values():
            parts = cut(queue.popleft(), size)
            queue.extendleft(reversed(parts))
            self._size += len(parts) - 1

    def take(self, room: int, size_of: Callable[[Kind], int]) -> list[Kind]:
        """What each tenant has next, in turn, again and again, as long as there is room for it.

        A tenant whose next does not fit is the first to be served the next time.
        """
        taken = []
        tenants = deque(self._queues)
        while tenants:
            tenant = tenants.popleft()
            queue = self._queues[tenant]
            size = size_of(queue[0])
            if size > room:
                continue
            room -= size
            taken.append(queue.popleft())
            if queue:
                self._queues.move_to_end(tenant)
                tenants.append(tenant)
            else:
                del self._queues[tenant]
        self._size -= len(taken)
        return taken


class Batcher(Generic[Item, Answer]):
    """Hands what has queued up to `process`, one batch at a time, whole requests together.

    Where other tenants ask as well, a large request is answered in parts, the first items first.

    `process` returns an answer for each item, in order. `on_batch` is called with the size of every
    batch, `on_refused` at every refusal. Whoever wants to queue needs a place, which `enter` gives:
    a tenant may have `most_waiting` requests or `FULL_ITEMS` items under way, fewer where others
    have some too, and one request in any case. Nobody waits longer than `deadline_seconds`.

    A batch takes requests from each tenant in turn. Where it fails, and not because the database is
    away, each tenant's part is tried again apart from the others, in a lane of its own, and halved
    until only the items that are to blame have failed. Meanwhile the others go on.
    """

    def __init__(
        self,
        process: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        on_batch: Callable[[int], None] = lambda size: None,
        on_refused: Callable[[], None] = lambda: None,
        *,
        most_waiting: int,
        deadline_seconds: float,
    ) -> None:
        self._process = process
        self._on_batch, self._on_refused = on_batch, on_refused
        self._most_waiting = most_waiting
        self._deadline_seconds = deadline_seconds
        self.requests, self.items = Shares(most_waiting, 1), Shares(FULL_ITEMS, LEAST_ITEMS)
        self._queue: _Turns[_Part] = _Turns()
        # When each tenant has last sent a request, the latest last.
        self._last_sent: OrderedDict[str, float] = OrderedDict()
        # What is tried again, and all requests of tenants that have failed of late, by tenant.
        self._apart: _Turns[_Batch] = _Turns()
        self._apart_until: dict[str, float] = {}
        # Of these tenants, the batch there that new requests join.
        self._fresh: dict[str, _Batch] = {}
        self._any_apart = asyncio.Event()
        # Set when those who came are worth a batch: to be woken by each of them would take longer.
        self._enough = asyncio.Event()
        # How many requests would fill the next batch, and until when it is worth waiting for them.
        self._expected, self._until = 1, 0.0
        # A batch ends by its deadline, but for a commit that waits for the disk.
        longest = 2 * deadline_seconds
        self.health = TaskHealth("batcher", is_needed=True)
        self.health_apart = TaskHealth("batcher apart", is_needed=True)
        self._lanes = (
            BackgroundTask(self.health, self._gather, self._answer_next, longest_seconds=longest),
            BackgroundTask(
                self.health_apart,
                self._until_any_apart,
                self._answer_next_apart,
                longest_seconds=longest,
            ),
        )

    async def __aenter__(self) -> Self:
        for lane in self._lanes:
            await lane.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for lane in self._lanes:
            await lane.__aexit__(*error)
        for part in [*self._queue, *chain.from_iterable(self._apart)]:
            part.request.done.cancel()

    def check(self, tenant: str) -> None:
        """Raises Overloaded where a tenant may have no place now."""
        if not (self.requests.has_room(tenant) and self.items.has_room(tenant)):
            self.refuse()

    def refuse(self) -> None:
        """Raises Overloaded."""
        self._on_refused()
        raise Overloaded

    def enter(self, tenant: str, size: int) -> Place:
        """A place for a tenant's request with a body of `size` bytes; raises Overloaded."""
        self.check(tenant)
        return Place(self, tenant, size // ITEM_BYTES + 1)

    @property
    def is_full(self) -> bool:
        """Whether more than one tenant alone may have is under way."""
        return self.requests.total >= self._most_waiting or self.items.total >= FULL_ITEMS

    async def submit(self, place: Place, items: Sequence[Item]) -> Sequence[Answer | Problem]:
        """The answers for these items, at most 1,000 of them, in order.

        An item that fails by itself has a Problem as its answer. Raises DeadlineExceeded where it
        took too long, DatabaseUnavailable, and whatever all of the items failed by.
        """
        assert len(items) <= MOST_ITEMS
        if not items:
            return []
        place.count(len(items))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_seconds
        request = _Request[Item, Answer](place.tenant, items, deadline, loop.create_future())
        part = _Part(request, 0, len(items))
        self._last_sent[place.tenant] = loop.time()
        self._last_sent.move_to_end(place.tenant)
        if self._apart_until and self._is_apart(place.tenant):
            self._add_apart(part)
        else:
            self._queue.add(place.tenant, part)
            if self._are_enough():
                self._enough.set()
        return await request.done

    async def _answer_next(self) -> None:
        """Answer those who wait, all in one batch."""
        batch = self._take()
        if not batch:
            return
        try:
            await self._answer(batch)
        finally:
            # Those who wait are enough where more were refused: nobody waits for more of them.
            answered = sum(not part.request.missing for part in batch)
            again = 0 if self._queue and self.is_full else answered
            self._expected = again + len(self._queue)
            self._until = asyncio.get_running_loop().time() + LONGEST_WAIT_SECONDS
        # The answers go out before the next batch, which may not come to wait for anything.
        await asyncio.sleep(0)

    async def _until_any_apart(self) -> None:
        if not self._apart:
            self._any_apart.clear()
            await self._any_apart.wait()

    async def _answer_next_apart(self) -> None:
        """Answer a batch of one tenant; the next tenant has its turn after that."""
        [batch] = self._apart.take(1, lambda batch: 1)
        tenant = batch[0].request.tenant
        if self._fresh.get(tenant) is batch:
            del self._fresh[tenant]
        if batch := [part for part in batch if self._is_waiting(part)]:
            await self._answer(batch)
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
        return len(self._queue) >= self._expected or self.is_full

    def _take(self) -> _Batch:
        """The requests that fit into one batch together, of each tenant in turn, oldest first."""
        room = MOST_ITEMS
        if self._are_several():
            room = SHARED_ITEMS
            self._queue.cut_next(room // 2, _cut)
        taken = self._queue.take(room, lambda part: part.size)
        return [part for part in taken if self._is_waiting(part)]

    def _are_several(self) -> bool:
        """Whether more than one tenant has sent requests of late."""
        since = asyncio.get_running_loop().time() - SHARED_SECONDS
        while self._last_sent and next(iter(self._last_sent.values())) < since:
            self._last_sent.popitem(last=False)
        return len(self._last_sent) > 1

    def _is_waiting(self, part: _Part) -> bool:
        """Whether the caller still waits: one that has hung up is owed nothing."""
        if asyncio.get_running_loop().time() >= part.request.deadline:
            part.request.fail(DeadlineExceeded())
        return not part.request.done.done()

    async def _answer(self, batch: _Batch) -> None:
        try:
            await self._try(batch)
        except (Exception, asyncio.CancelledError) as error:
            # A fault of the batcher's own, or its end: nobody else would ever answer these.
            self._fail(batch, error if isinstance(error, Exception) else InternalError())
            raise

    async def _try(self, batch: _Batch) -> None:
        items = [item for part in batch for item in part.items]
        self._on_batch(len(items))
        limit = asyncio.timeout_at(min(part.request.deadline for part in batch))
        try:
            async with limit:
                answers = await self._process(items)
            if len(answers) != len(items):
                raise ValueError(f"{len(answers)} answers to {len(items)} items")
        except DatabaseUnavailable as problem:
            # True for everyone.
            self._fail(batch, problem)
        except Exception as error:
            if limit.expired():
                self._fail(batch, DeadlineExceeded())
            else:
                self._divide(batch, error)
        else:
            self._distribute(batch, answers)

    def _divide(self, batch: _Batch, error: Exception) -> None:
        """Have what failed tried again: each tenant's part, then its halves, apart from others.

        What fails alone is to blame.
        """
        parts_of: dict[str, _Batch] = {}
        for part in batch:
            parts_of.setdefault(part.request.tenant, []).append(part)
        if len(parts_of) > 1:
            divided = list(parts_of.values())
        else:
            [tenant] = parts_of
            self._apart_until[tenant] = asyncio.get_running_loop().time() + APART_SECONDS
            if len(batch) > 1:
                middle = len(batch) // 2
                divided = [batch[:middle], batch[middle:]]
            elif batch[0].size > 1:
                divided = [[half] for half in batch[0].halves()]
            else:
                [(request, first, _)] = batch
                request.blame(first, error)
                return
        for parts in reversed(divided):
            self._apart.add_first(parts[0].request.tenant, parts)
        self._any_apart.set()

    def _is_apart(self, tenant: str) -> bool:
        until = self._apart_until.get(tenant)
        if until is not None and until < asyncio.get_running_loop().time():
            del self._apart_until[tenant]
            return False
        return until is not None

    def _add_apart(self, part: _Part) -> None:
        """With what else the tenant has waiting there, as far as one batch holds it."""
        tenant = part.request.tenant
        batch = self._fresh.get(tenant)
        if batch is None or sum(queued.size for queued in batch) + part.size > MOST_ITEMS:
            batch = self._fresh[tenant] = []
            self._apart.add(tenant, batch)
            self._any_apart.set()
        batch.append(part)

    def _distribute(self, batch: _Batch, answers: Sequence[Answer]) -> None:
        first = 0
        for part in batch:
            last = first + part.size
            part.request.answer(part.first, answers[first:last])
            first = last

    def _fail(self, batch: Iterable[_Part], error: Exception) -> None:
        for part in batch:
            part.request.fail(error)

"""Turns at what only so many may have at once: each owner in turn, however many wait for one."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

# Whose turn it is: a tenant's, where a request has a key; what runs for nobody shares one.
owner: ContextVar[str] = ContextVar("owner", default="")
# How many turns each owner may have at once, in multiples of those that are still free: of 15 a
# tenant has 10 at most. All of them could be kept busy by one account that somebody has locked.
EAGERNESS = 2


class Turns:
    """So many turns at once. Whoever comes waits for one of each other owner, and not for all.

    Of more than two turns, no owner has all.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._held = Counter[str]()
        # By owner, in the order in which they are served.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A turn for the owner of the context, until the block ends."""
        own = owner.get()
        await self._take(own)
        try:
            yield
        finally:
            self._give_back(own)

    async def _take(self, own: str) -> None:
        if self._has_room(own):
            self._hold(own)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(own, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It has come, and nobody is there any more.
                self._give_back(own)
            raise

    def _has_room(self, own: str) -> bool:
        """Whether an owner may have one more; whoever waits has none."""
        return self._held[own] < EAGERNESS * self._free

    def _hold(self, own: str) -> None:
        self._free -= 1
        self._held[own] += 1

    def _give_back(self, own: str) -> None:
        self._free += 1
        self._held[own] -= 1
        # Owners come and go.
        if not self._held[own]:
            del self._held[own]
        self._serve()

    def _serve(self) -> None:
        """Give what is free to those who wait for it, to each owner in turn."""
        while (own := next(filter(self._has_room, self._waiting), None)) is not None:
            turns = self._waiting[own]
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(own)
            else:
                del self._waiting[own]
            if not turn.done():
                self._hold(own)
                turn.set_result(None)

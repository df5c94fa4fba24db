"""Turns at what only so many may have at once: each owner in turn, however many wait for one."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

# Whose turn it is: a tenant's, where a request has a key; what runs for nobody shares one.
owner: ContextVar[str] = ContextVar("owner", default="")


class Turns:
    """So many turns at once. Whoever comes waits for one of each other owner, and not for all."""

    def __init__(self, count: int) -> None:
        self._free = count
        # By owner, in the order in which they are served.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """A turn for the owner of the context, until the block ends."""
        await self._take(owner.get())
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, own: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(own, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It has come, and nobody is there any more.
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        while self._waiting:
            own, turns = next(iter(self._waiting.items()))
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(own)
            else:
                del self._waiting[own]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

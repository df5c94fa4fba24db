"""What would keep the event loop waiting is done in a thread."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from typing import TypeVar

Answer = TypeVar("Answer")


async def in_a_thread(function: Callable[[], Answer], threads: Executor | None = None) -> Answer:
    """What a function returns that cannot be interrupted: waits for its end when cancelled, too."""
    done = asyncio.get_running_loop().run_in_executor(threads, copy_context().run, function)
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        await asyncio.wait([done])
        raise

"""Passwords: kept as slow hashes, compared one at a time."""

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.http.problems import Overloaded
from app.ops.background import in_a_thread

SHORTEST, LONGEST = 12, 200
# Of scrypt, as OWASP advises: 32 MiB and some tenths of a second for each guess.
COST, BLOCKS, PASSES = 2**15, 8, 3
MOST_WAITING = 20


class Passwords:
    """Hashes passwords in a thread, one at a time: whoever guesses takes one processor at most."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """One of them at a time; raises Overloaded where too many wait for it."""
        if self._waiting >= MOST_WAITING:
            raise Overloaded("Too many people are signing in; try again in a moment.")
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def hashed(self, password: str) -> str:
        """What is kept of a password."""
        salt = secrets.token_bytes(16)
        async with self.turn():
            digest = await _scrypt(password, salt, COST, BLOCKS, PASSES)
        return _kept(salt, digest)


async def matches(password: str, kept: str | None) -> bool:
    """Whether it is that password; takes equally long where there is none to compare with.

    It is for whoever has a turn.
    """
    _, cost, blocks, passes, salt, digest = (kept or _kept(bytes(16), bytes(32))).split("$")
    found = await _scrypt(password, b64decode(salt), int(cost), int(blocks), int(passes))
    return hmac.compare_digest(found, b64decode(digest)) and kept is not None


async def _scrypt(password: str, salt: bytes, cost: int, blocks: int, passes: int) -> bytes:
    return await in_a_thread(
        lambda: hashlib.scrypt(
            password.encode("utf-8", "surrogatepass"),
            salt=salt,
            n=cost,
            r=blocks,
            p=passes,
            maxmem=256 * cost * blocks,
            dklen=32,
        )
    )


def _kept(salt: bytes, digest: bytes) -> str:
    cost = f"{COST}${BLOCKS}${PASSES}"
    return f"scrypt${cost}${b64encode(salt).decode()}${b64encode(digest).decode()}"

"""API keys: `qs_<id>_<secret>`, shown once, kept as a digest, good for one tenant."""

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row, select, update

from app.database import Database
from app.errors import Unauthenticated
from app.tables import api_keys
from app.times import now_us

DEFAULT_TENANT = "default"
# A revoked key may live on this long in a process that has just seen it.
CACHE_SECONDS = 1.0
CACHED_KEYS = 10_000


class ApiKey(NamedTuple):
    """A row of `api_keys`, without what could be used to log in."""

    id: str
    tenant: str
    name: str
    created_at_us: int
    revoked_at_us: int | None


async def create(database: Database, name: str, tenant: str = DEFAULT_TENANT) -> str:
    """Make a key and return its text, which is nowhere else: only a digest is stored.

    Raises ValueError for a name or tenant that is empty or longer than 128 characters.
    """
    for what, text in (("name", name), ("tenant", tenant)):
        if not 1 <= len(text) <= 128 or not text.isprintable():
            raise ValueError(f"the key's {what} must have 1 to 128 printable characters")
    # Hexadecimal, so that the id never holds the underscore that separates it.
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {
        "id": key_id,
        "tenant": tenant,
        "name": name,
        "digest": _digest(secret),
        "created_at_us": now_us(),
    }
    async with database.write() as connection:
        await connection.execute(api_keys.insert(), row)
    return f"qs_{key_id}_{secret}"


async def listed(database: Database) -> Sequence[ApiKey]:
    """Every key, the oldest first."""
    columns = [api_keys.c[name] for name in ApiKey._fields]
    async with database.read() as connection:
        rows = await connection.execute(select(*columns).order_by(api_keys.c.created_at_us))
        return [ApiKey(*row) for row in rows]


async def revoke(database: Database, key_id: str) -> None:
    """Raises ValueError where there is no such key, or it is revoked already."""
    async with database.write() as connection:
        revoked = await connection.execute(
            update(api_keys)
            .where(api_keys.c.id == key_id, api_keys.c.revoked_at_us.is_(None))
            .values(revoked_at_us=now_us())
        )
        if revoked.rowcount == 0:
            raise ValueError(f"there is no live key {key_id}: see `quickstudy keys list`")


class Authenticator:
    """Tells which tenant a key speaks for, asking the database at most once a second a key."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[str, tuple[float, Row[Any]]] = {}

    async def tenant_of(self, key: str) -> str:
        """The tenant of a live key; raises Unauthenticated for any other text."""
        prefix, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        row = await self._row(key_id) if prefix == "qs" and _could_be_an_id(key_id) else None
        # Hashed and compared even where there is no such key, to take equally long.
        expected = row.digest if row is not None else bytes(32)
        if not hmac.compare_digest(_digest(secret), expected) or row is None:
            raise Unauthenticated("The API key is not known.", headers=CHALLENGE)
        if row.revoked_at_us is not None:
            raise Unauthenticated("The API key has been revoked.", headers=CHALLENGE)
        tenant: str = row.tenant
        return tenant

    async def _row(self, key_id: str) -> Row[Any] | None:
        now = self._clock()
        seen_at, row = self._known.get(key_id, (0.0, None))
        if row is not None and now - seen_at < CACHE_SECONDS:
            return row
        async with self._database.read() as connection:
            found = await connection.execute(select(api_keys).where(api_keys.c.id == key_id))
            row = found.one_or_none()
        if row is not None:
            if len(self._known) >= CACHED_KEYS:
                self._known.clear()
            self._known[key_id] = (now, row)
        return row


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="quickstudy"'}


def _could_be_an_id(key_id: str) -> bool:
    return len(key_id) == 12 and all(character in "0123456789abcdef" for character in key_id)


def _digest(secret: str) -> bytes:
    # 256 random bits cannot be guessed, so a slow password hash would only slow us down.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

"""API keys: `qs_<id>_<secret>`, shown once, kept as a digest, good for one tenant."""

import asyncio
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Row, and_, func, or_, select, text, update

from app.audit import store as audit_store
from app.audit.entries import entry
from app.db.connection import Connection
from app.db.database import Database
from app.db.schema import api_keys
from app.db.turns import take_turn
from app.http.authentication import CHALLENGE, Caller
from app.http.problems import Unauthenticated
from app.keys.errors import KeyNotFound, TooManyKeys
from app.keys.scopes import DEFAULT_TENANT, SCOPES
from app.learner.validity import ID
from app.ops.background import TaskHealth
from app.searches import store as search_store
from app.times import now_us

# A revoked key may live on this long in a process that has just seen it.
CACHE_SECONDS = 1.0
CACHED_KEYS = 10_000
# Keys that were not seen before, looked up at once.
MOST_STRANGERS = 2
# How exactly a key's last use is known: one write a minute, not one a request.
USE_NOTED_US = 60_000_000
HOUR_US = 3_600_000_000
# Live ones of a tenant; and how many are listed, the newest of those that have ended among them.
MOST_KEYS, MOST_LISTED = 1000, 2000


class ApiKey(NamedTuple):
    """A row of `api_keys`, without what could be used to log in."""

    id: str
    tenant: str
    name: str
    scopes: str
    created_at_us: int
    expires_at_us: int | None
    last_used_at_us: int | None
    revoked_at_us: int | None


class CachedKey(NamedTuple):
    """A key that was looked up: when, its row, and whom it speaks for."""

    seen_at: float
    row: Row[Any]
    caller: "Caller"

    @property
    def has_expired(self) -> bool:
        until_us = self.row.expires_at_us
        return until_us is not None and until_us <= now_us()


async def create(
    database: Database,
    name: str,
    tenant: str = DEFAULT_TENANT,
    scopes: Sequence[str] = SCOPES,
) -> str:
    """Make a key and return its text, which is nowhere else: only a digest is stored.

    Raises ValueError for a name or tenant that is empty or longer than 128 characters, and for
    scopes that there are not; TooManyKeys.
    """
    for what, value in (("name", name), ("tenant", tenant)):
        # As the ids of the API are.
        if not ID.allows(value):
            raise ValueError(f"the key's {what} must have 1 to {ID.longest} printable characters")
    if not scopes or not set(scopes) <= set(SCOPES):
        raise ValueError(f"the key's scopes must be some of {', '.join(SCOPES)}")
    ordered = " ".join(scope for scope in SCOPES if scope in scopes)

    return await database.run(lambda connection: _create(connection, tenant, name, ordered))


async def create_first(database: Database, name: str) -> str | None:
    """A key's text where there is no key yet, else None.

    Of processes that start together on an empty database, the first to lock the keys makes it.
    """

    async def create_unless_any(connection: Connection) -> str | None:
        if connection.dialect.name == "postgresql":
            # SQLite has one writer anyway.
            await connection.execute(text("LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"))
        if (await connection.execute(select(api_keys.c.id).limit(1))).first() is not None:
            return None
        return await _create(connection, DEFAULT_TENANT, name, " ".join(SCOPES))

    return await database.run(create_unless_any)


async def listed(database: Database, tenant: str | None = None) -> Sequence[ApiKey]:
    """Every key, or a tenant's, the oldest first; of many that have ended, the newest alone."""
    columns = [api_keys.c[name] for name in ApiKey._fields]
    query = select(*columns)
    if tenant is not None:
        order = _is_live(now_us()).desc(), api_keys.c.created_at_us.desc(), api_keys.c.id
        query = query.where(api_keys.c.tenant == tenant).order_by(*order).limit(MOST_LISTED)
    async with database.read() as connection:
        rows = await connection.read(ApiKey._make, query)
    return sorted(rows, key=lambda row: (row.created_at_us, row.id))


async def rotate(database: Database, key_id: str, hours: float, tenant: str | None = None) -> str:
    """Replace a key by one of the same name and scopes; the old one is good for `hours` more.

    Both are the same caller: the claims and searches of the one are the other's.
    Returns the new key's text. Raises KeyNotFound where there is no such live key, and TooManyKeys
    where the tenant has as many as it may and the old one goes on.
    """

    async def replace(connection: Connection) -> str:
        old = await _live(connection, key_id, tenant)
        until_us = min(now_us() + int(hours * HOUR_US), old.expires_at_us or 2**63 - 1)
        change = update(api_keys).where(api_keys.c.id == key_id)
        # Before the new one: where it ends at once, it counts among the tenant's keys no more.
        await connection.execute(change.values(expires_at_us=until_us))
        first_id = old.first_id or key_id
        row, text = await _insert(connection, old.tenant, old.name, old.scopes, first_id)
        noted = entry(old.tenant, "key.rotated", key_id, _facts(old._mapping), _facts(row))
        await audit_store.save_entries(connection, [noted])
        return text

    return await database.run(replace)


async def revoke(database: Database, key_id: str, tenant: str | None = None) -> None:
    """Raises KeyNotFound where there is no such key, or it is revoked already."""

    async def end(connection: Connection) -> None:
        old = await _live(connection, key_id, tenant)
        change = update(api_keys).where(api_keys.c.id == key_id)
        await connection.execute(change.values(revoked_at_us=now_us()))
        await _forget_searches(connection, old)
        noted = entry(old.tenant, "key.revoked", key_id, _facts(old._mapping))
        await audit_store.save_entries(connection, [noted])

    await database.run(end)


class Authenticator:
    """Finds whom a key speaks for, with at most one query a second a key."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._cached: dict[str, CachedKey] = {}
        self._lookups: dict[str, asyncio.Task[CachedKey | None]] = {}
        self._notes: set[asyncio.Task[None]] = set()
        # Anybody can send any number of wrong keys: these wait for each other, and hold few of the
        # connections that scores need.
        self._strangers = asyncio.Semaphore(MOST_STRANGERS)
        self.health = TaskHealth("last use of keys")

    async def caller_of(self, key: str) -> Caller:
        """Whom a live key speaks for; raises Unauthenticated for any other text."""
        prefix, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        cached = await self._current(key_id, is_key=prefix == "qs")
        # Hashed and compared even where there is no such key, to take equally long.
        expected = cached.row.digest if cached is not None else bytes(32)
        if not hmac.compare_digest(_digest(secret), expected) or cached is None or prefix != "qs":
            raise Unauthenticated("The API key is not known.", headers=CHALLENGE)
        return _caller_of_live(cached)

    async def caller_of_id(self, key_id: str) -> Caller:
        """Whom the live key of this id speaks for, for who has proven to have it.

        Raises Unauthenticated where it is revoked or replaced.
        """
        cached = await self._current(key_id)
        if cached is None:
            raise Unauthenticated("The API key is not known.", headers=CHALLENGE)
        return _caller_of_live(cached)

    async def _current(self, key_id: str, is_key: bool = True) -> CachedKey | None:
        """The key as it was a second ago or less."""
        cached = self._cached.get(key_id)
        if cached is not None and self._clock() - cached.seen_at < CACHE_SECONDS:
            return cached
        return await self._looked_up(key_id) if is_key and _could_be_an_id(key_id) else None

    def tenant_in_memory(self, token: str) -> str | None:
        """The tenant of a key that was looked up before, from memory: to count its requests.

        It may have been revoked since.
        """
        cached = self._cached.get(token[3:15])
        if cached is None or not hmac.compare_digest(_digest(token[16:]), cached.row.digest):
            return None
        # Whoever stole a key takes no more places of its tenant once it is revoked.
        is_live = cached.row.revoked_at_us is None and not cached.has_expired
        return cached.caller.tenant if is_live else None

    async def _looked_up(self, key_id: str) -> CachedKey | None:
        """The key as the database has it; requests that want to know at once share the question."""
        if key_id not in self._lookups:
            self._lookups[key_id] = asyncio.create_task(self._look_up(key_id))
            self._lookups[key_id].add_done_callback(lambda _: self._lookups.pop(key_id))
        # The first caller may hang up; the others still wait.
        return await asyncio.shield(self._lookups[key_id])

    async def _look_up(self, key_id: str) -> CachedKey | None:
        now = self._clock()
        waiting = nullcontext() if key_id in self._cached else self._strangers
        async with waiting, self._database.glance() as connection:
            found = await connection.execute(select(api_keys).where(api_keys.c.id == key_id))
            row = found.one_or_none()
        if row is None:
            self._cached.pop(key_id, None)
            return None
        if len(self._cached) >= CACHED_KEYS:
            self._cached.clear()
        caller = Caller(row.tenant, key_id, frozenset(row.scopes.split()), first_id=row.first_id)
        self._cached[key_id] = CachedKey(now, row, caller)
        if (row.last_used_at_us or 0) < now_us() - USE_NOTED_US:
            # Nobody waits for it.
            task = asyncio.create_task(self._note_use(key_id))
            self._notes.add(task)
            task.add_done_callback(self._notes.discard)
        return self._cached[key_id]

    async def _note_use(self, key_id: str) -> None:
        change = update(api_keys).where(api_keys.c.id == key_id)
        try:
            async with self._database.write() as connection:
                await connection.execute(change.values(last_used_at_us=now_us()))
        except Exception as error:
            self.health.failed(error)  # The next use will be noted.
        else:
            self.health.succeeded()

    async def close(self) -> None:
        """Wait for what is still to be noted."""
        await asyncio.gather(*self._notes, return_exceptions=True)


async def _create(connection: Connection, tenant: str, name: str, scopes: str) -> str:
    row, key = await _insert(connection, tenant, name, scopes)
    await audit_store.save_entries(
        connection, [entry(tenant, "key.created", row["id"], after=_facts(row))]
    )
    return key


async def _insert(
    connection: Connection, tenant: str, name: str, scopes: str, first_id: str | None = None
) -> tuple[dict[str, Any], str]:
    await take_turn(connection, "keys", tenant)
    count = select(func.count()).where(api_keys.c.tenant == tenant, _is_live(now_us()))
    if (await connection.execute(count)).scalar_one() >= MOST_KEYS:
        raise TooManyKeys(
            f"This tenant has {MOST_KEYS:,} keys, the most there can be: revoke one first."
        )
    # Hexadecimal, so that the id never holds the underscore that separates it.
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {
        "id": key_id,
        "tenant": tenant,
        "name": name,
        "scopes": scopes,
        "digest": _digest(secret),
        "created_at_us": now_us(),
        "first_id": first_id,
    }
    await connection.execute(api_keys.insert(), row)
    return row, f"qs_{key_id}_{secret}"


async def _forget_searches(connection: Connection, ended: Row[Any]) -> None:
    """Forget what a key has saved that was ended, unless there is one for good in its place."""
    first_id, columns = ended.first_id or ended.id, api_keys.c
    others = select(columns.id).where(
        columns.tenant == ended.tenant,
        or_(columns.id == first_id, columns.first_id == first_id),
        columns.revoked_at_us.is_(None),
        columns.expires_at_us.is_(None),
    )
    if (await connection.execute(others.limit(1))).first() is None:
        await search_store.delete_searches(connection, ended.tenant, first_id)


async def _live(connection: Connection, key_id: str, tenant: str | None) -> Row[Any]:
    query = select(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at_us.is_(None))
    if tenant is not None:
        query = query.where(api_keys.c.tenant == tenant)
    row = (await connection.execute(query.with_for_update())).one_or_none()
    if row is None:
        raise KeyNotFound(f"There is no live key {key_id!r}.")
    return row


def _is_live(now: int) -> ColumnElement[bool]:
    """Whether a key is good now: not revoked, nor replaced for longer than it was to go on."""
    columns = api_keys.c
    is_good = or_(columns.expires_at_us.is_(None), columns.expires_at_us > now)
    return and_(columns.revoked_at_us.is_(None), is_good)


def _caller_of_live(cached: CachedKey) -> Caller:
    if cached.row.revoked_at_us is not None:
        raise Unauthenticated("The API key has been revoked.", headers=CHALLENGE)
    if cached.has_expired:
        raise Unauthenticated("The API key has been replaced.", headers=CHALLENGE)
    return cached.caller


def _facts(row: Any) -> dict[str, Any]:
    """What the audit log may hold of a key."""
    return {name: row[name] for name in ("id", "name", "scopes")}


def _could_be_an_id(key_id: str) -> bool:
    return len(key_id) == 12 and all(character in "0123456789abcdef" for character in key_id)


def _digest(secret: str) -> bytes:
    # 256 random bits cannot be guessed, so a slow password hash would only slow us down.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()

"""Sessions of the console: begun by a person or an API key, and ended with either.

The browser has a secret in its cookie, the database its digest: whoever reads the database cannot
sign in by it, and a session that is deleted is over at once, for every process.
"""

import hashlib
import secrets
from collections.abc import Awaitable, Callable

from app.console import store
from app.console.records import StoredSession, Viewer
from app.db.connection import Connection
from app.db.database import Database
from app.http.authentication import Authenticator, Caller
from app.http.problems import Unauthenticated
from app.learner.transaction import HOUR_US
from app.people import store as people_store
from app.people.records import PERSON, Person
from app.people.service import People
from app.times import now_us

# A working day; and how long nobody need be at the desk.
LONGEST_US, IDLE_US = 12 * HOUR_US, HOUR_US
# How exactly the last use is known: one write a minute, not one a page.
USE_NOTED_US = 60_000_000


class Sessions:
    """Begins, finds and ends sessions."""

    def __init__(self, database: Database, authenticator: Authenticator, people: People) -> None:
        self._database, self._authenticator, self._people = database, authenticator, people

    async def begin(self, key: str, person: str) -> str:
        """The secret of a new session of whoever has this key, under the name that they say.

        Raises Unauthenticated where it is no live key, and Forbidden where it may not read.
        """
        caller = await self._authenticator.caller_of(key)
        caller.check(("read",))
        return await self._begin(caller, person)

    async def begin_of(self, person: Person) -> str:
        """The secret of a new session of somebody who has proven to be this person.

        Raises Unauthenticated where they have been removed, or have another password than they had:
        who had that would be signed in after all sessions have ended.
        """

        async def check(connection: Connection) -> None:
            await people_store.lock_people(connection)
            now = await people_store.person(connection, person.id)
            proven = person.password, person.disabled_at_us
            if now is None or (now.password, now.disabled_at_us) != proven:
                raise Unauthenticated("The password has been changed meanwhile.")

        return await self._begin(person.caller, person.name, check)

    async def _begin(
        self,
        caller: Caller,
        person: str,
        check: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> str:
        secret, now = secrets.token_urlsafe(32), now_us()
        row = StoredSession(
            _digest(secret),
            caller.tenant,
            caller.key_id,
            person,
            now,
            now + IDLE_US,
            now + LONGEST_US,
        )

        async def begin(connection: Connection) -> None:
            if check is not None:
                await check(connection)
            await store.begin(connection, row)

        await self._database.run(begin)
        return secret

    async def viewer(self, secret: str, is_use: bool = True) -> Viewer | None:
        """Whose session it is; None where it has ended, or the person or key is not good any more.

        Where it is no use by the person, such as a page's looking for news, it stays as idle.
        """
        async with self._database.glance() as connection:
            row = await store.session(connection, _digest(secret))
        now = now_us()
        if row is None or now >= min(row.idle_until_us, row.ends_at_us):
            return None
        try:
            caller = await self._caller_of(row.key_id)
        except Unauthenticated:
            return None
        if is_use and row.idle_until_us < now + IDLE_US - USE_NOTED_US:
            digest = row.digest
            await self._database.run(
                lambda connection: store.extend(connection, digest, now + IDLE_US)
            )
        return Viewer(row.person, caller)

    async def _caller_of(self, key_id: str) -> Caller:
        if key_id.startswith(PERSON):
            return (await self._people.caller_of(key_id)).caller
        return await self._authenticator.caller_of_id(key_id)

    async def end(self, secret: str) -> None:
        """End a session; nothing happens where there is none."""
        await self._database.run(lambda connection: store.end(connection, _digest(secret)))


def _digest(secret: str) -> str:
    # 256 random bits cannot be guessed, so a slow password hash would only slow us down.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

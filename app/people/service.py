"""People: added, let in by a link that is good once, signed in by a password, removed."""

import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, NamedTuple

from app.audit import store as audit_store
from app.audit.entries import Action, entry
from app.db.connection import Connection
from app.db.database import Database
from app.errors import FieldError, ValidationFailed
from app.http.problems import RateLimited, Unauthenticated
from app.keys.scopes import DEFAULT_TENANT, Role
from app.learner.transaction import DAY_US, HOUR_US
from app.learner.validity import ID
from app.ops.actor import actor
from app.people import store
from app.people.errors import (
    LinkNotFound,
    PersonExists,
    PersonNotFound,
    TooManyPeople,
    WrongPassword,
)
from app.people.passwords import LONGEST, SHORTEST, Passwords, matches
from app.people.records import PERSON, Attempts, Person, SetupLink
from app.times import now_us

# How long a link is good: the first one's holder may become an administrator.
LINK_US, FIRST_LINK_US = DAY_US, HOUR_US
# Of a tenant, those who were removed among them: their names stay theirs.
MOST_PEOPLE = 2000
# So many attempts to sign in under a name in so long.
MOST_ATTEMPTS, ATTEMPTS_US = 8, HOUR_US // 4
WRONG = "Name or password is wrong."


class Invitation(NamedTuple):
    """Somebody who is to choose a password, and the secret of the link for that."""

    person: Person
    secret: str
    ends_at_us: int


async def add(
    database: Database, tenant: str, name: str, role: Role, email: str | None = None
) -> Invitation:
    """Add a person. Raises PersonExists, TooManyPeople, and ValueError for a name that is none."""
    if not ID.allows(name) or not ID.allows(tenant):
        raise ValueError(f"a name must have 1 to {ID.longest} printable characters")
    now = now_us()
    row = Person(secrets.token_hex(6), tenant, name, email, role, None, now, None)

    async def save(connection: Connection) -> Invitation:
        await _add(connection, row)
        return await _invite(connection, row, now)

    return await database.run(save)


async def listed(database: Database, tenant: str | None = None) -> Sequence[Person]:
    """A tenant's people, or all, by name; also those who have been removed."""
    async with database.read() as connection:
        return await store.listed_people(connection, tenant)


async def set_role(database: Database, tenant: str, person_id: str, role: Role) -> Person:
    """Say what somebody may do from now on. Raises PersonNotFound."""

    async def change(connection: Connection) -> Person:
        row = await _locked(connection, tenant, person_id)
        return await _save(connection, row, row._replace(role=role), "person.role_set")

    return await database.run(change)


async def reset(database: Database, tenant: str, person_id: str) -> Invitation:
    """A new link: the password and sessions of before are good no more.

    Who has been removed is let in again. Raises PersonNotFound.
    """

    async def change(connection: Connection) -> Invitation:
        row = await _locked(connection, tenant, person_id)
        now = row._replace(password=None, disabled_at_us=None)
        await _save(connection, row, now, "person.reset")
        await store.end_sessions(connection, person_id)
        return await _invite(connection, now, now_us())

    return await database.run(change)


async def remove(database: Database, tenant: str, person_id: str) -> Person:
    """End what somebody may do, at once. Their name stays theirs. Raises PersonNotFound."""

    async def change(connection: Connection) -> Person:
        row = await _locked(connection, tenant, person_id)
        if row.disabled_at_us is not None:
            return row
        gone = row._replace(password=None, disabled_at_us=now_us())
        await store.end_sessions(connection, person_id)
        return await _save(connection, row, gone, "person.removed")

    return await database.run(change)


async def first_link(database: Database, tenant: str = DEFAULT_TENANT) -> str | None:
    """The secret of a link by which somebody becomes the first person, an administrator.

    None where the tenant has people already.
    """
    secret, now = secrets.token_urlsafe(32), now_us()

    async def save(connection: Connection) -> str | None:
        if await store.listed_people(connection, tenant):
            return None
        link = SetupLink(_digest(secret), tenant, None, now + FIRST_LINK_US)
        await store.add_link(connection, link, now)
        return secret

    return await database.run(save)


class People:
    """Lets people in: by a link once, by their password from then on."""

    def __init__(self, database: Database) -> None:
        self._database, self._passwords = database, Passwords()

    async def caller_of(self, actor: str) -> Person:
        """The person whom the audit log calls this; raises Unauthenticated once removed."""
        async with self._database.glance() as connection:
            row = await store.person(connection, actor.removeprefix(PERSON))
        if row is None or row.disabled_at_us is not None:
            raise Unauthenticated("This person has been removed.")
        return row

    async def invited(self, secret: str) -> Person | None:
        """Who may choose a password by this link; None: the first, who has no name yet.

        Raises LinkNotFound.
        """
        async with self._database.read() as connection:
            link = await _live_link(connection, secret)
            return await _of_link(connection, link)

    async def set_up(self, secret: str, password: str, name: str = "") -> Person:
        """Choose a password by a link, which then is good no more; the first person a name, too.

        Raises LinkNotFound, and ValidationFailed for a password that will not do.
        """
        _check_password(password)
        await self.invited(secret)
        kept = await self._passwords.hashed(password)

        async def change(connection: Connection) -> Person:
            await store.lock_people(connection)
            link = await _live_link(connection, secret)
            row = await _of_link(connection, link)
            if not await store.end_link(connection, link.digest):
                raise LinkNotFound
            now = now_us()
            if row is None:
                row = Person(
                    secrets.token_hex(6), link.tenant, name, None, "admin", None, now, None
                )
                actor.set(row.actor)
                await _add(connection, row)
            actor.set(row.actor)
            return await _save(connection, row, row._replace(password=kept), "person.password_set")

        return await self._database.run(change)

    async def change_password(
        self, tenant: str, person_id: str, password: str, new_password: str
    ) -> Person:
        """Choose another password by the present one; every session and link of before ends.

        Raises PersonNotFound, WrongPassword, RateLimited, and ValidationFailed for one that will
        not do.
        """
        _check_password(new_password)
        async with self._database.read() as connection:
            row = await store.person(connection, person_id)
        if row is None or row.tenant != tenant or row.disabled_at_us is not None:
            raise PersonNotFound(f"There is no person {person_id!r}.")
        try:
            proven = await self.sign_in(tenant, row.name, password)
        except Unauthenticated:
            raise WrongPassword from None
        kept = await self._passwords.hashed(new_password)

        async def change(connection: Connection) -> Person:
            now = await _locked(connection, tenant, person_id)
            if now.password != proven.password:
                raise WrongPassword
            await store.end_sessions(connection, person_id)
            new = now._replace(password=kept)
            return await _save(connection, now, new, "person.password_set")

        return await self._database.run(change)

    async def sign_in(self, tenant: str, name: str, password: str) -> Person:
        """Whoever has this name and password.

        Raises Unauthenticated, in the same words and as late where there is no such person; and
        RateLimited after too many attempts, whoever makes them. Nobody needs a key to try: what is
        refused writes nothing, and the rest comes one at a time.
        """
        digest = _digest(f"{tenant}\0{name}")
        async with self._passwords.turn():
            await self._count_attempt(digest)
            async with self._database.read() as connection:
                found = await store.person_named(connection, tenant, name)
            # Who has been removed has none; and what is longer than any need not be hashed whole.
            kept = found.password if found is not None and len(password) <= LONGEST else None
            if not await matches(password[:LONGEST], kept) or found is None:
                raise Unauthenticated(WRONG)
        await self._database.run(lambda connection: store.forget_attempts(connection, digest))
        return found

    async def of_email(self, tenant: str, email: str) -> Person:
        """Whoever has this e-mail address, however it is capitalised; raises Unauthenticated."""
        found: Sequence[Person] = []
        # The tenant is what the browser's cookie has, the address what the provider has.
        if ID.allows(tenant) and ID.allows(email):
            async with self._database.read() as connection:
                found = await store.people_of_email(connection, tenant, email)
        if len(found) != 1:
            raise Unauthenticated(
                f"Nobody here has the e-mail address {email}: an administrator can add you with it."
            )
        return found[0]

    async def _count_attempt(self, digest: str) -> None:
        """Raises RateLimited where there were too many."""
        now = now_us()
        async with self._database.read() as connection:
            counted = await store.attempts(connection, digest, now)
        if counted is None or counted.attempts < MOST_ATTEMPTS:
            row = Attempts(digest, 1, now + ATTEMPTS_US)
            counted = await self._database.run(
                lambda connection: store.count_attempt(connection, row, now)
            )
            # Another process may have counted some meanwhile.
            if counted.attempts <= MOST_ATTEMPTS:
                return
        wait = max(1, (counted.until_us - now) // 1_000_000)
        raise RateLimited(
            f"Too many attempts to sign in as this person: wait {wait // 60 + 1} minutes.",
            headers={"Retry-After": str(wait)},
        )


def _check_password(password: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST:
        message = f"A password has {SHORTEST} to {LONGEST} characters."
    elif password.startswith("qs_"):
        message = "A password does not begin with qs_, as API keys do."
    else:
        return
    raise ValidationFailed(message, [FieldError("password", message)])


async def _live_link(connection: Connection, secret: str) -> SetupLink:
    link = await store.link(connection, _digest(secret))
    if link is None or link.ends_at_us <= now_us():
        raise LinkNotFound
    return link


async def _of_link(connection: Connection, link: SetupLink) -> Person | None:
    if link.person_id is not None:
        row = await store.person(connection, link.person_id)
        if row is None or row.disabled_at_us is not None:
            raise LinkNotFound
        return row
    if await store.listed_people(connection, link.tenant):
        raise LinkNotFound
    return None


async def _add(connection: Connection, row: Person) -> None:
    await store.lock_people(connection)
    if await store.count_people(connection, row.tenant) >= MOST_PEOPLE:
        raise TooManyPeople(f"This tenant has {MOST_PEOPLE:,} people, the most there can be.")
    if await store.is_taken(connection, row.tenant, row.name, row.email):
        raise PersonExists(f"Another person is named {row.name!r} or has this e-mail address.")
    await store.add_person(connection, row)
    noted = entry(row.tenant, "person.added", row.id, after=_facts(row))
    await audit_store.save_entries(connection, [noted])


async def _save(connection: Connection, old: Person, new: Person, action: Action) -> Person:
    await store.save_person(connection, new)
    noted = entry(new.tenant, action, new.id, _facts(old), _facts(new))
    await audit_store.save_entries(connection, [noted])
    return new


async def _locked(connection: Connection, tenant: str, person_id: str) -> Person:
    await store.lock_people(connection)
    row = await store.person(connection, person_id)
    if row is None or row.tenant != tenant:
        raise PersonNotFound(f"There is no person {person_id!r}.")
    return row


async def _invite(connection: Connection, row: Person, now: int) -> Invitation:
    secret, ends_at_us = secrets.token_urlsafe(32), now + LINK_US
    link = SetupLink(_digest(secret), row.tenant, row.id, ends_at_us)
    await store.add_link(connection, link, now)
    return Invitation(row, secret, ends_at_us)


def _facts(row: Person) -> dict[str, Any]:
    """What the audit log may hold of a person."""
    return {
        "name": row.name,
        "email": row.email,
        "role": row.role,
        "removed": row.disabled_at_us is not None,
    }


def _digest(secret: str) -> str:
    # 256 random bits cannot be guessed; of a name it only makes a key of fixed length.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()

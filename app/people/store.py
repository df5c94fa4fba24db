"""People, their links, and attempts to sign in."""

from sqlalchemy import delete, func, select, update

from app.db.connection import Connection
from app.db.schema import people, sessions, setup_links, sign_in_attempts
from app.db.statements import columns
from app.db.turns import take_turn
from app.people.records import PERSON, Attempts, Person, SetupLink


async def lock_people(connection: Connection) -> None:
    """Nobody else adds a person, or changes one, until the transaction ends."""
    await take_turn(connection, "people")


async def listed_people(connection: Connection, tenant: str | None) -> list[Person]:
    """A tenant's people, or all, by name."""
    query = select(*columns(people, Person)).order_by(people.c.tenant, people.c.name)
    if tenant is not None:
        query = query.where(people.c.tenant == tenant)
    return await connection.read(Person._make, query)


async def count_people(connection: Connection, tenant: str) -> int:
    """How many people a tenant has, also those who have been removed."""
    query = select(func.count()).where(people.c.tenant == tenant)
    return int((await connection.execute(query)).scalar_one())


async def person(connection: Connection, person_id: str) -> Person | None:
    """The person of this id, of whichever tenant."""
    query = select(*columns(people, Person)).where(people.c.id == person_id)
    return next(iter(await connection.read(Person._make, query)), None)


async def person_named(connection: Connection, tenant: str, name: str) -> Person | None:
    """A tenant's person of this name."""
    query = select(*columns(people, Person)).where(people.c.tenant == tenant, people.c.name == name)
    return next(iter(await connection.read(Person._make, query)), None)


async def people_of_email(connection: Connection, tenant: str, email: str) -> list[Person]:
    """A tenant's people with this e-mail address, without those who have been removed."""
    query = select(*columns(people, Person)).where(
        people.c.tenant == tenant,
        func.lower(people.c.email) == email.lower(),
        people.c.disabled_at_us.is_(None),
    )
    return await connection.read(Person._make, query)


async def is_taken(connection: Connection, tenant: str, name: str, email: str | None) -> bool:
    """Whether somebody has this name or address already, also who has been removed."""
    table = people.c
    is_same = table.name == name if email is None else (table.name == name) | (table.email == email)
    query = select(table.id).where(table.tenant == tenant, is_same).limit(1)
    return (await connection.execute(query)).first() is not None


async def add_person(connection: Connection, row: Person) -> None:
    """Store a new person."""
    await connection.write_rows(people, [row])


async def save_person(connection: Connection, row: Person) -> None:
    """Overwrite a person."""
    await connection.write_rows(people, [row], ("id",))


async def end_sessions(connection: Connection, person_id: str) -> None:
    """Nobody is signed in as this person any more, and no link of theirs is good."""
    await connection.execute(delete(sessions).where(sessions.c.key_id == f"{PERSON}{person_id}"))
    await connection.execute(delete(setup_links).where(setup_links.c.person_id == person_id))


async def add_link(connection: Connection, row: SetupLink, now_us: int) -> None:
    """Store a link, and forget those that have ended."""
    await connection.execute(delete(setup_links).where(setup_links.c.ends_at_us <= now_us))
    await connection.write_rows(setup_links, [row])


async def link(connection: Connection, digest: str) -> SetupLink | None:
    """The link of this digest, also where it has ended."""
    query = select(*columns(setup_links, SetupLink)).where(setup_links.c.digest == digest)
    return next(iter(await connection.read(SetupLink._make, query)), None)


async def end_link(connection: Connection, digest: str) -> bool:
    """Forget a link; says whether it was there, as of two who use it at once it is for one."""
    gone = delete(setup_links).where(setup_links.c.digest == digest).returning(setup_links.c.digest)
    return (await connection.execute(gone)).first() is not None


async def attempts(connection: Connection, digest: str, now_us: int) -> Attempts | None:
    """What is counted of attempts under a name; None where nothing is, or no longer."""
    table = sign_in_attempts
    query = select(*columns(table, Attempts)).where(
        table.c.digest == digest, table.c.until_us > now_us
    )
    return next(iter(await connection.read(Attempts._make, query)), None)


async def count_attempt(connection: Connection, row: Attempts, now_us: int) -> Attempts:
    """Count one attempt more, and say how many there are now, and until when they count."""
    table = sign_in_attempts
    await connection.execute(delete(table).where(table.c.until_us <= now_us))
    more = update(table).where(table.c.digest == row.digest)
    found = await connection.execute(
        more.values(attempts=table.c.attempts + 1).returning(*columns(table, Attempts))
    )
    counted = found.first()
    if counted is not None:
        return Attempts._make(counted)
    await connection.write_rows(table, [row])
    return row


async def forget_attempts(connection: Connection, digest: str) -> None:
    """Begin anew: they are who they say."""
    await connection.execute(delete(sign_in_attempts).where(sign_in_attempts.c.digest == digest))

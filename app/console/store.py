"""Sessions: begun, read by the digest of what the browser has, used, ended."""

from sqlalchemy import delete, or_, select, update

from app.console.records import StoredSession
from app.db.connection import Connection
from app.db.schema import sessions
from app.db.statements import columns


async def begin(connection: Connection, row: StoredSession) -> None:
    """Store a session, and forget those that have ended."""
    is_over = or_(
        sessions.c.ends_at_us < row.created_at_us, sessions.c.idle_until_us < row.created_at_us
    )
    await connection.execute(delete(sessions).where(is_over))
    await connection.write_rows(sessions, [row])


async def session(connection: Connection, digest: str) -> StoredSession | None:
    """The session of this digest, whether or not it has ended."""
    query = select(*columns(sessions, StoredSession)).where(sessions.c.digest == digest)
    rows = await connection.read(StoredSession._make, query)
    return rows[0] if rows else None


async def extend(connection: Connection, digest: str, idle_until_us: int) -> None:
    """A session has been used."""
    change = update(sessions).where(sessions.c.digest == digest)
    await connection.execute(change.values(idle_until_us=idle_until_us))


async def end(connection: Connection, digest: str) -> None:
    """Forget a session."""
    await connection.execute(delete(sessions).where(sessions.c.digest == digest))

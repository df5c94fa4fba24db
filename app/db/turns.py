"""One after another, where what is counted first could be passed by two who write at once."""

from sqlalchemy import text

from app.db.connection import Connection

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")


async def take_turn(connection: Connection, *names: str) -> None:
    """Wait until nobody else has a turn by these names, and have it until the transaction ends."""
    # SQLite has one writer anyway.
    if connection.dialect.name == "postgresql":
        await connection.execute(_LOCK, {"name": "\x1f".join(names)})

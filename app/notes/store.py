"""Notes: added to, read by page; erased with their account by its own store."""

from sqlalchemy import select

from app.db.connection import Connection
from app.db.pages import Part, read_page
from app.db.schema import notes
from app.db.statements import columns
from app.notes.records import StoredNote


async def add_note(connection: Connection, row: StoredNote) -> None:
    """Store a note."""
    await connection.write_rows(notes, [row])


async def listed_notes(
    connection: Connection,
    tenant: str,
    account_id: str,
    after: tuple[int | float | str, ...] | None,
    limit: int,
) -> Part[StoredNote]:
    """An account's notes, the newest first."""
    query = select(*columns(notes, StoredNote)).where(
        notes.c.tenant == tenant, notes.c.account_id == account_id
    )
    order = [notes.c.at_us, notes.c.id]
    return await read_page(
        connection, StoredNote._make, query, order, after, limit, descending=True
    )

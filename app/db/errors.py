"""What the database can fail with."""

from app.errors import Unavailable


class DatabaseUnavailable(Unavailable):
    """Retry after `Retry-After` seconds."""

    code, title = "database_unavailable", "The database is temporarily unavailable."

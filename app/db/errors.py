"""What the database can fail with."""

from app.errors import Unavailable


class DatabaseUnavailable(Unavailable):
    """Retry after `Retry-After` seconds."""

    code, title = "database_unavailable", "The database is temporarily unavailable."


class Raced(Exception):
    """Another writer came first: the transaction is to be run again from its start."""

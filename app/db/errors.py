"""What the database can fail with."""

from app.errors import SetupError, Unavailable


class DatabaseUnavailable(Unavailable):
    """Retry after `Retry-After` seconds."""

    code, title = "database_unavailable", "The database is temporarily unavailable."


class Away(SetupError):
    """The database was away when its schema was to be brought up to date: it can be tried again."""


class Raced(Exception):
    """Another writer came first: the transaction is to be run again from its start."""


class Locked(Raced):
    """Another session held what this transaction needs for longer than it may wait."""

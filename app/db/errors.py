"""What the database can fail with."""

from app.errors import Unavailable


class DatabaseUnavailable(Unavailable):
    code, title = "database_unavailable", "The database cannot be reached right now."

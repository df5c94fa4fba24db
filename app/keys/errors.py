"""What requests about API keys can fail with."""

from app.errors import NotFound, Problem


class KeyNotFound(NotFound):
    """List the keys: none has this id, or it is revoked already."""

    code, title = "key_not_found", "No such live API key."


class TooManyKeys(Problem):
    """Revoke a key first: a tenant has at most 1,000 live keys."""

    status, code, title = 409, "too_many_keys", "The limit of API keys is reached."

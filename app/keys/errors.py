"""What requests about API keys can fail with."""

from app.errors import NotFound


class KeyNotFound(NotFound):
    """List the keys: none has this id, or it is revoked already."""

    code, title = "key_not_found", "No such live API key."

"""What requests about API keys can fail with."""

from app.errors import NotFound


class KeyNotFound(NotFound):
    code, title = "key_not_found", "No such live API key."

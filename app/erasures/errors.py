"""What requests about erasures can fail with."""

from app.errors import NotFound


class ErasureNotFound(NotFound):
    code, title = "erasure_not_found", "No such erasure."

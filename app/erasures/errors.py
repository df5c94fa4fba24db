"""What requests about erasures can fail with."""

from app.errors import NotFound


class ErasureNotFound(NotFound):
    """Look for it in `GET /v1/erasures`."""

    code, title = "erasure_not_found", "No such erasure."

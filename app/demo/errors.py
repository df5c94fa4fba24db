"""What requests about the demonstration can fail with."""

from app.errors import Problem


class NotEmpty(Problem):
    """Load the demonstration into a tenant without payments."""

    status, code, title = 409, "tenant_not_empty", "The tenant already has payments."

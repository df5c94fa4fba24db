"""What requests about the demonstration can fail with."""

from app.errors import Problem


class NotEmpty(Problem):
    """Load it into a tenant without payments, or do without."""

    status, code, title = 409, "tenant_not_empty", "There are payments already."

"""What requests about jobs can fail with."""

from app.errors import NotFound, Problem


class JobNotFound(NotFound):
    """Start it again: results are kept for a week."""

    code, title = "job_not_found", "No such job."


class TooManyJobs(Problem):
    """Wait for one of the tenant's four jobs to end."""

    status, code = 429, "too_many_jobs"
    title = "Too many jobs are waiting."

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, headers={"Retry-After": "5"})

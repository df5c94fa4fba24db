"""The rows of jobs, as the code passes them on: plain tuples, no ORM."""

from typing import Literal, NamedTuple


class Job(NamedTuple):
    """A row of `jobs`."""

    tenant: str
    id: str
    kind: Literal["comparison", "drift", "demo"]
    model: str
    days: float
    status: Literal["queued", "running", "done", "failed"] = "queued"
    slot: int | None = None
    attempts: int = 0
    created_at_us: int = 0
    started_at_us: int | None = None
    finished_at_us: int | None = None
    lease_until_us: int | None = None
    result: str | None = None
    error: str | None = None

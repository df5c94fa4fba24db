"""The rows of thresholds, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class TenantThresholds(NamedTuple):
    """A row of `thresholds`; those of a reset are the model's own at that time."""

    tenant: str
    effective_at_us: int
    recorded_at_us: int
    review: float
    decline: float
    reviews_per_day: float | None = None
    chosen_on: int | None = None
    chosen_on_days: float | None = None
    note: str | None = None
    floor: float | None = None
    is_reset: bool = False

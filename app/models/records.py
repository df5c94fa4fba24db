"""The rows of models, as the code passes them on: plain tuples, no ORM."""

from typing import NamedTuple


class ModelChange(NamedTuple):
    """A row of `model_changes`."""

    tenant: str
    role: str
    at_us: int
    name: str | None
    digest: str | None


class KeptCheckpoint(NamedTuple):
    """A row of `checkpoints`: the bytes of a checkpoint's two files."""

    digest: str
    model: str
    description: bytes
    weights: bytes
    kept_at_us: int

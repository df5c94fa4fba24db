"""What a method costs: the time an account takes it, and what it must keep of each account."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from app.learner.differentiable.adaptation import Learner
from app.training.episodes import Rows, runs
from app.training.results import Metrics

# Copies are kept in float64 (see `app.learner.scorer`).
BYTES_A_NUMBER = 8


class Stopwatch:
    """Seconds by method."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, method: str) -> Iterator[None]:
        begun = perf_counter()
        yield
        self.seconds[method] = perf_counter() - begun


def costs(
    seconds: Mapping[str, float],
    bytes_kept: Mapping[str, int],
    rows: Rows,
    scored: NDArray[np.intp],
) -> Metrics:
    """By method: milliseconds to learn an account's labels and score the rows that see the same.

    And the bytes that must be kept of an account, NaN where they are not known.
    """
    episodes = len(runs(rows, scored))
    return {
        method: {
            "milliseconds_an_account": 1000 * taken / episodes if episodes else float("nan"),
            "bytes_an_account": float(bytes_kept.get(method, "nan")),
        }
        for method, taken in seconds.items()
    }


@torch.inference_mode()
def copy_bytes(learner: Learner) -> int:
    """What the service keeps of an account's copy."""
    return BYTES_A_NUMBER * learner.kept(learner.unadapted()).shape[1]

"""Adapting accounts to 16 labels each, as `python -m benchmarks.adaptation`.

From features to the copy that is kept, with the shipped checkpoint, in float64 as the service
scores, on one thread, for one account and for 32 in one batch: encoding, inner steps, and inner
steps with the evidence that the gate asks for (copies of both halves of the labels). Milliseconds,
median and least of many runs; the least is what the machine can do where others are at work on it.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from app.adaptation import Support, pad_supports
from app.checkpoint import Checkpoint
from app.settings import SHIPPED_MODEL
from app.transactions import DAY_US

LABELS, RUNS = 16, 200


def milliseconds(work: Callable[[], object]) -> tuple[float, float]:
    """Median and least."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    checkpoint = Checkpoint.load(SHIPPED_MODEL)
    learner = checkpoint.learner.double()
    knots = learner.network.knots().float()
    features, rng = len(checkpoint.features.names), np.random.default_rng(0)
    for accounts in (1, 32):
        supports = [
            Support(
                rng.normal(size=(LABELS, features)).astype(np.float32),
                np.arange(LABELS, 0, -1) * DAY_US,
                rng.random(LABELS) < 0.2,
            )
            for _ in range(accounts)
        ]
        batch = pad_supports(supports, features, np.float64)
        rows = learner.network.encode(batch.features_BKF, batch.day_BK, knots)
        print(f"{accounts} accounts of {LABELS} labels: median (least) ms")
        for name, work in {
            "encode": lambda b=batch: learner.network.encode(b.features_BKF, b.day_BK, knots),
            "inner steps": lambda b=batch, r=rows: learner.adapt(b, r),
            "inner steps and evidence": lambda b=batch, r=rows: learner.evidence(b, r),
        }.items():
            median, least = milliseconds(work)
            print(f"  {name}: {median:.2f} ({least:.2f})")


if __name__ == "__main__":
    main()

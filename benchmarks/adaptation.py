"""Adapting accounts to 16 labels each, as `python -m benchmarks.adaptation`.

From features to the copy that is kept, with its evidence, by the shipped checkpoint in float64, on
one thread, for one account and for 32: by the compiled engine, as CPUs serve, and by the batched
one, as GPUs do, which is `Learner` itself. Milliseconds, median and least of many runs; the least
is what the machine can do where others are at work on it.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from app.learner.adaptation import Support
from app.learner.checkpoint import Checkpoint
from app.learner.compiled import CompiledEngine
from app.learner.differentiable.gpu import BatchedEngine
from app.learner.differentiable.saving import learner_of
from app.learner.engine import Engine
from app.learner.kernels import adaptation as kernels
from app.learner.transaction import DAY_US
from app.settings import SHIPPED_MODEL

LABELS, RUNS = 16, 200


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Median and least."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), min(times)


def main() -> None:
    torch.set_num_threads(1)
    checkpoint = Checkpoint.load(SHIPPED_MODEL)
    kernel = kernels.Learner(
        checkpoint.features.kinds, checkpoint.metadata.algorithm, checkpoint.weights
    )
    learner = learner_of(checkpoint).double().requires_grad_(False)
    engines: dict[str, Engine] = {
        "compiled": CompiledEngine(kernel, 1),
        "batched": BatchedEngine(learner, 1),
    }
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
        print(f"{accounts} accounts of {LABELS} labels: median (least) ms")
        for name, engine in engines.items():
            median, least = milliseconds(partial(engine.learn, supports))
            print(f"  {name}: {median:.2f} ({least:.2f})")


if __name__ == "__main__":
    main()

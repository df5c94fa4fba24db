"""What a score's reasons cost, beside the score itself: one payment, exact integrated gradients."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from app.learner.adaptation import Support
from app.learner.checkpoint import Checkpoint
from app.learner.engine import Rows
from app.learner.scorer import AdapterKey, Scorer

MODEL = Path(__file__).parents[1] / "models" / "default"
REPEATS = 200


def milliseconds(call: Callable[[], object]) -> float:
    """The median of many runs."""
    seconds = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - begun)
    return 1000 * float(np.median(seconds))


def main() -> None:
    torch.set_num_threads(1)
    scorer = Scorer(Checkpoint.load(MODEL), "cpu", 1 << 20)
    random = np.random.default_rng(0)
    features_NF = random.normal(0, 1, (33, len(scorer.features.names))).astype(np.float32)
    time_us_N = np.full(33, 1_790_000_000_000_000, np.int64)
    key = AdapterKey("t", "a", 1)
    scorer.adapt({key: Support(features_NF[:16], time_us_N[:16], np.arange(16) % 4 == 0)})
    row = Rows(features_NF[:1], time_us_N[:1])
    scored = milliseconds(lambda: scorer.score(*row, [key], scorer.thresholds))
    explained = milliseconds(lambda: scorer.explain(row, [features_NF[1:]], [key]))
    print(f"score of one payment  {scored:.2f} ms")
    print(f"its reasons           {explained:.2f} ms, {explained / scored:.1f} times as long")


if __name__ == "__main__":
    main()

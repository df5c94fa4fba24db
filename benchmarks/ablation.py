"""How accounts are learned, from one global network: `python -m benchmarks.ablation [FILE SPEC]`.

Without a file it simulates 2,000 accounts. The global stage is trained once; from its network
every algorithm runs the meta stage to its end, and its running average scores held-out
accounts, with every copy followed (no gate) and without labels. Which state training would have
kept is another matter: it keeps the global network where no meta step does better.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from app.learner.algorithms import ALGORITHMS, Algorithm
from app.learner.differentiable.adaptation import FIRST_STEP_SIZE
from app.learner.features import FeatureSet
from app.learner.spec import DatasetSpec
from app.simulator.simulate import simulate
from app.training.dataset import UNLABELLED, read_transactions
from app.training.episodes import Rows
from app.training.evaluate import answers, average_precision
from app.training.train import META, Options, Split, Status, Trainer

ACCOUNTS = 400
CPU = "cpu"


def rows_of(path: Path, spec: DatasetSpec) -> Rows:
    return Rows.of(read_transactions(path, spec), FeatureSet(spec))


def simulated() -> Rows:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "simulated.parquet"
        simulate(2000, 180, 0).write_parquet(path)
        return rows_of(path, DatasetSpec.load("simulated"))


def from_global(rows: Rows, split: Split, found: Trainer, algorithm: Algorithm) -> Trainer:
    """A trainer of an algorithm at the first meta step, from the network that another found."""
    trainer = Trainer(rows, split, Options(algorithm=algorithm), CPU)
    (own, _), (tensors, numbers) = trainer.state(), found.state()
    sizes = {
        name: torch.full_like(tensor, math.log(FIRST_STEP_SIZE))
        for name, tensor in own.items()
        if "log_step_sizes" in name
    }
    shared = {name: t for name, t in tensors.items() if "log_step_sizes" not in name}
    trainer.restore({**shared, **sizes}, numbers)
    return trainer


def main() -> None:
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    rows = rows_of(Path(arguments[0]), DatasetSpec.load(arguments[1])) if arguments else simulated()
    end_us = int(rows.time_us_N.max()) + 1
    split = Split.of(rows, rows.is_fraud_N != UNLABELLED, end_us, 0)
    found = Trainer(rows, split, Options(), CPU)
    found.run(lambda _: found.stage != META)
    held = rows.account_N[split.held_out]
    scored = split.held_out[np.isin(held, np.unique(held)[:ACCOUNTS])]
    is_fraud_A = rows.is_fraud_N[scored] == 1
    print(f"{len(scored):,} held-out transactions, {is_fraud_A.sum()} frauds; held-out loss of the")
    print(f"global network {found.best_loss:.5f}. Average precision by algorithm:")
    for algorithm in ALGORITHMS:
        trainer, start = from_global(rows, split, found, algorithm), time.perf_counter()
        losses: list[float] = []

        def watch(status: Status, losses: list[float] = losses) -> bool:
            losses += [] if status.held_out_loss is None else [status.held_out_loss]
            return True

        trainer.run(watch)
        minutes = (time.perf_counter() - start) / 60
        answered = answers(trainer.averaged, rows, scored, with_evidence=False)
        base = average_precision(is_fraud_A, answered.base_A)
        copies = average_precision(is_fraud_A, answered.base_A + answered.move_A)
        sizes = {k: f"{np.mean(v):.4f}" for k, v in trainer.averaged.step_sizes.items()}
        print(
            f"{algorithm:9} copies {copies:.4f}, base {base:.4f}, held-out loss {losses[-1]:.5f}, "
            f"{minutes:.1f} min, mean step sizes {sizes}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""One second-order MAML step: all accounts in one batched product, against a loop over accounts.

32 accounts, 16 support and 32 query rows, 5 inner steps, as `python benchmarks/meta_step.py`. The
loop clones the head, adapts it by autograd and goes backward, account by account; both give the
same gradients, which is checked before anything is timed. Times are medians of alternating runs
on one thread; only their ratio means anything on another machine.
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from app.adaptation import Adapted, Learner, Support, SupportBatch, pad_supports
from app.features import FeatureSet
from app.network import Head
from app.transactions import DAY_US, DatasetSpec

ACCOUNTS, SUPPORT_ROWS, QUERY_ROWS = 32, 16, 32
RUNS = 15


def batch(features: int, rng: np.random.Generator) -> tuple[SupportBatch, Tensor, Tensor, Tensor]:
    """A random support, and queries [B, Q, F] with their days and labels [B, Q]."""
    supports = [
        Support(
            rng.normal(size=(SUPPORT_ROWS, features)).astype(np.float32),
            np.arange(SUPPORT_ROWS, 0, -1) * DAY_US,
            rng.random(SUPPORT_ROWS) < 0.3,
        )
        for _ in range(ACCOUNTS)
    ]
    query_BQF = rng.normal(size=(ACCOUNTS, QUERY_ROWS, features))
    fraud_BQ = rng.random((ACCOUNTS, QUERY_ROWS)) < 0.3
    return (
        pad_supports(supports, features, np.float64),
        torch.from_numpy(query_BQF),
        torch.full((ACCOUNTS, QUERY_ROWS), 40.0, dtype=torch.float64),
        torch.from_numpy(fraud_BQ.astype(np.float64)),
    )


def batched_loss(
    learner: Learner, support: SupportBatch, query_BQF: Tensor, day_BQ: Tensor, fraud_BQ: Tensor
) -> Tensor:
    rows = learner.network.encode(query_BQF, day_BQ)
    logit_BQ = learner.logits(rows, learner.adapt(support))
    return binary_cross_entropy_with_logits(logit_BQ, fraud_BQ)


def looped_loss(
    learner: Learner, support: SupportBatch, query_BQF: Tensor, day_BQ: Tensor, fraud_BQ: Tensor
) -> Tensor:
    """What one writes first: account by account, the inner gradient by autograd."""
    network, losses = learner.network, []
    for b in range(len(query_BQF)):
        own = SupportBatch(*(part[b : b + 1] for part in support))
        context = network.context(*own)
        hidden = network.hidden(network.encode(own.features_BKF, own.day_BK), context)
        head = Head(*(layer.clone() for layer in network.base))
        for sizes_L in learner.log_step_sizes_SL.exp():
            inner = binary_cross_entropy_with_logits(head.logits(hidden), own.fraud_BK)
            slopes = torch.autograd.grad(inner, head, create_graph=True)
            head = Head(*(p - s * g for p, s, g in zip(head, sizes_L, slopes, strict=True)))
        rows = network.encode(query_BQF[b : b + 1], day_BQ[b : b + 1])
        logit_BQ = learner.logits(rows, Adapted(context, head))
        losses.append(binary_cross_entropy_with_logits(logit_BQ, fraud_BQ[b : b + 1]))
    return torch.stack(losses).mean()


def gradients(learner: Learner, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(learner.parameters())))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    features = FeatureSet(DatasetSpec.load("handbook"))
    learner = Learner(features.kinds).double()
    rng = np.random.default_rng(0)
    learner.network.encoder.fit(rng.normal(size=(256, len(features.names))).astype(np.float32))
    episodes = batch(len(features.names), rng)
    pair = [
        lambda: gradients(learner, batched_loss(learner, *episodes)),
        lambda: gradients(learner, looped_loss(learner, *episodes)),
    ]
    ours, theirs = (work() for work in pair)
    apart = max(float((a - b).abs().max()) for a, b in zip(ours, theirs, strict=True))
    assert apart < 1e-8, f"the gradients differ by {apart}"
    times = [[seconds(work) for work in pair] for _ in range(RUNS)]
    fast, slow = (1e3 * statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in times)
    print(f"{ACCOUNTS} accounts, {SUPPORT_ROWS} + {QUERY_ROWS} rows, second order, float64")
    print(f"  one batch {fast:.1f} ms, loop over accounts {slow:.1f} ms: {ratio:.1f} times")
    print(f"  the gradients agree to {apart:.0e}")


if __name__ == "__main__":
    main()

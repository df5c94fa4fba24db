"""One second-order MAML step: all accounts in one batched product, against a loop over accounts.

32 accounts, 16 support and 32 query rows, 5 inner steps, as `python -m benchmarks.meta_step`. The
plain loop clones what is adapted and, for every inner step and account, calls the network on the
support, takes the gradient by autograd and in the end goes backward. The thrifty loop knows that
only the head is adapted and reads the trunk once an account. All give the same gradients, which
is checked in float64 before anything is timed in float32, as in training. Times are medians of
alternating runs on one thread; only their ratio means anything on another machine, and that of
the plain loop with ANIL is `training.vs_loop` in results.json.
"""

import statistics
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from app.learner.adaptation import Support
from app.learner.algorithms import Algorithm
from app.learner.differentiable.adaptation import AdaptedHead, Learner, SupportBatch, pad_supports
from app.learner.differentiable.network import Context, Head, Hidden
from app.learner.features import FeatureSet
from app.learner.network import INNER_STEPS, MEMBERS, Columns
from app.learner.spec import DatasetSpec
from app.learner.states import Floats
from app.learner.transaction import DAY_US
from app.training import bins
from benchmarks.results import keep

VALUES = ("features_BKF", "legitimate_BK", "fraud_BK")
ACCOUNTS, SUPPORT_ROWS, QUERY_ROWS = 32, 16, 32
RUNS = 15


def random_rows(features: FeatureSet, rng: np.random.Generator, *shape: int) -> Floats:
    """Random rows, of which many have a code or an identity in common."""
    compared = Columns.of(features.kinds).compared
    made: Floats = rng.normal(size=(*shape, len(features.names)))
    made[..., compared] = rng.integers(0, 4, (*shape, len(compared)))
    return made


def batch(
    features: FeatureSet, rng: np.random.Generator
) -> tuple[SupportBatch, Tensor, Tensor, Tensor]:
    """A random support, and queries [B, Q, F] with their days and labels [B, Q]."""
    supports = [
        Support(
            random_rows(features, rng, SUPPORT_ROWS).astype(np.float32),
            np.arange(SUPPORT_ROWS, 0, -1) * DAY_US,
            rng.random(SUPPORT_ROWS) < 0.3,
        )
        for _ in range(ACCOUNTS)
    ]
    query_BQF = random_rows(features, rng, ACCOUNTS, QUERY_ROWS)
    fraud_BQ = rng.random((ACCOUNTS, QUERY_ROWS)) < 0.3
    return (
        pad_supports(supports, len(features.names), np.float64),
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
    learner: Learner,
    support: SupportBatch,
    query_BQF: Tensor,
    day_BQ: Tensor,
    fraud_BQ: Tensor,
    reads_once: bool,
) -> Tensor:
    """What one writes first: account by account, the inner gradient by autograd."""
    network, losses = learner.network, []
    for b in range(len(query_BQF)):
        own = SupportBatch(*(part[b : b + 1] for part in support))
        fraud_MBK = own.fraud_BK.expand(MEMBERS, -1, -1)

        def read(own: SupportBatch = own) -> tuple[Context, Hidden]:
            rows = network.encode(own.features_BKF, own.day_BK)
            context = network.context(rows, own.legitimate_BK, own.fraud_BK)
            return context, network.hidden(rows, context, earlier=True)

        context, hidden = read()
        head = Head(*(layer.clone() for layer in network.base))
        for step in range(INNER_STEPS):
            logit_MBK = head.logits(hidden if reads_once else read()[1])
            # The members learn side by side: each by its own sum over the labels.
            loss = binary_cross_entropy_with_logits(logit_MBK, fraud_MBK, reduction="sum")
            inner = loss / (fraud_MBK.shape[2] + learner.log_prior.exp())
            adapted = [getattr(head, layer) for layer in learner.adapted_layers]
            slopes = torch.autograd.grad(inner, adapted, create_graph=True)
            moved = zip(learner.adapted_layers, adapted, slopes, strict=True)
            head = head._replace(
                **{name: p - learner.log_step_sizes[name][step].exp() * g for name, p, g in moved}
            )
        rows = network.encode(query_BQF[b : b + 1], day_BQ[b : b + 1])
        logit_BQ = learner.logits(rows, AdaptedHead(context, head))
        losses.append(binary_cross_entropy_with_logits(logit_BQ, fraud_BQ[b : b + 1]))
    return torch.stack(losses).mean()


def gradients(learner: Learner, loss: Tensor) -> list[Tensor]:
    """By parameter; the inner layer's step sizes do not exist where it is not adapted."""
    return list(torch.autograd.grad(loss, list(learner.parameters())))


def seconds(computation: Callable[[], object]) -> float:
    start = time.perf_counter()
    computation()
    return time.perf_counter() - start


def compared(algorithm: Algorithm) -> dict[str, Any]:
    features = FeatureSet(DatasetSpec.load("simulated"))
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    learner = Learner(features.kinds, algorithm)
    fitted_NF = random_rows(features, rng, 256).astype(np.float32)
    bins.fit(learner.network.encoder, fitted_NF, rng.random(256) < 0.3)
    episodes = batch(features, rng)

    def contestants(dtype: torch.dtype) -> list[Callable[[], list[Tensor]]]:
        precise = deepcopy(learner).to(dtype)
        support, query_BQF, day_BQ, fraud_BQ = episodes
        parts = (
            support._replace(**{n: getattr(support, n).to(dtype) for n in VALUES}),
            query_BQF.to(dtype),
            day_BQ,
            fraud_BQ.to(dtype),
        )
        return [
            lambda: gradients(precise, batched_loss(precise, *parts)),
            lambda: gradients(precise, looped_loss(precise, *parts, reads_once=False)),
            lambda: gradients(precise, looped_loss(precise, *parts, reads_once=True)),
        ]

    ours, *others = (computation() for computation in contestants(torch.float64))
    pairs = [pair for theirs in others for pair in zip(ours, theirs, strict=True)]
    apart = max(float((a - b).abs().max()) for a, b in pairs)
    assert apart < 1e-8, f"the gradients differ by {apart}"
    racing = contestants(torch.float32)
    times = [[seconds(computation) for computation in racing] for _ in range(RUNS)]
    batched, plain, thrifty = (1e3 * statistics.median(c) for c in zip(*times, strict=True))
    over_plain = statistics.median(plain / batched for batched, plain, _ in times)
    over_thrifty = statistics.median(thrifty / batched for batched, _, thrifty in times)
    print(f"{algorithm}: one batch {batched:.1f} ms; the gradients agree to {apart:.0e}")
    print(f"  plain loop {plain:.1f} ms: {over_plain:.1f} times as long")
    print(f"  thrifty loop {thrifty:.1f} ms: {over_thrifty:.1f} times as long")
    return {
        "algorithm": algorithm,
        "batched_ms": round(batched, 1),
        "plain_ms": round(plain, 1),
        "thrifty_ms": round(thrifty, 1),
        "vs_plain": round(over_plain, 1),
        "vs_thrifty": round(over_thrifty, 1),
    }


def main() -> None:
    torch.set_num_threads(1)
    print(f"{ACCOUNTS} accounts, {SUPPORT_ROWS} + {QUERY_ROWS} rows, {INNER_STEPS} inner steps")
    algorithms = [compared(algorithm) for algorithm in ("anil", "maml")]
    # ANIL's, which is the default.
    keep({"training.vs_loop": algorithms[0]["vs_plain"]}, algorithms=algorithms)


if __name__ == "__main__":
    main()

"""Adaptation: from an account's labels to its own head, by learned gradient steps.

The inner loop of MAML (Finn, Abbeel, Levine, ICML 2017) with a learned step size for every layer
and step (MAML++, Antoniou, Edwards, Storkey, ICLR 2019), on all accounts of a batch at once:
heads have a leading account axis, and the gradient of the SUM of the accounts' losses is every
account's own gradient. Training differentiates through it; evaluation and serving call the same
function.

Axes: B accounts, K support rows, F features, S inner steps, L adapted layers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from app.features import Features, Kind
from app.network import Context, Encoded, Head, Network
from app.states import Ints
from app.transactions import DAY_US

SUPPORT_LIMIT = 32
INNER_STEPS = 5
FIRST_STEP_SIZE = 0.01


class Support(NamedTuple):
    """The labelled transactions of one account, newest first."""

    features_KF: Features
    time_us_K: Ints
    is_fraud_K: NDArray[np.bool_]


class SupportBatch(NamedTuple):
    """The supports of B accounts, padded to K rows.

    `day_BK` is when a transaction occurred, in days since the epoch (float64);
    `legitimate_BK` and `fraud_BK` are 1.0 where a row has that label and 0.0 elsewhere, so a
    row with neither is padding.
    """

    features_BKF: Tensor
    day_BK: Tensor
    legitimate_BK: Tensor
    fraud_BK: Tensor

    def to(self, device: torch.device) -> "SupportBatch":
        return SupportBatch(*(part.to(device) for part in self))


class Adapted(NamedTuple):
    """All that scoring needs to know of B accounts."""

    context: Context
    head: Head


class Learner(nn.Module):
    """The network and how it learns an account: what meta-training produces."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.network = Network(kinds)
        # Steps live in log space: they stay positive, and they shrink towards zero in a few
        # outer steps where adaptation does not pay (learned directly they hardly moved).
        layers = len(Head._fields)
        # How far to follow the copies, found on held-out accounts: 0 is the base, 1 all the way.
        self.blend: Tensor
        self.register_buffer("blend", torch.ones(()))
        self.log_step_sizes_SL = nn.Parameter(
            torch.full((INNER_STEPS, layers), FIRST_STEP_SIZE).log()
        )

    def adapt(
        self, support: SupportBatch, steps: int = INNER_STEPS, encoded: Encoded | None = None
    ) -> Adapted:
        """Each account's context and head after the inner steps on its own labels.

        The inner loss is the mean cross-entropy over an account's labels. Where autograd
        records, the result is differentiable through all steps (second order). An account
        without labels gets the base, exactly: its gradient is zero. `encoded` spares encoding
        the support where that is done already.
        """
        context = self.network.context(*support)
        head = self.network.base.expand(len(support.features_BKF))
        if not steps:
            return Adapted(context, head)
        rows = encoded or self.network.encode(support.features_BKF, support.day_BK)
        hidden_BKH = self.network.hidden(rows, context)
        labelled_BK = support.legitimate_BK + support.fraud_BK
        weight_BK = labelled_BK / labelled_BK.sum(1, keepdim=True).clamp_min(1.0)
        for sizes_L in self.log_step_sizes_SL[:steps].exp():
            gradient = head.gradient(hidden_BKH, support.fraud_BK, weight_BK)
            head = Head(*(p - size * g for p, size, g in zip(head, sizes_L, gradient, strict=True)))
        return Adapted(context, head)

    def logits(self, rows: Encoded, adapted: Adapted) -> Tensor:
        """The log-odds of fraud of N encoded rows of each of B accounts: [B, N]."""
        return adapted.head.logits(self.network.hidden(rows, adapted.context))

    def served_logits(self, rows: Encoded, adapted: Adapted) -> Tensor:
        """What is served: the base's log-odds, moved towards the copy's by `blend`: [B, N]."""
        base_BN = self.logits(rows, self.base(len(rows.day_BN)))
        return self.blended(base_BN, self.logits(rows, adapted))

    def blended(self, base_BN: Tensor, copy_BN: Tensor) -> Tensor:
        return base_BN + self.blend * (copy_BN - base_BN)

    def base(self, accounts: int) -> Adapted:
        """What B accounts without labels are scored with."""
        weight = self.network.trunk.weight
        none_BKF = weight.new_zeros(accounts, 0, self.network.encoder.features)
        none_BK = weight.new_zeros(accounts, 0)
        context = self.network.context(none_BKF, none_BK.double(), none_BK, none_BK)
        return Adapted(context, self.network.base.expand(accounts))


def select_support(is_fraud_K: NDArray[np.bool_], limit: int = SUPPORT_LIMIT) -> NDArray[np.intp]:
    """Which of an account's labels to learn from, given newest first: at most `limit` positions.

    The newest of both classes, with room kept for frauds: up to half the places, rounded up, are
    theirs, so that a few frauds are not pushed out by many legitimate labels; places that one
    class leaves empty go to the other.
    """
    fraud, legitimate = np.flatnonzero(is_fraud_K), np.flatnonzero(~is_fraud_K)
    frauds = min(len(fraud), max((limit + 1) // 2, limit - len(legitimate)))
    chosen = np.concatenate([fraud[:frauds], legitimate[: limit - frauds]])
    return np.sort(chosen)


def pad_supports(
    supports: Sequence[Support], features: int, dtype: type[np.floating[Any]] = np.float32
) -> SupportBatch:
    """The supports of B accounts as one batch."""
    longest = max((len(support.is_fraud_K) for support in supports), default=0)
    features_BKF = np.zeros((len(supports), longest, features), dtype)
    day_BK = np.zeros((len(supports), longest))
    labels_2BK = np.zeros((2, len(supports), longest), dtype)
    for b, (features_KF, time_us_K, is_fraud_K) in enumerate(supports):
        rows = slice(len(is_fraud_K))
        features_BKF[b, rows] = features_KF
        day_BK[b, rows] = time_us_K / DAY_US
        labels_2BK[:, b, rows] = ~is_fraud_K, is_fraud_K
    return SupportBatch(*map(torch.from_numpy, (features_BKF, day_BK, *labels_2BK)))

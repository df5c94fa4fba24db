"""The network: an encoding of features, a trunk that all accounts share, a head for each account.

Only the head is adapted, so an account costs a few thousand numbers however wide the input is.
Heads carry a leading account axis and are applied to all accounts in one batched product.

Axes: B accounts, N rows of an account, F features, Z quantities (features that are no codes),
O of them the transaction's own, J label counts, V known values of a code, E encoded inputs,
H hidden units, T bins.
"""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from app.features import Features, Kind
from app.transactions import MISSING

BINS = 16
HIDDEN = 64
KNOWN_VALUES = 32
# A label is worth half as much after so many days; the first is a plain count.
LABEL_HALF_LIVES_DAYS = (float("inf"), 30.0, 7.0)
# Scaled values further out than this say nothing more, and could only break the network.
CLIP = 8.0
# What the population weighs beside an account's own legitimate labels, in labels.
PRIOR_LABELS = 2.0


COUNTS = 2 * len(LABEL_HALF_LIVES_DAYS)


class Head(NamedTuple):
    """The adapted layers of B accounts (B = 1 and expanded for the base)."""

    weight_BHH: Tensor
    bias_BH: Tensor
    out_weight_BH: Tensor
    out_bias_B: Tensor

    def expand(self, accounts: int) -> Self:
        return type(self)(*(layer.expand(accounts, *layer.shape[1:]) for layer in self))

    def logits(self, hidden_BNH: Tensor) -> Tensor:
        """The log-odds of fraud of every row of every account: [B, N]."""
        return self._out(self._inner(hidden_BNH).relu() + hidden_BNH)

    def gradient(self, hidden_BNH: Tensor, fraud_BN: Tensor, weight_BN: Tensor) -> Self:
        """The gradient of each account's loss, the sum of weight * cross-entropy over its rows.

        Written out because it is short: it needs no graph when serving, and training's second
        derivatives are the plain derivatives of these lines.
        """
        inner_BNH = self._inner(hidden_BNH)
        summed_BNH = inner_BNH.relu() + hidden_BNH
        slope_BN = (self._out(summed_BNH).sigmoid() - fraud_BN) * weight_BN
        slope_BNH = slope_BN[:, :, None] * self.out_weight_BH[:, None] * (inner_BNH > 0)
        return type(self)(
            slope_BNH.mT @ hidden_BNH,
            slope_BNH.sum(1),
            (slope_BN[:, None] @ summed_BNH)[:, 0],
            slope_BN.sum(1),
        )

    def _inner(self, hidden_BNH: Tensor) -> Tensor:
        return torch.baddbmm(self.bias_BH[:, None], hidden_BNH, self.weight_BHH.mT)

    def _out(self, summed_BNH: Tensor) -> Tensor:
        return (summed_BNH @ self.out_weight_BH[:, :, None])[:, :, 0] + self.out_bias_B[:, None]


class Context(NamedTuple):
    """What an account's labels say of its usual values: part of the input, not of the weights.

    `counts_BJ` are the legitimate and the fraud labels, whole and decayed, valued at
    `newest_day_B`, the day of the newest labelled transaction.
    """

    mean_BO: Tensor
    spread_BO: Tensor
    newest_day_B: Tensor
    counts_BJ: Tensor


class Encoded(NamedTuple):
    """N rows of B accounts as the network reads them, before any label is looked at."""

    static_BNH: Tensor
    own_BNO: Tensor
    day_BN: Tensor


class Encoder(nn.Module):
    """Features to network inputs: scaled and binned quantities, and known codes.

    The bins are the piecewise-linear encoding of Gorishniy, Rubachev and Babenko, "On Embeddings
    for Numerical Features in Tabular Deep Learning" (NeurIPS 2022), with quantiles as edges.
    """

    mean_Z: Tensor
    spread_Z: Tensor
    edges_ZT: Tensor
    known_CV: Tensor

    def __init__(self, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.features = len(kinds)
        self.quantities = [f for f, kind in enumerate(kinds) if kind != "code"]
        self.codes = [f for f, kind in enumerate(kinds) if kind == "code"]
        # Only the transaction's own quantities are set against the account's labels: what is
        # history is relative already, and a merchant's risk is none of the account's habits.
        self.own = [z for z, f in enumerate(self.quantities) if kinds[f] == "own"]
        quantities, codes = len(self.quantities), len(self.codes)
        self.register_buffer("mean_Z", torch.zeros(quantities))
        self.register_buffer("spread_Z", torch.ones(quantities))
        self.register_buffer("edges_ZT", torch.zeros(quantities, BINS + 1))
        # No transaction has the code -1, so an unfitted or short vocabulary matches nothing.
        self.register_buffer("known_CV", torch.full((codes, KNOWN_VALUES), -1.0))
        self.width = quantities * (1 + BINS) + codes * KNOWN_VALUES

    def fit(self, features_NF: Features) -> None:
        """Take scales, bin edges and the most frequent codes from training rows [N, F]."""
        quantities_NZ = features_NF[:, self.quantities].astype(np.float64)
        edges_TZ = np.quantile(quantities_NZ, np.linspace(0, 1, BINS + 1), axis=0)
        self.mean_Z.copy_(torch.from_numpy(quantities_NZ.mean(0)))
        self.spread_Z.copy_(torch.from_numpy(quantities_NZ.std(0)).clamp_min(1e-3))
        self.edges_ZT.copy_(torch.from_numpy(edges_TZ.T))
        for position, code in enumerate(self.codes):
            values, counts = np.unique(features_NF[:, code], return_counts=True)
            present = values != MISSING
            frequent = values[present][np.argsort(-counts[present], kind="stable")][:KNOWN_VALUES]
            self.known_CV[position, : len(frequent)] = torch.from_numpy(frequent)

    def scaled(self, features_BNF: Tensor) -> Tensor:
        """The quantities in units of the population's spread: [B, N, Z]."""
        centred_BNZ = features_BNF[..., self.quantities] - self.mean_Z
        return (centred_BNZ / self.spread_Z).clamp(-CLIP, CLIP)

    def forward(self, features_BNF: Tensor) -> Tensor:
        """The inputs of the trunk: [B, N, E]."""
        quantities_BNZ = features_BNF[..., self.quantities]
        first_ZT, last_ZT = self.edges_ZT[:, :-1], self.edges_ZT[:, 1:]
        widths_ZT = (last_ZT - first_ZT).clamp_min(1e-6)
        bins_BNZT = ((quantities_BNZ[..., None] - first_ZT) / widths_ZT).clamp(0, 1)
        known_BNCV = (features_BNF[..., self.codes, None] == self.known_CV).to(features_BNF.dtype)
        scaled_BNZ = self.scaled(features_BNF)
        return torch.cat([scaled_BNZ, bins_BNZT.flatten(-2), known_BNCV.flatten(-2)], dim=-1)


class Network(nn.Module):
    """Encoder, trunk and the base head. The state dict is what a checkpoint keeps."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.encoder = Encoder(kinds)
        self.trunk = nn.Linear(self.encoder.width, HIDDEN)
        self.relation = nn.Linear(len(self.encoder.own) + COUNTS, HIDDEN, bias=False)
        self.inner = nn.Linear(HIDDEN, HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)

    @property
    def base(self) -> Head:
        """The head of an account without labels, B = 1."""
        return Head(self.inner.weight[None], self.inner.bias[None], self.out.weight, self.out.bias)

    def encode(self, features_BNF: Tensor, day_BN: Tensor) -> Encoded:
        """What the trunk makes of rows whatever the labels: once for every copy that reads them."""
        own_BNO = self.encoder.scaled(features_BNF)[..., self.encoder.own]
        return Encoded(self.trunk(self.encoder(features_BNF)), own_BNO, day_BN)

    def context(
        self, features_BKF: Tensor, day_BK: Tensor, legitimate_BK: Tensor, fraud_BK: Tensor
    ) -> Context:
        """What B accounts' K labelled rows say: see `SupportBatch` for the arguments.

        Means and spreads are those of the legitimate rows, drawn to the population's.
        """
        own_BKO = self.encoder.scaled(features_BKF)[..., self.encoder.own]
        legitimate_BK1 = legitimate_BK[:, :, None]
        weight_B1 = legitimate_BK.sum(1, keepdim=True) + PRIOR_LABELS
        mean_BO = (own_BKO * legitimate_BK1).sum(1) / weight_B1
        squares_BKO = (own_BKO - mean_BO[:, None]).square() * legitimate_BK1
        spread_BO = ((squares_BKO.sum(1) + PRIOR_LABELS) / weight_B1).sqrt()
        labels_BK2 = torch.stack([legitimate_BK, fraud_BK], dim=2)
        # Padding counts as the day 0, and a first column of it serves accounts without labels.
        newest_day_B = pad(day_BK * labels_BK2.sum(2), (1, 0)).amax(1)
        age_BK = (newest_day_B[:, None] - day_BK).clamp_min(0).to(mean_BO.dtype)
        counts_BJ = (labels_BK2.repeat(1, 1, len(LABEL_HALF_LIVES_DAYS)) * _decay(age_BK)).sum(1)
        return Context(mean_BO, spread_BO, newest_day_B, counts_BJ)

    def hidden(self, rows: Encoded, context: Context) -> Tensor:
        """The trunk's output in the light of the account's labels: [B, N, H]."""
        relative_BNO = (rows.own_BNO - context.mean_BO[:, None]) / context.spread_BO[:, None]
        age_BN = (rows.day_BN - context.newest_day_B[:, None]).clamp_min(0).to(relative_BNO.dtype)
        counts_BNJ = context.counts_BJ[:, None] * _decay(age_BN)
        related = torch.cat([relative_BNO.clamp(-CLIP, CLIP), counts_BNJ.log1p()], dim=-1)
        hidden_BNH: Tensor = (rows.static_BNH + self.relation(related)).relu()
        return hidden_BNH


def _decay(age_BN: Tensor) -> Tensor:
    """2 ** (-age / half-life), for both labels at each half-life: [B, N, J]."""
    half_lives_J = age_BN.new_tensor(LABEL_HALF_LIVES_DAYS).repeat_interleave(2)
    return torch.exp2(-age_BN[:, :, None] / half_lives_J)

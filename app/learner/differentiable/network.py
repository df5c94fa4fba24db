"""The network: an encoding of features, a trunk that all accounts share, a head for each account.

It is an ensemble of small members that read the same encoding and are trained side by side, each
by its own loss; their log-odds are averaged (Gorishniy, Kotelnikov and Babenko, "TabM", ICLR 2025).
A member is wide and deep (Cheng et al., 2016): the encoding also speaks to its log-odds directly,
so that one quantity beyond a threshold is enough to be sure, without the hidden units' consent.
Only heads are adapted, so an account costs few numbers however wide the input is. Heads carry a
leading account axis and are applied to all accounts in one batched product.

Axes: B accounts, N rows of an account, F features, Z quantities (features that are no codes),
O of them the transaction's own, J label counts, C codes, V known values of a code, T bins,
M members, H hidden units of a member, U = M * H, Y quantities that may be a surprise.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, pad

from app.learner.features import Kind
from app.learner.network import (
    BEYOND,
    BINS,
    CLIP,
    COUNTS,
    HIDDEN,
    KNOWN_VALUES,
    LABEL_HALF_LIVES_DAYS,
    LEAST_WIDTH,
    MEMBERS,
    PRIOR_LABELS,
    Columns,
    amounts,
    surprising,
)


class Hidden(NamedTuple):
    """What the trunk made of N rows of B accounts: hidden units, and log-odds that are added."""

    units_MBNH: Tensor
    wide_MBN: Tensor


class Head(NamedTuple):
    """The layers after the trunk, of B accounts or of one (B = 1) that all of them share.

    A layer that is not adapted is shared even where another has its own for each account.
    """

    weight_BMHH: Tensor
    bias_BMH: Tensor
    out_weight_BMH: Tensor
    out_bias_BM: Tensor

    def logits(self, hidden: Hidden) -> Tensor:
        """The log-odds of fraud of every row of every account, by member: [M, B, N]."""
        return self._out(self.summed(hidden))

    def summed(self, hidden: Hidden) -> Hidden:
        """The same with what the inner layer adds to the units."""
        return hidden._replace(units_MBNH=self._inner(hidden).relu() + hidden.units_MBNH)

    def gradient(self, hidden: Hidden, fraud_BN: Tensor, weight_BN: Tensor) -> dict[str, Tensor]:
        """The gradient of each account's loss, the sum of weight * cross-entropy over its rows.

        By layer. Written out because it is short: it needs no graph when serving, and training's
        second derivatives are the plain derivatives of these lines.
        """
        inner_MBNH = self._inner(hidden)
        summed = hidden._replace(units_MBNH=inner_MBNH.relu() + hidden.units_MBNH)
        slope_MBN = self._slope(summed, fraud_BN, weight_BN)
        out_weight_MB1H = self.out_weight_BMH.transpose(0, 1)[:, :, None]
        slope_MBNH = slope_MBN[..., None] * out_weight_MB1H * (inner_MBNH > 0)
        return {
            "weight_BMHH": (slope_MBNH.mT @ hidden.units_MBNH).transpose(0, 1),
            "bias_BMH": slope_MBNH.sum(2).transpose(0, 1),
            **_last_gradient(slope_MBN, summed),
        }

    def last_gradient(
        self, summed: Hidden, fraud_BN: Tensor, weight_BN: Tensor
    ) -> dict[str, Tensor]:
        """The same of the last layer alone, from what `summed` gave."""
        return _last_gradient(self._slope(summed, fraud_BN, weight_BN), summed)

    def _slope(self, summed: Hidden, fraud_BN: Tensor, weight_BN: Tensor) -> Tensor:
        return (self._out(summed).sigmoid() - fraud_BN) * weight_BN

    def _inner(self, hidden: Hidden) -> Tensor:
        units_MBNH, weight_BMHH, bias_BMH = hidden.units_MBNH, self.weight_BMHH, self.bias_BMH
        if len(weight_BMHH) != 1:
            bias_MB1H = bias_BMH.transpose(0, 1)[:, :, None]
            return units_MBNH @ weight_BMHH.transpose(0, 1).mT + bias_MB1H
        # Shared by all accounts: their rows go through it as those of one.
        all_MNH = units_MBNH.flatten(1, 2)
        inner_MNH = torch.baddbmm(bias_BMH.transpose(0, 1), all_MNH, weight_BMHH[0].mT)
        return inner_MNH.reshape(units_MBNH.shape)

    def _out(self, summed: Hidden) -> Tensor:
        out_weight_MBH1 = self.out_weight_BMH.transpose(0, 1)[..., None]
        if len(self.out_weight_BMH) == 1:
            out_MN1 = summed.units_MBNH.flatten(1, 2) @ out_weight_MBH1[:, 0]
            out_MBN = out_MN1.reshape(summed.wide_MBN.shape)
        else:
            out_MBN = (summed.units_MBNH @ out_weight_MBH1)[..., 0]
        return out_MBN + self.out_bias_BM.T[..., None] + summed.wide_MBN


def _last_gradient(slope_MBN: Tensor, summed: Hidden) -> dict[str, Tensor]:
    return {
        "out_weight_BMH": (slope_MBN[:, :, None] @ summed.units_MBNH)[:, :, 0].transpose(0, 1),
        "out_bias_BM": slope_MBN.sum(2).T,
    }


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

    static_BNU: Tensor
    wide_BNM: Tensor
    own_BNO: Tensor
    day_BN: Tensor


class Places(NamedTuple):
    """Where N rows stand: between which two knots of each quantity, and at which known codes.

    `knot_N2Z` and `share_N2Z` are positions in the flattened [Z, T + 1] knots and their weights;
    `value_NC` positions in the flattened [C, V + 1] values, the last of which is for the others.
    `beyond_N` is what is added to the log-odds for values beyond all that training saw.
    """

    knot_N2Z: Tensor
    share_N2Z: Tensor
    value_NC: Tensor
    beyond_N: Tensor


class Encoder(nn.Module):
    """Features to places: quantities by scale and by bin, categories by known code.

    The bins are the piecewise-linear encoding of Gorishniy, Rubachev and Babenko, "On Embeddings
    for Numerical Features in Tabular Deep Learning" (NeurIPS 2022). All bins below a value are
    full, its own in part; so a product with the encoding is an interpolation between two knots,
    and is never computed another way. An edge that stands twice is a step. Beyond the last edge
    nothing was learned: an amount or a pace out there adds to the log-odds, in proportion to how
    far it is, so that it is not taken for the largest that training saw.
    """

    quantity_Z: Tensor
    code_C: Tensor
    own_O: Tensor
    first_knot_2Z1: Tensor
    first_value_C: Tensor
    place_V: Tensor
    surprising_Y: Tensor
    mean_Z: Tensor
    spread_Z: Tensor
    edges_ZT: Tensor
    known_CV: Tensor

    def __init__(self, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.features = len(kinds)
        self.quantities, self.codes, self.own = Columns.of(kinds)
        quantities, codes = len(self.quantities), len(self.codes)
        # The same positions where tensors are indexed: a list would be made a tensor each time.
        for name, positions in (
            ("quantity_Z", self.quantities),
            ("code_C", self.codes),
            ("own_O", self.own),
            (
                "first_knot_2Z1",
                [[[z * (BINS + 1) + last] for z in range(quantities)] for last in (0, 1)],
            ),
            ("first_value_C", [c * (KNOWN_VALUES + 1) for c in range(codes)]),
            ("place_V", range(KNOWN_VALUES)),
            ("surprising_Y", surprising(kinds)),
        ):
            made = torch.tensor(positions, dtype=torch.int64)
            self.register_buffer(name, made, persistent=False)
        self.register_buffer("mean_Z", torch.zeros(quantities))
        self.register_buffer("spread_Z", torch.ones(quantities))
        self.register_buffer("edges_ZT", torch.zeros(quantities, BINS + 1))
        # No transaction has the code -1, so an unfitted or short vocabulary matches nothing.
        self.register_buffer("known_CV", torch.full((codes, KNOWN_VALUES), -1.0))

    def scaled(self, features_BNF: Tensor) -> Tensor:
        """The quantities in units of the population's spread: [B, N, Z]."""
        centred_BNZ = features_BNF.index_select(-1, self.quantity_Z) - self.mean_Z
        return (centred_BNZ / self.spread_Z).clamp(-CLIP, CLIP)

    def places(self, features_NF: Tensor) -> Places:
        """Where N rows stand among the knots and the known values."""
        quantities_NZ = features_NF.index_select(1, self.quantity_Z)
        return Places(
            *self._knots(quantities_NZ), self._values(features_NF), self._beyond(quantities_NZ)
        )

    def _beyond(self, quantities_NZ: Tensor) -> Tensor:
        surprising = self.surprising_Y
        first_Y, last_Y = self.edges_ZT[surprising][:, [0, -1]].unbind(1)
        over_NY = (quantities_NZ[:, surprising] - last_Y).clamp_min(0.0)
        # What was always the same in training has no spread to count by.
        over_NY = over_NY * (last_Y - first_Y > LEAST_WIDTH)
        return BEYOND * (over_NY / self.spread_Z[surprising]).sum(1)

    def _knots(self, quantities_NZ: Tensor) -> tuple[Tensor, Tensor]:
        quantities_ZN = quantities_NZ.T.contiguous()
        # How many of a quantity's inner edges are at or below each value.
        inner_ZT = self.edges_ZT[:, 1:-1].contiguous()
        bin_ZN = torch.searchsorted(inner_ZT, quantities_ZN, right=True)
        knot_2ZN = bin_ZN + self.first_knot_2Z1
        first_ZN, last_ZN = self.edges_ZT.take(knot_2ZN)
        share_ZN = (quantities_ZN - first_ZN) / (last_ZN - first_ZN).clamp_min(LEAST_WIDTH)
        share_ZN = share_ZN.clamp(0, 1)
        return knot_2ZN.flatten(0, 1).T, torch.cat([1 - share_ZN, share_ZN]).T

    def _values(self, features_NF: Tensor) -> Tensor:
        is_known_NCV = features_NF.index_select(1, self.code_C)[..., None] == self.known_CV
        # The first place that matches; one more is for unknown values.
        value_NC = torch.where(is_known_NCV, self.place_V, KNOWN_VALUES).amin(-1)
        return value_NC + self.first_value_C


class Network(nn.Module):
    """Encoder, trunk and the base head. The state dict is what a checkpoint keeps."""

    def __init__(self, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self.encoder = Encoder(kinds)
        self.amounts = amounts(kinds)
        quantities, codes = len(self.encoder.quantities), len(self.encoder.codes)
        units = MEMBERS * HIDDEN
        inputs = quantities * (1 + BINS) + codes * KNOWN_VALUES
        # What the trunk, and the log-odds directly, gain from one knot to the next.
        self.rises_ZTU = _uniform(quantities, BINS, units, inputs=inputs)
        self.wide_rises_ZTM = nn.Parameter(torch.zeros(quantities, BINS, MEMBERS))
        self.values_VU = _uniform(codes * (KNOWN_VALUES + 1), units, inputs=inputs)
        self.scaled_ZU = _uniform(quantities, units, inputs=inputs)
        self.bias_U = _uniform(units, inputs=inputs)
        self.relation = nn.Linear(len(self.encoder.own) + COUNTS, units, bias=False)
        self.inner_weight_MHH = _uniform(MEMBERS, HIDDEN, HIDDEN, inputs=HIDDEN)
        self.inner_bias_MH = _uniform(MEMBERS, HIDDEN, inputs=HIDDEN)
        self.out_weight_MH = _uniform(MEMBERS, HIDDEN, inputs=HIDDEN)
        self.out_bias_M = nn.Parameter(torch.zeros(MEMBERS))
        self.keep_rising()

    @torch.no_grad()
    def keep_rising(self) -> None:
        """Let no risk fall as the amount grows: to be called after each change of the weights.

        What rises with the amount speaks to the log-odds alone, which no copy changes, and each of
        its steps is upwards. So it holds by construction, for every account, whatever it learned
        (monotone additive terms, as in Nori et al., "InterpretML", arXiv:1909.09223).
        """
        self.rises_ZTU[self.amounts] = 0.0
        self.scaled_ZU[self.amounts] = 0.0
        self.wide_rises_ZTM[self.amounts] = self.wide_rises_ZTM[self.amounts].clamp_min(0.0)

    @property
    def base(self) -> Head:
        """The head of an account without labels, B = 1."""
        return Head(
            self.inner_weight_MHH[None],
            self.inner_bias_MH[None],
            self.out_weight_MH[None],
            self.out_bias_M[None],
        )

    def knots(self) -> Tensor:
        """What each quantity gives to units and log-odds at each edge: [Z * (T + 1), U + M]."""
        rises = torch.cat([self.rises_ZTU, self.wide_rises_ZTM], dim=-1)
        return pad(rises.cumsum(1), (0, 0, 1, 0)).flatten(0, 1)

    def encode(self, features_BNF: Tensor, day_BN: Tensor, knots: Tensor | None = None) -> Encoded:
        """What the trunk makes of rows whatever the labels: once for every copy that reads them.

        `knots` are those of `knots()`, where they are at hand, in any precision: each row is
        summed on its own, so it comes out the same whatever rows are beside it.
        """
        places = self.encoder.places(features_BNF.flatten(0, 1))
        return self.encode_at(places, self.encoder.scaled(features_BNF), day_BN, knots)

    def encode_at(
        self, places: Places, scaled_BNZ: Tensor, day_BN: Tensor, knots: Tensor | None = None
    ) -> Encoded:
        """The same of rows whose places [B * N] and scaled quantities are known."""
        table = self.knots() if knots is None else knots
        share_N2Z = places.share_N2Z.to(table.dtype)
        read = embedding_bag(places.knot_N2Z, table, per_sample_weights=share_N2Z, mode="sum")
        read = read.to(scaled_BNZ.dtype)
        static_NU = read[:, :-MEMBERS]
        wide_NM = read[:, -MEMBERS:] + places.beyond_N[:, None].to(read.dtype)
        if places.value_NC.shape[1]:
            static_NU = static_NU + embedding_bag(places.value_NC, self.values_VU, mode="sum")
        static_NU = static_NU + torch.addmm(self.bias_U, scaled_BNZ.flatten(0, 1), self.scaled_ZU)
        rows = scaled_BNZ.shape[:2]
        return Encoded(
            static_NU.reshape(*rows, MEMBERS * HIDDEN),
            wide_NM.reshape(*rows, MEMBERS),
            scaled_BNZ.index_select(-1, self.encoder.own_O),
            day_BN,
        )

    def context(self, rows: Encoded, legitimate_BK: Tensor, fraud_BK: Tensor) -> Context:
        """What B accounts' K labelled rows say: see `SupportBatch` for the labels.

        Means and spreads are those of the legitimate rows, drawn to the population's.
        """
        own_BKO, day_BK = rows.own_BNO, rows.day_BN
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

    def no_context(self, accounts: int) -> Context:
        """What `context` gives for accounts without labels."""
        mean_BO = self.bias_U.new_zeros(accounts, len(self.encoder.own))
        return Context(
            mean_BO,
            torch.ones_like(mean_BO),
            mean_BO.new_zeros(accounts, dtype=torch.float64),
            mean_BO.new_zeros(accounts, COUNTS),
        )

    def hidden(self, rows: Encoded, context: Context) -> Hidden:
        """The trunk's output in the light of the account's labels."""
        return self._hidden(rows, self.relation(self.related(rows, context)))

    def unlabelled(self, rows: Encoded) -> Hidden:
        """The same by `no_context`, which leaves a row as it is and counts nothing."""
        own = rows.own_BNO.shape[-1]
        return self._hidden(rows, linear(rows.own_BNO, self.relation.weight[:, :own]))

    def _hidden(self, rows: Encoded, relation_BNU: Tensor) -> Hidden:
        units_BNU = (rows.static_BNU + relation_BNU).relu()
        units_BNMH = units_BNU.reshape(*units_BNU.shape[:2], MEMBERS, HIDDEN)
        return Hidden(units_BNMH.permute(2, 0, 1, 3), rows.wide_BNM.permute(2, 0, 1))

    def related(self, rows: Encoded, context: Context) -> Tensor:
        """What the labels say of rows, as the trunk reads it: [B, N, O + J]."""
        relative_BNO = (rows.own_BNO - context.mean_BO[:, None]) / context.spread_BO[:, None]
        age_BN = (rows.day_BN - context.newest_day_B[:, None]).clamp_min(0).to(relative_BNO.dtype)
        counts_BNJ = context.counts_BJ[:, None] * _decay(age_BN)
        return torch.cat([relative_BNO.clamp(-CLIP, CLIP), counts_BNJ.log1p()], dim=-1)


def _uniform(*shape: int, inputs: int) -> nn.Parameter:
    bound = inputs**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def _decay(age_BN: Tensor) -> Tensor:
    """2 ** (-age / half-life), for both labels at each half-life: [B, N, J]."""
    return torch.exp2(-age_BN[:, :, None] / _half_lives(age_BN.dtype, age_BN.device))


@cache
def _half_lives(dtype: torch.dtype, device: torch.device) -> Tensor:
    # Whoever asks first, training shall be able to differentiate what is kept here.
    with torch.inference_mode(False):
        half_lives = torch.tensor(LABEL_HALF_LIVES_DAYS, dtype=dtype, device=device)
        return half_lives.repeat_interleave(2)

"""The network: an encoding of features, a trunk that all accounts share, a head for each account.

It is an ensemble of small members that read the same encoding and are trained side by side, each
by its own loss; their log-odds are averaged (Gorishniy, Kotelnikov and Babenko, "TabM", ICLR 2025).
A member is wide and deep (Cheng et al., 2016): the encoding also speaks to its log-odds directly,
so that one quantity beyond a threshold is enough to be sure, without the hidden units' consent.
Only heads are adapted, so an account costs few numbers however wide the input is. Heads carry a
leading account axis and are applied to all accounts in one batched product.

Axes: B accounts, N rows of an account, F features, Z quantities (features that are no codes),
O of them the transaction's own, Q counts of refusals, I inputs from labels, K labelled rows,
C codes, E codes and identities that are compared, V known values of a code, T bins,
M members, H hidden units of a member, U = M * H, Y quantities that may be a surprise.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear, pad

from app.learner.differentiable.trees import Trees
from app.learner.features import Kind
from app.learner.network import (
    ALIKE_HALF_LIVES,
    BEYOND,
    BINS,
    CLIP,
    HIDDEN,
    KNOWN_VALUES,
    LABEL_HALF_LIVES_DAYS,
    LEAST_RISE,
    LEAST_WIDTH,
    MEMBERS,
    NEVER_DAYS,
    PRIOR_LABELS,
    WIDTH_OF_RISE,
    Columns,
    amounts,
    surprising,
)
from app.learner.transaction import MISSING


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
    """What an account's labels say, of what is usual and row by row: an input, not weights.

    `compared_BKE` are the codes and identities of the labelled rows, by which others are like
    them, `day_BK` their days; `legitimate_BK` and `fraud_BK` are as in `SupportBatch`.
    """

    mean_BO: Tensor
    spread_BO: Tensor
    compared_BKE: Tensor
    day_BK: Tensor
    legitimate_BK: Tensor
    fraud_BK: Tensor


class Encoded(NamedTuple):
    """N rows of B accounts as the network reads them, before any label is looked at.

    `familiar_BN` is 1.0 where the account has used all entities of a payment before, and there
    are any. `refused_BN` is what refusals add to the base's log-odds of a familiar payment; it is
    0 where nobody looked (`Learner.encode` does). `quantity_BNZ` are the quantities as they are,
    for trees; of no width without any.
    """

    static_BNU: Tensor
    wide_BNM: Tensor
    own_BNO: Tensor
    compared_BNE: Tensor
    familiar_BN: Tensor
    refused_BN: Tensor
    day_BN: Tensor
    quantity_BNZ: Tensor


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
    compared_E: Tensor
    used_2G: Tensor
    refused_Q: Tensor
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
        columns = Columns.of(kinds)
        self.quantities, self.codes, self.own = columns.quantities, columns.codes, columns.own
        self.compared, self.label_inputs = columns.compared, columns.label_inputs
        self.likest_inputs = columns.likest_inputs
        quantities, codes = len(self.quantities), len(self.codes)
        # The same positions where tensors are indexed: a list would be made a tensor each time.
        for name, positions in (
            ("quantity_Z", self.quantities),
            ("code_C", self.codes),
            ("own_O", self.own),
            ("compared_E", self.compared),
            ("used_2G", [list(side) for side in zip(*columns.used, strict=True)] or [[], []]),
            ("refused_Q", columns.refused),
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
        """The quantities in units of the population's spread: [B, N, Z].

        No further out than any that training saw: there a line is a guess.
        """
        quantities_BNZ = features_BNF.index_select(-1, self.quantity_Z)
        seen_BNZ = quantities_BNZ.clamp(self.edges_ZT[:, 0], self.edges_ZT[:, -1])
        return ((seen_BNZ - self.mean_Z) / self.spread_Z).clamp(-CLIP, CLIP)

    def familiar(self, features_BNF: Tensor) -> Tensor:
        """Whether an account has used all entities of a payment before: [B, N]."""
        identity_BNG, used_BNG = features_BNF[..., self.used_2G].unbind(-2)
        is_there_BNG = identity_BNG != MISSING
        is_familiar_BN = (~is_there_BNG | (used_BNG > 0)).all(-1) & is_there_BNG.any(-1)
        return is_familiar_BN.to(features_BNF.dtype)

    def places(self, features_NF: Tensor) -> Places:
        """Where N rows stand among the knots and the known values."""
        quantities_NZ = features_NF.index_select(1, self.quantity_Z)
        return Places(
            *self._knots(quantities_NZ), self._values(features_NF), self._beyond(quantities_NZ)
        )

    def _beyond(self, quantities_NZ: Tensor) -> Tensor:
        first_Y, last_Y = self.edges_ZT[self.surprising_Y][:, [0, -1]].unbind(1)
        over_NY = (quantities_NZ[:, self.surprising_Y] - last_Y).clamp_min(0.0)
        # What was always the same in training has no range to be beyond of.
        range_Y = torch.where(last_Y - first_Y > LEAST_WIDTH, last_Y - first_Y, torch.inf)
        return BEYOND * (over_NY / range_Y).sum(1)

    def _knots(self, quantities_NZ: Tensor) -> tuple[Tensor, Tensor]:
        # Beyond the last edge is as on it: where it stands twice, nothing above it was learned.
        quantities_ZN = quantities_NZ.minimum(self.edges_ZT[:, -1]).T.contiguous()
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
    """Encoder, trunk and the base head, and trees beside them, where there are any.

    The state dict is what a checkpoint keeps.
    """

    def __init__(self, kinds: Sequence[Kind], trees: int = 0) -> None:
        super().__init__()
        self.encoder = Encoder(kinds)
        self.trees = Trees(trees)
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
        inputs = self.encoder.label_inputs
        self.relation = nn.Linear(len(self.encoder.own) + inputs, units, bias=False)
        # What labels say reaches the log-odds directly, too, from 0: there it is learned fast.
        self.wide_relation_IM = nn.Parameter(torch.zeros(inputs, MEMBERS))
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

        Where an amount is larger than nearly all of training, hardly a row says what it is worth.
        There it adds LEAST_RISE, so that of two such payments of accounts with other pasts the far
        larger is the riskier.
        """
        self.rises_ZTU[self.amounts] = 0.0
        self.scaled_ZU[self.amounts] = 0.0
        least_YT1 = self._least_rises()[..., None]
        self.wide_rises_ZTM[self.amounts] = self.wide_rises_ZTM[self.amounts].maximum(least_YT1)

    def _least_rises(self) -> Tensor:
        """What the log-odds gain at least in each bin of what rises with the amount: [Y, T].

        Where training saw hardly any width there, they gain as much less.
        """
        width_YT = self.encoder.edges_ZT[self.amounts].diff()
        is_wide_YT = width_YT > LEAST_WIDTH
        # Where the last edge stands several times, the last bin of any width is before these.
        after_YT = is_wide_YT.flip(1).cumsum(1).flip(1)
        rise_YT = (LEAST_RISE / WIDTH_OF_RISE * width_YT).clamp(max=LEAST_RISE)
        return rise_YT * (is_wide_YT & (after_YT == 1))

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
        compared_BNE = features_BNF.index_select(-1, self.encoder.compared_E)
        scaled_BNZ = self.encoder.scaled(features_BNF)
        familiar_BN = self.encoder.familiar(features_BNF)
        encoded = self.encode_at(places, scaled_BNZ, compared_BNE, familiar_BN, day_BN, knots)
        if not len(self.trees):
            return encoded
        quantity_BNZ = features_BNF.index_select(-1, self.encoder.quantity_Z)
        return encoded._replace(quantity_BNZ=quantity_BNZ)

    def encode_at(
        self,
        places: Places,
        scaled_BNZ: Tensor,
        compared_BNE: Tensor,
        familiar_BN: Tensor,
        day_BN: Tensor,
        knots: Tensor | None = None,
    ) -> Encoded:
        """The same of rows whose places [B * N], scaled quantities and codes are known."""
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
            compared_BNE,
            familiar_BN,
            torch.zeros_like(familiar_BN),
            day_BN,
            scaled_BNZ[..., :0],
        )

    def answered(self, logit_BN: Tensor, rows: Encoded, inputs_BNI: Tensor | None = None) -> Tensor:
        """The members' mean log-odds, drawn halfway to what trees say of the rows: [B, N].

        Of accounts without labels there are no inputs. Without trees, what the members say.
        """
        if not len(self.trees):
            return logit_BN
        if inputs_BNI is None:
            inputs_BNI = logit_BN.new_zeros(*logit_BN.shape, self.encoder.label_inputs)
        trees_BN: Tensor = self.trees(rows.quantity_BNZ, inputs_BNI.to(logit_BN.dtype))
        return (logit_BN + trees_BN) / 2

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
        return Context(mean_BO, spread_BO, rows.compared_BNE, day_BK, legitimate_BK, fraud_BK)

    def no_context(self, accounts: int) -> Context:
        """What `context` gives for accounts without labels."""
        mean_BO = self.bias_U.new_zeros(accounts, len(self.encoder.own))
        none_BK = self.bias_U.new_zeros(accounts, 0)
        return Context(
            mean_BO,
            torch.ones_like(mean_BO),
            none_BK.new_zeros(accounts, 0, len(self.encoder.compared)),
            none_BK.to(torch.float64),
            none_BK,
            none_BK,
        )

    def hidden(self, rows: Encoded, context: Context, earlier: bool = False) -> Hidden:
        """The trunk's output in the light of the account's labels.

        With `earlier`, each row sees the labels of earlier rows alone, as a labelled row does.
        """
        return self.hidden_by(rows, context, self.label_inputs(rows, context, earlier))

    def hidden_by(self, rows: Encoded, context: Context, inputs_BNI: Tensor) -> Hidden:
        """The same where `label_inputs` of the rows are at hand."""
        related_BNR = torch.cat([self.relative(rows, context), inputs_BNI], dim=-1)
        return self._hidden(rows, self.relation(related_BNR), inputs_BNI @ self.wide_relation_IM)

    def unlabelled(self, rows: Encoded) -> Hidden:
        """The same by `no_context`, which leaves a row as it is and says nothing."""
        own = rows.own_BNO.shape[-1]
        return self._hidden(rows, linear(rows.own_BNO, self.relation.weight[:, :own]))

    def _hidden(
        self, rows: Encoded, relation_BNU: Tensor, wide_BNM: Tensor | None = None
    ) -> Hidden:
        units_BNU = (rows.static_BNU + relation_BNU).relu()
        units_BNMH = units_BNU.reshape(*units_BNU.shape[:2], MEMBERS, HIDDEN)
        wide_BNM = rows.wide_BNM if wide_BNM is None else rows.wide_BNM + wide_BNM
        return Hidden(units_BNMH.permute(2, 0, 1, 3), wide_BNM.permute(2, 0, 1))

    def relative(self, rows: Encoded, context: Context) -> Tensor:
        """Rows' own quantities against what legitimate labels say is usual: [B, N, O]."""
        relative_BNO = (rows.own_BNO - context.mean_BO[:, None]) / context.spread_BO[:, None]
        return relative_BNO.clamp(-CLIP, CLIP)

    @torch.no_grad()
    def label_inputs(self, rows: Encoded, context: Context, earlier: bool = False) -> Tensor:
        """What an account's labels say of rows, as the network reads it: [B, N, I].

        Of the legitimate labels, then of the frauds: counts, decayed by each half-life (log1p);
        whether there is any; the hours since the newest (log1p, of ten, and 1 / (1 + hours)); the
        largest share of codes and identities that a labelled row has in common with the row, and
        the count of labels, each by the cube of that share; then, by each code or identity, the
        count of labels with the same one, plain and decayed (log1p). At last of both classes the
        difference of the hours' logarithms, the share of frauds, and its log-odds. All is 0 for a
        row that sees no label.
        """
        age_BNK = rows.day_BN[:, :, None] - context.day_BK[:, None]
        label_2BK = torch.stack([context.legitimate_BK, context.fraud_BK])
        label_2BNK = label_2BK[:, :, None].expand(-1, -1, age_BNK.shape[1], -1)
        if earlier:
            label_2BNK = label_2BNK * (age_BNK > 0)
        age_BNK = age_BNK.clamp_min(0).to(label_2BNK.dtype)
        weight_2BNKL = label_2BNK[..., None] * decay(age_BNK)
        count_2BNL = weight_2BNKL.sum(3)
        has_any_2BN = (count_2BNL[..., 0] > 0).to(age_BNK.dtype)
        # A first column serves accounts without labels.
        newest_2BN = pad(torch.where(label_2BNK > 0, age_BNK, NEVER_DAYS), (1, 0), value=NEVER_DAYS)
        hours_2BN = 24 * newest_2BN.amin(3)
        age_2BN = has_any_2BN * hours_2BN.log1p() / 10

        theirs_BKE, row_BNE = context.compared_BKE, rows.compared_BNE
        same_BNKE = (row_BNE[:, :, None] == theirs_BKE[:, None]) & (row_BNE[:, :, None] != MISSING)
        same_BNKE = same_BNKE.to(age_BNK.dtype)
        share_BNK = same_BNKE.mean(3) if same_BNKE.shape[3] else torch.zeros_like(age_BNK)
        likest_2BN = pad(label_2BNK * share_BNK, (1, 0)).amax(3)
        alike_2BN = (label_2BNK * share_BNK**3).sum(3).log1p()
        by_code_2BNLE = torch.einsum(
            "ybnkl,bnke->ybnle", weight_2BNKL[..., list(ALIKE_HALF_LIVES)], same_BNKE
        ).log1p()
        of_class_2BNI = torch.cat(
            [
                count_2BNL.log1p(),
                torch.stack(
                    [has_any_2BN, age_2BN, has_any_2BN / (1 + hours_2BN), likest_2BN, alike_2BN], 3
                ),
                by_code_2BNLE.flatten(3),
            ],
            dim=3,
        )
        legitimate_BN, fraud_BN = count_2BNL[..., 0]
        of_both_BN3 = torch.stack(
            [
                has_any_2BN.prod(0) * (age_2BN[1] - age_2BN[0]),
                (fraud_BN + 0.3) / (fraud_BN + legitimate_BN + 1),
                ((fraud_BN + 0.5) / (legitimate_BN + 0.5)).log(),
            ],
            dim=2,
        )
        sees_any_BN1 = has_any_2BN.amax(0)[..., None]
        return torch.cat([*of_class_2BNI, sees_any_BN1 * of_both_BN3], dim=2)


def _uniform(*shape: int, inputs: int) -> nn.Parameter:
    bound = inputs**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def decay(age_BNK: Tensor) -> Tensor:
    """2 ** (-age / half-life), at each half-life: [B, N, K, L]."""
    return torch.exp2(-age_BNK[..., None] / half_lives(age_BNK.dtype, age_BNK.device))


@cache
def half_lives(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Those of labels that a score reads, in days: [L]."""
    # Whoever asks first, training shall be able to differentiate what is kept here.
    with torch.inference_mode(False):
        return torch.tensor(LABEL_HALF_LIVES_DAYS, dtype=dtype, device=device)

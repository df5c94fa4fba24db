"""What each feature adds to a score: integrated gradients, integrated exactly.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks" (ICML 2017): walk straight
from a baseline to the payment; a feature's share is its own step times the gradient, averaged
over the walk; so the shares sum to the difference of the two scores. The baseline is the
account's usual payment, made at the moment of this one: the mean of its past payments, or the
population's where there are none.

The walk is one of encodings, not of raw features. Every feature adds something of its own to the
first layer, so its step is known there, and the network is piecewise linear in what is left:
where a unit of the first layer turns on or off is the root of a line, and between two such roots
so is where an inner unit does. The average of the gradient is a sum over these pieces, without
quadrature.

Labels move the weights and the context, not the payment. What they make of the usual payment
itself is a share of its own, `labels`.

Axes: B payments, N rows (a payment, then K past ones, then padding), F features, Z quantities,
T bins, C codes, R relations to labels (O own quantities, then label counts), U = M * H hidden
units of M members, P = 2 * B networks walked (the base for each payment, then its copy), S pieces
of a walk and their S + 1 ends.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

from app.adaptation import Adapted, Copies, Learner, bounded
from app.features import Features
from app.network import BINS, HIDDEN, MEMBERS, Context, Encoded, Head, Network, Places
from app.states import Floats, Ints
from app.transactions import DAY_US

# The code of no value at all: not even that of the places a short vocabulary leaves empty.
NO_CODE = -2.0
LEAST_SIZE = 1e-300


class Attribution(NamedTuple):
    """Where a score comes from, in raw log-odds: baseline + sum(share_F) + labels = log_odds.

    `baseline` is what the account's usual payment is given without any label.
    """

    baseline: float
    log_odds: float
    share_F: Floats
    labels: float


class Steps(NamedTuple):
    """What each feature gives a payment beyond the baseline, whatever the labels.

    To the units of the first layer, and to the members' log-odds directly (M averaged).
    """

    units_BFU: Tensor
    wide_BF: Tensor


class Walk(NamedTuple):
    """The log-odds where a walk starts and ends, and the average gradient by first-layer unit.

    Log-odds are the members' mean, without what is wide.
    """

    first_P: Tensor
    last_P: Tensor
    gradient_PU: Tensor


@torch.inference_mode()
def attribute(
    learner: Learner,
    knots: Tensor,
    features_BF: Features,
    time_us_B: Ints,
    pasts: Sequence[Features],
    copies: Copies,
) -> list[Attribution]:
    """The shares of each of B payments' served log-odds, by feature.

    `learner` is in float64, `knots` are those of its network, `pasts` the features of the past
    payments of each one's account at their moments ([K, F], K may be 0), `copies` what serves it.
    """
    network = learner.network
    features_BNF, weight_BN = _set_against(network, features_BF, pasts)
    day_B1 = torch.from_numpy(time_us_B / DAY_US).to(weight_BN)[:, None]
    scaled_BNZ = network.encoder.scaled(features_BNF)
    places = network.encoder.places(features_BNF.flatten(0, 1))
    steps = _steps(network, knots, places, scaled_BNZ, weight_BN)
    # The trunk reads the payment alone; of the others only their relation to the labels counts.
    of_payments = Places(*(part[:: weight_BN.shape[1]] for part in places))
    payment = network.encode_at(of_payments, scaled_BNZ[:, :1], day_B1, knots)
    related = payment._replace(
        own_BNO=scaled_BNZ.index_select(-1, network.encoder.own_O),
        day_BN=day_B1.expand_as(weight_BN),
    )

    served = _served(learner, copies)
    twice = Encoded(*(torch.cat([part, part]) for part in related))
    related_PNR = network.related(twice, served.context)
    step_PR = (weight_BN.repeat(2, 1)[:, None] @ related_PNR)[:, 0]
    end_PU = twice.static_BNU[:, 0] + network.relation(related_PNR[:, 0])
    step_PU = steps.units_BFU.sum(1).repeat(2, 1) + network.relation(step_PR)
    walk = _walked(served.head, end_PU, step_PU)

    gradient_2BU = _by_network(walk.gradient_PU)
    share_2BF = (steps.units_BFU @ gradient_2BU[..., None])[..., 0] + steps.wide_BF
    own_O = network.encoder.quantity_Z[network.encoder.own_O]
    share_PR = step_PR * (walk.gradient_PU @ network.relation.weight)
    share_2BF.index_add_(-1, own_O, _by_network(share_PR[:, : len(own_O)]))

    wide_B = payment.wide_BNM[:, 0].mean(1)
    first_2B = _by_network(walk.first_P) + wide_B - steps.wide_BF.sum(1)
    last_2B = _by_network(walk.last_P) + wide_B
    return _moved(first_2B, last_2B, share_2BF, copies.weight_B)


def _set_against(
    network: Network, features_BF: Features, pasts: Sequence[Features]
) -> tuple[Tensor, Tensor]:
    """The payments, each with those that its baseline is the mean of, and what each row weighs.

    The weighted sum is the payment less its baseline. Accounts without a past have the
    population's mean for one.
    """
    population_1F = np.full((1, features_BF.shape[1]), NO_CODE, np.float64)
    population_1F[:, network.encoder.quantities] = network.encoder.mean_Z.cpu().numpy()
    befores = [past_KF if len(past_KF) else population_1F for past_KF in pasts]
    rows = 1 + max(map(len, befores))
    features_BNF = np.zeros((len(befores), rows, features_BF.shape[1]))
    weight_BN = np.zeros((len(befores), rows))
    features_BNF[:, 0], weight_BN[:, 0] = features_BF, 1.0
    for b, before_KF in enumerate(befores):
        features_BNF[b, 1 : 1 + len(before_KF)] = before_KF
        weight_BN[b, 1 : 1 + len(before_KF)] = -1.0 / len(before_KF)
    bias_U = network.bias_U
    return torch.from_numpy(features_BNF).to(bias_U), torch.from_numpy(weight_BN).to(bias_U)


def _steps(
    network: Network, knots: Tensor, places: Places, scaled_BNZ: Tensor, weight_BN: Tensor
) -> Steps:
    """What each feature gives, in the weighted sum of the N rows of each payment."""
    encoder, units = network.encoder, MEMBERS * HIDDEN
    payments, rows = weight_BN.shape
    quantities, codes = len(encoder.quantities), len(encoder.codes)
    # Rows of a quantity stand at few knots: sum their weights there, and read each knot once.
    weight_N2Z = places.share_N2Z * weight_BN.reshape(-1, 1)
    at_knot = weight_N2Z.new_zeros(payments, quantities * (BINS + 1))
    at_knot.scatter_add_(1, places.knot_N2Z.reshape(payments, -1), weight_N2Z.reshape(payments, -1))
    at_knot_ZBT = at_knot.to(knots.dtype).reshape(payments, quantities, BINS + 1).transpose(0, 1)
    read_ZB = (at_knot_ZBT @ knots.reshape(quantities, BINS + 1, -1)).to(scaled_BNZ.dtype)
    read_BZ = read_ZB.transpose(0, 1)
    step_BZ1 = scaled_BNZ.mT @ weight_BN[..., None]
    units_BFU = scaled_BNZ.new_zeros(payments, encoder.features, units)
    units_BFU[:, encoder.quantity_Z] = read_BZ[..., :units] + step_BZ1 * network.scaled_ZU
    if codes:
        value_BCN = places.value_NC.reshape(payments, rows, codes).mT
        units_BFU[:, encoder.code_C] = embedding_bag(
            value_BCN.reshape(-1, rows),
            network.values_VU,
            per_sample_weights=weight_BN.repeat_interleave(codes, 0),
            mode="sum",
        ).reshape(payments, codes, units)
    wide_BF = scaled_BNZ.new_zeros(payments, encoder.features)
    wide_BF[:, encoder.quantity_Z] = read_BZ[..., units:].mean(-1)
    return Steps(units_BFU, wide_BF)


def _served(learner: Learner, copies: Copies) -> Adapted:
    """The networks that B scores are made of, as P accounts of one batch."""
    accounts = len(copies.weight_B)
    base = learner.base(accounts)

    def both(of_base: Tensor, of_copies: Tensor) -> Tensor:
        # A layer that is not adapted is shared by all.
        if len(of_copies) != accounts:
            return of_base
        return torch.cat([of_base.expand_as(of_copies), of_copies])

    return Adapted(
        Context(*map(both, base.context, copies.context)), Head(*map(both, base.head, copies.head))
    )


def _walked(head: Head, end_PU: Tensor, step_PU: Tensor) -> Walk:
    """Walk P networks from `end - step` to `end`, in what enters the units of the first layer."""
    start_PM1H, step_PM1H = (
        part.reshape(-1, MEMBERS, 1, HIDDEN) for part in (end_PU - step_PU, step_PU)
    )
    root_PMH = (-start_PM1H / step_PM1H)[:, :, 0]
    # A unit that does not move has no root; any end will do.
    root_PMH = root_PMH.nan_to_num(0.0).clamp(0, 1).sort(-1).values
    at_PMS = pad(pad(root_PMH, (1, 0)), (0, 1), value=1.0)
    width_PMS1 = at_PMS.diff()[..., None]

    first_PMSH = start_PM1H + at_PMS[..., None] * step_PM1H
    inner_PMSH = first_PMSH.relu() @ head.weight_BMHH.mT + head.bias_BMH[:, :, None]
    # Within a piece both layers are lines: the first does not cross 0, the inner one may.
    is_on_PMSH = (first_PMSH[:, :, :-1] > -first_PMSH[:, :, 1:]).to(end_PU.dtype)
    inner_on_PMSH = _positive(inner_PMSH)
    both_on_PMHH = (inner_on_PMSH * width_PMS1).mT @ is_on_PMSH
    on_PMH = (is_on_PMSH * width_PMS1).sum(2)

    weight_PMH = head.out_weight_BMH
    through_PMH = (weight_PMH[..., None] * head.weight_BMHH * both_on_PMHH).sum(2)
    gradient_PMH = through_PMH + weight_PMH * on_PMH
    ends_PM2H = _ends(first_PMSH).relu() + _ends(inner_PMSH).relu()
    logit_PM2 = (ends_PM2H @ weight_PMH[..., None])[..., 0] + head.out_bias_BM[..., None]
    first_P, last_P = logit_PM2.mean(1).T
    return Walk(first_P, last_P, gradient_PMH.flatten(1) / MEMBERS)


def _ends(along_PMSH: Tensor) -> Tensor:
    """The first and the last point of a walk."""
    return torch.stack([along_PMSH[:, :, 0], along_PMSH[:, :, -1]], dim=2)


def _positive(along_PMSH: Tensor) -> Tensor:
    """The part of each piece of a line that lies above 0: [P, M, S, H].

    (relu(a) + relu(b)) / (|a| + |b|) between the ends a and b, where relu(x) = (x + |x|) / 2.
    """
    size_PMSH = along_PMSH.abs()
    whole_PMSH = size_PMSH[:, :, :-1] + size_PMSH[:, :, 1:]
    sum_PMSH = along_PMSH[:, :, :-1] + along_PMSH[:, :, 1:]
    # A piece of zeros is neither above nor below; any part will do.
    return (sum_PMSH / whole_PMSH.clamp_min(LEAST_SIZE)).mul_(0.5).add_(0.5)


def _by_network(of_all_P: Tensor) -> Tensor:
    """P networks as the base's and the copies': [2, B, ...]."""
    return of_all_P.reshape(2, -1, *of_all_P.shape[1:])


def _moved(
    first_2B: Tensor, last_2B: Tensor, share_2BF: Tensor, weight_B: Tensor
) -> list[Attribution]:
    """The base's shares moved towards the copy's as `Learner.served_logits` moves the score.

    Where the bound acts, the whole move is shortened alike.
    """
    move_B = last_2B[1] - last_2B[0]
    followed_B = weight_B * torch.where(move_B == 0, 1.0, bounded(move_B) / move_B)
    log_odds_B = last_2B[0] + followed_B * move_B
    share_BF = share_2BF[0] + followed_B[:, None] * (share_2BF[1] - share_2BF[0])
    labels_B = followed_B * (first_2B[1] - first_2B[0])
    return [
        Attribution(*one)
        for one in zip(
            first_2B[0].tolist(),
            log_odds_B.tolist(),
            share_BF.cpu().numpy(),
            labels_B.tolist(),
            strict=True,
        )
    ]

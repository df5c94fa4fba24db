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

Axes: N rows (the payment, then K past ones), F features, Z quantities, T bins, C codes,
R relations to labels (O own quantities, then label counts), U = M * H hidden units of M members,
P networks walked (the base, then the copy), S pieces of the walk and their S + 1 ends.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from app.adaptation import Adapted, Copies, Learner, bounded
from app.features import Features
from app.network import BINS, HIDDEN, MEMBERS, Context, Head, Network
from app.states import Floats
from app.transactions import DAY_US

# The code of no value at all: not even that of the places a short vocabulary leaves empty.
NO_CODE = -2.0


class Attribution(NamedTuple):
    """Where a score comes from, in raw log-odds: baseline + sum(share_F) + labels = log_odds.

    `baseline` is what the account's usual payment is given without any label.
    """

    baseline: float
    log_odds: float
    share_F: Floats
    labels: float


class Steps(NamedTuple):
    """What each feature gives the payment beyond the baseline, whatever the labels.

    To the units of the first layer, and to the members' log-odds directly (M averaged).
    """

    units_FU: Tensor
    wide_F: Tensor


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
    features_F: Features,
    time_us: int,
    past_KF: Features,
    copies: Copies | None,
) -> Attribution:
    """The shares of one payment's served log-odds, by feature.

    `learner` is in float64, `knots` are those of its network, `past_KF` the features of the
    account's past payments at their moments (K may be 0), `copies` the copy of the one account
    (B = 1), None where it has no labels.
    """
    network = learner.network
    rows_NF = _rows(network, features_F, past_KF)
    weight_N = rows_NF.new_full((len(rows_NF),), -1.0 / (len(rows_NF) - 1))
    weight_N[0] = 1.0
    day_N = torch.full_like(weight_N, time_us / DAY_US)
    scaled_NZ = network.encoder.scaled(rows_NF)
    steps = _steps(network, knots, rows_NF, scaled_NZ, weight_N)
    # The trunk reads the payment alone; of the others only their relation to the labels counts.
    payment = network.encode(rows_NF[None, :1], day_N[None, :1], knots)
    related = payment._replace(
        own_BNO=scaled_NZ[None][..., network.encoder.own], day_BN=day_N[None]
    )

    context, head = _served(learner, copies)
    related_PNR = network.related(related, context)
    step_PR = weight_N @ related_PNR
    end_PU = payment.static_BNU[:, 0] + network.relation(related_PNR[:, 0])
    step_PU = steps.units_FU.sum(0) + network.relation(step_PR)
    walk = _walked(head, end_PU, step_PU)

    share_PF = walk.gradient_PU @ steps.units_FU.T + steps.wide_F
    own = [network.encoder.quantities[z] for z in network.encoder.own]
    share_PR = step_PR * (walk.gradient_PU @ network.relation.weight)
    share_PF[:, own] += share_PR[:, : len(own)]

    wide = payment.wide_BNM[0, 0].mean()
    first_P, last_P = walk.first_P + wide - steps.wide_F.sum(), walk.last_P + wide
    return _moved(first_P, last_P, share_PF, copies)


def _rows(network: Network, features_F: Features, past_KF: Features) -> Tensor:
    """The payment, then those that the baseline is the mean of: [N, F], at least two."""
    payment_1F, past = (
        torch.as_tensor(part).to(network.bias_U) for part in (features_F[None], past_KF)
    )
    if len(past):
        return torch.cat([payment_1F, past])
    population_1F = torch.full_like(payment_1F, NO_CODE)
    population_1F[:, network.encoder.quantities] = network.encoder.mean_Z
    return torch.cat([payment_1F, population_1F])


def _steps(
    network: Network, knots: Tensor, rows_NF: Tensor, scaled_NZ: Tensor, weight_N: Tensor
) -> Steps:
    """What each feature gives, in the weighted sum of N rows."""
    encoder, units = network.encoder, MEMBERS * HIDDEN
    places = encoder.places(rows_NF)
    quantities = len(encoder.quantities)
    # Rows of a quantity stand at few knots: sum their weights there, and read each knot once.
    weight_N2Z = places.share_N2Z * weight_N[:, None]
    at_knot = weight_N2Z.new_zeros(quantities * (BINS + 1))
    at_knot.index_add_(0, places.knot_N2Z.flatten(), weight_N2Z.flatten())
    at_knot_Z1T = at_knot.to(knots.dtype).reshape(quantities, 1, BINS + 1)
    read = (at_knot_Z1T @ knots.reshape(quantities, BINS + 1, -1))[:, 0].to(rows_NF.dtype)
    step_Z = weight_N @ scaled_NZ
    units_FU = rows_NF.new_zeros(encoder.features, units)
    units_FU[encoder.quantities] = read[:, :units] + step_Z[:, None] * network.scaled_ZU
    values_NCU = network.values_VU[places.value_NC]
    units_FU[encoder.codes] = (values_NCU * weight_N[:, None, None]).sum(0)
    wide_F = rows_NF.new_zeros(encoder.features)
    wide_F[encoder.quantities] = read[:, units:].mean(1)
    return Steps(units_FU, wide_F)


def _served(learner: Learner, copies: Copies | None) -> Adapted:
    """The networks that a score is made of, as accounts of one batch: the base, then the copy."""
    base = learner.base(1)
    if copies is None:
        return base
    return Adapted(
        Context(*map(torch.cat, zip(base.context, copies.context, strict=True))),
        Head(*map(torch.cat, zip(base.head, copies.head, strict=True))),
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
    is_on_PMSH = (first_PMSH[:, :, :-1] + first_PMSH[:, :, 1:] > 0).to(end_PU.dtype)
    inner_on_PMSH = _positive(inner_PMSH[:, :, :-1], inner_PMSH[:, :, 1:])
    both_on_PMHH = (inner_on_PMSH * width_PMS1).mT @ is_on_PMSH
    on_PMH = (is_on_PMSH * width_PMS1).sum(2)

    weight_PMH = head.out_weight_BMH
    through_PMH = (weight_PMH[..., None] * head.weight_BMHH * both_on_PMHH).sum(2)
    gradient_PMH = through_PMH + weight_PMH * on_PMH
    ends_PM2H = (first_PMSH.relu() + inner_PMSH.relu())[:, :, [0, -1]]
    logit_PM2 = (ends_PM2H @ weight_PMH[..., None])[..., 0] + head.out_bias_BM[..., None]
    first_P, last_P = logit_PM2.mean(1).T
    return Walk(first_P, last_P, gradient_PMH.flatten(1) / MEMBERS)


def _positive(first: Tensor, last: Tensor) -> Tensor:
    """The part of a line between two values that lies above 0."""
    whole = first.abs() + last.abs()
    return (first.relu() + last.relu()) / torch.where(whole > 0, whole, 1.0)


def _moved(first_P: Tensor, last_P: Tensor, share_PF: Tensor, copies: Copies | None) -> Attribution:
    """The base's shares moved towards the copy's as `Learner.served_logits` moves the score.

    Where the bound acts, the whole move is shortened alike.
    """
    baseline, log_odds, share_F = first_P[0], last_P[0], share_PF[0]
    labels = torch.zeros_like(baseline)
    if copies is not None:
        move = last_P[1] - last_P[0]
        followed = copies.weight_B[0] * torch.where(move == 0, 1.0, bounded(move) / move)
        log_odds = log_odds + followed * move
        share_F = share_F + followed * (share_PF[1] - share_PF[0])
        labels = followed * (first_P[1] - first_P[0])
    return Attribution(float(baseline), float(log_odds), share_F.cpu().numpy(), float(labels))

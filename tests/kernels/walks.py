"""The walk of app/learner/attribution.py on whole arrays: what the compiled one is compared with.

The network reads the rows by PyTorch, and NumPy walks, evaluating both layers at both ends of all
pieces: another way to the same sums than the compiled one's, which follows the lines.

Axes: B payments, N rows (a payment, then K past ones, then padding), F features, Z quantities,
T bins, C codes, G features again (quantities, then codes), R relations to labels (O own
quantities, then I inputs from labels), U = M * H hidden units of M members, P = 2 * B networks
walked (the base for each payment, then its copy), S pieces of a walk and their S + 1 ends.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.learner.attribution import Attribution
from app.learner.differentiable.adaptation import AdaptedHead, Copies, Learner
from app.learner.differentiable.network import Context, Encoded, Encoder, Head, Network
from app.learner.differentiable.trees import Trees
from app.learner.features import Features
from app.learner.network import BEYOND, HIDDEN, LEAST_WIDTH, MEMBERS, SPLITS
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US

# The code of no value at all: not even that of the places a short vocabulary leaves empty.
NO_CODE = -2.0
LEAST_SIZE = 1e-300


class Steps(NamedTuple):
    """What each feature gives a payment beyond the baseline, whatever the labels.

    To the units of the first layer, and to the members' log-odds directly (M averaged).
    """

    units_BGU: Floats
    wide_BG: Floats


class Walk(NamedTuple):
    """The log-odds where a walk starts and ends, and the average gradient by first-layer unit.

    By the base and by the copies. Log-odds are the members' mean, without what is wide.
    """

    first_2B: Floats
    last_2B: Floats
    gradient_2BU: Floats


class Descent(NamedTuple):
    """What trees make of the mean of the past and of the payment, and the shares of quantities.

    By the base and by the copies.
    """

    first_2B: Floats
    last_2B: Floats
    share_2BZ: Floats


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
    encoder = network.encoder
    read_BNF, weight_BN = _set_against(network, features_BF, pasts)
    features_BNF = torch.from_numpy(read_BNF).to(network.bias_U)
    day_B1 = torch.from_numpy(time_us_B / DAY_US).to(network.bias_U)[:, None]
    scaled_BNZ = encoder.scaled(features_BNF)
    steps = _steps(network, knots, features_BNF, weight_BN)
    # The trunk reads the payment alone; of the others only their relation to the labels counts.
    of_payments = encoder.places(features_BNF[:, 0])
    compared_B1E = features_BNF[:, :1].index_select(-1, encoder.compared_E)
    familiar_B1 = encoder.familiar(features_BNF[:, :1])
    payment = network.encode_at(
        of_payments, scaled_BNZ[:, :1], compared_B1E, familiar_B1, day_B1, knots
    )
    payment = payment._replace(
        refused_BN=learner.encode(features_BNF[:, :1], day_B1, knots).refused_BN
    )
    quantity_BNZ = features_BNF[..., encoder.quantities]
    if len(network.trees):
        payment = payment._replace(quantity_BNZ=quantity_BNZ[:, :1])
    own_BNO = scaled_BNZ.index_select(-1, encoder.own_O)

    related_2BNR, direct_2B = _related(network, payment, own_BNO, copies.context)
    relation_UR = _array(network.relation.weight)
    step_2BR = (weight_BN[:, None] @ related_2BNR)[:, :, 0]
    end_2BU = _array(payment.static_BNU)[:, 0] + related_2BNR[:, :, 0] @ relation_UR.T
    step_2BU = steps.units_BGU.sum(1) + step_2BR @ relation_UR.T
    walk = _walked(_heads(network.base, copies.head), end_2BU, step_2BU)

    share_2BG = (steps.units_BGU @ walk.gradient_2BU[..., None])[..., 0] + steps.wide_BG
    share_2BR = step_2BR * (walk.gradient_2BU @ relation_UR)
    share_2BG[..., encoder.own] += share_2BR[..., : len(encoder.own)]
    # What is neither a quantity nor a code is not read.
    share_2BF = np.zeros((*share_2BG.shape[:2], features_BF.shape[1]))
    share_2BF[..., encoder.quantities + encoder.codes] = share_2BG

    # What labels say directly they say of the usual payment, too: it is in both ends of a walk.
    wide_2B = _array(payment.wide_BNM)[:, 0].mean(1) + direct_2B
    first_2B = walk.first_2B + wide_2B - steps.wide_BG.sum(1)
    last_2B = walk.last_2B + wide_2B
    if len(network.trees):
        input_2BI = related_2BNR[:, :, 0, len(encoder.own) :]
        trees = _descended(network.trees, _array(quantity_BNZ), weight_BN, input_2BI)
        share_2BF /= 2
        share_2BF[..., encoder.quantities] += trees.share_2BZ / 2
        first_2B, last_2B = (first_2B + trees.first_2B) / 2, (last_2B + trees.last_2B) / 2
    pardoned_B = _pardoned(learner, payment, copies)
    followed_B = _followed(learner, payment, copies, last_2B, pardoned_B)
    found = _moved(first_2B, last_2B, share_2BF, followed_B)
    if not pardoned_B.any():
        return found
    # What is taken off is a walk's from the payment without its refusals, by the base.
    without_BF = features_BF.copy()
    without_BF[:, _array(encoder.refused_Q)] = 0
    unadapted = learner.restored(learner.kept(learner.unadapted()).expand(len(pasts), -1))
    walks = attribute(learner, knots, features_BF, time_us_B, [*without_BF[:, None]], unadapted)
    return [
        _without(whole, refusals, pardoned)
        for whole, refusals, pardoned in zip(found, walks, pardoned_B, strict=True)
    ]


def _array(part: Tensor) -> Floats:
    array: Floats = part.cpu().numpy()
    return array


def _set_against(
    network: Network, features_BF: Features, pasts: Sequence[Features]
) -> tuple[Floats, Floats]:
    """The payments, each with those that its baseline is the mean of, and what each row weighs.

    The weighted sum is the payment less its baseline. Accounts without a past have the
    population's mean for one.
    """
    population_1F = np.full((1, features_BF.shape[1]), NO_CODE, np.float64)
    population_1F[:, network.encoder.quantities] = _array(network.encoder.mean_Z)
    befores = [past_KF if len(past_KF) else population_1F for past_KF in pasts]
    rows = 1 + max(map(len, befores))
    features_BNF = np.zeros((len(befores), rows, features_BF.shape[1]))
    weight_BN = np.zeros((len(befores), rows))
    features_BNF[:, 0], weight_BN[:, 0] = features_BF, 1.0
    for b, before_KF in enumerate(befores):
        features_BNF[b, 1 : 1 + len(before_KF)] = before_KF
        weight_BN[b, 1 : 1 + len(before_KF)] = -1.0 / len(before_KF)
    return features_BNF, weight_BN


def _steps(network: Network, knots: Tensor, features_BNF: Tensor, weight_BN: Floats) -> Steps:
    """What each feature gives, in the weighted sum of the N rows of each payment."""
    encoder, units = network.encoder, MEMBERS * HIDDEN
    places = encoder.places(features_BNF.flatten(0, 1))
    knot_N2Z, share_N2Z, value_NC = (
        part.cpu().numpy() for part in (places.knot_N2Z, places.share_N2Z, places.value_NC)
    )
    scaled_BNZ = encoder.scaled(features_BNF)
    weight_N1 = weight_BN.reshape(-1, 1)
    read_BZU = _read(knot_N2Z, share_N2Z * weight_N1, knots, len(encoder.quantities), weight_BN)
    step_BZ = (weight_BN[:, None] @ _array(scaled_BNZ))[:, 0]
    units_BZU = read_BZU[..., :units] + step_BZ[..., None] * _array(network.scaled_ZU)
    wide_BZ = read_BZU[..., units:].mean(-1)
    wide_BZ += (weight_BN[:, None] @ _beyond(encoder, _array(features_BNF)))[:, 0]
    if not encoder.codes:
        return Steps(units_BZU, wide_BZ)
    weight_NC = np.broadcast_to(weight_N1, value_NC.shape)
    units_BCU = _read(value_NC, weight_NC, network.values_VU, len(encoder.codes), weight_BN)
    no_wide_BC = np.zeros(units_BCU.shape[:2])
    return Steps(
        np.concatenate([units_BZU, units_BCU], axis=1),
        np.concatenate([wide_BZ, no_wide_BC], axis=1),
    )


def _beyond(encoder: Encoder, features_BNF: Floats) -> Floats:
    """What each quantity adds to the log-odds beyond its last edge: [B, N, Z]."""
    over_BNZ = features_BNF[..., encoder.quantities] - _array(encoder.edges_ZT)[:, -1]
    range_Z = np.ptp(_array(encoder.edges_ZT), axis=1)
    over_BNZ = np.maximum(over_BNZ, 0.0) / np.where(range_Z > LEAST_WIDTH, range_Z, np.inf)
    over_BNZ[..., np.setdiff1d(np.arange(over_BNZ.shape[-1]), _array(encoder.surprising_Y))] = 0.0
    beyond_BNZ: Floats = BEYOND * over_BNZ
    return beyond_BNZ


def _read(
    place_NA: Ints, weight_NA: Floats, table: Tensor, features: int, weight_BN: Floats
) -> Floats:
    """The weighted sum of what stands at the places of a payment's rows, by feature: [B, G, U].

    Rows of a feature stand at few places: their weights are summed there, and each is read once.
    """
    payments, rows = weight_BN.shape
    first_N1 = np.repeat(np.arange(payments) * len(table), rows)[:, None]
    at = np.bincount(
        (place_NA + first_N1).ravel(), weight_NA.ravel(), minlength=payments * len(table)
    )
    table_GTU = _array(table).reshape(features, -1, table.shape[1])
    at_GBT = at.reshape(payments, features, -1).swapaxes(0, 1).astype(table_GTU.dtype)
    read_BGU: Floats = (at_GBT @ table_GTU).swapaxes(0, 1).astype(np.float64)
    return read_BGU


def _related(
    network: Network, payment: Encoded, own_BNO: Tensor, context: Context
) -> tuple[Floats, Floats]:
    """What no labels, and those of the copies, say of rows: [2, B, N, R], and directly: [2, B].

    Labels say of the usual rows what they say of the payment: those are not compared with them.
    """
    inputs_B1I = _array(network.label_inputs(payment, context))
    own, inputs = len(network.encoder.own), inputs_B1I.shape[2]
    related_2BNR = np.zeros((2, *own_BNO.shape[:2], own + inputs))
    related_2BNR[0, ..., :own] = _array(own_BNO)
    related_2BNR[1, ..., :own] = _array(
        network.relative(payment._replace(own_BNO=own_BNO), context)
    )
    related_2BNR[1, ..., own:] = inputs_B1I
    direct_BM = inputs_B1I[:, 0] @ _array(network.wide_relation_IM)
    return related_2BNR, np.stack([np.zeros(len(direct_BM)), direct_BM.mean(1)])


def _descended(trees: Trees, quantity_BNZ: Floats, weight_BN: Floats, input_2BI: Floats) -> Descent:
    """Each row goes from one split of a quantity to the next: labels have chosen among the rest."""
    shape = 2, *quantity_BNZ.shape[::2]
    last_2B, rise_2B, share_2BZ = np.zeros(shape[:2]), np.zeros(shape[:2]), np.zeros(shape)
    weight_2BN = np.broadcast_to(weight_BN, (2, *weight_BN.shape))
    for way, b, n in zip(*np.nonzero(weight_2BN), strict=True):
        total, share_Z = _steps_down(trees, quantity_BNZ[b, n], input_2BI[way, b])
        share_2BZ[way, b] += weight_BN[b, n] * share_Z
        rise_2B[way, b] += weight_BN[b, n] * total
        if n == 0:
            last_2B[way, b] = total
    return Descent(last_2B - rise_2B, last_2B, share_2BZ)


def _steps_down(trees: Trees, quantity_Z: Floats, input_I: Floats) -> tuple[float, Floats]:
    total, share_Z = 0.0, np.zeros(len(quantity_Z))
    read_C = np.concatenate([quantity_Z, input_I])
    arrays = (_array(part) for part in (trees.column_JS, trees.edge_JS, trees.value_JV))
    for column_S, edge_S, value_V in zip(*arrays, strict=True):
        columns = column_S.astype(int)
        turn_S = 1 + (read_C[columns] > edge_S)
        is_of_labels_S = columns >= len(quantity_Z)
        place = _settled(0, turn_S, is_of_labels_S)
        while place < SPLITS:
            below = _settled(2 * place + turn_S[place], turn_S, is_of_labels_S)
            share_Z[columns[place]] += value_V[below] - value_V[place]
            place = below
        total += value_V[place]
    return total, share_Z


def _settled(place: int, turn_S: Ints, is_of_labels_S: Ints) -> int:
    while place < SPLITS and is_of_labels_S[place]:
        place = 2 * place + turn_S[place]
    return place


def _heads(base: Head, copies: Head) -> list[Floats]:
    """The layers of P heads; one that is not adapted is shared by all."""
    accounts = len(copies.out_bias_BM)
    return [
        _array(torch.cat([weight.expand_as(other), other]) if len(other) == accounts else weight)
        for weight, other in zip(base, copies, strict=True)
    ]


def _walked(head: Sequence[Floats], end_2BU: Floats, step_2BU: Floats) -> Walk:
    """Walk P networks from `end - step` to `end`, in what enters the units of the first layer."""
    weight_PMHH, bias_PMH, out_weight_PMH, out_bias_PM = head
    start_PMH, step_PMH = (
        part.reshape(-1, MEMBERS, HIDDEN) for part in (end_2BU - step_2BU, step_2BU)
    )
    # A unit that does not move has no root, and a root beyond the walk parts no pieces of it.
    with np.errstate(divide="ignore", invalid="ignore"):
        root_PMH = -start_PMH / step_PMH
    is_within_PMH = (root_PMH > 0) & (root_PMH < 1)
    root_PMH = np.sort(np.where(is_within_PMH, root_PMH, 1.0))
    most = int(is_within_PMH.sum(-1).max())
    at_PMS = np.zeros((*root_PMH.shape[:2], most + 2))
    at_PMS[..., 1:-1], at_PMS[..., -1] = root_PMH[..., :most], 1.0
    width_PM1S = np.diff(at_PMS)[:, :, None]

    first_PMSH = start_PMH[:, :, None] + at_PMS[..., None] * step_PMH[:, :, None]
    relu_PMSH = np.maximum(first_PMSH, 0.0)
    inner_PMSH = relu_PMSH @ weight_PMHH.swapaxes(-1, -2) + bias_PMH[:, :, None]
    # Within a piece both layers are lines: the first does not cross 0, the inner one may.
    is_on_PMSH = (first_PMSH[:, :, :-1] > -first_PMSH[:, :, 1:]).astype(np.float64)
    inner_on_PMHS = _positive(inner_PMSH).swapaxes(-1, -2)
    both_on_PMHH = (inner_on_PMHS * width_PM1S) @ is_on_PMSH
    on_PM1H = width_PM1S @ is_on_PMSH

    out_weight_PM1H = out_weight_PMH[:, :, None]
    through_PM1H = out_weight_PM1H @ (weight_PMHH * both_on_PMHH)
    gradient_PM1H = through_PM1H + out_weight_PM1H * on_PM1H
    ends_PM2H = relu_PMSH[:, :, :: most + 1] + np.maximum(inner_PMSH[:, :, :: most + 1], 0.0)
    logit_PM2 = (ends_PM2H @ out_weight_PMH[..., None])[..., 0] + out_bias_PM[..., None]
    first_2B, last_2B = logit_PM2.mean(1).T.reshape(2, *end_2BU.shape[:2])
    return Walk(first_2B, last_2B, gradient_PM1H.reshape(end_2BU.shape) / MEMBERS)


def _positive(along_PMSH: Floats) -> Floats:
    """The part of each piece of a line that lies above 0: [P, M, S, H].

    (relu(a) + relu(b)) / (|a| + |b|) between the ends a and b, where relu(x) = (x + |x|) / 2.
    """
    size_PMSH = np.abs(along_PMSH)
    whole_PMSH = size_PMSH[:, :, :-1] + size_PMSH[:, :, 1:]
    sum_PMSH = along_PMSH[:, :, :-1] + along_PMSH[:, :, 1:]
    # A piece of zeros is neither above nor below; any part will do.
    part_PMSH: Floats = 0.5 + 0.5 * sum_PMSH / np.maximum(whole_PMSH, LEAST_SIZE)
    return part_PMSH


def _pardoned(learner: Learner, payment: Encoded, copies: Copies) -> Floats:
    """What is taken off each payment's log-odds for its account's refusals."""
    base_B1 = learner.base_logits(payment)
    _, alike_3B1 = learner.moves(payment, AdaptedHead(copies.context, copies.head), base_B1)
    return np.asarray(_array(copies.weight_B * learner.gate.pardon * alike_3B1[2, :, 0]))


def _followed(
    learner: Learner, payment: Encoded, copies: Copies, last_2B: Floats, pardoned_B: Floats
) -> Floats:
    """The share of each copy's move that its payment gets as `Learner.served_logits` has it."""
    served_B1 = learner.served_logits(payment, copies, torch.from_numpy(last_2B[0])[:, None])
    move_B = last_2B[1] - last_2B[0]
    moved_B = _array(served_B1)[:, 0] + pardoned_B - last_2B[0]
    return np.asarray(moved_B / np.where(move_B, move_B, 1.0))


def _without(whole: Attribution, refusals: Attribution, pardoned: float) -> Attribution:
    """An attribution less what refusals are pardoned."""
    if not pardoned:
        return whole
    share_F = whole.share_F - pardoned * refusals.share_F / refusals.share_F.sum()
    return whole._replace(log_odds=whole.log_odds - pardoned, share_F=share_F)


def _moved(
    first_2B: Floats, last_2B: Floats, share_2BF: Floats, followed_B: Floats
) -> list[Attribution]:
    """The base's shares moved towards the copy's: the whole move is shortened alike."""
    move_B = last_2B[1] - last_2B[0]
    log_odds_B = last_2B[0] + followed_B * move_B
    share_BF = share_2BF[0] + followed_B[:, None] * (share_2BF[1] - share_2BF[0])
    labels_B = followed_B * (first_2B[1] - first_2B[0])
    return [
        Attribution(*parts)
        for parts in zip(
            first_2B[0].tolist(), log_odds_B.tolist(), share_BF, labels_B.tolist(), strict=True
        )
    ]

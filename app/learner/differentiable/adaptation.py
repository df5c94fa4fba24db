"""Adaptation: from an account's labels to its own head, by learned gradient steps.

The inner loop of MAML (Finn, Abbeel, Levine, ICML 2017) with learned step sizes (MAML++, Antoniou,
Edwards, Storkey, ICLR 2019), on all accounts of a batch at once: heads have a leading account
axis, and the gradient of the SUM of the accounts' losses is every account's own gradient.
Training differentiates through it; evaluation and serving call the same function.

Whether a copy is followed is the account's own labels' say: copies that learned from a part of
them score the rest. A move away from the base is bounded whatever the labels are.

Axes: B accounts, K support rows, N rows, F features, S inner steps, P parts of a support.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad

from app.learner.adaptation import (
    ALIKE,
    LARGEST_MOVE,
    LEAST_REFUSED,
    LEAST_WEIGHT,
    NEW_CALMED,
    PARTS,
    SUPPORT_LIMIT,
    Support,
)
from app.learner.algorithms import Algorithm
from app.learner.differentiable.network import Context, Encoded, Head, Hidden, Network
from app.learner.features import Kind
from app.learner.network import INNER_STEPS, adapted_layers, step_shape
from app.learner.transaction import DAY_US

FIRST_STEP_SIZE = 0.01
FIRST_ORDER = ("fomaml", "reptile")


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


class AdaptedHead(NamedTuple):
    """What B accounts' labels make of the network; `head` is shared where no step was taken."""

    context: Context
    head: Head


class Copies(NamedTuple):
    """All that scoring needs to know of B accounts: `weight_B` says how far each is followed."""

    context: Context
    head: Head
    weight_B: Tensor


class Gate(nn.Module):
    """How far a copy is followed, from 0, the base, to 1, and by which payments.

    weight = sigmoid(trust + heed * evidence), where the evidence is how much better copies that
    did not see a label predicted it than the base did, in log-likelihood, summed over the
    account's labels: the weights of Bayesian model averaging with cross-validated evidence
    (pseudo-BMA; Yao, Vehtari, Simpson and Gelman, Bayesian Analysis, 2018).

    `reach` is the share of a copy's move down that a payment gets of which the labels say nothing,
    1 where that makes no difference; `habit` is how much it counts there what the account has used
    before, from 0 to 1 (see `alike`); `pardon` how far refusals are not held against it, likewise.
    All five are fitted on held-out accounts.
    """

    trust: Tensor
    heed: Tensor
    reach: Tensor
    habit: Tensor
    pardon: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("trust", torch.tensor(6.0))
        self.register_buffer("heed", torch.zeros(()))
        self.register_buffer("reach", torch.ones(()))
        self.register_buffer("habit", torch.zeros(()))
        self.register_buffer("pardon", torch.zeros(()))

    def set(
        self,
        trust: float,
        heed: float,
        reach: float = 1.0,
        habit: float = 0.0,
        pardon: float = 0.0,
    ) -> None:
        """Fix what was fitted; by default all copies are followed as far as evidence says."""
        self.trust.fill_(trust)
        self.heed.fill_(heed)
        self.reach.fill_(reach)
        self.habit.fill_(habit)
        self.pardon.fill_(pardon)

    def forward(self, evidence_B: Tensor) -> Tensor:
        weight_B = (self.trust + self.heed * evidence_B).sigmoid()
        return weight_B * (weight_B >= LEAST_WEIGHT)

    def described(self) -> dict[str, float]:
        """What was fitted, by name."""
        return {name: float(buffer) for name, buffer in self.named_buffers()}

    def reached(self, move_BN: Tensor, alike_3BN: Tensor) -> Tensor:
        """What rows get of a copy's move, by how much its labels say of them (see `alike`)."""
        plain_BN, by_habit_BN, refused_BN = alike_3BN
        says_BN = (1 - self.habit) * plain_BN + self.habit * by_habit_BN
        least_BN = torch.where(move_BN > 0, 0.0, self.reach)
        reached_BN: Tensor = move_BN * (least_BN + (1 - least_BN) * says_BN)
        return bounded(reached_BN - self.pardon * refused_BN)


class Learner(nn.Module):
    """The network and how it learns an account: what meta-training produces."""

    def __init__(
        self, kinds: Sequence[Kind], algorithm: Algorithm = "anil", trees: int = 0
    ) -> None:
        super().__init__()
        self.algorithm = algorithm
        self.network = Network(kinds, trees)
        self.gate = Gate()
        # Steps live in log space: they stay positive, and they shrink towards zero in a few
        # outer steps where adaptation does not pay (learned directly they hardly moved).
        self.log_step_sizes = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(self._sizes(name))) for name in self.adapted_layers}
        )
        # How many labels the base weighs beside an account's own, in log space: it is learned.
        self.log_prior = nn.Parameter(torch.zeros(()))
        self.set_step_sizes(FIRST_STEP_SIZE)

    @property
    def device(self) -> torch.device:
        return self.network.bias_U.device

    @property
    def adapted_layers(self) -> tuple[str, ...]:
        """The layers of the head that each account has its own of."""
        return adapted_layers(self.algorithm)

    def _sizes(self, layer: str) -> tuple[int, ...]:
        return step_shape(self.algorithm, getattr(self.network.base, layer).shape[1:])

    @torch.no_grad()
    def set_step_sizes(self, size: float) -> None:
        for log_sizes in self.log_step_sizes.values():
            log_sizes.fill_(np.log(size))

    @property
    def step_sizes(self) -> dict[str, list[float]]:
        """The learned sizes of the S steps of each adapted layer, averaged within it."""
        return {
            layer: log_sizes.detach().exp().flatten(1).mean(1).tolist()
            for layer, log_sizes in self.log_step_sizes.items()
        }

    def adapt(self, support: SupportBatch, encoded: Encoded | None = None) -> AdaptedHead:
        """Each account's context and head after all inner steps on its own labels.

        The inner loss is the cross-entropy summed over an account's labels, by n + a learned prior
        of labels: few labels move a head less than many. Each label is read in the light of the
        labels before it, so that what these say already moves no head. Where autograd
        records, the result is differentiable through all steps (second order), or with the steps
        taken as given (FOMAML, Reptile). An account without labels gets the base, exactly: its
        gradient is zero. `encoded` spares encoding the support where that is done already.
        """
        rows = encoded or self.network.encode(support.features_BKF, support.day_BK)
        *_, last = self.steps(rows, support.legitimate_BK, support.fraud_BK)
        return last

    def steps(
        self, rows: Encoded, legitimate_BK: Tensor, fraud_BK: Tensor
    ) -> Iterator[AdaptedHead]:
        """What `adapt` gives after each inner step, from none to all, of B supports' rows."""
        context = self.network.context(rows, legitimate_BK, fraud_BK)
        hidden = self.network.hidden(rows, context, earlier=True)
        for head in self._heads(hidden, legitimate_BK, fraud_BK):
            yield AdaptedHead(context, head)

    def _heads(self, hidden: Hidden, legitimate_BK: Tensor, fraud_BK: Tensor) -> Iterator[Head]:
        head = self.network.base
        summed = head.summed(hidden) if self.algorithm == "anil" else None
        labelled_BK = legitimate_BK + fraud_BK
        weight_BK = labelled_BK / (labelled_BK.sum(1, keepdim=True) + self.log_prior.exp())
        sizes = {layer: logs.exp().unbind() for layer, logs in self.log_step_sizes.items()}
        yield head
        for step in range(INNER_STEPS):
            if summed is None:
                gradient = head.gradient(hidden, fraud_BK, weight_BK)
            else:
                gradient = head.last_gradient(summed, fraud_BK, weight_BK)
            moved = {
                layer: getattr(head, layer) - sizes[layer][step] * self._followed(slope)
                for layer, slope in gradient.items()
            }
            head = head._replace(**moved)
            yield head

    def _followed(self, slope: Tensor) -> Tensor:
        """A gradient, as far as the outer one is taken through it."""
        return slope.detach() if self.algorithm in FIRST_ORDER else slope

    def learn(self, support: SupportBatch, encoded: Encoded | None = None) -> Copies:
        """What is served of B accounts: their copies, and how far each is followed."""
        if self.gate.heed > 0:
            evidence_B, adapted = self.evidence(support, encoded)
        else:
            adapted = self.adapt(support, encoded)
            evidence_B = adapted.context.mean_BO.new_zeros(len(support.fraud_BK))
        return self.followed(adapted, evidence_B, support)

    def followed(self, adapted: AdaptedHead, evidence_B: Tensor, support: SupportBatch) -> Copies:
        """Copies with how far the gate follows each; those without labels are not followed."""
        has_labels_B = (support.legitimate_BK + support.fraud_BK).sum(1) > 0
        return Copies(*adapted, self.gate(evidence_B) * has_labels_B)

    def drift(self, copies: Copies) -> Tensor:
        """How far the adapted layers of each account are from the base's, by their size: [B]."""
        moved_B = size_B = copies.weight_B * 0
        for layer in self.adapted_layers:
            own, base = getattr(copies.head, layer), getattr(self.network.base, layer)
            moved_B = moved_B + (own - base).square().flatten(1).sum(1)
            size_B = size_B + base.square().sum()
        return (moved_B / size_B).sqrt()

    def evidence(
        self,
        support: SupportBatch,
        encoded: Encoded | None = None,
        base_BK: Tensor | None = None,
    ) -> tuple[Tensor, AdaptedHead]:
        """How much better than the base copies predict labels they did not see [B], and the copies.

        In nats, summed over an account's labels. All copies, those of the whole support and
        those that leave a part of it out, are made in one batch. `encoded` and `base_BK` spare
        encoding the support, and scoring it by the base, where that is done already.
        """
        rows = encoded or self.network.encode(support.features_BKF, support.day_BK)
        accounts, labels = support.fraud_BK.shape
        position_K = torch.arange(labels, device=rows.day_BN.device)
        # The first copy leaves nothing out, the others a part each.
        part_P = torch.arange(-1, PARTS, device=rows.day_BN.device)
        out_PK = (position_K % PARTS == part_P[:, None]).to(support.fraud_BK.dtype)
        seen_P1K = (1 - out_PK)[:, None]
        legitimate, fraud = (
            (seen_P1K * of_all_BK).flatten(0, 1)
            for of_all_BK in (support.legitimate_BK, support.fraud_BK)
        )
        repeated = Encoded(*(part.repeat(PARTS + 1, *[1] * (part.dim() - 1)) for part in rows))
        context = self.network.context(repeated, legitimate, fraud)
        inputs_BKI = self.network.label_inputs(repeated, context, earlier=True)
        hidden = self.network.hidden_by(repeated, context, inputs_BKI)
        *_, head = self._heads(hidden, legitimate, fraud)
        if base_BK is None:
            base_BK = self.base_logits(rows)
        copy_BK = self.network.answered(head.logits(hidden).mean(0), repeated, inputs_BKI)
        copy_PBK = copy_BK.reshape(PARTS + 1, accounts, labels)
        unseen_BK = base_BK + (bounded(copy_PBK - base_BK) * out_PK[:, None]).sum(0)
        gain_BK = cross_entropy(base_BK, support) - cross_entropy(unseen_BK, support)
        whole = AdaptedHead(
            Context(*(part[:accounts] for part in context)),
            Head(*(part[:accounts] for part in head)),
        )
        return gain_BK.sum(1), whole

    def unadapted(self) -> Copies:
        """What one account without labels is served with."""
        base = self.base(1)
        return Copies(*base, base.context.mean_BO.new_zeros(1))

    def kept(self, copies: Copies) -> Tensor:
        """What must be kept of each of B accounts, side by side: [B, W].

        That is all but the layers that they share.
        """
        return torch.cat([part[:, None].flatten(1) for part in self._parts(copies)], 1)

    def restored(self, kept_BW: Tensor) -> Copies:
        """The copies of which `kept` is kept."""
        shapes = [part.shape[1:] for part in self._parts(self.unadapted())]
        ends = np.cumsum([shape.numel() for shape in shapes])[:-1].tolist()
        *parts, weight_B = [
            part.reshape(len(kept_BW), *shape)
            for part, shape in zip(kept_BW.tensor_split(ends, 1), shapes, strict=True)
        ]
        mean_BO, spread_BO, compared_BKE, signed_BK, *own = parts
        labels = (signed_BK > 0).to(mean_BO.dtype), (signed_BK < 0).to(mean_BO.dtype)
        day_BK = (signed_BK.abs() - 1).clamp_min(0)
        context = Context(mean_BO, spread_BO, compared_BKE, day_BK, *labels)
        layers = dict(zip(self.adapted_layers, own, strict=True))
        return Copies(context, self.network.base._replace(**layers), weight_B)

    def _parts(self, copies: Copies) -> list[Tensor]:
        own = [getattr(copies.head, layer) for layer in self.adapted_layers]
        mean_BO, spread_BO, compared_BKE, day_BK, legitimate_BK, fraud_BK = copies.context
        # A label is a day, from 1, and below 0 for a fraud; what is left over is 0.
        signed_BK = (day_BK + 1) * (legitimate_BK - fraud_BK)
        labelled = (_padded(part, SUPPORT_LIMIT) for part in (compared_BKE, signed_BK))
        return [mean_BO, spread_BO, *labelled, *own, copies.weight_B]

    def logits(self, rows: Encoded, adapted: AdaptedHead) -> Tensor:
        """The log-odds of fraud of N encoded rows of each of B accounts: [B, N]."""
        inputs_BNI = self.network.label_inputs(rows, adapted.context)
        return self._answered(rows, adapted, inputs_BNI)

    def member_logits(self, rows: Encoded, adapted: AdaptedHead, earlier: bool = False) -> Tensor:
        """The log-odds of fraud by member: [M, B, N]; `earlier` as in `Network.hidden`."""
        return adapted.head.logits(self.network.hidden(rows, adapted.context, earlier))

    def served_logits(
        self,
        rows: Encoded,
        copies: Copies,
        base_BN: Tensor | None = None,
        earlier: bool = False,
    ) -> Tensor:
        """What is served: the base's log-odds, moved towards the copy's within bounds: [B, N].

        `base_BN` is what `base_logits` gives, where that is at hand.
        """
        if base_BN is None:
            base_BN = self.base_logits(rows)
        copies_alone = AdaptedHead(copies.context, copies.head)
        move_BN, alike_3BN = self.moves(rows, copies_alone, base_BN, earlier)
        return base_BN + copies.weight_B[:, None] * self.gate.reached(move_BN, alike_3BN)

    def moves(
        self, rows: Encoded, adapted: AdaptedHead, base_BN: Tensor, earlier: bool = False
    ) -> tuple[Tensor, Tensor]:
        """How far copies go from the base's log-odds [B, N], and what `alike` says of them."""
        inputs_BNI = self.network.label_inputs(rows, adapted.context, earlier)
        move_BN = bounded(self._answered(rows, adapted, inputs_BNI) - base_BN)
        likest = inputs_BNI[..., self.network.encoder.likest_inputs].unbind(2)
        return move_BN, alike(move_BN, rows.familiar_BN, rows.refused_BN, *likest)

    def encode(self, features_BNF: Tensor, day_BN: Tensor, knots: Tensor | None = None) -> Encoded:
        """Rows as the network encodes them, with what refusals add to the base's log-odds.

        That is no less than 0, and no more than labels may take off.
        """
        rows = self.network.encode(features_BNF, day_BN, knots)
        refused_Q = self.network.encoder.refused_Q
        has_any_BN = (rows.familiar_BN > 0) & (features_BNF[..., refused_Q] > 0).any(-1)
        with_them = Encoded(*(part[has_any_BN][None] for part in rows))
        features_1NF = features_BNF[has_any_BN].index_fill(-1, refused_Q, 0.0)[None]
        without = self.network.encode(features_1NF, with_them.day_BN, knots)
        added_1N = self.base_logits(with_them) - self.base_logits(without)
        added_1N = torch.where(added_1N < LEAST_REFUSED, 0.0, added_1N)
        refused_BN = rows.refused_BN.clone()
        refused_BN[has_any_BN] = added_1N[0].clamp(max=LARGEST_MOVE)
        return rows._replace(refused_BN=refused_BN)

    def base_logits(self, rows: Encoded) -> Tensor:
        """The log-odds that accounts without labels are given: [B, N]."""
        members_BN = self.network.base.logits(self.network.unlabelled(rows)).mean(0)
        return self.network.answered(members_BN, rows)

    def _answered(self, rows: Encoded, adapted: AdaptedHead, inputs_BNI: Tensor) -> Tensor:
        """The log-odds by copies, of whose labels these are the inputs."""
        hidden = self.network.hidden_by(rows, adapted.context, inputs_BNI)
        return self.network.answered(adapted.head.logits(hidden).mean(0), rows, inputs_BNI)

    def base(self, accounts: int) -> AdaptedHead:
        """What B accounts without labels are scored with."""
        return AdaptedHead(self.network.no_context(accounts), self.network.base)


def _padded(part_BK: Tensor, labels: int) -> Tensor:
    """The same with a second axis of so many places, those left over of 0."""
    missing = labels - part_BK.shape[1]
    return pad(part_BK, (0, 0) * (part_BK.dim() - 2) + (0, missing))


def bounded(move: Tensor) -> Tensor:
    """A move away from the base's log-odds, no larger than whatever labels may cause."""
    return move.clamp(-LARGEST_MOVE, LARGEST_MOVE)


def alike(
    move_BN: Tensor,
    familiar_BN: Tensor,
    refused_BN: Tensor,
    legitimate_BN: Tensor,
    fraud_BN: Tensor,
    frauds_BN: Tensor,
) -> Tensor:
    """How much labels have to say of rows that they move: [3, B, N].

    Likeness is the square of the share that a row has in common with the most alike label, of
    ALIKE. A row is moved down as it is like a legitimate label, or unlike the frauds, where there
    are any; a move up reaches all rows. That is the first, from 0 to 1. The second goes by habit
    as well: what is familiar (see `Encoded`) is moved up as it is like a fraud, and what is not is
    moved down half as far, and only by likeness to a legitimate label. The third is what refusals
    add to the log-odds of what is familiar, as far as it is unlike the frauds, where there are any:
    a thief was refused, and the account's holder is not that thief.
    """
    legitimate_BN, fraud_BN = (
        (likest_BN / ALIKE).clamp(max=1).square() for likest_BN in (legitimate_BN, fraud_BN)
    )
    unlike_BN = (1 - fraud_BN) * (frauds_BN > 0)
    calmed_BN = torch.maximum(legitimate_BN, unlike_BN)
    plain_BN = torch.where(move_BN > 0, torch.ones_like(calmed_BN), calmed_BN)
    of_familiar_BN = torch.where(move_BN > 0, fraud_BN, calmed_BN)
    of_new_BN = torch.where(move_BN > 0, torch.ones_like(calmed_BN), NEW_CALMED * legitimate_BN)
    by_habit_BN = torch.where(familiar_BN > 0, of_familiar_BN, of_new_BN)
    return torch.stack([plain_BN, by_habit_BN, unlike_BN * refused_BN])


def cross_entropy(logit_BK: Tensor, support: SupportBatch) -> Tensor:
    """The loss of each label, 0 where there is padding: [B, K]."""
    loss_BK = binary_cross_entropy_with_logits(logit_BK, support.fraud_BK, reduction="none")
    return loss_BK * (support.legitimate_BK + support.fraud_BK)


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

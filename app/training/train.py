"""Meta-training: first the network that serves accounts without labels, then how to learn one.

Both stages run over the same episodes with the same loss on the query, at the natural rate of
fraud. The `global` stage takes no inner steps. The `meta` stage starts from what it found and
learns how to take inner steps. In both, every episode is also answered
without its labels, so that the base stays a good model in its own right.

The algorithms of the meta stage are one engine. MAML, ANIL and Meta-SGD differentiate through the
inner steps, FOMAML takes each step as given, and Reptile (Nichol, Achiam and Schulman, 2018) has no
query: the base moves towards the copies. All but Reptile learn their step sizes. At first every
inner step is scored on the query, later only the last (the multi-step loss of MAML++).

A training may begin with the learner of another. It is then the global stage alone, with that
learner's bins: what is new in the file is learned, and how accounts are learned, its step sizes and
gate, stays as it is.

Everything random is drawn from (seed, stage, step), so a resumed run is the run that was not
interrupted.

Axes: N rows, A query rows, M members.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from app.learner.algorithms import Algorithm
from app.learner.differentiable.adaptation import FIRST_STEP_SIZE, AdaptedHead, Learner
from app.learner.differentiable.network import Encoded
from app.learner.network import INNER_STEPS
from app.training import bins
from app.training.dataset import UNLABELLED
from app.training.episodes import QUERY_LIMIT, Batch, Rows, Starts
from app.training.ranks import ALONE, Ranks

GLOBAL, META, DONE = "global", "meta", "done"
STAGES = (GLOBAL, META)

# Adam's usual rates for the weights. Step sizes move in log space at a rate of their own: with
# the weights' rate they stay where they start.
LEARNING_RATES = {GLOBAL: 2e-3, META: 1e-4}
STEP_SIZE_RATE = 0.05
# Of a global stage that begins with another training's learner: what is new is in its file.
CONTINUING_RATE, CONTINUING_STEPS = 7e-4, 1000
# The wide part learns faster: few transactions lie beyond the thresholds that it is there for.
WIDE_RATE = 2.0
# What labels say directly learns faster still: ten times a unit's weight is soon reached there.
LABEL_RATE = 10.0
WEIGHT_DECAY = 1e-2
CLIP_NORM = 1.0
# What a learner takes before its step sizes are learned: as good as none.
NO_STEP_SIZE = 1e-6
# Over so many meta steps the loss moves from all inner steps to the last.
MULTI_STEPS = 50
# Steps that find step sizes before the weights move, and steps in which a rate warms up.
FROZEN_STEPS = 25
WARM_STEPS = 50
AVERAGED_OVER = 100
BASE_WEIGHT = 0.5
HELD_OUT_ACCOUNTS = 0.15
# A check draws each held-out row so many times, in batches of which it takes so many.
HELD_OUT_DRAWN = 16
LEAST_BATCHES, MOST_BATCHES = 4, 32
# Small files are known by heart before a schedule for large ones has begun to slow down. So a stage
# draws each row of the file at most so many times, and takes this many steps at least.
TIMES_DRAWN = {GLOBAL: 50, META: 20}
LEAST_STEPS = {GLOBAL: 100, META: 50}
# Scales, bins, the gate, the calibration and the profile are of so many rows at most, of whole
# accounts: more would say the same, and take the memory of one process.
SAMPLED_ROWS, SAMPLE_SEED = 1_000_000, 7
# A short stage is checked a few times, too.
LEAST_CHECKS, LEAST_BETWEEN_CHECKS = 5, 10


@dataclass(frozen=True, slots=True)
class Options:
    """How long to train at most, from which seed, and whether to grow trees.

    `start` is the digest of the model whose learner the training begins with, if any; `heed` is
    the gate's, where held-out accounts are not to choose it.
    """

    global_steps: int = 1500
    meta_steps: int = 400
    episodes: int = 128
    check_every: int = 100
    patience: int = 4
    seed: int = 0
    algorithm: Algorithm = "anil"
    trees: bool = True
    start: str | None = None
    heed: float | None = None

    def steps(self, stage: str, rows: int) -> int:
        """How many steps a stage takes on a file of so many rows to train on."""
        most = self.global_steps if stage == GLOBAL else self.meta_steps
        drawn = TIMES_DRAWN[stage] * rows / (self.episodes * QUERY_LIMIT)
        return min(most, max(LEAST_STEPS[stage], round(drawn)))

    def check_batches(self, rows: int) -> int:
        """How many batches a check takes of so many rows held out."""
        drawn = HELD_OUT_DRAWN * rows / (self.episodes * QUERY_LIMIT)
        return min(MOST_BATCHES, max(LEAST_BATCHES, round(drawn)))


class Split(NamedTuple):
    """Rows an episode may begin at, of accounts trained on and of accounts held out."""

    train: NDArray[np.intp]
    held_out: NDArray[np.intp]
    end_us: int

    @classmethod
    def of(
        cls,
        rows: Rows,
        scored: NDArray[np.bool_],
        end_us: int,
        seed: int,
        ranks: Ranks = ALONE,
    ) -> Self:
        """Split these rows by account; raises ValueError where there is nothing to learn.

        Of several ranks each splits its own, as one that had the accounts of all would.
        """
        labelled = np.flatnonzero(scored & (rows.is_fraud_N != UNLABELLED))
        is_fraud = rows.is_fraud_N[labelled] == 1
        frauds, legitimate = ranks.total(is_fraud.sum(), (~is_fraud).sum())
        if not frauds + legitimate:
            raise ValueError("there is nothing to learn: no label is known by then")
        if not (frauds and legitimate):
            raise ValueError("there is nothing to learn: the labels known are all of one class")
        accounts = np.unique(rows.account_N[labelled])
        before, count = ranks.before(len(accounts))
        held = np.random.default_rng(seed).random(count) < HELD_OUT_ACCOUNTS
        held_here = held[before : before + len(accounts)]
        is_held = np.isin(rows.account_N[labelled], accounts[held_here])
        if not held.any() or held.all():
            raise ValueError(
                f"labels of {count} account{'s' * (count != 1)} are too few to hold some accounts "
                "out; is account under [columns] the column of whoever pays?"
            )
        if not all(ranks.total((is_fraud & ~is_held).sum(), (~is_fraud & ~is_held).sum())):
            raise ValueError("labels of one class all fall to the accounts held out: too few")
        return cls(labelled[~is_held], labelled[is_held], end_us)

    def sample(self, rows: Rows, ranks: Ranks = ALONE) -> "tuple[Rows, Split] | None":
        """Rows of whole accounts of all ranks, drawn at random, for rank 0; None for the others.

        They are about SAMPLED_ROWS, or all where there are no more.
        """
        accounts, account_N = np.unique(rows.account_N, return_inverse=True)
        before, count = ranks.before(len(accounts))
        _, in_all = ranks.before(len(rows.account_N))
        if ranks.size == 1 and in_all <= SAMPLED_ROWS:
            return rows, self
        draws = np.random.default_rng(SAMPLE_SEED).random(count)
        is_drawn = draws[before : before + len(accounts)] < SAMPLED_ROWS / in_all
        chosen = np.flatnonzero(is_drawn[account_N])
        taken = rows.take(chosen)
        taken = replace(taken, account_N=account_N[chosen] + before)
        parts = (np.searchsorted(chosen, part[np.isin(part, chosen)]) for part in self[:2])
        return _concatenated(ranks.collect((taken, *parts)), self.end_us)


def _concatenated(
    samples: Sequence[tuple[Rows, NDArray[np.intp], NDArray[np.intp]]], end_us: int
) -> tuple[Rows, Split] | None:
    """The samples of all ranks as one."""
    if not samples:
        return None
    parts = [rows for rows, _, _ in samples]
    columns = ("position_N", "features_NF", "account_N", "time_us_N", "is_fraud_N", "known_at_us_N")
    whole = (np.concatenate([getattr(part, name) for part in parts]) for name in columns)
    first = np.cumsum([0, *(len(part.account_N) for part in parts)])
    train, held_out = (
        np.concatenate([start + sample[n] for start, sample in zip(first, samples, strict=False)])
        for n in (1, 2)
    )
    return Rows(parts[0].kinds, *whole), Split(train, held_out, end_us)


class Status(NamedTuple):
    """Where training stands, for whoever watches."""

    stage: str
    step: int
    steps: int
    loss: float
    held_out_loss: float | None
    step_size: float


class Trainer:
    """Trains a learner on rows.

    `learner` is what a checkpoint should hold now: the running average of the weights (Polyak
    and Juditsky, 1992) where it did best on held-out accounts. It takes no inner steps until
    those do better than none. `working` is the learner whose weights each step moves.

    Several ranks train the same learner, each on its rows. `sample` are rows of all of them, at
    rank 0. Where there is a `start`, training goes on from it, and no state that is worse on the
    held-out accounts is kept.
    """

    def __init__(
        self,
        rows: Rows,
        split: Split,
        options: Options,
        device: str,
        ranks: Ranks = ALONE,
        start: Learner | None = None,
    ) -> None:
        self._options, self._device, self._ranks = options, torch.device(device), ranks
        self._train = Starts(rows, split.train, split.end_us, ranks)
        self._held_out = Starts(rows, split.held_out, split.end_us, ranks)
        trained, held_out = (round(count) for count in ranks.total(*map(len, split[:2])))
        self._steps = {stage: options.steps(stage, trained) for stage in STAGES}
        self._check_batches = options.check_batches(held_out)
        torch.manual_seed(options.seed)
        self._goes_on = start is not None
        self.working = deepcopy(start) if start else Learner(rows.kinds, options.algorithm)
        self.sample = split.sample(rows, ranks)
        if self.sample is not None and not self._goes_on:
            some, (train, *_) = self.sample
            is_fraud_N = some.is_fraud_N[train] == 1
            bins.fit(self.working.network.encoder, some.features_NF[train], is_fraud_N)
        self.working.to(device)
        ranks.copy_first(self.working)
        self.learner = deepcopy(self.working)
        self.stage, self.step = GLOBAL, 0
        self.best_loss, self.bad_checks = math.inf, 0
        self._begin_stage()

    @property
    def done(self) -> bool:
        return self.stage not in STAGES

    @property
    def averaged(self) -> Learner:
        """The running average of the weights in this stage."""
        return cast(Learner, self._averaged.module)

    def run(self, watch: Callable[[Status], bool]) -> None:
        """Train to the end, or until `watch`, called at every step, returns False at any rank."""
        if self._goes_on and self.step == 0:
            self._check()
        while not self.done:
            loss = self._update()
            self.step += 1
            steps = self._steps[self.stage]
            last = self.step >= steps
            often = max(LEAST_BETWEEN_CHECKS, steps // LEAST_CHECKS)
            checked = last or self.step % min(self._options.check_every, often) == 0
            held_out_loss = self._check() if checked else None
            step_size = float(np.mean(list(self.working.step_sizes.values())))
            status = Status(self.stage, self.step, steps, loss, held_out_loss, step_size)
            if last or self.bad_checks >= self._options.patience:
                self._next_stage()
            if any(self._ranks.total(not watch(status))):
                break
        if math.isinf(self.best_loss):
            # Stopped before the first check: what there is, which the first check replaces.
            self.learner.load_state_dict(self.averaged.state_dict())

    def state(self) -> tuple[dict[str, Tensor], dict[str, float | int | str]]:
        """All that `restore` needs, as tensors for safetensors and numbers for JSON."""
        parts = {"working": self.working, "averaged": self._averaged, "best": self.learner}
        tensors = {
            f"{part}/{name}": tensor
            for part, module in parts.items()
            for name, tensor in module.state_dict().items()
        }
        for position, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{position}/{name}": t for name, t in moments.items()}
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return tensors, numbers

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, float | int | str]) -> None:
        """Go on where `state` was taken, with the same rows, split and options."""
        for name in _NUMBERS:
            setattr(self, name, numbers[name])
        if self.done:
            self.learner.load_state_dict(_under("best", tensors))
            return
        self._begin_stage()
        self.working.load_state_dict(_under("working", tensors))
        self._averaged.load_state_dict(_under("averaged", tensors))
        self.learner.load_state_dict(_under("best", tensors))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in _under("optimizer", tensors).items():
            position, moment = name.split("/")
            moments.setdefault(int(position), {})[moment] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _begin_stage(self) -> None:
        working = self.working
        if not self._goes_on:
            working.set_step_sizes(FIRST_STEP_SIZE if self.stage == META else NO_STEP_SIZE)
        network = working.network
        wide, labels = network.wide_rises_ZTM, network.wide_relation_IM
        weights = [
            parameter
            for parameter in network.parameters()
            if parameter is not wide and parameter is not labels
        ]
        step_sizes = [*working.log_step_sizes.values(), working.log_prior]
        self._optimizer = torch.optim.AdamW(
            [
                {"params": weights, "weight_decay": WEIGHT_DECAY},
                {"params": [wide], "weight_decay": 0.0},
                {"params": [labels], "weight_decay": 0.0},
                {"params": step_sizes, "weight_decay": 0.0},
            ]
        )
        averaging = get_ema_multi_avg_fn(1 - 1 / AVERAGED_OVER)  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(working, multi_avg_fn=averaging)

    def _next_stage(self) -> None:
        following = STAGES.index(self.stage) + 1
        self.step, self.bad_checks = 0, 0
        if self._goes_on or following == len(STAGES):
            self.stage = DONE
            return
        self.stage = STAGES[following]
        self.working.load_state_dict(self.learner.state_dict())
        self._begin_stage()

    def _update(self) -> float:
        rng = np.random.default_rng([self._options.seed, STAGES.index(self.stage), self.step])
        batch = self._draw(self._train, rng)
        loss = self._of_all(batch, self.loss(self.working, batch, self._share_of_earlier_steps()))
        if self.stage == META and self._options.algorithm == "reptile":
            share = len(batch) / self._ranks.total(len(batch))[0]
            loss = distance(self.working, batch) * share
        weights, wide, labels, steps = self._optimizer.param_groups
        weights["lr"], steps["lr"] = self._rates()
        wide["lr"], labels["lr"] = WIDE_RATE * weights["lr"], LABEL_RATE * weights["lr"]
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._ranks.sum_gradients(self.working)
        torch.nn.utils.clip_grad_norm_(self.working.network.parameters(), CLIP_NORM)
        self._optimizer.step()
        self.working.network.keep_rising()
        self._averaged.update_parameters(self.working)
        return self._ranks.total(float(loss.detach()))[0]

    def _of_all(self, batch: Batch, loss: Tensor) -> Tensor:
        """What a rank's mean loss adds to that of all ranks: it weighs as much as its query.

        A plain mean over ranks, as of DistributedDataParallel, would be another loss: queries
        weigh more at one rank than at another.
        """
        own = float(batch.weight_A.sum())
        return loss * (max(own, 1.0) / max(self._ranks.total(own)[0], 1.0))

    def _rates(self) -> tuple[float, float]:
        """Learning rates of the weights and of the step sizes: a warm-up, then half a cosine."""
        wave = 0.5 * (1 + math.cos(math.pi * self.step / self._steps[self.stage]))
        warm = min(1.0, (self.step + 1) / WARM_STEPS)
        if self.stage == GLOBAL:
            rate = CONTINUING_RATE if self._goes_on else LEARNING_RATES[GLOBAL]
            return rate * wave * warm, 0.0
        frozen = self.step < FROZEN_STEPS
        return 0.0 if frozen else LEARNING_RATES[META] * wave, STEP_SIZE_RATE * max(wave, 0.1)

    def _draw(self, starts: Starts, rng: np.random.Generator) -> Batch:
        return starts.draw(self._options.episodes, rng).to(self._device)

    def _share_of_earlier_steps(self) -> float:
        return max(0.0, 1 - self.step / MULTI_STEPS) if self.stage == META else 0.0

    def loss(self, learner: Learner, batch: Batch, share_of_earlier_steps: float = 0.0) -> Tensor:
        """What copies lose on the query, in nats a row, and the base on the same rows; a scalar."""
        network = learner.network
        rows = batch.encoded(network)
        queries = batch.queries(rows)
        base_loss = query_loss(network.base.logits(network.unlabelled(queries)), batch)
        copies_loss = self._copies_loss(learner, batch, rows, queries, share_of_earlier_steps)
        return copies_loss + BASE_WEIGHT * base_loss

    def _copies_loss(
        self,
        learner: Learner,
        batch: Batch,
        rows: Encoded,
        queries: Encoded,
        share_of_earlier_steps: float,
    ) -> Tensor:
        labels = batch.legitimate_AK, batch.fraud_AK
        if self.stage == GLOBAL:
            context = learner.network.context(batch.labelled(rows), *labels)
            return query_loss(
                learner.member_logits(queries, AdaptedHead(context, learner.network.base)), batch
            )
        _, *copies = learner.steps(batch.labelled(rows), *labels)
        hidden = learner.network.hidden(queries, copies[-1].context)
        last = query_loss(copies[-1].head.logits(hidden), batch)
        if not share_of_earlier_steps:
            return last
        losses = [query_loss(copy.head.logits(hidden), batch) for copy in copies[:-1]]
        share = share_of_earlier_steps * len(losses) / INNER_STEPS
        return share * torch.stack(losses).mean() + (1 - share) * last

    @torch.no_grad()
    def _check(self) -> float:
        """The loss on held-out accounts, always of the same episodes; keeps the best learner."""
        rngs = (np.random.default_rng(batch) for batch in range(self._check_batches))
        batches = (self._draw(self._held_out, rng) for rng in rngs)
        losses = [float(self._of_all(batch, self.loss(self.averaged, batch))) for batch in batches]
        loss = self._ranks.total(float(np.mean(losses)))[0]
        if loss < self.best_loss:
            self.best_loss, self.bad_checks = loss, 0
            self.learner.load_state_dict(self.averaged.state_dict())
        else:
            self.bad_checks += 1
        return loss


_NUMBERS = ("stage", "step", "best_loss", "bad_checks")


def query_loss(logit_MA1: Tensor, batch: Batch) -> Tensor:
    """The weighted mean cross-entropy over the query rows of a batch, and over the members."""
    logit_MA = logit_MA1.squeeze(2)
    fraud_MA = batch.is_fraud_A.expand_as(logit_MA)
    loss_MA = binary_cross_entropy_with_logits(logit_MA, fraud_MA, reduction="none")
    loss_A = loss_MA.mean(0) * batch.weight_A
    return loss_A.sum() / batch.weight_A.sum().clamp_min(1.0)


def distance(learner: Learner, batch: Batch) -> Tensor:
    """A loss whose gradient is Reptile's: from the base head to the mean of its copies."""
    labelled = batch.labelled(batch.encoded(learner.network))
    *_, (_, copies) = learner.steps(labelled, batch.legitimate_AK, batch.fraud_AK)
    pairs = zip(learner.network.base, copies, strict=True)
    return torch.stack([(base - copy.detach()).square().sum() for base, copy in pairs]).sum() / (
        2 * max(1, len(batch))
    )


def _under(part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{part}/"
    return {name[len(prefix) :]: t for name, t in tensors.items() if name.startswith(prefix)}

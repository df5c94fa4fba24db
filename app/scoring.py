"""From features to decisions: every row by its own account's copy, in one pass.

Knows neither HTTP nor SQL. Copies live in a bank: one preallocated tensor for each part of an
`Adapted`, a slot an account, the least recently used copy out. A copy is a pure function of the
checkpoint and the account's labels, so the bank is a cache and never the truth.

All of it is float64: a sum's last bits depend on how many rows share the product, and in
float64, rounded to `DIGITS`, they cannot reach a probability. So an account's score does not
depend on who shares its batch, nor its copy on whom it was adapted with.

Axes: N rows, F features, B accounts, K support rows.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.adaptation import (
    Copies,
    Support,
    SupportBatch,
    cross_entropy,
    pad_supports,
    select_support,
)
from app.attribution import Attribution, attribute
from app.checkpoint import Calibration, Checkpoint, choose_device
from app.decisions import DIGITS, Decision, Thresholds, Used, decide
from app.features import Features
from app.network import Encoded
from app.states import Floats, Ints
from app.transactions import DAY_US

BASE_SLOT = 0
# A batch of the service must fit, whatever the bank was given.
LEAST_COPIES = 1024
# Beyond that, temporaries fall out of the cache, and each takes longer (docs/experiments.md).
EXPLAINED_TOGETHER = 8


class AdapterKey(NamedTuple):
    """A copy's name: an account's labels change with its revision, and so does its copy.

    `created_at_us` tells the account from an erased one of the same name.
    """

    tenant: str
    account_id: str
    revision: int
    created_at_us: int = 0


class Rows(NamedTuple):
    """N rows to judge: features of their moment, and when that was."""

    features_NF: Features
    time_us_N: Ints


class Copy(NamedTuple):
    """What became of one account's labels.

    `weight` is how far the copy is followed, `evidence` how much better than the base it
    predicts labels it did not see (nats). `loss_before` and `loss_after` are the mean
    cross-entropies of the labels by the base and as served, None without labels. `drift` is how
    far the adapted layers moved, relative to their size. `digest` is of the copy's very bits, on
    the machine that made it; equal supports, equal bits.
    """

    used: Used
    labels: int
    weight: float
    evidence: float
    loss_before: float | None
    loss_after: float | None
    drift: float
    digest: str


class Judged(NamedTuple):
    """A copy that was made for a question, and what it would decide."""

    copy: Copy
    decisions: list[Decision]


class Held(NamedTuple):
    """The copy of one account, as the bank has it, and what answers tell of it."""

    copies: Copies
    used: Used
    labels: int


class Learned(NamedTuple):
    """Copies of B supports, with what was at hand when they were made."""

    batch: SupportBatch
    encoded: Encoded
    base_BK: Tensor
    evidence_B: Tensor
    copies: Copies

    def used(self) -> list[tuple[Used, int]]:
        """What each account is scored by, and from how many labels."""
        labels_B = (self.batch.legitimate_BK + self.batch.fraud_BK).sum(1).tolist()
        is_followed_B = (self.copies.weight_B > 0).tolist()
        return [
            (_used(int(labels), is_followed), int(labels))
            for labels, is_followed in zip(labels_B, is_followed_B, strict=True)
        ]

    def alone(self) -> Held:
        """The copy of the one account that there is."""
        [(used, labels)] = self.used()
        return Held(self.copies, used, labels)


class Scorer:
    """A checkpoint ready to score on a device, with its bank of adapted copies."""

    def __init__(self, checkpoint: Checkpoint, device: str, bank_bytes: int) -> None:
        self.spec = checkpoint.metadata.spec
        self.features = checkpoint.features
        self.digest = checkpoint.digest
        self.model = f"{checkpoint.metadata.name}@{checkpoint.digest[:12]}"
        self.thresholds = Thresholds(
            checkpoint.metadata.decisions.review, checkpoint.metadata.decisions.decline
        )
        self.training_data_sha256 = checkpoint.metadata.data.sha256
        self.calibration = checkpoint.metadata.calibration
        self.profile = checkpoint.metadata.profile
        self._device = choose_device(device)
        self._learner = checkpoint.learner.to(self._device, torch.float64).requires_grad_(False)
        with torch.inference_mode():
            self._knots = self._learner.network.knots().float()
            base = self._learner.kept(self._learner.unadapted())
        self.copy_bytes = sum(part[0].nbytes for part in base)
        self.capacity = max(bank_bytes // self.copy_bytes, LEAST_COPIES)
        # Never written before: memory that no copy has needed yet is not even taken.
        self._bank = [part.new_empty(self.capacity + 1, *part.shape[1:]) for part in base]
        self._put([BASE_SLOT], base)
        # An account's newest copy takes the place of the one before, which nobody asks for again.
        self._slots: OrderedDict[tuple[str, str], tuple[AdapterKey, int]] = OrderedDict()
        self._labels = np.zeros(self.capacity + 1, np.int64)
        self._is_followed = np.zeros(self.capacity + 1, bool)

    def missing(self, keys: Sequence[AdapterKey]) -> list[AdapterKey]:
        """The accounts with labels whose copy is not in the bank, each once.

        The copies that are there count as used, so that adapting the missing ones evicts others.
        """
        wanted = dict.fromkeys(key for key in keys if key.revision > 0)
        absent = []
        for key in wanted:
            if self._has(key):
                self._slots.move_to_end(key[:2])
            else:
                absent.append(key)
        return absent

    @torch.inference_mode()
    def adapt(self, supports: Mapping[AdapterKey, Support]) -> None:
        """Put the copies of B accounts into the bank, made together.

        A support holds an account's labels newest first; at most `capacity` accounts.
        """
        if not supports:
            return
        chosen = [_selected(support) for support in supports.values()]
        batch, rows = self._padded(chosen)
        copies = self._learner.learn(batch, rows)
        self._remember(list(supports), copies, [len(support.is_fraud_K) for support in chosen])

    @torch.inference_mode()
    def keep(self, key: AdapterKey, learned: Learned) -> None:
        """Put the one copy that was made for a question into the bank: it has been committed."""
        self._remember([key], learned.copies, [labels for _, labels in learned.used()])

    def _remember(self, keys: Sequence[AdapterKey], copies: Copies, labels: Sequence[int]) -> None:
        # Slots are given only to copies that exist.
        slots = [self._slot(key) for key in keys]
        self._put(slots, self._learner.kept(copies))
        self._labels[slots] = labels
        self._is_followed[slots] = copies.weight_B.cpu().numpy() > 0

    @torch.inference_mode()
    def score(
        self,
        features_NF: Features,
        time_us_N: Ints,
        keys: Sequence[AdapterKey],
        thresholds: Thresholds,
    ) -> list[Decision]:
        """Decide on N rows, each by the copy of its key; keys without labels get the base.

        Raises KeyError for a copy that was never put into the bank.
        """
        slot_N = self._slot_of(keys)
        features_N1F = torch.from_numpy(features_NF).to(self._device, torch.float64)[:, None]
        day_N1 = torch.from_numpy(time_us_N / DAY_US).to(self._device)[:, None]
        rows = self._learner.network.encode(features_N1F, day_N1, self._knots)
        # As the rows of one account: the base is the same for all.
        of_one = Encoded(*(part.transpose(0, 1) for part in rows))
        logit_N1 = self._learner.base_logits(of_one).T
        if slot_N.any():
            copies = self._take(torch.from_numpy(slot_N).to(self._device))
            logit_N1 = self._learner.served_logits(rows, copies, logit_N1)
        answered = zip(
            self._answered(logit_N1[:, 0].cpu().numpy()),
            self._labels[slot_N].tolist(),
            self._is_followed[slot_N].tolist(),
            strict=True,
        )
        return [
            decide(probability, thresholds, _used(labels, followed), labels)
            for probability, labels, followed in answered
        ]

    @torch.inference_mode()
    def judge(
        self, supports: Sequence[Support], rows: Sequence[Rows], thresholds: Thresholds
    ) -> list[Judged]:
        """What copies of B supports would decide, each on its own rows; the bank is left alone.

        For what has no committed revision: before and after, previews, influence, the past.
        """
        if not supports:
            return []
        learned = self._learned(supports)
        asked = self._encoded(rows)
        logit_BN = self._learner.served_logits(asked, learned.copies).cpu().numpy()
        return [
            Judged(copy, self._decided(logit_N[: len(own.time_us_N)], *copy[:2], thresholds))
            for copy, logit_N, own in zip(self._told(learned), logit_BN, rows, strict=True)
        ]

    @torch.inference_mode()
    def held(self, key: AdapterKey) -> Held | None:
        """The copy of a key, where the bank has it; the base's for a key without labels."""
        if key.revision and not self._has(key):
            return None
        [slot] = self._slot_of([key])
        copies = self._take(torch.tensor([slot], device=self._device))
        labels = int(self._labels[slot])
        return Held(copies, _used(labels, bool(self._is_followed[slot])), labels)

    @torch.inference_mode()
    def change(
        self, before: Support | Held, after: Support, rows: Rows, thresholds: Thresholds
    ) -> tuple[list[Decision], Judged, Learned]:
        """What the copies of an account's labels as they were, and as they are, decide on N rows.

        The new copy is made alone, so that equal labels have equal bits whatever they were before.
        Told last is what `keep` takes, of the labels as they are.
        """
        asked = self._encoded([rows])
        base_1N = self._learner.base_logits(asked)
        old = before if isinstance(before, Held) else self._learned([before]).alone()
        new = self._learned([after])
        was, now = (
            self._learner.served_logits(asked, one.copies, base_1N)[0].cpu().numpy()
            for one in (old, new)
        )
        [copy] = self._told(new)
        decisions = self._decided(now, copy.used, copy.labels, thresholds)
        return (
            self._decided(was, old.used, old.labels, thresholds),
            Judged(copy, decisions),
            new,
        )

    @torch.inference_mode()
    def explain(
        self, rows: Rows, pasts: Sequence[Features], keys: Sequence[AdapterKey]
    ) -> list[Attribution]:
        """The shares of the features of N rows, each against the past of its own account.

        Each by the copy of its key, which is in the bank, as `score` has left it.
        """
        slot_N = self._slot_of(keys)
        found: list[Attribution] = []
        for first in range(0, len(keys), EXPLAINED_TOGETHER):
            some = slice(first, first + EXPLAINED_TOGETHER)
            copies = self._take(torch.from_numpy(slot_N[some]).to(self._device))
            one = Rows(rows.features_NF[some], rows.time_us_N[some])
            found += attribute(self._learner, self._knots, *one, pasts[some], copies)
        return found

    @torch.inference_mode()
    def explain_with(self, support: Support, row: Rows, past_KF: Features) -> Attribution:
        """The same of one row by the copy of a support; the bank is left alone."""
        copies = self._learner.unadapted()
        if len(support.is_fraud_K):
            copies = self._learner.learn(*self._padded([_selected(support)]))
        [found] = attribute(self._learner, self._knots, *row, [past_KF], copies)
        return found

    def _encoded(self, rows: Sequence[Rows]) -> Encoded:
        """Each account's own rows, padded to the longest."""
        asked = [Support(*one, np.zeros(len(one.time_us_N), np.bool_)) for one in rows]
        _, encoded = self._padded(asked)
        return encoded

    def _padded(self, supports: Sequence[Support]) -> tuple[SupportBatch, Encoded]:
        """Supports as one batch, and its rows as the network reads them."""
        batch = pad_supports(supports, len(self.features.names), np.float64).to(self._device)
        return batch, self._learner.network.encode(batch.features_BKF, batch.day_BK, self._knots)

    def _learned(self, supports: Sequence[Support]) -> Learned:
        chosen = [_selected(support) for support in supports]
        batch, encoded = self._padded(chosen)
        base_BK = self._learner.base_logits(encoded)
        evidence_B, adapted = self._learner.evidence(batch, encoded, base_BK)
        copies = self._learner.followed(adapted, evidence_B, batch)
        return Learned(batch, encoded, base_BK, evidence_B, copies)

    def _told(self, learned: Learned) -> list[Copy]:
        """What became of each account's labels."""
        batch, encoded, base_BK, evidence_B, copies = learned
        served_BK = self._learner.served_logits(encoded, copies, base_BK)
        before_B, after_B = (
            cross_entropy(logit_BK, batch).sum(1).tolist() for logit_BK in (base_BK, served_BK)
        )
        drift_B = self._learner.drift(copies).tolist()
        kept = [part.cpu().numpy() for part in self._learner.kept(copies)]
        made = []
        for b, (used, labels) in enumerate(learned.used()):
            digest = hashlib.sha256(b"".join(part[b].tobytes() for part in kept)).hexdigest()[:16]
            made.append(
                Copy(
                    used,
                    labels,
                    float(copies.weight_B[b]),
                    float(evidence_B[b]),
                    before_B[b] / labels if labels else None,
                    after_B[b] / labels if labels else None,
                    drift_B[b],
                    digest,
                )
            )
        return made

    def _decided(
        self, logit_N: Floats, used: Used, labels: int, thresholds: Thresholds
    ) -> list[Decision]:
        return [
            decide(probability, thresholds, used, labels) for probability in self._answered(logit_N)
        ]

    def _answered(self, logit_N: Floats) -> list[float]:
        """The probabilities that log-odds stand for, as they are answered."""
        return [round(one, DIGITS) for one in self.calibration.probabilities(logit_N).tolist()]

    def _slot_of(self, keys: Sequence[AdapterKey]) -> Ints:
        slots = []
        for key in keys:
            kept, slot = self._slots[key[:2]] if key.revision else (key, BASE_SLOT)
            if kept != key:
                raise KeyError(key)
            slots.append(slot)
        return np.array(slots, np.int64)

    def _has(self, key: AdapterKey) -> bool:
        found = self._slots.get(key[:2])
        return found is not None and found[0] == key

    def _slot(self, key: AdapterKey) -> int:
        """The account's slot, taken from the least recently used copy when the bank is full."""
        if key[:2] in self._slots:
            _, slot = self._slots[key[:2]]
        elif len(self._slots) == self.capacity:
            _, (_, slot) = self._slots.popitem(last=False)
        else:
            slot = len(self._slots) + 1
        self._slots[key[:2]] = key, slot
        self._slots.move_to_end(key[:2])
        return slot

    def _put(self, slots: list[int], kept: list[Tensor]) -> None:
        slot_B = torch.tensor(slots, device=self._device)
        for bank, part in zip(self._bank, kept, strict=True):
            bank.index_copy_(0, slot_B, part)

    def _take(self, slot_N: Tensor) -> Copies:
        return self._learner.restored([bank.index_select(0, slot_N) for bank in self._bank])


def calibrated(logit: float, calibration: Calibration) -> float:
    """The probability of fraud that log-odds stand for, as it is answered."""
    return round(float(calibration.probabilities(np.array(logit))), DIGITS)


def _used(labels: int, is_followed: bool) -> Used:
    return "insufficient_labels" if not labels else "adapted" if is_followed else "base"


def _selected(support: Support) -> Support:
    features_KF, time_us_K, is_fraud_K = support
    chosen = select_support(is_fraud_K)
    return Support(features_KF[chosen], time_us_K[chosen], is_fraud_K[chosen])

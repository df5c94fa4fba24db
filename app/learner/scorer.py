"""From features to decisions: every row by its own account's copy.

Knows neither HTTP nor SQL, nor what device computes: that is the engine's. Copies live in the
engine's bank: one preallocated array, a slot an account, the least recently used copy out. A copy
is a pure function of the checkpoint and the account's labels, so the bank is a cache and never the
truth.

All of it is float64. On a CPU a row's sums are its own, to the bit; on a GPU their last bits depend
on how many rows share a product, and rounded to `DIGITS` they cannot reach a probability. So an
account's score does not depend on who shares its batch, nor its copy on whom it was adapted with.

Axes: N rows, F features, B accounts, W numbers of a copy.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from app.learner.adaptation import Support, select_support
from app.learner.attribution import Attribution, attribute
from app.learner.checkpoint import Checkpoint, PastCheckpoint
from app.learner.compiled import CompiledEngine
from app.learner.decisions import DIGITS, Calibration, Decision, Thresholds, Used, decide
from app.learner.devices import choose_device
from app.learner.engine import Engine, LearnedCopies, Rows
from app.learner.features import Features
from app.learner.kernels.adaptation import Learner
from app.learner.likeness import LabelledPayments
from app.learner.states import Floats, Ints

BASE_SLOT = 0
# A batch of the service must fit, whatever the bank was given.
LEAST_COPIES = 1024


class AdapterKey(NamedTuple):
    """A copy's name: an account's labels change with its revision, and so does its copy.

    `created_at_us` distinguishes the account from an erased one of the same name, and `history` its
    revision from one of the same number that was lost with a database.
    """

    tenant: str
    account_id: str
    revision: int
    created_at_us: int = 0
    history: str = ""

    @property
    def account(self) -> tuple[str, str]:
        """Whose it is: the tenant, and the account's id."""
        return self.tenant, self.account_id


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


class CopyDecisions(NamedTuple):
    """A copy that was made for a question, and what it would decide."""

    copy: Copy
    decisions: list[Decision]


class CopyChange(NamedTuple):
    """What an account's copies decide before and after a change of its labels.

    `learned` is the new copy, as `keep` takes it.
    """

    before: list[Decision]
    after: CopyDecisions
    learned: LearnedCopies


class BankedCopy(NamedTuple):
    """The copy of one account, as the bank has it, and what answers show of it."""

    copy_1W: Floats
    used: Used
    labels: int


class Judge:
    """A checkpoint that answers questions: each by a copy made for it, of the labels that it is
    about.

    `width` is how many features it reads, of the definition `features_digest`; `engine` computes.
    """

    model: str
    thresholds: Thresholds
    features_digest: str
    width: int
    calibration: Calibration
    engine: Engine

    def judge(
        self, supports: Sequence[Support], rows: Sequence[Rows], thresholds: Thresholds
    ) -> list[CopyDecisions]:
        """What copies of B supports would decide, each on its own rows; no bank is read.

        For what has no committed revision: before and after, previews, influence, the past.
        """
        if not supports:
            return []
        learned = self._learned(supports)
        sizes = [len(own.time_us_N) for own in rows]
        together = Rows(*map(np.concatenate, zip(*rows, strict=True)))
        copy_1N = np.repeat(np.arange(len(supports)), sizes)[None]
        [logit_N] = self.engine.judge(together, learned.copies_BW, copy_1N)
        return [
            CopyDecisions(copy, self._decided(own_N, copy.used, copy.labels, thresholds))
            for copy, own_N in zip(
                _copies(learned), np.split(logit_N, np.cumsum(sizes)[:-1]), strict=True
            )
        ]

    def _learned(self, supports: Sequence[Support]) -> LearnedCopies:
        return self.engine.learn([_selected(support) for support in supports])

    def _decided(
        self, logit_N: Floats, used: Used, labels: int, thresholds: Thresholds
    ) -> list[Decision]:
        return [
            decide(probability, thresholds, used, labels) for probability in self._answered(logit_N)
        ]

    def _answered(self, logit_N: Floats) -> list[float]:
        """The probabilities that log-odds stand for, as they are answered."""
        return [
            round(probability, DIGITS)
            for probability in self.calibration.probabilities(logit_N).tolist()
        ]


class PastJudge(Judge):
    """A checkpoint of features that are computed no more, for what is stored with them."""

    def __init__(self, checkpoint: PastCheckpoint) -> None:
        self.model = checkpoint.model
        self.thresholds = Thresholds(checkpoint.decisions.review, checkpoint.decisions.decline)
        self.features_digest, self.width = checkpoint.features_digest, len(checkpoint.kinds)
        self.calibration = checkpoint.calibration
        learner = Learner(checkpoint.kinds, checkpoint.algorithm, checkpoint.weights, is_past=True)
        self.engine = CompiledEngine(learner, BASE_SLOT + 1)


class Scorer(Judge):
    """A checkpoint ready to score on a device, with its bank of adapted copies."""

    def __init__(self, checkpoint: Checkpoint, device: str, bank_bytes: int) -> None:
        self.spec = checkpoint.metadata.spec
        self.features = checkpoint.features
        self.features_digest, self.width = self.features.digest, len(self.features.names)
        self.digest = checkpoint.digest
        self.model = checkpoint.model
        self.created_at = checkpoint.created_at
        self.thresholds = Thresholds(
            checkpoint.metadata.decisions.review, checkpoint.metadata.decisions.decline
        )
        self.training_data_sha256 = checkpoint.metadata.data.sha256
        self.calibration = checkpoint.metadata.calibration
        self.profile = checkpoint.metadata.profile
        self._learner = Learner(
            self.features.kinds, checkpoint.metadata.algorithm, checkpoint.weights
        )
        base_1W = self._learner.unadapted()
        self.copy_bytes = base_1W.nbytes
        self.capacity = max(bank_bytes // self.copy_bytes, LEAST_COPIES)
        slots = self.capacity + 1
        if choose_device(device) == "cpu":
            self.engine = CompiledEngine(self._learner, slots)
        else:
            # Here, because PyTorch takes a second to import and is not everywhere installed.
            from app.learner.differentiable.gpu import engine_of

            self.engine = engine_of(checkpoint, slots)
        self.engine.put([BASE_SLOT], base_1W)
        # An account's newest copy takes the place of the one before, which nobody asks for again.
        self._slots: OrderedDict[tuple[str, str], tuple[AdapterKey, int]] = OrderedDict()
        self._labels = np.zeros(self.capacity + 1, np.int64)
        self._is_followed = np.zeros(self.capacity + 1, bool)
        # By the same keys as the slots: reasons name them without a query.
        self._labelled: dict[tuple[str, str], LabelledPayments] = {}

    def missing(self, keys: Sequence[AdapterKey]) -> list[AdapterKey]:
        """The accounts with labels whose copy is not in the bank, each once.

        The copies that are there count as used, so that adapting the missing ones evicts others.
        """
        wanted = dict.fromkeys(key for key in keys if key.revision > 0)
        absent = []
        for key in wanted:
            if self._has(key):
                self._slots.move_to_end(key.account)
            else:
                absent.append(key)
        return absent

    def adapt(
        self,
        supports: Mapping[AdapterKey, Support],
        labelled: Mapping[AdapterKey, LabelledPayments] | None = None,
    ) -> None:
        """Put the copies of B accounts into the bank, made together.

        A support holds an account's labels newest first; at most `capacity` accounts. `labelled`
        are the payments of the labels, for `labelled_payments`.
        """
        if supports:
            learned = self._learned(list(supports.values()))
            self._remember(list(supports), learned, labelled or {})

    def keep(
        self, key: AdapterKey, learned: LearnedCopies, labelled: LabelledPayments | None = None
    ) -> None:
        """Put the one copy that was made for a question into the bank: it has been committed."""
        self._remember([key], learned, {} if labelled is None else {key: labelled})

    def labelled_payments(self, key: AdapterKey) -> LabelledPayments | None:
        """The payments of the labels that a copy in the bank was made of, if it came with them."""
        return self._labelled.get(key.account) if key.revision and self._has(key) else None

    def _remember(
        self,
        keys: Sequence[AdapterKey],
        learned: LearnedCopies,
        labelled: Mapping[AdapterKey, LabelledPayments],
    ) -> None:
        # Slots are given only to copies that exist.
        slots = [self._slot(key) for key in keys]
        self.engine.put(slots, learned.copies_BW)
        self._labels[slots] = learned.labels_B
        self._is_followed[slots] = learned.weight_B > 0
        for key in keys:
            if key in labelled:
                self._labelled[key.account] = labelled[key]
            else:
                self._labelled.pop(key.account, None)

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
        answered = zip(
            self._answered(self.engine.score(Rows(features_NF, time_us_N), slot_N)),
            self._labels[slot_N].tolist(),
            self._is_followed[slot_N].tolist(),
            strict=True,
        )
        return [
            decide(probability, thresholds, _used(labels, followed), labels)
            for probability, labels, followed in answered
        ]

    def held(self, key: AdapterKey) -> BankedCopy | None:
        """The copy of a key, where the bank has it; the base's for a key without labels."""
        if key.revision and not self._has(key):
            return None
        slot_1 = self._slot_of([key])
        labels, is_followed = int(self._labels[slot_1[0]]), bool(self._is_followed[slot_1[0]])
        return BankedCopy(self.engine.take(slot_1), _used(labels, is_followed), labels)

    def change(
        self, before: Support | BankedCopy, after: Support, rows: Rows, thresholds: Thresholds
    ) -> CopyChange:
        """What the copies of an account's labels as they were, and as they are, decide on N rows.

        The new copy is made alone, so that equal labels have equal bits whatever they were before.
        """
        old = before if isinstance(before, BankedCopy) else _alone(self._learned([before]))
        learned = self._learned([after])
        [copy] = _copies(learned)
        copy_2N = np.repeat([[0], [1]], len(rows.time_us_N), axis=1)
        was_N, now_N = self.engine.judge(
            rows, np.concatenate([old.copy_1W, learned.copies_BW]), copy_2N
        )
        decisions = self._decided(now_N, copy.used, copy.labels, thresholds)
        decisions_before = self._decided(was_N, old.used, old.labels, thresholds)
        return CopyChange(decisions_before, CopyDecisions(copy, decisions), learned)

    def explain(
        self, rows: Rows, pasts: Sequence[Features], keys: Sequence[AdapterKey]
    ) -> list[Attribution]:
        """The shares of the features of N rows, each against the past of its own account.

        Each by the copy of its key, which is in the bank, as `score` has left it.
        """
        return attribute(self._learner, *rows, pasts, self.engine.take(self._slot_of(keys)))

    def explain_with(self, support: Support, row: Rows, past_KF: Features) -> Attribution:
        """The same of one row by the copy of a support; the bank is left alone."""
        copy_1W = self._learned([support]).copies_BW
        [found] = attribute(self._learner, *row, [past_KF], copy_1W)
        return found

    def _slot_of(self, keys: Sequence[AdapterKey]) -> Ints:
        slots = []
        for key in keys:
            kept, slot = self._slots[key.account] if key.revision else (key, BASE_SLOT)
            if kept != key:
                raise KeyError(key)
            slots.append(slot)
        return np.array(slots, np.int64)

    def _has(self, key: AdapterKey) -> bool:
        found = self._slots.get(key.account)
        return found is not None and found[0] == key

    def _slot(self, key: AdapterKey) -> int:
        """The account's slot, taken from the least recently used copy when the bank is full."""
        if key.account in self._slots:
            _, slot = self._slots[key.account]
        elif len(self._slots) == self.capacity:
            evicted, (_, slot) = self._slots.popitem(last=False)
            self._labelled.pop(evicted, None)
        else:
            slot = len(self._slots) + 1
        self._slots[key.account] = key, slot
        self._slots.move_to_end(key.account)
        return slot


def calibrated(logit: float, calibration: Calibration) -> float:
    """The probability of fraud that log-odds stand for, as it is answered."""
    return round(float(calibration.probabilities(np.array(logit))), DIGITS)


def _used(labels: int, is_followed: bool) -> Used:
    return "insufficient_labels" if not labels else "adapted" if is_followed else "base"


def _copies(learned: LearnedCopies) -> list[Copy]:
    """What became of each account's labels."""
    used = map(_used, learned.labels_B.tolist(), (learned.weight_B > 0).tolist())
    columns = (
        learned.labels_B,
        learned.evidence_B,
        learned.before_B,
        learned.after_B,
        learned.drift_B,
    )
    figures = zip(*(column.tolist() for column in columns), strict=True)
    return [
        Copy(
            used,
            labels,
            float(copy_W[-1]),
            evidence,
            before / labels if labels else None,
            after / labels if labels else None,
            drift,
            hashlib.sha256(copy_W.tobytes()).hexdigest()[:16],
        )
        for used, copy_W, (labels, evidence, before, after, drift) in zip(
            used, learned.copies_BW, figures, strict=True
        )
    ]


def _alone(learned: LearnedCopies) -> BankedCopy:
    """The copy of the one account that there is."""
    labels = int(learned.labels_B[0])
    return BankedCopy(learned.copies_BW, _used(labels, bool(learned.weight_B[0] > 0)), labels)


def _selected(support: Support) -> Support:
    features_KF, time_us_K, is_fraud_K = support
    chosen = select_support(is_fraud_K)
    return Support(features_KF[chosen], time_us_K[chosen], is_fraud_K[chosen])

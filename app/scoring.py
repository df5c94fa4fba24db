"""From features to decisions: every row by its own account's copy, in one pass.

Knows neither HTTP nor SQL. Copies live in a bank: one preallocated tensor for each part of an
`Adapted`, a slot an account, the least recently used copy out. A copy is a pure function of the
checkpoint and the account's labels, so the bank is a cache and never the truth.

All of it is float64: a sum's last bits depend on how many rows share the product, and in
float64, rounded to `DIGITS`, they cannot reach a probability. So an account's score does not
depend on who shares its batch, nor its copy on whom it was adapted with.

Axes: N rows, F features, B accounts, K support rows.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from app.adaptation import Copies, Support, pad_supports, select_support
from app.checkpoint import Calibration, Checkpoint, Decisions, choose_device
from app.features import Features
from app.states import Ints
from app.transactions import DAY_US

DIGITS = 9
BASE_SLOT = 0
# A batch of the service must fit, whatever the bank was given.
LEAST_COPIES = 1024

RISK_AT_REVIEW, RISK_AT_DECLINE = 50.0, 75.0
# Risk 0 is a log-odds this far below the threshold of review, risk 100 above that of decline.
RISK_REACH = 6.0

Level = Literal["low", "medium", "high", "critical"]
Outcome = Literal["approve", "review", "decline"]
# By the account's copy; by the base, since its labels do not bear the copy out; or by the base,
# since it has no labels to learn from.
Used = Literal["adapted", "base", "insufficient_labels"]


class AdapterKey(NamedTuple):
    """A copy's name: an account's labels change with its revision, and so does its copy."""

    tenant: str
    account_id: str
    revision: int


class Decision(NamedTuple):
    """What is answered about one row. `labels` is the number the copy was adapted on."""

    probability: float
    risk_score: float
    risk_level: Level
    outcome: Outcome
    used: Used
    labels: int
    revision: int


class Scorer:
    """A checkpoint ready to score on a device, with its bank of adapted copies."""

    def __init__(self, checkpoint: Checkpoint, device: str, bank_bytes: int) -> None:
        self.spec = checkpoint.metadata.spec
        self.features = checkpoint.features
        self.digest = checkpoint.digest
        self.model = f"{checkpoint.metadata.name}@{checkpoint.digest[:12]}"
        self._metadata = checkpoint.metadata
        self._device = choose_device(device)
        self._learner = checkpoint.learner.to(self._device, torch.float64).requires_grad_(False)
        with torch.inference_mode():
            self._knots = self._learner.network.knots().float()
            base = self._learner.kept(self._learner.unadapted())
        self.copy_bytes = sum(part[0].nbytes for part in base)
        self.capacity = max(bank_bytes // self.copy_bytes, LEAST_COPIES)
        self._bank = [part.new_zeros(self.capacity + 1, *part.shape[1:]) for part in base]
        self._put([BASE_SLOT], base)
        self._slots: OrderedDict[AdapterKey, int] = OrderedDict()
        self._labels = np.zeros(self.capacity + 1, np.int64)
        self._is_followed = np.zeros(self.capacity + 1, bool)

    def missing(self, keys: Sequence[AdapterKey]) -> list[AdapterKey]:
        """The accounts with labels whose copy is not in the bank, each once.

        The copies that are there count as used, so that adapting the missing ones evicts others.
        """
        wanted = dict.fromkeys(key for key in keys if key.revision > 0)
        for key in wanted:
            if key in self._slots:
                self._slots.move_to_end(key)
        return [key for key in wanted if key not in self._slots]

    @torch.inference_mode()
    def adapt(self, supports: Mapping[AdapterKey, Support]) -> None:
        """Put the copies of B accounts into the bank, made together.

        A support holds an account's labels newest first; at most `capacity` accounts.
        """
        if not supports:
            return
        chosen = [_selected(support) for support in supports.values()]
        batch = pad_supports(chosen, len(self.features.names), np.float64).to(self._device)
        rows = self._learner.network.encode(batch.features_BKF, batch.day_BK, self._knots)
        copies = self._learner.learn(batch, rows)
        # Slots are given only to copies that exist.
        slots = [self._slot(key) for key in supports]
        self._put(slots, self._learner.kept(copies))
        self._labels[slots] = [len(support.is_fraud_K) for support in chosen]
        self._is_followed[slots] = copies.weight_B.cpu().numpy() > 0

    @torch.inference_mode()
    def score(
        self, features_NF: Features, time_us_N: Ints, keys: Sequence[AdapterKey]
    ) -> list[Decision]:
        """Decide on N rows, each by the copy of its key; keys without labels get the base.

        Raises KeyError for a copy that was never put into the bank.
        """
        slot_N = np.array(
            [self._slots[key] if key.revision else BASE_SLOT for key in keys], np.int64
        )
        features_N1F = torch.from_numpy(features_NF).to(self._device, torch.float64)[:, None]
        day_N1 = torch.from_numpy(time_us_N / DAY_US).to(self._device)[:, None]
        copies = self._take(torch.from_numpy(slot_N).to(self._device))
        rows = self._learner.network.encode(features_N1F, day_N1, self._knots)
        logit_N = self._learner.served_logits(rows, copies)[:, 0].cpu().numpy()
        answered = zip(
            logit_N.tolist(),
            self._labels[slot_N].tolist(),
            self._is_followed[slot_N].tolist(),
            keys,
            strict=True,
        )
        return [
            self._decision(logit, labels, is_followed, key.revision)
            for logit, labels, is_followed, key in answered
        ]

    def _decision(self, logit: float, labels: int, is_followed: bool, revision: int) -> Decision:
        metadata = self._metadata
        probability = calibrated(logit, metadata.calibration)
        risk = risk_score(probability, metadata.decisions)
        outcome: Outcome = (
            "decline"
            if probability >= metadata.decisions.decline
            else "review"
            if probability >= metadata.decisions.review
            else "approve"
        )
        used: Used = "insufficient_labels" if not labels else "adapted" if is_followed else "base"
        return Decision(probability, risk, _level(risk, outcome), outcome, used, labels, revision)

    def _slot(self, key: AdapterKey) -> int:
        """The slot for a key, taken from the least recently used copy when the bank is full."""
        if key not in self._slots:
            full = len(self._slots) == self.capacity
            free = self._slots.popitem(last=False)[1] if full else len(self._slots) + 1
            self._slots[key] = free
        self._slots.move_to_end(key)
        return self._slots[key]

    def _put(self, slots: list[int], kept: list[Tensor]) -> None:
        for bank, part in zip(self._bank, kept, strict=True):
            bank[torch.tensor(slots, device=bank.device)] = part

    def _take(self, slot_N: Tensor) -> Copies:
        return self._learner.restored([bank.index_select(0, slot_N) for bank in self._bank])


def calibrated(logit: float, calibration: Calibration) -> float:
    """The probability of fraud that log-odds stand for, as it is answered."""
    return round(float(calibration.probabilities(np.array(logit))), DIGITS)


def risk_score(probability: float, decisions: Decisions) -> float:
    """The probability on a scale for people: 0 to 100, 50 where review begins, 75 decline.

    Straight lines in log-odds between these points; two decimals.
    """
    review, decline = _log_odds(decisions.review), _log_odds(decisions.decline)
    points = [review - RISK_REACH, review, decline, decline + RISK_REACH]
    risks = [0.0, RISK_AT_REVIEW, RISK_AT_DECLINE, 100.0]
    return round(float(np.interp(_log_odds(probability), points, risks)), 2)


def _level(risk: float, outcome: Outcome) -> Level:
    if outcome == "approve":
        return "medium" if risk >= RISK_AT_REVIEW / 2 else "low"
    return "critical" if outcome == "decline" else "high"


def _log_odds(probability: float) -> float:
    inside = min(max(probability, 10.0**-DIGITS), 1 - 10.0**-DIGITS)
    return float(np.log(inside / (1 - inside)))


def _selected(support: Support) -> Support:
    features_KF, time_us_K, is_fraud_K = support
    chosen = select_support(is_fraud_K)
    return Support(features_KF[chosen], time_us_K[chosen], is_fraud_K[chosen])

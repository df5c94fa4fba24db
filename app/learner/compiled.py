"""The engine of CPUs: compiled loops over rows, where PyTorch would spend its time on calls.

A row is computed by itself, and so is a copy: neither depends on what is beside it, to the bit.

Axes: N rows, F features, B copies, W numbers of a copy, Q copies a row.
"""

from collections.abc import Sequence

import numpy as np

from app.learner.adaptation import Support
from app.learner.engine import LearnedCopies, Rows
from app.learner.features import Features
from app.learner.kernels.adaptation import Learner
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US


class CompiledEngine:
    """Compiled arithmetic, and a bank in memory."""

    def __init__(self, learner: Learner, slots: int) -> None:
        self._learner = learner
        # Never written before: memory that no copy has needed yet is not even taken.
        self.bank_BW: Floats = np.empty((slots, learner.copy_size))

    def learn(self, supports: Sequence[Support]) -> LearnedCopies:
        copies_BW = np.empty((len(supports), self._learner.copy_size))
        heads = [
            self._learner.learn(
                *_inputs(support.features_KF, support.time_us_K),
                support.is_fraud_K.view(np.uint8),
                copy_W,
            )
            for support, copy_W in zip(supports, copies_BW, strict=True)
        ]
        labels_B = np.array([len(support.is_fraud_K) for support in supports], np.int64)
        return LearnedCopies(copies_BW, labels_B, *np.array(heads).reshape(-1, 4).T)

    def put(self, slot_B: Sequence[int], copies_BW: Floats) -> None:
        self.bank_BW[slot_B] = copies_BW

    def take(self, slot_N: Ints) -> Floats:
        return self.bank_BW[slot_N]

    def score(self, rows: Rows, slot_N: Ints) -> Floats:
        return self._learner.logits(self._learner.encode(*_inputs(*rows)), self.bank_BW, slot_N)

    def judge(self, rows: Rows, copies_BW: Floats, copy_QN: Ints) -> Floats:
        encoded_NE = self._learner.encode(*_inputs(*rows))
        return np.array([self._learner.logits(encoded_NE, copies_BW, each_N) for each_N in copy_QN])


def _inputs(features_NF: Features, time_us_N: Ints) -> tuple[Features, Floats]:
    """Rows as compiled loops read them: side by side, and by day."""
    return np.ascontiguousarray(features_NF), time_us_N / DAY_US

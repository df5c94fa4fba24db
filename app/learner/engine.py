"""Engines: what computes by copies, on one kind of device, and keeps them in its bank.

Of all that an engine does, the differentiable `Learner` is the definition. The compiled engine is
for CPUs, row by row; the batched one for GPUs, as `Learner` does it, all rows at once.

Axes: N rows, F features, B copies, W numbers of a copy (`Learner.kept`), Q copies a row.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from app.learner.adaptation import Support
from app.learner.features import Features
from app.learner.states import Floats, Ints


class Rows(NamedTuple):
    """N rows to judge: features of their moment, and when that was."""

    features_NF: Features
    time_us_N: Ints


class LearnedCopies(NamedTuple):
    """The copies of B supports, from how many labels each, and what came of that.

    `evidence_B` is how much better than the base copies predict labels that they did not see,
    `before_B` and `after_B` the cross-entropies of all labels by the base and as served (nats,
    summed), `drift_B` how far the adapted layers moved, relative to their size.
    """

    copies_BW: Floats
    labels_B: Ints
    evidence_B: Floats
    before_B: Floats
    after_B: Floats
    drift_B: Floats

    @property
    def weight_B(self) -> Floats:
        """How far each is followed, the last of what is kept of a copy."""
        return self.copies_BW[:, -1]


class Engine(Protocol):
    """Makes copies, keeps them in slots, and gives the log-odds that are served by them."""

    def learn(self, supports: Sequence[Support]) -> LearnedCopies:
        """The copies of B supports; equal supports have equal bits if each is learned alone."""

    def put(self, slot_B: Sequence[int], copies_BW: Floats) -> None:
        """Keep copies, each in its slot of the bank."""

    def take(self, slot_N: Ints) -> Floats:
        """The copies in these slots: [N, W]."""

    def score(self, rows: Rows, slot_N: Ints) -> Floats:
        """The log-odds of N rows, each by the copy in its slot: [N]."""

    def judge(self, rows: Rows, copies_BW: Floats, copy_QN: Ints) -> Floats:
        """The log-odds of N rows, each by Q of the given copies: [Q, N]. The bank is left alone."""

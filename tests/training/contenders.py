"""Small rivals for tests of the back-test: one that reads labels, and one that does not."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.differentiable.adaptation import Learner
from app.training.episodes import Rows, served
from app.training.rivals import Chosen
from app.training.train import Split


@dataclass
class Amounts:
    """Suspects what is large; reads no label."""

    name: str = "amounts"
    title: str = "amounts <alone>"
    reads_labels: bool = False
    fitted: list[tuple[Rows, Split]] = field(default_factory=list)
    scored: list[tuple[int, int]] = field(default_factory=list)

    def fit(self, rows: Rows, split: Split, learner: Learner, seed: int) -> None:
        self.fitted.append((rows, split))

    @property
    def chosen(self) -> Chosen:
        return Chosen({"column": 0}, ("it has nothing to choose",))

    def scores(
        self, rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT
    ) -> NDArray[np.float64]:
        self.scored.append((len(scored), limit))
        return rows.features_NF[scored, 0].astype(np.float64)


@dataclass
class Labels(Amounts):
    """Suspects whose labels are many, and the more who was defrauded before."""

    name: str = "labels"
    title: str = "labels alone"
    reads_labels: bool = True

    def scores(
        self, rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT
    ) -> NDArray[np.float64]:
        self.scored.append((len(scored), limit))
        counts = [
            float(len(support) + 10 * (rows.is_fraud_N[support] == 1).sum())
            for support, query in served(rows, scored, limit)
            for _ in query
        ]
        return np.array(counts)


def contenders() -> Sequence[Amounts]:
    return Amounts(), Labels()

"""Rivals that score a transaction by its features alone: no label of its account is looked at.

What they know of the account's habits is in the features, as it is for the network.

Axes: A rows, B rows of a batch, E columns.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest as Forest
from sklearn.linear_model import LogisticRegression as Logistic
from torch import Tensor, nn

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.features import Features
from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.rivals.tuning import Lesson, Population, Score, Setting, Tuned
from app.training.sampling import Sample

ISOLATED = 50_000
BATCH = 256
# Of deviation networks, by their layers: the units between input and score; then how many standard
# deviations a fraud should lie above the mean of so many draws.
HIDDEN_UNITS: dict[int, tuple[int, ...]] = {1: (), 2: (1000,), 4: (1000, 250, 20)}
MARGIN, REFERENCES = 5.0, 5000


class _Encoded(Tuned[Setting, Features]):
    """Rivals that read scaled quantities and flags of frequent codes."""

    def prepare(self, lesson: Lesson) -> None:
        self._population = Population(lesson.rows, lesson.train)
        self._train_AE = self.inputs(lesson.rows, lesson.train.rows, SUPPORT_LIMIT)

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Features:
        return self._population.encode(rows.features_NF[scored])


class LogisticRegression(_Encoded[float]):
    """Logistic regression; its settings are the inverse strengths of the penalty."""

    name, title, reads_labels = "logistic_regression", "Logistic regression", False
    settings = (1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0, 100.0)

    def build(self, setting: float, lesson: Lesson, held_out: Features) -> Score[Features]:
        _, is_fraud_A, weight_A = lesson.train
        line = Logistic(C=setting, solver="newton-cholesky")
        # In single precision, columns that nearly say the same would make the Hessian singular.
        line.fit(self._train_AE.astype(np.float64), is_fraud_A, sample_weight=weight_A)
        return lambda column_AE: line.decision_function(column_AE).astype(np.float64)


class Isolation(NamedTuple):
    """How many rows and which share of the columns each tree sees."""

    rows: int
    columns: float


class IsolationForest(_Encoded[Isolation]):
    """How easily a transaction is isolated (Liu, Ting, Zhou, ICDM 2008), labels unseen.

    One forest for all accounts: of at most 32 labels a forest of the account's own would be
    noise, and thousands of them slow; the account's habits are in the features.
    """

    name, title, reads_labels = "isolation_forest", "Isolation forest", False
    settings = tuple(
        Isolation(rows, columns) for rows in (256, 1024, 4096, 16384) for columns in (0.3, 1.0)
    )

    def prepare(self, lesson: Lesson) -> None:
        super().prepare(lesson)
        # Frauds at their natural rate: each row as often as it stands for others.
        weight_A = lesson.train.weight_A
        drawn = np.random.default_rng(lesson.seed).choice(
            len(weight_A), min(ISOLATED, len(weight_A)), p=weight_A / weight_A.sum()
        )
        self._train_AE = self._train_AE[drawn]

    def build(self, setting: Isolation, lesson: Lesson, held_out: Features) -> Score[Features]:
        forest = Forest(
            max_samples=min(setting.rows, len(self._train_AE)),
            max_features=setting.columns,
            random_state=lesson.seed,
        )
        forest.fit(self._train_AE)
        return lambda column_AE: -forest.score_samples(column_AE).astype(np.float64)


class Deviation(NamedTuple):
    """Layers of the network, steps of training, and the share of frauds in a batch."""

    layers: int
    steps: int
    frauds: float


class DevNet(_Encoded[Deviation]):
    """Deviation networks (Pang, Shen, van den Hengel, KDD 2019), sized as the authors' program.

    As in the paper a batch has a fixed share of frauds; the loss does not weigh a legitimate row
    by how many it stands for.
    """

    name, title, reads_labels = "devnet", "DevNet", False
    settings = (
        Deviation(1, 1000, 0.5),
        Deviation(2, 500, 0.5),
        Deviation(2, 500, 0.25),
        Deviation(2, 1000, 0.5),
        Deviation(2, 1000, 0.25),
        Deviation(2, 1000, 0.1),
        Deviation(4, 300, 0.5),
        Deviation(4, 300, 0.25),
    )

    def build(self, setting: Deviation, lesson: Lesson, held_out: Features) -> Score[Features]:
        with torch.random.fork_rng():
            torch.manual_seed(lesson.seed)
            network = _network(self._train_AE.shape[1], setting.layers)
            optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3, weight_decay=1e-6)
            for column_BE, fraud_B in self._batches(setting, lesson.train, lesson.seed):
                optimizer.zero_grad()
                loss = _deviation_loss(fraud_B, network(column_BE)[:, 0])
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        @torch.inference_mode()
        def score(column_AE: Features) -> Floats:
            deviation_A1: Tensor = network(torch.from_numpy(column_AE))
            return deviation_A1[:, 0].numpy().astype(np.float64)

        return score

    def _batches(
        self, setting: Deviation, train: Sample, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng(seed)
        column_AE = torch.from_numpy(self._train_AE)
        frauds, legitimate = np.flatnonzero(train.is_fraud_A), np.flatnonzero(~train.is_fraud_A)
        count = round(BATCH * setting.frauds)
        fraud_B = (torch.arange(BATCH) < count).float()
        for _ in range(setting.steps):
            drawn = [rng.choice(frauds, count), rng.choice(legitimate, BATCH - count)]
            yield column_AE[np.concatenate(drawn)], fraud_B


def _network(columns: int, layers: int) -> nn.Sequential:
    sizes = columns, *HIDDEN_UNITS[layers], 1
    modules: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def _deviation_loss(fraud_B: Tensor, score_B: Tensor) -> Tensor:
    """How far legitimate scores lie from a standard normal's mean, and frauds within the margin."""
    reference = torch.randn(REFERENCES)
    deviation_B = (score_B - reference.mean()) / reference.std()
    short_B = torch.clamp(MARGIN - deviation_B, min=0)
    return ((1 - fraud_B) * deviation_B.abs() + fraud_B * short_B).mean()

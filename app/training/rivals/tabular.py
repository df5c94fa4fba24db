"""Rivals that score a transaction by its features alone: no label of its account is looked at.

What they know of the account's habits is in the features, as it is for the network.

Axes: A rows, B rows of a batch, E columns.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest as Forest
from sklearn.linear_model import LogisticRegression as Logistic
from torch import Tensor

from app.adaptation import SUPPORT_LIMIT
from app.features import Features
from app.states import Floats
from app.training.episodes import Rows
from app.training.rivals.tuning import Lesson, Population, Sample, Score, Setting, Tuned

ISOLATED = 50_000
BATCH = 256


class _Encoded(Tuned[Setting, Features]):
    """Rivals that read scaled quantities and flags of frequent codes."""

    def prepare(self, lesson: Lesson) -> None:
        self._population = Population(lesson.rows, lesson.train)
        self._train_AE = self.inputs(lesson.rows, lesson.train.rows, SUPPORT_LIMIT)

    def inputs(self, rows: Rows, asked: NDArray[np.intp], limit: int) -> Features:
        return self._population.encode(rows.features_NF[asked])


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
    """How easily a transaction is told apart (Liu, Ting, Zhou, ICDM 2008), labels unseen.

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
    """Deviation networks (Pang, Shen, van den Hengel, KDD 2019) with PyOD's network and loss.

    The loop is our own: `DevNet.fit` of PyOD 3.6.7 hands labels and outputs to the loss the wrong
    way round, so what it learns ranks no better than chance; and it takes rows as they come,
    where the paper draws as many frauds as legitimate rows. What a legitimate row stands for is
    left out of the loss.
    """

    name, title, reads_labels, library = "pyod_devnet", "DevNet (PyOD)", False, "pyod"
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
        # PyOD's module seeds torch when it is imported.
        with torch.random.fork_rng():
            from pyod.models.devnet import deviation_loss, deviation_network

            torch.manual_seed(lesson.seed)
            network, optimizer = deviation_network(self._train_AE.shape[1], setting.layers)
            for column_BE, fraud_B in self._batches(setting, lesson.train, lesson.seed):
                optimizer.zero_grad()
                deviation_loss(fraud_B, network(column_BE)[:, 0]).backward()
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

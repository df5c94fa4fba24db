"""What every rival shares: the same samples, the same effort of tuning, on held-out accounts.

Axes: N rows of the file, A scored rows, D days of accounts, F features, E columns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.differentiable.adaptation import Learner
from app.learner.features import Features
from app.learner.network import Columns
from app.learner.states import Floats
from app.training.bootstrap import FALSE_POSITIVES
from app.training.episodes import Rows
from app.training.evaluate import LEAST_FRAUDS, recall_at_false_positives
from app.training.sampling import Sample, sampled
from app.training.train import Split

TRIALS = 8
# All frauds, and about so many legitimate rows, which stand for all of them by their weights.
TRAINED_LEGITIMATE = 40_000
HELD_OUT_LEGITIMATE = 15_000
KNOWN_CODES = 32
# Kinds of features whose values are names: equal or not, and nothing in between.
NAMES: tuple[str, ...] = ("code", "identity")
# Further out a scaled quantity says nothing more, and could only outweigh the others.
CLIP = 8.0

Setting = TypeVar("Setting")
Inputs = TypeVar("Inputs")
Score = Callable[[Inputs], Floats]


class Lesson(NamedTuple):
    """What a rival learns from: rows as they were known when training ended."""

    rows: Rows
    train: Sample
    held_out: Sample
    end_us: int
    learner: Learner
    seed: int


class Chosen(NamedTuple):
    """A rival's setting by its names, and sentences on why its figures may say nothing of it."""

    setting: Mapping[str, Any]
    doubts: tuple[str, ...] = ()


class Tuned(ABC, Generic[Setting, Inputs]):
    """A rival that is built once for each of its TRIALS settings and kept where it did best.

    `library` is the module it cannot do without, beside those of every training.
    """

    name: str
    title: str
    reads_labels: bool
    library: str | None = None
    settings: Sequence[Setting]
    held_out_legitimate = HELD_OUT_LEGITIMATE

    def fit(self, rows: Rows, split: Split, learner: Learner, seed: int) -> None:
        """Learn from the split's training accounts; tune on those held out."""
        train = sampled(rows, split.train, TRAINED_LEGITIMATE, seed)
        held_out = sampled(rows, split.held_out, self.held_out_legitimate, seed)
        lesson = Lesson(rows, train, held_out, split.end_us, learner, seed)
        self.prepare(lesson)
        inputs = self.inputs(rows, held_out.rows, SUPPORT_LIMIT)
        self.setting, self._score = tuned(
            self.settings,
            lambda setting: self.build(setting, lesson, inputs),
            lambda setting, score: self.quality(setting, score, lesson, inputs),
        )
        self.doubts = doubts(held_out, self._score(inputs))

    @property
    def chosen(self) -> Chosen:
        """The setting that did best on held-out accounts, and what speaks against trusting it."""
        setting = self.setting
        named = setting._asdict() if hasattr(setting, "_asdict") else {"setting": setting}
        return Chosen(named, self.doubts)

    def scores(self, rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT) -> Floats:
        """How suspicious the scored rows (ascending) are, as they would be served: [A]."""
        if not len(scored):
            return np.zeros(0)
        return self._score(self.inputs(rows, scored, limit))

    def quality(
        self, setting: Setting, score: Score[Inputs], lesson: Lesson, inputs: Inputs
    ) -> float:
        """How well a setting does on held-out accounts: the highest is kept."""
        return weighted_precision(lesson.held_out, score(inputs))

    @abstractmethod
    def prepare(self, lesson: Lesson) -> None:
        """What all settings share."""

    @abstractmethod
    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Inputs:
        """What every setting reads of the scored rows and their accounts' labels."""

    @abstractmethod
    def build(self, setting: Setting, lesson: Lesson, held_out: Inputs) -> Score[Inputs]:
        """The rival in one setting; the inputs held out are for those that stop early."""


def tuned(
    settings: Sequence[Setting],
    build: Callable[[Setting], Score[Inputs]],
    quality: Callable[[Setting, Score[Inputs]], float],
) -> tuple[Setting, Score[Inputs]]:
    """The setting of the highest quality, the first of equals, and what was built from it.

    A quality that could not be measured (NaN) is the lowest.
    """
    built = [build(setting) for setting in settings]
    qualities = [quality(setting, score) for setting, score in zip(settings, built, strict=True)]
    best = int(np.argmax(np.nan_to_num(qualities, nan=-np.inf)))
    return settings[best], built[best]


def doubts(held_out: Sample, score_A: Floats) -> tuple[str, ...]:
    """What is wrong with scores that do not even separate the accounts they were chosen on.

    Of fewer than LEAST_FRAUDS frauds a good model may miss all, so there is no verdict on them.
    """
    _, is_fraud_A, weight_A = held_out
    if is_fraud_A.sum() < LEAST_FRAUDS or is_fraud_A.all():
        return ()
    found = []
    chance = float(np.average(is_fraud_A, weights=weight_A))
    if np.ptp(score_A) == 0:
        found.append("it gives every held-out transaction the same score")
    elif weighted_precision(held_out, score_A) <= chance:
        found.append("it ranks the held-out frauds no better than chance")
    if recall_at_false_positives(is_fraud_A, score_A, FALSE_POSITIVES, weight_A) == 0:
        found.append("it finds no held-out fraud at 1 % false positives")
    return tuple(found)


def codes_of(kinds: Sequence[str]) -> list[int]:
    """The features that are names: codes of categories, and identities."""
    return [f for f, kind in enumerate(kinds) if kind in NAMES]


def weighted_precision(sample: Sample, score_A: Floats) -> float:
    """Average precision where each row counts as many; NaN where there is no fraud to find."""
    _, is_fraud_A, weight_A = sample
    if not is_fraud_A.any():
        return float("nan")
    return float(average_precision_score(is_fraud_A, score_A, sample_weight=weight_A))


class Population:
    """The scales and the frequent codes of training rows: features to columns of like size.

    `own_O` are the columns of the transaction's own quantities; `is_own_E` adds its codes.
    Identities are left out: as numbers they are arbitrary, and none is frequent.
    """

    def __init__(self, rows: Rows, sample: Sample) -> None:
        columns, features_AF = Columns.of(rows.kinds), rows.features_NF[sample.rows]
        self._quantities = columns.quantities
        quantity_AZ = features_AF[:, self._quantities].astype(np.float64)
        self._mean_Z = np.average(quantity_AZ, axis=0, weights=sample.weight_A)
        square_Z = np.average((quantity_AZ - self._mean_Z) ** 2, axis=0, weights=sample.weight_A)
        self._spread_Z = np.maximum(np.sqrt(square_Z), 1e-3)
        self._frequent_codes = [(f, _frequent(features_AF[:, f])) for f in columns.codes]
        self.own_O = np.array(columns.own, np.intp)
        is_own = np.isin(np.arange(len(self._quantities)), self.own_O).tolist()
        codes = sum(len(frequent) for _, frequent in self._frequent_codes)
        self.is_own_E = np.array(is_own + [True] * codes)

    def encode(self, features_AF: Features) -> Features:
        """The quantities in units of their spread, then a flag for every frequent code: [A, E].

        Rows of another frequent code are as far apart as those a spread apart.
        """
        scaled_AZ = (features_AF[:, self._quantities] - self._mean_Z) / self._spread_Z
        flags = [features_AF[:, [f]] == frequent for f, frequent in self._frequent_codes]
        columns = [scaled_AZ.clip(-CLIP, CLIP), *(flag * np.sqrt(0.5) for flag in flags)]
        return np.concatenate(columns, axis=1).astype(np.float32)


def _frequent(code_A: Features) -> Features:
    values, counts = np.unique(code_A, return_counts=True)
    return values[np.argsort(-counts, kind="stable")[:KNOWN_CODES]]

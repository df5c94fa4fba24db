"""Rivals that compare a transaction with the account's own labelled ones.

Axes: A scored rows, K places for labels, P different rows among both, E columns, M members of the
network, H hidden units of each.
"""

from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from app.learner.differentiable.adaptation import Learner
from app.learner.features import Features
from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.evaluate import EncodedRows
from app.training.rivals.supports import Labels, distances
from app.training.rivals.tuning import Lesson, Population, Score, Setting, Tuned

# What is certain without any neighbour, beside a neighbour at no distance.
PRIOR_VOTE = 0.1

Space = Literal["own", "all", "hidden"]
Compared = TypeVar("Compared")


class _Beside(Tuned[Setting, Compared]):
    """Rivals that add their evidence to the base's log-odds, so that without labels they are it.

    Rows are compared by what is the transaction's own, by all columns, or by what the learner's
    network makes of them before it is shown a label.
    """

    def prepare(self, lesson: Lesson) -> None:
        self._population, self._learner = Population(lesson.rows, lesson.train), lesson.learner

    def _spaces(self, rows: Rows, chosen: NDArray[np.intp]) -> tuple[dict[Space, Features], Floats]:
        """The chosen rows as each space has them, and the base's log-odds."""
        column_PE = self._population.encode(rows.features_NF[chosen])
        hidden_PH, base_P = _unlabelled(self._learner, rows, chosen)
        own_PE = column_PE[:, self._population.is_own_E]
        return {"own": own_PE, "all": column_PE, "hidden": hidden_PH}, base_P


class Vote(NamedTuple):
    """Who votes, how fast a vote fades with distance, and what the votes weigh."""

    space: Space
    neighbours: int
    temperature: float
    weight: float


class Neighbours(NamedTuple):
    """The base's log-odds of A rows, and how far each is from K labelled ones in each space."""

    base_A: Floats
    distance_AK: dict[Space, Features]
    labels: Labels


class NearestNeighbours(_Beside[Vote, Neighbours]):
    """The nearest of the account's labelled transactions vote for fraud or against it."""

    name, title, reads_labels = "nearest_neighbours", "Nearest neighbours", True
    settings = (
        Vote("own", 3, 0.1, 0.1),
        Vote("own", 3, 0.3, 0.3),
        Vote("own", 3, 1.0, 0.1),
        Vote("own", 32, 0.3, 0.3),
        Vote("own", 32, 1.0, 1.0),
        Vote("all", 3, 0.3, 0.1),
        Vote("hidden", 3, 0.3, 0.1),
        Vote("hidden", 32, 1.0, 0.3),
    )

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> Neighbours:
        labels = Labels.of(rows, scored, limit)
        spaces, base_P = self._spaces(rows, labels.row_P)
        distance_AK = {name: np.sqrt(distances(c, labels)) for name, c in spaces.items()}
        return Neighbours(base_P[labels.scored_A], distance_AK, labels)

    def build(self, setting: Vote, lesson: Lesson, held_out: Neighbours) -> Score[Neighbours]:
        def score(inputs: Neighbours) -> Floats:
            _, _, _, legitimate_AK, fraud_AK = inputs.labels
            distance_AK = inputs.distance_AK[setting.space]
            distance_AK = np.where(legitimate_AK | fraud_AK, distance_AK, np.inf)
            rank_AK = distance_AK.argsort(1).argsort(1)
            vote_AK = np.exp(-distance_AK / setting.temperature) * (rank_AK < setting.neighbours)
            for_A, against_A = (vote_AK * fraud_AK).sum(1), (vote_AK * legitimate_AK).sum(1)
            evidence_A = np.log(for_A + PRIOR_VOTE) - np.log(against_A + PRIOR_VOTE)
            score_A: Floats = inputs.base_A + setting.weight * evidence_A
            return score_A

        return score


class Means(NamedTuple):
    """Where rows lie between two means, of how many labels each of these is."""

    space: Space
    prior: float
    weight: float


class Sums(NamedTuple):
    """The scored rows in a space and the sums of their legitimate and of their fraud labels."""

    scored_AE: Features
    legitimate_AE: Features
    fraud_AE: Features


class PlacedRows(NamedTuple):
    """The base's log-odds of A rows, where they and labels lie, and how many labels each has."""

    base_A: Floats
    sums: dict[Space, Sums]
    legitimate_A: Floats
    frauds_A: Floats


class Prototypes(_Beside[Means, PlacedRows]):
    """Nearer to the mean of the account's frauds than to that of its legitimate transactions?

    Prototypical networks (Snell, Swersky, Zemel, NeurIPS 2017) on accounts: each mean is drawn
    to the population's, which stands for `prior` labels, and the evidence is what the account's
    means say beyond the population's.
    """

    name, title, reads_labels = "prototypes", "Prototypes", True
    settings = tuple(
        Means(space, prior, weight)
        for space in ("own", "hidden")
        for prior in (2.0, 16.0)
        for weight in (0.1, 0.5)
    )

    def prepare(self, lesson: Lesson) -> None:
        super().prepare(lesson)
        train = lesson.train
        spaces, _ = self._spaces(lesson.rows, train.rows)
        self._population_2E = {
            name: np.stack(
                [
                    np.average(column_AE, axis=0, weights=train.weight_A * is_label_A)
                    for is_label_A in (~train.is_fraud_A, train.is_fraud_A)
                ]
            )
            for name, column_AE in spaces.items()
        }

    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> PlacedRows:
        labels = Labels.of(rows, scored, limit)
        spaces, base_P = self._spaces(rows, labels.row_P)
        return PlacedRows(
            base_P[labels.scored_A],
            {name: _sums(column_PE, labels) for name, column_PE in spaces.items()},
            labels.legitimate_AK.sum(1).astype(np.float64),
            labels.fraud_AK.sum(1).astype(np.float64),
        )

    def build(self, setting: Means, lesson: Lesson, held_out: PlacedRows) -> Score[PlacedRows]:
        space, prior, weight = setting
        usual_E, unusual_E = self._population_2E[space]

        def score(inputs: PlacedRows) -> Floats:
            scored_AE, legitimate_AE, fraud_AE = inputs.sums[space]
            evidence_A = np.zeros(len(scored_AE))
            for sign, sum_AE, count_A, mean_E in (
                (1, legitimate_AE, inputs.legitimate_A, usual_E),
                (-1, fraud_AE, inputs.frauds_A, unusual_E),
            ):
                own_AE = (sum_AE + prior * mean_E) / (count_A + prior)[:, None]
                own_A = np.square(scored_AE - own_AE).mean(1)
                evidence_A += sign * (own_A - np.square(scored_AE - mean_E).mean(1))
            return inputs.base_A + weight * evidence_A

        return score


def _sums(column_PE: Features, labels: Labels) -> Sums:
    legitimate, fraud = [], []
    for some in labels.chunks():
        column_AKE = column_PE[some.at_AK]
        legitimate.append(np.einsum("ake,ak->ae", column_AKE, some.legitimate_AK))
        fraud.append(np.einsum("ake,ak->ae", column_AKE, some.fraud_AK))
    return Sums(column_PE[labels.scored_A], np.concatenate(legitimate), np.concatenate(fraud))


@torch.inference_mode()
def _unlabelled(learner: Learner, rows: Rows, chosen: NDArray[np.intp]) -> tuple[Features, Floats]:
    """The hidden units [A, M * H] and the log-odds [A] of rows whose account has no labels."""
    base = learner.base(1)
    encoded = EncodedRows(learner, rows, chosen).take([chosen])
    units_MAH = learner.network.hidden(encoded, base.context).units_MBNH[:, 0]
    logit_A = learner.logits(encoded, base)[0].cpu().numpy()
    return units_MAH.transpose(0, 1).flatten(1).cpu().numpy(), logit_A.astype(np.float64)

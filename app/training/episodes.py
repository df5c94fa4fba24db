"""Episodes: an account at a moment, its known labels as support, what follows as query.

An episode shows what production shows: the support is what was labelled AND known at the cut,
the newest first, chosen by the same `select_support` as in the service; queries come at or after
the cut. A label is known `known_at - time` after its transaction, however late that is.

Axes: N rows of the file, F features, B episodes of a batch, K support rows, Q query rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.learner.adaptation import SUPPORT_LIMIT, Support
from app.learner.differentiable.adaptation import SupportBatch, pad_supports
from app.learner.features import Features, FeatureSet, Kind
from app.learner.states import Ints
from app.learner.transaction import DAY_US
from app.training.dataset import UNLABELLED, Dataset
from app.training.known import KnownLabels

QUERY_LIMIT = 16
# How many labels an episode of the training may see; what is served lies in between.
SUPPORT_SIZES = (0, 1, 3, 5, 10, 16, SUPPORT_LIMIT)
# The share of training's episodes that are chosen for having a fraud in the query.
FRAUD_EPISODES = 0.5
# A served episode has at most so many rows: more would only make the padding of a batch longer.
LONGEST_RUN = 256


@dataclass(frozen=True, slots=True)
class Rows:
    """N transactions with their features and labels, sorted by (account, time).

    `position_N` is where each row stands in the data set it came from.
    """

    kinds: tuple[Kind, ...]
    position_N: NDArray[np.intp]
    features_NF: Features
    account_N: Ints
    time_us_N: Ints
    is_fraud_N: NDArray[np.int8]
    known_at_us_N: Ints
    # Sorted when first needed; rows with other labels (`replace`) begin without it.
    _labels: KnownLabels | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def labels(self) -> KnownLabels:
        """The labels by when the rows of their accounts see them."""
        if self._labels is None:
            labels = KnownLabels(
                self.account_N, self.time_us_N, self.is_fraud_N, self.known_at_us_N
            )
            object.__setattr__(self, "_labels", labels)
            return labels
        return self._labels

    @classmethod
    def of(cls, dataset: Dataset, features: FeatureSet) -> "Rows":
        """Compute the features of a whole file and sort its rows for episodes."""
        columns = dataset.columns
        labels = dataset.entity_labels(features.spec.label.delay_us)
        features_NF = features.compute(columns, labels=labels)
        order_N = np.lexsort((columns.time_us_N, columns.account_N))
        return cls(
            features.kinds,
            order_N,
            features_NF[order_N],
            columns.account_N[order_N],
            columns.time_us_N[order_N],
            dataset.is_fraud_N[order_N],
            dataset.known_at_us_N[order_N],
        )

    def known_by(self, now_us: int) -> "Rows":
        """The same rows as they were known at `now_us`: later labels are not there yet."""
        known_N = np.where(self.known_at_us_N <= now_us, self.is_fraud_N, UNLABELLED)
        return replace(self, is_fraud_N=known_N.astype(np.int8))

    def support(self, chosen: NDArray[np.intp]) -> Support:
        return Support(
            self.features_NF[chosen], self.time_us_N[chosen], self.is_fraud_N[chosen] == 1
        )

    def support_of(self, first_query: int, limit: int) -> NDArray[np.intp]:
        """The rows that the account of row `first_query` has learned from by then, newest first.

        They came strictly before it, and their labels were known when it came.
        """
        account, now_us = int(self.account_N[first_query]), int(self.time_us_N[first_query])
        return self.labels.support(account, now_us, limit)


class Episode(NamedTuple):
    support: NDArray[np.intp]  # rows, newest first
    query: NDArray[np.intp]  # rows, in time order


@dataclass(frozen=True, slots=True)
class Batch:
    """B episodes as tensors.

    `query_weight_BQ` is what a row's loss weighs: 0.0 where it is padding or unlabelled.
    """

    support: SupportBatch
    query_BQF: Tensor
    query_day_BQ: Tensor
    query_fraud_BQ: Tensor
    query_weight_BQ: Tensor

    def __len__(self) -> int:
        return len(self.query_BQF)

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.support.to(device),
            self.query_BQF.to(device),
            self.query_day_BQ.to(device),
            self.query_fraud_BQ.to(device),
            self.query_weight_BQ.to(device),
        )


def collate(rows: Rows, episodes: list[Episode]) -> Batch:
    """The tensors of a list of episodes."""
    features = rows.features_NF.shape[1]
    support = pad_supports([rows.support(episode.support) for episode in episodes], features)
    longest = max(len(episode.query) for episode in episodes)
    query_BQF = np.zeros((len(episodes), longest, features), np.float32)
    day_BQ = np.zeros((len(episodes), longest))
    label_BQ = np.full((len(episodes), longest), UNLABELLED, np.int8)
    for position, episode in enumerate(episodes):
        query_BQF[position, : len(episode.query)] = rows.features_NF[episode.query]
        day_BQ[position, : len(episode.query)] = rows.time_us_N[episode.query] / DAY_US
        label_BQ[position, : len(episode.query)] = rows.is_fraud_N[episode.query]
    return Batch(
        support,
        torch.from_numpy(query_BQF),
        torch.from_numpy(day_BQ),
        torch.from_numpy((label_BQ == 1).astype(np.float32)),
        torch.from_numpy((label_BQ != UNLABELLED).astype(np.float32)),
    )


class Starts:
    """Rows that an episode may begin at, and how episodes are drawn from them.

    Drawn evenly, nearly every episode is without a fraud, and nothing but frauds tells a network
    much: so FRAUD_EPISODES of them are drawn from those with a fraud in the query. An episode
    weighs as much less as it is drawn more often, so what a batch loses is, on average, what
    episodes at the natural rate lose (importance sampling), and no prior is left to correct.
    """

    def __init__(self, rows: Rows, first: NDArray[np.intp], end_us: int) -> None:
        self._rows, self._first = rows, first
        # Rows are in the order of time within an account: the first too late ends a query.
        too_late_N = rows.time_us_N >= end_us
        ends_N = too_late_N | np.append(np.diff(rows.account_N) != 0, True)
        before_end = np.flatnonzero(ends_N)
        end = before_end[np.searchsorted(before_end, first)]
        end = np.where(too_late_N[end], end, end + 1)
        self._stop = np.minimum(first + QUERY_LIMIT, end)
        frauds_N = np.append(0, np.cumsum(rows.is_fraud_N == 1))
        self._has_fraud = frauds_N[self._stop] > frauds_N[first]
        self._with_fraud = np.flatnonzero(self._has_fraud)

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """A batch of `size` random episodes.

        The queries of each are a row and the account's next ones; it sees a random number of the
        labels that were known.
        """
        rare = round(FRAUD_EPISODES * size) if len(self._with_fraud) else 0
        chosen = np.concatenate(
            [
                rng.integers(0, len(self._first), size - rare),
                self._with_fraud[rng.integers(0, max(1, len(self._with_fraud)), rare)],
            ]
        )
        limits = rng.choice(SUPPORT_SIZES, size)
        starts, stops = self._first[chosen], self._stop[chosen]
        episodes = [
            Episode(self._rows.support_of(start, int(limit)), np.arange(start, stop))
            for start, stop, limit in zip(starts, stops, limits, strict=True)
        ]
        batch = collate(self._rows, episodes)
        share, has_fraud_B = rare / size, self._has_fraud[chosen]
        of_rare = len(self._first) / max(1, len(self._with_fraud))
        more_often_B = 1 - share + share * has_fraud_B * of_rare
        weight_B1 = torch.from_numpy((1 / more_often_B).astype(np.float32))[:, None]
        return replace(batch, query_weight_BQ=batch.query_weight_BQ * weight_B1)


def runs(rows: Rows, asked: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The `asked` rows (ascending), apart wherever the labels that a row sees become others.

    Each run is of one account, in time order, and of LONGEST_RUN rows at most.
    """
    if not len(asked):
        return []
    account_A = rows.account_N[asked]
    seen_A = rows.labels.seen(account_A, rows.time_us_N[asked])
    begins_A = np.append(True, (np.diff(account_A) != 0) | (np.diff(seen_A) != 0))
    place_A = np.arange(len(asked))
    begins_A |= (place_A - np.maximum.accumulate(place_A * begins_A)) % LONGEST_RUN == 0
    return np.split(asked, np.flatnonzero(begins_A)[1:])


def served(rows: Rows, asked: NDArray[np.intp], limit: int = SUPPORT_LIMIT) -> Iterator[Episode]:
    """Episodes as the service sees them: each row with the labels known at its own moment.

    An account's `asked` rows (ascending) share an episode until another of its labels is known.
    """
    for query in runs(rows, asked):
        yield Episode(rows.support_of(query[0], limit), query)

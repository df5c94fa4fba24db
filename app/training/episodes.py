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
from app.learner.differentiable.network import Encoded, Network
from app.learner.features import Features, FeatureSet, Kind
from app.learner.states import Ints
from app.learner.transaction import DAY_US
from app.training.dataset import UNLABELLED, Dataset
from app.training.known import KnownLabels
from app.training.ranks import ALONE, Ranks

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

    def take(self, chosen: NDArray[np.intp] | slice) -> "Rows":
        """Some of the rows, of whole accounts, in the same order."""
        columns = ("position_N", "features_NF", "account_N", "time_us_N", "is_fraud_N")
        taken = (getattr(self, name)[chosen] for name in (*columns, "known_at_us_N"))
        return Rows(self.kinds, *taken)

    def share(self, ranks: Ranks) -> "Rows":
        """The rows of a rank's accounts."""
        if ranks.size == 1:
            return self
        first_A = np.flatnonzero(np.diff(self.account_N, prepend=-1))
        place = ranks.share(len(first_A))
        first_A = np.append(first_A, len(self.account_N))
        return self.take(slice(int(first_A[place.start]), int(first_A[place.stop])))

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
    """Rows of one account: those that are scored, and the labelled ones known by the first."""

    support: NDArray[np.intp]  # rows, newest first
    query: NDArray[np.intp]  # rows, in time order


@dataclass(frozen=True, slots=True)
class Batch:
    """A query rows of episodes as tensors, each with its own support, and the P rows they need.

    `query_A` and `support_AK` are positions among the P rows, each of which is encoded once;
    `legitimate_AK` and `fraud_AK` are 1.0 where a place of a support has that label, and both 0.0
    where it is left over. `weight_A` is what a query row's loss weighs: 0.0 where it is unlabelled.
    """

    features_PF: Tensor
    day_P: Tensor
    query_A: Tensor
    is_fraud_A: Tensor
    weight_A: Tensor
    support_AK: Tensor
    legitimate_AK: Tensor
    fraud_AK: Tensor

    def __len__(self) -> int:
        return len(self.query_A)

    def to(self, device: torch.device) -> "Batch":
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))

    def encoded(self, network: Network) -> Encoded:
        """The P rows as the network reads them."""
        rows = network.encode(self.features_PF[None], self.day_P[None])
        return Encoded(*(part[0] for part in rows))

    def queries(self, rows: Encoded) -> Encoded:
        """Of the encoded rows the query rows, each as the only one of an account: [A, 1, ...]."""
        return Encoded(*(part[self.query_A][:, None] for part in rows))

    def labelled(self, rows: Encoded) -> Encoded:
        """Of the encoded rows those of the supports: [A, K, ...]."""
        return Encoded(*(part[self.support_AK] for part in rows))


def collate(rows: Rows, episodes: list[Episode]) -> Batch:
    """The tensors of a list of episodes, with their query rows in the same order."""
    sizes = [len(episode.query) for episode in episodes]
    longest = max((len(episode.support) for episode in episodes), default=0)
    support_EK = np.full((len(episodes), longest), -1, np.intp)
    for support_K, episode in zip(support_EK, episodes, strict=True):
        support_K[: len(episode.support)] = episode.support
    nothing = np.zeros(0, np.intp)
    query_A = np.concatenate([nothing, *(episode.query for episode in episodes)])
    support_AK = np.repeat(support_EK, sizes, axis=0)
    is_label_AK = support_AK >= 0
    is_fraud_AK = rows.is_fraud_N[support_AK] == 1
    # A place left over stands for the query row itself, which is encoded anyway.
    support_AK = np.where(is_label_AK, support_AK, query_A[:, None])
    needed_P, place = np.unique(np.concatenate([query_A, support_AK.ravel()]), return_inverse=True)
    label_A = rows.is_fraud_N[query_A]
    return Batch(
        torch.from_numpy(rows.features_NF[needed_P]),
        torch.from_numpy(rows.time_us_N[needed_P] / DAY_US),
        torch.from_numpy(place[: len(query_A)]),
        torch.from_numpy((label_A == 1).astype(np.float32)),
        torch.from_numpy((label_A != UNLABELLED).astype(np.float32)),
        torch.from_numpy(place[len(query_A) :].reshape(support_AK.shape)),
        torch.from_numpy((is_label_AK & ~is_fraud_AK).astype(np.float32)),
        torch.from_numpy((is_label_AK & is_fraud_AK).astype(np.float32)),
    )


class Starts:
    """Rows that an episode may begin at, and how episodes are drawn from them.

    Drawn evenly, nearly every episode is without a fraud, and nothing but frauds shows a network
    much: so FRAUD_EPISODES of them are drawn from those with a fraud in the query. An episode
    weighs as much less as it is drawn more often, so what a batch loses is, on average, what
    episodes at the natural rate lose (importance sampling), and no prior is left to correct.

    Several ranks draw from the rows of all of them, one rank's after the other's.
    """

    def __init__(
        self, rows: Rows, first: NDArray[np.intp], end_us: int, ranks: Ranks = ALONE
    ) -> None:
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
        self._before, self._all = ranks.before(len(first))
        self._frauds_before, self._all_with_fraud = ranks.before(len(self._with_fraud))

    def draw(self, size: int, rng: np.random.Generator) -> Batch:
        """A batch of `size` random episodes, of which each rank has those of its own rows.

        The queries of each are a row and the account's next ones; each of them sees the labels
        known at its own moment, at most a random number that is the episode's.
        """
        rare = round(FRAUD_EPISODES * size) if self._all_with_fraud else 0
        place = rng.integers(0, self._all, size - rare) - self._before
        of_frauds = rng.integers(0, max(1, self._all_with_fraud), rare) - self._frauds_before
        limits = rng.choice(SUPPORT_SIZES, size)
        is_own, is_own_fraud = (
            (each >= 0) & (each < len(own))
            for each, own in ((place, self._first), (of_frauds, self._with_fraud))
        )
        chosen = np.concatenate([place[is_own], self._with_fraud[of_frauds[is_own_fraud]]])
        limits = limits[np.concatenate([is_own, is_own_fraud])]
        starts, stops = self._first[chosen], self._stop[chosen]
        episodes = [
            Episode(self._rows.support_of(row, int(limit)), np.array([row]))
            for start, stop, limit in zip(starts, stops, limits, strict=True)
            for row in range(start, stop)
        ]
        batch = collate(self._rows, episodes)
        share, has_fraud_B = rare / size, self._has_fraud[chosen]
        of_rare = self._all / max(1, self._all_with_fraud)
        more_often_B = 1 - share + share * has_fraud_B * of_rare
        weight_A = torch.from_numpy(np.repeat(1 / more_often_B, stops - starts).astype(np.float32))
        return replace(batch, weight_A=batch.weight_A * weight_A)


def runs(rows: Rows, scored: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The `scored` rows (ascending), apart wherever the labels that a row sees become others.

    Each run is of one account, in time order, and of LONGEST_RUN rows at most.
    """
    if not len(scored):
        return []
    account_A = rows.account_N[scored]
    seen_A = rows.labels.seen(account_A, rows.time_us_N[scored])
    begins_A = np.append(True, (np.diff(account_A) != 0) | (np.diff(seen_A) != 0))
    place_A = np.arange(len(scored))
    begins_A |= (place_A - np.maximum.accumulate(place_A * begins_A)) % LONGEST_RUN == 0
    return np.split(scored, np.flatnonzero(begins_A)[1:])


def served(rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT) -> Iterator[Episode]:
    """Episodes as the service sees them: each row with the labels known at its own moment.

    An account's `scored` rows (ascending) share an episode until another of its labels is known.
    """
    for query in runs(rows, scored):
        yield Episode(rows.support_of(query[0], limit), query)

"""What a checkpoint's training data looked like: features and the score, spread over bins.

Identities are left out: their values lie nowhere.

Axes: N transactions, E edges, so E + 1 bins.
"""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.learner.states import Ints

QUANTILES = np.arange(1, 10) / 10


class Histogram(BaseModel):
    """How many transactions, and how many frauds among them, lie in each bin.

    Bin e holds values in (edges[e - 1], edges[e]]; the outer bins have no other end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    frauds: tuple[int, ...]

    @classmethod
    def of(cls, values_N: NDArray[np.floating[Any]], is_fraud_N: NDArray[np.bool_]) -> Self:
        """Bins of about a tenth of the values each; a value that is frequent has one of its own.

        Raises IndexError without values.
        """
        values_N = values_N.astype(np.float32)
        tenths = np.quantile(values_N, QUANTILES, method="inverted_cdf")
        values, times = np.unique(tenths, return_counts=True)
        frequent = values[times > 1]
        below = np.nextafter(frequent, np.float32(-np.inf))
        edges = tuple(np.unique(np.concatenate([values, below])).tolist())
        empty = cls(edges=edges, counts=(), frauds=())
        return cls(
            edges=edges,
            counts=tuple(empty.count(values_N).tolist()),
            frauds=tuple(empty.count(values_N[is_fraud_N]).tolist()),
        )

    def count(self, values_N: NDArray[np.floating[Any]]) -> Ints:
        """How many of these values lie in each bin: [E + 1]."""
        edges = np.array(self.edges, np.float32)
        bin_N = np.searchsorted(edges, values_N.astype(np.float32))
        counts: Ints = np.bincount(bin_N, minlength=len(edges) + 1)
        return counts


class Profile(BaseModel):
    """The newest weeks of the training data whose labels had come.

    `score` is the probability that held-out accounts were served. `frauds` are among all
    `transactions`; one without a label counts as none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: str
    last: str
    transactions: int
    accounts: int
    frauds: int
    features: Mapping[str, Histogram]
    score: Histogram

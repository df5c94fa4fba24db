"""What every method has made of rows as they were served, and the figures of any group of them.

Axes: A tested rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.learner.decisions import Calibration
from app.learner.states import Floats, Ints
from app.training.calibration import brier, calibration_error, reliability
from app.training.dataset import Dataset
from app.training.episodes import Rows
from app.training.evaluate import (
    Predictions,
    average_precision,
    card_precision,
    recall_at_false_positives,
)

ADAPTED, BASE = NETWORK = "adapted", "base"
# What a report calls them; rivals bring a title of their own.
TITLES = {ADAPTED: "Adapted network", BASE: "Network without labels"}
LABEL_COUNTS = (0, 1, 3, 5, 10, 16)

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """A rows of a file as they were served, with every method's log-odds of fraud.

    `row_A` are ascending row numbers of `rows`; `labels_A` and `frauds_A` count the labels, and
    the frauds among them, that were known of a row's account when it was scored.
    """

    dataset: Dataset
    rows: Rows
    row_A: NDArray[np.intp]
    labels_A: Ints
    frauds_A: Ints
    logits: Mapping[str, Floats]
    calibrations: Mapping[str, Calibration]

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        rows: Rows,
        predictions: Predictions,
        calibrations: Mapping[str, Calibration],
        others: Mapping[str, Floats] | None = None,
    ) -> "Results":
        """The predicted rows with the network's two methods, and the `others`."""
        logits = {ADAPTED: predictions.adapted_A, BASE: predictions.base_A, **(others or {})}
        counts = predictions.labels_A, predictions.frauds_A
        return cls(dataset, rows, predictions.rows, *counts, logits, calibrations)

    def take(self, chosen_A: NDArray[np.bool_]) -> "Results":
        """The chosen of the scored rows."""
        return replace(
            self,
            row_A=self.row_A[chosen_A],
            labels_A=self.labels_A[chosen_A],
            frauds_A=self.frauds_A[chosen_A],
            logits={method: logit_A[chosen_A] for method, logit_A in self.logits.items()},
        )

    @property
    def account_A(self) -> Ints:
        return self.rows.account_N[self.row_A]

    @property
    def is_fraud_A(self) -> NDArray[np.bool_]:
        is_fraud_A: NDArray[np.bool_] = self.rows.is_fraud_N[self.row_A] == 1
        return is_fraud_A

    def probability_A(self, method: str) -> Floats:
        """The method's probabilities of fraud, calibrated."""
        return self.calibrations[method].probabilities(self.logits[method])

    def kinds(self) -> Iterator[tuple[str, "Results"]]:
        """The frauds of one kind and all legitimate rows, for each kind there is."""
        is_fraud_A = self.is_fraud_A
        kind_A = self.dataset.fraud_kind_N[self.rows.position_N[self.row_A]]
        for kind, name in enumerate(self.dataset.fraud_kinds):
            chosen_A = ~is_fraud_A | (kind_A == kind)
            if (is_fraud_A & chosen_A).any():
                yield name, self.take(chosen_A)

    def mixes(self) -> Iterator[tuple[str, "Results"]]:
        """The rows by what was known of their account."""
        labels_A, frauds_A = self.labels_A, self.frauds_A
        yield "no labels", self.take(labels_A == 0)
        yield "legitimate only", self.take((labels_A > 0) & (frauds_A == 0))
        yield "one fraud", self.take(frauds_A == 1)
        yield "several frauds", self.take(frauds_A > 1)

    def figures(self) -> Metrics:
        """How good each method is, by method, card precision aside."""
        return {method: self._figures(method) for method in self.logits}

    def card_figures(self) -> Metrics:
        """The same with the card precision, which takes a pass over every day."""
        cards = self.account_A, self.rows.time_us_N[self.row_A], self.is_fraud_A
        return {
            method: figures | {"card_precision_100": card_precision(*cards, self.logits[method])}
            for method, figures in self.figures().items()
        }

    def _figures(self, method: str) -> Metrics:
        is_fraud_A, logit_A = self.is_fraud_A, self.logits[method]
        probability_A = self.probability_A(method)
        return {
            "transactions": len(is_fraud_A),
            "frauds": int(is_fraud_A.sum()),
            "average_precision": average_precision(is_fraud_A, logit_A),
            "recall_at_1_percent": recall_at_false_positives(is_fraud_A, logit_A),
            "brier": brier(is_fraud_A, probability_A),
            "calibration_error": calibration_error(is_fraud_A, probability_A),
        }


def pooled_reliability(folds: Sequence[Results]) -> Metrics:
    """The reliability of the network's probabilities, with and without labels, in all folds."""
    is_fraud = np.concatenate([tested.is_fraud_A for tested in folds])
    return {
        method: reliability(
            is_fraud, np.concatenate([tested.probability_A(method) for tested in folds])
        )
        for method in NETWORK
    }

"""Back-tests: a model trained anew for each fold, on what was known, tested on what came next.

Protocol A is the Fraud Detection Handbook's (chapter 5, prequential validation): train on a few
days, wait for the label delay, test on the following days without the accounts that are known
to be defrauded by then. No tested account has a fraud label, so copies learn from legitimate
labels alone.

Protocol B is what a service with feedback sees: the same test days, no account left out, labels
as they arrive, and a share of the accounts never seen in training, reported on their own.

Every method is fitted on the same rows of a fold and scores the same rows.

Axes: N rows.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.training.dataset import UNLABELLED, Dataset
from app.training.differences import (
    bands,
    differences,
    differences_by,
    draws_of,
)
from app.training.episodes import Rows
from app.training.folds import Fold, folds_of, mean_of
from app.training.methods import Methods, Report, described
from app.training.pairs import pairs_in_order
from app.training.results import ADAPTED, Metrics, Results, pooled_reliability
from app.training.train import Options, Split, Status, Trainer

if TYPE_CHECKING:
    from app.training.rivals import Rival

UNSEEN_SEED = 20

Watch = Callable[[str, Status], bool]


class FoldResults(NamedTuple):
    """A fold of protocol B: all tested rows, and those of accounts that were not in training."""

    whole: Results
    cost: Metrics
    unseen: Results
    by_labels: dict[str, Results]
    chosen: Metrics


class Backtest:
    """Both protocols over one file, of the network and its rivals.

    `watch` sees every training step and can stop it; `report` hears of every rival's turn.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: Rows,
        spec: DatasetSpec,
        options: Options,
        device: str,
        watch: Watch,
        rivals: Sequence["Rival"] = (),
        report: Report = lambda _: None,
    ) -> None:
        self._dataset, self._rows, self._spec = dataset, rows, spec
        self._options, self._device, self._watch = options, device, watch
        self._rivals, self._report = rivals, report
        accounts = int(rows.account_N.max()) + 1
        draws = np.random.default_rng(UNSEEN_SEED).random(accounts)
        self.unseen_N = (draws < spec.backtest.unseen_share)[rows.account_N]
        self.folds = folds_of(spec, rows)

    def run(self) -> Metrics:
        """The figures of both protocols, by fold and as means over the folds."""
        protocol_a = [self.protocol_a(fold) for fold in self.folds]
        protocol_b = [self.protocol_b(fold) for fold in self.folds]
        return {
            "spec": self._spec.name,
            "methods": described(self._rivals),
            "protocol_a": self._figures_a(protocol_a),
            "protocol_b": self._figures_b(protocol_b),
        }

    def protocol_a(self, fold: Fold) -> tuple[Metrics, Results]:
        """A fold as the Fraud Detection Handbook tests it: what was tested, and the results.

        Trained on the days before a gap, tested without accounts known to be defrauded.
        """
        t = self._rows.time_us_N
        trained_N = (t >= fold.train_us) & (t < fold.train_end_us)
        methods = self._fitted(f"A {fold.name}", trained_N, fold)
        tested = methods.test(self._rows, self._labelled(self.tested_in_a(fold)))
        counts = {
            "test_start": fold.name,
            "train_transactions": int(trained_N.sum()),
            "train_frauds": self._frauds(trained_N & (self._rows.known_at_us_N <= fold.test_us)),
            "test_transactions": len(tested.row_A),
            "test_frauds": self._frauds(tested.row_A),
            "chosen": methods.chosen,
        }
        return counts, tested

    def protocol_b(self, fold: Fold) -> FoldResults:
        """A fold as the service would meet it: labels come in as they become known.

        Some accounts are in no training, so that it shows what a new account gets.
        """
        t = self._rows.time_us_N
        days = self._spec.backtest.feedback_train_days
        first_us = 0 if days is None else fold.test_us - round(days * DAY_US)
        trained_N = (t >= first_us) & (t < fold.test_us) & ~self.unseen_N
        methods = self._fitted(f"B {fold.name}", trained_N, fold)
        scored = self._labelled((t >= fold.test_us) & (t < fold.test_end_us))
        tested = methods.test(self._rows, scored)
        unseen = tested.take(self.unseen_N[scored])
        return FoldResults(
            tested, methods.cost(tested), unseen, methods.by_labels(unseen), methods.chosen
        )

    def _fitted(self, name: str, scored_N: NDArray[np.bool_], fold: Fold) -> Methods:
        rows = self._rows.known_by(fold.test_us)
        try:
            split = Split.of(rows, scored_N, fold.test_us, self._options.seed)
        except ValueError as error:
            raise ValueError(f"the fold tested from {fold.name}: {error}") from None
        trainer = Trainer(rows, split, self._options, self._device)
        trainer.run(lambda status: self._watch(name, status))
        methods = Methods(self._dataset, trainer.learner, self._rivals)
        methods.fit(rows, split, self._options, lambda title: self._report(f"{name}: {title}"))
        return methods

    def _figures_a(self, tested: Sequence[tuple[Metrics, Results]]) -> Metrics:
        figures = [fold.card_figures() for _, fold in tested]
        means = mean_of(figures)
        folds = [fold for _, fold in tested]
        return {
            "folds": [counts | each for (counts, _), each in zip(tested, figures, strict=True)],
            "mean": means[ADAPTED],
            "methods": means,
            "differences": differences(folds, draws_of(folds)),
            "pairs_in_order": pairs_in_order(folds),
        }

    def _figures_b(self, served: Sequence[FoldResults]) -> Metrics:
        figures = [_served_figures(fold) for fold in served]
        folds = [
            {"test_start": fold.name, **each, "chosen": served_fold.chosen}
            for fold, each, served_fold in zip(self.folds, figures, served, strict=True)
        ]
        whole, unseen = [fold.whole for fold in served], [fold.unseen for fold in served]
        draws = draws_of(unseen)
        return {
            "folds": folds,
            **mean_of(figures),
            "differences": differences(unseen, draws),
            "differences_all": differences(whole, draws_of(whole)),
            "differences_by_kind": differences_by((fold.kinds() for fold in unseen), draws),
            "differences_by_support": differences_by((fold.mixes() for fold in unseen), draws),
            "pairs_in_order": pairs_in_order(unseen),
            "pairs_in_order_all": pairs_in_order(whole),
            "bands_by_labels": bands([fold.by_labels for fold in served], draws),
            "reliability": pooled_reliability(unseen),
        }

    def tested_in_a(self, fold: Fold) -> NDArray[np.bool_]:
        """The test days without the accounts known to be defrauded, as these become known.

        They are the accounts defrauded in the training days and since, on each test day those
        whose fraud has become known by then.
        """
        rows = self._rows
        t = rows.time_us_N
        tested_N = (t >= fold.test_us) & (t < fold.test_end_us)
        fraud_N = (rows.is_fraud_N == 1) & (t >= fold.train_us)
        reported_us = np.full(int(rows.account_N.max()) + 1, np.iinfo(np.int64).max)
        np.minimum.at(reported_us, rows.account_N[fraud_N], rows.known_at_us_N[fraud_N])
        day_us = t - (t - fold.test_us) % DAY_US
        return tested_N & (reported_us[rows.account_N] >= day_us)

    def _labelled(self, scored_N: NDArray[np.bool_]) -> NDArray[np.intp]:
        return np.flatnonzero(scored_N & (self._rows.is_fraud_N != UNLABELLED))

    def _frauds(self, rows: NDArray[Any]) -> int:
        return int((self._rows.is_fraud_N[rows] == 1).sum())


def _served_figures(served: FoldResults) -> Metrics:
    return {
        "all": served.whole.card_figures(),
        "unseen": served.unseen.card_figures(),
        "by_support": {name: part.card_figures() for name, part in served.unseen.mixes()},
        "by_kind": {name: part.card_figures() for name, part in served.unseen.kinds()},
        "by_labels": {name: part.card_figures() for name, part in served.by_labels.items()},
        "cost": served.cost,
    }

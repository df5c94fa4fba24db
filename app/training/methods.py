"""The methods of a back-test: the adapted network, its base and the rivals, all treated alike.

They learn from the same rows, tune on the same held-out accounts, are calibrated on these, and
see the labels of an account as they would have been served.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.decisions import Calibration
from app.learner.differentiable.adaptation import Learner
from app.learner.states import Floats
from app.training.cost import Stopwatch, copy_bytes, costs
from app.training.dataset import Dataset
from app.training.episodes import Rows
from app.training.evaluate import Predictions, calibrate, predict
from app.training.results import ADAPTED, BASE, LABEL_COUNTS, TITLES, Metrics, Results
from app.training.train import Options, Split
from app.training.trees import fit_held_out

# The library of a rival is nothing that a back-test without rivals needs.
if TYPE_CHECKING:
    from app.training.rivals import Rival

Report = Callable[[str], None]


class Mean(NamedTuple):
    """A method that is the plain mean of the log-odds of two others, with no weight fitted."""

    name: str
    title: str
    parts: tuple[str, str]


# Weights fitted on few held-out frauds were unstable (-.05 and 1.21); half each was ahead of both.
MEANS = (
    Mean(
        "mean_with_trees",
        "Mean of the adapted network and XGBoost with the account's labels",
        (ADAPTED, "xgboost_support"),
    ),
)


def described(rivals: Sequence["Rival"] = ()) -> Metrics:
    """Every method's title, and whether its scores depend on an account's labels."""
    own = {
        name: {"title": title, "reads_labels": name == ADAPTED} for name, title in TITLES.items()
    }
    others = {r.name: {"title": r.title, "reads_labels": r.reads_labels} for r in rivals}
    means = {
        mean.name: {"title": mean.title, "reads_labels": True} for mean in means_of([*own, *others])
    }
    return own | others | means


def means_of(methods: Collection[str]) -> list[Mean]:
    """The means of two that are both among the methods."""
    return [mean for mean in MEANS if set(mean.parts) <= set(methods)]


def with_means(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """The methods' log-odds, and behind them those of the means whose two parts are there."""
    means = {
        mean.name: (values[mean.parts[0]] + values[mean.parts[1]]) / 2 for mean in means_of(values)
    }
    return {**values, **means}


class Methods:
    """A trained learner and the rivals, on one fold."""

    def __init__(self, dataset: Dataset, learner: Learner, rivals: Sequence["Rival"]) -> None:
        self._dataset, self.learner, self._rivals = dataset, learner, rivals
        self.calibrations: dict[str, Calibration] = {}
        self.chosen: Metrics = {}
        self._watch = Stopwatch()

    def fit(self, rows: Rows, split: Split, options: Options, report: Report) -> None:
        """Fit the learner's trees and gate, and each rival; calibrate all on the held-out accounts.

        `known` is what was known when training ended; `report` hears whose turn it is. `chosen` is
        then what the held-out accounts chose, and on how many frauds.
        """
        held_out = fit_held_out(self.learner, rows, split, options)
        logits = {ADAPTED: held_out.adapted_A, BASE: held_out.base_A}
        for rival in self._rivals:
            report(rival.title)
            rival.fit(rows, split, self.learner, options.seed)
            logits[rival.name] = rival.scores(rows, split.held_out)
        is_fraud_A = rows.is_fraud_N[split.held_out] == 1
        self.calibrations = {
            name: calibrate(is_fraud_A, logit) for name, logit in with_means(logits).items()
        }
        self.chosen = {
            "held_out_transactions": len(is_fraud_A),
            "held_out_frauds": int(is_fraud_A.sum()),
            "gate": self.learner.gate.described(),
            "trees": len(self.learner.network.trees),
            "step_sizes": self.learner.step_sizes,
            "rivals": {
                rival.name: {
                    "setting": dict(rival.chosen.setting),
                    "doubts": list(rival.chosen.doubts),
                }
                for rival in self._rivals
            },
        }

    def test(self, rows: Rows, scored: NDArray[np.intp]) -> Results:
        """The scored rows (ascending) as every method scores them."""
        with self._watch.timing(ADAPTED):
            predictions = predict(self.learner, rows, scored)
        others = {}
        for rival in self._rivals:
            with self._watch.timing(rival.name):
                others[rival.name] = rival.scores(rows, scored)
        return self._results(rows, predictions, others)

    def cost(self, tested: Results) -> Metrics:
        """What testing these rows, just now, has cost an account.

        The base is timed in a run of its own, without labels.
        """
        with self._watch.timing(BASE):
            predict(self.learner, tested.rows, tested.row_A, 0)
        seconds = self._watch.seconds
        for mean in means_of(seconds):
            seconds = {**seconds, mean.name: sum(seconds[part] for part in mean.parts)}
        return costs(seconds, self._bytes_kept, tested.rows, tested.row_A)

    def by_labels(self, whole: Results) -> dict[str, Results]:
        """The same rows with at most so many labels an account, by their number.

        A rival that reads no label scores as it did for `whole`.
        """
        return {str(limit): self._limited(whole, limit) for limit in LABEL_COUNTS}

    def _limited(self, whole: Results, limit: int) -> Results:
        rows, scored = whole.rows, whole.row_A
        others = {
            rival.name: rival.scores(rows, scored, limit)
            if rival.reads_labels
            else whole.logits[rival.name]
            for rival in self._rivals
        }
        predictions = predict(self.learner, rows, scored, limit)
        return self._results(rows, predictions, others)

    def _results(
        self, rows: Rows, predictions: Predictions, others: Mapping[str, Floats]
    ) -> Results:
        logits = with_means({ADAPTED: predictions.adapted_A, BASE: predictions.base_A, **others})
        others = {name: logits[name] for name in self.calibrations if name not in TITLES}
        return Results.of(self._dataset, rows, predictions, self.calibrations, others)

    @property
    def _bytes_kept(self) -> dict[str, int]:
        """Nothing where labels are not read; what other rivals would keep is not known."""
        nothing = {rival.name: 0 for rival in self._rivals if not rival.reads_labels}
        return {ADAPTED: copy_bytes(self.learner), BASE: 0, **nothing}

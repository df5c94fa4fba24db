"""The methods of a back-test: the adapted network, its base and the rivals, all treated alike.

They learn from the same rows, tune on the same held-out accounts, are calibrated on these, and
see the labels of an account as they would have been served.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from app.learner.checkpoint import Calibration
from app.learner.differentiable.adaptation import Learner
from app.training.cost import Stopwatch, copy_bytes, costs
from app.training.dataset import Dataset
from app.training.episodes import Rows
from app.training.evaluate import calibrate, fit_gate, predict
from app.training.results import ADAPTED, BASE, LABEL_COUNTS, TITLES, Metrics, Results
from app.training.train import Split

# The library of a rival is nothing that a back-test without rivals needs.
if TYPE_CHECKING:
    from app.training.rivals import Rival

Tell = Callable[[str], None]


def described(rivals: Sequence["Rival"] = ()) -> Metrics:
    """Every method's title, and whether its scores depend on an account's labels."""
    own = {
        name: {"title": title, "reads_labels": name == ADAPTED} for name, title in TITLES.items()
    }
    return own | {r.name: {"title": r.title, "reads_labels": r.reads_labels} for r in rivals}


class Methods:
    """A trained learner and the rivals, on one fold."""

    def __init__(self, dataset: Dataset, learner: Learner, rivals: Sequence["Rival"]) -> None:
        self._dataset, self._learner, self._rivals = dataset, learner, rivals
        self.calibrations: dict[str, Calibration] = {}
        self._watch = Stopwatch()

    def fit(self, known: Rows, split: Split, seed: int, tell: Tell) -> None:
        """Find the learner's blend, fit each rival, and calibrate all on the held-out accounts.

        `known` is what was known when training ended; `tell` hears whose turn it is.
        """
        held_out = fit_gate(self._learner, known, split.held_out)
        logits = {ADAPTED: held_out.adapted_A, BASE: held_out.base_A}
        for rival in self._rivals:
            tell(rival.title)
            rival.fit(known, split, self._learner, seed)
            logits[rival.name] = rival.scores(known, split.held_out)
        is_fraud_A = known.is_fraud_N[split.held_out] == 1
        self.calibrations = {name: calibrate(is_fraud_A, logit) for name, logit in logits.items()}

    def test(self, rows: Rows, asked: NDArray[np.intp]) -> Results:
        """The asked rows (ascending) as every method scores them."""
        with self._watch.timing(ADAPTED):
            predictions = predict(self._learner, rows, asked)
        others = {}
        for rival in self._rivals:
            with self._watch.timing(rival.name):
                others[rival.name] = rival.scores(rows, asked)
        return Results.of(self._dataset, rows, predictions, self.calibrations, others)

    def cost(self, tested: Results) -> Metrics:
        """What testing these rows, just now, has cost an account.

        The base is timed in a run of its own, without labels.
        """
        with self._watch.timing(BASE):
            predict(self._learner, tested.rows, tested.row_A, 0)
        return costs(self._watch.seconds, self._bytes_kept, tested.rows, tested.row_A)

    def by_labels(self, whole: Results) -> dict[str, Results]:
        """The same rows with at most so many labels an account, by their number.

        A rival that reads no label says what it has said of `whole`.
        """
        return {str(limit): self._limited(whole, limit) for limit in LABEL_COUNTS}

    def _limited(self, whole: Results, limit: int) -> Results:
        rows, asked = whole.rows, whole.row_A
        others = {
            rival.name: rival.scores(rows, asked, limit)
            if rival.reads_labels
            else whole.logits[rival.name]
            for rival in self._rivals
        }
        predictions = predict(self._learner, rows, asked, limit)
        return Results.of(self._dataset, rows, predictions, self.calibrations, others)

    @property
    def _bytes_kept(self) -> dict[str, int]:
        """Nothing where labels are not read; what other rivals would keep is not known."""
        nothing = {rival.name: 0 for rival in self._rivals if not rival.reads_labels}
        return {ADAPTED: copy_bytes(self._learner), BASE: 0, **nothing}

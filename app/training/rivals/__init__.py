"""What the network is measured against: other ways to score the same rows from the same labels.

Every rival learns from the same rows as the network, tunes itself by the same effort on the same
held-out accounts (`app.training.rivals.tuning`) and sees an account's labels as they would have
been served. Libraries that only a rival needs are imported when it learns.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.differentiable.adaptation import Learner
from app.learner.states import Floats
from app.training.episodes import Rows
from app.training.rivals.boosting import LightGBM, LightGBMSupport, XGBoost, XGBoostSupport
from app.training.rivals.comparing import NearestNeighbours, Prototypes
from app.training.rivals.fine_tuning import FineTuned
from app.training.rivals.online import RiverOnline
from app.training.rivals.robust_z import RobustZ
from app.training.rivals.rules import LikenessRule, RecencyRule
from app.training.rivals.tabular import DevNet, IsolationForest, LogisticRegression
from app.training.rivals.tuning import Chosen, Tuned
from app.training.train import Split

__all__ = ["RIVALS", "Chosen", "Rival", "rivals"]


class Rival(Protocol):
    """A way to score transactions that a back-test sets beside the network.

    `name` is its key among the metrics, `title` what a report calls it; `reads_labels` says
    whether the labels shown of an account change its scores.
    """

    name: str
    title: str
    reads_labels: bool

    def fit(self, rows: Rows, split: Split, learner: Learner, seed: int) -> None:
        """Learn and tune from rows as known when training ended; `learner` is what it made."""

    def scores(self, rows: Rows, scored: NDArray[np.intp], limit: int = SUPPORT_LIMIT) -> Floats:
        """How suspicious the scored rows (ascending) are, as they would be served: [A]."""

    @property
    def chosen(self) -> Chosen:
        """The setting that the held-out accounts chose, and why it may be worth nothing."""


RIVALS: tuple[type[Tuned[Any, Any]], ...] = (
    RecencyRule,
    LikenessRule,
    FineTuned,
    XGBoost,
    XGBoostSupport,
    LightGBM,
    LightGBMSupport,
    LogisticRegression,
    RobustZ,
    IsolationForest,
    NearestNeighbours,
    Prototypes,
    DevNet,
    RiverOnline,
)


def rivals(names: Sequence[str] | None = None) -> list[Rival]:
    """The rivals of these names, in their order; without names, all whose library is installed.

    Raises ValueError for a name that is none, or whose library is not installed.
    """
    if names is None:
        return [rival() for rival in RIVALS if _installed(rival)]
    by_name = {rival.name: rival for rival in RIVALS}
    for name in names:
        if name not in by_name:
            raise ValueError(f"unknown rival {name!r}; choose from {', '.join(by_name)}")
        if not _installed(by_name[name]):
            library = by_name[name].library
            raise ValueError(f"{name} needs {library}: pip install '.[rivals]'")
    return [by_name[name]() for name in names]


def _installed(rival: type[Tuned[Any, Any]]) -> bool:
    return rival.library is None or find_spec(rival.library) is not None

"""What an account's known labels say of a transaction: how many, how near, how unlike.

Axes: A scored rows, K places for labels, P different rows among both, E columns, O of them the
transaction's own quantities, J ages and counts, S columns of the summary.
"""

from collections.abc import Iterator
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from app.learner.adaptation import select_support
from app.learner.features import Features
from app.learner.states import Floats
from app.learner.transaction import DAY_US, HOUR_US
from app.training.episodes import SUPPORT_SIZES, Rows, served
from app.training.rivals.tuning import Population, codes_of

# An hour, a day, a week, a month and ever.
HALF_LIVES_DAYS = (1 / 24, 1.0, 7.0, 30.0, np.inf)
SAME_HALF_LIFE_DAYS = 7.0
# What the population weighs beside an account's own labels, in labels.
PRIOR_LABELS = 2.0
ROWS_AT_ONCE = 4096


class Labels(NamedTuple):
    """The labels that A rows are served with, newest first; a place left over is of neither.

    `row_P` are the rows that it takes, scored and labelled, each once; `scored_A` and `at_AK` say
    where among them the scored rows and their labelled ones are.
    """

    row_P: NDArray[np.intp]
    scored_A: NDArray[np.intp]
    at_AK: NDArray[np.intp]
    legitimate_AK: NDArray[np.bool_]
    fraud_AK: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rows: Rows,
        scored: NDArray[np.intp],
        limit: int,
        rng: np.random.Generator | None = None,
    ) -> Self:
        """The labels of the scored rows (ascending) as served, each row with those of its moment.

        With `rng`, an account's rows of a day show no more of them than one of SUPPORT_SIZES
        drawn, as in the episodes of training, so that few labels are learned from as well. One
        draw holds for the day: with one a row, rows next to each other would have labels come and
        go as no account sees them. Rows that share an episode go by the day of its first.
        """
        chosen, sizes = [], []
        drawn: tuple[int, int, int] | None = None
        for support, query in served(rows, scored, limit):
            if rng is not None:
                account, day = rows.account_N[query[0]], rows.time_us_N[query[0]] // DAY_US
                if drawn is None or drawn[:2] != (account, day):
                    drawn = account, day, int(rng.choice(SUPPORT_SIZES))
                support = support[select_support(rows.is_fraud_N[support] == 1, drawn[2])]
            chosen.append(support)
            sizes.append(len(query))
        row_BK = np.full((len(chosen), max(map(len, chosen))), -1, np.intp)
        for row_K, support in zip(row_BK, chosen, strict=True):
            row_K[: len(support)] = support
        row_AK = np.repeat(row_BK, sizes, axis=0)
        is_fraud_AK = rows.is_fraud_N[row_AK] == 1
        # A place left over stands for the scored row itself, which is encoded anyway.
        row_P, place = np.unique(
            np.concatenate([scored, np.where(row_AK < 0, scored[:, None], row_AK).ravel()]),
            return_inverse=True,
        )
        return cls(
            row_P,
            place[: len(scored)],
            place[len(scored) :].reshape(row_AK.shape),
            (row_AK >= 0) & ~is_fraud_AK,
            (row_AK >= 0) & is_fraud_AK,
        )

    def chunks(self) -> Iterator[Self]:
        """The same labels, few enough scored rows at a time to gather what they are compared by."""
        row_P, scored_A, at_AK, legitimate_AK, fraud_AK = self
        for first in range(0, len(scored_A), ROWS_AT_ONCE):
            some = slice(first, first + ROWS_AT_ONCE)
            yield type(self)(
                row_P, scored_A[some], at_AK[some], legitimate_AK[some], fraud_AK[some]
            )


def distances(column_PE: Features, labels: Labels) -> Features:
    """The mean square over the columns between a scored row and each of its labels: [A, K]."""
    squares = []
    for some in labels.chunks():
        gap_AKE = column_PE[some.at_AK] - column_PE[some.scored_A, None]
        squares.append(np.square(gap_AKE, out=gap_AKE).mean(2))
    return np.concatenate(squares)


def summary(population: Population, rows: Rows, labels: Labels) -> Features:
    """What trees are shown of labels: ages and counts, likeness, distances and z-scores: [A, S].

    First the columns of `ages`, then those of `likeness`; then the distance to the nearest label
    of either class, by the transaction's own columns and by all; last the z-scores against the
    legitimate labels. What needs a label is NaN where there is none.
    """
    column_PE = population.encode(rows.features_NF[labels.row_P])
    own_PE = column_PE[:, population.is_own_E]
    columns = [ages(rows, labels), likeness(rows, labels)]
    for square_AK in (distances(own_PE, labels), distances(column_PE, labels)):
        for label_AK in (labels.legitimate_AK, labels.fraud_AK):
            nearest_A = np.where(label_AK, square_AK, np.inf).min(1, initial=np.inf)
            columns.append(np.where(np.isinf(nearest_A), np.nan, nearest_A)[:, None])
    columns.append(_surprise(column_PE[:, population.own_O], labels))
    return np.concatenate(columns, axis=1, dtype=np.float32)


def ages(rows: Rows, labels: Labels) -> Features:
    """How old and how many the labels of each class are: [A, J], 19 columns.

    For the legitimate labels and then for the frauds: whether there is one, log1p of the hours
    since the newest (NaN without one), 1 / (1 + hours) (0 without one), and log1p of the counts
    decayed at HALF_LIVES_DAYS. Then the difference of the two log ages, the share of frauds
    (nF + .3) / (nF + nL + 1), and log((nF + .5) / (nL + .5)).
    """
    hours_AK = age_days(rows, labels) * (DAY_US / HOUR_US)
    columns, newest = [], []
    for label_AK in (labels.legitimate_AK, labels.fraud_AK):
        hours_A = np.where(label_AK, hours_AK, np.inf).min(1, initial=np.inf)
        has_label_A = np.isfinite(hours_A)
        newest.append(np.where(has_label_A, np.log1p(hours_A), np.nan))
        columns += [has_label_A, newest[-1], 1 / (1 + hours_A)]
        for half_life in HALF_LIVES_DAYS:
            decayed_AK = label_AK * np.exp2(-hours_AK / (24 * half_life))
            columns.append(np.log1p(decayed_AK.sum(1)))
    legitimate_A, frauds_A = labels.legitimate_AK.sum(1), labels.fraud_AK.sum(1)
    columns += [
        newest[1] - newest[0],
        (frauds_A + 0.3) / (frauds_A + legitimate_A + 1),
        np.log((frauds_A + 0.5) / (legitimate_A + 0.5)),
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def likeness(rows: Rows, labels: Labels) -> Features:
    """How many labels have the same code as the row, for each code or identity: [A, 4 * codes].

    Frauds and then legitimate ones, each decayed with a half-life of SAME_HALF_LIFE_DAYS and
    then plain. What has no code (0) is like nothing.
    """
    decay_AK = np.exp2(-age_days(rows, labels) / SAME_HALF_LIFE_DAYS)
    counts = []
    for feature in codes_of(rows.kinds):
        code_P = rows.features_NF[labels.row_P, feature]
        code_A1 = code_P[labels.scored_A, None]
        is_same_AK = (code_P[labels.at_AK] == code_A1) & (code_A1 > 0)
        for label_AK in (labels.fraud_AK, labels.legitimate_AK):
            same_AK = is_same_AK & label_AK
            counts += [(same_AK * decay_AK).sum(1), same_AK.sum(1)]
    if not counts:
        return np.zeros((len(labels.scored_A), 0), np.float32)
    return np.stack(counts, axis=1).astype(np.float32)


def age_days(rows: Rows, labels: Labels) -> Floats:
    """How much older each labelled row is, 0 at a place left over: [A, K]."""
    time_us_P = rows.time_us_N[labels.row_P]
    age_AK: Floats = (time_us_P[labels.scored_A, None] - time_us_P[labels.at_AK]) / DAY_US
    return age_AK


def _surprise(own_PO: Features, labels: Labels) -> Features:
    """z-scores of the own quantities against the legitimate labels and the population: [A, O]."""
    own_AKO, is_usual_AK1 = own_PO[labels.at_AK], labels.legitimate_AK[:, :, None]
    weight_A1 = labels.legitimate_AK.sum(1, keepdims=True) + PRIOR_LABELS
    mean_AO = (own_AKO * is_usual_AK1).sum(1) / weight_A1
    squares_AKO = np.square(own_AKO - mean_AO[:, None]) * is_usual_AK1
    spread_AO = np.sqrt((squares_AKO.sum(1) + PRIOR_LABELS) / weight_A1)
    surprise_AO: Features = (own_PO[labels.scored_A] - mean_AO) / spread_AO
    return surprise_AO

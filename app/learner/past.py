"""Networks of earlier versions, as this version's: for scores that are stored with their features.

Before labels were read payment by payment, a network read six counts of them: the legitimate and
the fraud labels, whole and with half-lives of 30 and 7 days. Those are inputs still, so its weights
find their places among those of now, and the others are 0. What it did otherwise, the kernels do
for it where a network is of the past (`is_past`): a labelled row saw all labels, itself among
them; ages were counted from the newest label; the inner loss was a mean; and what lay beyond the
values of training was scaled like any other.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from app.learner.features import Kind, kind_by_name
from app.learner.kernels.features import CODE
from app.learner.network import LABEL_HALF_LIVES_DAYS, MEMBERS, Columns, Weights

RELATION = "network.relation.weight"
# Whole, and with half-lives of 30 and 7 days: the first of those of now.
PAST_HALF_LIVES = 3
PAST_COUNTS = 2 * PAST_HALF_LIVES
assert LABEL_HALF_LIVES_DAYS[:PAST_HALF_LIVES] == (float("inf"), 30.0, 7.0)


def kinds_of(names: Sequence[str], own: int, has_entities: bool) -> tuple[Kind, ...]:
    """The kinds of features by their names, of which the first `own` quantities are the payment's.

    Before there were entities, amounts were like any other quantity.
    """
    # A number may be called a code, too; but of a number it says whether it is missing.
    codes = {name for name in names if name.endswith(CODE) and f"{name}_missing" not in names}
    of_payment = [
        name for name in names if name not in codes and not (has_entities and name == "log_amount")
    ][:own]
    return tuple(
        "code"
        if name in codes
        else "own"
        if name in of_payment
        else kind_by_name(name)
        if has_entities
        else "history"
        for name in names
    )


def own_of(weights: Weights) -> int:
    """How many of its features a past network sets against an account's labels."""
    relation = weights.get(RELATION)
    return 0 if relation is None or relation.ndim != 2 else relation.shape[1] - PAST_COUNTS


def translated(weights: Weights, kinds: Sequence[Kind]) -> Weights:
    """The arrays of a past network as this version names and shapes them.

    Those that are missing or of another shape are left as they are, for whoever checks shapes.
    """
    columns, relation = Columns.of(kinds), weights.get(RELATION)
    own = len(columns.own)
    if relation is None or relation.ndim != 2 or relation.shape[1] != own + PAST_COUNTS:
        return weights
    read = np.zeros((len(relation), own + columns.label_inputs), np.float32)
    read[:, :own] = relation[:, :own]
    for life in range(PAST_HALF_LIVES):
        for label in range(2):
            read[:, own + label * columns.class_inputs + life] = relation[:, own + 2 * life + label]
    direct = np.zeros((columns.label_inputs, MEMBERS), np.float32)
    added: Mapping[str, np.ndarray] = {
        RELATION: read,
        "network.wide_relation_IM": direct,
        # A prior of no label: the mean.
        "log_prior": np.array(-np.inf, np.float32),
    }
    return {**weights, **added}

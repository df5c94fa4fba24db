"""The network's numbers: its size, its constants, and the arrays that a checkpoint keeps of it
and of the trees beside it.

What it computes with them is defined in `differentiable/network.py`, in PyTorch, and compiled in
`kernels/network.pyx`. Axes are named there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.learner.algorithms import Algorithm
from app.learner.features import Kind

# A learner's arrays by their names in a checkpoint.
Weights = Mapping[str, NDArray[np.floating[Any]]]

BINS = 40
MEMBERS = 4
HIDDEN = 32
KNOWN_VALUES = 32
# A label is worth half as much after so many days; the first is a plain count.
LABEL_HALF_LIVES_DAYS = (float("inf"), 30.0, 7.0, 1.0, 1 / 24)
# How alike a payment and labelled ones are is counted plainly, and with a half-life of a week.
ALIKE_HALF_LIVES = (0, 2)
# Of a class without labels: older than any label.
NEVER_DAYS = 1e6
# Of a class of labels: counts, whether there is any, its age in two ways, and the most alike.
OF_CLASS = len(LABEL_HALF_LIVES_DAYS) + 5
LIKEST = len(LABEL_HALF_LIVES_DAYS) + 3
# Of both classes: which is younger, the share of frauds, and its log-odds.
OF_BOTH = 3
# Scaled values further out than this say nothing more, and could only break the network.
CLIP = 8.0
# Log-odds for each range of values that training saw by which an amount or a pace lies beyond it.
# Not for each spread: a pace that was nearly always 0 in training has next to none.
BEYOND = 0.25
# Log-odds that an amount adds at least on its way through the last values that training saw, where
# only one row in 2,000 is.
LEAST_RISE = 0.6
# Of logarithms, and of spreads of them: so far do these values reach at least where it is as much.
WIDTH_OF_RISE = 5.0
# What the population weighs beside an account's own legitimate labels, in labels.
PRIOR_LABELS = 2.0
LEAST_WIDTH = 1e-6
INNER_STEPS = 5
# Trees, where there are some, are whole: so many questions one after another, each with a place.
TREE_DEPTH = 4
SPLITS = 2**TREE_DEPTH - 1
NODES = 2 ** (TREE_DEPTH + 1) - 1
# Their arrays, which a checkpoint without trees has none of.
TREES = {"network.trees.column_JS": SPLITS, "network.trees.edge_JS": SPLITS}
TREES["network.trees.value_JV"] = NODES

# The layers of a head, and the network's parameters that are the base's.
HEAD = {
    "weight_BMHH": "inner_weight_MHH",
    "bias_BMH": "inner_bias_MH",
    "out_weight_BMH": "out_weight_MH",
    "out_bias_BM": "out_bias_M",
}
# ANIL (Raghu et al., ICLR 2020) adapts the last layer alone, the others the inner one as well.
LAST_LAYER = ("out_weight_BMH", "out_bias_BM")


class Columns(NamedTuple):
    """Which features are quantities, which are codes, and which quantities are the payment's own.

    `own` are positions among the quantities. Only these are set against the account's labels: what
    is history is relative already, and a merchant's risk is none of the account's habits.
    `compared` are codes and identities, in the order of the features: of two payments they are the
    same or they are not. Identities are nothing else: millions of values, most of them in no
    training file. `used` has for each kind of entity where its identity stands, and where whether
    the account has used it before. `refused` are counts of attempts that were refused.
    """

    quantities: list[int]
    codes: list[int]
    own: list[int]
    compared: list[int]
    used: list[tuple[int, int]]
    refused: list[int]

    @classmethod
    def of(cls, kinds: Sequence[Kind]) -> "Columns":
        """The columns of features of these kinds [F], as `FeatureSet.kinds` has them."""
        quantities = [f for f, kind in enumerate(kinds) if kind not in ("code", "identity")]
        codes = [f for f, kind in enumerate(kinds) if kind == "code"]
        own = [z for z, f in enumerate(quantities) if kinds[f] == "own"]
        compared = [f for f, kind in enumerate(kinds) if kind in ("code", "identity")]
        identities = [f for f, kind in enumerate(kinds) if kind == "identity"]
        used = [
            (max(before), f)
            for f, kind in enumerate(kinds)
            if kind == "used" and (before := [i for i in identities if i < f])
        ]
        refused = [f for f, kind in enumerate(kinds) if kind == "refused"]
        return cls(quantities, codes, own, compared, used, refused)

    @property
    def label_inputs(self) -> int:
        """How many numbers an account's labels give for a row."""
        return OF_BOTH + 2 * self.class_inputs

    @property
    def class_inputs(self) -> int:
        """How many of these are of one class of labels."""
        return OF_CLASS + len(ALIKE_HALF_LIVES) * len(self.compared)

    @property
    def likest_inputs(self) -> list[int]:
        """Where among them stands how alike the most alike legitimate label is, the most alike
        fraud, and how many frauds there are.
        """
        return [LIKEST, self.class_inputs + LIKEST, self.class_inputs]


def amounts(kinds: Sequence[Kind]) -> list[int]:
    """Which quantities rise with the amount: the log-odds may only rise with them."""
    quantities = Columns.of(kinds).quantities
    return [z for z, f in enumerate(quantities) if kinds[f] == "amount"]


def surprising(kinds: Sequence[Kind]) -> list[int]:
    """Which quantities are a surprise where they are larger than any that training saw."""
    quantities = Columns.of(kinds).quantities
    return [z for z, f in enumerate(quantities) if kinds[f] in ("amount", "pace", "refused")]


def adapted_layers(algorithm: Algorithm) -> tuple[str, ...]:
    """The layers of the head that each account has its own of."""
    return LAST_LAYER if algorithm == "anil" else tuple(HEAD)


def step_shape(algorithm: Algorithm, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of the step sizes of a layer: one size a step, whatever the layer's own `shape`.

    Meta-SGD (Li et al., 2017) has one for every parameter.
    """
    return (INNER_STEPS, *(shape if algorithm == "meta-sgd" else [1] * len(shape)))


def trees_of(weights: Weights) -> int:
    """How many trees there are beside a network."""
    return max((len(np.atleast_1d(weights[name])) for name in TREES if name in weights), default=0)


def shapes(
    kinds: Sequence[Kind], algorithm: Algorithm, trees: int = 0
) -> dict[str, tuple[int, ...]]:
    """The shape of each array of a learner with so many trees, by its name in a checkpoint."""
    columns = Columns.of(kinds)
    quantities, codes, own, inputs = (
        len(columns.quantities),
        len(columns.codes),
        len(columns.own),
        columns.label_inputs,
    )
    units = MEMBERS * HIDDEN
    network = {
        "encoder.mean_Z": (quantities,),
        "encoder.spread_Z": (quantities,),
        "encoder.edges_ZT": (quantities, BINS + 1),
        "encoder.known_CV": (codes, KNOWN_VALUES),
        "rises_ZTU": (quantities, BINS, units),
        "wide_rises_ZTM": (quantities, BINS, MEMBERS),
        "values_VU": (codes * (KNOWN_VALUES + 1), units),
        "scaled_ZU": (quantities, units),
        "bias_U": (units,),
        "relation.weight": (units, own + inputs),
        "wide_relation_IM": (inputs, MEMBERS),
        "inner_weight_MHH": (MEMBERS, HIDDEN, HIDDEN),
        "inner_bias_MH": (MEMBERS, HIDDEN),
        "out_weight_MH": (MEMBERS, HIDDEN),
        "out_bias_M": (MEMBERS,),
    }
    steps = {
        layer: step_shape(algorithm, network[HEAD[layer]]) for layer in adapted_layers(algorithm)
    }
    return {
        "gate.trust": (),
        "gate.heed": (),
        "gate.reach": (),
        "gate.habit": (),
        "gate.pardon": (),
        "log_prior": (),
        **{f"network.{name}": shape for name, shape in network.items()},
        **({name: (trees, size) for name, size in TREES.items()} if trees else {}),
        **{f"log_step_sizes.{layer}": shape for layer, shape in steps.items()},
    }

from collections.abc import Sequence

from app.learner.algorithms import Algorithm
from app.learner.features import Features, Kind
from app.learner.network import Weights
from app.learner.states import Floats, Ints

class Network:
    features: int
    copy_size: int
    population_1F: Features

    def __init__(
        self,
        kinds: Sequence[Kind],
        algorithm: Algorithm,
        weights: Weights,
        is_past: bool = False,
    ) -> None: ...
    def encode(self, features_NF: Features, day_N: Floats) -> Floats: ...
    def logits(self, encoded_NX: Floats, copies_BW: Floats, copy_N: Ints) -> Floats: ...

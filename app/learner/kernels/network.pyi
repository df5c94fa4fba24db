from torch import Tensor

from app.learner.differentiable.adaptation import Learner
from app.learner.features import Features
from app.learner.states import Floats, Ints

class Network:
    features: int
    copy_size: int
    population_1F: Features

    def __init__(self, learner: Learner, knots: Tensor) -> None: ...
    def encode(self, features_NF: Features, day_N: Floats) -> Floats: ...
    def logits(self, encoded_NE: Floats, copies_BW: Floats, copy_N: Ints) -> Floats: ...

import numpy as np
from numpy.typing import NDArray

from app.learner.features import Features
from app.learner.kernels.network import Network
from app.learner.states import Floats

class Learner(Network):
    def unadapted(self) -> Floats: ...
    def learn(
        self,
        features_KF: Features,
        day_K: Floats,
        is_fraud_K: NDArray[np.uint8],
        copy_W: Floats,
    ) -> tuple[float, float, float, float]: ...

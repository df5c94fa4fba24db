from app.learner.features import Features
from app.learner.kernels.network import Network
from app.learner.states import Floats

def attribute(
    network: Network,
    features_1F: Features,
    day_1: Floats,
    past_KF: Features,
    copy_W: Floats,
) -> tuple[float, float, Floats, float]: ...

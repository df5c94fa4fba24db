from app.features import Features
from app.kernels.network import Network
from app.states import Floats

def attribute(
    network: Network,
    features_1F: Features,
    day_1: Floats,
    past_KF: Features,
    copy_W: Floats,
) -> tuple[float, float, Floats, float]: ...

"""The rivals' model: a PyTorch module for each account, its features at hand, nothing stored.

A network of 30 features and 64-64 units an account, smaller than Quickstudy's. Knows only torch:
what a rival adds to it is how it takes requests and gathers them.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

ACCOUNTS, FEATURES, UNITS = 256, 30, 64
# As many as there are connections: a full batch waits for nobody.
BATCH, BATCH_MILLISECONDS = 32, 5

torch.set_num_threads(1)
torch.manual_seed(0)


class Model(NamedTuple):
    """What there is of one account."""

    module: nn.Sequential
    features_1F: Tensor

    @torch.inference_mode()
    def score(self, payment: dict[str, Any]) -> dict[str, Any]:
        """The answer to a payment, as it was posted."""
        probability: float = self.module(self.features_1F).sigmoid().item()
        return {"transaction_id": payment["transaction_id"], "probability": probability}


def network() -> nn.Sequential:
    """A copy for one account."""
    return nn.Sequential(
        nn.Linear(FEATURES, UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, UNITS),
        nn.ReLU(),
        nn.Linear(UNITS, 1),
    )


MODELS = [Model(network(), torch.randn(1, FEATURES)) for _ in range(ACCOUNTS)]


def model_of(account_id: str) -> Model:
    return MODELS[int(account_id[1:]) % ACCOUNTS]


def score(payment: dict[str, Any]) -> dict[str, Any]:
    """The answer of its account's module."""
    return model_of(payment["account_id"]).score(payment)

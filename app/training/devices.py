"""Which device trains and measures."""

import os

import torch

from app.learner.devices import choose_device


def training_device(name: str) -> str:
    """What computes: a GPU, or the CPU by one thread unless OMP_NUM_THREADS states how many.

    The matrices of a step are small: threads wait for each other longer than they compute.

    Raises SetupError for a device that is not there.
    """
    device = choose_device(name)
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    return device

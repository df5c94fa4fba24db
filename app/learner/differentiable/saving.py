"""A learner to a checkpoint, and back: for training, and for GPUs."""

from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from app.learner.checkpoint import Checkpoint, Metadata, write_checkpoint
from app.learner.differentiable.adaptation import Learner
from app.learner.network import Weights, trees_of


def save_checkpoint(folder: Path, learner: Learner, metadata: Metadata) -> str:
    """Write a checkpoint and give its digest, as `write_checkpoint` does."""
    tensors = {name: tensor.contiguous() for name, tensor in learner.state_dict().items()}
    return write_checkpoint(folder, save_tensors(tensors), metadata)


def learner_of(checkpoint: Checkpoint) -> Learner:
    """A learner of its own with the checkpoint's weights, in float32 on the CPU."""
    trees = trees_of(checkpoint.weights)
    learner = Learner(checkpoint.features.kinds, checkpoint.metadata.algorithm, trees)
    learner.load_state_dict(
        {name: torch.tensor(array) for name, array in checkpoint.weights.items()}
    )
    return learner.eval()


def weights_of(learner: Learner) -> Weights:
    """The arrays of a learner on the CPU, which are not copied."""
    return {name: tensor.detach().numpy() for name, tensor in learner.state_dict().items()}

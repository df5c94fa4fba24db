"""Tiny checkpoints for tests of what stands on a model: real parts, random but telling weights."""

from pathlib import Path

import numpy as np
import torch

from app.adaptation import Learner
from app.checkpoint import Calibration, Data, Decisions, Metadata, save_checkpoint
from app.features import FeatureSet
from app.transactions import DatasetSpec


def tiny_checkpoint(folder: Path, spec: DatasetSpec | None = None, seed: int = 0) -> Path:
    """Write a checkpoint into `folder`: its scores differ by account, amount and label."""
    spec = spec or DatasetSpec.load("simulated")
    features = FeatureSet(spec)
    torch.manual_seed(seed)
    learner = Learner(features.kinds)
    random = np.random.default_rng(seed).normal(1.0, 1.0, (256, len(features.names)))
    learner.network.encoder.fit(random.astype(np.float32))
    metadata = Metadata(
        name="tiny",
        created_at="2026-01-01T00:00:00Z",
        spec=spec,
        features=features.names,
        features_digest=features.digest,
        algorithm="maml",
        step_sizes=tuple(map(tuple, learner.log_step_sizes_SL.exp().tolist())),
        calibration=Calibration(slope=1.0, shift=-2.0),
        decisions=Decisions(review=0.12, decline=0.3),
        data=Data(sha256="0" * 64, transactions=256, accounts=1, frauds=1, first="", last=""),
        seed=seed,
        options={},
        metrics={},
        versions={},
    )
    save_checkpoint(folder, learner, metadata)
    return folder

"""Tiny checkpoints for tests of what stands on a model: real parts, random but telling weights."""

from pathlib import Path

import numpy as np
import torch

from app.adaptation import Algorithm, Learner
from app.checkpoint import Calibration, Data, Decisions, Metadata, save_checkpoint
from app.features import FeatureSet
from app.training import bins
from app.transactions import DatasetSpec


def tiny_checkpoint(
    folder: Path,
    spec: DatasetSpec | None = None,
    seed: int = 0,
    algorithm: Algorithm = "anil",
    trust: float = 3.0,
    heed: float = 1.0,
) -> Path:
    """Write a checkpoint into `folder`: its scores differ by account, amount and label.

    Its gate heeds evidence, so accounts also differ in how far their copies are followed.
    """
    spec = spec or DatasetSpec.load("simulated")
    features = FeatureSet(spec)
    torch.manual_seed(seed)
    learner = Learner(features.kinds, algorithm)
    random = np.random.default_rng(seed).normal(1.0, 1.0, (256, len(features.names)))
    bins.fit(learner.network.encoder, random.astype(np.float32), random[:, 0] > 2)
    with torch.no_grad():
        learner.network.wide_rises_ZTM.normal_(0, 0.02)
    learner.gate.set(trust, heed)
    metadata = Metadata(
        name="tiny",
        created_at="2026-01-01T00:00:00Z",
        spec=spec,
        features=features.names,
        features_digest=features.digest,
        algorithm=algorithm,
        step_sizes={layer: tuple(sizes) for layer, sizes in learner.step_sizes.items()},
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

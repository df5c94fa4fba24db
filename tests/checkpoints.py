"""Tiny checkpoints for tests of what stands on a model: real parts, random but telling weights."""

from pathlib import Path

import numpy as np
import torch

from app.learner.algorithms import Algorithm
from app.learner.checkpoint import Calibration, Data, Decisions, Metadata
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.saving import save_checkpoint
from app.learner.features import FeatureSet
from app.learner.money import Rates
from app.learner.profile import Histogram, Profile
from app.learner.spec import DatasetSpec
from app.learner.states import Floats
from app.training import bins


def tiny_checkpoint(
    folder: Path,
    spec: DatasetSpec | None = None,
    seed: int = 0,
    algorithm: Algorithm = "anil",
    trust: float = 3.0,
    heed: float = 1.0,
    profile: Profile | None = None,
    rates: Rates | None = None,
) -> Path:
    """Write a checkpoint into `folder`: its scores differ by account, amount and label.

    Its gate heeds evidence, so accounts also differ in how far their copies are followed.
    """
    spec = spec or DatasetSpec.load("simulated")
    features = FeatureSet(spec, rates)
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
        calibration=Calibration(slope=1.0, shift=-3.5),
        decisions=Decisions(review=0.12, decline=0.3),
        data=Data(sha256="0" * 64, transactions=256, accounts=1, frauds=1, first="", last=""),
        seed=seed,
        options={},
        metrics={},
        versions={},
        profile=profile or _profile(features, random),
        rates=rates,
    )
    save_checkpoint(folder, learner, metadata)
    return folder


def _profile(features: FeatureSet, random_NF: Floats) -> Profile:
    is_fraud_N = random_NF[:, 0] > 2
    return Profile(
        first="2026-01-01T00:00:00.000000Z",
        last="2026-01-28T00:00:00.000000Z",
        transactions=len(random_NF),
        accounts=64,
        frauds=int(is_fraud_N.sum()),
        features={
            name: Histogram.of(random_NF[:, f], is_fraud_N) for f, name in enumerate(features.names)
        },
        score=Histogram.of(np.clip(random_NF[:, 0] / 8, 0, 1), is_fraud_N),
    )

"""Tiny checkpoints for tests of what stands on a model: real parts, random weights that differ."""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from app.learner.algorithms import Algorithm
from app.learner.checkpoint import Data, Decisions, Files, Metadata
from app.learner.decisions import Calibration
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.saving import save_checkpoint
from app.learner.features import FeatureSet, Kind, without_identities
from app.learner.money import Rates
from app.learner.network import LABEL_HALF_LIVES_DAYS, OF_BOTH
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
    likeness: float = 0.0,
    trees: bool = True,
) -> Path:
    """Write a checkpoint into `folder`: its scores differ by account, amount and label.

    Its gate heeds evidence, so accounts also differ in how far their copies are followed.
    `likeness` is the log-odds that a payment gains which is in all like a labelled fraud, and
    loses which is like a legitimate one. `trees` is whether its training might grow any.
    """
    spec = spec or DatasetSpec.load("simulated")
    features = FeatureSet(spec, rates)
    drawn = _drawn(features.names, features.kinds, algorithm, seed)
    learner = Learner(features.kinds, algorithm)
    learner.load_state_dict(drawn.weights)
    network = learner.network
    if likeness:
        with torch.no_grad():
            # Of each class the share of the most alike.
            most_alike = len(LABEL_HALF_LIVES_DAYS) + 3
            network.wide_relation_IM[most_alike] -= likeness
            network.wide_relation_IM[_of_legitimate(learner) + most_alike] += likeness
    learner.gate.set(trust, heed)
    metadata = Metadata(
        name="tiny",
        created_at="2026-01-01T00:00:00Z",
        spec=spec,
        features=features.names,
        features_digest=features.digest,
        algorithm=algorithm,
        step_sizes={layer: tuple(sizes) for layer, sizes in learner.step_sizes.items()},
        calibration=Calibration(slope=1.0, shift=-2.5),
        decisions=Decisions(review=0.12, decline=0.3),
        data=Data(sha256="0" * 64, transactions=256, accounts=1, frauds=1, first="", last=""),
        seed=seed,
        options={"trees": trees},
        metrics={},
        versions={},
        profile=profile or drawn.profile,
        rates=rates,
    )
    save_checkpoint(folder, learner, metadata)
    return folder


def signed(described: dict[str, Any], weights: bytes) -> Files:
    """The files of a checkpoint that says so, as if it had been saved."""
    described = described | {"weights_sha256": hashlib.sha256(weights).hexdigest()}
    described.pop("digest", None)
    canonical = json.dumps(described, sort_keys=True, separators=(",", ":"))
    described["digest"] = hashlib.sha256(canonical.encode()).hexdigest()
    return Files((json.dumps(described, indent=2) + "\n").encode(), weights)


class _Drawn(NamedTuple):
    weights: dict[str, torch.Tensor]
    profile: Profile


@cache
def _drawn(
    names: tuple[str, ...], kinds: tuple[Kind, ...], algorithm: Algorithm, seed: int
) -> _Drawn:
    """Random weights, once: to fit the bins takes longer than what most tests do with them."""
    torch.manual_seed(seed)
    learner = Learner(kinds, algorithm)
    network = learner.network
    random = np.random.default_rng(seed).normal(1.0, 1.0, (256, len(names)))
    bins.fit(network.encoder, random.astype(np.float32), random[:, 0] > 2)
    with torch.no_grad():
        network.wide_rises_ZTM.normal_(0, 0.02)
        # What labels say directly is as if it were learned: frauds speak for fraud.
        of_legitimate = _of_legitimate(learner)
        network.wide_relation_IM[:of_legitimate] = -0.05
        network.wide_relation_IM[of_legitimate:] = 0.05
    return _Drawn(learner.state_dict(), _profile(names, kinds, random))


def _of_legitimate(learner: Learner) -> int:
    """How many of the inputs from labels are of legitimate ones: the first."""
    return (learner.network.encoder.label_inputs - OF_BOTH) // 2


def _profile(names: tuple[str, ...], kinds: tuple[Kind, ...], random_NF: Floats) -> Profile:
    is_fraud_N = random_NF[:, 0] > 2
    return Profile(
        first="2026-01-01T00:00:00.000000Z",
        last="2026-01-28T00:00:00.000000Z",
        transactions=len(random_NF),
        accounts=64,
        frauds=int(is_fraud_N.sum()),
        features={
            names[f]: Histogram.of(random_NF[:, f], is_fraud_N) for f in without_identities(kinds)
        },
        score=Histogram.of(np.clip(random_NF[:, 0] / 8, 0, 1), is_fraud_N),
    )

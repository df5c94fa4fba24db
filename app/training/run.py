"""A training run in a folder: from a file to a checkpoint, resumable, and usable when stopped."""

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors

from app import __version__
from app.learner.checkpoint import AlertBudget, Checkpoint, Costs, Data, Metadata, replace_file
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.saving import learner_of, save_checkpoint
from app.learner.differentiable.trees import Trees
from app.learner.features import FeatureSet
from app.learner.money import Rates
from app.learner.spec import DatasetSpec
from app.training.dataset import UNLABELLED, Dataset, read_transactions
from app.training.decisions import thresholds
from app.training.episodes import Rows
from app.training.evaluate import (
    Predictions,
    average_precision,
    calibrate,
)
from app.training.files import digest_of
from app.training.left_out import LeftOut
from app.training.parts import Parts, data_of
from app.training.profile import profile_of
from app.training.ranks import ALONE, Ranks
from app.training.report.card import model_card
from app.training.train import Options, Split, Status, Trainer
from app.training.trees import fit_held_out

# Beside the checkpoint while training goes on: one file, so that it is whole or absent.
UNFINISHED = "training.safetensors"

Watch = Callable[[Status], bool]


class Source(NamedTuple):
    """Transactions as read, the digest of their files, and the rates that compare amounts."""

    dataset: Dataset
    sha256: str
    rates: Rates | None = None

    @classmethod
    def read(cls, path: Path, spec: DatasetSpec, rates: Rates | None = None) -> "Source":
        """What a file, a folder or a pattern holds by a spec. Raises DataError."""
        return cls(read_transactions(path, spec, rates), digest_of(path, spec.file), rates)

    @property
    def data(self) -> Data:
        """What a checkpoint keeps of what it was trained on."""
        dataset, time_us_N = self.dataset, self.dataset.columns.time_us_N
        return data_of(
            self.sha256,
            len(dataset),
            len(dataset.accounts),
            int((dataset.is_fraud_N == 1).sum()),
            int(time_us_N[0]),
            int(time_us_N[-1]),
        )

    @property
    def newest_us(self) -> int:
        return int(self.dataset.columns.time_us_N[-1])

    @property
    def without_rate(self) -> dict[str, int]:
        return self.dataset.without_rate

    @property
    def left_out(self) -> LeftOut | None:
        return self.dataset.left_out

    def rows(self, features: FeatureSet, ranks: Ranks = ALONE) -> Rows:
        """The rows of a rank's accounts."""
        return Rows.of(self.dataset, features).share(ranks)


def train_checkpoint(
    source: Source | Parts,
    spec: DatasetSpec,
    folder: Path,
    options: Options,
    device: str,
    watch: Watch,
    resume: bool = False,
    stated: AlertBudget | Costs | None = None,
    ranks: Ranks = ALONE,
    start: Checkpoint | None = None,
) -> Metadata | None:
    """Train on all labelled transactions of a file and leave a checkpoint in `folder`.

    The thresholds follow what is `stated` of them. With a `start`, which is a model of the same
    features and algorithm, training goes on from its weights.
    When `watch` stops the training, the checkpoint holds the best learner so far and the folder
    also what `resume` goes on from. Raises ValueError where there is nothing to learn from or
    nothing (or something else) to resume.

    Of several ranks each has the same source and trains on its share of the accounts; rank 0
    writes the folder and gives the metadata.
    """
    features = FeatureSet(spec, source.rates)
    learner = None if start is None else _begun_with(start, features, options)
    rows = source.rows(features, ranks)
    labelled = rows.is_fraud_N != UNLABELLED
    end_us = max(ranks.gather(int(rows.time_us_N.max(initial=0)))) + 1
    split = Split.of(rows, labelled, end_us, options.seed, ranks)
    trainer = Trainer(rows, split, options, device, ranks, learner)
    identity = {"data": source.sha256, "features": features.digest, "options": asdict(options)}
    if resume:
        _restore(trainer, folder, identity)
    folder.mkdir(parents=True, exist_ok=True)

    def watch_and_keep(status: Status) -> bool:
        if status.held_out_loss is not None and trainer.sample:
            _keep(trainer, folder, identity)
        return watch(status)

    trainer.run(watch_and_keep)
    if trainer.sample is None:
        return None
    if trainer.done:
        (folder / UNFINISHED).unlink(missing_ok=True)
    else:
        _keep(trainer, folder, identity)
    rows, split = trainer.sample
    held_out = fit_held_out(trainer.learner, rows, split, options)
    name = folder.resolve().name
    metadata = _described(name, source, spec, features, rows, trainer, options, held_out, stated)
    learner = trainer.learner.cpu()
    save_checkpoint(folder, learner, metadata)
    (folder / "README.md").write_text(model_card(metadata))
    return metadata


def _begun_with(start: Checkpoint, features: FeatureSet, options: Options) -> Learner:
    """The learner of a model, without trees; raises ValueError where it reads something else."""
    name, algorithm = start.metadata.name, start.metadata.algorithm
    if start.features.digest != features.digest:
        raise ValueError(f"the model {name} to start with has other features or rates")
    if algorithm != options.algorithm:
        raise ValueError(f"the model {name} to start with learns accounts by {algorithm}")
    learner = learner_of(start)
    learner.network.trees = Trees(0)
    return learner


def _keep(trainer: Trainer, folder: Path, identity: Mapping[str, object]) -> None:
    tensors, numbers = trainer.state()
    described = json.dumps({"of": identity, **numbers})
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    replace_file(folder / UNFINISHED, save_tensors(whole, {"training": described}))


def _restore(trainer: Trainer, folder: Path, identity: Mapping[str, object]) -> None:
    path = folder / UNFINISHED
    try:
        with safe_open(path, "pt") as file:
            numbers = json.loads(file.metadata()["training"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no interrupted training to resume") from None
    except (SafetensorError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path} is damaged: start the training anew") from None
    if numbers.pop("of") != identity:
        raise ValueError(
            f"the training in {folder} was of other data, features or options: start it anew"
        )
    trainer.restore(tensors, numbers)


def _described(
    name: str,
    source: Source | Parts,
    spec: DatasetSpec,
    features: FeatureSet,
    rows: Rows,
    trainer: Trainer,
    options: Options,
    held_out: Predictions,
    stated: AlertBudget | Costs | None,
) -> Metadata:
    is_fraud_A = rows.is_fraud_N[held_out.rows] == 1
    calibration = calibrate(is_fraud_A, held_out.adapted_A)
    served_A = calibration.probabilities(held_out.adapted_A)
    decisions = thresholds(served_A, stated)
    return Metadata(
        name=name,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        spec=spec,
        features=features.names,
        features_digest=features.digest,
        algorithm=options.algorithm,
        step_sizes=trainer.learner.step_sizes,
        calibration=calibration,
        decisions=decisions,
        data=source.data,
        seed=options.seed,
        options=asdict(options),
        # What could not be measured (no fraud held out, stopped before a check) is left out.
        metrics={
            name: value
            for name, value in {
                "held_out_loss": trainer.best_loss,
                "gate_trust": float(trainer.learner.gate.trust),
                "gate_heed": float(trainer.learner.gate.heed),
                "gate_reach": float(trainer.learner.gate.reach),
                "gate_habit": float(trainer.learner.gate.habit),
                "gate_pardon": float(trainer.learner.gate.pardon),
                "trees": len(trainer.learner.network.trees),
                "held_out_transactions": len(held_out.rows),
                "held_out_frauds": int(is_fraud_A.sum()),
                "held_out_average_precision_adapted": average_precision(
                    is_fraud_A, held_out.adapted_A
                ),
                "held_out_average_precision_base": average_precision(is_fraud_A, held_out.base_A),
                "reviewed_share": float((served_A >= decisions.review).mean()),
                "declined_share": float((served_A >= decisions.decline).mean()),
            }.items()
            if math.isfinite(value)
        },
        versions={
            "quickstudy": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        profile=profile_of(features, rows, held_out.rows, served_A),
        rates=source.rates,
    )

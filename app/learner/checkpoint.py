"""A checkpoint: weights as safetensors, all else as readable JSON, refused where anything is off.

    models/NAME/
      model.safetensors   the learner's state: encoder, trunk, base head, step sizes
      checkpoint.json     the metadata below, the weights' digest, and a digest of itself
      README.md           the model card

The digest of the JSON covers the digest of the weights, so it names the model. No byte of either
file may differ from what was written, white space included.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from app.errors import SetupError, first_problem
from app.learner.algorithms import Algorithm
from app.learner.decisions import Calibration
from app.learner.features import FeatureSet, Kind
from app.learner.money import Rates
from app.learner.network import Columns, Weights, shapes, trees_of
from app.learner.past import kinds_of, own_of, translated
from app.learner.profile import Profile
from app.learner.spec import DatasetSpec

FORMAT = 2
WEIGHTS = "model.safetensors"
METADATA = "checkpoint.json"

Probability = Annotated[float, Field(gt=0, lt=1)]


class CheckpointError(SetupError, ValueError):
    """The checkpoint is absent, damaged or of another kind; the message is for the operator.

    `reason` is the message without the folder, which callers of the API need not know.
    """

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(f"checkpoint {folder}: {reason}")
        self.reason = reason


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class AlertBudget(_Part):
    """The share of all transactions that may be held up, declined ones among them."""

    reviewed: Probability
    declined: Probability


class Costs(_Part):
    """What a review, a fraud that is let pass and a declined legitimate payment cost.

    In one currency, each for a transaction on average.
    """

    review: Annotated[float, Field(gt=0)]
    fraud: Annotated[float, Field(gt=0)]
    wrong_decline: Annotated[float, Field(gt=0)]


class Decisions(_Part):
    """The probabilities from which a transaction is reviewed and from which it is declined.

    `stated` is what they follow; nothing was stated of a model that keeps to the usual budget.
    """

    review: Probability
    decline: Probability
    stated: AlertBudget | Costs | None = None


class Data(_Part):
    """What the model was trained on."""

    sha256: str
    transactions: int
    accounts: int
    frauds: int
    first: str
    last: str


class Metadata(_Part):
    """Everything about a model that is not its weights."""

    format: Literal[2] = 2
    name: str
    created_at: str
    spec: DatasetSpec
    features: tuple[str, ...]
    features_digest: str
    algorithm: Algorithm
    step_sizes: dict[str, tuple[float, ...]]
    calibration: Calibration
    decisions: Decisions
    data: Data
    seed: int
    options: dict[str, bool | float | int | str | None]
    metrics: dict[str, float]
    versions: dict[str, str]
    # None of a checkpoint from before there were profiles.
    profile: Profile | None = None
    # By which amounts are in one currency; None where they are plain numbers.
    rates: Rates | None = None


class Files(NamedTuple):
    """The bytes of a checkpoint's two files, METADATA and WEIGHTS."""

    description: bytes
    weights: bytes


@dataclass(frozen=True)
class Checkpoint:
    """A model that is known to be whole, and to fit this version of the features."""

    metadata: Metadata
    weights: Weights
    features: FeatureSet
    digest: str
    files: Files

    @property
    def model(self) -> str:
        """What scores call it."""
        return f"{self.metadata.name}@{self.digest[:12]}"

    @property
    def created_at(self) -> datetime | None:
        """When it was trained; None where its description does not say a time."""
        try:
            found = datetime.fromisoformat(self.metadata.created_at)
        except ValueError:
            return None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a checkpoint; raises CheckpointError with one sentence when it cannot be trusted."""
        folder = Path(folder)
        try:
            files = Files(_content_of(folder / METADATA), _content_of(folder / WEIGHTS))
        except OSError as error:
            name = Path(error.filename).name
            raise CheckpointError(folder, f"{name}: {error.strerror}") from None
        return cls.of(files, folder)

    @classmethod
    def of(cls, files: Files, folder: Path) -> Self:
        """A checkpoint of files as read; the folder is where they come from, for messages.

        Raises CheckpointError where they are damaged, or of another version.
        """
        metadata, digest = _checked(folder, *files)
        features = FeatureSet(metadata.spec, metadata.rates)
        if features.digest != metadata.features_digest:
            raise CheckpointError(
                folder,
                f"trained on features {metadata.features_digest}, but this version computes "
                f"{features.digest}: train it anew",
            )
        weights = _weights(files.weights)
        _check_shapes(folder, weights, features.kinds, metadata.algorithm)
        return cls(metadata, weights, features, digest, files)


@dataclass(frozen=True)
class PastCheckpoint:
    """A model whose features this version does not compute, but whose network it knows.

    Enough to score again what is stored with those features.
    """

    model: str
    kinds: tuple[Kind, ...]
    features_digest: str
    algorithm: Algorithm
    weights: Weights
    calibration: Calibration
    decisions: Decisions

    @classmethod
    def of(cls, files: Files, folder: Path) -> Self:
        """Read the files of a checkpoint of before labels were read payment by payment.

        Raises CheckpointError with one sentence where it is another, or damaged.
        """
        described, digest = _whole(folder, *files)
        try:
            past = _Past.model_validate(described)
        except ValidationError as error:
            raise CheckpointError(folder, first_problem(error)) from None
        weights = _weights(files.weights)
        if "network.wide_relation_IM" in weights:
            raise CheckpointError(folder, "its features are of another version")
        kinds = kinds_of(past.features, own_of(weights), not _is_past(described))
        weights = translated(weights, kinds)
        _check_shapes(folder, weights, kinds, past.algorithm)
        return cls(
            f"{past.name}@{digest[:12]}",
            kinds,
            past.features_digest,
            past.algorithm,
            weights,
            past.calibration,
            past.decisions,
        )


class _Past(BaseModel):
    """What is read of the metadata of such a model."""

    name: str
    features: tuple[str, ...]
    features_digest: str
    algorithm: Algorithm
    calibration: Calibration
    decisions: Decisions


def _check_shapes(
    folder: Path, weights: Weights, kinds: Sequence[Kind], algorithm: Algorithm
) -> None:
    wanted = shapes(kinds, algorithm, trees_of(weights))
    columns = Columns.of(kinds)
    read_JS = weights.get("network.trees.column_JS", np.zeros(0))
    # Kernels read the columns that trees name, whatever they are.
    are_read = np.isin(read_JS, np.arange(len(columns.quantities) + columns.label_inputs))
    if {name: array.shape for name, array in weights.items()} != wanted or not are_read.all():
        raise CheckpointError(folder, "the weights do not fit the network of this version")


def _weights(content: bytes) -> Weights:
    """The arrays of a weights file; none of one that holds anything else than float32."""
    try:
        arrays = load_arrays(content)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return {}
    # Until labels reached as far as payments were like theirs, they reached all alike; until habit
    # counted there, it did not; and until refusals were pardoned, none was.
    arrays.setdefault("gate.reach", np.ones((), np.float32))
    arrays.setdefault("gate.habit", np.zeros((), np.float32))
    arrays.setdefault("gate.pardon", np.zeros((), np.float32))
    return arrays if all(array.dtype == np.float32 for array in arrays.values()) else {}


def write_checkpoint(folder: Path, weights: bytes, metadata: Metadata) -> str:
    """Write a checkpoint, its weights as safetensors, and give its digest.

    Each file is replaced in one step, the metadata last, so that an interrupted save leaves
    either the old model, the new one, or a pair that `Checkpoint.load` refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described = metadata.model_dump(mode="json") | {"weights_sha256": _sha256(weights)}
    digest = _sha256(_canonical(described))
    replace_file(folder / WEIGHTS, weights)
    replace_file(folder / METADATA, _written(described | {"digest": digest}))
    return digest


def _content_of(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        # Whoever reads a pipe or a device may wait for ever.
        raise OSError(errno.EINVAL, "no file to read", str(path))
    return path.read_bytes()


def _checked(folder: Path, text: bytes, weights: bytes) -> tuple[Metadata, str]:
    described, digest = _whole(folder, text, weights)
    if _is_past(described):
        raise CheckpointError(
            folder,
            f"trained by an earlier version, on features {described.get('features_digest')} that "
            "this one does not compute: train it anew",
        )
    try:
        return Metadata.model_validate(described), digest
    except ValidationError as error:
        raise CheckpointError(folder, first_problem(error)) from None


def _is_past(described: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is from before there were entities: merchants had a column then."""
    spec = described.get("spec")
    columns = spec.get("columns") if isinstance(spec, dict) else None
    return isinstance(columns, dict) and "merchant" in columns


def _whole(folder: Path, text: bytes, weights: bytes) -> tuple[dict[str, Any], str]:
    """What the JSON says, and its digest; raises CheckpointError where either file is damaged."""
    try:
        described = json.loads(text)
    except (ValueError, RecursionError):
        raise CheckpointError(folder, f"{METADATA} is damaged") from None
    if not isinstance(described, dict):
        raise CheckpointError(folder, f"{METADATA} is damaged")
    if described.get("format") != FORMAT:
        raise CheckpointError(
            folder, f"format {described.get('format')}, but this version reads format {FORMAT}"
        )
    # The digest is of what the JSON says. What says the same in other bytes, with a key twice or
    # other white space, has been in other hands too.
    as_written = text == _written(described)
    digest = described.pop("digest", None)
    if not as_written or digest != _sha256(_canonical(described)):
        raise CheckpointError(folder, f"{METADATA} was altered or damaged")
    if described.pop("weights_sha256", None) != _sha256(weights):
        raise CheckpointError(folder, f"{WEIGHTS} was altered or damaged")
    return described, digest


def _written(described: dict[str, Any]) -> bytes:
    """The metadata as its file holds it."""
    return (json.dumps(described, indent=2) + "\n").encode()


def _canonical(described: dict[str, Any]) -> bytes:
    return json.dumps(described, sort_keys=True, separators=(",", ":")).encode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that it is the old one or the new one, whole, whatever happens."""
    beside = path.with_suffix(path.suffix + ".new")
    with beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)

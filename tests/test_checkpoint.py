"""A checkpoint comes back whole or is refused with a sentence."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from app.errors import SetupError
from app.learner.algorithms import ALGORITHMS, Algorithm
from app.learner.checkpoint import METADATA, WEIGHTS, Checkpoint, CheckpointError
from app.learner.devices import choose_device
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.saving import learner_of, save_checkpoint
from app.learner.features import FeatureSet
from app.learner.network import NODES, SPLITS, shapes
from app.learner.scorer import AdapterKey, Scorer
from app.learner.spec import DatasetSpec
from tests.checkpoints import signed, tiny_checkpoint


@pytest.fixture
def folder(tmp_path: Path, checkpoint: Path) -> Path:
    """A copy of the tiny checkpoint to damage."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    """The one sentence with which a checkpoint is refused."""
    with pytest.raises(CheckpointError) as refused:
        Checkpoint.load(folder)
    sentence = str(refused.value)
    assert sentence == f"checkpoint {folder}: {refused.value.reason}"
    # What the API shows of it.
    assert str(folder) not in refused.value.reason
    assert "\n" not in sentence
    return sentence


def rewritten(folder: Path, **changes: Any) -> None:
    """Other metadata, signed as if it had been saved so: only its content can give it away."""
    described = json.loads((folder / METADATA).read_text()) | changes
    files = signed(described, (folder / WEIGHTS).read_bytes())
    (folder / METADATA).write_bytes(files.description)


def scores(folder: Path) -> list[Any]:
    scorer = Scorer(Checkpoint.load(folder), "cpu", 1)
    rng = np.random.default_rng(0)
    features_NF = rng.normal(1, 1, (20, len(scorer.features.names))).astype(np.float32)
    time_us_N = rng.integers(0, 2**50, 20)
    return scorer.score(features_NF, time_us_N, [AdapterKey("t", "a", 0)] * 20, scorer.thresholds)


def test_a_checkpoint_comes_back_as_it_was_saved(folder: Path, tmp_path: Path) -> None:
    loaded = Checkpoint.load(folder)
    digest = save_checkpoint(tmp_path / "again", learner_of(loaded), loaded.metadata)
    again = Checkpoint.load(tmp_path / "again")
    assert again.digest == digest == loaded.digest
    assert again.metadata == loaded.metadata
    assert again.weights.keys() == loaded.weights.keys()
    for name, array in loaded.weights.items():
        np.testing.assert_array_equal(again.weights[name], array)
    assert scores(tmp_path / "again") == scores(folder)
    assert len(set(scores(folder))) > 10


def test_the_digest_names_the_weights(tmp_path: Path) -> None:
    digests = {
        Checkpoint.load(tiny_checkpoint(tmp_path / str(seed), seed=seed)).digest for seed in (0, 1)
    }
    assert len(digests) == 2


def test_a_refusal_is_for_the_operator() -> None:
    assert issubclass(CheckpointError, SetupError)
    assert issubclass(CheckpointError, ValueError)


@pytest.mark.parametrize("name", [WEIGHTS, METADATA])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    sentence = refusal(folder)
    assert name in sentence
    assert "No such file" in sentence


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere")


def test_a_folder_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    assert WEIGHTS in refusal(folder)


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 0.5, -1])
@pytest.mark.parametrize("name", [WEIGHTS, METADATA])
def test_a_truncated_file_is_refused(folder: Path, name: str, kept: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2 if kept == 0.5 else int(kept)])
    assert name in refusal(folder)


def test_one_flipped_bit_of_the_weights_is_refused_wherever_it_is(folder: Path) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 25).astype(int):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(at % 8)
        (folder / WEIGHTS).write_bytes(damaged)
        assert WEIGHTS in refusal(folder)


def test_one_flipped_bit_of_the_metadata_is_refused_wherever_it_is(folder: Path) -> None:
    whole = (folder / METADATA).read_bytes()
    for at in np.linspace(0, len(whole) - 1, 400).astype(int):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(at % 8)
        (folder / METADATA).write_bytes(damaged)
        assert METADATA in refusal(folder) or "format" in refusal(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b" "),
        (b"\n", b"\r\n"),
        (b"}\n", b"}"),
        (b"}\n", b"}\n\n"),
        (b": ", b":\t"),
        (b'"name"', b'"n\\u0061me"'),
        (b'"seed": 0', b'"seed": -0'),
        (b'"seed": 0', b'"seed": 1,\n  "seed": 0'),
    ],
)
def test_other_bytes_of_the_same_meaning_are_refused(folder: Path, old: bytes, new: bytes) -> None:
    whole = (folder / METADATA).read_bytes()
    before, found, after = whole.rpartition(old)
    assert found
    (folder / METADATA).write_bytes(before + new + after)
    assert json.loads((folder / METADATA).read_bytes()) == json.loads(whole)
    assert f"{METADATA} was altered or damaged" in refusal(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "another"},
        {"seed": 1},
        {"decisions": {"review": 0.9, "decline": 0.95}},
        {"calibration": {"slope": 1.0, "shift": 5.0}},
        {"digest": "0" * 64},
        {"weights_sha256": "0" * 64},
        {"unheard_of": 1},
    ],
)
def test_altered_metadata_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    described = json.loads((folder / METADATA).read_text()) | changes
    (folder / METADATA).write_text(json.dumps(described))
    assert "altered or damaged" in refusal(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"not JSON", b"[]", b"3", b'"text"', b"null", b"\xff\xfe", b"{" * 100, b"[" * 100_000],
    ids=lambda content: content[:8],
)
def test_what_is_not_a_checkpoints_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / METADATA).write_bytes(content)
    assert f"{METADATA} is damaged" in refusal(folder)


@pytest.mark.parametrize("other", [1, 3, 0, None, "2", [2]])
def test_another_format_is_refused_before_all_else(folder: Path, other: Any) -> None:
    (folder / METADATA).write_text(json.dumps({"format": other}))
    assert f"format {other}" in refusal(folder)


def test_another_definition_of_the_features_is_refused(folder: Path) -> None:
    rewritten(folder, features_digest="0123456789abcdef")
    sentence = refusal(folder)
    assert "0123456789abcdef" in sentence
    assert "train it anew" in sentence


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"decisions": {"review": 2.0, "decline": 0.95}}, "decisions.review"),
        ({"calibration": {"slope": -1.0, "shift": 0.0}}, "calibration.slope"),
        ({"spec": {"name": "nothing else"}}, "spec.columns"),
        ({"unheard_of": 1}, "unheard_of"),
        ({"name": None}, "name"),
        ({"algorithm": "sgd"}, "algorithm"),
        ({"step_sizes": [[0.1]]}, "step_sizes"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused_by_name(
    folder: Path, changes: dict[str, Any], named: str
) -> None:
    rewritten(folder, **changes)
    assert named in refusal(folder)


def other_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"old.{name}": tensor for name, tensor in tensors.items()}


def one_missing(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name != "network.bias_U"}


def another_width(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t[:-1].contiguous() if t.dim() == 2 else t for name, t in tensors.items()}


@pytest.mark.parametrize("changed", [other_names, one_missing, another_width])
def test_weights_of_another_network_are_refused(
    folder: Path, changed: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    (folder / WEIGHTS).write_bytes(save(changed(load_file(folder / WEIGHTS))))
    rewritten(folder)
    assert "do not fit the network" in refusal(folder)


class Bomb:
    """Whoever unpickles it makes the file it names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_nothing_is_unpickled(folder: Path, tmp_path: Path, kind: str) -> None:
    trap = tmp_path / "unpickled"
    with (folder / WEIGHTS).open("wb") as file:
        if kind == "pickle":
            pickle.dump(Bomb(trap), file)
        else:
            torch.save({"weights": Bomb(trap)}, file)
    rewritten(folder)
    assert "do not fit the network" in refusal(folder)
    assert not trap.exists()
    # The trap does work.
    pickle.loads(pickle.dumps(Bomb(trap)))
    assert trap.exists()


def test_a_save_that_was_interrupted_between_its_files_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    other = tiny_checkpoint(tmp_path / "other", seed=1)
    shutil.copy(other / WEIGHTS, folder / WEIGHTS)
    assert WEIGHTS in refusal(folder)


def test_a_checkpoint_can_be_of_any_spec(tmp_path: Path) -> None:
    spec = DatasetSpec.model_validate(
        {
            "name": "least",
            "columns": {"transaction": "t", "account": "a", "time": "at", "amount": "x"},
        }
    )
    checkpoint = Checkpoint.load(tiny_checkpoint(tmp_path, spec))
    assert checkpoint.metadata.spec == spec
    assert isinstance(learner_of(checkpoint), Learner)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checkpoint_learns_by_the_algorithm_it_was_trained_by(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    checkpoint = Checkpoint.load(tiny_checkpoint(tmp_path, algorithm=algorithm))
    learner = learner_of(checkpoint)
    assert checkpoint.metadata.algorithm == learner.algorithm == algorithm
    assert set(checkpoint.metadata.step_sizes) == set(learner.adapted_layers)
    for layer, sizes in learner.step_sizes.items():
        assert checkpoint.metadata.step_sizes[layer] == pytest.approx(sizes)


@pytest.mark.parametrize("trees", [0, 3])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checkpoint_has_the_arrays_of_the_network_that_is_trained(
    algorithm: Algorithm, trees: int
) -> None:
    kinds = FeatureSet(DatasetSpec.load("simulated")).kinds
    trained = Learner(kinds, algorithm, trees).state_dict()
    assert shapes(kinds, algorithm, trees) == {name: tuple(t.shape) for name, t in trained.items()}
    assert any("trees" in name for name in trained) == (trees > 0)


def test_trees_come_back_with_the_network_and_answer_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    loaded, grown = Checkpoint.load(folder), tmp_path / "grown"
    learner = learner_of(loaded)
    edge_JS = torch.full((2, SPLITS), torch.inf)
    edge_JS[:, 0] = 1.0
    value_JV = torch.linspace(-1, 1, 2 * NODES).reshape(2, NODES)
    learner.network.trees.keep(torch.zeros(2, SPLITS), edge_JS, value_JV)
    digest = save_checkpoint(grown, learner, loaded.metadata)
    again = learner_of(Checkpoint.load(grown))
    assert again.network.trees.state_dict().keys() == learner.network.trees.state_dict().keys()
    for name, tensor in learner.network.trees.state_dict().items():
        assert torch.equal(again.network.trees.state_dict()[name], tensor)
    assert digest != loaded.digest
    assert scores(grown) != scores(folder)
    # Labels are what a copy is of, and trees are no label's.
    copies = [Scorer(Checkpoint.load(each), "cpu", 1).copy_bytes for each in (grown, folder)]
    assert copies[0] == copies[1] <= 4096


@pytest.mark.parametrize("column", [-1.0, 0.5, 100_000.0, float("nan")])
def test_trees_that_read_what_is_no_column_are_refused(folder: Path, column: float) -> None:
    tensors = load_file(folder / WEIGHTS)
    sizes = {"column_JS": SPLITS, "edge_JS": SPLITS, "value_JV": NODES}
    trees = {f"network.trees.{name}": torch.zeros(1, size) for name, size in sizes.items()}
    (folder / WEIGHTS).write_bytes(save(tensors | trees))
    rewritten(folder)
    assert len(learner_of(Checkpoint.load(folder)).network.trees) == 1
    trees["network.trees.column_JS"][0, 3] = column
    (folder / WEIGHTS).write_bytes(save(tensors | trees))
    rewritten(folder)
    assert "do not fit the network" in refusal(folder)


def test_some_arrays_of_trees_without_the_others_are_refused(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    value_JV = {"network.trees.value_JV": torch.zeros(1, NODES)}
    (folder / WEIGHTS).write_bytes(save(tensors | value_JV))
    rewritten(folder)
    assert "do not fit the network" in refusal(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32])
def test_weights_of_another_type_are_refused(folder: Path, dtype: torch.dtype) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = "network.bias_U"
    (folder / WEIGHTS).write_bytes(save(tensors | {name: tensors[name].to(dtype)}))
    rewritten(folder)
    assert "do not fit the network" in refusal(folder)


def test_a_checkpoint_of_another_algorithm_than_its_weights_is_refused(folder: Path) -> None:
    rewritten(folder, algorithm="maml")
    assert "do not fit the network" in refusal(folder)


def test_the_gate_comes_back_as_it_was_fitted(tmp_path: Path) -> None:
    gate = learner_of(Checkpoint.load(tiny_checkpoint(tmp_path, trust=-1.0, heed=0.25))).gate
    assert (gate.trust.item(), gate.heed.item()) == (-1.0, 0.25)


@pytest.mark.parametrize(("name", "default"), [("reach", 1.0), ("habit", 0.0), ("pardon", 0.0)])
def test_of_a_checkpoint_that_knows_no_reach_labels_reach_all_payments(
    folder: Path, name: str, default: float
) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors[f"gate.{name}"]
    (folder / WEIGHTS).write_bytes(save(tensors))
    rewritten(folder)
    assert learner_of(Checkpoint.load(folder)).gate.described()[name] == default


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(SetupError, match="unknown device 'tpu'"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match="no GPU"):
            choose_device("cuda")

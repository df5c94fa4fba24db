"""Training: repeatable to the bit, stoppable anywhere, refused where there is nothing to learn."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from app.checkpoint import WEIGHTS, Checkpoint, Metadata
from app.scoring import AdapterKey, Scorer
from app.training import train
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.run import UNFINISHED, Source, train_checkpoint
from app.training.train import DONE, GLOBAL, META, Options, Split, Status, Trainer
from tests.training.files import OTHER, SIMULATED, TINY, other_dataset, rows_of

CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def _short_stages() -> Iterator[None]:
    """Warm-ups and averages as short as the trainings here."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("FROZEN_STEPS", 2),
            ("WARM_STEPS", 2),
            ("AVERAGED_OVER", 4),
            ("VALIDATION_BATCHES", 4),
        ):
            assert hasattr(train, name)
            patch.setattr(train, name, value)
        yield


def split_of(rows: Rows, seed: int = 0) -> Split:
    labelled_N = rows.is_fraud_N != UNLABELLED
    return Split.of(rows, labelled_N, int(rows.time_us_N.max()) + 1, seed)


def statuses_of(trainer: Trainer) -> list[Status]:
    statuses: list[Status] = []

    def watch(status: Status) -> bool:
        statuses.append(status)
        return True

    trainer.run(watch)
    return statuses


def until(stage: str, step: int) -> Callable[[Status], bool]:
    """Watch, and stop the training after this step."""
    return lambda status: (status.stage, status.step) != (stage, step)


def trained(
    source: Source,
    folder: Path,
    watch: Callable[[Status], bool] = lambda status: True,
    options: Options = TINY,
    resume: bool = False,
) -> Metadata:
    return train_checkpoint(source, SIMULATED, folder, options, CPU, watch, resume)


@pytest.fixture(scope="module")
def whole(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("models") / "model"
    trained(source, folder)
    return folder


def test_both_stages_run_and_learn(tmp_path: Path) -> None:
    rows = rows_of(other_dataset(tmp_path), OTHER)
    trainer = Trainer(
        rows, split_of(rows), replace(TINY, global_steps=40, check_every=8, patience=99), CPU
    )
    statuses = statuses_of(trainer)
    assert trainer.done
    assert trainer.stage == DONE
    steps = [(status.stage, status.step) for status in statuses]
    assert steps == [(GLOBAL, n + 1) for n in range(40)] + [(META, n + 1) for n in range(8)]
    losses = [one.held_out_loss for one in statuses if one.held_out_loss is not None]
    assert len(losses) == 5 + 1
    # Better than whoever knows the rate of fraud alone; the base is in the loss as well.
    rate = (rows.is_fraud_N == 1).mean()
    entropy = -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)
    assert min(losses) < 0.95 * (1 + train.BASE_WEIGHT) * entropy
    assert trainer.best_loss == min(losses)


def test_training_again_is_the_same_training(rows: Rows) -> None:
    one = Trainer(rows, split_of(rows), TINY, CPU)
    statuses = statuses_of(one)
    torch.rand(3)  # whatever else drew from torch meanwhile
    assert statuses_of(Trainer(rows, split_of(rows), TINY, CPU)) == statuses
    another = Trainer(rows, split_of(rows), replace(TINY, seed=1), CPU)
    another.run(until(GLOBAL, 1))
    assert another.best_loss != one.best_loss


def test_the_meta_stage_learns_its_step_sizes_and_starts_from_the_global_network(
    rows: Rows,
) -> None:
    trainer = Trainer(rows, split_of(rows), TINY, CPU)
    trainer.run(until(GLOBAL, 8))
    best = {name: t.clone() for name, t in trainer.learner.network.state_dict().items()}
    tensors, numbers = trainer.state()
    assert numbers["stage"] == META
    for name, tensor in best.items():
        assert torch.equal(tensors[f"working/network.{name}"], tensor)
    sizes = [one.step_size for one in statuses_of(trainer)]
    assert sizes[0] != sizes[-1]
    assert all(size > 0 for size in sizes)


@pytest.mark.parametrize(
    ("stage", "step"), [(GLOBAL, 3), (GLOBAL, 4), (GLOBAL, 8), (META, 3), (META, 4)]
)
def test_a_resumed_training_is_the_one_that_was_not_interrupted(
    source: Source, whole: Path, tmp_path: Path, stage: str, step: int
) -> None:
    folder = tmp_path / "model"
    trained(source, folder, until(stage, step))
    assert (folder / UNFINISHED).exists()
    metadata = trained(source, folder, resume=True)
    assert not (folder / UNFINISHED).exists()
    assert (folder / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    expected = Checkpoint.load(whole).metadata
    assert metadata.model_copy(update={"created_at": expected.created_at}) == expected


def test_a_training_can_be_interrupted_often(source: Source, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    trained(source, folder, until(GLOBAL, 1))
    for stage, step in [(GLOBAL, 7), (META, 7)]:
        trained(source, folder, until(stage, step), resume=True)
    trained(source, folder, resume=True)
    assert (folder / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.parametrize(("stage", "step"), [(GLOBAL, 1), (META, 1)])
def test_stopping_leaves_a_checkpoint_that_serves(
    source: Source, rows: Rows, tmp_path: Path, stage: str, step: int
) -> None:
    trained(source, tmp_path / "model", until(stage, step))
    scorer = Scorer(Checkpoint.load(tmp_path / "model"), "cpu", 1)
    key, none = AdapterKey("t", "a", 1), AdapterKey("t", "a", 0)
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[:8][::-1]
    scorer.adapt({key: rows.support(labelled)})
    decisions = scorer.score(rows.features_NF[8:10], rows.time_us_N[8:10], [key, none])
    assert [decision.labels for decision in decisions] == [8, 0]
    assert all(0 < decision.probability < 1 for decision in decisions)


def test_a_finished_folder_has_nothing_to_resume(source: Source, whole: Path) -> None:
    with pytest.raises(ValueError, match="no interrupted training"):
        trained(source, whole, resume=True)


def test_another_training_is_not_resumed(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    trained(source, folder, until(GLOBAL, 1))
    with pytest.raises(ValueError, match="other data, features or options"):
        trained(source, folder, options=replace(TINY, seed=3), resume=True)
    with pytest.raises(ValueError, match="other data, features or options"):
        trained(source._replace(sha256="0" * 64), folder, resume=True)


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_a_damaged_interrupted_training_is_refused(
    source: Source, tmp_path: Path, content: bytes | None
) -> None:
    folder = tmp_path / "model"
    trained(source, folder, until(GLOBAL, 1))
    whole = (folder / UNFINISHED).read_bytes()
    (folder / UNFINISHED).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(ValueError, match="is damaged: start the training anew"):
        trained(source, folder, resume=True)


def test_training_stops_early_when_it_no_longer_gets_better(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What stands still does not get better: after a first check, two without progress.
    monkeypatch.setattr(train, "LEARNING_RATES", {GLOBAL: 0.0, META: 0.0})
    monkeypatch.setattr(train, "STEP_SIZE_RATE", 0.0)
    options = Options(global_steps=50, meta_steps=50, episodes=4, check_every=2, patience=2)
    statuses = statuses_of(Trainer(rows, split_of(rows), options, CPU))
    steps = {stage: sum(one.stage == stage for one in statuses) for stage in (GLOBAL, META)}
    assert steps[GLOBAL] == 2 * (1 + 2)
    assert steps[META] in (2 * 2, 2 * (1 + 2))


def test_accounts_held_out_are_not_trained_on(rows: Rows) -> None:
    split = split_of(rows)
    train_accounts = set(rows.account_N[split.train])
    held_out = set(rows.account_N[split.held_out])
    assert train_accounts
    assert held_out
    assert not train_accounts & held_out
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    both = np.sort(np.concatenate([split.train, split.held_out]))
    np.testing.assert_array_equal(both, labelled)
    assert set(rows.account_N[split_of(rows, seed=1).held_out]) != held_out


@pytest.mark.parametrize("label", [0, 1, UNLABELLED])
def test_labels_of_one_class_are_nothing_to_learn_from(
    source: Source, tmp_path: Path, label: int
) -> None:
    labels_N = np.full(len(source.dataset), label, np.int8)
    dull = source._replace(dataset=replace(source.dataset, is_fraud_N=labels_N))
    with pytest.raises(ValueError, match="nothing to learn"):
        trained(dull, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_too_few_accounts_are_refused(rows: Rows) -> None:
    one = rows.account_N == rows.account_N[rows.is_fraud_N == 1][0]
    with pytest.raises(ValueError, match="1 accounts are too few"):
        Split.of(rows, one, int(rows.time_us_N.max()) + 1, 0)


def test_a_checkpoint_says_what_it_was_trained_on(source: Source, whole: Path) -> None:
    metadata = Checkpoint.load(whole).metadata
    assert metadata.name == "model"
    assert metadata.spec == SIMULATED
    assert metadata.data.sha256 == source.sha256
    assert metadata.data.transactions == len(source.dataset)
    assert metadata.data.frauds == (source.dataset.is_fraud_N == 1).sum()
    assert metadata.options == {
        "global_steps": 8,
        "meta_steps": 8,
        "episodes": 8,
        "check_every": 4,
        "patience": TINY.patience,
        "seed": 0,
    }
    assert (whole / "README.md").exists()
    steps = np.array(metadata.step_sizes)
    sizes = Checkpoint.load(whole).learner.log_step_sizes_SL.detach().exp().numpy()
    np.testing.assert_allclose(steps, sizes)


def test_the_loss_of_a_tiny_training_is_the_known_one(tmp_path: Path) -> None:
    """Golden: recompute it when training is meant to change. 1 %, as processors round apart."""
    rows = rows_of(other_dataset(tmp_path), OTHER)
    trainer = Trainer(rows, split_of(rows), TINY, CPU)
    losses = [one.held_out_loss for one in statuses_of(trainer) if one.held_out_loss is not None]
    assert losses == pytest.approx([0.58744, 0.57772, 0.55256, 0.54695], rel=0.01)

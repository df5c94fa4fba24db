"""Training on several processes: the same training as on one, up to rounding."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from app.training import train
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.ranks import ALONE, Ranks
from app.training.train import Options, Split, Trainer
from tests.training.files import TINY

Numbers = dict[str, float | int | str]

OPTIONS = replace(TINY, global_steps=2, meta_steps=2, check_every=2)
TRAININGS = {
    "anil": OPTIONS,
    # All ranks but one have no episode of their own.
    "reptile": replace(OPTIONS, algorithm="reptile", episodes=1),
}


class Trained(NamedTuple):
    """What a rank knows after a training: gradients of the first step, the state, the sample."""

    gradients: dict[str, Tensor]
    tensors: dict[str, Tensor]
    numbers: Numbers
    sample: tuple[Rows, Split] | None


def trained(rows: Rows, ranks: Ranks, options: Options) -> Trained:
    """A training of a rank's own rows, but for the last step."""
    own = rows.share(ranks)
    end_us = int(rows.time_us_N.max()) + 1
    split = Split.of(own, own.is_fraud_N != UNLABELLED, end_us, options.seed, ranks)
    trainer = Trainer(own, split, options, "cpu", ranks)
    trainer.run(lambda status: False)
    # What the optimiser keeps of the gradients of one step.
    first = {name: t.clone() for name, t in trainer.state()[0].items() if "/exp_avg" in name}
    trainer.run(lambda status: (status.stage, status.step) != ("meta", 1))
    return Trained(first, *trainer.state(), trainer.sample)


def _rank(rank: int, size: int, folder: str) -> None:
    """The trainings of one of several processes, kept for the test to look at."""
    torch.set_num_threads(1)
    _shorten(setattr)
    at = Path(folder)
    distributed.init_process_group("gloo", f"file://{at / 'meeting'}", rank=rank, world_size=size)
    rows = torch.load(at / "rows", weights_only=False)
    ranks = Ranks(rank, size)
    found = {name: trained(rows, ranks, options) for name, options in TRAININGS.items()}
    torch.save(found, at / f"rank-{rank}")
    distributed.destroy_process_group()


def _shorten(change: Callable[[ModuleType, str, int], None]) -> None:
    """Warm-ups and checks as short as the trainings here."""
    for name, value in (("MOST_BATCHES", 1), ("WARM_STEPS", 2), ("MULTI_STEPS", 4)):
        change(train, name, value)


@pytest.fixture(scope="module")
def alone(rows: Rows) -> dict[str, Trained]:
    """The trainings of a process on its own."""
    with pytest.MonkeyPatch.context() as patch:
        _shorten(patch.setattr)
        return {name: trained(rows, ALONE, options) for name, options in TRAININGS.items()}


@pytest.fixture(
    scope="module", params=[2, pytest.param(4, marks=pytest.mark.torture)], ids="{} ranks".format
)
def ranks(
    rows: Rows, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> list[dict[str, Trained]]:
    """The same trainings by each of several processes."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(rows, folder / "rows")
    multiprocessing.spawn(_rank, (request.param, str(folder)), request.param)
    return [
        torch.load(folder / f"rank-{rank}", weights_only=False) for rank in range(request.param)
    ]


def test_gradients_of_several_ranks_are_those_of_one(
    ranks: list[dict[str, Trained]], alone: dict[str, Trained]
) -> None:
    for name, expected in alone.items():
        largest = max(float(gradient.abs().max()) for gradient in expected.gradients.values())
        assert largest > 0
        for rank in ranks:
            found = rank[name].gradients
            assert found.keys() == expected.gradients.keys()
            for part, gradient in expected.gradients.items():
                # Of what is compared, a thousandth at most.
                atol = min(1e-6, largest / 1000)
                torch.testing.assert_close(found[part], gradient, rtol=0, atol=atol)


def test_several_ranks_train_one_learner_whose_loss_is_that_of_one_process(
    ranks: list[dict[str, Trained]], alone: dict[str, Trained]
) -> None:
    for name, expected in alone.items():
        first, *others = (rank[name] for rank in ranks)
        assert first.numbers["best_loss"] == pytest.approx(expected.numbers["best_loss"], abs=1e-4)
        for part, tensor in first.tensors.items():
            torch.testing.assert_close(tensor, expected.tensors[part], rtol=1e-3, atol=1e-4)
        for other in others:
            assert other.numbers == first.numbers
            for part, tensor in first.tensors.items():
                assert torch.equal(tensor, other.tensors[part]), part


def test_the_first_rank_has_a_sample_of_all(ranks: list[dict[str, Trained]], rows: Rows) -> None:
    samples = [rank["anil"].sample for rank in ranks]
    assert samples[1:] == [None] * (len(ranks) - 1)
    sample, split = samples[0] or pytest.fail("there is no sample")
    np.testing.assert_array_equal(sample.features_NF, rows.features_NF)
    np.testing.assert_array_equal(sample.account_N, rows.account_N)
    is_labelled_N = rows.is_fraud_N != UNLABELLED
    whole = Split.of(rows, is_labelled_N, split.end_us, OPTIONS.seed)
    for part, expected in zip(split[:2], whole[:2], strict=True):
        np.testing.assert_array_equal(part, expected)


def test_large_data_is_sampled_by_whole_accounts(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_labelled_N = rows.is_fraud_N != UNLABELLED
    split = Split.of(rows, is_labelled_N, int(rows.time_us_N.max()) + 1, seed=0)
    monkeypatch.setattr(train, "SAMPLED_ROWS", len(rows.account_N) // 2)
    some, of_some = split.sample(rows) or pytest.fail("there is no sample")
    assert 0.2 < len(some.account_N) / len(rows.account_N) < 0.8
    kept_N = np.isin(rows.position_N, some.position_N)
    # Whole accounts, and of each of their rows what the split says of it.
    assert not set(rows.account_N[kept_N]) & set(rows.account_N[~kept_N])
    np.testing.assert_array_equal(some.features_NF, rows.features_NF[kept_N])
    for part, whole in zip(of_some[:2], split[:2], strict=True):
        np.testing.assert_array_equal(some.position_N[part], rows.position_N[whole[kept_N[whole]]])

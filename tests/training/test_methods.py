"""What every method is measured by: calibration on held-out accounts, and what it costs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.saving import learner_of
from app.learner.scorer import Scorer
from app.training.cost import copy_bytes, costs
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows, served
from app.training.evaluate import calibrate
from app.training.methods import Methods, described
from app.training.run import Source
from app.training.train import Split, Trainer
from tests.training.contenders import Amounts, Labels, contenders
from tests.training.files import TINY


def split_of(rows: Rows) -> Split:
    return Split.of(rows, rows.is_fraud_N != UNLABELLED, int(rows.time_us_N.max()) + 1, seed=0)


def fitted(source: Source, rows: Rows) -> tuple[Methods, Split]:
    split = split_of(rows)
    # Not a step trained, but ready to score.
    learner = Trainer(rows, split, TINY, "cpu").learner
    methods = Methods(source.dataset, learner, contenders())
    methods.fit(rows, split, TINY, lambda _: None)
    return methods, split


def drawn_by_amount(rows: Rows) -> NDArray[np.int8]:
    """Labels of the labelled rows, a tenth of them fraud: the largest, with as much chance."""
    amount_N = Amounts().scores(rows, np.arange(len(rows.is_fraud_N)))
    chance_N = np.random.default_rng(0).normal(0, amount_N.std(), len(amount_N))
    labelled_N = rows.is_fraud_N != UNLABELLED
    large_N = amount_N + chance_N > np.quantile((amount_N + chance_N)[labelled_N], 0.9)
    return np.where(labelled_N, large_N, UNLABELLED).astype(np.int8)


def test_every_method_is_calibrated_by_platt_scaling_on_the_held_out_accounts(
    source: Source, rows: Rows
) -> None:
    # Frauds are drawn by amounts: calibration leaves alone a score unrelated to them.
    rows = replace(rows, is_fraud_N=drawn_by_amount(rows))
    methods, split = fitted(source, rows)
    assert set(methods.calibrations) == {"adapted", "base", "amounts", "labels"}
    is_fraud_A = rows.is_fraud_N[split.held_out] == 1
    score_A = Amounts().scores(rows, split.held_out)
    assert methods.calibrations["amounts"] == calibrate(is_fraud_A, score_A)
    assert methods.calibrations["amounts"].slope != 1
    tested = methods.test(rows, split.held_out)
    mean = tested.probability_A("amounts").mean()
    assert mean == pytest.approx(is_fraud_A.mean(), rel=1e-3)


def test_what_held_out_accounts_chose_is_kept_with_how_many_frauds_they_had(
    source: Source, rows: Rows
) -> None:
    methods, split = fitted(source, rows)
    chosen = methods.chosen
    assert chosen["held_out_transactions"] == len(split.held_out)
    assert chosen["held_out_frauds"] == (rows.is_fraud_N[split.held_out] == 1).sum()
    learner = methods.learner
    assert chosen["gate"] == learner.gate.described()
    assert chosen["trees"] == len(learner.network.trees)
    assert chosen["step_sizes"] == learner.step_sizes
    nothing = {"setting": {"column": 0}, "doubts": ["it has nothing to choose"]}
    assert chosen["rivals"] == {"amounts": nothing, "labels": nothing}


def test_a_mean_is_half_of_each_of_its_parts_and_there_with_both(
    source: Source, rows: Rows
) -> None:
    trees = Labels(name="xgboost_support")
    assert "mean_with_trees" not in described(contenders())
    assert list(described([trees])) == ["adapted", "base", "xgboost_support", "mean_with_trees"]
    assert described([trees])["mean_with_trees"]["reads_labels"]
    split = split_of(rows)
    methods = Methods(source.dataset, Trainer(rows, split, TINY, "cpu").learner, [trees])
    methods.fit(rows, split, TINY, lambda _: None)
    tested = methods.test(rows, split.held_out[:300])
    for limit, results in {"all": tested, **methods.by_labels(tested)}.items():
        logits = results.logits
        assert list(logits) == list(methods.calibrations) == list(described([trees])), limit
        expected = (logits["adapted"] + logits["xgboost_support"]) / 2
        np.testing.assert_array_equal(logits["mean_with_trees"], expected)
    found = methods.cost(tested)
    spent = {name: method["milliseconds_an_account"] for name, method in found.items()}
    both = spent["adapted"] + spent["xgboost_support"]
    assert spent["mean_with_trees"] == pytest.approx(both)
    assert np.isnan(found["mean_with_trees"]["bytes_an_account"])


def test_a_cost_is_by_account_and_known_labels(rows: Rows) -> None:
    scored = split_of(rows).held_out
    episodes = len(list(served(rows, scored)))
    assert 0 < episodes < len(scored)
    found = costs({"one": 3.0}, {}, rows, scored)["one"]
    assert found["milliseconds_an_account"] == pytest.approx(3000 / episodes)
    assert np.isnan(found["bytes_an_account"])
    nothing = costs({"one": 3.0}, {"one": 7}, rows, scored[:0])["one"]
    assert np.isnan(nothing["milliseconds_an_account"])
    assert nothing["bytes_an_account"] == 7


def test_a_copys_bytes_are_those_that_the_service_counts(checkpoint: Path) -> None:
    model = Checkpoint.load(checkpoint)
    assert copy_bytes(learner_of(model)) == Scorer(model, "cpu", bank_bytes=0).copy_bytes


def test_methods_are_described_in_the_order_of_the_tables() -> None:
    found = described(contenders())
    assert list(found) == ["adapted", "base", "amounts", "labels"]
    assert [method["reads_labels"] for method in found.values()] == [True, False, False, True]
    assert found["amounts"]["title"] == "amounts <alone>"

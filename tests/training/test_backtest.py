"""Back-tests: where the folds lie, who is tested, and that nothing of the future is trained on."""

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.training import backtest as backtest_module
from app.training import train
from app.training.backtest import DEFAULT_FOLDS, Backtest, Fold, folds_of, mean_of
from app.training.dataset import NEVER_US, UNLABELLED, read_transactions
from app.training.episodes import Rows
from app.training.run import Source
from app.training.train import Options, Status
from app.transactions import DAY_US, SECOND_US, DatasetSpec
from tests.training.files import OTHER, SIMULATED, other_dataset, rows_of

CPU = torch.device("cpu")
FEW = Options(global_steps=2, meta_steps=2, episodes=8, check_every=2)
COUNTS = {"transactions", "frauds"}
MEASURES = COUNTS | {"average_precision", "card_precision_100", "recall_at_1_percent"}


@pytest.fixture(autouse=True, scope="module")
def _few_validations() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "VALIDATION_BATCHES", 2)
        yield


def unwatched(name: str, status: Status) -> bool:
    return True


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_US


def spec_with(**backtest: Any) -> DatasetSpec:
    return DatasetSpec.model_validate(
        SIMULATED.model_dump() | {"label": {"delay_days": 3}, "backtest": backtest}
    )


def plain_rows(day_N: list[float], account_N: list[int], label_N: list[int]) -> Rows:
    """Rows without features, their labels known after three days."""
    time_us_N = np.array([round(day * DAY_US) for day in day_N])
    is_fraud_N = np.array(label_N, np.int8)
    order_N = np.lexsort((time_us_N, account_N))
    known_N = np.where(is_fraud_N == UNLABELLED, NEVER_US, time_us_N + 3 * DAY_US)
    return Rows(
        ("own",),
        order_N,
        np.zeros((len(day_N), 1), np.float32),
        np.array(account_N)[order_N],
        time_us_N[order_N],
        is_fraud_N[order_N],
        known_N[order_N],
    )


def test_named_folds_lie_where_the_spec_says() -> None:
    day = us("2024-01-01") / DAY_US
    rows = plain_rows([day, day + 50], [0, 0], [0, 1])
    spec = spec_with(test_starts=["2024-01-20", "2024-01-27T12:00:00"], test_days=7, train_days=10)
    first, second = folds_of(spec, rows)
    assert first == Fold(us("2024-01-07"), us("2024-01-17"), us("2024-01-20"), us("2024-01-27"))
    assert second.test_us == us("2024-01-27T12:00:00")
    assert [first.name, second.name] == ["2024-01-20", "2024-01-27"]


def test_without_names_four_folds_end_with_the_labelled_time() -> None:
    # The last ten days are not labelled yet; a tenth of the forty before is a fold.
    rows = plain_rows([100.0, 120.0, 140.0, 150.0], [0, 0, 0, 0], [0, 1, 0, UNLABELLED])
    folds = folds_of(spec_with(), rows)
    assert len(folds) == DEFAULT_FOLDS
    assert folds[-1].test_end_us == 140 * DAY_US + 1
    for fold, following in pairwise(folds):
        assert fold.test_end_us == following.test_us
    for fold in folds:
        assert fold.test_end_us - fold.test_us == 4 * DAY_US
        assert fold.test_us - fold.train_end_us == 3 * DAY_US
        assert fold.train_us == 100 * DAY_US


def test_a_fold_is_a_week_at_most() -> None:
    rows = plain_rows([0.0, 400.0], [0, 0], [0, 1])
    assert {f.test_end_us - f.test_us for f in folds_of(spec_with(), rows)} == {7 * DAY_US}


@pytest.mark.parametrize("start", ["2023-12-20", "2024-01-03", "2024-03-01"])
def test_a_fold_outside_the_labelled_time_is_refused(start: str) -> None:
    day = us("2024-01-01") / DAY_US
    rows = plain_rows([day, day + 50], [0, 0], [0, 1])
    with pytest.raises(ValueError, match=f"from {start} lies outside"):
        folds_of(spec_with(test_starts=[start], test_days=7), rows)


def test_a_file_without_labels_cannot_be_tested() -> None:
    rows = plain_rows([1.0, 2.0], [0, 0], [UNLABELLED, UNLABELLED])
    with pytest.raises(ValueError, match="no labels to test against"):
        folds_of(spec_with(), rows)


def days_tested(backtest: Backtest, rows: Rows) -> list[tuple[int, float]]:
    """Whom protocol A tests, and when, in its first fold."""
    tested_N = backtest._tested_in_a(backtest.folds[0])
    return [
        (int(a), t / DAY_US)
        for a, t in zip(rows.account_N[tested_N], rows.time_us_N[tested_N], strict=True)
    ]


def test_protocol_a_leaves_out_accounts_from_when_their_fraud_is_known(source: Source) -> None:
    # Trained on days 10 to 20, tested from day 23 on, labels known after 3 days.
    history = [
        (5.0, 0, 1),  # defrauded before the training days: nobody looked
        (12.0, 1, 1),  # defrauded in the training days: never tested
        (21.0, 2, 1),  # defrauded in the delay: known from day 24 on
        (23.5, 3, 1),  # defrauded in the test days: known from day 26.5, out from day 27 on
        (40.0, 4, 0),
    ]
    tests = [(d + 0.1, a, 0) for d in (23, 24, 25, 26, 27) for a in (0, 1, 2, 3, 4)]
    rows = plain_rows(*map(list, zip(*history, *tests, strict=True)))
    spec = spec_with(test_starts=["1970-01-24"], test_days=5, train_days=10)
    dataset = replace(source.dataset, fraud_kind_N=np.zeros(len(rows.account_N), np.int64))
    tested = days_tested(Backtest(dataset, rows, spec, FEW, CPU, unwatched), rows)
    days = {a: [int(day) for account, day in tested if account == a] for a in range(5)}
    everyday = [23, 24, 25, 26, 27]
    assert days == {0: everyday, 1: [], 2: [23, 24], 3: [23, 23, 24, 25, 26], 4: everyday}


def test_protocol_a_on_the_handbook_has_the_books_splits(requires_shared_data: Path) -> None:
    spec = DatasetSpec.load("handbook")
    dataset = read_transactions(requires_shared_data, spec)
    columns = dataset.columns
    order_N = np.lexsort((columns.time_us_N, columns.account_N))
    rows = Rows(
        ("own",),
        order_N,
        np.zeros((len(dataset), 1), np.float32),
        columns.account_N[order_N],
        columns.time_us_N[order_N],
        dataset.is_fraud_N[order_N],
        dataset.known_at_us_N[order_N],
    )
    backtest = Backtest(dataset, rows, spec, FEW, CPU, unwatched)
    sizes = []
    for fold in backtest.folds:
        t = rows.time_us_N
        trained_N = (t >= fold.train_us) & (t < fold.train_end_us)
        tested_N = backtest._tested_in_a(fold)
        sizes.append(
            [
                (int(part.sum()), int((rows.is_fraud_N[part] == 1).sum()))
                for part in (trained_N, tested_N)
            ]
        )
    assert sizes == [
        [(67_240, 598), (58_264, 385)],
        [(66_975, 626), (57_937, 387)],
        [(67_080, 568), (58_337, 408)],
        [(67_049, 594), (57_604, 422)],
    ]


def leaves(figures: Any) -> Iterator[float]:
    if isinstance(figures, dict | list):
        for each in figures.values() if isinstance(figures, dict) else figures:
            yield from leaves(each)
    elif not isinstance(figures, str):
        yield figures


def assert_complete(figures: dict[str, Any], spec: DatasetSpec, folds: int) -> None:
    """All that a report needs is there, and is a share where it is a number at all."""
    assert figures["spec"] == spec.name
    assert len(figures["protocol_a"]["folds"]) == len(figures["protocol_b"]["folds"]) == folds
    assert set(figures["protocol_a"]["mean"]) == MEASURES
    b = figures["protocol_b"]
    assert list(b["by_labels"]) == ["0", "1", "3", "5", "10", "16"]
    assert list(b["by_support"]) == ["no labels", "legitimate only", "one fraud", "several frauds"]
    for methods in (b["all"], b["unseen"], *b["by_support"].values(), *b["by_labels"].values()):
        assert set(methods) == {"adapted", "base"}
        for measures in methods.values():
            assert set(measures) == MEASURES
            shares = [value for name, value in measures.items() if name not in COUNTS]
            assert all(math.isnan(share) or 0 <= share <= 1 for share in shares)
    for fold in b["folds"]:
        by_mix = sum(each["adapted"]["transactions"] for each in fold["by_support"].values())
        assert by_mix == fold["unseen"]["adapted"]["transactions"]
        assert 0 < by_mix < fold["all"]["adapted"]["transactions"]
        without = fold["by_labels"]["0"]
        assert without["adapted"] == pytest.approx(without["base"], nan_ok=True)


@pytest.fixture(scope="module")
def simulated(source: Source, rows: Rows) -> tuple[dict[str, Any], list[str]]:
    """A back-test of the simulated file in two folds, and the trainings it told of."""
    first, last = (
        datetime.fromtimestamp(int(t) / SECOND_US, UTC)
        for t in (rows.time_us_N.min() + 28 * DAY_US, rows.time_us_N.min() + 36 * DAY_US)
    )
    starts = (first.date().isoformat(), last.date().isoformat())
    backtest = SIMULATED.backtest.model_copy(update={"test_starts": starts, "test_days": 8.0})
    spec = SIMULATED.model_copy(update={"backtest": backtest})
    told: dict[str, None] = {}

    def watch(name: str, status: Status) -> bool:
        told[name] = None
        return True

    figures = Backtest(source.dataset, rows, spec, FEW, CPU, watch).run()
    return figures, list(told)


def test_a_back_test_of_simulated_data_is_complete(
    simulated: tuple[dict[str, Any], list[str]], source: Source
) -> None:
    figures, told = simulated
    assert_complete(figures, SIMULATED, folds=2)
    assert [name[0] for name in told] == ["A", "A", "B", "B"]
    kinds = {kind for fold in figures["protocol_b"]["folds"] for kind in fold["by_kind"]}
    assert kinds <= set(source.dataset.fraud_kinds)
    assert kinds


def test_a_file_of_other_columns_is_back_tested(tmp_path: Path) -> None:
    """Numeric attributes, no merchant, no label delay, accounts with 2 to 10 transactions."""
    dataset = other_dataset(tmp_path)
    rows = rows_of(dataset, OTHER)
    figures = Backtest(dataset, rows, OTHER, FEW, CPU, unwatched).run()
    assert_complete(figures, OTHER, DEFAULT_FOLDS)
    assert figures["protocol_b"]["by_kind"] == {}
    # Without a delay a label of the morning is known in the afternoon of the next day.
    assert figures["protocol_b"]["by_support"]["one fraud"]["adapted"]["transactions"] > 0


def test_no_label_of_the_test_days_is_known_in_training(
    source: Source, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the trainer is handed: labels known before the test, and episodes that end there."""
    handed: list[tuple[Rows, train.Split]] = []

    class Witness(train.Trainer):
        def __init__(self, rows: Rows, split: train.Split, *rest: Any) -> None:
            handed.append((rows, split))
            super().__init__(rows, split, *rest)

    monkeypatch.setattr(backtest_module, "Trainer", Witness)
    backtest = Backtest(source.dataset, rows, SIMULATED, FEW, CPU, unwatched)
    fold = backtest.folds[0]
    backtest._protocol_a(fold)
    backtest._protocol_b(fold)
    for known, split in handed:
        labelled_N = known.is_fraud_N != UNLABELLED
        assert labelled_N.any()
        assert (known.known_at_us_N[labelled_N] <= fold.test_us).all()
        assert split.end_us == fold.test_us
        starts = np.concatenate([split.train, split.held_out])
        assert (known.time_us_N[starts] < fold.test_us).all()
    unseen = set(rows.account_N[backtest._unseen_N])
    of_b = set(rows.account_N[np.concatenate(handed[1][1][:2])])
    assert unseen
    assert not unseen & of_b


def test_means_are_over_the_folds_that_have_a_figure() -> None:
    folds = [
        {"test_start": "x", "a": {"p": 1.0, "n": 2}, "by_kind": {"theft": {"p": 0.5}}},
        {"test_start": "y", "a": {"p": float("nan"), "n": 4}, "by_kind": {}},
    ]
    assert mean_of(folds) == {"a": {"p": 1.0, "n": 3.0}, "by_kind": {"theft": {"p": 0.5}}}
    nothing = mean_of([{"a": float("nan")}])
    assert math.isnan(nothing["a"])


def test_the_figures_are_numbers_that_a_report_can_print(
    simulated: tuple[dict[str, Any], list[str]],
) -> None:
    assert all(isinstance(value, int | float) for value in leaves(simulated[0]))

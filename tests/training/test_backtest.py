"""Back-tests: who is tested, that nothing of the future is trained on, and all methods alike."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US, SECOND_US
from app.training import backtest as backtest_module
from app.training import differences as differences_module
from app.training import train
from app.training.backtest import Backtest
from app.training.dataset import UNLABELLED, read_transactions
from app.training.episodes import Rows
from app.training.folds import DEFAULT_FOLDS
from app.training.results import LABEL_COUNTS
from app.training.run import Source
from app.training.train import Options, Status
from tests.training.contenders import Amounts, contenders
from tests.training.files import OTHER, SIMULATED, other_dataset, plain_rows, rows_of, spec_with

CPU = "cpu"
FEW = Options(global_steps=2, meta_steps=2, episodes=8, check_every=2)
COUNTS = {"transactions", "frauds"}
MEASURES = COUNTS | {
    "average_precision",
    "card_precision_100",
    "recall_at_1_percent",
    "brier",
    "calibration_error",
}


@pytest.fixture(autouse=True, scope="module")
def _few_validations_and_frauds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "MOST_BATCHES", 2)
        patch.setattr(differences_module, "LEAST_DEFRAUDED", 1)
        yield


def unwatched(name: str, status: Status) -> bool:
    return True


def days_tested(backtest: Backtest, rows: Rows) -> list[tuple[int, float]]:
    """Whom protocol A tests, and when, in its first fold."""
    tested_N = backtest.tested_in_a(backtest.folds[0])
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


def test_a_fraud_that_becomes_known_late_is_neither_trained_on_nor_leaves_its_account_out(
    source: Source,
) -> None:
    """The rule of a delay is not enough where the file has when each label was known."""
    history = [(12.0, 1, 1), (12.5, 2, 1), (40.0, 4, 0)]
    tests = [(d + 0.1, a, 0) for d in (23, 24, 25) for a in (1, 2, 4)]
    rows = plain_rows(*map(list, zip(*history, *tests, strict=True)))
    is_late_N = (rows.account_N == 2) & (rows.is_fraud_N == 1)
    known_N = np.where(is_late_N, round(24.05 * DAY_US), rows.known_at_us_N)
    rows = replace(rows, known_at_us_N=known_N)
    spec = spec_with(test_starts=["1970-01-24"], test_days=5, train_days=10)
    dataset = replace(source.dataset, fraud_kind_N=np.zeros(len(rows.account_N), np.int64))
    backtest = Backtest(dataset, rows, spec, FEW, CPU, unwatched)
    tested = days_tested(backtest, rows)
    days = {a: [int(day) for account, day in tested if account == a] for a in (1, 2, 4)}
    # Out from the day after it was known.
    assert days == {1: [], 2: [23, 24], 4: [23, 24, 25]}


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
        tested_N = backtest.tested_in_a(fold)
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


def assert_complete(
    figures: dict[str, Any], spec: DatasetSpec, folds: int, rivals: set[str]
) -> None:
    """All that a report needs is there, and is a share where it is a number at all."""
    expected = {"adapted", "base"} | rivals
    assert figures["spec"] == spec.name
    assert set(figures["methods"]) == expected
    a, b = figures["protocol_a"], figures["protocol_b"]
    assert len(a["folds"]) == len(b["folds"]) == folds
    assert a["mean"] == a["methods"]["adapted"]
    assert list(b["by_labels"]) == ["0", "1", "3", "5", "10", "16"]
    mixes = ["no labels", "legitimate only", "one fraud", "several frauds"]
    assert list(b["by_support"]) == list(b["differences_by_support"]) == mixes
    groups = b["by_support"], b["by_labels"], b["by_kind"]
    for methods in (
        a["methods"],
        b["all"],
        b["unseen"],
        *(g for by in groups for g in by.values()),
    ):
        assert set(methods) == expected
        for measures in methods.values():
            assert set(measures) == MEASURES
            shares = [value for name, value in measures.items() if name not in COUNTS]
            assert all(math.isnan(share) or 0 <= share <= 1 for share in shares)
    for differences in (a["differences"], b["differences"], b["differences_all"]):
        assert set(differences) == expected - {"adapted"}
    for pairs in (a["pairs_in_order"], b["pairs_in_order"], b["pairs_in_order_all"]):
        assert set(pairs["methods"]) == expected
    assert b["pairs_in_order_all"]["pairs"] > b["pairs_in_order"]["pairs"] > 0
    for fold in (*a["folds"], *b["folds"]):
        assert set(fold["chosen"]["rivals"]) == rivals
        assert isinstance(fold["chosen"]["held_out_frauds"], int)
    assert "chosen" not in b
    assert set(b["differences_by_kind"]) == set(b["by_kind"])
    assert set(b["cost"]) == expected
    assert all(cost["milliseconds_an_account"] > 0 for cost in b["cost"].values())
    for fold in b["folds"]:
        by_mix = sum(each["adapted"]["transactions"] for each in fold["by_support"].values())
        assert by_mix == fold["unseen"]["adapted"]["transactions"]
        assert 0 < by_mix < fold["all"]["adapted"]["transactions"]
        # Without labels the copy is the base; each is calibrated on its own all the same.
        adapted, base = (fold["by_labels"]["0"][method] for method in ("adapted", "base"))
        for measure in ("average_precision", "recall_at_1_percent", "card_precision_100"):
            assert adapted[measure] == pytest.approx(base[measure], nan_ok=True)


class Simulated(NamedTuple):
    """A back-test of the simulated file in two folds, and the turns that it announced."""

    backtest: Backtest
    figures: dict[str, Any]
    messages: list[str]
    rivals: Sequence[Amounts]


@pytest.fixture(scope="module")
def simulated(source: Source, rows: Rows) -> Simulated:
    first, last = (
        datetime.fromtimestamp(int(t) / SECOND_US, UTC)
        for t in (rows.time_us_N.min() + 28 * DAY_US, rows.time_us_N.min() + 36 * DAY_US)
    )
    starts = (first.date().isoformat(), last.date().isoformat())
    backtest = SIMULATED.backtest.model_copy(update={"test_starts": starts, "test_days": 8.0})
    spec = SIMULATED.model_copy(update={"backtest": backtest})
    messages: dict[str, None] = {}

    def watch(name: str, status: Status) -> bool:
        messages[name] = None
        return True

    rivals = contenders()
    tested = Backtest(
        source.dataset,
        rows,
        spec,
        FEW,
        CPU,
        watch,
        rivals,
        lambda line: messages.update({line: None}),
    )
    return Simulated(tested, tested.run(), list(messages), rivals)


def test_a_back_test_of_simulated_data_is_complete(simulated: Simulated, source: Source) -> None:
    assert_complete(simulated.figures, SIMULATED, folds=2, rivals={"amounts", "labels"})
    a, b = (
        [f"{protocol} {fold.name}" for fold in simulated.backtest.folds] for protocol in ("A", "B")
    )
    assert simulated.messages == [
        f"{name}{turn}" for name in (*a, *b) for turn in ("", ": amounts <alone>", ": labels alone")
    ]
    kinds = {kind for fold in simulated.figures["protocol_b"]["folds"] for kind in fold["by_kind"]}
    assert kinds <= set(source.dataset.fraud_kinds)
    assert kinds


def test_rivals_are_fitted_on_what_was_known_and_on_no_unseen_account(
    simulated: Simulated,
) -> None:
    folds = simulated.backtest.folds
    for rival in simulated.rivals:
        assert len(rival.fitted) == 2 * len(folds)
        for fold, (rows, split) in zip((*folds, *folds), rival.fitted, strict=True):
            labelled_N = rows.is_fraud_N != UNLABELLED
            assert (rows.known_at_us_N[labelled_N] <= fold.test_us).all()
            assert (rows.time_us_N[np.concatenate(split[:2])] < fold.test_us).all()
            trained, held_out = (set(rows.account_N[part]) for part in split[:2])
            assert not trained & held_out
        unseen_N = simulated.backtest.unseen_N
        for _, split in rival.fitted[len(folds) :]:
            assert not unseen_N[np.concatenate(split[:2])].any()


def test_a_rival_that_reads_no_label_is_scored_once_and_its_curve_is_flat(
    simulated: Simulated,
) -> None:
    without, reading = simulated.rivals
    folds = len(simulated.backtest.folds)
    # By fold: in both protocols the held-out accounts and the tested rows, in B the curve too.
    assert len(without.scored) == 4 * folds
    assert {limit for _, limit in without.scored} == {SUPPORT_LIMIT}
    assert len(reading.scored) == (4 + len(LABEL_COUNTS)) * folds
    assert {limit for _, limit in reading.scored} == {SUPPORT_LIMIT, *LABEL_COUNTS}
    curve = simulated.figures["protocol_b"]["by_labels"].values()
    unseen = simulated.figures["protocol_b"]["unseen"]
    assert all(point["amounts"] == unseen["amounts"] for point in curve)
    assert len({point["labels"]["average_precision"] for point in curve}) > 1


def test_a_difference_is_the_mean_over_folds_of_what_the_folds_say(simulated: Simulated) -> None:
    b = simulated.figures["protocol_b"]
    for group, differences in (("unseen", b["differences"]), ("all", b["differences_all"])):
        for method, found in differences.items():
            by_fold = [
                fold[group]["adapted"]["average_precision"]
                - fold[group][method]["average_precision"]
                for fold in b["folds"]
            ]
            assert found["difference"] == pytest.approx(np.nanmean(by_fold), abs=1e-12)
            assert found["low"] <= found["difference"] <= found["high"]
    for group, differences in b["differences_by_support"].items():
        expected = [
            b["by_support"][group][method]["average_precision"] for method in ("adapted", "base")
        ]
        found = differences["base"]["difference"]
        assert found == pytest.approx(expected[0] - expected[1], abs=1e-12, nan_ok=True)


def test_bands_lie_about_the_curve_and_reliability_is_of_all_folds(simulated: Simulated) -> None:
    b = simulated.figures["protocol_b"]
    for limit, methods in b["bands_by_labels"].items():
        assert set(methods) == {"adapted", "base"}
        for method, bands in methods.items():
            for figure in ("average_precision", "recall_at_1_percent"):
                value = b["by_labels"][limit][method][figure]
                assert bands[figure]["low"] <= value <= bands[figure]["high"]
    pooled = sum(fold["unseen"]["base"]["transactions"] for fold in b["folds"])
    for figures in b["reliability"].values():
        assert (
            figures["transactions"]
            == sum(each["transactions"] for each in figures["bins"])
            == pooled
        )


def test_an_account_costs_bytes_where_labels_are_kept(simulated: Simulated) -> None:
    cost = simulated.figures["protocol_b"]["cost"]
    kept = {name: spent["bytes_an_account"] for name, spent in cost.items()}
    assert kept["base"] == kept["amounts"] == 0
    assert kept["adapted"] > 1_000
    assert math.isnan(kept["labels"])


def test_a_file_of_other_columns_is_back_tested(tmp_path: Path) -> None:
    """Numeric attributes, no merchant, no label delay, accounts with 2 to 10 transactions."""
    dataset = other_dataset(tmp_path)
    rows = rows_of(dataset, OTHER)
    figures = Backtest(dataset, rows, OTHER, FEW, CPU, unwatched).run()
    assert_complete(figures, OTHER, DEFAULT_FOLDS, rivals=set())
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
    backtest.protocol_a(fold)
    backtest.protocol_b(fold)
    for trained, split in handed:
        labelled_N = trained.is_fraud_N != UNLABELLED
        assert labelled_N.any()
        assert (trained.known_at_us_N[labelled_N] <= fold.test_us).all()
        assert split.end_us == fold.test_us
        starts = np.concatenate([split.train, split.held_out])
        assert (trained.time_us_N[starts] < fold.test_us).all()
    unseen = set(rows.account_N[backtest.unseen_N])
    of_b = set(rows.account_N[np.concatenate(handed[1][1][:2])])
    assert unseen
    assert not unseen & of_b


def test_the_figures_are_numbers_that_a_report_can_print(simulated: Simulated) -> None:
    assert all(isinstance(value, int | float) for value in leaves(simulated.figures))

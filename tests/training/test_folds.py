"""Folds: where they lie, and means over them."""

import math
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from app.learner.transaction import DAY_US, SECOND_US
from app.training.dataset import UNLABELLED
from app.training.folds import DEFAULT_FOLDS, Fold, folds_of, mean_of
from tests.training.files import plain_rows, spec_with


def us(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_US


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


def test_means_are_over_the_folds_that_have_a_figure() -> None:
    folds = [
        {"test_start": "x", "a": {"p": 1.0, "n": 2}, "by_kind": {"theft": {"p": 0.5}}},
        {"test_start": "y", "a": {"p": float("nan"), "n": 4}, "by_kind": {}},
    ]
    assert mean_of(folds) == {"a": {"p": 1.0, "n": 3.0}, "by_kind": {"theft": {"p": 0.5}}}
    nothing = mean_of([{"a": float("nan")}])
    assert math.isnan(nothing["a"])

"""Rank within accounts: pairs of a fraud and a legitimate row of one account, and their order."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from app.learner.decisions import Calibration
from app.training.dataset import Dataset
from app.training.differences import LEAST_DEFRAUDED
from app.training.pairs import pairs_in_order, pairs_within
from app.training.results import Results
from app.training.run import Source
from tests.training.files import plain_rows

ACCOUNTS, ROWS_EACH = 30, 20
some_rows = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 4)), max_size=40)


@given(some_rows)
def test_pairs_are_counted_within_accounts_and_ties_are_half(
    table: list[tuple[int, bool, int]],
) -> None:
    expected: dict[int, list[float]] = {}
    for account, is_fraud, score in table:
        for other, other_is_fraud, other_score in table:
            if account == other and is_fraud and not other_is_fraud:
                in_order = 1.0 if score > other_score else 0.5 if score == other_score else 0.0
                expected.setdefault(account, []).append(in_order)
    account_A, is_fraud_A, score_A = np.array(table, np.int64).reshape(-1, 3).T
    found = pairs_within(account_A, is_fraud_A == 1, score_A.astype(float))
    assert found.account_C.tolist() == sorted(expected)
    assert found.pairs_C.tolist() == [len(expected[account]) for account in sorted(expected)]
    assert found.ordered_C.tolist() == [sum(expected[account]) for account in sorted(expected)]


def test_of_one_account_the_share_is_the_area_under_its_roc_curve() -> None:
    rng = np.random.default_rng(0)
    is_fraud_A, score_A = rng.random(500) < 0.2, rng.normal(size=500).round(1)
    _, [pairs], [ordered] = pairs_within(np.full(500, 7), is_fraud_A, score_A)
    assert ordered / pairs == pytest.approx(roc_auc_score(is_fraud_A, score_A))


def fold(dataset: Dataset, seed: int, accounts: int = ACCOUNTS) -> Results:
    """Accounts distinguished by `base`, and by `adapted` their own rows too."""
    rng = np.random.default_rng(seed)
    account_N = np.repeat(np.arange(accounts), ROWS_EACH)
    is_fraud_N = rng.random(len(account_N)) < 0.3
    days = list(np.tile(np.arange(ROWS_EACH), accounts))
    rows = plain_rows(days, list(account_N), list(is_fraud_N.astype(int)))
    base_A = account_N + rng.normal(0, 0.1, len(account_N))
    logits = {"adapted": base_A + 0.1 * (rows.is_fraud_N == 1), "base": base_A, "twin": 3 * base_A}
    labels_A = np.tile(np.arange(ROWS_EACH) // 5, accounts)
    calibrations = dict.fromkeys(logits, Calibration(slope=1.0, shift=0.0))
    places = np.arange(len(account_N))
    return Results(dataset, rows, places, labels_A, 0 * labels_A, logits, calibrations)


@pytest.fixture
def dataset(source: Source) -> Dataset:
    return source.dataset


def test_shares_are_means_over_folds_and_leads_are_over_the_base(dataset: Dataset) -> None:
    folds = [fold(dataset, seed) for seed in (0, 1)]
    found = pairs_in_order(folds)
    assert found["accounts"] == ACCOUNTS
    shares: dict[str, list[float]] = {"adapted": [], "base": []}
    pairs = 0.0
    for each in folds:
        seen_A = each.labels_A > 0
        for method, of_folds in shares.items():
            first = pairs_within(
                each.account_A[seen_A], each.is_fraud_A[seen_A], each.logits[method][seen_A]
            )
            of_folds.append(first.ordered_C.sum() / first.pairs_C.sum())
        pairs += first.pairs_C.sum()
    assert found["pairs"] == pairs
    methods = found["methods"]
    for method, of_folds in shares.items():
        assert methods[method]["share"] == pytest.approx(np.mean(of_folds))
    lead = methods["adapted"]
    assert lead["difference"] == pytest.approx(lead["share"] - methods["base"]["share"])
    assert 0.05 < lead["low"] < lead["difference"] < lead["high"]
    # What ranks alike is ahead by nothing in any draw.
    assert methods["twin"] == methods["base"]
    assert methods["base"] | {"share": 0} == {"share": 0, "difference": 0, "low": 0, "high": 0}


def test_rows_before_an_accounts_first_known_label_are_in_no_pair(dataset: Dataset) -> None:
    tested = fold(dataset, 0)
    unlabelled_A = tested.labels_A == 0
    wrong_A = np.where(unlabelled_A, -1e9 * tested.is_fraud_A, tested.logits["base"])
    turned = replace(tested, logits={**tested.logits, "base": wrong_A})
    assert pairs_in_order([turned]) == pairs_in_order([tested])
    without = replace(tested, labels_A=0 * tested.labels_A)
    none = pairs_in_order([without])
    assert none["pairs"] == none["accounts"] == 0
    assert math.isnan(none["methods"]["adapted"]["share"])


@pytest.mark.parametrize("accounts", [LEAST_DEFRAUDED - 1, LEAST_DEFRAUDED])
def test_there_is_no_interval_of_few_accounts(dataset: Dataset, accounts: int) -> None:
    lead = pairs_in_order([fold(dataset, 0, accounts)])["methods"]["adapted"]
    assert not math.isnan(lead["difference"])
    assert math.isnan(lead["low"]) is math.isnan(lead["high"]) is (accounts < LEAST_DEFRAUDED)

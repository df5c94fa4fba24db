"""Scales, edges and known codes from rows: fine where it matters, harmless where nothing varies."""

import numpy as np
import pytest
import torch
from torch import Tensor

from app.learner.differentiable.network import Network
from app.learner.features import Kind
from app.learner.network import BINS
from app.training import bins

ROWS = 20_000
AMOUNT, CONSTANT, FLAG = range(3)
KINDS: tuple[Kind, ...] = ("own", "own", "history", "code")


@pytest.fixture(scope="module")
def features_NF() -> np.ndarray:
    """An amount, of which 0.3 % is above 220; a constant; a flag that few rows have; a code."""
    rng = np.random.default_rng(0)
    amount_N = rng.lognormal(3, 0.7, ROWS).clip(max=200)
    amount_N[: ROWS * 3 // 1000] = rng.uniform(221, 400, ROWS * 3 // 1000)
    flag_N = rng.random(ROWS) < 0.005
    code_N = rng.choice([0, 3, 5, 7], ROWS, p=[0.4, 0.1, 0.3, 0.2])
    return np.stack([amount_N, np.full(ROWS, 4.25), flag_N, code_N], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def is_fraud_N(features_NF: np.ndarray) -> np.ndarray:
    """All above 220, and one in two hundred anywhere."""
    anywhere_N = np.random.default_rng(1).random(ROWS) < 0.005
    return (features_NF[:, AMOUNT] > 220) | anywhere_N


def fitted(features_NF: np.ndarray, is_fraud_N: np.ndarray) -> Network:
    torch.manual_seed(0)
    network = Network(KINDS)
    bins.fit(network.encoder, features_NF, is_fraud_N)
    return network


def steps(network: Network, z: int) -> np.ndarray:
    """The edges of a quantity that stand twice."""
    edge_T = network.encoder.edges_ZT[z].numpy()
    return np.unique(edge_T[1:][edge_T[1:] == edge_T[:-1]])


def wide_at(network: Network, amounts: list[float]) -> Tensor:
    features_BNF = torch.zeros(1, len(amounts), len(KINDS))
    features_BNF[0, :, AMOUNT] = torch.tensor(amounts)
    return network.encode(features_BNF, torch.zeros(1, len(amounts))).wide_BNM[0]


@pytest.mark.parametrize("legitimate_rows", [bins.LEGITIMATE_ROWS, 500])
def test_a_threshold_finds_a_rule_that_three_rows_in_a_thousand_meet(
    features_NF: np.ndarray,
    is_fraud_N: np.ndarray,
    legitimate_rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether a tree sees all legitimate rows or, of a large file, a share."""
    monkeypatch.setattr(bins, "LEGITIMATE_ROWS", legitimate_rows)
    network = fitted(features_NF, is_fraud_N)
    found = steps(network, AMOUNT)
    assert ((found > 150) & (found < 221)).sum() == 1
    # So one rise alone distinguishes the rule from what lies just below it.
    [edge] = found[(found > 150) & (found < 221)].tolist()
    [place] = np.flatnonzero(network.encoder.edges_ZT[AMOUNT].numpy() == edge)[:1]
    with torch.no_grad():
        network.wide_rises_ZTM[AMOUNT, place] = 1.0
    below_M, above_M = wide_at(network, [edge - 0.1, edge + 0.1])
    torch.testing.assert_close(above_M - below_M, torch.ones_like(above_M))


def test_labels_unrelated_to_a_quantity_leave_its_quantiles(
    features_NF: np.ndarray, is_fraud_N: np.ndarray
) -> None:
    network = fitted(features_NF, np.zeros(ROWS, bool))
    edge_T = network.encoder.edges_ZT[AMOUNT].double().numpy()
    quantiles = np.quantile(features_NF[:, AMOUNT].astype(np.float64), bins.QUANTILES)
    np.testing.assert_allclose(edge_T[: len(quantiles)], quantiles, rtol=1e-6)
    assert (edge_T[len(quantiles) :] == edge_T[-1]).all()
    # And where they do say something, the quantiles are there as well.
    with_steps_T = fitted(features_NF, is_fraud_N).encoder.edges_ZT[AMOUNT].double().numpy()
    nearest = np.abs(with_steps_T[:, None] - quantiles).min(0)
    np.testing.assert_allclose(nearest, 0, atol=1e-4)


def test_edges_are_in_order_and_finer_towards_both_ends(
    features_NF: np.ndarray, is_fraud_N: np.ndarray
) -> None:
    edges_ZT = fitted(features_NF, is_fraud_N).encoder.edges_ZT
    assert edges_ZT.shape[1] == BINS + 1
    assert (edges_ZT.diff(dim=1) >= 0).all()
    share_T = np.diff(bins.QUANTILES)
    assert share_T[0] == pytest.approx(share_T[-1])
    assert share_T[0] < 0.02 * share_T.max()


def test_a_threshold_needs_enough_rows_on_both_sides(features_NF: np.ndarray) -> None:
    """A handful of rows is no rule, even if all of them are fraud."""
    highest = np.argsort(-features_NF[:, AMOUNT])[: bins.LEAST_LEAF]
    is_fraud_N = np.zeros(ROWS, bool)
    is_fraud_N[highest[: bins.LEAST_LEAF // 2]] = True
    found = steps(fitted(features_NF, is_fraud_N), AMOUNT)
    last, least = features_NF[highest[[0, -1]], AMOUNT]
    assert not ((found > least) & (found < last)).any()


def test_the_legitimate_rows_that_a_tree_sees_count_for_all(
    is_fraud_N: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bins, "LEGITIMATE_ROWS", 700)
    seen, weight = bins.rows_of_trees(is_fraud_N)
    assert is_fraud_N[seen].sum() == weight[is_fraud_N[seen]].sum() == is_fraud_N.sum()
    assert 700 <= (~is_fraud_N[seen]).sum() < 1400
    assert weight.sum() == pytest.approx(ROWS)


def test_constant_features_are_harmless(features_NF: np.ndarray, is_fraud_N: np.ndarray) -> None:
    """A constant counts the same in every row, and another value of it moves little."""
    network = fitted(features_NF, is_fraud_N)
    assert (network.encoder.edges_ZT[CONSTANT] == 4.25).all()
    rows_BNF = torch.from_numpy(features_NF[:1].repeat(6, 0))[None]
    rows_BNF[0, 1:, CONSTANT] = torch.tensor([4.24, 4.26, 0.0, 1e30, -1e30])
    static_BNU = network.encode(rows_BNF, torch.zeros(1, 6)).static_BNU
    assert static_BNU.isfinite().all()
    bound = 1 / np.sqrt(len(network.encoder.quantities) * (1 + BINS))
    assert (static_BNU - static_BNU[:, :1]).abs().max() < 60 * bound


def test_all_features_constant_and_one_class_alone_can_be_fitted() -> None:
    for is_fraud in (False, True):
        network = fitted(np.full((50, len(KINDS)), 3.0, np.float32), np.full(50, is_fraud))
        assert (network.encoder.edges_ZT == 3.0).all()
        assert (network.encoder.spread_Z > 0).all()
        encoded = network.encode(torch.full((1, 2, len(KINDS)), 3.0), torch.zeros(1, 2))
        assert encoded.static_BNU.isfinite().all()


def test_a_flag_that_few_rows_have_differs_from_its_absence(
    features_NF: np.ndarray, is_fraud_N: np.ndarray
) -> None:
    network = fitted(features_NF, is_fraud_N)
    with torch.no_grad():
        network.wide_rises_ZTM[FLAG].fill_(1.0)
    features_BNF = torch.zeros(1, 2, len(KINDS))
    features_BNF[0, 1, FLAG] = 1.0
    absent_M, present_M = network.encode(features_BNF, torch.zeros(1, 2)).wide_BNM[0]
    assert (present_M - absent_M).min() > 0.5


def test_the_same_rows_are_fitted_alike(features_NF: np.ndarray, is_fraud_N: np.ndarray) -> None:
    first, again = (fitted(features_NF, is_fraud_N).encoder.state_dict() for _ in range(2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_scales_are_those_of_the_rows(features_NF: np.ndarray, is_fraud_N: np.ndarray) -> None:
    encoder = fitted(features_NF, is_fraud_N).encoder
    scaled_NZ = encoder.scaled(torch.from_numpy(features_NF)[None])[0]
    inside = (scaled_NZ[:, AMOUNT].abs() < 8).numpy()
    assert scaled_NZ[inside, AMOUNT].mean().item() == pytest.approx(0, abs=0.05)
    assert encoder.spread_Z[AMOUNT].item() == pytest.approx(features_NF[:, AMOUNT].std(), rel=1e-3)
    assert (scaled_NZ[:, CONSTANT] == 0).all()


def test_known_codes_are_the_most_frequent_and_never_what_is_missing(
    features_NF: np.ndarray, is_fraud_N: np.ndarray
) -> None:
    [known_V] = fitted(features_NF, is_fraud_N).encoder.known_CV.tolist()
    assert known_V[:3] == [5, 7, 3]
    assert set(known_V[3:]) == {-1}

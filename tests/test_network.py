"""The network: its written-out gradient, and that rows and accounts do not touch each other."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from app.features import Kind
from app.network import Context, Head, Network

ACCOUNTS, ROWS, HIDDEN = 5, 7, 9
KINDS: tuple[Kind, ...] = ("own", "code", "history", "own", "code", "history")


def random_head(accounts: int = ACCOUNTS) -> Head:
    shapes = [(accounts, HIDDEN, HIDDEN), (accounts, HIDDEN), (accounts, HIDDEN), (accounts,)]
    return Head(*(torch.randn(*shape, dtype=torch.float64) for shape in shapes))


def random_features(seed: int, *shape: int) -> Tensor:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 2, (*shape, len(KINDS)))
    codes = [f for f, kind in enumerate(KINDS) if kind == "code"]
    features[..., codes] = rng.integers(0, 4, (*shape, len(codes)))
    return torch.from_numpy(features)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    network = Network(KINDS)
    network.encoder.fit(random_features(1, 500).numpy().astype(np.float32))
    return network.double()


def context_of(network: Network, labels: int, accounts: int = 2) -> Context:
    day_BK = torch.arange(accounts * labels).reshape(accounts, labels) + 19_000.0
    fraud_BK = (torch.arange(labels) % 3 == 1).double().expand(accounts, labels)
    features_BKF = random_features(2, accounts, labels)
    return network.context(features_BKF, day_BK.double(), 1 - fraud_BK, fraud_BK)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_of_a_head_is_autograds(seed: int) -> None:
    torch.manual_seed(seed)
    head = Head(*(layer.requires_grad_() for layer in random_head()))
    hidden_BNH = torch.randn(ACCOUNTS, ROWS, HIDDEN, dtype=torch.float64)
    fraud_BN = torch.randint(0, 2, (ACCOUNTS, ROWS)).double()
    weight_BN = torch.rand(ACCOUNTS, ROWS, dtype=torch.float64)
    loss = binary_cross_entropy_with_logits(
        head.logits(hidden_BNH), fraud_BN, weight=weight_BN, reduction="sum"
    )
    expected = torch.autograd.grad(loss, list(head))
    for actual, wanted in zip(
        head.gradient(hidden_BNH, fraud_BN, weight_BN), expected, strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-10)


def test_the_gradient_of_a_head_can_be_differentiated_again() -> None:
    torch.manual_seed(0)
    head = Head(*(layer.requires_grad_() for layer in random_head()))
    hidden_BNH = torch.randn(ACCOUNTS, ROWS, HIDDEN, dtype=torch.float64, requires_grad=True)
    fraud_BN = torch.randint(0, 2, (ACCOUNTS, ROWS)).double()
    weight_BN = torch.rand(ACCOUNTS, ROWS, dtype=torch.float64)
    loss = binary_cross_entropy_with_logits(
        head.logits(hidden_BNH), fraud_BN, weight=weight_BN, reduction="sum"
    )
    wanted = torch.autograd.grad(loss, list(head), create_graph=True)
    actual = head.gradient(hidden_BNH, fraud_BN, weight_BN)
    inputs = [*head, hidden_BNH]
    twice = [
        torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        for first in (actual, wanted)
    ]
    for one, other in zip(*twice, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_each_account_is_read_by_its_own_head() -> None:
    torch.manual_seed(0)
    head, hidden_BNH = random_head(), torch.randn(ACCOUNTS, ROWS, HIDDEN, dtype=torch.float64)
    together_BN = head.logits(hidden_BNH)
    for b in range(ACCOUNTS):
        alone_BN = Head(*(layer[b : b + 1] for layer in head)).logits(hidden_BNH[b : b + 1])
        torch.testing.assert_close(alone_BN, together_BN[b : b + 1], rtol=1e-12, atol=1e-12)


def hidden(network: Network, features_BNF: Tensor, day: float, context: Context) -> Tensor:
    """What the trunk makes of rows that all occur on one day."""
    day_BN = torch.full(features_BNF.shape[:2], day, dtype=torch.float64)
    return network.hidden(network.encode(features_BNF, day_BN), context)


def test_each_row_is_read_on_its_own(network: Network) -> None:
    context, features_BNF = context_of(network, labels=4), random_features(3, 2, 6)
    together_BNH = hidden(network, features_BNF, 19_010.0, context)
    for n in range(6):
        rows = slice(n, n + 1)
        alone_BNH = hidden(network, features_BNF[:, rows], 19_010.0, context)
        torch.testing.assert_close(alone_BNH, together_BNH[:, rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e30, -1e30])
@pytest.mark.parametrize("labels", [0, 1, 8])
def test_rows_are_finite_and_tame_whatever_their_features(
    network: Network, size: float, labels: int
) -> None:
    features_BNF = torch.full((2, 3, len(KINDS)), size).double()
    encoded_BNE = network.encoder(features_BNF)
    assert encoded_BNE.shape[-1] == network.encoder.width
    assert encoded_BNE.isfinite().all()
    assert encoded_BNE.abs().max() < 100
    for day in (0.0, 19_000.0, 3e6):
        hidden_BNH = hidden(network, features_BNF, day, context_of(network, labels))
        assert hidden_BNH.isfinite().all()
        assert hidden_BNH.abs().max() < 1000


def test_constant_features_stay_finite() -> None:
    network = Network(KINDS)
    network.encoder.fit(np.full((50, len(KINDS)), 3.0, np.float32))
    none_BK = torch.zeros(1, 0)
    context = network.context(torch.zeros(1, 0, len(KINDS)), none_BK.double(), none_BK, none_BK)
    features_BNF = torch.tensor([[[3.0] * len(KINDS), [4.0] * len(KINDS)]])
    assert hidden(network, features_BNF, 0.0, context).isfinite().all()


def test_a_code_never_seen_and_a_missing_code_are_known_as_nothing(network: Network) -> None:
    at = KINDS.index("code")
    features_BNF = random_features(4, 1, 4)
    features_BNF[:] = features_BNF[:, :1].clone()
    features_BNF[0, :, at] = torch.tensor([0.0, 12_345.0, 1.0, 2.0])
    missing, unseen, one, two = network.encoder(features_BNF)[0]
    assert torch.equal(missing, unseen)
    assert not torch.equal(one, two)
    assert not torch.equal(one, missing)


def test_labels_move_how_rows_are_read_and_their_counts_fade(network: Network) -> None:
    features_BNF = random_features(5, 2, 3)
    without = hidden(network, features_BNF, 19_100.0, context_of(network, labels=0))
    labelled = context_of(network, labels=5)
    soon, later, much_later, even_later = (
        hidden(network, features_BNF, 19_100.0 + days, labelled) for days in (0, 10, 3000, 3010)
    )
    assert not torch.equal(without, soon)
    assert not torch.allclose(soon, later, rtol=0, atol=1e-6)
    torch.testing.assert_close(much_later, even_later, rtol=0, atol=1e-12)


def test_the_context_is_of_the_legitimate_labels_drawn_to_the_population(
    network: Network,
) -> None:
    """Two legitimate labels at 1 and 3 and a fraud at 8, beside a prior of two labels at 0."""
    own = network.encoder.own[0]
    at = network.encoder.quantities[own]
    features_BKF = torch.zeros(1, 3, len(KINDS)).double()
    units_K = torch.tensor([1.0, 8.0, 3.0])
    features_BKF[0, :, at] = units_K * network.encoder.spread_Z[own] + network.encoder.mean_Z[own]
    fraud_BK = torch.tensor([[0.0, 1.0, 0.0]]).double()
    day_BK = torch.tensor([[107.0, 100.0, 93.0]]).double()
    context = network.context(features_BKF, day_BK, 1 - fraud_BK, fraud_BK)
    assert context.mean_BO[0, 0].item() == pytest.approx(4 / 4)
    assert context.spread_BO[0, 0].item() == pytest.approx(((0 + 4 + 2) / 4) ** 0.5)
    assert context.newest_day_B.tolist() == [107.0]
    # Whole, and with half-lives of 30 and of 7 days.
    counts = [2, 1, 1 + 2 ** (-14 / 30), 2 ** (-7 / 30), 1 + 2**-2, 2**-1]
    assert context.counts_BJ[0].tolist() == pytest.approx(counts)

"""The network: its written-out gradient, and that rows and accounts do not touch each other."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from app.learner.differentiable import network as network_module
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.network import Context, Head, Hidden, Network
from app.learner.differentiable.saving import weights_of
from app.learner.features import FeatureSet, Kind
from app.learner.kernels.adaptation import Learner as CompiledLearner
from app.learner.network import BINS, CLIP, KNOWN_VALUES, MEMBERS
from app.learner.spec import DatasetSpec
from app.training import bins

ACCOUNTS, ROWS, MANY, UNITS = 5, 7, 3, 9
KINDS: tuple[Kind, ...] = ("own", "code", "history", "own", "code", "history")
QUANTITIES = [f for f, kind in enumerate(KINDS) if kind != "code"]
CODES = [f for f, kind in enumerate(KINDS) if kind == "code"]


def random_head(accounts: int = ACCOUNTS) -> Head:
    shapes = [(MANY, UNITS, UNITS), (MANY, UNITS), (MANY, UNITS), (MANY,)]
    return Head(*(torch.randn(accounts, *shape, dtype=torch.float64) for shape in shapes))


def random_hidden() -> Hidden:
    """Rows of every account, as the trunk of three members might leave them."""
    units_MBNH = torch.randn(MANY, ACCOUNTS, ROWS, UNITS, dtype=torch.float64)
    wide_MBN = torch.randn(MANY, ACCOUNTS, ROWS, dtype=torch.float64)
    return Hidden(units_MBNH.requires_grad_(), wide_MBN.requires_grad_())


def random_labels() -> tuple[Tensor, Tensor]:
    fraud_BN = torch.randint(0, 2, (ACCOUNTS, ROWS)).double()
    return fraud_BN, torch.rand(ACCOUNTS, ROWS, dtype=torch.float64)


def loss_of(head: Head, hidden: Hidden, fraud_BN: Tensor, weight_BN: Tensor) -> Tensor:
    """Every member's own loss of every account, summed."""
    logit_MBN = head.logits(hidden)
    return binary_cross_entropy_with_logits(
        logit_MBN, fraud_BN.expand_as(logit_MBN), weight=weight_BN, reduction="sum"
    )


def expanded(head: Head, accounts: int = ACCOUNTS) -> Head:
    return Head(*(layer.expand(accounts, *layer.shape[1:]) for layer in head))


def random_features(seed: int, *shape: int) -> Tensor:
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 2, (*shape, len(KINDS)))
    features[..., CODES] = rng.integers(0, 4, (*shape, len(CODES)))
    return torch.from_numpy(features)


@pytest.fixture
def network() -> Network:
    """A network whose edges come from rows, with a wide part as if it were trained."""
    torch.manual_seed(0)
    network = Network(KINDS)
    features_NF = random_features(1, 500).numpy().astype(np.float32)
    bins.fit(network.encoder, features_NF, features_NF[:, 0] > 2)
    with torch.no_grad():
        network.wide_rises_ZTM.normal_(0, 0.1)
    return network.double()


def context_of(network: Network, labels: int, accounts: int = 2) -> Context:
    day_BK = torch.arange(accounts * labels).reshape(accounts, labels) + 19_000.0
    fraud_BK = (torch.arange(labels) % 3 == 1).double().expand(accounts, labels)
    rows = network.encode(random_features(2, accounts, labels), day_BK.double())
    return network.context(rows, 1 - fraud_BK, fraud_BK)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradient_of_a_head_is_autograds(seed: int) -> None:
    torch.manual_seed(seed)
    head = Head(*(layer.requires_grad_() for layer in random_head()))
    hidden, labels = random_hidden(), random_labels()
    wanted = torch.autograd.grad(loss_of(head, hidden, *labels), list(head))
    actual = head.gradient(hidden, *labels)
    assert tuple(actual) == Head._fields
    for layer, expected in zip(actual, wanted, strict=True):
        torch.testing.assert_close(actual[layer], expected, rtol=0, atol=1e-10)


def test_the_gradient_of_the_last_layer_is_that_of_the_whole_head() -> None:
    torch.manual_seed(0)
    head, hidden, labels = random_head(), random_hidden(), random_labels()
    last, whole = head.last_gradient(head.summed(hidden), *labels), head.gradient(hidden, *labels)
    assert tuple(last) == ("out_weight_BMH", "out_bias_BM")
    for layer, gradient in last.items():
        torch.testing.assert_close(gradient, whole[layer], rtol=0, atol=1e-12)


def test_the_gradient_of_a_head_can_be_differentiated_again() -> None:
    torch.manual_seed(0)
    head = Head(*(layer.requires_grad_() for layer in random_head()))
    hidden, labels = random_hidden(), random_labels()
    wanted = torch.autograd.grad(loss_of(head, hidden, *labels), list(head), create_graph=True)
    actual = head.gradient(hidden, *labels)
    inputs = [*head, *hidden]
    twice = [
        torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
        for first in (actual.values(), wanted)
    ]
    for one, other in zip(*twice, strict=True):
        assert other.abs().max() > 1e-3  # there is something to get wrong
        torch.testing.assert_close(one, other, rtol=0, atol=1e-8)


def test_each_account_is_read_by_its_own_head() -> None:
    torch.manual_seed(0)
    head, hidden = random_head(), random_hidden()
    together_MBN = head.logits(hidden)
    for b in range(ACCOUNTS):
        one = slice(b, b + 1)
        alone_MBN = Head(*(layer[one] for layer in head)).logits(
            Hidden(*(part[:, one] for part in hidden))
        )
        torch.testing.assert_close(alone_MBN, together_MBN[:, one], rtol=1e-12, atol=1e-12)


def test_each_member_reads_its_own_units_and_wide_part() -> None:
    torch.manual_seed(0)
    head, hidden = random_head(), random_hidden()
    together_MBN = head.logits(hidden)
    for m in range(MANY):
        one = slice(m, m + 1)
        alone_MBN = Head(*(layer[:, one] for layer in head)).logits(
            Hidden(*(part[one] for part in hidden))
        )
        torch.testing.assert_close(alone_MBN, together_MBN[one], rtol=0, atol=1e-12)


def test_the_wide_part_is_added_to_the_log_odds() -> None:
    torch.manual_seed(0)
    head, (units_MBNH, wide_MBN) = random_head(), random_hidden()
    narrow_MBN = head.logits(Hidden(units_MBNH, torch.zeros_like(wide_MBN)))
    actual_MBN = head.logits(Hidden(units_MBNH, wide_MBN))
    torch.testing.assert_close(actual_MBN, narrow_MBN + wide_MBN, rtol=0, atol=1e-12)


@pytest.mark.parametrize("own", [(), ("out_weight_BMH", "out_bias_BM"), ("weight_BMHH",)])
def test_a_shared_layer_answers_as_the_same_layer_of_each_account(own: tuple[str, ...]) -> None:
    """All layers shared, as the base's are; or some, where only others are adapted."""
    torch.manual_seed(0)
    each = random_head()
    shared = random_head(1)._replace(**{layer: getattr(each, layer) for layer in own})
    hidden, labels = random_hidden(), random_labels()
    wanted = expanded(shared)
    torch.testing.assert_close(shared.logits(hidden), wanted.logits(hidden), rtol=0, atol=1e-12)
    expected = wanted.gradient(hidden, *labels)
    for layer, gradient in shared.gradient(hidden, *labels).items():
        torch.testing.assert_close(gradient, expected[layer], rtol=0, atol=1e-12)


def test_a_head_of_no_accounts_answers_nobody() -> None:
    nothing = Hidden(*(part[:, :0] for part in random_hidden()))
    assert random_head(0).logits(nothing).shape == (MANY, 0, ROWS)
    assert random_head(1).logits(nothing).shape == (MANY, 0, ROWS)


def edges_with_steps(network: Network) -> Tensor:
    """Random edges of every quantity, two of which stand twice and one three times: [Z, T]."""
    edges_ZT = torch.randn(len(QUANTITIES), BINS + 1, dtype=torch.float64).sort(1).values
    for at, again in ((7, 8), (20, 21), (20, 22), (33, 34)):
        edges_ZT[:, again] = edges_ZT[:, at]
    network.encoder.edges_ZT.copy_(edges_ZT)
    return edges_ZT


def dense(network: Network, features_BNF: Tensor) -> tuple[Tensor, Tensor]:
    """The encoding written out, every bin's share times what is gained in it, by plain sums.

    A bin without width is full from its edge on.
    """
    encoder = network.encoder
    first_ZT, last_ZT = encoder.edges_ZT[:, :-1], encoder.edges_ZT[:, 1:]
    value_BNZ1 = features_BNF[..., QUANTITIES, None]
    share_BNZT = ((value_BNZ1 - first_ZT) / (last_ZT - first_ZT)).clamp(0, 1)
    share_BNZT = torch.where(first_ZT < last_ZT, share_BNZT, (value_BNZ1 >= last_ZT).double())
    static_BNU = torch.einsum("bnzt,ztu->bnu", share_BNZT, network.rises_ZTU)
    wide_BNM = torch.einsum("bnzt,ztm->bnm", share_BNZT, network.wide_rises_ZTM)
    scaled_BNZ = (features_BNF[..., QUANTITIES] - encoder.mean_Z) / encoder.spread_Z
    static_BNU = static_BNU + scaled_BNZ.clamp(-CLIP, CLIP) @ network.scaled_ZU + network.bias_U
    values_CVU = network.values_VU.unflatten(0, (len(CODES), KNOWN_VALUES + 1))
    for c, f in enumerate(CODES):
        is_known_BNV = features_BNF[..., f, None] == encoder.known_CV[c]
        is_other_BN1 = ~is_known_BNV.any(-1, keepdim=True)
        static_BNU = (
            static_BNU + torch.cat([is_known_BNV, is_other_BN1], -1).double() @ values_CVU[c]
        )
    return static_BNU, wide_BNM


def test_interpolation_between_knots_is_the_dense_piecewise_linear_encoding(
    network: Network,
) -> None:
    edges_ZT = edges_with_steps(network)
    anywhere_BNF = random_features(6, 3, 200)
    at_the_edges_BNF = random_features(7, 1, BINS)
    at_the_edges_BNF[0, :, QUANTITIES] = edges_ZT[:, :-1].T
    for features_BNF in (anywhere_BNF, at_the_edges_BNF):
        encoded = network.encode(features_BNF, torch.zeros(features_BNF.shape[:2]))
        static_BNU, wide_BNM = dense(network, features_BNF)
        torch.testing.assert_close(encoded.static_BNU, static_BNU, rtol=0, atol=1e-12)
        torch.testing.assert_close(encoded.wide_BNM, wide_BNM, rtol=0, atol=1e-12)
    assert wide_BNM.std() > 0.1


def test_the_gradient_of_the_interpolation_is_that_of_the_dense_encoding(
    network: Network,
) -> None:
    edges_with_steps(network)
    features_BNF = random_features(6, 2, 50)
    encoded = network.encode(features_BNF, torch.zeros(2, 50))
    weights = [
        network.rises_ZTU,
        network.wide_rises_ZTM,
        network.values_VU,
        network.scaled_ZU,
        network.bias_U,
    ]
    actual, wanted = (
        torch.autograd.grad(static_BNU.square().sum() + wide_BNM.square().sum(), weights)
        for static_BNU, wide_BNM in (encoded[:2], dense(network, features_BNF))
    )
    for one, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def wide_at(network: Network, z: int, values: list[float]) -> Tensor:
    """What the wide part makes of rows that differ in one quantity: [N, M]."""
    features_BNF = torch.zeros(1, len(values), len(KINDS), dtype=torch.float64)
    features_BNF[0, :, QUANTITIES[z]] = torch.tensor(values, dtype=torch.float64)
    return network.encode(features_BNF, torch.zeros(1, len(values))).wide_BNM[0]


@pytest.mark.parametrize("z", range(len(QUANTITIES)))
def test_an_edge_that_stands_twice_is_a_step(network: Network, z: int) -> None:
    edges_ZT = edges_with_steps(network)
    for at, again in ((7, 8), (20, 22), (33, 34)):
        edge = edges_ZT[z, at].item()
        below_M, on_M, above_M = wide_at(network, z, [edge - 1e-9, edge, edge + 1e-9])
        step_M = network.wide_rises_ZTM[z, at:again].sum(0)
        assert step_M.abs().max() > 0.05
        torch.testing.assert_close(on_M - below_M, step_M, rtol=0, atol=1e-6)
        torch.testing.assert_close(above_M, on_M, rtol=0, atol=1e-6)
    single = edges_ZT[z, 12].item()
    below_M, above_M = wide_at(network, z, [single - 1e-9, single + 1e-9])
    torch.testing.assert_close(above_M, below_M, rtol=0, atol=1e-6)


@pytest.mark.parametrize("z", range(len(QUANTITIES)))
def test_beyond_the_edges_nothing_more_is_gained(network: Network, z: int) -> None:
    edges_ZT = edges_with_steps(network)
    first, last = edges_ZT[z, 0].item(), edges_ZT[z, -1].item()
    at_first_M, *below_NM = wide_at(network, z, [first, first - 1, first - 1e6, -1e30])
    at_last_M, *above_NM = wide_at(network, z, [last, last + 1, last + 1e6, 1e30])
    assert all(torch.equal(below_M, at_first_M) for below_M in below_NM)
    torch.testing.assert_close(torch.stack(above_NM), at_last_M.expand(3, -1), rtol=0, atol=1e-12)
    rise_M = network.wide_rises_ZTM[z].sum(0)
    torch.testing.assert_close(at_last_M - at_first_M, rise_M, rtol=0, atol=1e-12)


def test_knots_at_hand_in_single_precision_read_a_row_to_the_bit_whatever_is_beside_it(
    network: Network,
) -> None:
    knots, features_BNF = network.knots().float(), random_features(8, 4, 50)
    together = network.encode(features_BNF, torch.zeros(4, 50), knots)
    exact = network.encode(features_BNF, torch.zeros(4, 50))
    assert together.static_BNU.dtype == together.wide_BNM.dtype == torch.float64
    torch.testing.assert_close(together.static_BNU, exact.static_BNU, rtol=0, atol=1e-5)
    for b, n in ((0, 0), (1, 49), (3, 17)):
        alone = network.encode(features_BNF[b : b + 1, n : n + 1], torch.zeros(1, 1), knots)
        assert torch.equal(alone.wide_BNM[0, 0], together.wide_BNM[b, n])


def units(network: Network, features_BNF: Tensor, day: float, context: Context) -> Tensor:
    """The hidden units of rows that all occur on one day: [M, B, N, H]."""
    day_BN = torch.full(features_BNF.shape[:2], day, dtype=torch.float64)
    return network.hidden(network.encode(features_BNF, day_BN), context).units_MBNH


def test_each_row_is_read_on_its_own(network: Network) -> None:
    context, features_BNF = context_of(network, labels=4), random_features(3, 2, 6)
    together_MBNH = units(network, features_BNF, 19_010.0, context)
    for n in range(6):
        rows = slice(n, n + 1)
        alone_MBNH = units(network, features_BNF[:, rows], 19_010.0, context)
        torch.testing.assert_close(alone_MBNH, together_MBNH[:, :, rows], rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e30, -1e30])
@pytest.mark.parametrize("labels", [0, 1, 8])
def test_rows_are_finite_and_tame_whatever_their_features(
    network: Network, size: float, labels: int
) -> None:
    features_BNF = torch.full((2, 3, len(KINDS)), size).double()
    for part in network.encode(features_BNF, torch.zeros(2, 3))[:3]:
        assert part.isfinite().all()
        assert part.abs().max() < 100
    for day in (0.0, 19_000.0, 3e6):
        hidden_MBNH = units(network, features_BNF, day, context_of(network, labels))
        assert hidden_MBNH.isfinite().all()
        assert hidden_MBNH.abs().max() < 1000


def test_a_code_never_seen_and_a_missing_code_have_a_value_of_their_own(network: Network) -> None:
    features_BNF = random_features(4, 1, 5)
    features_BNF[:] = features_BNF[:, :1].clone()
    features_BNF[0, :, CODES[1]] = torch.tensor([0.0, 12_345.0, -7.0, 1.0, 2.0])
    missing, unseen, odd, one, two = network.encode(features_BNF, torch.zeros(1, 5)).static_BNU[0]
    assert torch.equal(missing, unseen)
    assert torch.equal(missing, odd)
    assert not torch.equal(one, two)
    values_CVU = network.values_VU.unflatten(0, (len(CODES), KNOWN_VALUES + 1))
    place = network.encoder.known_CV[1].tolist().index(1.0)
    gained_U = values_CVU[1, place] - values_CVU[1, KNOWN_VALUES]
    torch.testing.assert_close(one - missing, gained_U, rtol=0, atol=1e-12)


def test_a_network_reads_rows_with_and_without_codes() -> None:
    for kinds in (("own", "history"), ("own", "code")):
        network = Network(kinds)
        encoded = network.encode(torch.ones(2, 3, 2), torch.zeros(2, 3))
        assert encoded.static_BNU.isfinite().all()
        assert encoded.wide_BNM.shape == (2, 3, MEMBERS)


def test_labels_move_how_rows_are_read_and_their_counts_fade(network: Network) -> None:
    features_BNF = random_features(5, 2, 3)
    without = units(network, features_BNF, 19_100.0, context_of(network, labels=0))
    labelled = context_of(network, labels=5)
    soon, later, much_later, even_later = (
        units(network, features_BNF, 19_100.0 + days, labelled) for days in (0, 10, 3000, 3010)
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
    rows = network.encode(features_BKF, day_BK)
    context = network.context(rows, 1 - fraud_BK, fraud_BK)
    assert context.mean_BO[0, 0].item() == pytest.approx(4 / 4)
    assert context.spread_BO[0, 0].item() == pytest.approx(((0 + 4 + 2) / 4) ** 0.5)
    assert context.newest_day_B.tolist() == [107.0]
    # Whole, and with half-lives of 30 and of 7 days.
    counts = [2, 1, 1 + 2 ** (-14 / 30), 2 ** (-7 / 30), 1 + 2**-2, 2**-1]
    assert context.counts_BJ[0].tolist() == pytest.approx(counts)


def test_what_serving_has_computed_does_not_keep_training_from_differentiating() -> None:
    """Where a process does both: decays keep their half-lives for whoever comes next."""
    network_module._half_lives.cache_clear()
    age_BN = torch.rand(ACCOUNTS, ROWS, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        network_module._decay(age_BN.detach())
    network_module._decay(age_BN).sum().backward()
    assert age_BN.grad is not None
    assert (age_BN.grad < 0).all()


def test_what_never_changed_in_training_cannot_decide_a_score_alone() -> None:
    """As the declines of the last minutes, where a training file has no statuses."""
    features = FeatureSet(DatasetSpec.load("simulated"))
    refused = features.names.index("account_refused_5m")
    assert features.kinds[refused] == "pace"
    rng = np.random.default_rng(0)
    seen_NF = rng.normal(size=(400, len(features.names))).astype(np.float32)
    seen_NF[:, refused] = 0.0
    learner = Learner(features.kinds)
    bins.fit(learner.network.encoder, seen_NF, rng.random(400) < 0.3)
    rows_2F = np.repeat(seen_NF[:1], 2, axis=0)
    rows_2F[1, refused] = np.log1p(3)
    with torch.inference_mode():
        encoded = learner.network.encode(torch.tensor(rows_2F)[None], torch.zeros(1, 2))
        [logit_2] = learner.base_logits(encoded).numpy()
    assert abs(logit_2[1] - logit_2[0]) < 10
    compiled = CompiledLearner(features.kinds, "anil", weights_of(learner))
    base_2 = compiled.encode(rows_2F, np.zeros(2))[:, -1]
    assert abs(base_2[1] - base_2[0]) < 10

"""The network: its written-out gradient, and that rows and accounts do not touch each other."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from app.learner.differentiable import network as network_module
from app.learner.differentiable.adaptation import Learner
from app.learner.differentiable.network import Context, Encoded, Head, Hidden, Network
from app.learner.differentiable.saving import weights_of
from app.learner.features import FeatureSet, Kind
from app.learner.kernels.adaptation import Learner as CompiledLearner
from app.learner.network import (
    BEYOND,
    BINS,
    CLIP,
    HIDDEN,
    KNOWN_VALUES,
    LEAST_RISE,
    MEMBERS,
    WIDTH_OF_RISE,
    Columns,
    shapes,
)
from app.learner.spec import DatasetSpec
from app.training import bins

ACCOUNTS, ROWS, MANY, UNITS = 5, 7, 3, 9
KINDS: tuple[Kind, ...]
KINDS = ("own", "code", "history", "own", "identity", "code", "history", "identity")
QUANTITIES = [f for f, kind in enumerate(KINDS) if kind in ("own", "history")]
CODES = [f for f, kind in enumerate(KINDS) if kind == "code"]
IDENTITIES = [f for f, kind in enumerate(KINDS) if kind == "identity"]
COMPARED = sorted(CODES + IDENTITIES)
HOUR = 1 / 24


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
    features[..., COMPARED] = rng.integers(0, 4, (*shape, len(COMPARED)))
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
        network.wide_relation_IM.normal_(0, 0.1)
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
    for first, other in zip(*twice, strict=True):
        assert other.abs().max() > 1e-3  # there is something to get wrong
        torch.testing.assert_close(first, other, rtol=0, atol=1e-8)


def test_each_account_is_read_by_its_own_head() -> None:
    torch.manual_seed(0)
    head, hidden = random_head(), random_hidden()
    together_MBN = head.logits(hidden)
    for b in range(ACCOUNTS):
        account = slice(b, b + 1)
        alone_MBN = Head(*(layer[account] for layer in head)).logits(
            Hidden(*(part[:, account] for part in hidden))
        )
        torch.testing.assert_close(alone_MBN, together_MBN[:, account], rtol=1e-12, atol=1e-12)


def test_each_member_reads_its_own_units_and_wide_part() -> None:
    torch.manual_seed(0)
    head, hidden = random_head(), random_hidden()
    together_MBN = head.logits(hidden)
    for m in range(MANY):
        member = slice(m, m + 1)
        alone_MBN = Head(*(layer[:, member] for layer in head)).logits(
            Hidden(*(part[member] for part in hidden))
        )
        torch.testing.assert_close(alone_MBN, together_MBN[member], rtol=0, atol=1e-12)


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
    seen_BNZ = features_BNF[..., QUANTITIES].clamp(encoder.edges_ZT[:, 0], encoder.edges_ZT[:, -1])
    scaled_BNZ = (seen_BNZ - encoder.mean_Z) / encoder.spread_Z
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
    for found, other in zip(actual, wanted, strict=True):
        torch.testing.assert_close(found, other, rtol=0, atol=1e-9)


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
        assert step_M.abs().max() > 0.02
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
    missing, unseen, odd, first, two = network.encode(features_BNF, torch.zeros(1, 5)).static_BNU[0]
    assert torch.equal(missing, unseen)
    assert torch.equal(missing, odd)
    assert not torch.equal(first, two)
    values_CVU = network.values_VU.unflatten(0, (len(CODES), KNOWN_VALUES + 1))
    place = network.encoder.known_CV[1].tolist().index(1.0)
    gained_U = values_CVU[1, place] - values_CVU[1, KNOWN_VALUES]
    torch.testing.assert_close(first - missing, gained_U, rtol=0, atol=1e-12)


def test_codes_and_identities_are_compared_and_an_identity_is_nothing_else() -> None:
    kinds: tuple[Kind, ...]
    kinds = ("identity", "own", "code", "history", "identity", "own", "amount", "code", "pace")
    columns = Columns.of(kinds)
    assert columns.quantities == [1, 3, 5, 6, 8]
    assert columns.codes == [2, 7]
    assert columns.own == [0, 2]
    assert columns.compared == [0, 2, 4, 7]
    # Three of both classes; of each five counts, five more, and two for each code or identity.
    assert columns.label_inputs == 3 + 2 * (10 + 2 * 4)
    others = tuple(kind for kind in kinds if kind != "identity")
    of_all, without = shapes(kinds, "anil"), shapes(others, "anil")
    differing = {"network.relation.weight", "network.wide_relation_IM"}
    assert {name for name, shape in of_all.items() if shape != without[name]} == differing
    assert of_all["network.wide_relation_IM"] == (3 + 2 * (10 + 2 * 4), MEMBERS)
    assert without["network.wide_relation_IM"] == (3 + 2 * (10 + 2 * 2), MEMBERS)


def test_no_identity_changes_how_a_row_without_labels_is_read(network: Network) -> None:
    rows_BNF, day_BN = random_features(9, 2, 3), torch.zeros(2, 3)
    others_BNF = rows_BNF.clone()
    others_BNF[..., IDENTITIES] = 16_777_215.0
    first, other = network.encode(rows_BNF, day_BN), network.encode(others_BNF, day_BN)
    assert not torch.equal(first.compared_BNE, other.compared_BNE)
    for part, of_other in zip(
        network.hidden(first, network.no_context(2)),
        network.hidden(other, network.no_context(2)),
        strict=True,
    ):
        assert torch.equal(part, of_other)
    others_BNF[..., 0] += 1.0
    assert not torch.equal(first.static_BNU, network.encode(others_BNF, day_BN).static_BNU)


def test_a_network_reads_rows_with_and_without_codes() -> None:
    for kinds in (("own", "history"), ("own", "code")):
        network = Network(kinds)
        encoded = network.encode(torch.ones(2, 3, 2), torch.zeros(2, 3))
        assert encoded.static_BNU.isfinite().all()
        assert encoded.wide_BNM.shape == (2, 3, MEMBERS)


def test_labels_move_how_rows_are_read_and_less_and_less_as_they_age(network: Network) -> None:
    features_BNF = random_features(5, 2, 3)
    without = units(network, features_BNF, 19_100.0, context_of(network, labels=0))
    labelled = context_of(network, labels=5)
    soon, later, much_later, even_later = (
        units(network, features_BNF, 19_100.0 + days, labelled) for days in (0, 10, 3000, 3010)
    )
    assert not torch.equal(without, soon)
    first, last = (later - soon).abs().max(), (even_later - much_later).abs().max()
    assert first > 100 * last


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
    assert context.compared_BKE.tolist() == features_BKF[..., COMPARED].tolist()
    assert context.day_BK.tolist() == day_BK.tolist()
    assert context.fraud_BK.tolist() == fraud_BK.tolist()
    assert context.legitimate_BK.tolist() == (1 - fraud_BK).tolist()


class Label(NamedTuple):
    """A labelled row: when it was, and its codes and identities."""

    day: float
    is_fraud: bool
    codes: tuple[int, ...]


def inputs_by_hand(
    day: float, codes: tuple[int, ...], labels: list[Label], earlier: bool = False
) -> list[float]:
    """What labels say of one row, in plain numbers, as `label_inputs` describes it."""
    seen = [label for label in labels if label.day < day] if earlier else labels
    inputs: list[float] = []
    hours_by_class = []
    for is_fraud in (False, True):
        of_class = [label for label in seen if label.is_fraud == is_fraud]
        ages = [max(day - label.day, 0.0) for label in of_class]
        inputs += [
            math.log(1 + sum(0.5 ** (age / half_life) for age in ages))
            for half_life in (math.inf, 30.0, 7.0, 1.0, HOUR)
        ]
        same = [
            [row == label and row != 0 for row, label in zip(codes, member.codes, strict=True)]
            for member in of_class
        ]
        shares = [sum(each) / len(codes) for each in same]
        hours = 24 * min(ages, default=math.inf)
        hours_by_class.append(hours)
        inputs += [1.0, math.log(1 + hours) / 10, 1 / (1 + hours)] if of_class else [0.0] * 3
        inputs += [max(shares, default=0.0), math.log(1 + sum(share**3 for share in shares))]
        for half_life in (math.inf, 7.0):
            for e in range(len(codes)):
                alike = [age for age, each in zip(ages, same, strict=True) if each[e]]
                inputs.append(math.log(1 + sum(0.5 ** (age / half_life) for age in alike)))
    if not seen:
        return [*inputs, 0.0, 0.0, 0.0]
    frauds = sum(label.is_fraud for label in seen)
    legitimate = len(seen) - frauds
    younger = [math.log(1 + hours) / 10 for hours in hours_by_class]
    return [
        *inputs,
        younger[1] - younger[0] if frauds and legitimate else 0.0,
        (frauds + 0.3) / (frauds + legitimate + 1),
        math.log((frauds + 0.5) / (legitimate + 0.5)),
    ]


def encoded_at(network: Network, days: list[float], codes: list[tuple[int, ...]]) -> Encoded:
    """Rows of one account at these days, with these codes and identities."""
    features_1NF = torch.zeros(1, len(days), len(KINDS)).double()
    features_1NF[0][:, COMPARED] = torch.tensor(codes).double().reshape(-1, len(COMPARED))
    return network.encode(features_1NF, torch.tensor([days], dtype=torch.float64))


def context_by(network: Network, labels: list[Label]) -> Context:
    rows = encoded_at(network, [label.day for label in labels], [label.codes for label in labels])
    fraud_1K = torch.tensor([[float(label.is_fraud) for label in labels]]).double()
    return network.context(rows, 1 - fraud_1K, fraud_1K)


def inputs_of(
    network: Network,
    day: float,
    codes: tuple[int, ...],
    labels: list[Label],
    earlier: bool = False,
) -> list[float]:
    """The same of one row by the network."""
    row = encoded_at(network, [day], [codes])
    inputs: list[float] = network.label_inputs(row, context_by(network, labels), earlier)[
        0, 0
    ].tolist()
    return inputs


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 32])
def test_what_labels_contribute_is_what_plain_sums_give(
    network: Network, count: int, earlier: bool
) -> None:
    """Rows and labels at few moments and with few codes: many are equal, some are missing."""
    rng = np.random.default_rng(count)
    moments = 19_000.0 + np.array([0.0, 0.01, 0.5, 3.0, 40.0])
    labels = [
        Label(float(rng.choice(moments)), bool(rng.random() < 0.4), tuple(rng.integers(0, 3, 4)))
        for _ in range(count)
    ]
    days = [float(day) for day in rng.choice(np.append(moments, [18_990.0, 19_400.0]), 30)]
    codes = [tuple(rng.integers(0, 3, 4).tolist()) for _ in days]
    rows = encoded_at(network, days, codes)
    found_NI = network.label_inputs(rows, context_by(network, labels), earlier)[0]
    expected = [inputs_by_hand(*row, labels, earlier) for row in zip(days, codes, strict=True)]
    assert found_NI.shape == (30, network.encoder.label_inputs)
    np.testing.assert_allclose(found_NI, expected, rtol=0, atol=1e-12)
    assert found_NI.any() == (count > 0)


@pytest.mark.parametrize("earlier", [False, True])
def test_without_labels_a_row_is_read_as_by_the_base(network: Network, earlier: bool) -> None:
    rows = encoded_at(network, [0.0, 19_000.0], [(1, 2, 3, 1), (0, 0, 0, 0)])
    padding = network.encode(random_features(3, 1, 4), torch.full((1, 4), 18_000.0).double())
    nothing_14 = torch.zeros(1, 4).double()
    for context in (network.no_context(1), network.context(padding, nothing_14, nothing_14)):
        inputs_1NI = network.label_inputs(rows, context, earlier)
        assert inputs_1NI.shape == (1, 2, network.encoder.label_inputs)
        assert not inputs_1NI.any()
        hidden = network.hidden(rows, context, earlier)
        for part, of_base in zip(hidden, network.unlabelled(rows), strict=True):
            torch.testing.assert_close(part, of_base, rtol=0, atol=1e-12)


def test_a_labelled_row_sees_the_labels_of_strictly_earlier_rows_alone(network: Network) -> None:
    before = Label(19_000.0, True, (1, 1, 1, 1))
    itself = Label(19_001.0, False, (1, 2, 1, 1))
    beside = Label(19_001.0, True, (2, 2, 1, 1))
    after = Label(19_001.0 + 1e-6, True, (1, 2, 1, 1))
    row = itself.day, itself.codes
    all_of_them = [before, itself, beside, after]
    alone = inputs_of(network, *row, [before])
    assert inputs_of(network, *row, all_of_them, earlier=True) == alone
    assert any(alone)
    assert not any(inputs_of(network, *row, [itself, beside, after], earlier=True))
    # A payment that is scored sees all that is known, those of its own moment and later, too.
    everything = inputs_of(network, *row, all_of_them)
    assert everything[0] == pytest.approx(math.log(1 + 1))
    assert everything != alone


def test_a_missing_code_is_like_nothing(network: Network) -> None:
    fraud = Label(19_000.0, True, (0, 0, 0, 0))
    other = fraud._replace(codes=(1, 2, 3, 4))
    unlike = inputs_of(network, 19_001.0, (9, 9, 9, 9), [other])
    assert inputs_of(network, 19_001.0, (0, 0, 0, 0), [fraud]) == unlike
    assert inputs_of(network, 19_001.0, (0, 0, 0, 0), [other]) == unlike
    assert inputs_of(network, 19_001.0, (1, 2, 3, 4), [fraud]) == unlike


@pytest.mark.parametrize("e", range(len(COMPARED)))
def test_the_same_code_or_identity_counts_at_its_own_place(network: Network, e: int) -> None:
    """Also an identity, in which two payments are the same or are not, whatever it is."""
    fraud = Label(19_000.0, True, (1, 16_777_215, 3, 16_777_214))
    unlike = (11, 12, 13, 14)
    alike = tuple(fraud.codes[at] if at == e else code for at, code in enumerate(unlike))
    inputs = np.array(inputs_of(network, 19_007.0, alike, [fraud]))
    other = np.array(inputs_of(network, 19_007.0, unlike, [fraud]))
    # Behind the columns of legitimate labels: the largest share, and the count by its cube; then
    # of each place the plain count, and the one with a half-life of a week.
    first = 10 + 2 * len(COMPARED)
    moved = {
        first + 8: 1 / 4,
        first + 9: math.log(1 + 1 / 64),
        first + 10 + e: math.log(2),
        first + 10 + len(COMPARED) + e: math.log(1.5),
    }
    assert dict(enumerate((inputs - other).tolist())) == pytest.approx(
        {at: moved.get(at, 0.0) for at in range(len(inputs))}
    )


def test_labels_reach_the_log_odds_directly_and_by_the_trunk(network: Network) -> None:
    rows = encoded_at(network, [19_000.0], [(1, 2, 3, 1)])
    context = context_by(network, [Label(18_999.0, True, (1, 2, 3, 1))])
    inputs_11I = network.label_inputs(rows, context)
    hidden = network.hidden(rows, context)
    direct_M = inputs_11I[0, 0] @ network.wide_relation_IM
    assert direct_M.abs().min() > 0.01
    torch.testing.assert_close(hidden.wide_MBN[:, 0, 0], rows.wide_BNM[0, 0] + direct_M)
    related_R = torch.cat([network.relative(rows, context), inputs_11I], dim=-1)[0, 0]
    units_U = (rows.static_BNU[0, 0] + network.relation.weight @ related_R).relu()
    torch.testing.assert_close(hidden.units_MBNH[:, 0, 0], units_U.reshape(MEMBERS, HIDDEN))


SURPRISES: tuple[Kind, ...] = ("amount", "pace", "history", "pace")


@pytest.fixture
def surprised() -> Network:
    """A network that saw amounts of 0 to 20, paces of 0 to 5, and the last always 2.

    The pace was all but always 0: its spread is far less than its range.
    """
    torch.manual_seed(0)
    network = Network(SURPRISES)
    features_NF = np.zeros((2001, len(SURPRISES)), np.float32)
    features_NF[:, 0] = features_NF[:, 2] = np.linspace(0, 20, 2001)
    features_NF[7, 1] = 5.0
    features_NF[:, 3] = 2.0
    bins.fit(network.encoder, features_NF, np.arange(2001) % 9 == 0)
    assert network.encoder.spread_Z[1] < 0.2
    return network.double()


def gained(network: Network, f: int, value: float, than: float) -> float:
    """How much more a value of a feature adds to each member's log-odds than another one does."""
    features_1NF = torch.zeros(1, 2, len(SURPRISES)).double()
    features_1NF[..., 3] = 2.0
    features_1NF[0, :, f] = torch.tensor([value, than]).double()
    wide_NM = network.encode(features_1NF, torch.zeros(1, 2)).wide_BNM[0]
    return float((wide_NM[0] - wide_NM[1]).mean().detach())


@pytest.mark.parametrize(("f", "last"), [(0, 20.0), (1, 5.0)])
def test_beyond_the_values_of_training_an_amount_or_a_pace_adds_by_their_range(
    surprised: Network, f: int, last: float
) -> None:
    assert gained(surprised, f, 2 * last, than=last) == pytest.approx(BEYOND)
    assert gained(surprised, f, 11 * last, than=last) == pytest.approx(10 * BEYOND)
    assert gained(surprised, f, last, than=last / 2) == pytest.approx(0)
    assert gained(surprised, f, -100 * last, than=0.0) == pytest.approx(0)


def test_beyond_the_values_of_training_no_other_quantity_adds(surprised: Network) -> None:
    assert gained(surprised, 2, 1e6, than=20.0) == pytest.approx(0)


@pytest.mark.parametrize("value", [2.1, 100.0, 1e6, 1e30])
def test_what_was_always_the_same_in_training_adds_nothing_however_large_it_gets(
    surprised: Network, value: float
) -> None:
    assert gained(surprised, 3, value, than=2.0) == 0
    features_1NF = torch.zeros(1, 2, len(SURPRISES)).double()
    features_1NF[0, :, 3] = torch.tensor([2.0, value])
    usual_U, large_U = surprised.encode(features_1NF, torch.zeros(1, 2)).static_BNU[0]
    torch.testing.assert_close(large_U, usual_U, rtol=0, atol=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_the_largest_amounts_of_training_add_to_the_risk_whatever_was_learned(
    surprised: Network, missing: bool
) -> None:
    """Also where the last edge stands several times, as where there are few thresholds."""
    edges_T = surprised.encoder.edges_ZT[0]
    if missing:
        edges_T[-4:] = edges_T[-1]
    edges_T[edges_T == edges_T[-1]] += 2 * WIDTH_OF_RISE
    *_, before, last = edges_T.unique().tolist()
    with torch.no_grad():
        surprised.wide_rises_ZTM.copy_(torch.full_like(surprised.wide_rises_ZTM, -3.0))
    surprised.keep_rising()
    assert gained(surprised, 0, last, than=before) == pytest.approx(LEAST_RISE)
    assert gained(surprised, 0, (before + last) / 2, than=before) == pytest.approx(
        LEAST_RISE / 2, rel=1e-3
    )
    assert gained(surprised, 0, before, than=edges_T[0].item()) == 0
    with torch.no_grad():
        surprised.wide_rises_ZTM.copy_(torch.full_like(surprised.wide_rises_ZTM, 2.0))
    surprised.keep_rising()
    halfway = gained(surprised, 0, (before + last) / 2, than=before)
    assert halfway == pytest.approx(1.0, rel=1e-3), "what was learned beyond that stays"


def test_where_training_saw_hardly_any_width_of_large_amounts_they_add_as_much_less(
    surprised: Network,
) -> None:
    """As in small files, whose largest amount is hardly larger than the next."""
    edges_T = surprised.encoder.edges_ZT[0]
    before = edges_T[-2].item()
    edges_T[-1] = before + WIDTH_OF_RISE / 10
    with torch.no_grad():
        surprised.wide_rises_ZTM.zero_()
    surprised.keep_rising()
    assert gained(surprised, 0, edges_T[-1].item(), than=before) == pytest.approx(LEAST_RISE / 10)


def test_scaled_values_go_no_further_than_what_training_saw(surprised: Network) -> None:
    encoder = surprised.encoder
    features_NF = torch.tensor([[-1e9] * 4, [0.0, 0, 0, 2], [20.0, 5, 20, 2], [1e9] * 4]).double()
    below, first, last, above = encoder.scaled(features_NF[None])[0]
    torch.testing.assert_close(below, first, rtol=0, atol=0)
    torch.testing.assert_close(above, last, rtol=0, atol=0)
    expected_Z = ((torch.tensor([20.0, 5, 20, 2]) - encoder.mean_Z) / encoder.spread_Z).clamp(
        max=CLIP
    )
    torch.testing.assert_close(last, expected_Z)
    assert (last > first).tolist() == [True, True, True, False]


def test_what_serving_has_computed_does_not_keep_training_from_differentiating() -> None:
    """Where a process does both: decays keep their half-lives for whoever comes next."""
    network_module.half_lives.cache_clear()
    age_BN = torch.rand(ACCOUNTS, ROWS, dtype=torch.float64, requires_grad=True)
    with torch.inference_mode():
        network_module.decay(age_BN.detach())
    network_module.decay(age_BN).sum().backward()
    assert age_BN.grad is not None
    assert (age_BN.grad < 0).all()


def test_what_never_changed_in_training_cannot_decide_a_score_alone() -> None:
    """As the declines of the last minutes, where a training file has no statuses."""
    features = FeatureSet(DatasetSpec.load("simulated"))
    refused = features.names.index("account_refused_5m")
    assert features.kinds[refused] == "refused"
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
    encoded_2X, none_2 = compiled.encode(rows_2F, np.zeros(2)), np.zeros(2, np.intp)
    base_2 = compiled.logits(encoded_2X, compiled.unadapted(), none_2)
    assert abs(base_2[1] - base_2[0]) < 10

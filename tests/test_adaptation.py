"""Adaptation: all accounts at once is each account alone, through two derivatives."""

import copy
from functools import cache
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu

from app.learner.adaptation import (
    LARGEST_MOVE,
    LEAST_WEIGHT,
    PARTS,
    SUPPORT_LIMIT,
    Support,
    select_support,
)
from app.learner.algorithms import ALGORITHMS, Algorithm
from app.learner.differentiable.adaptation import (
    FIRST_ORDER,
    AdaptedHead,
    Copies,
    Gate,
    Learner,
    SupportBatch,
    bounded,
    pad_supports,
)
from app.learner.differentiable.network import Encoded, Head
from app.learner.features import FeatureSet
from app.learner.network import INNER_STEPS, LAST_LAYER, Columns
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.training import bins

FEATURES = FeatureSet(DatasetSpec.load("simulated"))
WIDTH = len(FEATURES.names)
COMPARED = Columns.of(FEATURES.kinds).compared
# Labels of each account, newest first: none, legitimate only, fraud only, one of many, mixed.
LABELS = ["", "0000", "1", "00010000", "0110", "11111", "0" * 31 + "1"]
QUERIES = 6
QueryRows = tuple[Tensor, Tensor, Tensor]


def random_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Rows of which many have a code or an identity in common."""
    rows = rng.normal(1.0, 1.5, (*shape, WIDTH)).astype(np.float32)
    rows[..., COMPARED] = rng.integers(0, 4, (*shape, len(COMPARED)))
    return rows


def random_support(rng: np.random.Generator, labels: str) -> Support:
    is_fraud_K = np.array([label == "1" for label in labels], bool)
    age_days = np.sort(rng.uniform(0, 60, len(labels)))
    time_us_K = ((20_000 - age_days) * DAY_US).astype(np.int64)
    return Support(random_rows(rng, len(labels)), time_us_K, is_fraud_K)


@pytest.fixture
def supports() -> list[Support]:
    rng = np.random.default_rng(1)
    return [random_support(rng, labels) for labels in LABELS]


@pytest.fixture
def queries() -> QueryRows:
    """The features, days and labels of the rows that follow."""
    rng = np.random.default_rng(2)
    fraud_BQ = torch.from_numpy(rng.integers(0, 2, (len(LABELS), QUERIES))).double()
    day_BQ = torch.from_numpy(rng.uniform(20_000, 20_030, (len(LABELS), QUERIES)))
    return torch.from_numpy(random_rows(rng, len(LABELS), QUERIES)).double(), day_BQ, fraud_BQ


def learner_of(algorithm: Algorithm, largest_step: float = 0.5) -> Learner:
    """A learner with large steps, another one for each step and size there is."""
    return copy.deepcopy(drawn(algorithm, largest_step))


@cache
def drawn(algorithm: Algorithm, largest_step: float) -> Learner:
    """The same, once: to fit its bins takes longer than most tests."""
    torch.manual_seed(0)
    learner = Learner(FEATURES.kinds, algorithm)
    rows_NF = random_rows(np.random.default_rng(0), 300)
    bins.fit(learner.network.encoder, rows_NF, rows_NF[:, 0] > 2)
    with torch.no_grad():
        learner.network.wide_rises_ZTM.normal_(0, 0.05)
        learner.network.wide_relation_IM.normal_(0, 0.05)
        learner.log_prior.fill_(np.log(1.7))
        for log_sizes in learner.log_step_sizes.values():
            log_sizes.uniform_(np.log(largest_step / 10), np.log(largest_step))
    return learner.double()


@pytest.fixture(params=ALGORITHMS)
def learner(request: pytest.FixtureRequest) -> Learner:
    """A learner of each algorithm."""
    return learner_of(request.param)


def padded(supports: list[Support]) -> SupportBatch:
    return pad_supports(supports, WIDTH, np.float64)


def encoded(learner: Learner, batch: SupportBatch) -> Encoded:
    return learner.network.encode(batch.features_BKF, batch.day_BK)


def steps_of(learner: Learner, batch: SupportBatch) -> list[AdaptedHead]:
    """What each inner step makes of accounts' labels, from none to all."""
    return list(learner.steps(encoded(learner, batch), batch.legitimate_BK, batch.fraud_BK))


def naive_logits(units_NMH: Tensor, wide_NM: Tensor, layers: dict[str, Tensor]) -> Tensor:
    """One account's head, member by member: [N, M]."""
    weight, bias, out_weight, out_bias = layers.values()
    inner_NMH = torch.einsum("nmh,mgh->nmg", units_NMH, weight) + bias
    summed_NMH = relu(inner_NMH) + units_NMH
    return (summed_NMH * out_weight).sum(-1) + out_bias + wide_NM


def naive_loss(logit_NM: Tensor, fraud_N: Tensor, prior: Tensor) -> Tensor:
    """Each member's cross-entropy, by the labels there are and the prior's; summed over members."""
    fraud_NM = fraud_N[:, None].expand_as(logit_NM)
    loss_NM = binary_cross_entropy_with_logits(logit_NM, fraud_NM, reduction="none")
    return loss_NM.sum() / (len(fraud_N) + prior)


def one_by_one(learner: Learner, supports: list[Support], queries: QueryRows) -> list[Tensor]:
    """The textbook loop: each account on its own, plain tensors, inner gradients by autograd.

    Gives every account's log-odds by member, [Q, M].
    """
    network, second_order = learner.network, learner.algorithm not in FIRST_ORDER
    adapted = LAST_LAYER if learner.algorithm == "anil" else Head._fields
    logits = []
    for support, query_QF, day_Q in zip(supports, *queries[:2], strict=True):
        features_1KF = torch.from_numpy(support.features_KF).double()[None]
        day_1K = torch.from_numpy(support.time_us_K / DAY_US)[None]
        fraud_K = torch.from_numpy(support.is_fraud_K).double()
        rows = network.encode(features_1KF, day_1K)
        context = network.context(rows, (1 - fraud_K)[None], fraud_K[None])
        layers = {
            "weight_BMHH": network.inner_weight_MHH,
            "bias_BMH": network.inner_bias_MH,
            "out_weight_BMH": network.out_weight_MH,
            "out_bias_BM": network.out_bias_M,
        }
        units_M1KH, wide_M1K = network.hidden(rows, context, earlier=True)
        seen = units_M1KH[:, 0].transpose(0, 1), wide_M1K[:, 0].T
        for step in range(INNER_STEPS if len(fraud_K) else 0):
            inner = naive_loss(naive_logits(*seen, layers), fraud_K, learner.log_prior.exp())
            gradients = torch.autograd.grad(
                inner, [layers[name] for name in adapted], create_graph=second_order
            )
            for name, gradient in zip(adapted, gradients, strict=True):
                size = learner.log_step_sizes[name][step].exp()
                layers[name] = layers[name] - size * gradient
        query = network.hidden(network.encode(query_QF[None], day_Q[None]), context)
        units_MQH, wide_MQ = query.units_MBNH[:, 0], query.wide_MBN[:, 0]
        logits.append(naive_logits(units_MQH.transpose(0, 1), wide_MQ.T, layers))
    return logits


def test_every_algorithm_is_known_by_its_name() -> None:
    assert set(ALGORITHMS) == {"maml", "fomaml", "anil", "meta-sgd", "reptile"}
    assert get_args(Algorithm) == ALGORITHMS


def test_the_meta_gradient_of_a_batch_is_that_of_a_loop_over_accounts(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    """Through all inner steps, or for first-order algorithms with the steps taken as given."""
    query_BQF, day_BQ, fraud_BQ = queries
    rows = learner.network.encode(query_BQF, day_BQ)
    logit_MBQ = learner.member_logits(rows, learner.adapt(padded(supports)))
    expected = torch.stack(one_by_one(learner, supports, queries))
    expected_MBQ = expected.permute(2, 0, 1)
    torch.testing.assert_close(logit_MBQ, expected_MBQ, rtol=0, atol=1e-9)

    # Steps that no gradient passes through teach the prior nothing.
    is_learned = {"log_prior": learner.algorithm not in FIRST_ORDER}
    names, parameters = zip(
        *(each for each in learner.named_parameters() if is_learned.get(each[0], True)), strict=True
    )
    actual, wanted = (
        torch.autograd.grad(
            binary_cross_entropy_with_logits(
                each_MBQ, fraud_BQ.expand_as(each_MBQ), reduction="sum"
            ),
            parameters,
        )
        for each_MBQ in (logit_MBQ, expected_MBQ)
    )
    for name, found, other in zip(names, actual, wanted, strict=True):
        assert other.abs().max() > 1e-3, name  # there is something to get wrong
        torch.testing.assert_close(found, other, rtol=0, atol=1e-6, msg=name)


def test_only_maml_anil_and_meta_sgd_differentiate_through_their_steps(
    supports: list[Support], queries: QueryRows
) -> None:
    """Copies of first-order algorithms are the base and steps that do not depend on it."""
    for algorithm in ALGORITHMS:
        learner = learner_of(algorithm)
        last = learner.adapt(padded(supports)).head.out_weight_BMH.sum()
        [slope] = torch.autograd.grad(last, learner.network.out_weight_MH)
        is_unchanged = torch.equal(slope, torch.full_like(slope, len(supports)))
        assert is_unchanged == (algorithm in FIRST_ORDER), algorithm


def test_an_account_gets_the_mean_of_the_members(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    rows, adapted = learner.network.encode(*queries[:2]), learner.adapt(padded(supports))
    logit_MBQ = learner.member_logits(rows, adapted)
    torch.testing.assert_close(learner.logits(rows, adapted), sum(logit_MBQ) / len(logit_MBQ))
    assert logit_MBQ.std(0).min() > 0


def test_anil_leaves_the_inner_layer_to_all_accounts(supports: list[Support]) -> None:
    learner = learner_of("anil")
    head, base = learner.adapt(padded(supports)).head, learner.network.base
    assert set(learner.log_step_sizes) == set(LAST_LAYER)
    for layer in ("weight_BMHH", "bias_BMH"):
        assert torch.equal(getattr(head, layer), getattr(base, layer))
    for layer in LAST_LAYER:
        of_all = getattr(head, layer)
        assert len(of_all) == len(supports)
        assert not torch.isclose(of_all[1:], getattr(base, layer)).all()


@pytest.mark.parametrize("algorithm", ["maml", "fomaml", "meta-sgd", "reptile"])
def test_all_but_anil_give_every_account_all_layers_of_its_own(
    supports: list[Support], algorithm: Algorithm
) -> None:
    learner = learner_of(algorithm)
    head = learner.adapt(padded(supports)).head
    assert set(learner.log_step_sizes) == set(Head._fields)
    for layer, base in zip(head, learner.network.base, strict=True):
        assert len(layer) == len(supports)
        assert all((weights != base[0]).any() for weights in layer[1:])


def test_meta_sgd_has_a_step_size_for_every_parameter_and_the_others_one_a_layer() -> None:
    for algorithm in ALGORITHMS:
        learner = learner_of(algorithm)
        for layer in learner.adapted_layers:
            shape = getattr(learner.network.base, layer).shape[1:]
            numbers = shape.numel() if algorithm == "meta-sgd" else 1
            assert learner.log_step_sizes[layer].numel() == INNER_STEPS * numbers
            assert len(learner.step_sizes[layer]) == INNER_STEPS


def test_a_step_size_of_meta_sgd_moves_its_own_parameter_alone(supports: list[Support]) -> None:
    learner = learner_of("meta-sgd")
    first, before, *_ = steps_of(learner, padded(supports))
    # One that does move: many inner units are off for all these rows.
    step_MHH = (before.head.weight_BMHH - first.head.weight_BMHH).abs().amax(0)
    m, g, h = np.unravel_index(int(step_MHH.argmax()), step_MHH.shape)
    with torch.no_grad():
        learner.log_step_sizes["weight_BMHH"][0, m, g, h] += 1.0
    _, after, *_ = steps_of(learner, padded(supports))
    moved_BMHH = before.head.weight_BMHH != after.head.weight_BMHH
    assert moved_BMHH.any()
    moved_BMHH[:, m, g, h] = False
    assert not moved_BMHH.any()
    assert all(map(torch.equal, before.head[1:], after.head[1:]))


def test_step_sizes_are_reported_by_layer_as_they_are_taken(supports: list[Support]) -> None:
    learner = learner_of("maml")
    learner.set_step_sizes(0.25)
    sizes = learner.step_sizes
    assert set(sizes) == set(Head._fields)
    assert all(size == [pytest.approx(0.25)] * INNER_STEPS for size in sizes.values())
    batch = padded(supports)
    first, second, *_ = steps_of(learner, batch)
    hidden = learner.network.hidden(encoded(learner, batch), first.context, earlier=True)
    labelled_BK = batch.fraud_BK + batch.legitimate_BK
    weight_BK = labelled_BK / (labelled_BK.sum(1, keepdim=True) + 1.7)
    slope = first.head.gradient(hidden, batch.fraud_BK, weight_BK)["out_bias_BM"]
    torch.testing.assert_close(second.head.out_bias_BM, first.head.out_bias_BM - 0.25 * slope)


def kept(learner: Learner, adapted: AdaptedHead) -> Tensor:
    """All that scoring needs to know of accounts: without padding, and of each its own alone."""
    context, head = adapted
    head = Head(*(layer.expand(len(context.mean_BO), *layer.shape[1:]) for layer in head))
    return learner.kept(Copies(context, head, torch.zeros(len(context.mean_BO)).double()))


def parts_of(adapted: tuple[tuple[Tensor, ...], ...]) -> list[Tensor]:
    return [part for parts in adapted for part in parts]


def test_an_account_without_labels_gets_the_base_bit_for_bit(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    learner.gate.set(1.0, 0.5)
    adapted, base = learner.adapt(padded(supports)), learner.base(len(supports))
    assert torch.equal(kept(learner, adapted)[0], kept(learner, base)[0])
    copies = learner.learn(padded(supports))
    assert copies.weight_B[0] == 0
    assert (copies.weight_B[1:] > 0).all()
    rows = learner.network.encode(*queries[:2])
    one_BQ, other_BQ = learner.served_logits(rows, copies), learner.base_logits(rows)
    assert torch.equal(one_BQ[0], other_BQ[0])
    assert (one_BQ[1:] != other_BQ[1:]).all()


def test_accounts_all_without_labels_get_the_base(learner: Learner) -> None:
    nothing = random_support(np.random.default_rng(0), "")
    adapted, base = learner.adapt(padded([nothing] * 3)), learner.base(3)
    assert torch.equal(kept(learner, adapted), kept(learner, base))
    for heed in (0.0, 1.0):
        learner.gate.set(6.0, heed)
        assert learner.learn(padded([nothing] * 3)).weight_B.tolist() == [0.0] * 3


def learned(learner: Learner, batch: SupportBatch) -> Tensor:
    """All that is kept of accounts, their evidence heeded: [B, W]."""
    learner.gate.set(0.5, 0.3)
    return learner.kept(learner.learn(batch))


def test_padding_changes_nothing(learner: Learner, supports: list[Support]) -> None:
    batch = padded([support._replace(**first_rows(support, 31)) for support in supports])
    wider = SupportBatch(
        *(torch.cat([part, torch.zeros_like(part[:, :1])], dim=1) for part in batch)
    )
    torch.testing.assert_close(learned(learner, batch), learned(learner, wider), rtol=0, atol=1e-12)


def first_rows(support: Support, count: int) -> dict[str, np.ndarray]:
    return {name: column[:count] for name, column in support._asdict().items()}


def test_padding_with_any_row_changes_nothing(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    """Rows of neither label say nothing, whatever they hold."""
    learner.gate.set(0.5, 0.3)
    batch = padded(supports)
    is_padding_BK = (batch.fraud_BK + batch.legitimate_BK) == 0
    features_BKF, day_BK = batch.features_BKF.clone(), batch.day_BK.clone()
    features_BKF[is_padding_BK], day_BK[is_padding_BK] = 2.0, 20_001.0
    filled = batch._replace(features_BKF=features_BKF, day_BK=day_BK)
    rows = learner.network.encode(*queries[:2])
    small, other = (learner.learn(each) for each in (batch, filled))
    for part, of_filled in zip(
        [*small.head, small.weight_B], [*other.head, other.weight_B], strict=True
    ):
        torch.testing.assert_close(part, of_filled, rtol=0, atol=1e-12)
    served_BQ, of_filled_BQ = (learner.served_logits(rows, copies) for copies in (small, other))
    torch.testing.assert_close(served_BQ, of_filled_BQ, rtol=0, atol=1e-12)


def test_other_accounts_of_the_batch_change_nothing(
    learner: Learner, supports: list[Support]
) -> None:
    together_BW = learned(learner, padded(supports))
    for b, support in enumerate(supports):
        alone_1W = learned(learner, padded([support]))
        torch.testing.assert_close(alone_1W[0], together_BW[b], rtol=0, atol=1e-12)


def test_the_order_of_labels_changes_no_score(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    turned = [Support(*(column[::-1].copy() for column in support)) for support in supports]
    straight, other = learner.adapt(padded(supports)), learner.adapt(padded(turned))
    for part, of_turned in zip(straight.head, other.head, strict=True):
        torch.testing.assert_close(part, of_turned, rtol=0, atol=1e-12)
    rows = learner.network.encode(*queries[:2])
    torch.testing.assert_close(
        learner.logits(rows, straight), learner.logits(rows, other), rtol=0, atol=1e-12
    )


def test_each_inner_step_lowers_the_loss_on_the_labels(learner: Learner) -> None:
    """Each label read in the light of those before it, as the steps read it."""
    learner.set_step_sizes(0.01)
    rng = np.random.default_rng(3)
    batch = padded([random_support(rng, "0110"), random_support(rng, "00000")])
    rows = encoded(learner, batch)
    first, *others = steps_of(learner, batch)
    assert len(others) == INNER_STEPS
    assert all(map(torch.equal, first.head, learner.network.base))
    losses_SB = []
    for adapted in [first, *others]:
        logit_BK = learner.member_logits(rows, adapted, earlier=True).mean(0)
        loss_BK = binary_cross_entropy_with_logits(logit_BK, batch.fraud_BK, reduction="none")
        losses_SB.append((loss_BK * (batch.fraud_BK + batch.legitimate_BK)).sum(1))
    assert (torch.stack(losses_SB).diff(dim=0) < 0).all()
    for part, of_last in zip(parts_of(learner.adapt(batch)), parts_of(others[-1]), strict=True):
        assert torch.equal(part, of_last)


@torch.no_grad()
def test_a_label_moves_a_head_less_than_many_that_say_the_same(learner: Learner) -> None:
    """Equal labels of one moment: read alike, they differ in nothing but their number."""
    learner.set_step_sizes(0.01)
    label = random_support(np.random.default_rng(6), "1")
    moves, drifts = {}, []
    for count in (1, 2, 8, SUPPORT_LIMIT):
        batch = padded([Support(*(np.repeat(column, count, axis=0) for column in label))])
        first, second, *_ = steps_of(learner, batch)
        moves[count] = {
            layer: getattr(second.head, layer) - getattr(first.head, layer)
            for layer in learner.adapted_layers
        }
        drifts.append(learner.drift(learner.learn(batch)).item())
    assert drifts == sorted(drifts)
    assert drifts[0] < 0.5 * drifts[-1]
    # A step is by the gradient of the sum over n + prior.
    prior = learner.log_prior.exp().item()
    for layer in learner.adapted_layers:
        few, many = moves[1][layer], moves[SUPPORT_LIMIT][layer]
        torch.testing.assert_close(
            few * (1 + prior), many * (SUPPORT_LIMIT + prior) / SUPPORT_LIMIT, rtol=1e-9, atol=1e-12
        )
        assert few.abs().max() > 1e-6


@torch.no_grad()
def test_a_larger_prior_keeps_heads_nearer_to_the_base(
    learner: Learner, supports: list[Support]
) -> None:
    drifts = []
    for prior in (0.1, 1.0, 10.0, 1000.0):
        learner.log_prior.fill_(np.log(prior))
        drifts.append(learner.drift(learner.learn(padded(supports))))
    assert (torch.stack(drifts).diff(dim=0)[:, 1:] < 0).all()
    assert drifts[-1].max() < 0.05 * drifts[0][1:].max()


def test_rows_encoded_already_are_not_read_again(learner: Learner, supports: list[Support]) -> None:
    batch = padded(supports)
    encoded = learner.network.encode(batch.features_BKF, batch.day_BK)
    learner.gate.set(1.0, 0.5)
    learned = learner.learn(batch)
    other = learner.learn(batch._replace(features_BKF=torch.full((1,), torch.nan)), encoded)
    for part, of_other in zip(parts_of(learned[:2]), parts_of(other[:2]), strict=True):
        assert torch.equal(part, of_other)
    assert torch.equal(learned.weight_B, other.weight_B)


def test_what_is_kept_of_copies_is_all_that_serving_them_needs(
    learner: Learner, supports: list[Support], queries: QueryRows
) -> None:
    """The layers that all accounts share are not among it; each label is a day and its codes."""
    learner.gate.set(1.0, 0.5)
    copies = learner.learn(padded(supports))
    kept_BW = learner.kept(copies)
    own = [getattr(copies.head, layer) for layer in learner.adapted_layers]
    usual = [copies.context.mean_BO, copies.context.spread_BO]
    numbers = sum(part[0].numel() for part in [*usual, *own, copies.weight_B])
    assert kept_BW.shape == (len(supports), numbers + SUPPORT_LIMIT * (len(COMPARED) + 1))
    rows = learner.network.encode(*queries[:2])
    # A day later and back: the last bits of a day may go.
    one_BQ, other_BQ = (
        learner.served_logits(rows, each) for each in (copies, learner.restored(kept_BW))
    )
    torch.testing.assert_close(one_BQ, other_BQ, rtol=0, atol=1e-9)
    assert torch.equal(learner.kept(learner.restored(kept_BW)), kept_BW)


def test_an_account_that_never_had_labels_is_served_the_base(
    learner: Learner, queries: QueryRows
) -> None:
    rows = learner.network.encode(queries[0][:1], queries[1][:1])
    served_1Q = learner.served_logits(rows, learner.unadapted())
    assert torch.equal(served_1Q, learner.base_logits(rows))


def test_a_batch_of_no_accounts_is_empty(learner: Learner) -> None:
    copies = learner.learn(padded([]))
    assert len(copies.head.out_bias_BM) == len(copies.weight_B) == 0


def evidence_by_hand(learner: Learner, support: Support) -> float:
    """Every part of the labels by a copy that learned from all others, one copy at a time.

    Each label is read in the light of those before it that the copy has seen.
    """
    gain, labels = 0.0, len(support.is_fraud_K)
    for part in range(PARTS):
        out = np.arange(labels) % PARTS == part
        if not out.any():
            continue
        seen, unseen = (
            padded([Support(*(column[rows] for column in support))]) for rows in (~out, out)
        )
        rows = encoded(learner, unseen)
        base_1K = learner.base_logits(rows)
        copy_1K = learner.member_logits(rows, learner.adapt(seen), earlier=True).mean(0)
        for logit_1K, sign in ((base_1K, 1), (base_1K + bounded(copy_1K - base_1K), -1)):
            gain += sign * float(
                binary_cross_entropy_with_logits(logit_1K, unseen.fraud_BK, reduction="sum")
            )
    return gain


@torch.no_grad()
@pytest.mark.parametrize("largest_step", [0.5, 20.0])
def test_the_evidence_of_an_account_is_what_leaving_out_each_part_by_hand_gives(
    supports: list[Support], largest_step: float
) -> None:
    """With steps so large that moves are bounded, too."""
    for algorithm in ("maml", "anil"):
        learner = learner_of(algorithm, largest_step)
        evidence_B, adapted = learner.evidence(padded(supports))
        expected = [evidence_by_hand(learner, support) for support in supports]
        assert evidence_B.tolist() == pytest.approx(expected, abs=1e-9)
        assert evidence_B.std() > 0.01
        for part, whole in zip(
            parts_of(adapted), parts_of(learner.adapt(padded(supports))), strict=True
        ):
            torch.testing.assert_close(part, whole, rtol=0, atol=1e-12)


def test_one_label_is_no_evidence(learner: Learner) -> None:
    """The copy that did not see it saw none, and is the base."""
    rng = np.random.default_rng(4)
    batch = padded([random_support(rng, labels) for labels in ("1", "0", "")])
    evidence_B, _ = learner.evidence(batch)
    assert evidence_B.tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    learner.gate.set(1.0, 4.0)
    weight_B = learner.learn(batch).weight_B
    assert weight_B.tolist() == pytest.approx([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-1)), 0])


def consistent(rng: np.random.Generator, labels: int = 24) -> Support:
    """An account whose frauds are alike, and unlike its legitimate transactions."""
    support = random_support(rng, "".join(rng.permutation(list("01" * (labels // 2)))))
    own = np.array(FEATURES.kinds) == "own"
    place = np.where(support.is_fraud_K[:, None], 2.5, -0.5) * own
    support.features_KF[:] = 0.2 * support.features_KF + place.astype(np.float32)
    return support


@torch.no_grad()
@pytest.mark.parametrize("algorithm", ["maml", "anil"])
def test_copies_of_flipped_labels_are_followed_less_than_copies_of_true_ones(
    algorithm: Algorithm,
) -> None:
    """A random half of the labels flipped: what one says, the next denies."""
    learner = learner_of(algorithm)
    # What the network reads of labels was never trained here: let them speak by steps alone.
    learner.network.relation.weight[:, len(learner.network.encoder.own) :] = 0.0
    learner.network.wide_relation_IM.zero_()
    learner.gate.set(0.0, 1.0)
    rng = np.random.default_rng(5)
    true = [consistent(rng) for _ in range(10)]
    # Nor was the base: let it be undecided about these rows, so that it is not beaten by any.
    learner.network.out_bias_M -= learner.base_logits(encoded(learner, padded(true))).mean()
    flipped = [
        support._replace(is_fraud_K=support.is_fraud_K ^ (rng.permutation(24) < 12))
        for support in true
    ]
    of_true_B, of_flipped_B = (learner.learn(padded(each)).weight_B for each in (true, flipped))
    assert (of_flipped_B < of_true_B).all()
    assert of_true_B.min() > 0.5 > of_flipped_B.mean()
    # Whoever heeds no evidence follows both alike.
    learner.gate.set(0.0, 0.0)
    assert learner.learn(padded(flipped)).weight_B.tolist() == [0.5] * 10


def test_a_gate_weighs_trust_and_evidence_and_less_than_the_least_is_nothing() -> None:
    gate, evidence_B = Gate().double(), torch.tensor([-3.0, 0.0, 2.0]).double()
    assert gate(evidence_B).tolist() == pytest.approx([1 / (1 + np.exp(-6))] * 3)
    gate.set(-1.0, 0.5)
    expected = [1 / (1 + np.exp(-logit)) for logit in (-2.5, -1.0, 0.0)]
    assert gate(evidence_B).tolist() == pytest.approx(expected)
    gate.set(-3.0, 1.0)
    first, second, third = gate(evidence_B).tolist()
    assert first == 0.0
    assert LEAST_WEIGHT < second < third
    # On either side of the least weight.
    edge = float(np.log(LEAST_WEIGHT / (1 - LEAST_WEIGHT)))
    gate.set(edge, 1.0)
    below, above = gate(torch.tensor([-1e-6, 1e-6]).double()).tolist()
    assert (below, above) == (0.0, pytest.approx(LEAST_WEIGHT, rel=1e-4))


STEPS = (1.0, 1e3)
SPANS = ("5m", "1h", "1d")


@cache
def stepping(algorithm: Algorithm, step: float) -> Learner:
    """A learner whose steps may be so large, for many examples."""
    return learner_of(algorithm, step).requires_grad_(False)


def likeness(support: Support, row_F: torch.Tensor) -> list[float]:
    """How alike the likest legitimate label and the likest fraud are, as labels reach a payment."""
    row_E, theirs_KE = row_F[COMPARED], torch.from_numpy(support.features_KF[:, COMPARED])
    same_K = ((theirs_KE == row_E) & (row_E != 0)).double().mean(1)
    return [
        min(max(same_K[support.is_fraud_K == label].tolist(), default=0.0) / 0.5, 1.0) ** 2
        for label in (False, True)
    ]


def familiar(row_F: torch.Tensor) -> bool:
    of_entities = [
        (FEATURES.names.index(f"{kind}_identity"), FEATURES.names.index(f"{kind}_used"))
        for kind in FEATURES.spec.entity_names
    ]
    named = [at for at in of_entities if row_F[at[0]] != 0]
    return bool(named) and all(row_F[used] > 0 for _, used in named)


@pytest.mark.parametrize(("reach", "habit"), [(0.0, 0.0), (0.25, 0.5), (0.0, 1.0), (1.0, 0.0)])
def test_labels_reach_payments_as_far_as_they_say_something_of_them(
    learner: Learner, supports: list[Support], queries: QueryRows, reach: float, habit: float
) -> None:
    """Down by likeness to a cleared payment or unlikeness to frauds.

    By habit, up by likeness to a fraud where the account has used all its entities before, and
    otherwise down half as far, by likeness to a cleared payment alone.
    """
    learner.gate.set(6.0, 0.0)
    rows, copies = learner.network.encode(*queries[:2]), learner.learn(padded(supports))
    base_BQ = learner.base_logits(rows)
    whole_BQ = learner.served_logits(rows, copies) - base_BQ
    learner.gate.set(6.0, 0.0, reach, habit)
    moved_BQ = learner.served_logits(rows, copies) - base_BQ
    expected_BQ = whole_BQ.clone()
    for b, support in enumerate(supports):
        for q, row_F in enumerate(queries[0][b]):
            alike, is_familiar = likeness(support, row_F), familiar(row_F)
            calmed = max(alike[0], 1 - alike[1] if support.is_fraud_K.any() else 0.0)
            least, plain = (0.0, 1.0) if whole_BQ[b, q] > 0 else (reach, calmed)
            by_habit = plain
            if is_familiar and whole_BQ[b, q] > 0:
                by_habit = alike[1]
            elif not is_familiar and whole_BQ[b, q] < 0:
                by_habit = 0.5 * alike[0]
            says = (1 - habit) * plain + habit * by_habit
            expected_BQ[b, q] *= least + (1 - least) * says
    torch.testing.assert_close(moved_BQ, expected_BQ, rtol=0, atol=1e-9)
    for is_shortened, way_BQ in ((reach < 1, whole_BQ < 0), (habit > 0, whole_BQ > 0)):
        shortened_BQ = (moved_BQ - whole_BQ)[way_BQ].abs()
        assert shortened_BQ.max() > 0.001 if is_shortened else not shortened_BQ.any()


@pytest.mark.parametrize("pardon", [0.5, 1.0])
def test_refusals_are_not_held_against_what_is_familiar_and_unlike_a_fraud(
    learner: Learner, supports: list[Support], queries: QueryRows, pardon: float
) -> None:
    """What they add to the base's log-odds goes, as far as the payment is unlike all frauds."""
    weight = 1 / (1 + np.exp(-6))
    rows, copies = learner.encode(*queries[:2]), learner.learn(padded(supports))
    base_BQ = learner.base_logits(rows)
    without_BQF = queries[0].clone()
    without_BQF[..., [FEATURES.names.index(f"account_refused_{span}") for span in SPANS]] = 0
    added_BQ = base_BQ - learner.base_logits(learner.network.encode(without_BQF, queries[1]))
    learner.gate.set(6.0, 0.0, reach=0.25, habit=1.0)
    expected_BQ = (learner.served_logits(rows, copies) - base_BQ) / weight
    learner.gate.set(6.0, 0.0, reach=0.25, habit=1.0, pardon=pardon)
    moved_BQ = (learner.served_logits(rows, copies) - base_BQ) / weight
    pardoned = []
    for b, support in enumerate(supports):
        for q, row_F in enumerate(queries[0][b]):
            if familiar(row_F) and support.is_fraud_K.any():
                unlike = 1 - likeness(support, row_F)[1]
                pardoned.append(pardon * unlike * max(added_BQ[b, q].item(), 0.0))
                expected_BQ[b, q] -= pardoned[-1]
    expected_BQ.clamp_(-LARGEST_MOVE, LARGEST_MOVE)
    torch.testing.assert_close(moved_BQ, expected_BQ, rtol=0, atol=1e-9)
    assert max(pardoned) > 0.01 * pardon
    assert min(pardoned) == 0


@settings(max_examples=40)
@given(
    labels=st.text("01", max_size=SUPPORT_LIMIT),
    seed=st.integers(0, 10_000),
    size=st.sampled_from([0.0, 1.0, 1e4, 1e30]),
    step=st.sampled_from(STEPS),
    heed=st.sampled_from([0.0, 1.0]),
    algorithm=st.sampled_from(["maml", "anil"]),
)
def test_no_labels_move_a_score_further_than_the_largest_move(
    labels: str,
    seed: int,
    size: float,
    step: float,
    heed: float,
    algorithm: Algorithm,
) -> None:
    learner, rng = stepping(algorithm, step), np.random.default_rng(seed)
    learner.gate.set(6.0, heed)
    support = random_support(rng, labels)
    support.features_KF[:] *= size
    query_1QF = torch.from_numpy(random_rows(rng, 1, 20)).double()
    rows = learner.network.encode(query_1QF, torch.full((1, 20), 20_001.0).double())
    copies = learner.learn(padded([support]))
    move_1Q = learner.served_logits(rows, copies) - learner.base_logits(rows)
    assert move_1Q.isfinite().all()
    assert 0 <= copies.weight_B.item() <= 1
    assert move_1Q.abs().max() <= LARGEST_MOVE + 1e-9


def test_there_are_moves_to_bound(supports: list[Support], queries: QueryRows) -> None:
    """So that the test above is not passed by copies that hardly move."""
    learner = stepping("maml", 1e3)
    learner.gate.set(6.0, 0.0)
    rows, copies = learner.network.encode(*queries[:2]), learner.learn(padded(supports))
    base_BQ = learner.base_logits(rows)
    copy_BQ = learner.logits(rows, learner.adapt(padded(supports)))
    assert ((copy_BQ - base_BQ).abs() > LARGEST_MOVE).sum() > 10
    served_BQ = learner.served_logits(rows, copies)
    weight = 1 / (1 + np.exp(-6))
    assert (served_BQ - base_BQ).abs().max().item() == pytest.approx(weight * LARGEST_MOVE)


def test_supports_are_padded_with_rows_of_neither_label() -> None:
    supports = [random_support(np.random.default_rng(0), labels) for labels in ("01", "0", "")]
    batch = pad_supports(supports, WIDTH)
    assert batch.legitimate_BK.tolist() == [[1, 0], [1, 0], [0, 0]]
    assert batch.fraud_BK.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert batch.features_BKF.dtype == torch.float32
    np.testing.assert_array_equal(batch.features_BKF[0], supports[0].features_KF)
    assert not batch.features_BKF[2].any()
    assert batch.day_BK[0].tolist() == (supports[0].time_us_K / DAY_US).tolist()


labelled = st.lists(st.booleans(), max_size=80).map(lambda labels: np.array(labels, bool))


@given(labelled, st.integers(0, 40))
@example(np.ones(50, bool), SUPPORT_LIMIT)
@example(np.zeros(50, bool), SUPPORT_LIMIT)
def test_a_selection_is_as_many_labels_as_fit_newest_first(
    is_fraud_K: np.ndarray, limit: int
) -> None:
    chosen = select_support(is_fraud_K, limit)
    # No place is left empty while there are labels.
    assert len(chosen) == min(limit, len(is_fraud_K))
    assert (np.diff(chosen) > 0).all()


@given(labelled, st.integers(0, 40))
def test_a_selection_takes_the_newest_of_each_class(is_fraud_K: np.ndarray, limit: int) -> None:
    chosen = select_support(is_fraud_K, limit)
    for label in (True, False):
        of_class = np.flatnonzero(is_fraud_K == label)
        taken = chosen[is_fraud_K[chosen] == label]
        np.testing.assert_array_equal(taken, of_class[: len(taken)])


@given(labelled, st.integers(2, 40))
def test_a_selection_keeps_both_classes(is_fraud_K: np.ndarray, limit: int) -> None:
    chosen = is_fraud_K[select_support(is_fraud_K, limit)]
    frauds, legitimates = int(is_fraud_K.sum()), int((~is_fraud_K).sum())
    # Each class has half of the places for its own, as far as it fills them.
    assert chosen.sum() >= min(frauds, limit // 2)
    assert (~chosen).sum() >= min(legitimates, limit // 2)


@pytest.mark.parametrize(("label", "size"), list(product([True, False], [0, 1, 32, 33, 100])))
def test_one_class_alone_has_all_the_places(label: bool, size: int) -> None:
    chosen = select_support(np.full(size, label))
    np.testing.assert_array_equal(chosen, np.arange(min(size, SUPPORT_LIMIT)))


def test_the_odd_place_is_a_frauds() -> None:
    assert select_support(np.array([False, True, False, True, False]), 3).tolist() == [0, 1, 3]
    assert select_support(np.array([False, True]), 1).tolist() == [1]
    assert select_support(np.array([False, True]), 0).tolist() == []

"""Adaptation: all accounts at once is each account alone, through two derivatives."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, linear, relu

from app.adaptation import (
    INNER_STEPS,
    SUPPORT_LIMIT,
    Learner,
    Support,
    SupportBatch,
    pad_supports,
    select_support,
)
from app.features import FeatureSet
from app.transactions import DAY_US, DatasetSpec

FEATURES = FeatureSet(DatasetSpec.load("simulated"))
WIDTH = len(FEATURES.names)
# Labels of each account, newest first: none, legitimate only, fraud only, one of many, mixed.
LABELS = ["", "0000", "1", "00010000", "0110", "11111", "0" * 31 + "1"]
QUERIES = 6


def random_rows(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.normal(1.0, 1.5, (*shape, WIDTH)).astype(np.float32)


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
def queries() -> tuple[Tensor, Tensor, Tensor]:
    """The features, days and labels of the rows that follow."""
    rng = np.random.default_rng(2)
    fraud_BQ = torch.from_numpy(rng.integers(0, 2, (len(LABELS), QUERIES))).double()
    day_BQ = torch.from_numpy(rng.uniform(20_000, 20_030, (len(LABELS), QUERIES)))
    return torch.from_numpy(random_rows(rng, len(LABELS), QUERIES)).double(), day_BQ, fraud_BQ


@pytest.fixture
def learner() -> Learner:
    """A learner with large steps, another one for each layer and step."""
    torch.manual_seed(0)
    learner = Learner(FEATURES.kinds)
    learner.network.encoder.fit(random_rows(np.random.default_rng(0), 300))
    with torch.no_grad():
        learner.log_step_sizes_SL.uniform_(np.log(0.05), np.log(0.5))
    return learner.double()


def padded(supports: list[Support]) -> SupportBatch:
    return pad_supports(supports, WIDTH, np.float64)


def one_by_one(
    learner: Learner, supports: list[Support], queries: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """The textbook loop: each account on its own, plain tensors, inner gradients by autograd.

    Gives the query loss of all accounts and every account's logits.
    """
    network = learner.network
    loss, logits = torch.zeros((), dtype=torch.float64), []
    for support, query_QF, day_Q, fraud_Q in zip(supports, *queries, strict=True):
        features_1KF = torch.from_numpy(support.features_KF).double()[None]
        day_1K = torch.from_numpy(support.time_us_K / DAY_US)[None]
        fraud_K = torch.from_numpy(support.is_fraud_K).double()
        context = network.context(features_1KF, day_1K, (1 - fraud_K)[None], fraud_K[None])
        layers = [
            network.inner.weight,
            network.inner.bias,
            network.out.weight,
            network.out.bias,
        ]

        def answers(hidden_NH: Tensor, layers: list[Tensor]) -> Tensor:
            weight, bias, out_weight, out_bias = layers
            inner_NH = relu(linear(hidden_NH, weight, bias)) + hidden_NH
            return linear(inner_NH, out_weight, out_bias)[:, 0]

        if len(fraud_K):
            hidden_KH = network.hidden(network.encode(features_1KF, day_1K), context)[0]
            for step in range(INNER_STEPS):
                inner = binary_cross_entropy_with_logits(answers(hidden_KH, layers), fraud_K)
                gradients = torch.autograd.grad(inner, layers, create_graph=True)
                sizes_L = learner.log_step_sizes_SL[step].exp()
                layers = [p - s * g for p, s, g in zip(layers, sizes_L, gradients, strict=True)]
        hidden_QH = network.hidden(network.encode(query_QF[None], day_Q[None]), context)[0]
        logits.append(answers(hidden_QH, layers))
        loss = loss + binary_cross_entropy_with_logits(logits[-1], fraud_Q, reduction="sum")
    return loss, logits


def test_the_meta_gradient_of_a_batch_is_that_of_a_loop_over_accounts(
    learner: Learner, supports: list[Support], queries: tuple[Tensor, Tensor, Tensor]
) -> None:
    query_BQF, day_BQ, fraud_BQ = queries
    rows = learner.network.encode(query_BQF, day_BQ)
    logit_BQ = learner.logits(rows, learner.adapt(padded(supports)))
    loss = binary_cross_entropy_with_logits(logit_BQ, fraud_BQ, reduction="sum")
    expected_loss, expected_logits = one_by_one(learner, supports, queries)
    torch.testing.assert_close(logit_BQ, torch.stack(expected_logits), rtol=0, atol=1e-9)

    names, parameters = zip(*learner.named_parameters(), strict=True)
    actual = torch.autograd.grad(loss, parameters)
    expected = torch.autograd.grad(expected_loss, parameters)
    for name, one, other in zip(names, actual, expected, strict=True):
        assert other.abs().max() > 1e-3, name  # there is something to get wrong
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6, msg=name)
    assert (actual[names.index("log_step_sizes_SL")] != 0).all()


def test_an_account_without_labels_gets_the_base_bit_for_bit(
    learner: Learner, supports: list[Support], queries: tuple[Tensor, Tensor, Tensor]
) -> None:
    query_BQF, day_BQ, _ = queries
    adapted, base = learner.adapt(padded(supports)), learner.base(len(supports))
    for part, of_base in zip(
        [*adapted.context, *adapted.head], [*base.context, *base.head], strict=True
    ):
        assert torch.equal(part[0], of_base[0])
        assert not torch.equal(part[1], of_base[1])
    rows = learner.network.encode(query_BQF, day_BQ)
    one_BQ, other_BQ = learner.logits(rows, adapted), learner.logits(rows, base)
    assert torch.equal(one_BQ[0], other_BQ[0])
    assert (one_BQ[1:] != other_BQ[1:]).all()


def test_accounts_all_without_labels_get_the_base(learner: Learner) -> None:
    nothing = random_support(np.random.default_rng(0), "")
    adapted, base = learner.adapt(padded([nothing] * 3)), learner.base(3)
    for one, other in zip(
        [*adapted.context, *adapted.head], [*base.context, *base.head], strict=True
    ):
        assert torch.equal(one, other)


def test_padding_changes_nothing(learner: Learner, supports: list[Support]) -> None:
    batch = padded(supports)
    wider = SupportBatch(
        *(torch.cat([part, torch.zeros_like(part[:, :1])], dim=1) for part in batch)
    )
    for one, other in zip(learner.adapt(batch), learner.adapt(wider), strict=True):
        for part, of_wider in zip(one, other, strict=True):
            torch.testing.assert_close(part, of_wider, rtol=0, atol=1e-12)


def test_other_accounts_of_the_batch_change_nothing(
    learner: Learner, supports: list[Support]
) -> None:
    together = learner.adapt(padded(supports))
    for b, support in enumerate(supports):
        alone = learner.adapt(padded([support]))
        for part, of_all in zip(
            [*alone.context, *alone.head], [*together.context, *together.head], strict=True
        ):
            torch.testing.assert_close(part[0], of_all[b], rtol=0, atol=1e-12)


def test_the_order_of_labels_changes_nothing(learner: Learner, supports: list[Support]) -> None:
    turned = [Support(*(column[::-1].copy() for column in support)) for support in supports]
    for one, other in zip(
        learner.adapt(padded(supports)), learner.adapt(padded(turned)), strict=True
    ):
        for part, of_turned in zip(one, other, strict=True):
            torch.testing.assert_close(part, of_turned, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, INNER_STEPS])
def test_each_inner_step_lowers_the_loss_on_the_labels(learner: Learner, steps: int) -> None:
    with torch.no_grad():
        learner.log_step_sizes_SL.fill_(np.log(0.01))
    rng = np.random.default_rng(3)
    batch = padded([random_support(rng, "0110"), random_support(rng, "00000")])
    rows = learner.network.encode(batch.features_BKF, batch.day_BK)

    def loss_B(taken: int) -> Tensor:
        logit_BK = learner.logits(rows, learner.adapt(batch, taken))
        loss_BK = binary_cross_entropy_with_logits(logit_BK, batch.fraud_BK, reduction="none")
        return (loss_BK * (batch.fraud_BK + batch.legitimate_BK)).sum(1)

    if steps:
        assert (loss_B(steps) < loss_B(steps - 1)).all()
    else:
        assert all(map(torch.equal, learner.adapt(batch, 0).head, learner.base(2).head))


def test_a_batch_of_no_accounts_is_empty(learner: Learner) -> None:
    assert len(learner.adapt(padded([])).head.out_bias_B) == 0


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

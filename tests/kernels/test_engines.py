"""The compiled engine does what the batched one does, and that is `Learner` itself.

Both read the same learner, of every algorithm, with merchants and codes and without; the batched
one is given the knots in double, whose sums in float32 would differ in the seventh digit.
"""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from app.learner.adaptation import LARGEST_MOVE, SUPPORT_LIMIT, Support
from app.learner.algorithms import ALGORITHMS, Algorithm
from app.learner.attribution import attribute
from app.learner.compiled import CompiledEngine
from app.learner.differentiable.adaptation import Learner, pad_supports
from app.learner.differentiable.gpu import BatchedEngine
from app.learner.differentiable.network import Encoder
from app.learner.differentiable.saving import weights_of
from app.learner.engine import Engine, Rows
from app.learner.features import FeatureSet, Kind
from app.learner.kernels import adaptation as kernels
from app.learner.kernels.attribution import attribute as walked
from app.learner.network import KNOWN_VALUES, MEMBERS, NODES, SPLITS
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from app.training import bins
from tests.kernels.walks import attribute as attribute_on_arrays

TODAY_US = 20_000 * DAY_US
CLOSE = 1e-9
# Everything there is: none, one, two (a part each), few, and as many as are learned from.
LABELS = (0, 1, 2, 3, 5, 8, 16, 17, 31, SUPPORT_LIMIT)
PASTS = (0, 1, 2, 7, 32)
SPECS = ("simulated", "handbook", "bare")


def spec_of(name: str) -> DatasetSpec:
    """A built-in spec, or the bare one, without codes and without merchants."""
    if name != "bare":
        return DatasetSpec.load(name)
    described = DatasetSpec.load("handbook").model_dump()
    described["entities"] = {}
    return DatasetSpec.model_validate(described)


def rows_of(kinds: tuple[Kind, ...], size: int, seed: int) -> Rows:
    """Usual values and far ones; codes that are known, and others."""
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(1, 1.5, (size, len(kinds))).astype(np.float32)
    features_NF[rng.random(features_NF.shape) < 0.02] *= 100
    for kind, values in (("code", 2 * KNOWN_VALUES), ("identity", 5)):
        of_kind = np.array(kinds) == kind
        features_NF[:, of_kind] = rng.integers(0, values, (size, of_kind.sum()))
    return Rows(features_NF, TODAY_US + rng.integers(-10 * DAY_US, 30 * DAY_US, size))


@cache
def fitted(kinds: tuple[Kind, ...]) -> dict[str, torch.Tensor]:
    """The bins and known codes of an encoder, once: to fit them takes longer than most tests."""
    encoder, [features_NF, _] = Encoder(kinds), rows_of(kinds, 300, 0)
    bins.fit(encoder, features_NF, features_NF[:, 0] > 2)
    return encoder.state_dict()


def drawn_trees(encoder: Encoder, trees: int) -> list[torch.Tensor]:
    """Trees whose splits are of quantities and of labels, some of them at values that rows have.

    Some places are not split: nothing is above their edge.
    """
    rng = np.random.default_rng(4)
    quantities = len(encoder.quantities)
    column_JS = rng.integers(0, quantities, (trees, SPLITS))
    of_labels_JS = rng.integers(0, encoder.label_inputs, (trees, SPLITS))
    column_JS = np.where(rng.random((trees, SPLITS)) < 0.5, column_JS, quantities + of_labels_JS)
    edge_JS = np.where(column_JS < quantities, 1.0, 0.3) * rng.normal(1, 1, (trees, SPLITS))
    edge_JS[rng.random((trees, SPLITS)) < 0.1] = np.inf
    edge_JS[rng.random((trees, SPLITS)) < 0.1] = 0.0
    value_JV = rng.normal(0, 0.2, (trees, NODES))
    return [torch.from_numpy(part.astype(np.float32)) for part in (column_JS, edge_JS, value_JV)]


class Subject:
    """A learner with weights that differ, and both engines of it."""

    def __init__(self, algorithm: Algorithm, spec: DatasetSpec, trees: int = 0) -> None:
        torch.manual_seed(0)
        self.features = FeatureSet(spec)
        self.learner = Learner(self.features.kinds, algorithm, trees)
        self.learner.network.encoder.load_state_dict(fitted(self.features.kinds))
        with torch.no_grad():
            self.learner.network.wide_rises_ZTM.normal_(0, 0.05)
            # Refusals add to the log-odds, so that there is something to pardon.
            of_quantities = [k for k in self.features.kinds if k not in ("code", "identity")]
            refused = torch.tensor([kind == "refused" for kind in of_quantities])
            self.learner.network.wide_rises_ZTM[refused] = 0.05
            self.learner.network.wide_relation_IM.normal_(0, 0.05)
            self.learner.log_prior.fill_(np.log(1.7))
            for log_sizes in self.learner.log_step_sizes.values():
                log_sizes.uniform_(np.log(0.05), np.log(0.5))
            self.learner.network.trees.keep(*drawn_trees(self.learner.network.encoder, trees))
        self.learner.gate.set(-3.0, 3.0, reach=0.25, habit=0.75, pardon=0.5)
        self.learner.double().requires_grad_(False)
        self.knots = self.learner.network.knots().float()
        self.kernel = kernels.Learner(self.features.kinds, algorithm, weights_of(self.learner))
        self.compiled: Engine = CompiledEngine(self.kernel, 64)
        self.batched: Engine = BatchedEngine(self.learner, 64, self.knots.double())

    def rows(self, size: int, seed: int) -> Rows:
        return rows_of(self.features.kinds, size, seed)

    def supports(self) -> list[Support]:
        """Accounts of all numbers of labels: mixed ones, and of one class alone.

        The labels of some are all of few moments, and some are newer than many rows. The first has
        labels that contradict each other, which no copy is followed for.
        """
        contradicting = np.arange(6) % 2 == 0
        alike_KF = self.rows(1, 99).features_NF.repeat(6, axis=0)
        supports = [Support(alike_KF, np.full(6, TODAY_US), contradicting)]
        for seed, (labels, share) in enumerate(product(LABELS, (0.0, 0.4, 1.0))):
            rng = np.random.default_rng([3, seed])
            apart_us = DAY_US * 20 if seed % 2 else 1
            age_us_K = rng.integers(0, 60 * DAY_US, labels) // apart_us * apart_us
            time_us_K = TODAY_US + 9 * DAY_US * (seed % 4 == 0) - np.sort(age_us_K)
            is_fraud_K = rng.random(labels) < share
            supports.append(Support(self.rows(labels, seed).features_NF, time_us_K, is_fraud_K))
        return supports


@pytest.fixture(
    scope="module",
    params=[
        *product(ALGORITHMS, SPECS, [0]),
        ("anil", "simulated", 60),
        ("maml", "handbook", 7),
        ("anil", "bare", 1),
    ],
)
def subject(request: pytest.FixtureRequest) -> Subject:
    algorithm, name, trees = request.param
    return Subject(algorithm, spec_of(name), trees)


def test_both_engines_make_the_same_copies_with_the_same_evidence(subject: Subject) -> None:
    supports = subject.supports()
    first, other = (engine.learn(supports) for engine in (subject.compiled, subject.batched))
    for column, expected in zip(first, other, strict=True):
        np.testing.assert_allclose(column, expected, rtol=CLOSE, atol=CLOSE)
    # So that there is something to compare.
    assert first.weight_B.std() > 0.05
    assert (first.weight_B[0], first.labels_B[0]) == (0, 6)
    assert np.abs(first.evidence_B).max() > 0.1
    assert first.drift_B.max() > 0.01


def test_both_engines_give_the_same_log_odds(subject: Subject) -> None:
    copies_BW = subject.batched.learn(subject.supports()).copies_BW
    rows, slots = subject.rows(200, 7), range(1, len(copies_BW) + 1)
    slot_N = np.random.default_rng(8).integers(1, len(copies_BW) + 1, 200)
    logits = []
    for engine in (subject.compiled, subject.batched):
        engine.put(slots, copies_BW)
        np.testing.assert_array_equal(engine.take(slot_N), copies_BW[slot_N - 1])
        logits.append(engine.score(rows, slot_N))
    np.testing.assert_allclose(*logits, rtol=CLOSE, atol=CLOSE)
    assert logits[0].std() > 0.1
    copy_QN = np.stack([slot_N - 1, np.zeros_like(slot_N)])
    judged = [e.judge(rows, copies_BW, copy_QN) for e in (subject.compiled, subject.batched)]
    np.testing.assert_allclose(*judged, rtol=CLOSE, atol=CLOSE)
    np.testing.assert_array_equal(judged[0][0], logits[0])
    assert (judged[0][0] != judged[0][1]).any()


@pytest.mark.parametrize("labels", [0, 1, 5, 17, SUPPORT_LIMIT])
@pytest.mark.parametrize("algorithm", ["anil", "maml", "meta-sgd"])
def test_each_input_from_labels_is_the_same_number_in_both(
    algorithm: Algorithm, labels: int
) -> None:
    """By networks of which each adds one input to the log-odds, and learns nothing by steps."""
    subject = Subject(algorithm, spec_of("simulated"))
    learner, network = subject.learner, subject.learner.network
    network.relation.weight.zero_()
    learner.gate.set(60.0, 0.0)
    learner.set_step_sizes(1e-30)
    rng = np.random.default_rng(labels)
    # Many of one moment, and some newer than rows.
    time_us_K = TODAY_US - np.sort(rng.integers(-3, 3, labels)) * DAY_US
    support = Support(subject.rows(labels, 1).features_NF, time_us_K, rng.random(labels) < 0.4)
    rows = subject.rows(40, 2)._replace(time_us_N=TODAY_US + rng.integers(-2, 5, 40) * DAY_US)
    batch = pad_supports([support], len(subject.features.names), np.float64)
    labelled = network.encode(batch.features_BKF, batch.day_BK, subject.knots.double())
    context = network.context(labelled, batch.legitimate_BK, batch.fraud_BK)
    query = network.encode(
        torch.from_numpy(rows.features_NF).double()[None],
        torch.from_numpy(rows.time_us_N / DAY_US)[None],
        subject.knots.double(),
    )
    base_N, base_K = (learner.base_logits(each)[0].numpy() for each in (query, labelled))
    input_NI = network.label_inputs(query, context)[0].numpy()
    input_KI = network.label_inputs(labelled, context, earlier=True)[0].numpy()
    assert input_NI.any() == (labels > 0)
    first_1N = np.zeros((1, len(base_N)), np.int64)
    for i in range(network.encoder.label_inputs):
        direct_IM = np.zeros((network.encoder.label_inputs, MEMBERS))
        direct_IM[i] = 0.5
        weights = {**weights_of(learner), "network.wide_relation_IM": direct_IM}
        kernel = kernels.Learner(subject.features.kinds, algorithm, weights)
        engine = CompiledEngine(kernel, 1)
        learned = engine.learn([support])
        [logit_N] = engine.judge(rows, learned.copies_BW, first_1N)
        np.testing.assert_allclose(logit_N - base_N, 0.5 * input_NI[:, i], rtol=0, atol=CLOSE)
        logit_K = base_K + 0.5 * input_KI[:, i]
        loss = np.logaddexp(0, np.where(support.is_fraud_K, -logit_K, logit_K)).sum()
        assert learned.after_B[0] == pytest.approx(loss, abs=CLOSE)


def test_what_is_not_the_networks_to_know_is_served_alike(subject: Subject) -> None:
    """The ends of bins, values beyond all of them, and codes of nothing."""
    encoder = subject.learner.network.encoder
    rows = subject.rows(4, 9)
    edges_ZT = encoder.edges_ZT.numpy()
    for row, edge in enumerate((0, 1, -1)):
        rows.features_NF[row, encoder.quantities] = edges_ZT[:, edge]
    rows.features_NF[3] = -1e30
    copies_BW = subject.batched.learn(subject.supports()[-1:]).copies_BW
    copy_QN = np.zeros((1, 4), np.int64)
    judged = [e.judge(rows, copies_BW, copy_QN) for e in (subject.compiled, subject.batched)]
    assert np.isfinite(judged[0]).all()
    np.testing.assert_allclose(*judged, rtol=CLOSE, atol=CLOSE)


def test_the_compiled_walk_is_the_one_on_arrays(subject: Subject) -> None:
    copies_BW = subject.batched.learn(subject.supports()).copies_BW
    rows = subject.rows(len(copies_BW), 10)
    pasts = [
        subject.rows(PASTS[b % len(PASTS)], 100 + b).features_NF for b in range(len(copies_BW))
    ]
    found = attribute(subject.kernel, *rows, pasts, copies_BW)
    copies = subject.learner.restored(torch.from_numpy(copies_BW))
    expected = attribute_on_arrays(subject.learner, subject.knots.double(), *rows, pasts, copies)
    for actual, other in zip(found, expected, strict=True):
        for part, of_other in zip(actual, other, strict=True):
            np.testing.assert_allclose(part, of_other, rtol=CLOSE, atol=CLOSE)
    assert max(np.abs(attribution.share_F).max() for attribution in found) > 0.01
    assert max(abs(attribution.labels) for attribution in found) > 0.01


def test_what_is_explained_is_what_is_served(subject: Subject) -> None:
    copies_BW = subject.compiled.learn(subject.supports()).copies_BW
    rows, own = subject.rows(len(copies_BW), 11), np.arange(len(copies_BW))[None]
    pasts = [rows.features_NF[:5]] * len(copies_BW)
    [served_B] = subject.compiled.judge(rows, copies_BW, own)
    found = attribute(subject.kernel, *rows, pasts, copies_BW)
    np.testing.assert_allclose(
        [attribution.log_odds for attribution in found], served_B, rtol=0, atol=1e-12
    )


def test_what_refusals_add_is_taken_off_their_own_shares(subject: Subject) -> None:
    """Of payments of which an account has used all entities, and of no others."""
    learner, kinds = subject.learner, np.array(subject.features.kinds)
    copies_BW = subject.compiled.learn(subject.supports()).copies_BW
    rows, own_1N = subject.rows(120, 15), np.arange(120)[None] % len(copies_BW)
    # Of some they are so long ago that nothing but rounding is left of them.
    rows.features_NF[::4, kinds == "refused"] = 1e-20
    pasts = [rows.features_NF[:5]] * 120
    weights = {**weights_of(learner), "gate.pardon": np.zeros(())}
    unforgiving = kernels.Learner(subject.features.kinds, learner.algorithm, weights)
    held_N, served_N = (
        engine.judge(rows, copies_BW, own_1N)[0]
        for engine in (CompiledEngine(unforgiving, 1), subject.compiled)
    )
    # Where a move reaches its bound, what is pardoned is taken off the labels' share, too.
    base_N = subject.compiled.judge(rows, copies_BW[:1], np.zeros((1, 120), np.int64))[0]
    most_N = copies_BW[own_1N[0], -1] * LARGEST_MOVE - 1e-9
    is_within_N = (np.abs(held_N - base_N) < most_N) & (np.abs(served_N - base_N) < most_N)
    found, before = (
        attribute(kernel, *rows, pasts, copies_BW[own_1N[0]])
        for kernel in (subject.kernel, unforgiving)
    )
    share_NF = np.array(
        [now.share_F - then.share_F for now, then in zip(found, before, strict=True)]
    )
    assert is_within_N.sum() > 60
    np.testing.assert_allclose(
        share_NF.sum(1)[is_within_N], (served_N - held_N)[is_within_N], rtol=0, atol=1e-12
    )
    if not len(learner.network.trees):
        other_NF = share_NF[is_within_N][:, kinds != "refused"]
        np.testing.assert_allclose(other_NF, 0, rtol=0, atol=1e-12)
    used_NG = rows.features_NF[:, kinds == "used"] > 0
    identity_NG = rows.features_NF[:, kinds == "identity"] != 0
    is_familiar_N = (used_NG | ~identity_NG).all(1) & identity_NG.any(1)
    assert not (served_N - held_N)[~is_familiar_N].any()
    assert (served_N <= held_N).all()
    if subject.features.spec.entity_names:
        assert (held_N - served_N).max() > 0.001


def test_a_row_and_a_copy_are_the_same_to_the_bit_whatever_is_beside_them(
    subject: Subject,
) -> None:
    supports = subject.supports()
    rows = subject.rows(len(supports), 12)
    copies_BW = subject.compiled.learn(supports).copies_BW
    together_QN = subject.compiled.judge(rows, copies_BW, np.arange(len(supports))[None])
    for b, support in enumerate(supports):
        alone = subject.compiled.learn([support]).copies_BW
        np.testing.assert_array_equal(alone[0], copies_BW[b])
        row = Rows(rows.features_NF[b : b + 1], rows.time_us_N[b : b + 1])
        judged = subject.compiled.judge(row, alone, np.zeros((1, 1), np.int64))
        assert judged[0, 0] == together_QN[0, b]


def test_what_does_not_fit_is_refused_and_never_read(subject: Subject) -> None:
    rows, kernel = subject.rows(2, 13), subject.kernel
    copies_BW = subject.compiled.learn([subject.supports()[-1]] * 2).copies_BW
    days_N, first_N = np.full(2, 20_000.0), np.zeros(2, np.int64)
    narrow_NF = np.ascontiguousarray(rows.features_NF[:, 1:])
    encoded_NE = kernel.encode(rows.features_NF, days_N)
    with pytest.raises(ValueError, match="not rows"):
        kernel.encode(narrow_NF, days_N)
    with pytest.raises(ValueError, match="not rows"):
        kernel.logits(encoded_NE, np.ascontiguousarray(copies_BW[:, 1:]), first_N)
    for place in (-1, 2):
        with pytest.raises(IndexError, match="no copy"):
            kernel.logits(encoded_NE, copies_BW, first_N + place)
    with pytest.raises(ValueError, match="one label"):
        kernel.learn(rows.features_NF, days_N, np.zeros(1, np.uint8), copies_BW[0])
    many = SUPPORT_LIMIT + 1
    with pytest.raises(ValueError, match="one label"):
        kernel.learn(
            subject.rows(many, 14).features_NF,
            np.full(many, 20_000.0),
            np.zeros(many, np.uint8),
            copies_BW[0],
        )
    for past_KF in (narrow_NF, rows.features_NF[:0]):
        with pytest.raises(ValueError, match="set against"):
            walked(kernel, rows.features_NF[:1], days_N[:1], past_KF, copies_BW[0])

"""Shares of a score: exact, complete, and those that a fine numeric integral finds."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from app.learner.algorithms import Algorithm
from app.learner.attribution import Attribution, attribute
from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.adaptation import AdaptedHead, Copies, Learner, pad_supports
from app.learner.differentiable.network import Hidden
from app.learner.differentiable.saving import learner_of, weights_of
from app.learner.features import FeatureSet
from app.learner.kernels import adaptation as kernels
from app.learner.network import HIDDEN, MEMBERS, Columns
from app.learner.spec import DatasetSpec
from app.learner.transaction import DAY_US
from tests.checkpoints import tiny_checkpoint
from tests.test_scoring import rows, scorer_of, support

DAY = torch.tensor(20_000.0, dtype=torch.float64)
KINDS = FeatureSet(DatasetSpec.load("simulated")).kinds
COMPARED = Columns.of(KINDS).compared


@pytest.fixture(params=["anil", "maml"])
def learner(request: pytest.FixtureRequest, tmp_path: Path) -> Learner:
    algorithm: Algorithm = request.param
    folder = tiny_checkpoint(tmp_path, algorithm=algorithm)
    learner = learner_of(Checkpoint.load(folder)).double().requires_grad_(False)
    learner.set_step_sizes(0.3)
    return learner


def copy_of(learner: Learner, tmp_path: Path, weight: float = 0.7) -> Copies:
    scorer = scorer_of(tiny_checkpoint(tmp_path / "scorer"))
    labelled = support(scorer, 3, labels=9)
    labelled.features_KF[:, COMPARED] = few_codes(1, 9)
    batch = pad_supports([labelled], len(scorer.features.names), np.float64)
    return Copies(*learner.adapt(batch), torch.tensor([weight], dtype=torch.float64))


def payments(tmp_path: Path, count: int) -> Tensor:
    features_NF, _ = rows(scorer_of(tiny_checkpoint(tmp_path / "rows")), count)
    features_NF[:, COMPARED] = few_codes(2, count)
    return torch.from_numpy(features_NF).double()


def few_codes(seed: int, count: int) -> np.ndarray:
    """So few that payments have codes and identities in common with labelled ones."""
    return np.random.default_rng(seed).integers(1, 3, (count, len(COMPARED)))


def table_of(learner: Learner) -> Tensor:
    """The knots as they are served, in float32; their sums are not."""
    return learner.network.knots().float().double()


def attributed(
    learner: Learner, rows_NF: Tensor, copies: Copies | None, past: int = 5
) -> Attribution:
    features_NF = rows_NF.float().numpy()
    [found] = attribute(
        kernels.Learner(KINDS, learner.algorithm, weights_of(learner)),
        features_NF[:1],
        np.array([20_000 * DAY_US]),
        [features_NF[1 : 1 + past]],
        learner.kept(copies or learner.unadapted()).numpy(),
    )
    return found


def served(learner: Learner, rows_NF: Tensor, copies: Copies | None) -> float:
    encoded = learner.network.encode(rows_NF[:1, None], DAY.expand(1, 1), table_of(learner))
    if copies is None:
        return float(learner.base_logits(encoded))
    return float(learner.served_logits(encoded, copies))


@pytest.mark.parametrize("past", [0, 1, 5])
@pytest.mark.parametrize("has_labels", [True, False])
def test_shares_add_up_to_what_is_served(
    learner: Learner, tmp_path: Path, past: int, has_labels: bool
) -> None:
    rows_NF = payments(tmp_path, 6)
    copies = copy_of(learner, tmp_path) if has_labels else None
    found = attributed(learner, rows_NF, copies, past)
    assert found.log_odds == pytest.approx(served(learner, rows_NF, copies), abs=1e-9)
    total = found.baseline + found.share_F.sum() + found.labels
    assert total == pytest.approx(found.log_odds, abs=1e-9)
    assert (found.labels != 0) == has_labels
    assert np.abs(found.share_F).max() > 0.001


def test_shares_add_up_where_the_move_is_bounded(learner: Learner, tmp_path: Path) -> None:
    learner.set_step_sizes(30.0)
    rows_NF, copies = payments(tmp_path, 6), copy_of(learner, tmp_path, weight=1.0)
    base = attributed(learner, rows_NF, None)
    found = attributed(learner, rows_NF, copies)
    assert abs(found.log_odds - base.log_odds) == pytest.approx(5.0, abs=1e-9)
    total = found.baseline + found.share_F.sum() + found.labels
    assert total == pytest.approx(found.log_odds, abs=1e-9)


def test_the_direct_part_of_labels_is_the_labels_share_alone(
    learner: Learner, tmp_path: Path
) -> None:
    # So that no step moves a head the less for what labels say already.
    learner.set_step_sizes(1e-30)
    rows_NF, copies = payments(tmp_path, 6), copy_of(learner, tmp_path, weight=0.7)
    encoded = learner.network.encode(rows_NF[:1, None], DAY.expand(1, 1), table_of(learner))
    input_I = learner.network.label_inputs(encoded, copies.context)[0, 0]
    # Likeness is among it.
    assert (input_I != 0).sum() > 40
    direct = 0.7 * (input_I @ learner.network.wide_relation_IM).mean().item()
    assert abs(direct) > 0.1
    found = attributed(learner, rows_NF, copies)
    learner.network.wide_relation_IM.zero_()
    without = attributed(learner, rows_NF, copies)
    np.testing.assert_allclose(found.share_F, without.share_F, rtol=0, atol=1e-12)
    assert found.labels - without.labels == pytest.approx(direct, abs=1e-12)
    assert found.log_odds - without.log_odds == pytest.approx(direct, abs=1e-12)
    assert found.baseline == without.baseline


def test_a_payment_like_all_before_it_has_no_shares(learner: Learner, tmp_path: Path) -> None:
    rows_NF = payments(tmp_path, 1).repeat(4, 1)
    found = attributed(learner, rows_NF, copy_of(learner, tmp_path), past=3)
    assert np.abs(found.share_F).max() < 1e-12
    assert found.log_odds == pytest.approx(found.baseline + found.labels, abs=1e-12)


def test_a_feature_as_usual_has_no_share(learner: Learner, tmp_path: Path) -> None:
    rows_NF = payments(tmp_path, 6)
    rows_NF[:, 0] = rows_NF[0, 0]
    found = attributed(learner, rows_NF, None)
    assert abs(found.share_F[0]) < 1e-12
    assert np.abs(found.share_F[1:]).max() > 0.001


def test_an_identity_has_no_share(learner: Learner, tmp_path: Path) -> None:
    """It is compared with those of labels alone: in the past of the account it says nothing."""
    rows_NF, copies = payments(tmp_path, 6), copy_of(learner, tmp_path)
    identities = np.array(KINDS) == "identity"
    assert identities.sum() == 5
    found, by_base = (attributed(learner, rows_NF, each) for each in (copies, None))
    assert not found.share_F[identities].any()
    assert np.count_nonzero(found.share_F) > len(KINDS) / 2
    rows_NF[1:, identities] = 16_777_215.0
    again = attributed(learner, rows_NF, copies)
    np.testing.assert_array_equal(again.share_F, found.share_F)
    assert again.log_odds == found.log_odds
    rows_NF[0, identities] = 16_777_215.0
    again = attributed(learner, rows_NF, None)
    np.testing.assert_array_equal(again.share_F, by_base.share_F)
    assert again.log_odds == by_base.log_odds
    unlike = attributed(learner, rows_NF, copies)
    assert not unlike.share_F[identities].any()
    assert unlike.labels != found.labels


def units_of(
    learner: Learner, rows_NF: Tensor, adapted: AdaptedHead, payment_F: Tensor
) -> tuple[Tensor, Tensor]:
    """What N rows give to the first layer's units, and to the members directly: [N, U], [N, M].

    What labels say of the payment beyond its own quantities, they say of all of them.
    """
    network, table = learner.network, table_of(learner)
    encoded = network.encode(rows_NF[None], DAY.expand(1, len(rows_NF)), table)
    payment = network.encode(payment_F[None, None], DAY.expand(1, 1), table)
    input_1NI = network.label_inputs(payment, adapted.context).expand(1, len(rows_NF), -1)
    relative_1NO = network.relative(encoded, adapted.context)
    entering_1NU = encoded.static_BNU + network.relation(torch.cat([relative_1NO, input_1NI], 2))
    return entering_1NU[0], (encoded.wide_BNM + input_1NI @ network.wide_relation_IM)[0]


def integrated(learner: Learner, rows_NF: Tensor, adapted: AdaptedHead, points: int) -> Tensor:
    """The shares of one network, [F]: gradients by autograd, summed at the middles of many steps.

    What a feature adds is found by giving the payment, feature by feature, the past's values.
    """
    payment_F, past_KF = rows_NF[0], rows_NF[1:]
    units_NU, wide_NM = units_of(learner, rows_NF, adapted, payment_F)
    (end_U, usual_U), (end_M, usual_M) = (
        (part[0], part[1:].mean(0)) for part in (units_NU, wide_NM)
    )
    along_A1 = ((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]
    units_AU = (usual_U + along_A1 * (end_U - usual_U)).requires_grad_()
    wide_AM = (usual_M + along_A1 * (end_M - usual_M)).requires_grad_()
    units_AMH = units_AU.relu().reshape(points, MEMBERS, HIDDEN)
    hidden = Hidden(units_AMH.permute(1, 0, 2)[:, None], wide_AM.T[:, None])
    adapted.head.logits(hidden).mean(0).sum().backward()
    assert units_AU.grad is not None
    assert wide_AM.grad is not None
    toggled_FKF = payment_F.repeat(len(payment_F), len(past_KF), 1)
    every = torch.arange(len(payment_F))
    toggled_FKF[every, :, every] = past_KF.T
    units_TU, wide_TM = units_of(learner, toggled_FKF.flatten(0, 1), adapted, payment_F)
    step_FU, step_FM = (
        end - part.unflatten(0, toggled_FKF.shape[:2]).mean(1)
        for end, part in ((end_U, units_TU), (end_M, wide_TM))
    )
    return step_FU @ units_AU.grad.mean(0) + step_FM @ wide_AM.grad.mean(0)


def test_shares_are_those_of_a_fine_numeric_integral(learner: Learner, tmp_path: Path) -> None:
    rows_NF, copies = payments(tmp_path, 6).float().double(), copy_of(learner, tmp_path)
    base_F = integrated(learner, rows_NF, learner.base(1), 25_000)
    copy_F = integrated(learner, rows_NF, AdaptedHead(copies.context, copies.head), 25_000)
    assert (copy_F - base_F).abs().max() > 0.001
    found = attributed(learner, rows_NF, None)
    assert found.share_F == pytest.approx(base_F.numpy(), abs=1e-6)
    found = attributed(learner, rows_NF, copies)
    followed_F = base_F + copies.weight_B[0] * (copy_F - base_F)
    assert found.share_F == pytest.approx(followed_F.numpy(), abs=1e-6)

"""Trees beside the network: what they learn, how risk rises with the amount, when they stay."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from app.learner.differentiable.adaptation import Learner
from app.learner.network import NODES, SPLITS, TREE_DEPTH
from app.learner.states import Floats
from app.training import bins, trees
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows
from app.training.evaluate import DECIDING_FRAUDS, answers, base_log_odds, cross_entropy, predict
from app.training.sampling import sampled
from app.training.train import Options, Split
from app.training.trees import fit_held_out, grow

pytestmark = pytest.mark.usefixtures("fitted_once")

RATE = 0.2
# A third of the trees, of three times the step.
FEW, STEP = 20, 0.3


@pytest.fixture(autouse=True, scope="module")
def _few_trees() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TREES", FEW), ("RATE", STEP)):
            assert hasattr(trees, name)
            patch.setattr(trees, name, value)
        yield


def learner_that_knows_the_rate(rows: Rows) -> Learner:
    """It gives every row the same odds, so that whoever is better has learned something."""
    learner = Learner(rows.kinds)
    bins.fit(learner.network.encoder, rows.features_NF, rows.is_fraud_N == 1)
    with torch.no_grad():
        learner.network.out_weight_MH.zero_()
        learner.network.out_bias_M.fill_(np.log(RATE / (1 - RATE)))
    return learner


def split_of(rows: Rows) -> Split:
    return Split.of(rows, rows.is_fraud_N != UNLABELLED, int(rows.time_us_N.max()) + 1, seed=0)


def labelled_by(rows: Rows, score_N: Floats) -> Rows:
    """The rows with a share of RATE of them frauds: those of the highest score."""
    is_fraud_N = (score_N > np.quantile(score_N, 1 - RATE)).astype(np.int8)
    return replace(rows, is_fraud_N=is_fraud_N, known_at_us_N=rows.time_us_N)


def quantity(rows: Rows, learner: Learner, place: int) -> Floats:
    return rows.features_NF[:, learner.network.encoder.quantities[place]].astype(np.float64)


def ranks(values_N: Floats) -> Floats:
    return np.asarray(values_N.argsort().argsort() / len(values_N))


def busiest(rows: Rows, learner: Learner) -> list[int]:
    """The quantities that have the most values and are no amounts."""
    counts = [
        0 if z in learner.network.amounts else len(np.unique(quantity(rows, learner, z)))
        for z in range(len(learner.network.encoder.quantities))
    ]
    return np.argsort(counts)[::-1].tolist()


def grown(learner: Learner, rows: Rows, seed: int = 0) -> list[NDArray[np.float32]]:
    split = split_of(rows)
    grow(learner, sampled(rows, split.train, 40_000, seed), rows, seed)
    own = learner.network.trees
    return [part.numpy() for part in (own.column_JS, own.edge_JS, own.value_JV)]


def test_trees_learn_what_takes_two_quantities_to_see(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    one, other = (ranks(quantity(rows, learner, z)) for z in busiest(rows, learner)[:2])
    rows = labelled_by(rows, np.minimum(one, other))
    held_out = split_of(rows).held_out
    is_fraud_A = rows.is_fraud_N[held_out] == 1
    alone = cross_entropy(is_fraud_A, base_log_odds(learner, rows, held_out)).mean()
    arrays = grown(learner, rows)
    together = cross_entropy(is_fraud_A, base_log_odds(learner, rows, held_out)).mean()
    assert together < 0.8 * alone
    column_JS, edge_JS, value_JV = arrays
    assert column_JS.shape == edge_JS.shape == (FEW, SPLITS)
    assert value_JV.shape == (FEW, NODES)


def test_a_tree_answers_as_its_splits_say(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, quantity(rows, learner, busiest(rows, learner)[0]))
    column_JS, edge_JS, value_JV = grown(learner, rows)
    read_NC = rows.features_NF[:50, learner.network.encoder.quantities]
    expected_N = np.zeros(50)
    for n, read_C in enumerate(read_NC):
        # Without labels all that these say is 0.
        read_C = np.append(read_C, np.zeros(learner.network.encoder.label_inputs, np.float32))
        for column_S, edge_S, value_V in zip(column_JS.astype(int), edge_JS, value_JV, strict=True):
            place = 0
            for _ in range(TREE_DEPTH):
                place = 2 * place + (2 if read_C[column_S[place]] > edge_S[place] else 1)
            expected_N[n] += value_V[place]
    network_logit = np.log(RATE / (1 - RATE))
    base_N = base_log_odds(learner, rows, np.arange(50))
    np.testing.assert_allclose(base_N, (network_logit + expected_N) / 2, rtol=0, atol=1e-5)
    assert expected_N.std() > 0.1


def test_trees_are_the_same_for_the_same_seed_alone(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, quantity(rows, learner, busiest(rows, learner)[0]))
    first, again, other = (grown(learner, rows, seed) for seed in (0, 0, 1))
    for part, same in zip(first, again, strict=True):
        np.testing.assert_array_equal(part, same)
    assert (first[0] != other[0]).any()


def test_risk_does_not_fall_as_the_amount_rises_though_the_file_says_so(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    amounts = learner.network.amounts
    rows = labelled_by(rows, -ranks(quantity(rows, learner, amounts[0])))
    grown(learner, rows)
    columns = [learner.network.encoder.quantities[z] for z in amounts]
    # The newest payments of accounts: no label of theirs is another's.
    newest = np.flatnonzero(np.diff(rows.account_N, append=-1))
    # All of them at once, and the amount alone.
    for column in (columns, columns[:1]):
        risks = []
        for step in np.linspace(0, 1, 9):
            features_NF = rows.features_NF.copy()
            values = np.quantile(rows.features_NF[:, column], step, axis=0)
            features_NF[np.ix_(newest, column)] = values
            served = predict(learner, replace(rows, features_NF=features_NF), newest)
            risks.append([served.base_A, served.adapted_A])
        assert (served.adapted_A != served.base_A).any()
        assert (np.diff(risks, axis=0) >= 0).all()


def test_trees_read_the_labels_of_the_account(rows: Rows) -> None:
    """Accounts of which all payments are fraud: the first label says so, and nothing else does."""
    is_bad_N = rows.account_N % 3 == 0
    rows = replace(rows, is_fraud_N=is_bad_N.astype(np.int8), known_at_us_N=rows.time_us_N)
    learner, held_out = learner_that_knows_the_rate(rows), split_of(rows).held_out
    grown(learner, rows)
    answered = answers(learner, rows, held_out, with_evidence=False)
    labelled_A = answered.labels_A > 0
    is_fraud_A = rows.is_fraud_N[held_out] == 1
    move_A = answered.move_A[labelled_A]
    assert move_A[is_fraud_A[labelled_A]].mean() > 0.5
    assert move_A[~is_fraud_A[labelled_A]].mean() < -0.1
    assert not answered.move_A[~labelled_A].any()


def test_held_out_accounts_keep_trees_where_they_gain(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, quantity(rows, learner, busiest(rows, learner)[0]))
    split = split_of(rows)
    predictions = fit_held_out(learner, rows, split, Options())
    assert len(learner.network.trees) == FEW
    assert predictions.base_A.std() > 0.1


def test_there_are_no_trees_where_the_options_want_none(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, quantity(rows, learner, busiest(rows, learner)[0]))
    predictions = fit_held_out(learner, rows, split_of(rows), Options(trees=False))
    assert len(learner.network.trees) == 0
    assert np.ptp(predictions.base_A) < 1e-5


def test_held_out_accounts_keep_none_where_there_is_nothing_to_learn(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, np.random.default_rng(0).random(len(rows.account_N)))
    predictions = fit_held_out(learner, rows, split_of(rows), Options())
    assert len(learner.network.trees) == 0
    assert np.ptp(predictions.base_A) < 1e-5


def test_few_frauds_held_out_choose_no_trees(rows: Rows) -> None:
    learner = learner_that_knows_the_rate(rows)
    rows = labelled_by(rows, quantity(rows, learner, busiest(rows, learner)[0]))
    split = split_of(rows)
    frauds = split.held_out[rows.is_fraud_N[split.held_out] == 1]
    for too_few, kept in ((1, 0), (0, FEW)):
        left_out = frauds[DECIDING_FRAUDS - too_few :]
        few = split._replace(held_out=np.setdiff1d(split.held_out, left_out))
        fit_held_out(learner, rows, few, Options())
        assert len(learner.network.trees) == kept

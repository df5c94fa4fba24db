"""The measures against examples worked by hand, and scoring as it is served."""

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch

from app.learner.adaptation import LARGEST_MOVE, SUPPORT_LIMIT
from app.learner.decisions import Calibration
from app.learner.differentiable.adaptation import Learner, pad_supports
from app.learner.scorer import calibrated
from app.learner.transaction import DAY_US
from app.training import bins, evaluate
from app.training.dataset import UNLABELLED
from app.training.episodes import Rows, served
from app.training.evaluate import (
    DECIDING_FRAUDS,
    HEEDS,
    TRUSTS,
    USUAL_GATE,
    Answers,
    EncodedRows,
    Predictions,
    alike,
    answers,
    average_precision,
    calibrate,
    card_precision,
    fit_gate,
    gated,
    predict,
    recall_at_false_positives,
)

pytestmark = pytest.mark.usefixtures("fitted_once")


def card_precision_of(table: list[tuple[int, int, float, bool]]) -> float:
    """Of rows (day, account, score, fraud)."""
    day_A, account_A, score_A, is_fraud_A = (np.array(each) for each in zip(*table, strict=True))
    return card_precision(
        account_A, day_A * DAY_US + np.arange(len(table)), is_fraud_A, score_A.astype(float)
    )


def test_card_precision_counts_defrauded_accounts_among_the_100_first_of_each_day() -> None:
    # 150 accounts a day: of the 30 defrauded, every fifth, the 20 of rank 0 to 99 are found;
    # the next day they are gone, and of 130 accounts the 10 left are found within 100.
    day = [(account, 1000.0 - account, account % 5 == 0) for account in range(150)]
    assert card_precision_of([(0, *row) for row in day]) == pytest.approx(20 / 100)
    both = [(d, *row) for d in (0, 1) for row in day]
    # On day 1 the first 100 of what is left are accounts 1..99 but fives (80) and 100..119.
    assert card_precision_of(both) == pytest.approx((20 / 100 + 4 / 100) / 2)


def test_card_precision_is_unknown_where_there_is_no_fraud_to_find() -> None:
    assert math.isnan(card_precision_of([(0, n, 0.5, False) for n in range(5)]))


def test_card_precision_takes_an_accounts_highest_score_and_any_fraud_of_the_day() -> None:
    others = [(0, account, 0.5, False) for account in range(1, 120)]
    # Its fraud scores low, but another of its transactions scores high.
    assert card_precision_of([*others, (0, 200, 0.1, True), (0, 200, 0.9, False)]) == 1 / 100
    assert card_precision_of([*others, (0, 200, 0.1, True), (0, 200, 0.2, False)]) == 0


def test_an_account_that_was_not_found_stays() -> None:
    others = [(d, account, 0.5, False) for d in (0, 1) for account in range(1, 120)]
    missed_then_found = [(0, 200, 0.1, True), (1, 200, 0.9, True)]
    assert card_precision_of([*others, *missed_then_found]) == pytest.approx(0.5 / 100)
    found_at_once = [(0, 200, 0.9, True), (1, 200, 0.9, True)]
    assert card_precision_of([*others, *found_at_once]) == pytest.approx(0.5 / 100)


def test_measures_of_nothing_and_of_one_class_are_not_a_number() -> None:
    nothing, no_scores = np.zeros(0, bool), np.zeros(0)
    assert math.isnan(average_precision(nothing, no_scores))
    assert math.isnan(recall_at_false_positives(nothing, no_scores))
    assert math.isnan(card_precision(np.zeros(0, int), np.zeros(0, int), nothing, no_scores))
    assert math.isnan(average_precision(np.zeros(3, bool), np.arange(3.0)))
    assert math.isnan(average_precision(np.ones(3, bool), np.arange(3.0)))
    assert math.isnan(recall_at_false_positives(np.zeros(3, bool), np.arange(3.0)))
    assert math.isnan(recall_at_false_positives(np.ones(3, bool), np.arange(3.0)))


def test_recall_at_false_positives_flags_no_more_than_it_may() -> None:
    # 200 legitimate rows of scores 0 to 199: two of them may be flagged.
    legitimate = np.arange(200.0)
    frauds = np.array([300.0, 198.5, 197.5, 196.5, 0.5])
    is_fraud_A = np.r_[np.zeros(200, bool), np.ones(5, bool)]
    scores_A = np.r_[legitimate, frauds]
    assert recall_at_false_positives(is_fraud_A, scores_A) == pytest.approx(3 / 5)
    assert recall_at_false_positives(is_fraud_A, scores_A, rate=0.0) == pytest.approx(1 / 5)
    assert recall_at_false_positives(is_fraud_A, scores_A, rate=1.0) == 1
    # Equal scores are flagged together or not at all.
    assert recall_at_false_positives(is_fraud_A, np.zeros(205)) == 0


def test_average_precision_is_the_hand_worked_one() -> None:
    is_fraud_A = np.array([True, False, True, False])
    score_A = np.array([0.9, 0.8, 0.7, 0.1])
    assert average_precision(is_fraud_A, score_A) == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


@pytest.fixture(scope="module")
def miscalibrated() -> tuple[np.ndarray, np.ndarray]:
    """Log-odds of which the truth is another line, at a natural rate of a few percent."""
    rng = np.random.default_rng(0)
    logit_A = rng.normal(0, 2, 20_000)
    return rng.random(20_000) < 1 / (1 + np.exp(-(0.7 * logit_A - 3.5))), logit_A


def brier(is_fraud_A: np.ndarray, probability_A: np.ndarray) -> float:
    return float(np.square(probability_A - is_fraud_A).mean())


def test_calibration_finds_the_truth_behind_miscalibrated_log_odds(
    miscalibrated: tuple[np.ndarray, np.ndarray],
) -> None:
    is_fraud_A, logit_A = miscalibrated
    calibration = calibrate(is_fraud_A, logit_A)
    assert calibration.slope == pytest.approx(0.7, abs=0.05)
    assert calibration.shift == pytest.approx(-3.5, abs=0.15)
    before = brier(is_fraud_A, Calibration(slope=1.0, shift=0.0).probabilities(logit_A))
    after_A = calibration.probabilities(logit_A)
    assert brier(is_fraud_A, after_A) < 0.5 * before
    assert after_A.mean() == pytest.approx(is_fraud_A.mean(), rel=1e-3)


def test_too_few_frauds_and_log_odds_that_say_the_contrary_are_left_alone(
    miscalibrated: tuple[np.ndarray, np.ndarray],
) -> None:
    is_fraud_A, logit_A = miscalibrated
    few_A = is_fraud_A & (np.cumsum(is_fraud_A) <= 9)
    identity = Calibration(slope=1.0, shift=0.0)
    assert calibrate(few_A, logit_A) == identity
    assert calibrate(is_fraud_A, -logit_A) == identity
    assert calibrate(np.ones(20, bool), np.arange(20.0)) == identity
    assert calibrate(np.zeros(0, bool), np.zeros(0)) == identity


def test_probabilities_are_those_that_the_service_answers() -> None:
    calibration = Calibration(slope=1.3, shift=-2.0)
    logit_A = np.array([-1e9, -3.0, 0.0, 0.7, 5.0, 1e9])
    answered = [calibrated(float(logit), calibration) for logit in logit_A]
    np.testing.assert_allclose(calibration.probabilities(logit_A), answered, atol=1e-9)


def learner_of(rows: Rows) -> Learner:
    """An untrained learner, whose copies move scores by much."""
    torch.manual_seed(0)
    learner = Learner(rows.kinds)
    bins.fit(learner.network.encoder, rows.features_NF, rows.is_fraud_N == 1)
    with torch.no_grad():
        learner.network.wide_rises_ZTM.normal_(0, 0.02)
    learner.set_step_sizes(0.1)
    return learner


@pytest.fixture(scope="module")
def learner(rows: Rows) -> Learner:
    return learner_of(rows)


@pytest.fixture
def scored(rows: Rows) -> np.ndarray:
    return np.flatnonzero(rows.is_fraud_N != UNLABELLED)[1500:2500]


@pytest.mark.parametrize("limit", [0, 1, 5, 32])
def test_predictions_say_how_many_labels_each_row_was_scored_with(
    rows: Rows, learner: Learner, scored: np.ndarray, limit: int
) -> None:
    predictions = predict(learner, rows, scored, limit)
    np.testing.assert_array_equal(predictions.rows, scored)
    expected = [
        (len(support), int((rows.is_fraud_N[support] == 1).sum()))
        for support, query in served(rows, scored, limit)
        for _ in query
    ]
    assert list(zip(predictions.labels_A, predictions.frauds_A, strict=True)) == expected
    assert predictions.labels_A.max() == limit
    unlabelled_A = predictions.labels_A == 0
    np.testing.assert_array_equal(
        predictions.adapted_A[unlabelled_A], predictions.base_A[unlabelled_A]
    )
    assert (predictions.adapted_A[~unlabelled_A] != predictions.base_A[~unlabelled_A]).all()


def test_predictions_do_not_depend_on_the_other_rows(rows: Rows, learner: Learner) -> None:
    scored = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[:4000]
    together = predict(learner, rows, scored)
    first = 1234
    assert rows.account_N[scored[first - 1]] == rows.account_N[scored[first]]
    alone = predict(learner, rows, scored[:first])
    np.testing.assert_allclose(alone.adapted_A, together.adapted_A[:first], atol=1e-4)
    np.testing.assert_allclose(alone.base_A, together.base_A[:first], atol=1e-4)


def test_episodes_scored_together_are_alike_and_each_row_keeps_its_place(
    rows: Rows, scored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "EPISODES_AT_ONCE", 50)
    episodes = list(served(rows, scored))
    covered = np.zeros(len(scored), int)
    padded = 0
    for places, group in alike(episodes):
        assert len(group) <= 50
        for place, episode in zip(places, group, strict=True):
            np.testing.assert_array_equal(scored[place], episode.query)
            covered[place] += 1
        padded += len(group) * max(len(episode.support) for episode in group)
    assert (covered == 1).all()
    assert padded < 1.3 * sum(len(episode.support) for episode in episodes)


@pytest.fixture
def of_both_classes(rows: Rows) -> np.ndarray:
    """Rows whose accounts have frauds among their labels and more labels that are none."""
    scored = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    chosen = [
        query
        for support, query in served(rows, scored)
        if 0 < (rows.is_fraud_N[support] == 1).sum() < len(support) - 3
    ]
    return np.concatenate(chosen)[:250]


@pytest.mark.parametrize("pieces", [(512, 8192), (7, 100)])
@pytest.mark.parametrize(("trust", "heed"), [(6.0, 0.0), (-2.0, 0.5), (-3.0, 2.0)])
def test_predictions_are_what_is_served(
    rows: Rows,
    of_both_classes: np.ndarray,
    trust: float,
    heed: float,
    pieces: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Episode by episode as the service learns and scores, however many are made at once."""
    learner, scored = learner_of(rows), of_both_classes
    learner.gate.set(trust, heed, pardon=1.0)
    monkeypatch.setattr(evaluate, "EPISODES_AT_ONCE", pieces[0])
    monkeypatch.setattr(evaluate, "ROWS_AT_ONCE", pieces[1])
    predictions = predict(learner, rows, scored)
    expected: list[float] = []
    weights: list[float] = []
    with torch.inference_mode():
        for support, query in served(rows, scored):
            copies = learner.learn(pad_supports([rows.support(support)], len(rows.kinds)))
            features_1QF = torch.from_numpy(rows.features_NF[query])[None]
            day_1Q = torch.from_numpy(rows.time_us_N[query] / DAY_US)[None]
            encoded = learner.encode(features_1QF, day_1Q)
            expected += learner.served_logits(encoded, copies)[0].tolist()
            weights.append(copies.weight_B.item())
    np.testing.assert_allclose(predictions.adapted_A, expected, atol=1e-4)
    assert np.abs(predictions.adapted_A - predictions.base_A).max() > 0.1
    assert heed == 0 or np.std(weights) > 0.1


def test_answers_are_of_bases_and_bounded_moves_and_of_every_accounts_evidence(
    rows: Rows, scored: np.ndarray
) -> None:
    learner = learner_of(rows)
    learner.set_step_sizes(20.0)
    answered = answers(learner, rows, scored)
    none_A = answered.labels_A == 0
    assert np.abs(answered.move_A).max() == pytest.approx(LARGEST_MOVE)
    np.testing.assert_allclose(answered.move_A[none_A], 0, atol=1e-5)
    np.testing.assert_allclose(answered.evidence_A[none_A], 0, atol=1e-5)
    np.testing.assert_allclose(answered.evidence_A[answered.labels_A == 1], 0, atol=1e-4)
    assert np.abs(answered.evidence_A).max() > 1
    # Where evidence is not wanted, all else is the same.
    quick = answers(learner, rows, scored, with_evidence=False)
    assert not quick.evidence_A.any()
    np.testing.assert_allclose(quick.move_A, answered.move_A, atol=1e-3)


def test_an_account_without_labels_follows_nothing_whatever_the_gate(
    learner: Learner,
) -> None:
    zero_A, move_A = np.zeros(2), np.array([3.0, -3.0])
    labels_A = np.array([0, 1])
    zero_3A = np.zeros((3, 2))
    answered = Answers(np.arange(2), zero_A, move_A, zero_3A, zero_A, labels_A, labels_A)
    unlabelled, labelled = gated(learner, answered).adapted_A
    assert unlabelled == 0
    assert labelled == pytest.approx(-3 / (1 + np.exp(-6)))


@pytest.mark.parametrize("heed", [0.0, 0.5])
def test_evidence_is_worked_out_where_it_is_heeded(
    rows: Rows, scored: np.ndarray, heed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, worked_out = learner_of(rows), []
    evidence = learner.evidence
    monkeypatch.setattr(learner, "evidence", lambda *of: worked_out.append(of) or evidence(*of))
    learner.gate.set(1.0, heed)
    predicted = predict(learner, rows, scored)
    assert bool(worked_out) == (heed > 0)
    expected = gated(learner, answers(learner, rows, scored))
    np.testing.assert_allclose(predicted.adapted_A, expected.adapted_A, atol=1e-4)


def test_no_rows_give_no_predictions(rows: Rows, learner: Learner) -> None:
    predictions = predict(learner, rows, np.zeros(0, np.intp))
    assert [len(column) for column in predictions] == [0] * 5


def test_rows_encoded_once_are_taken_in_groups_of_any_size(rows: Rows, learner: Learner) -> None:
    needed = np.array([3, 10, 11, 400])
    encoded = EncodedRows(learner, rows, needed)
    groups = [np.array([11, 3]), np.zeros(0, np.intp), np.array([400, 10, 11])]
    taken = encoded.take(groups)
    assert taken.static_BNU.shape[:2] == (3, 3)
    for b, group in enumerate(groups):
        features_1NF = torch.from_numpy(rows.features_NF[group])[None]
        day_1N = torch.from_numpy(rows.time_us_N[group] / DAY_US)[None]
        with torch.inference_mode():
            expected = learner.network.encode(features_1NF, day_1N)
        for part, wanted in zip(taken, expected, strict=True):
            torch.testing.assert_close(part[b, : len(group)], wanted[0], rtol=0, atol=1e-5)


MadeUp = Callable[..., tuple[float, float, Predictions]]


@pytest.fixture
def fitted(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    """A gate fitted where the answers are made up: (move, evidence) -> (trust, heed, predictions).

    Of as many rows as are given; every second is a fraud, and the base knows no better.
    """

    def fit(
        move_A: np.ndarray,
        evidence_A: np.ndarray,
        calmed_A: np.ndarray | None = None,
        by_habit_A: np.ndarray | None = None,
        refused_A: np.ndarray | None = None,
    ) -> tuple[float, float, Predictions]:
        size = len(move_A)
        calmed_A = np.ones(size) if calmed_A is None else calmed_A
        plain_A = np.where(move_A > 0, 1.0, calmed_A)
        by_habit_A = plain_A if by_habit_A is None else by_habit_A
        refused_A = np.zeros(size) if refused_A is None else refused_A
        alike_3A = np.stack([plain_A, by_habit_A, refused_A])
        frauds = np.resize(np.flatnonzero(rows.is_fraud_N == 1), size)
        held_out = np.where(
            np.arange(size) % 2 == 0, frauds, np.flatnonzero(rows.is_fraud_N == 0)[:size]
        )
        three_A = np.full(size, 3)
        base_A = np.zeros(size)
        answered = Answers(held_out, base_A, move_A, alike_3A, evidence_A, three_A, three_A)
        monkeypatch.setattr(evaluate, "answers", lambda *of: answered)
        learner = learner_of(rows)
        predictions = fit_gate(learner, rows, held_out)
        return learner.gate.trust.item(), learner.gate.heed.item(), predictions

    return fit


COUNT = 400
SIGN_A = np.where(np.arange(COUNT) % 2 == 0, 1.0, -1.0)  # of a move towards the truth


def test_copies_that_pay_are_followed_nearly_all_the_way(fitted: MadeUp) -> None:
    _, heed, predictions = fitted(2.0 * SIGN_A, np.zeros(COUNT))
    assert heed == max(HEEDS)
    move_A = predictions.adapted_A * SIGN_A
    assert 1.9 < move_A.min() <= move_A.max() < 2


def test_copies_that_do_not_pay_are_not_followed_at_all(fitted: MadeUp) -> None:
    trust, _, predictions = fitted(-2.0 * SIGN_A, np.zeros(COUNT))
    assert trust == min(TRUSTS)
    np.testing.assert_array_equal(predictions.adapted_A, predictions.base_A)


def test_evidence_is_heeded_where_it_shows_which_copies_pay(fitted: MadeUp) -> None:
    pays_A = np.arange(COUNT) % 4 < 2
    move_A = 2.0 * SIGN_A * np.where(pays_A, 1, -1)
    _, heed, predictions = fitted(move_A, np.where(pays_A, 2.0, -2.0))
    assert heed > 0
    assert np.abs(predictions.adapted_A[pays_A]).min() > 1.5
    assert np.abs(predictions.adapted_A[~pays_A]).max() < 0.5
    # Evidence that says the contrary lets nobody follow, and one that says nothing few.
    _, _, predictions = fitted(move_A, np.where(pays_A, -2.0, 2.0))
    np.testing.assert_array_equal(predictions.adapted_A, predictions.base_A)
    noise_A = np.random.default_rng(0).normal(0, 2, COUNT)
    assert fitted(2.0 * SIGN_A, noise_A)[1] < max(HEEDS)


def test_no_more_heed_would_have_kept_what_labels_gain(fitted: MadeUp) -> None:
    rng = np.random.default_rng(1)
    evidence_A = rng.normal(0, 2, COUNT)
    move_A = SIGN_A * rng.normal(1 + 0.1 * evidence_A, 1.0)
    trust, heed, predictions = fitted(move_A, evidence_A)

    def loss(heed: float, trust: float) -> float:
        weight_A = 1 / (1 + np.exp(-(trust + heed * evidence_A)))
        weight_A = np.where(weight_A < 0.02, 0.0, weight_A)
        return float(np.logaddexp(0.0, -SIGN_A * weight_A * move_A).mean())

    losses = {choice: loss(*choice) for choice in product(HEEDS, TRUSTS)}
    least, base = min(losses.values()), np.log(2)
    kept = [choice for choice, loss in losses.items() if base - loss >= 0.95 * (base - least)]
    assert 1 < len(kept) < len(losses)
    assert (heed, -trust) == max((first, -other) for first, other in kept)
    served = np.logaddexp(0.0, -SIGN_A * predictions.adapted_A).mean()
    assert served == pytest.approx(losses[heed, trust], rel=1e-4)


def test_labels_reach_no_further_than_what_they_say_where_that_keeps_what_they_gain(
    fitted: MadeUp,
) -> None:
    """Of some payments labels say nothing: to move these down pays as of others, or harms."""
    calmed_A = np.where(np.arange(COUNT) % 4 < 2, 1.0, 0.0)
    of_none = calmed_A == 0
    predictions = fitted(2.0 * SIGN_A, np.zeros(COUNT), calmed_A)[2]
    assert predictions.adapted_A[of_none & (SIGN_A < 0)].max() < -1.9
    harmful_A = np.where(of_none, np.where(SIGN_A > 0, -0.1, 0.0), 2.0 * SIGN_A)
    predictions = fitted(harmful_A, np.zeros(COUNT), calmed_A)[2]
    np.testing.assert_array_equal(predictions.adapted_A[of_none], 0)
    assert np.abs(predictions.adapted_A[~of_none]).min() > 1.7


def test_labels_reach_all_payments_where_a_part_of_what_they_gain_hangs_on_it(
    fitted: MadeUp,
) -> None:
    """A thirtieth of it, of payments that labels say nothing of."""
    calmed_A = np.where(np.arange(COUNT) % 4 < 2, 1.0, 0.0)
    of_none = (calmed_A == 0) & (SIGN_A < 0)
    move_A = np.where(of_none, 0.13, 2.0) * SIGN_A
    predictions = fitted(move_A, np.zeros(COUNT), calmed_A)[2]
    assert predictions.adapted_A[of_none].max() < -0.05


def test_habit_counts_where_that_keeps_what_labels_gain(fitted: MadeUp) -> None:
    """Of every second payment they say nothing, by habit: moves of these pay, or harm."""
    by_habit_A = np.where(np.arange(COUNT) % 4 < 2, 1.0, 0.0)
    of_none = by_habit_A == 0
    predictions = fitted(2.0 * SIGN_A, np.zeros(COUNT), None, by_habit_A)[2]
    assert np.abs(predictions.adapted_A[of_none]).min() > 1.9
    harmful_A = np.where(of_none, -0.1, 2.0) * SIGN_A
    predictions = fitted(harmful_A, np.zeros(COUNT), None, by_habit_A)[2]
    np.testing.assert_array_equal(predictions.adapted_A[of_none], 0)
    assert np.abs(predictions.adapted_A[~of_none]).min() > 1.7


def test_refusals_are_pardoned_where_that_keeps_what_labels_gain(fitted: MadeUp) -> None:
    """What they add is of payments that are none, or of frauds."""
    moves = 2.0 * SIGN_A, np.zeros(COUNT), None, None
    plain = fitted(*moves)[2]
    refused_A = np.where(SIGN_A < 0, 1.5, 0.0)
    predictions = fitted(*moves, refused_A)[2]
    assert (plain.adapted_A - predictions.adapted_A)[SIGN_A < 0].min() > 1.4
    predictions = fitted(*moves, 1.5 - refused_A)[2]
    np.testing.assert_array_equal(predictions.adapted_A, plain.adapted_A)


def test_held_out_accounts_without_labels_leave_the_gate_as_it_was(rows: Rows) -> None:
    learner = learner_of(rows)
    learner.gate.set(2.5, 0.125)
    account = rows.account_N[rows.is_fraud_N != UNLABELLED][0]
    [first, *_] = np.flatnonzero((rows.account_N == account) & (rows.is_fraud_N != UNLABELLED))
    predictions = fit_gate(learner, rows, np.array([first]))
    assert predictions.labels_A.tolist() == [0]
    assert (learner.gate.trust.item(), learner.gate.heed.item()) == (2.5, 0.125)


def test_few_held_out_frauds_choose_no_gate(rows: Rows) -> None:
    learner = learner_of(rows)
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    frauds_A = np.cumsum(rows.is_fraud_N[labelled] == 1)
    learner.set_step_sizes(10.0)
    fit_gate(learner, rows, labelled[frauds_A < DECIDING_FRAUDS])
    assert learner.gate.described() == USUAL_GATE._asdict()
    fit_gate(learner, rows, labelled[frauds_A <= 2 * DECIDING_FRAUDS])
    assert learner.gate.described() != USUAL_GATE._asdict()
    assert learner.gate.heed.item() in HEEDS


def test_a_stated_heed_is_no_choice_of_held_out_accounts(rows: Rows) -> None:
    """It is theirs how much copies are trusted beside it."""
    learner = learner_of(rows)
    labelled = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    frauds_A = np.cumsum(rows.is_fraud_N[labelled] == 1)
    learner.set_step_sizes(10.0)
    stated = 2 * max(HEEDS)
    for most in (DECIDING_FRAUDS - 1, 2 * DECIDING_FRAUDS):
        fit_gate(learner, rows, labelled[frauds_A <= most], stated)
        assert learner.gate.heed.item() == stated
        assert (learner.gate.trust.item() == USUAL_GATE.trust) == (most < DECIDING_FRAUDS)


def test_the_gate_is_judged_with_few_labels_too(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies that pay with all labels, and harm with one, are followed less."""
    held_out = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[:4000]
    assert (rows.is_fraud_N[held_out] == 1).sum() >= DECIDING_FRAUDS
    harmful: list[int] = []

    def answered(
        _: object, of: Rows, scored: np.ndarray, limit: int = SUPPORT_LIMIT, *more: object
    ) -> Answers:
        size, is_fraud_A = len(scored), of.is_fraud_N[scored] == 1
        sign = -1.0 if limit in harmful else 1.0
        move_A = sign * 3.0 * np.where(is_fraud_A, 1.0, -1.0)
        labels_A = np.full(size, 3)
        zero_A = np.zeros(size)
        alike_3A = np.array([[1.0], [1.0], [0.0]]).repeat(size, 1)
        return Answers(scored, zero_A, move_A, alike_3A, zero_A, labels_A, labels_A)

    monkeypatch.setattr(evaluate, "answers", answered)

    def fitted_gate() -> tuple[float, float]:
        learner = learner_of(rows)
        fit_gate(learner, rows, held_out)
        return learner.gate.trust.item(), learner.gate.heed.item()

    trust, _ = fitted_gate()
    harmful.append(1)
    assert fitted_gate()[0] < trust


def test_a_fitted_gate_is_no_worse_than_the_base_however_far_copies_overshoot(
    rows: Rows,
) -> None:
    held_out = np.flatnonzero(rows.is_fraud_N != UNLABELLED)[::2]
    is_fraud_A = rows.is_fraud_N[held_out] == 1
    assert is_fraud_A.sum() >= DECIDING_FRAUDS
    learner = learner_of(rows)
    learner.set_step_sizes(10.0)
    with torch.no_grad():
        learner.network.out_bias_M.fill_(-3.5)

    def loss(logit_A: np.ndarray) -> float:
        return float((np.logaddexp(0.0, logit_A) - is_fraud_A * logit_A).mean())

    followed, fitted = predict(learner, rows, held_out), fit_gate(learner, rows, held_out)
    assert loss(followed.adapted_A) > loss(followed.base_A) + 0.01
    assert loss(fitted.adapted_A) <= loss(fitted.base_A) + 1e-9

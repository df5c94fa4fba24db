"""Decisions do not depend on who shares a batch, and copies are a cache and never the truth."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.learner.adaptation import LARGEST_MOVE, SUPPORT_LIMIT, Support
from app.learner.algorithms import Algorithm
from app.learner.checkpoint import METADATA, Checkpoint
from app.learner.compiled import CompiledEngine
from app.learner.decisions import Calibration, Decision, Thresholds, risk_score
from app.learner.differentiable.saving import learner_of, weights_of
from app.learner.engine import Rows
from app.learner.likeness import LabelledPayments
from app.learner.network import Columns
from app.learner.scorer import LEAST_COPIES, AdapterKey, Scorer, calibrated
from app.learner.transaction import DAY_US
from app.settings import SHIPPED_MODEL
from tests.checkpoints import tiny_checkpoint

ACCOUNTS = 64
TODAY_US = 20_000 * DAY_US


def scorer_of(folder: Path) -> Scorer:
    return Scorer(Checkpoint.load(folder), "cpu", bank_bytes=1)


@pytest.fixture
def scorer(checkpoint: Path) -> Scorer:
    return scorer_of(checkpoint)


@pytest.fixture(scope="module", params=["anil", "maml"])
def of_algorithm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that adapts the last layer, and one that adapts the whole head."""
    folder = tmp_path_factory.mktemp("models") / request.param
    return tiny_checkpoint(folder, algorithm=request.param)


def rows(scorer: Scorer, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The features and times of transactions of today."""
    rng = np.random.default_rng(seed)
    features_NF = rng.normal(1, 1.5, (size, len(scorer.features.names))).astype(np.float32)
    return features_NF, TODAY_US + rng.integers(0, DAY_US, size)


def support(scorer: Scorer, seed: int, labels: int | None = None) -> Support:
    """Labels of an account, newest first; as many as the seed says."""
    rng = np.random.default_rng([7, seed])
    labels = int(rng.integers(1, 40)) if labels is None else labels
    features_KF = rng.normal(1, 1.5, (labels, len(scorer.features.names))).astype(np.float32)
    time_us_K = TODAY_US - np.sort(rng.integers(0, 60 * DAY_US, labels))
    return Support(features_KF, time_us_K, rng.random(labels) < 0.3)


def key(account: int, revision: int = 1) -> AdapterKey:
    return AdapterKey("t", f"a{account}", revision)


def keys(accounts: int = ACCOUNTS) -> list[AdapterKey]:
    """Every fourth account has no labels."""
    return [key(a, revision=1 if a % 4 else 0) for a in range(accounts)]


def adapt(scorer: Scorer, wanted: list[AdapterKey]) -> None:
    scorer.adapt(
        {
            adapter: support(scorer, int(adapter.account_id[1:]))
            for adapter in scorer.missing(wanted)
        }
    )


def bank_of(scorer: Scorer) -> np.ndarray:
    engine = scorer.engine
    assert isinstance(engine, CompiledEngine)
    return engine.bank_BW


def score_one(scorer: Scorer, adapter: AdapterKey, n: int = 0) -> Decision:
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    own = features_NF[n : n + 1], time_us_N[n : n + 1]
    return scorer.score(*own, [adapter], scorer.thresholds)[0]


def test_an_account_is_decided_alone_as_in_a_batch(of_algorithm: Path) -> None:
    scorer = scorer_of(of_algorithm)
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    together = scorer.score(features_NF, time_us_N, keys(), scorer.thresholds)
    alone = [score_one(scorer, adapter, n) for n, adapter in enumerate(keys())]
    assert together == alone
    assert len({decision.probability for decision in together}) == ACCOUNTS
    assert {decision.used for decision in together} == {"adapted", "insufficient_labels"}


def test_the_order_of_a_batch_changes_no_decision(of_algorithm: Path) -> None:
    scorer = scorer_of(of_algorithm)
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    turned = scorer.score(
        features_NF[::-1].copy(), time_us_N[::-1].copy(), keys()[::-1], scorer.thresholds
    )
    assert turned[::-1] == scorer.score(features_NF, time_us_N, keys(), scorer.thresholds)


def test_copies_made_alone_are_those_made_together(of_algorithm: Path) -> None:
    scorer, another = scorer_of(of_algorithm), scorer_of(of_algorithm)
    adapt(scorer, keys())
    for adapter in keys():
        adapt(another, [adapter])
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    assert another.score(features_NF, time_us_N, keys(), scorer.thresholds) == scorer.score(
        features_NF, time_us_N, keys(), scorer.thresholds
    )


def test_a_copy_of_the_last_layer_alone_takes_a_small_share_of_the_bytes(tmp_path: Path) -> None:
    whole, last = (
        scorer_of(tiny_checkpoint(tmp_path / algorithm, algorithm=algorithm))
        for algorithm in ("maml", "anil")
    )
    assert last.copy_bytes < whole.copy_bytes / 9
    # And so the same memory holds more of them.
    bank = 4 * LEAST_COPIES * whole.copy_bytes
    sizes = [Scorer(Checkpoint.load(tmp_path / a), "cpu", bank).capacity for a in ("maml", "anil")]
    assert sizes[1] > 9 * sizes[0]


def test_a_copy_by_the_shipped_model_takes_at_most_a_page(tmp_path: Path) -> None:
    """The labels themselves are most of it: a day, and what they are compared by."""
    described = json.loads((SHIPPED_MODEL / METADATA).read_text())
    assert described["spec"]["name"] == "simulated"
    scorer = scorer_of(tiny_checkpoint(tmp_path, algorithm=described["algorithm"]))
    assert scorer.copy_bytes <= 4096


def test_a_bank_keeps_no_more_than_its_size(tmp_path: Path) -> None:
    scorer = Scorer(Checkpoint.load(tiny_checkpoint(tmp_path)), "cpu", 1 << 23)
    assert scorer.capacity > LEAST_COPIES
    assert bank_of(scorer)[1:].nbytes <= 1 << 23


def test_a_label_changes_the_decisions_of_its_own_account_only(scorer: Scorer) -> None:
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    before = scorer.score(features_NF, time_us_N, keys(), scorer.thresholds)
    newer = support(scorer, 5)
    newer.is_fraud_K[0] = not newer.is_fraud_K[0]
    scorer.adapt({key(5, revision=2): newer})
    wanted = [key(5, revision=2) if adapter == key(5) else adapter for adapter in keys()]
    after = scorer.score(features_NF, time_us_N, wanted, scorer.thresholds)
    assert [n for n in range(ACCOUNTS) if before[n] != after[n]] == [5]
    assert before[5].probability != after[5].probability
    # The copy of before, made anew, is what it was.
    adapt(scorer, keys())
    assert scorer.score(features_NF, time_us_N, keys(), scorer.thresholds) == before


def test_a_fraud_label_raises_the_score_of_what_looks_like_it(scorer: Scorer) -> None:
    features_NF, time_us_N = rows(scorer, 1)
    labelled = Support(features_NF, time_us_N - 60, np.array([True]))
    scorer.adapt({key(1): labelled})
    scorer.adapt({key(2): labelled._replace(is_fraud_K=np.array([False]))})
    fraud, legitimate = scorer.score(
        features_NF.repeat(2, 0), time_us_N.repeat(2), [key(1), key(2)], scorer.thresholds
    )
    assert fraud.probability > legitimate.probability


def test_labels_without_any_left_are_the_base(scorer: Scorer) -> None:
    scorer.adapt({key(1): support(scorer, 1, labels=0)})
    emptied, base = score_one(scorer, key(1)), score_one(scorer, key(1, revision=0))
    assert emptied == base
    assert (emptied.used, emptied.labels) == ("insufficient_labels", 0)


@pytest.mark.parametrize("algorithm", ["anil", "maml"])
def test_a_copy_that_is_not_followed_decides_as_the_base_and_says_so(
    tmp_path: Path, algorithm: Algorithm
) -> None:
    scorer = scorer_of(tiny_checkpoint(tmp_path, algorithm=algorithm, trust=-6.0, heed=0.0))
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    decided = scorer.score(features_NF, time_us_N, keys(), scorer.thresholds)
    base = scorer.score(features_NF, time_us_N, [key(0, revision=0)] * ACCOUNTS, scorer.thresholds)
    assert [decision.probability for decision in decided] == [
        decision.probability for decision in base
    ]
    for adapter, decision in zip(keys(), decided, strict=True):
        assert decision.used == ("base" if adapter.revision else "insufficient_labels")
        assert (decision.labels > 0) == (adapter.revision > 0)


def test_labels_that_contradict_each_other_are_answered_by_the_base(tmp_path: Path) -> None:
    """The same transaction, fraud and legitimate by turns, beside one that is always fraud."""
    scorer = scorer_of(tiny_checkpoint(tmp_path, trust=0.0, heed=300.0))
    alike = support(scorer, 1, labels=16)
    alike.features_KF[:] = alike.features_KF[:1]
    steady = alike._replace(is_fraud_K=np.ones(16, bool))
    turns = alike._replace(is_fraud_K=np.arange(16) % 2 == 0)
    scorer.adapt({key(1): steady, key(2): turns})
    assert [score_one(scorer, key(a)).used for a in (1, 2)] == ["adapted", "base"]


def test_no_label_moves_a_probability_further_than_the_largest_move(tmp_path: Path) -> None:
    """Steps so large that the copies are sure of anything."""
    checkpoint = Checkpoint.load(tiny_checkpoint(tmp_path, trust=6.0, heed=0.0))
    learner = learner_of(checkpoint)
    learner.set_step_sizes(1e4)
    scorer = Scorer(replace(checkpoint, weights=weights_of(learner)), "cpu", bank_bytes=1)
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    adapted, base = (
        np.array(
            [
                score.probability
                for score in scorer.score(features_NF, time_us_N, wanted, scorer.thresholds)
            ]
        )
        for wanted in (keys(), [key(0, revision=0)] * ACCOUNTS)
    )
    moves = np.log(adapted / (1 - adapted)) - np.log(base / (1 - base))
    assert np.abs(moves).max() == pytest.approx(LARGEST_MOVE, abs=0.02)


def test_a_decision_says_how_many_labels_its_copy_has(scorer: Scorer) -> None:
    for labels in (1, SUPPORT_LIMIT, 100):
        scorer.adapt({key(labels): support(scorer, 1, labels)})
        decision = score_one(scorer, key(labels))
        assert decision.used == "adapted"
        assert decision.labels == min(labels, SUPPORT_LIMIT)


def test_only_the_newest_labels_of_each_class_matter(scorer: Scorer) -> None:
    many = support(scorer, 1, labels=100)
    longer = Support(*(np.concatenate([column, column[-30:]]) for column in many))
    scorer.adapt({key(1): many, key(2): longer})
    assert score_one(scorer, key(1)) == score_one(scorer, key(2))


def test_missing_names_the_copies_to_make_each_once(scorer: Scorer) -> None:
    wanted = [key(3), key(1), key(0, revision=0), key(3), key(1, revision=2)]
    assert scorer.missing(wanted) == [key(3), key(1), key(1, revision=2)]
    adapt(scorer, [key(1)])
    assert scorer.missing(wanted) == [key(3), key(1, revision=2)]
    assert scorer.missing([]) == []
    assert scorer.missing([key(0, revision=0)]) == []


def test_a_copy_of_one_tenant_is_not_that_of_another(scorer: Scorer) -> None:
    adapt(scorer, [key(1)])
    assert scorer.missing([AdapterKey("u", "a1", 1)]) == [AdapterKey("u", "a1", 1)]


def test_scoring_with_a_copy_never_made_is_refused(scorer: Scorer) -> None:
    with pytest.raises(KeyError):
        score_one(scorer, key(1))


def test_no_rows_give_no_decisions(scorer: Scorer) -> None:
    features_NF, time_us_N = rows(scorer, 0)
    assert scorer.score(features_NF, time_us_N, [], scorer.thresholds) == []
    scorer.adapt({})


def filled(scorer: Scorer) -> list[AdapterKey]:
    """Fill the bank to its last slot, the same labels for all."""
    wanted = [key(a) for a in range(scorer.capacity)]
    scorer.adapt({key: support(scorer, 0, labels=2) for key in wanted})
    assert scorer.missing(wanted) == []
    return wanted


def test_a_bank_of_any_size_has_room_for_a_batch(scorer: Scorer, checkpoint: Path) -> None:
    assert scorer.capacity == LEAST_COPIES
    copies = 2 * LEAST_COPIES
    larger = Scorer(Checkpoint.load(checkpoint), "cpu", bank_bytes=copies * scorer.copy_bytes)
    assert larger.capacity == copies


def test_a_full_bank_drops_the_copies_used_longest_ago(scorer: Scorer) -> None:
    first, second, third, *others = filled(scorer)
    # Asked for, and there already; made anew.
    assert scorer.missing([first]) == []
    scorer.adapt({second: support(scorer, 0, labels=2)})
    scorer.adapt({key(5000): support(scorer, 5000)})
    assert scorer.missing([first, second, third, *others, key(5000)]) == [third]


def test_a_newer_copy_of_an_account_takes_the_place_of_the_one_before(scorer: Scorer) -> None:
    old, *others = filled(scorer)
    new = old._replace(revision=2)
    assert scorer.missing([new]) == [new]
    scorer.adapt({new: support(scorer, 1, labels=2)})
    # Nobody had to go for it, and the copy of another revision is never used.
    assert scorer.missing([*others, new]) == []
    assert scorer.missing([old]) == [old]
    assert scorer.held(old) is None
    with pytest.raises(KeyError):
        score_one(scorer, old)


def test_making_the_missing_copies_of_a_batch_drops_none_of_its_others(scorer: Scorer) -> None:
    old = filled(scorer)[:600]
    batch = [*old, *(key(5000 + a) for a in range(424))]
    adapt(scorer, batch)
    assert scorer.missing(batch) == []
    features_NF, time_us_N = rows(scorer, len(batch))
    assert len(scorer.score(features_NF, time_us_N, batch, scorer.thresholds)) == len(batch)


def test_a_copy_made_again_decides_as_before(scorer: Scorer) -> None:
    adapt(scorer, keys())
    features_NF, time_us_N = rows(scorer, ACCOUNTS)
    before = scorer.score(features_NF, time_us_N, keys(), scorer.thresholds)
    scorer.adapt({key(9000 + a): support(scorer, 1, labels=2) for a in range(scorer.capacity)})
    labelled = [adapter for adapter in keys() if adapter.revision]
    assert scorer.missing(keys()) == labelled
    adapt(scorer, keys()[::-1])
    assert scorer.score(features_NF, time_us_N, keys(), scorer.thresholds) == before


def test_the_base_is_never_dropped(scorer: Scorer) -> None:
    before = score_one(scorer, key(0, revision=0))
    filled(scorer)
    scorer.adapt({key(5000 + a): support(scorer, 1, labels=2) for a in range(200)})
    assert score_one(scorer, key(0, revision=0)) == before


def test_outcome_level_and_risk_agree(scorer: Scorer) -> None:
    """Half of the transactions approved, and a fifth declined, each score its own threshold."""
    features_NF, time_us_N = rows(scorer, 401)
    base = [key(0, revision=0)] * 401
    ranked = sorted(
        score.probability for score in scorer.score(features_NF, time_us_N, base, scorer.thresholds)
    )
    thresholds = Thresholds(review=ranked[200], decline=ranked[320])
    scored = scorer.score(features_NF, time_us_N, base, thresholds)
    assert Counter(decision.outcome for decision in scored) == {
        "approve": 200,
        "review": 120,
        "decline": 81,
    }
    levels = {"low": "approve", "medium": "approve", "high": "review", "critical": "decline"}
    for probability, risk, level, outcome, *_ in scored:
        assert levels[level] == outcome
        assert risk == risk_score(probability, thresholds)
        assert risk >= {"approve": 0, "review": 50, "decline": 75}[outcome]
        assert risk <= {"approve": 50, "review": 75, "decline": 100}[outcome]
        assert (level == "low") == (risk < 25)


def test_calibration_is_a_straight_line_in_log_odds() -> None:
    identity = Calibration(slope=1.0, shift=0.0)
    assert calibrated(0.0, identity) == 0.5
    assert calibrated(np.log(3), identity) == 0.75
    assert calibrated(1.0, Calibration(slope=2.0, shift=-2.0)) == 0.5
    for extreme in (1e4, -1e4, 1e30):
        assert 0 <= calibrated(extreme, identity) <= 1


def test_a_question_about_labels_is_answered_as_their_copy_would_score(scorer: Scorer) -> None:
    features_NF, time_us_N = rows(scorer, 7)
    support_ = support(scorer, 1, labels=5)
    scorer.adapt({key(1): support_})
    [judged] = scorer.judge([support_], [Rows(features_NF, time_us_N)], scorer.thresholds)
    banked = scorer.score(features_NF, time_us_N, [key(1)] * 7, scorer.thresholds)
    assert judged.decisions == banked
    assert (judged.copy.used, judged.copy.labels) == (banked[0].used, banked[0].labels)


def test_a_question_leaves_the_copies_of_a_full_bank_as_they_are(scorer: Scorer) -> None:
    kept, bank_BW = filled(scorer), bank_of(scorer).copy()
    questions = Rows(*rows(scorer, 3))
    scorer.judge([support(scorer, a) for a in range(20)], [questions] * 20, scorer.thresholds)
    assert scorer.missing(kept) == []
    assert np.array_equal(bank_of(scorer), bank_BW)


def test_an_account_is_judged_alone_as_among_others(of_algorithm: Path) -> None:
    scorer = scorer_of(of_algorithm)
    supports = [support(scorer, a) for a in range(ACCOUNTS)]
    questions = [Rows(*rows(scorer, 1 + a % 5, seed=a)) for a in range(ACCOUNTS)]
    together = scorer.judge(supports, questions, scorer.thresholds)
    for a, judged in enumerate(together):
        [alone] = scorer.judge([supports[a]], [questions[a]], scorer.thresholds)
        assert alone.decisions == judged.decisions
        assert (alone.copy.used, alone.copy.labels) == (judged.copy.used, judged.copy.labels)


def test_questions_may_have_other_numbers_of_labels_and_of_rows(scorer: Scorer) -> None:
    features_NF, time_us_N = rows(scorer, 5)
    supports = [support(scorer, 1, labels=0), support(scorer, 2, labels=9)]
    questions = [Rows(features_NF, time_us_N), Rows(features_NF[:2], time_us_N[:2])]
    both = scorer.judge(supports, questions, scorer.thresholds)
    alone = [
        scorer.judge([labels], [rows], scorer.thresholds)[0]
        for labels, rows in zip(supports, questions, strict=True)
    ]
    assert [judgement.decisions for judgement in both] == [
        judgement.decisions for judgement in alone
    ]
    assert [len(judged.decisions) for judged in both] == [5, 2]
    base = scorer.score(features_NF, time_us_N, [key(1, revision=0)] * 5, scorer.thresholds)
    assert both[0].decisions == base
    assert both[0].copy.used == "insufficient_labels"


def test_equal_labels_make_the_same_copy_to_the_bit_and_others_another(scorer: Scorer) -> None:
    nothing = Rows(*(part[:0] for part in rows(scorer, 1)))
    digests = [
        scorer.judge([support(scorer, a, labels=6)], [nothing], scorer.thresholds)[0].copy.digest
        for a in (1, 2, 1)
    ]
    assert digests[0] == digests[2] != digests[1]


def digest_of(scorer: Scorer, labels: Support) -> str:
    nothing = Rows(*(part[:0] for part in rows(scorer, 1)))
    return scorer.judge([labels], [nothing], scorer.thresholds)[0].copy.digest


def test_a_removed_label_leaves_no_bit_of_itself_in_a_copy(of_algorithm: Path) -> None:
    """Neither of its code or identity, nor of its day: what is left over of a copy is empty."""
    scorer, never = scorer_of(of_algorithm), scorer_of(of_algorithm)
    labels = support(scorer, 3, labels=7)
    compared = Columns.of(scorer.features.kinds).compared
    labels.features_KF[:, compared] = np.arange(7 * len(compared)).reshape(7, -1) + 1
    for removed in range(7):
        left = Support(*(np.delete(column, removed, axis=0) for column in labels))
        changed = scorer.change(labels, left, Rows(*rows(scorer, 3)), scorer.thresholds)
        assert changed.after.copy.digest == digest_of(never, left) != digest_of(never, labels)
        for code in labels.features_KF[removed, compared]:
            assert not (changed.learned.copies_BW == code).any()
        assert not (
            np.abs(changed.learned.copies_BW) == labels.time_us_K[removed] / DAY_US + 1
        ).any()
    # The last is one that a copy holds while there is the label.
    held = scorer.engine.learn([labels]).copies_BW
    assert (np.abs(held) == labels.time_us_K[6] / DAY_US + 1).any()
    assert all((held == code).any() for code in labels.features_KF[6, compared])


def test_a_copy_is_another_where_a_label_has_another_identity_or_moment(scorer: Scorer) -> None:
    labels = support(scorer, 3, labels=4)
    digests = {digest_of(scorer, labels)}
    for f in Columns.of(scorer.features.kinds).compared:
        other = labels._replace(features_KF=labels.features_KF.copy())
        other.features_KF[2, f] = 77.0
        digests.add(digest_of(scorer, other))
    later_us_K = labels.time_us_K + np.array([0, 0, 1, 0])
    digests.add(digest_of(scorer, labels._replace(time_us_K=later_us_K)))
    assert len(digests) == 2 + len(Columns.of(scorer.features.kinds).compared)


def test_a_copy_shows_that_it_learned_its_labels(scorer: Scorer) -> None:
    features_NF, time_us_N = rows(scorer, 6)
    frauds = Support(features_NF, time_us_N, np.ones(6, np.bool_))
    [judged] = scorer.judge([frauds], [Rows(features_NF, time_us_N)], scorer.thresholds)
    copy = judged.copy
    assert copy.loss_before is not None
    assert copy.loss_after is not None
    assert 0 < copy.loss_after < copy.loss_before
    assert copy.drift > 0
    assert 0 < copy.weight <= 1


def test_a_change_of_labels_is_judged_by_both_copies_and_the_new_one_may_be_kept(
    of_algorithm: Path,
) -> None:
    scorer = scorer_of(of_algorithm)
    questions = Rows(*rows(scorer, 7))
    old, new = support(scorer, 1, labels=5), support(scorer, 1, labels=9)
    was, judged, learned = scorer.change(old, new, questions, scorer.thresholds)
    [expected_old, expected_new] = (
        scorer.judge([labels], [questions], scorer.thresholds)[0] for labels in (old, new)
    )
    assert was == expected_old.decisions
    assert judged == expected_new
    assert scorer.missing([key(1)]) == [key(1)]
    scorer.keep(key(1), learned)
    assert scorer.missing([key(1)]) == []
    assert scorer.score(*questions, [key(1)] * 7, scorer.thresholds) == judged.decisions


def test_the_copy_that_the_bank_holds_stands_for_the_labels_of_before(scorer: Scorer) -> None:
    questions = Rows(*rows(scorer, 7))
    old, new = support(scorer, 1, labels=5), support(scorer, 1, labels=9)
    scorer.adapt({key(1): old})
    held = scorer.held(key(1))
    assert held is not None
    assert held.labels == 5
    by_labels, by_copy = (
        scorer.change(before, new, questions, scorer.thresholds)[:2] for before in (old, held)
    )
    assert by_copy == by_labels
    assert scorer.held(key(2)) is None


def labelled_payments(*transaction_ids: str) -> LabelledPayments:
    size = len(transaction_ids)
    times_us_K = np.arange(size)
    codes_KE = np.zeros((size, 10), np.float32)
    return LabelledPayments(transaction_ids, times_us_K, np.ones(size, np.bool_), codes_KE)


def test_the_payments_of_its_labels_stay_with_a_copy_as_long_as_it_is_in_the_bank(
    scorer: Scorer,
) -> None:
    first, second = labelled_payments("p-1"), labelled_payments("p-1", "p-2")
    scorer.adapt({key(1): support(scorer, 1), key(2): support(scorer, 2)}, {key(1): first})
    assert scorer.labelled_payments(key(1)) is first
    assert scorer.labelled_payments(key(2)) is None
    assert scorer.labelled_payments(key(1, revision=0)) is None
    changed = scorer.change(
        support(scorer, 1), support(scorer, 2), Rows(*rows(scorer, 1)), scorer.thresholds
    )
    scorer.keep(key(1, revision=2), changed.learned, second)
    assert scorer.labelled_payments(key(1, revision=2)) is second
    assert scorer.labelled_payments(key(1)) is None
    # A copy that comes without them has none of those before it.
    scorer.keep(key(1, revision=3), changed.learned)
    assert scorer.labelled_payments(key(1, revision=3)) is None
    references = sys.getrefcount(second)
    scorer.keep(key(9000), changed.learned, second)
    assert sys.getrefcount(second) > references
    filled(scorer)
    assert scorer.labelled_payments(key(9000)) is None
    assert sys.getrefcount(second) == references


def test_the_base_stands_for_no_labels(scorer: Scorer) -> None:
    questions = Rows(*rows(scorer, 7))
    held = scorer.held(key(1, revision=0))
    assert held is not None
    assert (held.used, held.labels) == ("insufficient_labels", 0)
    was = scorer.change(held, support(scorer, 1), questions, scorer.thresholds).before
    assert was == scorer.score(*questions, [key(1, revision=0)] * 7, scorer.thresholds)

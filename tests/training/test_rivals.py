"""Rivals: each finds what there is to find, and none sees a label before it is known."""

import ast
import importlib.util
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.learner.adaptation import SUPPORT_LIMIT
from app.learner.differentiable.adaptation import Learner
from app.learner.transaction import DAY_US, HOUR_US
from app.training import rivals as package
from app.training.dataset import UNLABELLED
from app.training.episodes import SUPPORT_SIZES, Rows, served
from app.training.evaluate import LEAST_FRAUDS, average_precision, base_log_odds
from app.training.rivals import RIVALS, Rival, boosting, rivals, rules
from app.training.rivals.robust_z import DEVIATIONS, median_and_spread
from app.training.rivals.supports import Labels, ages, distances, likeness, summary
from app.training.rivals.tabular import Deviation, DevNet
from app.training.rivals.tuning import (
    CLIP,
    TRIALS,
    Lesson,
    Population,
    Score,
    Tuned,
    doubts,
    tuned,
    weighted_precision,
)
from app.training.sampling import Sample, sampled
from app.training.train import Options, Split, Trainer

NAMES = [rival.name for rival in RIVALS]
READERS = [rival.name for rival in RIVALS if rival.reads_labels]
BESIDE_THE_BASE = (
    "fine_tuned",
    "nearest_neighbours",
    "prototypes",
    "recency_rule",
    "likeness_rule",
)
# These compare codes and identities with those of an account's labels.
LIKENESS_READERS = ("fine_tuned", "likeness_rule", "xgboost_support", "lightgbm_support")
# It learns what becomes known of every account while it is tested.
ONLINE = "river_online"
SETTINGS = {rival.name: rival.settings for rival in RIVALS}
DAYS, TRAINED_DAYS, DELAY_DAYS = 60, 40, 3
ACCOUNTS, A_DAY = 120, 0.5


def made_rows(seed: int = 0) -> Rows:
    """Accounts of usual amounts of their own; a few are robbed again and again, of larger ones.

    So a row alone says something of fraud, and so do the labels of its account.
    """
    rng = np.random.default_rng(seed)
    count_G = rng.poisson(DAYS * A_DAY, ACCOUNTS) + 2
    account_N = np.repeat(np.arange(ACCOUNTS), count_G)
    rows = len(account_N)
    day_N = rng.uniform(0, DAYS, rows)
    order_N = np.lexsort((day_N, account_N))
    day_N = day_N[order_N]
    robbed_G = rng.random(ACCOUNTS) < 0.2
    is_fraud_N = rng.random(rows) < np.where(robbed_G[account_N], 0.3, 0.02)
    usual_G, likes_G = rng.normal(0, 1, ACCOUNTS), rng.integers(1, 4, ACCOUNTS)
    amount_N = usual_G[account_N] + rng.normal(0, 0.5, rows) + 1.5 * is_fraud_N
    code_N = np.where(is_fraud_N, rng.integers(1, 4, rows), likes_G[account_N])
    history_N = rng.normal(0, 1, rows) + 2.0 * is_fraud_N
    # No two are the same; whoever reads them as numbers needs nothing else.
    identity_N = 16_000_000 + np.arange(rows) + rows * is_fraud_N
    own = [amount_N, rng.normal(0, 1, rows), rng.random(rows) < 0.3]
    features = [*own, code_N, history_N, identity_N]
    time_us_N = np.rint(day_N * DAY_US).astype(np.int64)
    return Rows(
        ("own", "own", "own", "code", "history", "identity"),
        np.arange(rows),
        np.stack(features, axis=1).astype(np.float32),
        account_N,
        time_us_N,
        is_fraud_N.astype(np.int8),
        time_us_N + DELAY_DAYS * DAY_US,
    )


ROWS = made_rows()
END_US = TRAINED_DAYS * DAY_US
TRAINING = ROWS.known_by(END_US)
SPLIT = Split.of(TRAINING, (ROWS.time_us_N < END_US) & (ROWS.account_N % 4 != 0), END_US, seed=0)
QUERIES = np.flatnonzero(ROWS.time_us_N >= END_US)


@pytest.fixture(scope="module")
def learner() -> Learner:
    options = Options(global_steps=60, meta_steps=5, episodes=32, check_every=60)
    trainer = Trainer(TRAINING, SPLIT, options, "cpu")
    trainer.run(lambda status: True)
    return trainer.learner


@pytest.fixture(autouse=True, scope="module")
def _few_trials() -> Iterator[None]:
    """Two settings each, and little of what takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for rival in RIVALS:
            patch.setattr(rival, "settings", SETTINGS[rival.name][1:3])
        patch.setattr(DevNet, "settings", (Deviation(2, 60, 0.5), Deviation(1, 60, 0.5)))
        patch.setattr(boosting, "TREES_AT_MOST", 40)
        patch.setattr(boosting, "DECIDING_FRAUDS", 10)
        yield


def fit(name: str, learner: Learner, seed: int = 0) -> Rival:
    (rival,) = rivals([name])
    rival.fit(TRAINING, SPLIT, learner, seed)
    return rival


@pytest.fixture(scope="module")
def fitted(learner: Learner) -> dict[str, Rival]:
    return {name: fit(name, learner) for name in NAMES}


def flipped(rows: Rows, chosen: np.ndarray) -> Rows:
    """The same rows with the chosen labels turned round."""
    is_fraud_N = rows.is_fraud_N.copy()
    is_fraud_N[chosen] = 1 - is_fraud_N[chosen]
    return replace(rows, is_fraud_N=is_fraud_N)


@pytest.mark.parametrize("name", NAMES)
def test_a_rival_finds_frauds_of_accounts_it_has_not_trained_on(
    fitted: dict[str, Rival], name: str
) -> None:
    unseen = QUERIES[ROWS.account_N[QUERIES] % 4 == 0]
    is_fraud_A = ROWS.is_fraud_N[unseen] == 1
    score_A = fitted[name].scores(ROWS, unseen)
    assert score_A.dtype == np.float64
    assert score_A.shape == unseen.shape
    assert np.isfinite(score_A).all()
    assert average_precision(is_fraud_A, score_A) > 3 * is_fraud_A.mean()


@pytest.mark.parametrize("name", NAMES)
def test_a_rival_scores_the_same_again_after_the_same_seed(
    fitted: dict[str, Rival], learner: Learner, name: str
) -> None:
    first = fitted[name].scores(ROWS, QUERIES)
    np.testing.assert_array_equal(fitted[name].scores(ROWS, QUERIES), first)
    np.testing.assert_array_equal(fit(name, learner).scores(ROWS, QUERIES), first)


@pytest.mark.parametrize("name", NAMES)
def test_no_rival_sees_a_label_before_it_is_known(fitted: dict[str, Rival], name: str) -> None:
    now_us = END_US + 10 * DAY_US + 7 * HOUR_US
    later = flipped(ROWS, np.flatnonzero(ROWS.known_at_us_N > now_us))
    by_now_A = ROWS.time_us_N[QUERIES] <= now_us
    before, after = (fitted[name].scores(rows, QUERIES) for rows in (ROWS, later))
    np.testing.assert_array_equal(after[by_now_A], before[by_now_A])
    if name in (*READERS, ONLINE):
        assert (after != before).any()


@pytest.mark.parametrize("name", READERS)
def test_known_labels_change_the_scores_of_their_account_alone(
    fitted: dict[str, Rival], name: str
) -> None:
    rival = fitted[name]
    is_honest_G = np.bincount(ROWS.account_N, ROWS.is_fraud_N) == 0
    of_it_N = ROWS.account_N == np.flatnonzero(is_honest_G)[0]
    newest = np.flatnonzero(of_it_N & (ROWS.known_at_us_N <= END_US))[-3:]
    of_it_A = of_it_N[QUERIES]
    before, after = rival.scores(ROWS, QUERIES), rival.scores(flipped(ROWS, newest), QUERIES)
    assert (after[of_it_A] != before[of_it_A]).any()
    np.testing.assert_array_equal(after[~of_it_A], before[~of_it_A])
    # Frauds where there was none: suspicion, but for those that look at legitimate labels alone.
    if name != "robust_z":
        assert after[of_it_A].mean() > before[of_it_A].mean()


@pytest.mark.parametrize("name", NAMES)
def test_only_rivals_that_say_so_heed_how_many_labels_are_shown(
    fitted: dict[str, Rival], name: str
) -> None:
    rival = fitted[name]
    none, few, all_of_them = (rival.scores(ROWS, QUERIES, limit) for limit in (0, 3, SUPPORT_LIMIT))
    assert (none != few).any() == rival.reads_labels
    # The newest known fraud is among a few labels already.
    assert (few != all_of_them).any() == (rival.reads_labels and name != "recency_rule")
    assert np.isfinite(none).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_rival_reads_an_identity_as_a_number(fitted: dict[str, Rival], name: str) -> None:
    features_NF = ROWS.features_NF.copy()
    features_NF[:, -1] = np.random.default_rng(0).permutation(features_NF[:, -1])
    others = replace(ROWS, features_NF=features_NF)
    scores = (fitted[name].scores(rows, QUERIES) for rows in (ROWS, others))
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("name", LIKENESS_READERS)
def test_who_reads_likeness_compares_the_identities_of_labels(learner: Learner, name: str) -> None:
    """Of accounts whose frauds are all by the same: it makes a difference who has it, not who."""
    identity_N = 2 * ROWS.account_N + ROWS.is_fraud_N + 1

    def with_identities(rows: Rows, identity_N: np.ndarray) -> Rows:
        features_NF = rows.features_NF.copy()
        features_NF[:, -1] = identity_N
        return replace(rows, features_NF=features_NF)

    (rival,) = rivals([name])
    rival.fit(with_identities(TRAINING, identity_N), SPLIT, learner, seed=0)
    same, renamed, shuffled = (
        rival.scores(with_identities(ROWS, of_N), QUERIES)
        for of_N in (
            identity_N,
            16_000_000 - identity_N,
            np.random.default_rng(0).permutation(identity_N),
        )
    )
    np.testing.assert_array_equal(same, renamed)
    assert (same != shuffled).any()


@pytest.mark.parametrize("name", NAMES)
def test_no_rows_give_no_scores(fitted: dict[str, Rival], name: str) -> None:
    assert fitted[name].scores(ROWS, np.zeros(0, np.intp)).shape == (0,)


@pytest.mark.parametrize("name", BESIDE_THE_BASE)
def test_without_labels_the_networks_rivals_answer_as_its_base(
    fitted: dict[str, Rival], learner: Learner, name: str
) -> None:
    features_1AF = torch.from_numpy(ROWS.features_NF[QUERIES])[None]
    day_1A = torch.from_numpy(ROWS.time_us_N[QUERIES] / DAY_US)[None]
    with torch.inference_mode():
        base_A = learner.base_logits(learner.network.encode(features_1AF, day_1A))[0].numpy()
    np.testing.assert_allclose(fitted[name].scores(ROWS, QUERIES, limit=0), base_A, atol=1e-5)


def test_a_rival_that_learns_online_goes_on_from_where_its_training_ended(
    fitted: dict[str, Rival],
) -> None:
    rival = fitted[ONLINE]
    now_us = END_US + 5 * DAY_US
    unknown = replace(
        ROWS,
        is_fraud_N=np.where(
            (ROWS.known_at_us_N > END_US) & (ROWS.known_at_us_N < now_us),
            np.int8(UNLABELLED),
            ROWS.is_fraud_N,
        ),
    )
    learning, resting = rival.scores(ROWS, QUERIES), rival.scores(unknown, QUERIES)
    first_hour_A = ROWS.time_us_N[QUERIES] < END_US + HOUR_US
    np.testing.assert_array_equal(learning[first_hour_A], resting[first_hour_A])
    later_A = ROWS.time_us_N[QUERIES] >= now_us
    assert (learning[later_A] != resting[later_A]).all()


def test_every_rival_is_tuned_by_the_same_number_of_trials() -> None:
    assert {len(set(settings)) for settings in SETTINGS.values()} == {TRIALS}


def test_tuning_keeps_the_best_of_the_trials_and_the_first_of_equals() -> None:
    quality = {1: 0.2, 2: 0.7, 3: float("nan"), 4: 0.7}
    setting, score = tuned(
        (1, 2, 3, 4),
        lambda setting: lambda inputs: np.array([float(setting)]),
        lambda setting, score: quality[int(score(None)[0])] if setting else 0.0,
    )
    assert setting == 2
    assert score(None) == [2.0]
    unmeasured, _ = tuned((1, 2), lambda _: lambda _: np.zeros(1), lambda *_: float("nan"))
    assert unmeasured == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_rival_is_kept_in_the_setting_that_does_best_on_held_out_accounts(
    learner: Learner, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two settings the second, when the figure of held-out accounts says so."""
    tried: list[Sample] = []

    def second(
        self: object, setting: object, score: Score[Any], lesson: Lesson, inputs: Any
    ) -> float:
        assert len(score(inputs)) == len(lesson.held_out.rows)
        tried.append(lesson.held_out)
        return float(len(tried) == 2)

    (kind,) = (rival for rival in RIVALS if rival.name == name)
    monkeypatch.setattr(kind, "quality", second)
    rival = fit(name, learner)
    assert isinstance(rival, Tuned)
    assert rival.setting == rival.settings[1]
    assert len(tried) == 2
    assert np.isin(tried[0].rows, SPLIT.held_out).all()


def test_trials_are_compared_by_the_average_precision_of_held_out_accounts(
    fitted: dict[str, Rival], learner: Learner
) -> None:
    held_out = sampled(TRAINING, SPLIT.held_out, 10_000, seed=0)
    lesson = Lesson(TRAINING, held_out, held_out, END_US, learner, 0)
    rival = fitted["xgboost"]
    assert isinstance(rival, Tuned)
    quality = rival.quality(None, lambda inputs: inputs, lesson, held_out.is_fraud_A.astype(float))
    assert quality == 1


def test_all_rivals_are_listed_once_and_in_the_chosen_order() -> None:
    assert [rival.name for rival in rivals()] == NAMES
    assert len({rival.title for rival in rivals()}) == len(NAMES)
    assert [rival.name for rival in rivals(["xgboost", "fine_tuned"])] == ["xgboost", "fine_tuned"]
    assert rivals([]) == []


def test_an_unknown_rival_is_refused_by_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"unknown rival 'xgbost'; choose from .*xgboost"):
        rivals(["robust_z", "xgbost"])


def test_without_a_library_its_rivals_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(library: str) -> object | None:
        return None if library == "xgboost" else importlib.util.find_spec(library)

    monkeypatch.setattr(package, "find_spec", found)
    missing = {"xgboost", "xgboost_support"}
    assert [rival.name for rival in rivals()] == [name for name in NAMES if name not in missing]
    with pytest.raises(ValueError, match="xgboost_support needs xgboost"):
        rivals(["xgboost_support"])


def test_no_library_of_a_rival_is_imported_before_it_learns() -> None:
    folder = Path(package.__file__).parent
    libraries = {rival.library for rival in RIVALS if rival.library}
    assert libraries == {"river", "xgboost", "lightgbm"}
    for path in folder.glob("*.py"):
        at_once = ast.parse(path.read_text()).body
        plain = [
            alias.name for node in at_once if isinstance(node, ast.Import) for alias in node.names
        ]
        parts = [node.module or "" for node in at_once if isinstance(node, ast.ImportFrom)]
        assert not {name.split(".")[0] for name in (*plain, *parts)} & libraries


def test_a_sample_has_every_fraud_whole_days_and_weights_for_what_is_left_out() -> None:
    sample = sampled(ROWS, SPLIT.train, 600, seed=0)
    is_fraud_A = ROWS.is_fraud_N[SPLIT.train] == 1
    np.testing.assert_array_equal(sample.rows[sample.is_fraud_A], SPLIT.train[is_fraud_A])
    assert (np.diff(sample.rows) > 0).all()
    assert 400 < (~sample.is_fraud_A).sum() < 900
    assert sample.weight_A.sum() == pytest.approx(len(SPLIT.train), rel=0.1)
    left_out = np.setdiff1d(SPLIT.train, sample.rows)
    assert not set(days_of(left_out)) & set(days_of(sample.rows))
    whole = sampled(ROWS, SPLIT.train, len(SPLIT.train), seed=0)
    np.testing.assert_array_equal(whole.rows, SPLIT.train)
    assert (whole.weight_A == 1).all()


def days_of(scored: np.ndarray) -> list[tuple[int, int]]:
    days = ROWS.time_us_N[scored] // DAY_US
    return list(zip(ROWS.account_N[scored].tolist(), days.tolist(), strict=True))


def test_average_precision_counts_a_row_as_often_as_it_weighs() -> None:
    is_fraud_A, score_A = np.array([True, False, True, False]), np.array([3.0, 2.0, 1.0, 0.0])
    sample = Sample(np.arange(4), is_fraud_A, np.array([1.0, 2.0, 1.0, 5.0]))
    assert weighted_precision(sample, score_A) == pytest.approx((1 + 2 / 4) / 2)
    assert np.isnan(weighted_precision(sample._replace(is_fraud_A=np.zeros(4, bool)), score_A))


def test_labels_are_those_that_were_served() -> None:
    labels = Labels.of(ROWS, QUERIES, 5)
    np.testing.assert_array_equal(labels.row_P[labels.scored_A], QUERIES)
    chunks = list(labels.chunks())
    assert sum(len(some.scored_A) for some in chunks) == len(QUERIES)
    position = 0
    for support, query in served(ROWS, QUERIES, 5):
        for _ in query:
            for is_fraud, label_K in ((0, labels.legitimate_AK), (1, labels.fraud_AK)):
                rows = labels.row_P[labels.at_AK[position][label_K[position]]]
                np.testing.assert_array_equal(rows, support[ROWS.is_fraud_N[support] == is_fraud])
            position += 1


def test_labels_to_train_on_are_few_and_many() -> None:
    labels = Labels.of(ROWS, SPLIT.train, SUPPORT_LIMIT, np.random.default_rng(0))
    shown_A = (labels.legitimate_AK | labels.fraud_AK).sum(1)
    whole = Labels.of(ROWS, SPLIT.train, SUPPORT_LIMIT)
    most_A = (whole.legitimate_AK | whole.fraud_AK).sum(1)
    assert (shown_A <= most_A).all()
    assert set(shown_A[most_A >= 16]) >= set(SUPPORT_SIZES[:-1])
    # The place of a single label is a fraud's, as when labels are served.
    alone_A = (shown_A == 1) & (most_A > 1) & whole.fraud_AK.any(1)
    assert alone_A.any()
    assert labels.fraud_AK[alone_A].any(1).all()


def test_rows_of_an_account_and_day_are_trained_with_one_number_of_labels() -> None:
    labels = Labels.of(ROWS, SPLIT.train, SUPPORT_LIMIT, np.random.default_rng(0))
    whole = Labels.of(ROWS, SPLIT.train, SUPPORT_LIMIT)
    shown_A, most_A = (
        (each.legitimate_AK | each.fraud_AK).sum(1).tolist() for each in (labels, whole)
    )
    episode_A = [n for n, (_, query) in enumerate(served(ROWS, SPLIT.train)) for _ in query]
    # An episode that begins on an earlier day is shown what was drawn for that day.
    begins = {n: days_of(query[:1])[0] for n, (_, query) in enumerate(served(ROWS, SPLIT.train))}
    by_day = defaultdict[tuple[int, int], list[tuple[int, int]]](list)
    for episode, shown, most in zip(episode_A, shown_A, most_A, strict=True):
        by_day[begins[episode]].append((shown, most))
    for seen in by_day.values():
        assert any(all(shown == min(size, most) for shown, most in seen) for size in SUPPORT_SIZES)
    assert max(len(seen) for seen in by_day.values()) > 2


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(ROWS, sampled(ROWS, SPLIT.train, 10_000, seed=0))


def test_columns_are_in_units_of_the_populations_spread(population: Population) -> None:
    column_AE = population.encode(ROWS.features_NF[SPLIT.train])
    quantities = column_AE[:, :4]
    np.testing.assert_allclose(quantities.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(quantities.std(0), 1, atol=0.05)
    np.testing.assert_array_equal(population.own_O, [0, 1, 2])
    np.testing.assert_array_equal(population.is_own_E, [True] * 3 + [False] + [True] * 3)
    extreme = population.encode(np.float32([[1e9, -1e9, 0, 1, 0, 7]]))
    np.testing.assert_array_equal(extreme[0, :2], [CLIP, -CLIP])


def test_another_code_is_as_far_as_a_spread(population: Population) -> None:
    first, other, unknown = population.encode(np.float32([[0, 0, 0, k, 0, k] for k in (1, 2, 77)]))
    assert np.square(first - other).sum() == pytest.approx(1)
    assert np.square(first - unknown).sum() == pytest.approx(0.5)


def test_distances_are_mean_squares_to_each_labelled_row() -> None:
    rng = np.random.default_rng(0)
    labels = Labels.of(ROWS, QUERIES, 5)
    column_PE = rng.normal(size=(len(labels.row_P), 3)).astype(np.float32)
    square_AK = distances(column_PE, labels)
    a, k = len(QUERIES) - 1, 4
    gap_E = column_PE[labels.scored_A[a]] - column_PE[labels.at_AK[a, k]]
    assert square_AK.shape == (len(QUERIES), 5)
    assert square_AK[a, k] == pytest.approx(np.square(gap_E).mean())


def test_a_summary_has_ages_likeness_distances_and_surprise(population: Population) -> None:
    none = summary(population, ROWS, Labels.of(ROWS, QUERIES, 0))
    # Four columns of likeness for the code, and four for the identity.
    _, _, nearest_A4, z_AO = np.split(none, [19, 27, 31], axis=1)
    assert z_AO.shape[1] == len(population.own_O)
    assert np.isnan(nearest_A4).all()
    assert np.isfinite(z_AO).all()
    labels = Labels.of(ROWS, QUERIES, SUPPORT_LIMIT)
    some = summary(population, ROWS, labels)
    np.testing.assert_array_equal(some[:, :19], ages(ROWS, labels))
    np.testing.assert_array_equal(some[:, 19:27], likeness(ROWS, labels))
    for first, label_AK in ((27, labels.legitimate_AK), (28, labels.fraud_AK)):
        np.testing.assert_array_equal(np.isnan(some[:, first]), ~label_AK.any(1))


def test_ages_and_counts_are_of_the_labels_of_each_class() -> None:
    labels = Labels.of(ROWS, QUERIES, SUPPORT_LIMIT)
    found = ages(ROWS, labels)
    assert found.shape == (len(QUERIES), 19)
    for a in range(0, len(QUERIES), 41):
        hours: dict[bool, list[float]] = {}
        for is_fraud, label_AK in ((False, labels.legitimate_AK), (True, labels.fraud_AK)):
            rows = labels.row_P[labels.at_AK[a, label_AK[a]]]
            age_us = ROWS.time_us_N[QUERIES[a]] - ROWS.time_us_N[rows]
            hours[is_fraud] = (age_us / HOUR_US).tolist()
        expected: list[float] = []
        newest = []
        for of_class in (hours[False], hours[True]):
            youngest = min(of_class, default=math.inf)
            newest.append(math.log1p(youngest) if of_class else math.nan)
            expected += [bool(of_class), newest[-1], 1 / (1 + youngest)]
            for half_life in (1, 24, 24 * 7, 24 * 30, math.inf):
                expected.append(math.log1p(sum(0.5 ** (hour / half_life) for hour in of_class)))
        legitimate, frauds = len(hours[False]), len(hours[True])
        expected += [
            newest[1] - newest[0],
            (frauds + 0.3) / (frauds + legitimate + 1),
            math.log((frauds + 0.5) / (legitimate + 0.5)),
        ]
        np.testing.assert_allclose(found[a], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["code", "identity"])
def test_likeness_counts_labels_with_the_same_code(kind: str) -> None:
    """An account's rows on days 0 to 9, of codes 7, 8 and none, labelled a day later."""
    code_N = [7, 8, 7, 0, 7, 8, 0, 0, 7, 8]
    rows = Rows(
        ("own", kind),  # type: ignore[arg-type]
        np.arange(10),
        np.float32([[0, code] for code in code_N]),
        np.zeros(10, np.int64),
        np.arange(10) * DAY_US,
        np.array([1, 0, 0, 1, 1, 1, 0, 1, 0, 0], np.int8),
        (np.arange(10) + 1) * DAY_US,
    )
    found = likeness(rows, Labels.of(rows, np.array([7, 8, 9]), SUPPORT_LIMIT))
    assert found.shape == (3, 4)
    # A missing code is like nothing, not even like another that is missing.
    assert found[0].tolist() == [0, 0, 0, 0]
    # Of code 7 rows 0 and 4 are frauds and row 2 is not; of code 8 row 5 and row 1.
    week = 0.5 ** (np.arange(10) / 7)
    np.testing.assert_allclose(found[1], [week[8] + week[4], 2, week[6], 1], rtol=1e-6)
    np.testing.assert_allclose(found[2], [week[4], 1, week[8], 1], rtol=1e-6)


def test_identities_are_compared_and_not_ordered() -> None:
    """Neither the columns that distances are of nor the features of trees have them."""
    without = replace(ROWS, kinds=ROWS.kinds[:-1], features_NF=ROWS.features_NF[:, :-1])
    train = sampled(ROWS, SPLIT.train, 10_000, seed=0)
    np.testing.assert_array_equal(
        Population(ROWS, train).encode(ROWS.features_NF[:50]),
        Population(without, train).encode(without.features_NF[:50]),
    )
    for trees in (boosting.XGBoost(), boosting.LightGBM()):
        np.testing.assert_array_equal(
            trees.inputs(ROWS, QUERIES, SUPPORT_LIMIT), without.features_NF[QUERIES]
        )


def few_frauds(most: int) -> Rows:
    """What was known, with so many of the held-out frauds alone."""
    held = SPLIT.held_out[TRAINING.is_fraud_N[SPLIT.held_out] == 1]
    is_fraud_N = TRAINING.is_fraud_N.copy()
    is_fraud_N[held[most:]] = 0
    return replace(TRAINING, is_fraud_N=is_fraud_N)


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        ("xgboost", "eta"),
        ("xgboost_support", "eta"),
        ("lightgbm", "learning_rate"),
        ("lightgbm_support", "learning_rate"),
    ],
)
def test_few_held_out_frauds_do_not_say_when_trees_stop(
    name: str, rate: str, learner: Learner
) -> None:
    (rival,) = rivals([name])
    rival.fit(few_frauds(3), SPLIT, learner, 0)
    setting, _ = rival.chosen
    assert setting["trees"] == round(boosting.STEADY_LEARNING / setting[rate]) == 60
    assert fit(name, learner).chosen.setting["trees"] <= boosting.TREES_AT_MOST


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_trees_that_stop_at_once_are_doubted(
    name: str, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit(name, learner).chosen.doubts == ()
    monkeypatch.setattr(boosting, "TREES_AT_MOST", 1)
    assert fit(name, learner).chosen.doubts[0] == "it stopped after 1 tree"


def test_scores_that_find_no_held_out_fraud_are_doubted() -> None:
    sample = sampled(TRAINING, SPLIT.held_out, 10_000, seed=0)
    score_A = sample.is_fraud_A + np.linspace(0, 0.1, len(sample.rows))
    assert doubts(sample, score_A) == ()
    nothing = "it finds no held-out fraud at 1 % false positives"
    assert doubts(sample, np.zeros(len(score_A))) == (
        "it gives every held-out transaction the same score",
        nothing,
    )
    assert doubts(sample, -score_A) == (
        "it ranks the held-out frauds no better than chance",
        nothing,
    )
    few_A = sample.is_fraud_A & (np.cumsum(sample.is_fraud_A) < LEAST_FRAUDS)
    assert doubts(sample._replace(is_fraud_A=few_A), -score_A) == ()
    honest = sample._replace(is_fraud_A=np.zeros(len(score_A), bool))
    assert doubts(honest, score_A) == ()


def test_a_rule_of_recency_is_one_weight_times_a_decay(
    fitted: dict[str, Rival], learner: Learner
) -> None:
    rule = fitted["recency_rule"]
    weight = rule.chosen.setting["recency of frauds"]
    assert weight > 0
    base_A = base_log_odds(learner, ROWS, QUERIES)
    newest = [
        min((ROWS.time_us_N[row] - ROWS.time_us_N[s]) / DAY_US for s in frauds)
        if len(frauds := support[ROWS.is_fraud_N[support] == 1])
        else math.inf
        for support, query in served(ROWS, QUERIES)
        for row in query
    ]
    expected = base_A + weight * np.exp(-np.array(newest) / 7)
    np.testing.assert_allclose(rule.scores(ROWS, QUERIES), expected, atol=1e-6)


def test_a_rules_weights_are_those_of_logistic_regression_with_an_offset() -> None:
    """Where no weight is held back, the slope of the loss is 0 in every column."""
    rng = np.random.default_rng(0)
    column_AJ, base_A = rng.normal(size=(4000, 2)), rng.normal(-2, 1, 4000)
    is_fraud_A = rng.random(4000) < 1 / (1 + np.exp(-base_A - column_AJ @ [1.5, -0.5]))
    inputs = rules.Beside(base_A, column_AJ)
    sample = Sample(np.arange(4000), is_fraud_A, np.ones(4000))
    np.testing.assert_allclose(rules.fitted(inputs, sample, 0.0), [0, 1.5, -0.5], atol=0.15)
    held_back = rules.fitted(inputs, sample, 1e6)
    np.testing.assert_allclose(held_back[1:], 0, atol=0.01)
    # A base that is wrong about the rate of fraud alone changes no weight.
    wrong = rules.fitted(rules.Beside(base_A + 3, column_AJ), sample, 0.0)
    np.testing.assert_allclose(wrong, [-3, 1.5, -0.5], atol=0.15)


def test_medians_and_deviations_are_of_the_labels_alone() -> None:
    own_AKO = np.float32([[[1], [9], [2], [6], [100]], [[5], [7], [9], [0], [0]], [[1]] * 5])
    is_label_AK = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0] * 5], bool)
    median_AO, spread_AO = median_and_spread(own_AKO, is_label_AK)
    np.testing.assert_allclose(median_AO[:, 0], [4, 7, 0])
    np.testing.assert_allclose(spread_AO[:, 0], DEVIATIONS * np.array([2.5, 2, 0]))

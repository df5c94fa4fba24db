"""An episode shows what production shows: what was labelled and known by then, and no more."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.learner.adaptation import SUPPORT_LIMIT, select_support
from app.learner.differentiable.network import Network
from app.learner.transaction import DAY_US, HOUR_US
from app.training.dataset import NEVER_US, UNLABELLED
from app.training.episodes import (
    FRAUD_EPISODES,
    LONGEST_RUN,
    QUERY_LIMIT,
    SUPPORT_SIZES,
    Batch,
    Episode,
    Rows,
    Starts,
    collate,
    served,
)
from app.training.run import Source

one_row = st.tuples(
    st.integers(0, 3),  # account
    st.integers(0, 24 * 6),  # hour
    st.sampled_from([1, 0, UNLABELLED]),
    st.integers(0, 24 * 5),  # hours until the label is known
)


def rows_from(table: list[tuple[int, int, int, int]]) -> Rows:
    account_N, hour_N, label_N, delay_N = np.array(table, np.int64).T
    order_N = np.lexsort((hour_N, account_N))
    known_N = np.where(label_N == UNLABELLED, NEVER_US, (hour_N + delay_N) * HOUR_US)
    return Rows(
        ("own",),
        order_N,
        np.arange(len(table), dtype=np.float32)[:, None],
        account_N[order_N],
        hour_N[order_N] * HOUR_US,
        label_N[order_N].astype(np.int8),
        known_N[order_N],
    )


some_rows = st.lists(one_row, min_size=1, max_size=60).map(rows_from)


def known_before(rows: Rows, first_query: int) -> list[int]:
    """The definition: the account's labels known by the query, of what came strictly before."""
    now_us = rows.time_us_N[first_query]
    return [
        n
        for n in reversed(range(len(rows.account_N)))
        if rows.account_N[n] == rows.account_N[first_query]
        and rows.is_fraud_N[n] != UNLABELLED
        and rows.time_us_N[n] < now_us
        and rows.known_at_us_N[n] <= now_us
    ]


@given(some_rows, st.integers(0, 1000), st.sampled_from(SUPPORT_SIZES))
def test_a_support_is_what_was_known_strictly_before(rows: Rows, at: int, limit: int) -> None:
    first_query = at % len(rows.account_N)
    labelled = np.array(known_before(rows, first_query), np.int64)
    expected = labelled[select_support(rows.is_fraud_N[labelled] == 1, limit)]
    support = rows.support_of(first_query, limit)
    np.testing.assert_array_equal(support, expected)
    assert len(support) <= limit
    assert (np.diff(rows.time_us_N[support]) <= 0).all()


def test_a_late_label_is_not_seen_before_it_is_known() -> None:
    hours = [(0, 0, 1, 48), (0, 10, 0, 1), (0, 20, 0, 1), (0, 47, 0, 1), (0, 48, 0, 1)]
    rows = rows_from(hours)
    assert rows.support_of(3, SUPPORT_LIMIT).tolist() == [2, 1]
    assert rows.support_of(4, SUPPORT_LIMIT).tolist() == [3, 2, 1, 0]


def test_rows_of_one_instant_are_no_support_of_each_other() -> None:
    rows = rows_from([(0, 5, 1, 0), (0, 5, 0, 0), (0, 6, 0, 0)])
    assert rows.support_of(1, SUPPORT_LIMIT).tolist() == []
    assert rows.support_of(2, SUPPORT_LIMIT).tolist() == [1, 0]


@given(some_rows, st.integers(0, 24 * 11))
def test_what_is_known_by_a_moment_are_the_labels_known_by_then(rows: Rows, hour: int) -> None:
    labelled = rows.known_by(hour * HOUR_US)
    early_N = rows.known_at_us_N <= hour * HOUR_US
    np.testing.assert_array_equal(labelled.is_fraud_N[early_N], rows.is_fraud_N[early_N])
    assert (labelled.is_fraud_N[~early_N] == UNLABELLED).all()


@given(some_rows, st.integers(0, 2**32), st.sampled_from([0, 3, SUPPORT_LIMIT]))
def test_served_episodes_cover_each_chosen_row_once_and_in_order(
    rows: Rows, seed: int, limit: int
) -> None:
    scored = np.flatnonzero(np.random.default_rng(seed).random(len(rows.account_N)) < 0.6)
    episodes = list(served(rows, scored, limit))
    covered = [row for episode in episodes for row in episode.query]
    assert covered == scored.tolist()
    for support, query in episodes:
        assert len(set(rows.account_N[[*support, *query]])) == 1
        # Not as of the episode's first row: every row sees what is known at its own moment.
        for row in query:
            labelled = np.array(known_before(rows, row), np.int64)
            expected = labelled[select_support(rows.is_fraud_N[labelled] == 1, limit)]
            np.testing.assert_array_equal(support, expected)
    for episode, following in pairwise(episodes):
        last, first = episode.query[-1], following.query[0]
        if rows.account_N[last] == rows.account_N[first]:
            assert known_before(rows, last) != known_before(rows, first)


def test_a_label_is_used_from_the_row_after_it_is_known_on_the_same_day() -> None:
    rows = rows_from([(0, 1, 1, 2), (0, 2, 0, 0), (0, 3, 0, 1), (0, 4, 0, 9), (0, 5, 0, 9)])
    episodes = [(e.support.tolist(), e.query.tolist()) for e in served(rows, np.arange(5))]
    assert episodes == [([], [0, 1]), ([1, 0], [2]), ([2, 1, 0], [3, 4])]


def test_a_long_run_is_served_in_pieces() -> None:
    rows = rows_from([(n % 2, n // 2, UNLABELLED, 0) for n in range(4 * LONGEST_RUN + 6)])
    lengths = [len(query) for _, query in served(rows, np.arange(len(rows.account_N)))]
    assert lengths == 2 * [LONGEST_RUN, LONGEST_RUN, 3]


def test_no_support_has_more_labels_than_the_service_learns_from() -> None:
    rows = rows_from([(0, 1, 1, 0)])
    with pytest.raises(ValueError, match="at most 32 labels"):
        rows.support_of(0, SUPPORT_LIMIT + 1)


def of_one_account(size: int, frauds: float) -> Rows:
    """Rows an hour apart, nearly all labelled, known hours or weeks later."""
    rng = np.random.default_rng(0)
    label_N = rng.choice([1, 0, UNLABELLED], size, p=[frauds, 0.9 - frauds, 0.1])
    delay_N = rng.choice([0, 3, 24 * 14], size) + rng.integers(0, 200, size)
    return rows_from([(5, n, label, delay_N[n]) for n, label in enumerate(label_N.tolist())])


@pytest.mark.parametrize("limit", [0, 1, 5, SUPPORT_LIMIT])
@pytest.mark.parametrize("frauds", [0.0, 0.3, 0.9])
def test_the_support_of_an_account_with_many_labels_is_found_exactly(
    limit: int, frauds: float
) -> None:
    rows = of_one_account(900, frauds)
    for row in range(0, 900, 7):
        labelled = np.array(known_before(rows, row), np.int64)
        expected = labelled[select_support(rows.is_fraud_N[labelled] == 1, limit)]
        np.testing.assert_array_equal(rows.support_of(row, limit), expected)


def test_rows_with_other_labels_have_other_supports() -> None:
    rows = rows_from([(0, 1, 1, 0), (0, 2, 1, 0), (0, 3, 1, 0)])
    assert rows.support_of(2, SUPPORT_LIMIT).tolist() == [1, 0]
    hidden = replace(rows, is_fraud_N=np.array([1, UNLABELLED, 1], np.int8))
    assert hidden.support_of(2, SUPPORT_LIMIT).tolist() == [0]
    assert rows.known_by(HOUR_US).support_of(2, SUPPORT_LIMIT).tolist() == [0]


def test_the_work_of_a_support_does_not_grow_with_the_accounts_past(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted in the labels that are looked at: times depend on the machine."""
    rows, looked_at = of_one_account(20_000, frauds=0.3), list[int]()

    def counted(is_fraud_K: NDArray[np.bool_], limit: int) -> NDArray[np.intp]:
        looked_at.append(len(is_fraud_K))
        return select_support(is_fraud_K, limit)

    monkeypatch.setattr("app.training.known.select_support", counted)
    for row in range(19_800, 20_000):
        rows.support_of(row, SUPPORT_LIMIT)
    assert len(looked_at) == 200
    assert max(looked_at) < 4 * SUPPORT_LIMIT


@pytest.fixture(scope="module")
def numbered(rows: Rows) -> Rows:
    """The simulated rows, each of which says in its first feature which it is."""
    features_NF = rows.features_NF.copy()
    features_NF[:, 0] = np.arange(len(features_NF))
    return Rows(
        rows.kinds,
        rows.position_N,
        features_NF,
        rows.account_N,
        rows.time_us_N,
        rows.is_fraud_N,
        rows.known_at_us_N,
    )


def supports_of(batch: Batch) -> list[list[int]]:
    """The numbers of the rows that each query row of numbered rows sees, in their order."""
    number_AK = batch.features_PF[batch.support_AK, 0].long()
    is_label_AK = batch.legitimate_AK + batch.fraud_AK > 0
    return [
        number_K[is_label_K].tolist()
        for number_K, is_label_K in zip(number_AK, is_label_AK, strict=True)
    ]


def queries_of(batch: Batch) -> NDArray[np.int64]:
    """The numbers of the query rows of numbered rows: [A]."""
    query_A: NDArray[np.int64] = batch.features_PF[batch.query_A, 0].long().numpy()
    return query_A


def newest_known(rows: Rows, row: int, limit: int) -> list[int]:
    """The definition of a support: what the row's account knew, as the service chooses of it."""
    labelled = np.array(known_before(rows, row), np.int64)
    chosen: list[int] = labelled[select_support(rows.is_fraud_N[labelled] == 1, limit)].tolist()
    return chosen


def episodes_of(query_A: NDArray[np.int64], rows: Rows, end_us: int) -> list[list[int]]:
    """Query rows in the order of a batch, apart where an episode must end.

    It ends with QUERY_LIMIT rows, with its account, or before the first row that is too late.
    """
    episodes: list[list[int]] = []
    for row in query_A.tolist():
        if episodes and not ends_at(episodes[-1], rows, end_us):
            episodes[-1].append(row)
        else:
            episodes.append([row])
    return episodes


def ends_at(query: list[int], rows: Rows, end_us: int) -> bool:
    following = query[-1] + 1
    return (
        len(query) == QUERY_LIMIT
        or following == len(rows.account_N)
        or bool(rows.account_N[following] != rows.account_N[query[-1]])
        or bool(rows.time_us_N[following] >= end_us)
    )


def test_sampled_episodes_keep_accounts_times_and_labels_apart(numbered: Rows) -> None:
    end_us = int(np.quantile(numbered.time_us_N, 0.9))
    starts = np.flatnonzero((numbered.is_fraud_N != UNLABELLED) & (numbered.time_us_N < end_us))
    drawn = Starts(numbered, starts, end_us)
    rng = np.random.default_rng(0)
    longest = 0
    for _ in range(20):
        batch = drawn.draw(32, rng)
        query_A = queries_of(batch)
        assert len(batch) == len(query_A)
        episodes = episodes_of(query_A, numbered, end_us)
        assert len(episodes) == 32
        for query in episodes:
            assert np.isin(query[0], starts)
            assert query == list(range(query[0], query[0] + len(query)))
            assert len(set(numbered.account_N[query])) == 1
            longest = max(longest, len(query))
        assert (numbered.time_us_N[query_A] < end_us).all()
        np.testing.assert_array_equal(
            batch.day_P[batch.query_A].numpy(), numbered.time_us_N[query_A] / DAY_US
        )
        label_A = numbered.is_fraud_N[query_A]
        np.testing.assert_array_equal(batch.is_fraud_A.numpy() == 1, label_A == 1)
        np.testing.assert_array_equal(batch.weight_A.numpy() > 0, label_A != UNLABELLED)
    assert longest == QUERY_LIMIT


@pytest.mark.parametrize("limit", [0, 1, 5, SUPPORT_LIMIT])
def test_each_query_row_sees_the_newest_labels_known_at_its_own_moment(
    numbered: Rows, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("app.training.episodes.SUPPORT_SIZES", (limit,))
    end_us = int(numbered.time_us_N.max()) + 1
    starts = np.flatnonzero(numbered.is_fraud_N != UNLABELLED)
    drawn, rng = Starts(numbered, starts, end_us), np.random.default_rng(0)
    changes = 0
    for _ in range(8):
        batch = drawn.draw(32, rng)
        query_A, supports = queries_of(batch), supports_of(batch)
        for row, support in zip(query_A.tolist(), supports, strict=True):
            assert support == newest_known(numbered, row, limit)
            assert (numbered.known_at_us_N[support] <= numbered.time_us_N[row]).all()
            assert (numbered.time_us_N[support] < numbered.time_us_N[row]).all()
            assert (np.diff(numbered.time_us_N[support]) <= 0).all()
            assert len(support) <= limit
        for label_AK, label in ((batch.legitimate_AK, 0), (batch.fraud_AK, 1)):
            number_AK = batch.features_PF[batch.support_AK, 0].long().numpy()
            seen = number_AK[label_AK.numpy() == 1]
            assert (numbered.is_fraud_N[seen] == label).all()
        neighbours = zip(pairwise(query_A.tolist()), pairwise(supports), strict=True)
        changes += sum(
            later == row + 1
            and numbered.account_N[later] == numbered.account_N[row]
            and before != after
            for (row, later), (before, after) in neighbours
        )
    # Else a batch that shows all of an episode what its first row sees would pass.
    assert changes > 100 or limit == 0


def test_few_labels_many_and_none_at_all_are_all_trained_on(numbered: Rows) -> None:
    end_us = int(numbered.time_us_N.max()) + 1
    starts = np.flatnonzero(numbered.is_fraud_N != UNLABELLED)
    drawn, rng = Starts(numbered, starts, end_us), np.random.default_rng(0)
    sizes = {len(support) for _ in range(20) for support in supports_of(drawn.draw(32, rng))}
    assert {0, 1, 3, SUPPORT_LIMIT} <= sizes


def test_a_later_query_row_of_an_episode_sees_the_labels_that_came_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Known after 3, 5, 1 and 0 hours: two rows see nothing, the third what came meanwhile."""
    rows = rows_from([(0, 1, 1, 3), (0, 2, 0, 5), (0, 4, 0, 1), (0, 7, 1, 0), (0, 8, 0, 0)])
    monkeypatch.setattr("app.training.episodes.SUPPORT_SIZES", (SUPPORT_LIMIT,))
    drawn = Starts(rows, np.array([0]), 10 * HOUR_US)
    batch = drawn.draw(1, np.random.default_rng(0))
    assert queries_of(batch).tolist() == [0, 1, 2, 3, 4]
    assert supports_of(batch) == [[], [], [0], [2, 1, 0], [3, 2, 1, 0]]
    assert batch.fraud_AK.sum(1).tolist() == [0, 0, 1, 1, 2]
    assert batch.legitimate_AK.sum(1).tolist() == [0, 0, 0, 2, 2]
    monkeypatch.setattr("app.training.episodes.SUPPORT_SIZES", (1,))
    batch = drawn.draw(1, np.random.default_rng(0))
    assert [len(support) for support in supports_of(batch)] == [0, 0, 1, 1, 1]


def test_labels_of_an_instant_or_the_query_rows_own_are_not_seen() -> None:
    """All known at once: a row sees neither itself nor those of its moment."""
    rows = rows_from([(0, 5, 1, 0), (0, 5, 0, 0), (0, 6, 0, 0), (1, 6, 1, 0)])
    batch = Starts(rows, np.array([0, 3]), 10 * HOUR_US).draw(64, np.random.default_rng(0))
    assert batch.legitimate_AK.sum() > 0
    for row, support in zip(queries_of(batch), supports_of(batch), strict=True):
        assert set(support) <= ({0, 1} if row == 2 else set())


def test_what_is_drawn_weighs_as_much_as_episodes_at_the_natural_rate_would(rows: Rows) -> None:
    end_us = int(rows.time_us_N.max()) + 1
    first = np.flatnonzero(rows.is_fraud_N != UNLABELLED)
    drawn, rng = Starts(rows, first, end_us), np.random.default_rng(1)
    batches = [drawn.draw(64, rng) for _ in range(100)]

    def queries(start: int) -> NDArray[np.int8]:
        following = slice(start, start + QUERY_LIMIT)
        label_Q = rows.is_fraud_N[following]
        return label_Q[rows.account_N[following] == rows.account_N[start]]

    natural = [queries(start) for start in first]
    for label in (0, 1):
        expected = np.mean([(label_Q == label).sum() for label_Q in natural])
        found = np.mean([float((b.weight_A * (b.is_fraud_A == label)).sum()) / 64 for b in batches])
        assert found == pytest.approx(expected, rel=0.1)


def test_episodes_with_a_fraud_are_drawn_more_often_and_weigh_as_much_less(
    numbered: Rows,
) -> None:
    end_us = int(numbered.time_us_N.max()) + 1
    starts = np.flatnonzero(numbered.is_fraud_N != UNLABELLED)
    drawn, rng = Starts(numbered, starts, end_us), np.random.default_rng(2)
    with_fraud = 0
    natural = np.mean(
        [
            (numbered.is_fraud_N[query] == 1).any()
            for query in (episode_from(start, numbered, end_us) for start in starts)
        ]
    )
    # An episode is drawn 1 - share times as often as by chance, with a fraud share / rate as well.
    plainly = 1 / (1 - FRAUD_EPISODES)
    rarely = 1 / (1 - FRAUD_EPISODES + FRAUD_EPISODES / natural)
    for _ in range(10):
        batch = drawn.draw(64, rng)
        weight_A, is_fraud_A = batch.weight_A.numpy(), batch.is_fraud_A.numpy() == 1
        at = 0
        for query in episodes_of(queries_of(batch), numbered, end_us):
            own = slice(at, at := at + len(query))
            labelled_Q = numbered.is_fraud_N[query] != UNLABELLED
            weight = rarely if is_fraud_A[own].any() else plainly
            np.testing.assert_allclose(weight_A[own], weight * labelled_Q, rtol=1e-5)
            with_fraud += bool(is_fraud_A[own].any())
    assert with_fraud >= FRAUD_EPISODES * 640


def episode_from(start: int, rows: Rows, end_us: int) -> list[int]:
    query = [start]
    while not ends_at(query, rows, end_us):
        query.append(query[-1] + 1)
    return query


def test_where_nothing_is_fraud_episodes_are_drawn_evenly() -> None:
    rows = rows_from([(0, hour, 0, 0) for hour in range(8)])
    batch = Starts(rows, np.arange(8), 10 * HOUR_US).draw(16, np.random.default_rng(0))
    assert set(batch.weight_A.tolist()) == {1.0}
    starts = [query[0] for query in episodes_of(queries_of(batch), rows, 10 * HOUR_US)]
    assert len(starts) == 16
    assert len(set(starts)) > 4


def test_episodes_of_other_lengths_are_padded_and_each_row_is_there_once(numbered: Rows) -> None:
    first = np.flatnonzero(numbered.account_N == numbered.account_N[0])
    episodes = [Episode(first[:0], first[:3]), Episode(first[1::-1], first[2:4])]
    batch = collate(numbered, episodes)
    assert queries_of(batch).tolist() == [0, 1, 2, 2, 3]
    assert supports_of(batch) == [[], [], [], [1, 0], [1, 0]]
    assert batch.features_PF[:, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(batch.day_P, numbered.time_us_N[first[:4]] / DAY_US)
    # A place left over has no label.
    labelled_AK = batch.legitimate_AK + batch.fraud_AK
    assert labelled_AK.tolist() == [[0, 0]] * 3 + [[1, 1]] * 2
    alone = collate(numbered, episodes[:1])
    assert alone.support_AK.shape == (3, 0)


def test_what_a_batch_encodes_is_what_each_row_is_encoded_to(numbered: Rows) -> None:
    first = np.flatnonzero(numbered.account_N == numbered.account_N[0])
    batch = collate(numbered, [Episode(first[1::-1], first[2:5]), Episode(first[:0], first[5:6])])
    network = Network(numbered.kinds)
    rows = batch.encoded(network)
    day_N = torch.from_numpy(numbered.time_us_N / DAY_US)
    features_NF = torch.from_numpy(numbered.features_NF)
    for encoded, chosen in (
        (batch.queries(rows), first[2:6, None]),
        (batch.labelled(rows), np.stack([first[1::-1]] * 3 + [first[[5, 5]]])),
    ):
        expected = network.encode(features_NF[chosen], day_N[chosen])
        for part, whole in zip(encoded, expected, strict=True):
            torch.testing.assert_close(part, whole)


def test_rows_are_those_of_the_file_sorted_by_account_and_time(source: Source, rows: Rows) -> None:
    columns = source.dataset.columns
    np.testing.assert_array_equal(rows.account_N, columns.account_N[rows.position_N])
    np.testing.assert_array_equal(rows.time_us_N, columns.time_us_N[rows.position_N])
    np.testing.assert_array_equal(rows.is_fraud_N, source.dataset.is_fraud_N[rows.position_N])
    keys = np.stack([rows.account_N, rows.time_us_N], axis=1).tolist()
    assert keys == sorted(keys)
    amounts_N = rows.features_NF[:, 0]
    np.testing.assert_allclose(amounts_N, np.log1p(columns.amount_N[rows.position_N]), rtol=1e-6)

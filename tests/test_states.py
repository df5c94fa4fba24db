"""Decayed sums: the fast scan and the stored states against the definition, written out."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.states import NEVER_US, Floats, Ints, States, sums_before
from app.times import FIRST_US, LAST_US
from app.transactions import DAY_US, HOUR_US

GROUPS = 3
HALF_LIFE_US_D = np.array([1.0, 7.0, 7.0, 30.0]) * DAY_US
YEARS_20_US = 20 * 365 * DAY_US


class Events(NamedTuple):
    group_N: Ints
    time_us_N: Ints
    values_ND: Floats

    def take(self, rows: object) -> "Events":
        return Events(*(column[rows] for column in self))


def events_of(rows: list[tuple[int, int, float]]) -> Events:
    group_N, hour_N, value_N = (np.array(column) for column in zip(*rows, strict=True))
    values_ND = value_N[:, None] * np.array([1.0, 1.0, -2.0, 0.5])
    return Events(group_N.astype(np.int64), hour_N.astype(np.int64) * HOUR_US, values_ND)


# Few groups and coarse times, so that ties are common.
one_event = st.tuples(
    st.integers(0, GROUPS - 1), st.integers(-50, 4000), st.floats(-1e6, 1e6, allow_subnormal=False)
)
some_events = st.lists(one_event, min_size=1, max_size=40).map(events_of)


def random_events(size: int = 400, seed: int = 0, span_hours: int = 2000) -> Events:
    rng = np.random.default_rng(seed)
    hours = np.sort(rng.integers(0, span_hours, size))
    return events_of(
        list(zip(rng.integers(0, GROUPS, size), hours, rng.normal(0, 5, size), strict=True))
    )


def written_out(asked: Events, past: Events) -> tuple[Floats, Ints]:
    """The definition: every earlier event of the group, each at its own age."""
    sums_ND = np.zeros_like(asked.values_ND)
    last_N = np.full(len(asked.group_N), NEVER_US)
    for n, (group, time_us) in enumerate(zip(asked.group_N, asked.time_us_N, strict=True)):
        for other, then_us, values_D in zip(*past, strict=True):
            if other == group and then_us < time_us:
                sums_ND[n] += values_D * 2.0 ** (-(time_us - then_us) / HALF_LIFE_US_D)
                last_N[n] = max(last_N[n], then_us)
    return sums_ND, last_N


def remembered(states: States, asked: Events) -> Floats:
    return states.value_at(asked.group_N, asked.time_us_N, HALF_LIFE_US_D)


def added(states: States, events: Events) -> States:
    return states.add(*events, HALF_LIFE_US_D)


def assert_close(actual_ND: Floats, expected_ND: Floats, scale_ND: Floats) -> None:
    """Equal up to rounding, relative to the terms that were summed."""
    np.testing.assert_allclose(
        actual_ND, expected_ND, rtol=1e-9, atol=1e-9 * np.abs(scale_ND).max()
    )


def assert_same_states(one: States, other: States, scale_ND: Floats) -> None:
    np.testing.assert_array_equal(one.time_us_G, other.time_us_G)
    np.testing.assert_array_equal(one.previous_us_G, other.previous_us_G)
    assert_close(one.before_GD, other.before_GD, scale_ND)
    assert_close(one.at_GD, other.at_GD, scale_ND)


@given(some_events)
@example(events_of([(0, 0, 1.0)]))
@example(events_of([(0, 5, 1.0), (0, 5, 2.0), (1, 5, 4.0), (0, 6, 8.0)]))
def test_sums_are_those_of_the_definition(events: Events) -> None:
    sums_ND, last_N = sums_before(*events, HALF_LIFE_US_D)
    expected_ND, expected_last_N = written_out(events, events)
    assert_close(sums_ND, expected_ND, events.values_ND)
    np.testing.assert_array_equal(last_N, expected_last_N)


def test_sums_of_long_histories_are_those_of_the_definition() -> None:
    events = random_events()
    sums_ND, last_N = sums_before(*events, HALF_LIFE_US_D)
    expected_ND, expected_last_N = written_out(events, events)
    assert_close(sums_ND, expected_ND, events.values_ND)
    np.testing.assert_array_equal(last_N, expected_last_N)


@given(some_events, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_no_sum(events: Events, random) -> None:
    order_N = np.array(random.sample(range(len(events.group_N)), len(events.group_N)))
    sums_ND, last_N = sums_before(*events, HALF_LIFE_US_D)
    shuffled_ND, shuffled_last_N = sums_before(*events.take(order_N), HALF_LIFE_US_D)
    assert_close(shuffled_ND, sums_ND[order_N], events.values_ND)
    np.testing.assert_array_equal(shuffled_last_N, last_N[order_N])


@given(some_events, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_arrival_changes_no_state(events: Events, random, size: int) -> None:
    order = random.sample(range(len(events.group_N)), len(events.group_N))
    at_once = added(States.empty(GROUPS, len(HALF_LIFE_US_D)), events)
    arriving = States.empty(GROUPS, len(HALF_LIFE_US_D))
    for first in range(0, len(order), size):
        arriving = added(arriving, events.take(np.array(order[first : first + size])))
    assert_same_states(arriving, at_once, events.values_ND)


# Whatever is accepted: any instant of 130 years, many of them the first or the last.
any_instant = st.sampled_from([FIRST_US, LAST_US - 1]) | st.integers(FIRST_US, LAST_US - 1)
any_value = st.sampled_from([0.0, 5e-324, 1e15, -1e15]) | st.floats(-1e15, 1e15)


@given(
    st.lists(st.tuples(st.integers(0, GROUPS - 1), any_instant, any_value), min_size=1),
    st.randoms(use_true_random=False),
)
def test_states_of_any_times_and_values_are_finite_and_the_same_in_any_order(
    rows: list[tuple[int, int, float]], random
) -> None:
    events = events_of(rows)._replace(time_us_N=np.array([row[1] for row in rows]))
    order = np.array(random.sample(range(len(rows)), len(rows)))
    empty = States.empty(GROUPS, len(HALF_LIFE_US_D))
    one_by_one = empty
    for row in order:
        # A late one is asked about too: nothing may overflow on the way back in time.
        assert np.isfinite(remembered(one_by_one, events)).all()
        one_by_one = added(one_by_one, events.take([row]))
    assert np.isfinite(one_by_one.before_GD).all()
    assert np.isfinite(one_by_one.at_GD).all()
    assert_same_states(one_by_one, added(empty, events), events.values_ND)


@given(some_events, st.lists(one_event, min_size=1, max_size=10).map(events_of))
def test_a_state_answers_later_questions_as_the_definition_does(
    events: Events, asked: Events
) -> None:
    states = added(States.empty(GROUPS, len(HALF_LIFE_US_D)), events)
    # Up to the newest event a state knows all; what is older it no longer tells apart.
    newest_N = states.time_us_G[asked.group_N]
    asked = asked._replace(time_us_N=np.maximum(asked.time_us_N, newest_N))
    expected_ND, expected_last_N = written_out(asked, events)
    assert_close(remembered(states, asked), expected_ND, events.values_ND)
    last_N = states.newest_before(asked.group_N, asked.time_us_N)
    np.testing.assert_array_equal(last_N, expected_last_N)
    for column, half_life_us in enumerate(HALF_LIFE_US_D):
        column_NC = np.full((len(asked.group_N), 2), column)
        told_NC = states.columns_at(column_NC, asked.group_N, asked.time_us_N, float(half_life_us))
        for told_N in told_NC.T:
            assert_close(told_N, expected_ND[:, column], events.values_ND)


def test_a_question_older_than_the_newest_event_does_not_see_it() -> None:
    states = added(States.empty(1, 4), events_of([(0, 0, 1.0), (0, 48, 1000.0)]))
    late = events_of([(0, 47, 0.0)])
    assert (np.abs(remembered(states, late)) <= 2.0).all()
    assert states.newest_before(late.group_N, late.time_us_N) == [0]


@settings(max_examples=50)
@given(st.integers(0, 1000), st.integers(1, 60))
def test_batches_on_stored_states_see_what_one_scan_sees(seed: int, size: int) -> None:
    # Rounding to days puts many ties across the borders of the batches.
    events = random_events(120, seed, span_hours=200)
    events = events._replace(time_us_N=events.time_us_N // DAY_US * DAY_US)
    expected_ND, expected_last_N = sums_before(*events, HALF_LIFE_US_D)
    states = States.empty(GROUPS, len(HALF_LIFE_US_D))
    for first in range(0, 120, size):
        rows = slice(first, first + size)
        batch = events.take(rows)
        within_ND, last_N = sums_before(*batch, HALF_LIFE_US_D)
        assert_close(within_ND + remembered(states, batch), expected_ND[rows], events.values_ND)
        last_N = np.maximum(last_N, states.newest_before(batch.group_N, batch.time_us_N))
        np.testing.assert_array_equal(last_N, expected_last_N[rows])
        states = added(states, batch)


def test_rows_of_one_instant_do_not_see_each_other() -> None:
    events = events_of([(0, 1, 5.0), (0, 1, 7.0), (0, 1, 9.0)])
    sums_ND, last_N = sums_before(*events, HALF_LIFE_US_D)
    assert not sums_ND.any()
    assert (last_N == NEVER_US).all()
    states = added(States.empty(1, 4), events.take([0]))
    assert not remembered(states, events.take([1, 2])).any()
    # Neither do they once an earlier event has arrived late.
    states = added(states, events_of([(0, 0, 1.0)]))
    assert (np.abs(remembered(states, events.take([1]))) <= 2.0).all()


def test_groups_do_not_see_each_other() -> None:
    events = events_of([(0, 0, 1.0), (1, 1, 2.0), (2, 2, 3.0)])
    assert not sums_before(*events, HALF_LIFE_US_D)[0].any()


def test_no_rows_have_no_sums() -> None:
    nothing = Events(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)))
    sums_ND, last_N = sums_before(*nothing, HALF_LIFE_US_D)
    assert sums_ND.shape == (0, 4)
    assert last_N.shape == (0,)
    states = added(States.empty(2, 4), nothing)
    assert (states.time_us_G == NEVER_US).all()


@given(some_events)
def test_states_come_back_from_their_bytes_bit_for_bit(events: Events) -> None:
    states = added(States.empty(GROUPS, len(HALF_LIFE_US_D)), events)
    again = States.from_bytes(list(states.to_bytes()), len(HALF_LIFE_US_D))
    for name in States.__slots__:
        np.testing.assert_array_equal(getattr(again, name), getattr(states, name))
    # They are copies: they can be added to.
    assert added(again, events).to_bytes()[0] == added(states, events).to_bytes()[0]


def test_an_absent_row_is_a_group_without_events() -> None:
    states = States.from_bytes([None, *States.empty(1, 4).to_bytes()], 4)
    assert states.to_bytes()[0] == states.to_bytes()[1]
    assert (states.time_us_G == NEVER_US).all()
    assert States.from_bytes([], 4).before_GD.shape == (0, 4)


def test_one_sum_is_stored_like_several() -> None:
    states = States.from_bytes([None, None], 1).add(
        np.array([1]), np.array([5]), np.array([[2.5]]), np.array([1.0])
    )
    assert States.from_bytes([states.to_bytes()[1]], 1).at_GD.tolist() == [[2.5]]


@pytest.mark.parametrize("length", [0, 16, 16 + 8 * 7, 16 + 8 * 8 + 1, 16 + 8 * 10])
def test_a_row_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="another definition of the features"):
        States.from_bytes([None, b"\0" * length], 4)


def test_nothing_overflows_over_20_years() -> None:
    hours = np.linspace(0, YEARS_20_US // HOUR_US, 3000).astype(int)
    events = events_of([(0, int(hour), 1e12) for hour in hours])
    # A second group begins where the first has ended, and twenty years earlier.
    other = events_of([(1, 0, 1e12), (1, 1, 1e12)])
    both = Events(*(np.concatenate(pair) for pair in zip(events, other, strict=True)))
    sums_ND, _ = sums_before(*both, HALF_LIFE_US_D)
    asked = both.take([2999, 3000, 3001])
    expected_ND, _ = written_out(asked, both)
    assert np.isfinite(sums_ND).all()
    assert_close(sums_ND[[2999, 3000, 3001]], expected_ND, expected_ND)
    states = States.empty(1, 4)
    for first in range(0, 3000, 500):
        states = added(states, events.take(slice(first, first + 500)))
    asked = events.take([-1])._replace(time_us_N=events.time_us_N[-1:] + 2 * YEARS_20_US)
    assert np.isfinite(remembered(states, asked)).all()
    assert np.isfinite(remembered(states, events.take([0]))).all()

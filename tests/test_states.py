"""States as the walk leaves them, against the definition of decayed sums, written out.

Their events are labels of entities, whose states are made like those of accounts.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.learner.columns import columns_of
from app.learner.features import EntityLabels, FeatureSet
from app.learner.kernels.features import LABEL_HALF_LIVES
from app.learner.spec import DatasetSpec
from app.learner.states import NEVER_US, Floats, Ints, States
from app.learner.transaction import DAY_US, HOUR_US
from app.times import FIRST_US, LAST_US

FEATURES = FeatureSet(DatasetSpec.load("handbook"))
NO_PAYMENTS, _ = columns_of(FEATURES.spec, [])
GROUPS, SUMS = 3, FEATURES.confirmed_sums
HALF_LIFE_US_D = np.repeat(list(LABEL_HALF_LIVES.values()), 2) * DAY_US
YEARS_20_US = 20 * 365 * DAY_US


class Events(NamedTuple):
    group_N: Ints
    time_us_N: Ints
    value_N: Floats

    def take(self, rows: object) -> "Events":
        return Events(*(column[rows] for column in self))

    @property
    def values_ND(self) -> Floats:
        """What they add: one, and their value, at each half-life."""
        return np.stack([np.ones_like(self.value_N), self.value_N] * (SUMS // 2), 1)


def events_of(rows: list[tuple[int, int, float]]) -> Events:
    group_N, hour_N, value_N = (np.array(column) for column in zip(*rows, strict=True))
    return Events(group_N, hour_N.astype(np.int64) * HOUR_US, value_N.astype(np.float64))


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


class Written(NamedTuple):
    """The states as they are defined."""

    time_us_G: Ints
    previous_us_G: Ints
    before_GD: Floats
    at_GD: Floats


def written_out(events: Events) -> Written:
    """Every event of a group, at its own age at the newest one's time."""
    never_G, zero_GD = np.full(GROUPS, NEVER_US), np.zeros((GROUPS, SUMS))
    found = Written(never_G, never_G.copy(), zero_GD, zero_GD.copy())
    for group in set(events.group_N.tolist()):
        own = events.take(events.group_N == group)
        found.time_us_G[group] = newest_us = own.time_us_N.max()
        for then_us, values_D in zip(own.time_us_N, own.values_ND, strict=True):
            if then_us == newest_us:
                found.at_GD[group] += values_D
            else:
                age_D = (newest_us - then_us) / HALF_LIFE_US_D
                found.before_GD[group] += values_D * 2.0**-age_D
                found.previous_us_G[group] = max(found.previous_us_G[group], then_us)
    return found


def empty(groups: int = GROUPS) -> States:
    return States.empty(groups, SUMS)


def added(states: States, events: Events) -> States:
    memory = replace(FEATURES.empty(0, len(states.to_bytes()), 0), confirmed=states)
    return FEATURES.remember(NO_PAYMENTS, memory, EntityLabels(*events)).confirmed


def assert_close(actual_GD: Floats, expected_GD: Floats, events: Events) -> None:
    """Equal up to rounding, relative to the terms that were summed."""
    scale = np.abs(events.values_ND).max()
    np.testing.assert_allclose(actual_GD, expected_GD, rtol=1e-9, atol=1e-9 * scale)


def assert_same_states(states: States, other: States | Written, events: Events) -> None:
    np.testing.assert_array_equal(states.time_us_G, other.time_us_G)
    np.testing.assert_array_equal(states.previous_us_G, other.previous_us_G)
    assert_close(states.before_GD, other.before_GD, events)
    assert_close(states.at_GD, other.at_GD, events)


@given(some_events)
@example(events_of([(0, 0, 1.0)]))
@example(events_of([(0, 5, 1.0), (0, 5, 2.0), (1, 5, 4.0), (0, 6, 8.0)]))
def test_states_are_those_of_the_definition(events: Events) -> None:
    assert_same_states(added(empty(), events), written_out(events), events)


def test_states_of_long_histories_are_those_of_the_definition() -> None:
    events = random_events()
    assert_same_states(added(empty(), events), written_out(events), events)


@given(some_events, st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_order_of_arrival_changes_no_state(events: Events, random, size: int) -> None:
    order = random.sample(range(len(events.group_N)), len(events.group_N))
    arriving = empty()
    for first in range(0, len(order), size):
        arriving = added(arriving, events.take(np.array(order[first : first + size])))
    assert_same_states(arriving, added(empty(), events), events)


@pytest.mark.parametrize("size", [1, 7, 60])
def test_events_in_the_order_of_time_have_the_same_states_to_the_bit(size: int) -> None:
    # Rounding to days puts many ties across the borders of the batches.
    events = random_events(120, span_hours=200)
    events = events._replace(time_us_N=events.time_us_N // DAY_US * DAY_US)
    states = empty()
    for first in range(0, 120, size):
        states = added(states, events.take(slice(first, first + size)))
    assert states.to_bytes() == added(empty(), events).to_bytes()


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
    one_by_one = empty()
    for row in random.sample(range(len(rows)), len(rows)):
        one_by_one = added(one_by_one, events.take([row]))
    assert np.isfinite(one_by_one.before_GD).all()
    assert np.isfinite(one_by_one.at_GD).all()
    assert_same_states(one_by_one, added(empty(), events), events)


def test_nothing_overflows_over_20_years() -> None:
    hours = np.linspace(0, YEARS_20_US // HOUR_US, 3000).astype(int)
    events = events_of([(0, int(hour), 1e12) for hour in hours])
    assert_same_states(added(empty(), events), written_out(events), events)
    late = events_of([(0, -2 * YEARS_20_US // HOUR_US, 1e12)])
    soon = events_of([(0, 3 * YEARS_20_US // HOUR_US, 1e12)])
    states = added(added(added(empty(), events), late), soon)
    assert np.isfinite(states.before_GD).all()


def test_no_events_leave_a_state_as_it_is() -> None:
    nothing = Events(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    states = added(empty(2), nothing)
    assert (states.time_us_G == NEVER_US).all()
    assert states.to_bytes() == empty(2).to_bytes()


@given(some_events)
def test_states_come_back_from_their_bytes_bit_for_bit(events: Events) -> None:
    states = added(empty(), events)
    again = States.from_bytes(states.to_bytes(), SUMS)
    assert again == states
    assert added(again, events).to_bytes() == added(states, events).to_bytes()


def test_states_share_nothing_with_the_bytes_they_came_from() -> None:
    events = events_of([(0, 0, 1.0)])
    stored = added(empty(1), events).to_bytes()
    before = bytes(bytearray(stored[0]))
    states = States.from_bytes(stored, SUMS)
    kept = states.copy()
    FEATURES.serve(
        NO_PAYMENTS,
        replace(FEATURES.empty(0, 1, 0), confirmed=states),
        EntityLabels(*events_of([(0, 1, 1.0)])),
    )
    assert stored == [before] == kept.to_bytes()
    assert states.to_bytes() != stored


# A mark, and how many sums there are; the time of the newest event and of the one before.
MARK, TIMES = b"\1\2\0\0\0", np.array([7, 5], "<i8").tobytes()


def test_a_state_is_stored_as_it_always_was() -> None:
    """Golden: what databases hold must be read for ever."""
    whole = TIMES + np.array([1.5, 0.0, 2.5, -0.0], "<f8").tobytes()
    bits = (0b1101).to_bytes(8, "little")
    packed = MARK + TIMES + bits + np.array([1.5, 2.5, -0.0], "<f8").tobytes()
    for stored in (whole, packed):
        states = States.from_bytes([stored], 2)
        assert (states.time_us_G, states.previous_us_G) == ([7], [5])
        assert (states.before_GD.tolist(), states.at_GD.tolist()) == ([[1.5, 0.0]], [[2.5, -0.0]])
        assert np.signbit(states.at_GD[0, 1])
        assert states.to_bytes() == [packed]


@pytest.mark.parametrize("sums", range(1, 80))
def test_no_packed_state_is_as_long_as_a_whole_one(sums: int) -> None:
    states = States(bytearray(TIMES + np.arange(1.0, 2 * sums + 1).tobytes()), sums)
    for zeros in range(2 * sums):
        states.packed[16 + 8 * zeros : 24 + 8 * zeros] = bytes(8)
        assert len(states.to_bytes()[0]) != len(states.packed)


@pytest.mark.parametrize(
    "stored",
    [
        MARK + TIMES + bytes(8) + bytes(8),
        MARK + TIMES + b"\1" + bytes(7),
        MARK + TIMES + b"\x10" + bytes(7) + bytes(8),
        b"\2" + MARK[1:] + TIMES + bytes(8),
        b"\1\3\0\0\0" + TIMES + bytes(8),
        MARK + TIMES,
    ],
    ids=[
        "a sum too many",
        "one too few",
        "one beyond the last",
        "another mark",
        "other sums",
        "no bits",
    ],
)
def test_a_packed_row_of_another_definition_is_refused(stored: bytes) -> None:
    with pytest.raises(ValueError, match="another definition of the features"):
        States.from_bytes([stored], 2)


def test_an_absent_row_is_a_group_without_events() -> None:
    states = States.from_bytes([None, *empty(1).to_bytes()], SUMS)
    assert states.to_bytes()[0] == states.to_bytes()[1]
    assert (states.time_us_G == NEVER_US).all()
    assert States.from_bytes([], 4).before_GD.shape == (0, 4)


@pytest.mark.parametrize("length", [0, 16, 16 + 8 * 7, 16 + 8 * 8 + 1, 16 + 8 * 10])
def test_a_row_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="another definition of the features"):
        States.from_bytes([None, b"\0" * length], 4)


def test_rows_of_wrong_lengths_are_refused_even_if_they_add_up() -> None:
    with pytest.raises(ValueError, match="another definition of the features"):
        States.from_bytes([b"\0" * (16 + 8 * 8 - 1), b"\0" * (16 + 8 * 8 + 1)], 4)


@pytest.mark.parametrize("group", [-1, 1])
def test_events_of_groups_that_are_not_there_are_refused(group: int) -> None:
    with pytest.raises(ValueError, match=f"no state at position {group}"):
        added(empty(1), events_of([(group, 0, 1.0)]))


@pytest.mark.parametrize("part", ["accounts", "entities", "confirmed"])
def test_states_of_another_definition_are_refused(part: str) -> None:
    memory = FEATURES.empty(1, 1, 1)
    wider = States.empty(1, getattr(memory, part).sums + 1)
    with pytest.raises(ValueError, match="another definition of the features"):
        FEATURES.serve(NO_PAYMENTS, replace(memory, **{part: wider}), EntityLabels.none())

"""Decayed sums over what happened strictly before: the memory of an account or a merchant.

Forward decay (Cormode, Shkapenyuk, Srivastava, Xu: "Forward Decay", ICDE 2009): with half-life h
the sum of values x_i at times t_i is worth S(t) = sum of x_i * 2**(-(t - t_i) / h) at time t.
Such sums are additive, so the order of arrival does not matter and a whole file is a
segmented scan. Training (`sums_before` over a file) and serving (`sums_before` over a batch, on
top of `States.before`) share these functions; that is what makes their features equal.

Axes: N rows (events), G groups (accounts or merchants), D decayed sums.
Times are int64 microseconds, half-lives float64 microseconds.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Long before any time, yet far enough from the int64 limit to be subtracted from one.
NEVER_US = -(2**61)


@dataclass(frozen=True, slots=True)
class States:
    """The sums of G groups, each valued at the time of its newest event.

    Events at exactly the newest time are kept apart in `at_GD`, because an event of the same
    instant must not see them: features look strictly before.
    """

    time_us_G: Ints
    previous_us_G: Ints
    before_GD: Floats
    at_GD: Floats

    @classmethod
    def empty(cls, groups: int, sums: int) -> Self:
        never_G = np.full(groups, NEVER_US, np.int64)
        zero_GD = np.zeros((groups, sums))
        return cls(never_G, never_G.copy(), zero_GD, zero_GD.copy())

    @classmethod
    def from_bytes(cls, rows: list[bytes | None], sums: int) -> Self:
        """States from what `to_bytes` gave; None is a group without events.

        Raises ValueError where a row has another length than `sums` asks for.
        """
        layout, blank = _layout(sums)
        rows_G = [blank if row is None else row for row in rows]
        if any(len(row) != len(blank) for row in rows_G):
            raise ValueError("a stored state belongs to another definition of the features")
        packed_G = np.frombuffer(b"".join(rows_G), layout)
        return cls(*(packed_G[name].copy() for name in packed_G.dtype.names or ()))

    def to_bytes(self) -> list[bytes]:
        """Each group's state, as it is stored."""
        layout, _ = _layout(self.before_GD.shape[1])
        packed_G = np.empty(len(self.time_us_G), layout)
        for name, part in zip(layout.names or (), self._parts(), strict=True):
            packed_G[name] = part
        packed, size = packed_G.tobytes(), layout.itemsize
        return [packed[first : first + size] for first in range(0, len(packed), size)]

    def _parts(self) -> tuple[Ints, Ints, Floats, Floats]:
        return self.time_us_G, self.previous_us_G, self.before_GD, self.at_GD

    def take(self, groups: NDArray[Any]) -> Self:
        return type(self)(*(part[groups] for part in self._parts()))

    def first(self, sums: int) -> Self:
        """The same groups with only their first `sums` columns."""
        return type(self)(
            self.time_us_G, self.previous_us_G, self.before_GD[:, :sums], self.at_GD[:, :sums]
        )

    def value_at(self, group_N: Ints, time_us_N: Ints, half_life_us_D: Floats) -> Floats:
        """What each row's group remembers strictly before the row's time: [N, D].

        A row older than its group's newest event is answered with the sums as they stood
        before that event: a late arrival cannot be shown a past that is no longer kept.
        """
        age_N = time_us_N - self.time_us_G[group_N]
        known_ND = self.before_GD[group_N] + self.at_GD[group_N] * (age_N > 0)[:, None]
        value_ND: Floats = known_ND * decay(np.maximum(age_N, 0), half_life_us_D)
        return value_ND

    def columns_at(
        self, column_NC: Ints, group_N: Ints, time_us_N: Ints, half_life_us: float
    ) -> Floats:
        """`value_at` of some columns of each row, all of one half-life: [N, C]."""
        age_N1 = (time_us_N - self.time_us_G[group_N])[:, None]
        group_N1 = group_N[:, None]
        known_NC = self.before_GD[group_N1, column_NC] + self.at_GD[group_N1, column_NC] * (
            age_N1 > 0
        )
        value_NC: Floats = known_NC * np.exp2(-np.maximum(age_N1, 0) / half_life_us)
        return value_NC

    def newest_before(self, group_N: Ints, time_us_N: Ints) -> Ints:
        """The time of each row's last event strictly before it, or NEVER_US: [N]."""
        newest_N = self.time_us_G[group_N]
        return np.where(newest_N < time_us_N, newest_N, self.previous_us_G[group_N])

    def add(
        self, group_N: Ints, time_us_N: Ints, values_ND: Floats, half_life_us_D: Floats
    ) -> Self:
        """The states after N more events, which may come in any order and late."""
        newest_G = self.time_us_G.copy()
        np.maximum.at(newest_G, group_N, time_us_N)
        moved_G = newest_G > self.time_us_G
        age_G = np.where(moved_G, newest_G - self.time_us_G, 0)
        before_GD = (self.before_GD + self.at_GD * moved_G[:, None]) * decay(age_G, half_life_us_D)
        at_GD = np.where(moved_G[:, None], 0.0, self.at_GD)
        age_N = newest_G[group_N] - time_us_N
        earlier_N = age_N > 0
        aged_ND = values_ND * decay(age_N, half_life_us_D)
        np.add.at(before_GD, group_N[earlier_N], aged_ND[earlier_N])
        np.add.at(at_GD, group_N[~earlier_N], values_ND[~earlier_N])
        previous_G = np.where(moved_G, self.time_us_G, self.previous_us_G)
        np.maximum.at(previous_G, group_N[earlier_N], time_us_N[earlier_N])
        return type(self)(newest_G, previous_G, before_GD, at_GD)


def decay(age_us_N: Ints, half_life_us_D: Floats) -> Floats:
    """2 ** (-age / half-life): [N, D], computed once for each distinct half-life."""
    distinct_H, column_D = _distinct(half_life_us_D.tobytes())
    factors_NH: Floats = np.exp2(-age_us_N[:, None] / distinct_H)
    return factors_NH[:, column_D]


@cache
def _distinct(half_lives: bytes) -> tuple[Floats, NDArray[np.intp]]:
    return np.unique(np.frombuffer(half_lives), return_inverse=True)


@cache
def _layout(sums: int) -> tuple[np.dtype[Any], bytes]:
    """How a state of so many sums is stored, and the one of a group without events."""
    layout = np.dtype(
        [("time", "<i8"), ("previous", "<i8"), ("before", "<f8", sums), ("at", "<f8", sums)]
    )
    blank = np.zeros(1, layout)
    blank["time"] = blank["previous"] = NEVER_US
    return layout, blank.tobytes()


def sums_before(
    group_N: Ints, time_us_N: Ints, values_ND: Floats, half_life_us_D: Floats
) -> tuple[Floats, Ints]:
    """Decayed sums over the given rows alone, strictly before each of them.

    Returns ([N, D], [N]): the sums, valued at the row's own time, and the time of the last
    earlier row of its group (NEVER_US where there is none). Rows of the same group and time
    do not see each other. A query without an event is a row of zeros.
    """
    if not len(group_N):
        return np.zeros_like(values_ND), np.zeros(0, np.int64)
    order_N = np.lexsort((time_us_N, group_N))
    group_S, time_S = group_N[order_N], time_us_N[order_N]
    if not (group_S[1:] == group_S[:-1]).any():
        # In a batch of the service every row is mostly the only one of its group.
        return np.zeros_like(values_ND), np.full(len(group_N), NEVER_US)
    starts_S = np.ones(len(order_N), bool)
    starts_S[1:] = (group_S[1:] != group_S[:-1]) | (time_S[1:] != time_S[:-1])
    instant_of_S = np.cumsum(starts_S) - 1
    first_I = np.flatnonzero(starts_S)
    group_I, time_I = group_S[first_I], time_S[first_I]
    sums_ID = np.add.reduceat(values_ND[order_N], first_I, axis=0)
    _scan(group_I, time_I, sums_ID, half_life_us_D)

    continues_I = np.zeros(len(group_I), bool)
    continues_I[1:] = group_I[1:] == group_I[:-1]
    age_I = np.where(continues_I, np.diff(time_I, prepend=time_I[:1]), 0)
    before_ID = np.zeros_like(sums_ID)
    before_ID[1:] = sums_ID[:-1] * decay(age_I[1:], half_life_us_D)
    before_ID[~continues_I] = 0.0
    last_I = np.where(continues_I, np.roll(time_I, 1), NEVER_US)

    before_ND = np.empty_like(before_ID, shape=values_ND.shape)
    before_ND[order_N] = before_ID[instant_of_S]
    last_N = np.empty_like(time_us_N)
    last_N[order_N] = last_I[instant_of_S]
    return before_ND, last_N


def _scan(group_I: Ints, time_I: Ints, sums_ID: Floats, half_life_us_D: Floats) -> None:
    """Turn each instant's own sums into its group's running sums, in place.

    A doubling scan (Hillis and Steele, 1986): after the pass of width w every row holds the
    decayed sum of its last 2w instants, so log2 of the longest group is the number of passes.
    Weights come from the times themselves, so nothing overflows however long the file is.
    """
    longest = int(np.unique(group_I, return_counts=True)[1].max())
    width = 1
    while width < longest:
        to = np.flatnonzero(group_I[width:] == group_I[:-width]) + width
        gain_TD = sums_ID[to - width] * decay(time_I[to] - time_I[to - width], half_life_us_D)
        sums_ID[to] += gain_TD
        width *= 2

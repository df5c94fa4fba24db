"""Decayed sums over what happened strictly before: the memory of an account or a merchant.

A state has the sums of everything strictly before its newest event, valued at that event's time;
the sums of what happened at exactly that instant, which rows of the same instant must not see;
and the times of its newest event and of the last one before. `kernels/states.pxd` reads such
sums and adds to them, in place, for training and for serving alike.

Axes: G groups (accounts or merchants), D decayed sums. Times are int64 microseconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from app.learner.kernels.features import pack, unpack

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Long before any time, yet far enough from the int64 limit to be subtracted from one.
NEVER_US = -(2**61)


@dataclass(frozen=True, slots=True)
class States:
    """The states of G groups with so many sums each, one after another, zeros and all."""

    packed: bytearray
    sums: int

    @classmethod
    def empty(cls, groups: int, sums: int) -> Self:
        return cls(unpack([None] * groups, sums), sums)

    @classmethod
    def from_bytes(cls, rows: Iterable[bytes | None], sums: int) -> Self:
        """Copies of what `to_bytes` gave; None is a group without events.

        Raises ValueError where a row has another number of sums than `sums`.
        """
        return cls(unpack(list(rows), sums), sums)

    def to_bytes(self) -> list[bytes]:
        """Each group's state, as it is stored: without its zeros."""
        return pack(self.packed, self.sums)

    def copy(self) -> Self:
        return type(self)(self.packed.copy(), self.sums)

    @property
    def time_us_G(self) -> Ints:
        """When the newest event of each group was, or NEVER_US."""
        return self._part("time")

    @property
    def previous_us_G(self) -> Ints:
        """When the last one before that instant was, or NEVER_US."""
        return self._part("previous")

    @property
    def before_GD(self) -> Floats:
        """The sums over what was strictly before the newest event, valued at its time."""
        return self._part("before")

    @property
    def at_GD(self) -> Floats:
        """The sums over that very instant."""
        return self._part("at")

    def _part(self, name: str) -> NDArray[Any]:
        part: NDArray[Any] = np.frombuffer(self.packed, _layout(self.sums))[name]
        return part


@cache
def _layout(sums: int) -> np.dtype[Any]:
    """Where the parts of a state of so many sums are."""
    return np.dtype(
        [("time", "<i8"), ("previous", "<i8"), ("before", "<f8", (sums,)), ("at", "<f8", (sums,))]
    )

"""What each key and each tenant may have: requests a second, and fair shares of what is bounded."""

import math
import time
from collections import defaultdict
from collections.abc import Callable

from app.http.problems import RateLimited

# How much of what is still free each owner may hold, in multiples.
EAGERNESS = 2


class Shares:
    """A bounded amount, of which each owner may hold `EAGERNESS` times what is still free.

    An owner alone may hold `most`, and what its last request takes beyond that. More owners have
    equal and smaller shares: whoever holds much is refused first, and nobody has to give anything
    back. Each may hold `least` in any case.
    These are the dynamic thresholds of Choudhury and Hahne, "Dynamic Queue Length Thresholds for
    Shared-Memory Packet Switches" (IEEE/ACM Transactions on Networking, 1998).
    """

    def __init__(self, most: int, least: int = 0) -> None:
        self._most, self._least = most, least
        self._held: defaultdict[str, int] = defaultdict(int)
        self.total = 0

    def has_room(self, owner: str) -> bool:
        """Whether an owner may take more."""
        # Of a capacity of one and a half times `most`, twice what is free: whole numbers.
        free = (EAGERNESS + 1) * self._most - EAGERNESS * self.total
        return self._held.get(owner, 0) < max(free, self._least)

    def take(self, owner: str, amount: int) -> None:
        """Count more as held; `has_room` says whether the owner may."""
        self._held[owner] += amount
        self.total += amount

    def give_back(self, owner: str, amount: int) -> None:
        """Count less as held."""
        self._held[owner] -= amount
        self.total -= amount
        # Owners come and go.
        if not self._held[owner]:
            del self._held[owner]


class Rates:
    """Lets each key spend `per_second`, and save up a second's worth; None is without a limit.

    A request is let in while anything is left, and what it turns out to hold is owed: nobody need
    know beforehand how many transactions are in a body, and a large one is paid off afterwards.
    """

    def __init__(
        self, per_second: float | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._clock = clock
        # By key: what is left, and as of when. Only keys that exist come here.
        self._left: dict[str, tuple[float, float]] = {}

    def spend(self, key_id: str) -> None:
        """One request; raises RateLimited, with when to try again, where nothing is left."""
        if self._per_second is None:
            return
        left = self._left_of(key_id, self._per_second)
        if left <= 0:
            wait = math.ceil((1 - left) / self._per_second)
            raise RateLimited(
                f"Each worker takes {self._per_second:g} transactions, labels and other requests "
                "a second from one key.",
                headers={"Retry-After": str(wait)},
            )
        self._left[key_id] = left - 1, self._clock()

    def owe(self, key_id: str, more: int) -> None:
        """What a request that was let in holds beyond one transaction or label."""
        if self._per_second is not None and more > 0:
            self._left[key_id] = self._left_of(key_id, self._per_second) - more, self._clock()

    def _left_of(self, key_id: str, per_second: float) -> float:
        most = max(per_second, 1.0)
        now = self._clock()
        left, at = self._left.get(key_id, (most, now))
        return min(most, left + (now - at) * per_second)

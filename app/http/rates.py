"""How much each API key may ask for: a bucket of tokens a key, in memory."""

import math
import time
from collections.abc import Callable

from app.http.problems import RateLimited


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
                f"A worker of this server takes {self._per_second:g} transactions, labels and "
                "other requests a second from a key.",
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

"""Fair shares of what is bounded, such as the places of a queue, among those who want it."""

from collections import defaultdict

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

"""Shares are fair: who has little is let in, however much others want; the whole is bounded.

A key may ask for a second's worth at once, then as fast as it comes back.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.problems import RateLimited
from app.http.quotas import Rates, Shares

MOST, LEAST = 96, 1


def filled(shares: Shares, owners: list[str], amount: int = 1) -> None:
    """Each owner in turn takes as much as it may."""
    hungry = list(owners)
    while hungry:
        hungry = [owner for owner in hungry if shares.has_room(owner)]
        for owner in hungry:
            if shares.has_room(owner):
                shares.take(owner, amount)


def test_an_owner_alone_may_have_all() -> None:
    shares = Shares(MOST)
    filled(shares, ["a"])
    assert shares.total == MOST
    assert not shares.has_room("a")


@given(st.integers(1, 200))
def test_whoever_holds_nothing_is_let_in_and_the_whole_is_bounded(owners: int) -> None:
    shares = Shares(MOST, LEAST)
    filled(shares, [f"o-{n}" for n in range(owners)])
    assert shares.has_room("newcomer")
    assert shares.total <= 3 * MOST // 2 + owners * LEAST


def test_an_owner_who_had_all_comes_to_hold_as_much_as_the_others() -> None:
    shares = Shares(MOST)
    filled(shares, ["a"])
    of_a, of_b = MOST, 0
    # What is given back goes to whoever may have it, the greedy one first.
    for _ in range(1000):
        owner = "a" if of_a >= of_b else "b"
        shares.give_back(owner, 1)
        of_a, of_b = of_a - (owner == "a"), of_b - (owner == "b")
        for name in ("a", "b"):
            while shares.has_room(name):
                shares.take(name, 1)
                of_a, of_b = of_a + (name == "a"), of_b + (name == "b")
    assert abs(of_a - of_b) <= 1
    assert shares.total == of_a + of_b <= 3 * MOST // 2


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_all_shares_returned_leave_nothing(taken: list[tuple[str, int]]) -> None:
    shares = Shares(MOST)
    for owner, amount in taken:
        shares.take(owner, amount)
    assert shares.total == sum(amount for _, amount in taken)
    for owner, amount in taken:
        shares.give_back(owner, amount)
    assert shares.total == 0
    filled(shares, ["a"])
    assert shares.total == MOST


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def let_in(rates: Rates, key: str, tries: int) -> int:
    """How many of so many requests are let in."""
    count = 0
    for _ in range(tries):
        try:
            rates.spend(key)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_key_may_spend_a_seconds_worth_and_then_what_comes_back() -> None:
    clock = Clock()
    rates = Rates(10.0, clock)
    assert let_in(rates, "one", 30) == 10
    clock.now = 0.5
    assert let_in(rates, "one", 30) == 5
    clock.now = 1000.0
    assert let_in(rates, "one", 30) == 10


def test_one_keys_haste_is_nothing_to_another() -> None:
    rates = Rates(3.0, Clock())
    assert let_in(rates, "one", 10) == 3
    assert let_in(rates, "other", 10) == 3


def test_a_large_request_is_let_in_and_paid_off_afterwards() -> None:
    clock = Clock()
    rates = Rates(10.0, clock)
    rates.spend("one")
    rates.owe("one", 99)
    with pytest.raises(RateLimited) as refused:
        rates.spend("one")
    assert refused.value.headers == {"Retry-After": "10"}
    clock.now = 8.9
    assert let_in(rates, "one", 5) == 0
    clock.now = 9.2
    assert let_in(rates, "one", 5) == 2


def test_a_key_may_send_less_than_one_a_second() -> None:
    clock = Clock()
    rates = Rates(0.1, clock)
    assert let_in(rates, "one", 5) == 1
    clock.now = 10.0
    assert let_in(rates, "one", 5) == 1


def test_without_a_limit_nothing_is_counted() -> None:
    rates = Rates(None, Clock())
    rates.owe("one", 10**9)
    assert let_in(rates, "one", 1000) == 1000

"""Shares are fair: who has little is let in, however much others want; the whole is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from app.http.shares import Shares

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

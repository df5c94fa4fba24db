"""What a key may ask for: a second's worth at once, then as fast as it comes back."""

import pytest

from app.http.problems import RateLimited
from app.http.rates import Rates


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

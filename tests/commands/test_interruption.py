"""Ctrl-C as a wish: heard once, and never twice."""

import signal
from collections.abc import Iterator

import pytest

from app.cli.interruption import Interruption


@pytest.fixture(autouse=True)
def at_a_terminal() -> Iterator[None]:
    """What is started in the background ignores Ctrl-C, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def test_before_there_is_anything_to_keep_ctrl_c_ends_the_command() -> None:
    with Interruption(), pytest.raises(KeyboardInterrupt):
        press_ctrl_c()


def test_the_first_ctrl_c_is_a_wish_and_the_second_ends_the_command() -> None:
    with Interruption() as interruption:
        interruption.listen()
        assert not interruption.is_requested
        press_ctrl_c()
        assert interruption.is_requested
        interruption.listen()
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()


def test_afterwards_ctrl_c_is_what_it_was() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        interruption.listen()
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before

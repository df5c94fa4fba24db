"""Ctrl-C as a wish that a command can follow when it has come to a good place."""

import signal
from types import FrameType
from typing import Any, Self


class Interruption:
    """Hears the first Ctrl-C from `listen` on; a second one ends the command at once.

    Before `listen` there is nothing to keep, and Ctrl-C does what it always does.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self._before: Any = None

    def __enter__(self) -> Self:
        return self

    def listen(self) -> None:
        if self._before is None:
            self._before = signal.signal(signal.SIGINT, self._request)

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _request(self, _: int, __: FrameType | None) -> None:
        self.is_requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

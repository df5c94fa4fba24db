"""Requests that are refused because of overload: counted, and logged once a second."""

import logging
import time

from app.ops.metrics import refused_requests

logger = logging.getLogger("quickstudy")

LOGGED_EVERY_SECONDS = 1.0


class Refusals:
    """Counts them; at ten times the load a line for each would be most of the work."""

    def __init__(self) -> None:
        self._refused, self._logged_at = 0, 0.0

    def count(self) -> None:
        """A request was refused."""
        refused_requests.inc()
        self._refused += 1
        if time.monotonic() - self._logged_at > LOGGED_EVERY_SECONDS:
            logger.warning("overloaded: refused %d requests", self._refused)
            self._refused, self._logged_at = 0, time.monotonic()

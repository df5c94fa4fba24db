"""Requests for scores that came whole: from their headers and body to the bytes of the answer.

What ASGI, its middlewares and the router do for a request takes longer than the network does
(docs/decisions/0028-past-asgi.md). `app.protocol` hands over here what is plain; all else goes
their way, and both end in the same `ScoringRoute`.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from app.api.lean import ScoringRoute, caller_of
from app.api.observation import REQUEST_ID, SECURITY_HEADERS, id_of, note
from app.errors import InternalError, Problem, render
from app.logs import request_id
from app.service import Service

logger = logging.getLogger("quickstudy")

# Its name in the state of the server.
DESK = "desk"

LENGTH = b"content-length"
# Headers of requests that end elsewhere, want another answer, or are to be refused for them.
UNUSUAL = frozenset(
    (b"transfer-encoding", b"content-encoding", b"connection", b"expect", b"upgrade")
)


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go over the wire."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


SECURITY_LINES = lines_of(SECURITY_HEADERS)
HEAD = b"content-length: %d\r\ncontent-type: application/json\r\n%b: %b\r\n%b\r\n%b"


class Answer(NamedTuple):
    """What goes over the wire behind the status line and the server's own headers."""

    status: int
    rest: bytes


class Desk:
    """Answers for the lean routes of a service; bodies of at most `most_bytes`."""

    def __init__(
        self, service: Service, routes: Mapping[tuple[str, str], ScoringRoute], most_bytes: int
    ) -> None:
        self._service = service
        self._routes = {(verb.encode(), path.encode()): one for (verb, path), one in routes.items()}
        self._most_bytes = most_bytes

    def route_of(
        self, method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> ScoringRoute | None:
        """The route that answers such a request, where nothing about it is unusual."""
        route = self._routes.get((method, url))
        if route is None:
            return None
        length = b""
        for name, value in headers:
            if name in UNUSUAL:
                return None
            if name == LENGTH:
                length = value
        return route if length.isdigit() and int(length) <= self._most_bytes else None

    async def answer(
        self, route: ScoringRoute, pairs: Iterable[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        """The answer to a request, which is timed and logged as every other one."""
        begun = time.perf_counter()
        headers = dict(pairs)
        mine = id_of(headers.get(REQUEST_ID, b""))
        name = mine.decode()
        request_id.set(name)
        try:
            tenant = await caller_of(self._service, headers)
            said = await route.said(self._service, tenant, headers, body)
            answer = Answer(200, HEAD % (len(said), REQUEST_ID, mine, SECURITY_LINES, said))
        except Problem as problem:
            answer = _refused(problem, mine)
        except Exception:
            logger.exception("a request for scores failed")
            answer = _refused(InternalError(), mine)
        note(name, "POST", route.path, answer.status, time.perf_counter() - begun)
        return answer


def _refused(problem: Problem, mine: bytes) -> Answer:
    said = render(problem)
    headers = [*said.raw_headers, (REQUEST_ID, mine)]
    return Answer(
        said.status_code,
        b"%b%b\r\n%b" % (lines_of(headers), SECURITY_LINES, bytes(said.body)),
    )

"""Requests for scores that came in one piece: from their bytes to those of the answer.

What ASGI, its middlewares and the router do for a request takes longer than the network does
(docs/decisions/0028-past-asgi.md). `app.web.protocol` hands over here what is plain; all else goes
their way, and both end in the same `ScoringRoute`.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import httptools

from app.errors import Problem
from app.http.admission import Admission
from app.http.batching import Place
from app.http.lean import ScoringRoute, caller_of
from app.http.parts import Service
from app.http.problems import InternalError, render
from app.ops.logs import request_id
from app.web.heads import problem_of_head
from app.web.observation import REQUEST_ID, SECURITY_HEADERS, id_of, note

logger = logging.getLogger("quickstudy")

# Its name in the state of the server.
DESK = "desk"

END = b"\r\n\r\n"
LENGTH, AUTHORIZATION = b"content-length", b"authorization"
# Callers say the same again and again: of heads that are no longer, so many are known.
LONGEST_HEAD, KNOWN_HEADS = 2048, 1024
Headers = list[tuple[bytes, bytes]]
# Headers of requests that end elsewhere, want another answer, or are to be refused for them.
UNUSUAL = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"))
CONNECTION, STAYS = b"connection", b"keep-alive"


def lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go over the wire."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


SECURITY_LINES = lines_of(SECURITY_HEADERS)
HEAD = b"content-length: %d\r\ncontent-type: application/json\r\n%b: %b\r\n%b\r\n%b"


class Answer(NamedTuple):
    """What goes over the wire behind the status line and the server's own headers."""

    status: int
    rest: bytes


class Head(NamedTuple):
    """What stands before a body of `length` bytes."""

    route: ScoringRoute
    headers: dict[bytes, bytes]
    length: int


class _Reader:
    """What httptools finds in a head."""

    def __init__(self, head: bytes) -> None:
        self.url, self.is_complete = b"", False
        self.headers: Headers = []
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.is_complete = True


class Desk:
    """Answers for the lean routes of a service; bodies of at most `most_bytes`."""

    def __init__(
        self, service: Service, routes: Mapping[tuple[str, str], ScoringRoute], most_bytes: int
    ) -> None:
        self._service, self._admission = service, service.part(Admission)
        self._routes = {
            (verb.encode(), path.encode()): route for (verb, path), route in routes.items()
        }
        self._most_bytes = most_bytes
        self._cached_read = lru_cache(KNOWN_HEADS)(self._read)

    def whole(self, data: bytes) -> tuple[Head, bytes] | None:
        """Head and body, where these bytes are one request from its first to its last."""
        end = data.find(END, 0, LONGEST_HEAD) + len(END)
        if end < len(END):
            return None
        head = self._cached_read(data[:end])
        return (head, data[end:]) if head and len(data) == end + head.length else None

    def _read(self, head: bytes) -> Head | None:
        """What a head says, where it is for the desk and nothing about it is unusual."""
        try:
            found = _Reader(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            return None
        parser, headers = found.parser, found.headers
        route = self._routes.get((parser.get_method(), found.url))
        if not found.is_complete or route is None:
            return None
        version = parser.get_http_version()
        if version != "1.1" or not parser.should_keep_alive() or problem_of_head(version, headers):
            return None
        for name, value in headers:
            if name in UNUSUAL or (name == CONNECTION and value.lower() != STAYS):
                return None
        last = dict(headers)
        length = last.get(LENGTH, b"")
        if not length.isdigit() or int(length) > self._most_bytes:
            return None
        return Head(route, last, int(length))

    async def answer(self, head: Head, body: bytes, place: Place | None) -> Answer:
        """The answer to a request, which is timed and logged as every other one.

        It has a place in the queue already, or takes one.
        """
        begun = time.perf_counter()
        route, headers = head.route, head.headers
        own_id = id_of(headers.get(REQUEST_ID, b""))
        name = own_id.decode()
        request_id.set(name)
        try:
            caller = await caller_of(self._admission, headers)
            if place is None:
                place = self._admission.queue.enter(caller.tenant, len(body))
            content = await route.body_of(self._service.part(route.part), place, headers, body)
            answer = Answer(200, HEAD % (len(content), REQUEST_ID, own_id, SECURITY_LINES, content))
        except Problem as problem:
            answer = refusal(problem, (REQUEST_ID, own_id))
        except Exception:
            logger.exception("a request for scores failed")
            answer = refusal(InternalError(), (REQUEST_ID, own_id))
        finally:
            if place is not None:
                place.leave()
        note(name, "POST", route.path, answer.status, time.perf_counter() - begun)
        return answer


def refusal(problem: Problem, *headers: tuple[bytes, bytes]) -> Answer:
    """What a problem is over the wire, with headers of the request's or the connection's own."""
    response = render(problem)
    lines = lines_of([*response.raw_headers, *headers])
    return Answer(
        response.status_code, b"%b%b\r\n%b" % (lines, SECURITY_LINES, bytes(response.body))
    )

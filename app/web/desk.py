"""Requests for scores before ASGI: refused at once, or answered where they came in one piece.

Under overload, what could not be answered in time is refused. A request that is refused costs a
fraction of one that is answered, so the answers that are given stay as many and as quick as they
were. Health and metrics are always let in.

What ASGI, its middlewares and the router do for a request takes longer than the network does
(docs/decisions/0028-past-asgi.md). `app.web.protocol` hands over here what is plain; all else goes
their way, and both end in the same `ScoringRoute`.
"""

import logging
import re
import time
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import httptools

from app.errors import Problem
from app.http.authentication import Admission, token_of
from app.http.batching import Place
from app.http.lean import ScoringRoute, caller_of
from app.http.problems import ExpectationFailed, InternalError, MalformedRequest, render
from app.ops.logs import request_id
from app.web.observation import REQUEST_ID, SECURITY_HEADERS, id_of, note

logger = logging.getLogger("quickstudy")

# Their names in the state of the server.
GATE, DESK = "gate", "desk"

# Methods and paths of the requests that share batches.
Routes = Collection[tuple[str, str]]


END = b"\r\n\r\n"
LENGTH, AUTHORIZATION = b"content-length", b"authorization"
# Callers say the same again and again: of heads that are no longer, so many are known.
LONGEST_HEAD, KNOWN_HEADS = 2048, 1024
# A name or an address, and a port: RFC 3986, 3.2.2. It is empty where there is none.
HOST = re.compile(rb"(\[[0-9A-Za-z:.]+\]|([A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(:[0-9]*)?")
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


class Gate:
    """Is shut to a tenant's requests for scores while it may have no more of their queue.

    `protocol.py` asks it when no more than the headers have been read, and before there is a task
    for the request: at ten times the load, refusing is most of the work. Who is refused is counted,
    but has no log line and no request id. What does not pass here (another spelling of the address,
    a key that has to be looked up) asks the queue itself for a place, before its body is parsed.

    A batch takes all that waits, so a bound on what waits is one on how long it takes: who comes
    to a full queue is better off asking another server, or later, than waiting ever longer with
    everyone else (Google's "Site Reliability Engineering", 2016, chapter 21).
    """

    def __init__(self, admission: Admission, scoring: Routes) -> None:
        self._batcher = admission.queue
        self._authenticator = admission.authenticator
        self._scoring = {(method.encode(), path.encode()) for method, path in scoring}

    def leads_to(self, method: bytes, url: bytes) -> bool:
        """Whether it is this gate that a request has to pass."""
        return (method, url) in self._scoring

    def check(self, authorization: bytes) -> None:
        """Raises Overloaded where a request with this header would have no place."""
        if (tenant := self._tenant_of(authorization)) is not None:
            self._batcher.check(tenant)

    def enter(self, authorization: bytes, size: int) -> Place | None:
        """A place for a request with a body of `size` bytes, which has come whole.

        None where its key has to be looked up first. Raises Overloaded.
        """
        tenant = self._tenant_of(authorization)
        return None if tenant is None else self._batcher.enter(tenant, size)

    def _tenant_of(self, authorization: bytes) -> str | None:
        """The tenant of a key that is known already.

        Raises Overloaded where the queue is full and this is no key: to say so takes longer.
        """
        token = token_of(authorization.decode("latin-1"))
        if token is None:
            if self._batcher.is_full:
                self._batcher.refuse()
            return None
        return self._authenticator.tenant_in_memory(token)


class Desk:
    """Answers for the lean routes of a service; bodies of at most `most_bytes`."""

    def __init__(
        self, admission: Admission, routes: Mapping[tuple[str, str], ScoringRoute], most_bytes: int
    ) -> None:
        self._admission = admission
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
            content = await route.body_of(self._admission, place, headers, body)
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


def problem_of_head(version: str, headers: Iterable[tuple[bytes, bytes]]) -> Problem | None:
    """Why a request is to be refused by its HTTP version and its headers, whose names are in lower
    case; None where it is not."""
    if version not in ("1.0", "1.1"):
        return MalformedRequest(f"HTTP/{version} is not supported; send HTTP/1.1.")
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1:
        return MalformedRequest("There is more than one Host header; send one.")
    if not hosts and version == "1.1":
        return MalformedRequest("There is no Host header; HTTP/1.1 needs one.")
    if hosts and not HOST.fullmatch(hosts[0]):
        return MalformedRequest("The Host header is not valid; send a name or an address.")
    if version == "1.0":
        return None
    # HTTP/1.0 knows no expectations.
    for name, value in headers:
        if name == b"expect" and value.lower() != b"100-continue":
            return ExpectationFailed("Only 100-continue is supported; leave out the Expect header.")
    return None


def refusal(problem: Problem, *headers: tuple[bytes, bytes]) -> Answer:
    """What a problem is over the wire, with headers of the request's or the connection's own."""
    response = render(problem)
    lines = lines_of([*response.raw_headers, *headers])
    return Answer(
        response.status_code, b"%b%b\r\n%b" % (lines, SECURITY_LINES, bytes(response.body))
    )

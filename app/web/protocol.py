"""HTTP/1.1 as uvicorn speaks it, with bounds on what a connection may take.

uvicorn waits for ever for the rest of a request, and httptools takes headers of any size: a few
hundred clients that send a byte now and then (Slowloris), or one that sends gigabytes of headers,
would have the service. Idle connections between two requests are uvicorn's own business.

A request pays for none of it but a few assignments. What takes long is found by a sweep over the
connections, once a second.
"""

import asyncio
import logging
import resource
from collections.abc import Callable, Iterable
from enum import Enum
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast
from weakref import WeakKeyDictionary

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from app.errors import Problem, Unavailable
from app.http.lean import PLACE
from app.http.problems import (
    HeadersTooLarge,
    MalformedRequest,
    MethodNotAllowed,
    Overloaded,
    RequestTimeout,
    render,
)
from app.settings import Settings
from app.web.gate import GATE, Gate, problem_of_head
from app.web.observation import SECURITY_HEADERS

logger = logging.getLogger("quickstudy")

SWEEP_SECONDS = 1.0
# Request line and headers together; so much may also frame a chunked body, beside a byte a byte.
MOST_HEADER_BYTES = 32 << 10
# As far as the descriptors of this process suffice.
MOST_CONNECTIONS = 10_000
# For a caller who is still sending to read why nobody listens any more.
PARTING_SECONDS = 2.0
END = b"\r\n\r\n"
# What a header costs beside its name and value: ": " and the end of its line.
FRAME = 4

# Who waits for the rest of a request waits for nothing here.
NOBODY_WAITS = asyncio.Event()
# In the place of what would wait for the application.
TURNED_AWAY = cast(
    RequestResponseCycle,
    SimpleNamespace(
        response_started=True,
        response_complete=True,
        disconnected=False,
        message_event=NOBODY_WAITS,
    ),
)


class Phase(Enum):
    """What of a request a connection waits for."""

    IDLE, HEADERS, BODY, PARTING = range(4)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. It is given to uvicorn by its name: worker processes import it anew."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._phase, self._since = Phase.IDLE, 0.0
        # Bytes that came since the phase began, and are no body.
        self._framing = 0
        self._has_spoken = False
        # Since when its answer, or the rest of it, has not been fetched.
        self._stuck_since: float | None = None
        self._refusal: Problem | None = None
        self._gate: Gate | None = self.app_state.get(GATE)
        # Whether the headers of the request that is coming in are complete: what follows are
        # trailers. Their bytes so far.
        self._has_head, self._trailer_bytes = False, 0
        # Whose request for a score is coming in, as long as it may come in one piece.
        self._admitted: str | None = None
        # Whether a request before this one came with a key.
        self._had_key = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._answers = cast(asyncio.Transport, AnswerTransport(transport, self.hang_up))
        self._enter(Phase.HEADERS)
        sweep = _sweep_of(self.server_state)
        sweep.start(self.loop)
        if len(self.connections) > _most_connections():
            sweep.make_room()

    def data_received(self, data: bytes) -> None:
        if self._phase is Phase.PARTING:
            return
        self._has_spoken = True
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEADERS)
        self._framing += len(data)
        self._unset_keepalive_if_required()
        self._feed(data)
        self._admitted = None
        if self._framing > MOST_HEADER_BYTES and self._phase is not Phase.IDLE:
            self._refuse(HeadersTooLarge())

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while True:
                try:
                    self.parser.feed_data(rest)
                    break
                except httptools.HttpParserUpgrade as offer:
                    rest = rest[offer.args[0] :]
                self._read_head_again()
        except httptools.HttpParserError as error:
            self._refuse(self._refusal or MalformedRequest(f"Malformed HTTP request: {error}."))

    def _read_head_again(self) -> None:
        """Have the headers of a request read as if it had offered no other protocol.

        HTTP/1.1 goes on (RFC 9110, 7.8); the parser would take the body for another request.
        """
        head = b"%b %b HTTP/%b\r\n%b\r\n" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode(),
            _lines_of(header for header in self.headers if header[0] != b"upgrade"),
        )
        self.parser = _new_parser(self)
        self.parser.feed_data(head)

    def on_message_begin(self) -> None:
        self._had_key = self.has_key
        super().on_message_begin()
        self._has_head, self._trailer_bytes = False, 0
        if self._phase is Phase.IDLE:
            # In one piece with the end of the request before.
            self._enter(Phase.HEADERS)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._has_head:
            super().on_header(name, value)
            return
        # Trailers come after everything was decided by the headers, and may change none of it
        # (RFC 9110, 6.5.1).
        self._trailer_bytes += len(name) + len(value) + FRAME
        if self._trailer_bytes > MOST_HEADER_BYTES:
            self._refusal = HeadersTooLarge()
        elif name.lower() == b"connection":
            # The parser heeds it, as it does those for framing, which it refuses itself.
            self._refusal = MalformedRequest("A trailer may not be named Connection.")
        if self._refusal is not None:
            raise self._refusal

    def on_headers_complete(self) -> None:
        self._refusal = self._refusal_of_head()
        if self._refusal is not None:
            # The parser stops.
            raise self._refusal
        if self.parser.should_upgrade():
            return
        self._has_head = True
        self._enter(Phase.BODY)
        if self._gate is not None and self._is_free():
            try:
                self._admitted = self._gate.admit(self.parser.get_method(), self.url, self.headers)
            except Overloaded:
                self._turn_away()
                return
        super().on_headers_complete()
        self.cycle.transport = self._answers

    def _refusal_of_head(self) -> Problem | None:
        """Why a request is refused by its headers alone; its address is made a path."""
        size = len(self.url)
        for name, value in self.headers:
            size += len(name) + len(value) + FRAME
        if size > MOST_HEADER_BYTES:
            return HeadersTooLarge()
        if self.parser.get_http_version() == "1.0":
            # It knows no expectations (RFC 9110, 10.1.1).
            self.expect_100_continue = False
        if self.parser.get_method() == b"CONNECT":
            return MethodNotAllowed("This service is not a proxy.", headers={"Allow": ""})
        problem = problem_of_head(self.parser.get_http_version(), self.headers)
        if problem is not None:
            return problem
        if not self.url.startswith((b"/", b"*")):
            # `http://host/path`: a server must take it (RFC 9112, 3.2.2).
            address = httptools.parse_url(self.url)
            query = b"" if address.query is None else b"?" + address.query
            self.url = (address.path or b"/") + query
        return None

    def on_body(self, body: bytes) -> None:
        self._framing -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._gate is not None and self._admitted is not None:
            # Of the next that comes this one takes the place, though its task has not begun.
            place = self._gate.enter(self._admitted, len(self.cycle.body))
            cast(dict[str, Any], self.scope)[PLACE] = place
            self._admitted = None
        self.url = b""
        super().on_message_complete()
        if self._phase is not Phase.PARTING:
            self._phase = Phase.IDLE

    @property
    def is_slow(self) -> bool:
        """Whether the service waits for the rest of a request."""
        return self._phase is not Phase.IDLE

    @property
    def is_idle(self) -> bool:
        """Whether it is kept for the caller's next request."""
        return self._phase is Phase.IDLE and self._is_free()

    @property
    def has_key(self) -> bool:
        """Whether its caller has shown a key that is known."""
        # Routes leave there whom they found.
        return self._had_key or (self.scope is not None and "caller" in self.scope)

    @property
    def since(self) -> float:
        """When what it waits for began; of an idle one, when its last request came."""
        return self._since

    def sweep(self, now: float, most_seconds: float) -> bool:
        """Whether it took longer than that, and was closed."""
        if self.transport.is_closing() or self.flow.write_paused:
            if self._stuck_since is None:
                self._stuck_since = now
            if late := now - self._stuck_since > most_seconds:
                # To close would be to wait for the caller once more.
                self.transport.abort()
            return late
        self._stuck_since = None
        if self.flow.read_paused:
            # It is the service that has not come to it.
            self._since = now
        if self._phase is Phase.PARTING:
            if now - self._since > PARTING_SECONDS:
                self.transport.abort()
            return False
        if late := self.is_slow and now - self._since > most_seconds:
            self.dismiss(RequestTimeout())
        return late

    def make_way(self) -> None:
        """Close for the sake of another connection."""
        if self.is_idle:
            # Whatever was sent now would be taken for the answer to the next request.
            self.transport.close()
        else:
            self.dismiss(Unavailable("Too many connections at once."))

    def dismiss(self, problem: Problem) -> None:
        """Answer a caller who sends little or nothing, where that is possible, and hang up."""
        self._say(problem)
        self.transport.close()

    def hang_up(self) -> None:
        """Close, and not before a caller who is still sending can have read the answer.

        What comes in on a closed connection is answered with a reset, and that may overtake the
        answer (RFC 9112, 9.6): so this end only stops to speak, and listens a little longer.
        """
        if self._phase is Phase.IDLE or self.pipeline or not self.transport.can_write_eof():
            self.transport.close()
        elif self._phase is not Phase.PARTING and not self.transport.is_closing():
            self._enter(Phase.PARTING)
            self.transport.write_eof()
            self.flow.resume_reading()

    def _refuse(self, problem: Problem) -> None:
        """Answer so a caller who may be sending much."""
        if self._say(problem):
            self.hang_up()
        else:
            self.transport.close()

    def _say(self, problem: Problem) -> bool:
        """Write this as the answer to what is coming in, unless it would not be read as that."""
        # On a connection that never spoke nobody waits for an answer, and what is sent while
        # another answer is under way would be taken for a part of it.
        may = self._has_spoken and not self.transport.is_closing() and self._may_answer()
        if may:
            refusal = _refusal(problem, self.server_state.default_headers, stays=False)
            # Until its address begins to come, the parser has the method of the request before.
            is_head = bool(self.url) and self.parser.get_method() == b"HEAD"
            self.transport.write(refusal[: refusal.index(END) + len(END)] if is_head else refusal)
        return may

    def _may_answer(self) -> bool:
        """Whether what is written now is read as the answer to what is coming in."""
        cycle = self.cycle
        if self._phase is Phase.PARTING:
            return False
        if self._phase is not Phase.BODY:
            return cycle is None or cycle.response_complete
        if cycle.response_started or self.pipeline:
            return False
        # The application waits for this body: for it the caller is gone.
        cycle.disconnected = True
        cycle.message_event.set()
        return True

    def _is_free(self) -> bool:
        """Whether no answer is under way or waited for."""
        return self.cycle is None or self.cycle.response_complete

    def _turn_away(self) -> None:
        """Answer that there is too much to do; the connection may ask again."""
        # Whoever waits for leave to send a body may or may not send it now.
        stays = self.parser.should_keep_alive() and not self.expect_100_continue
        self.transport.write(_turning_away(tuple(self.server_state.default_headers), stays))
        self.cycle = TURNED_AWAY
        if stays:
            self.on_response_complete()
        else:
            self.hang_up()

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since, self._framing = phase, self.loop.time(), 0


def _new_parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    """A parser as uvicorn makes it for each connection."""
    parser = httptools.HttpRequestParser(protocol)
    # What follows a request with `Connection: close` is passed over, and that one is answered.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _lines_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as they go over the wire."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def _refusal(problem: Problem, server_headers: Iterable[tuple[bytes, bytes]], stays: bool) -> bytes:
    """A whole answer, as it goes over the wire; the connection stays open or not."""
    response = render(problem)
    closing = [] if stays else [(b"connection", b"close")]
    lines = _lines_of([*server_headers, *response.raw_headers, *closing, *SECURITY_HEADERS])
    return b"%b%b\r\n%b" % (STATUS_LINE[response.status_code], lines, bytes(response.body))


@lru_cache(maxsize=2)
def _turning_away(server_headers: tuple[tuple[bytes, bytes], ...], stays: bool) -> bytes:
    """Made anew once a second, with the date."""
    return _refusal(Overloaded(), server_headers, stays)


class AnswerTransport:
    """What an answer is written to: a transport whose closing is the protocol's own."""

    __slots__ = ("close", "is_closing", "write")

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None]) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, close


class Sweep:
    """Looks at all connections of a server once a second, as long as there are any."""

    def __init__(self, state: ServerState) -> None:
        # The set itself, which is the server's.
        self._connections = cast(set[BoundedProtocol], state.connections)
        self._is_under_way = False
        self._most_seconds = Settings().arrival_seconds

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_under_way:
            self._is_under_way = True
            loop.call_later(SWEEP_SECONDS, self._run, loop)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_under_way = False
        now = loop.time()
        late = sum(
            connection.sweep(now, self._most_seconds) for connection in list(self._connections)
        )
        if late:
            logger.warning("closed %d connections that were too slow", late)
        if self._connections:
            self.start(loop)

    def make_room(self) -> None:
        """Close the connection that has been idle, or kept the service waiting, for longest.

        Those of callers without a key go first, or with enough of them anybody could close those
        of everyone else. A new one keeps the service waiting too: it is the one, where all others
        are being answered.
        """
        unused = [
            connection
            for connection in self._connections
            if connection.is_idle or connection.is_slow
        ]
        min(unused, key=lambda connection: (connection.has_key, connection.since)).make_way()


_sweeps: WeakKeyDictionary[ServerState, Sweep] = WeakKeyDictionary()


def _sweep_of(state: ServerState) -> Sweep:
    if state not in _sweeps:
        _sweeps[state] = Sweep(state)
    return _sweeps[state]


def _most_connections() -> int:
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, descriptors * 3 // 4)

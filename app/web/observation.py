"""Every request named, timed and logged; every answer with what browsers may do with it."""

import random
import re
import sys
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import QuickstudyError
from app.ops import tracing
from app.ops.logs import RequestLines, request_id
from app.ops.metrics import labelled, request_seconds

REQUEST_ID = b"x-request-id"
# Anything else could be made to look like another line, or be somebody's name.
OURS = re.compile(rb"[A-Za-z0-9_-]{8,64}")
# Any other method is counted as `other`: a server may let through whatever a caller invents.
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
# As OWASP's REST Security Cheat Sheet has it. Strict-Transport-Security is for the proxy that ends
# TLS; /docs has a policy of its own, which lets it load its scripts.
SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_lines = RequestLines()


def id_of(sent: bytes) -> bytes:
    """The id of a request: the one that its caller sends, where it is harmless, or a new one.

    So a request can be followed across services.
    """
    # Nothing rests on nobody's guessing it.
    return sent if OURS.fullmatch(sent) else b"%016x" % random.getrandbits(64)


def note(name: str, method: str, route: str, status: int, seconds: float) -> None:
    """A request has been answered: into the metrics and the log with it."""
    labelled(request_seconds, method, route, status).observe(seconds)
    _lines.add(name, method, route, status, seconds)


class Observation:
    """ASGI middleware: gives every request an id, answers with it, times it and logs its route.

    A start that is refused on purpose says why in one sentence, and not in a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, _telling_why(send))
            return
        sent = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"")
        header = id_of(sent)
        own_id = header.decode()
        token = request_id.set(own_id)
        method = scope["method"] if scope["method"] in METHODS else "other"
        if method == "HEAD":
            # Answered as GET is; the server leaves out the body (RFC 9110, 9.3.2).
            scope = {**scope, "method": "GET"}
        begun, status = time.perf_counter(), 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                own = {name for name, _ in headers}
                security = (line for line in SECURITY_HEADERS if line[0] not in own)
                headers.extend(((REQUEST_ID, header), *security))
            await send(message)

        try:
            with tracing.request(Headers(scope=scope)) as span:
                try:
                    await self.app(scope, receive, named)
                finally:
                    route = getattr(scope.get("route"), "path", "unmatched")
                    if span is not None:
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.request.method", method)
                        span.set_attribute("http.route", route)
                        span.set_attribute("http.response.status_code", status)
                        span.set_attribute("quickstudy.request_id", own_id)
        finally:
            note(own_id, method, route, status, time.perf_counter() - begun)
        # Not after an exception: the server logs it when we are through, with the id.
        request_id.reset(token)


def _telling_why(send: Send) -> Send:
    async def watched_send(message: Message) -> None:
        error = sys.exc_info()[1]
        if message["type"] == "lifespan.startup.failed" and isinstance(error, QuickstudyError):
            message = {**message, "message": str(error)}
        await send(message)

    return watched_send

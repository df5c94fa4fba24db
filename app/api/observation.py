"""Every request named, timed and logged."""

import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import tracing
from app.logs import request_id
from app.metrics import request_seconds

REQUEST_ID = b"x-request-id"
# Anything else could be made to look like another line, or be somebody's name.
OURS = re.compile(r"[A-Za-z0-9_-]{8,64}")

logger = logging.getLogger("quickstudy.requests")


class Observation:
    """ASGI middleware: gives every request an id, answers with it, times and logs it by its route.

    An id that the caller sends is kept, so that a request can be followed across services.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = next((value for name, value in scope["headers"] if name == REQUEST_ID), b"").decode(
            "latin-1"
        )
        mine = given if OURS.fullmatch(given) else secrets.token_hex(8)
        token = request_id.set(mine)
        begun, status = time.perf_counter(), 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((REQUEST_ID, mine.encode()))
            await send(message)

        try:
            with tracing.request(headers) as span:
                try:
                    await self.app(scope, receive, named)
                finally:
                    route = getattr(scope.get("route"), "path", "unmatched")
                    if span is not None:
                        span.update_name(f"{scope['method']} {route}")
                        span.set_attribute("http.request.method", scope["method"])
                        span.set_attribute("http.route", route)
                        span.set_attribute("http.response.status_code", status)
                        span.set_attribute("quickstudy.request_id", mine)
        finally:
            seconds = time.perf_counter() - begun
            request_seconds.labels(scope["method"], route, status).observe(seconds)
            fields = {
                "method": scope["method"],
                "route": route,
                "status": status,
                "seconds": round(seconds, 6),
            }
            logger.info("request", extra={"fields": fields})
            request_id.reset(token)

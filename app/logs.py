"""Structured logs: a JSON object a line, with the id of the request that it is about.

What callers send is never in it: routes stand by their template, a key by its id.
"""

import json
import logging
import re
import secrets
import time
from contextvars import ContextVar
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.times import text_of

REQUEST_ID = "X-Request-Id"
# Anything else could be made to look like another line, or be somebody's name.
OURS = re.compile(r"[A-Za-z0-9_-]{8,64}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
requests = logging.getLogger("quickstudy.requests")


class JsonFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, request_id, and what `extra` adds."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": text_of(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (one := request_id.get()) is not None:
            said["request_id"] = one
        said |= getattr(record, "fields", {})
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)


def configuration(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything of ours and the server's on standard output."""
    logger = {"handlers": ["stdout"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "app.logs.JsonFormatter"}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "loggers": {"uvicorn": logger, "quickstudy": logger},
    }


class RequestLog:
    """ASGI middleware: gives every request an id, answers with it, and logs a line about it.

    An id that the caller sends is kept, so that a request can be followed across services.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        mine = given if OURS.fullmatch(given) else secrets.token_hex(8)
        token = request_id.set(mine)
        begun, status = time.perf_counter(), 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = mine
            await send(message)

        try:
            await self.app(scope, receive, named)
        finally:
            fields = {
                "method": scope["method"],
                "route": getattr(scope.get("route"), "path", "unmatched"),
                "status": status,
                "seconds": round(time.perf_counter() - begun, 6),
            }
            requests.info("request", extra={"fields": fields})
            request_id.reset(token)

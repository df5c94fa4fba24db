"""Structured logs: a JSON object a line, with the id of the request that it is about.

What callers send is never in it: routes stand by their template, a key by its id.
"""

import json
import logging
from contextvars import ContextVar
from typing import Any

from app.times import text_of

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


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
        return _text(said)


_text = json.JSONEncoder(ensure_ascii=False, default=str).encode


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

"""Structured logs: a JSON object a line, with the id of the request that it is about.

What callers send is never in it: routes stand by their template, a key by its id, an exception by
its kind and place, for its message may quote anything.
"""

import asyncio
import json
import logging
import traceback
from contextvars import ContextVar
from typing import Any

from app.times import now_us, text_of

MOST_CAUSES = 10
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class JsonFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, request_id, and what `extra` adds."""

    def format(self, record: logging.LogRecord) -> str:
        if getattr(record, "is_json", False):
            return record.getMessage()
        line: dict[str, Any] = {
            "time": text_of(int(record.created * 1e6)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (current := request_id.get()) is not None:
            line["request_id"] = current
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = _traced(record.exc_info[1])
        return _text(line)


def _traced(error: BaseException | None) -> str:
    """Where an exception was raised and of what kind, after those that it came of."""
    causes: list[str] = []
    while error is not None and len(causes) < MOST_CAUSES:
        kind, cause = type(error), getattr(error, "orig", error)
        code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
        name = f"{kind.__module__}.{kind.__qualname__}{f' {code}' if code else ''}"
        # SQLSTATE, or SQLite's name of it.
        causes.append("".join(traceback.format_tb(error.__traceback__)) + name)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(reversed(causes))


class RequestLines:
    """A line a request: made at once, and written together with those of the same turn of the loop.

    When a batch is answered, all of its requests end in one turn: one write serves them all.
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger("quickstudy.requests")
        self._lines: list[str] = []

    def add(self, name: str, method: str, route: str, status: int, seconds: float) -> None:
        """Note a request that has been answered; called inside the event loop."""
        if not self._logger.isEnabledFor(logging.INFO):
            return
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._write)
        # Ids, methods and routes of ours hold nothing that JSON would escape.
        self._lines.append(
            f'{{"time":"{text_of(now_us())}","level":"info","logger":"{self._logger.name}",'
            f'"message":"request","request_id":"{name}","method":"{method}","route":"{route}",'
            f'"status":{status},"seconds":{seconds:.6f}}}'
        )

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._logger.info("\n".join(lines), extra={"is_json": True})


_text = json.JSONEncoder(ensure_ascii=False, default=str).encode


def configuration(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything of ours and the server's on standard output."""
    logger = {"handlers": ["stdout"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": "app.ops.logs.JsonFormatter"}},
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "stream": "ext://sys.stdout",
            }
        },
        "loggers": {"uvicorn": logger, "quickstudy": logger},
    }

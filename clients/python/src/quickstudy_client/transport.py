"""What both clients share: a request, when to send it again, and what its answer means."""

import email.utils
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

Answer = TypeVar("Answer", bound=BaseModel)
Json = Mapping[str, Any]

ATTEMPTS = 4
# Before the second attempt, and twice as long before each further one. Half of it is random, so
# that callers who failed together do not come back together.
FIRST_WAIT_SECONDS = 0.25
LONGEST_WAIT_SECONDS = 30.0
RETRIED_STATUSES = frozenset({429, 502, 503, 504})
# As many connections are kept as may be open: a pool that closes surplus ones can close one that
# another thread is about to use (https://github.com/encode/httpcore/issues/1110).
LIMITS = httpx.Limits(max_connections=100, max_keepalive_connections=100)


class ApiError(Exception):
    """The service refused a request.

    `status` is the HTTP status, `code` the stable code of the problem, `detail` a sentence;
    `errors` names the fields that are wrong, and `document` is the whole problem document.
    """

    def __init__(self, status: int, document: Json) -> None:
        self.status = status
        self.code = str(document.get("code", ""))
        self.detail = str(document.get("detail", ""))
        self.errors: list[dict[str, str]] = list(document.get("errors", []))
        self.document = document
        super().__init__(f"{status} {self.code}: {self.detail}")


@dataclass(frozen=True, slots=True)
class Request(Generic[Answer]):
    """A request, the type of its answer, and whether it may be sent again (`repeatable`).

    A body that is a text is a file of labels.
    """

    answer_type: type[Answer]
    method: str
    path: str
    body: BaseModel | str | None
    query: Json
    repeatable: bool

    def arguments(self) -> dict[str, Any]:
        """The arguments of httpx's `request`."""
        content, media_type = self.body, "text/csv"
        if isinstance(content, BaseModel):
            content, media_type = content.model_dump_json(exclude_unset=True), "application/json"
        return {
            "method": self.method,
            "url": self.path,
            "params": {name: value for name, value in self.query.items() if value is not None},
            "content": content,
            "headers": {} if content is None else {"Content-Type": media_type},
        }

    def answer(self, response: httpx.Response) -> Answer:
        """The answer in its type; raises ApiError."""
        if response.is_success:
            return self.answer_type.model_validate_json(response.content)
        try:
            document = response.json()
        except ValueError:
            document = {"detail": response.text[:200]}
        raise ApiError(response.status_code, document if isinstance(document, dict) else {})

    def wait_seconds(self, response: httpx.Response | None, attempt: int) -> float | None:
        """How long to wait before the next attempt; None: make no further one.

        `response` is None where the connection broke; `attempt` counts from 1.
        """
        failed = response is None or response.status_code in RETRIED_STATUSES
        if not failed or not self.repeatable or attempt >= ATTEMPTS:
            return None
        seconds = None if response is None else _retry_after(response.headers.get("Retry-After"))
        if seconds is not None:
            return seconds if seconds <= LONGEST_WAIT_SECONDS else None
        return random.uniform(0.5, 1.0) * FIRST_WAIT_SECONDS * 2.0 ** (attempt - 1)


def _retry_after(text: str | None) -> float | None:
    """Seconds until the time in the header, a number or an HTTP date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):  # Not a date, or one without a time zone.
        return None


def segment(identifier: str) -> str:
    """An id as one segment of a path, whatever characters it has."""
    return quote(identifier, safe="")
